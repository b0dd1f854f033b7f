"""The page to draw on: its scripts compute the same as xpnet, and it works in a browser."""

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.cli import main
from xpnet.data import prepare_digit
from xpnet.data.ink import lay_out
from xpnet.export import page
from xpnet.recipes import RECIPES

HERE = Path(__file__).parent
WEIGHTS = HERE.parents[1] / "docs" / "_static" / "draw.safetensors"
SCRIPTS = Path(page.__file__).parent
DRAWINGS = json.loads((HERE / "strokes.json").read_text())

BROWSER = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files"),
)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Return a function that runs JavaScript on JSON, in the page's own scripts."""
    program = shutil.which("node") or pytest.skip("node is not installed")
    folder = tmp_path_factory.mktemp("node")

    def run(code, **values):
        for name, value in values.items():
            (folder / f"{name}.json").write_text(json.dumps(value))
        script = f"""
            const fs = require("fs");
            const given = (name) => JSON.parse(fs.readFileSync({str(folder)!r} + "/" + name + ".json"));
            const read = (path) => new Uint8Array(fs.readFileSync(path)).buffer;
            const {{ readModel, forward, softmax }} = require({str(SCRIPTS / "network.js")!r});
            const {{ rasterize, crop, layOut, pixelsOf }} = require({str(SCRIPTS / "drawing.js")!r});
            {code}"""
        done = subprocess.run([program, "-e", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Return a function that opens a page and returns its final state."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("chromium is not installed")

    def run(path, *options):
        profile = tmp_path_factory.mktemp("profile")
        command = [program, *BROWSER, f"--user-data-dir={profile}", *options, "--dump-dom", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


FORWARD = """
const model = readModel(read(given("model")));
console.log(JSON.stringify(given("images").map((image) => Array.from(forward(model, image).at(-1).data))));
"""


@pytest.mark.slow
def test_logits_are_those_of_every_recipe(node, trained, tmp_path):
    trained.save(tmp_path)
    images = trained.data.test_images[:50]
    theirs = node(FORWARD, model=str(tmp_path / "model.safetensors"), images=images.reshape(50, -1).tolist())
    np.testing.assert_allclose(theirs, trained.network.logits(images), rtol=0, atol=1e-4)


def test_logits_are_those_of_every_layer(node, run_of_every_layer, tmp_path):
    run_of_every_layer.save(tmp_path)
    images = run_of_every_layer.data.test_images
    theirs = node(FORWARD, model=str(tmp_path / "model.safetensors"), images=images.reshape(20, -1).tolist())
    np.testing.assert_allclose(theirs, run_of_every_layer.network.logits(images), rtol=0, atol=1e-4)


def test_the_script_has_the_layers_that_the_check_lets_through(node, tmp_path):
    text = (SCRIPTS / "network.js").read_text()
    table = text[text.index("const LAYERS") :]
    assert set(re.findall(r"\b([A-Z]\w+): ", table)) == page.KNOWN


@pytest.mark.parametrize("size", [28, 8])
def test_drawings_are_laid_out_as_photographs_are(node, size):
    rng = np.random.default_rng(size)
    box, center = (20, 14) if size == 28 else (8, 3.5)
    inks = [rng.random(shape) * (rng.random(shape) < 0.3) for shape in [(40, 17), (9, 30), (1, 5), (71, 71), (6, 6)]]
    for ink in inks:
        ink[0, 0] = ink[-1, -1] = 1.0
    theirs = node(
        """console.log(JSON.stringify(given("inks").map(([height, width, data]) =>
        Array.from(layOut({ height, width, data: Float64Array.from(data) }, ...given("how"))))));""",
        inks=[[*ink.shape, ink.ravel().tolist()] for ink in inks],
        how=[size, box, center],
    )
    for ink, their in zip(inks, theirs, strict=True):
        np.testing.assert_allclose(np.reshape(their, (size, size)), lay_out(ink, size, box, center), atol=1e-12)


def test_predict_reads_a_picture_of_the_drawing_alike(node):
    """A photograph of the page must give nearly the same pixels as the page's own ink."""
    rasters, pixels = node(
        """const inks = given("drawings").map((d) => rasterize(d.strokes));
        console.log(JSON.stringify([inks.map((ink) => Array.from(ink.data)),
                                    inks.map((ink) => Array.from(pixelsOf(ink, 28, 255)))]));""",
        drawings=DRAWINGS[::5],
    )
    for raster, theirs in zip(rasters, pixels, strict=True):
        paper = np.pad(1.0 - 0.9 * np.reshape(raster, (102, 102)), 30, constant_values=1.0)
        # A photograph is smoothed against noise first, which may move its edges and its centre by a pixel.
        ours = prepare_digit(paper)
        moved = [np.roll(ours, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
        assert max(np.corrcoef(theirs, image.ravel())[0, 1] for image in moved) > 0.94


def test_the_size_of_a_drawing_does_not_matter(node):
    small, large = node(
        """const moved = (f) => given("strokes").map((stroke) => stroke.map(([x, y]) => [f * x + 3, f * y + 9]));
        console.log(JSON.stringify([0.1, 4].map((f) => Array.from(pixelsOf(rasterize(moved(f)), 28, 255)))));""",
        strokes=DRAWINGS[12]["strokes"],
    )
    np.testing.assert_allclose(small, large, atol=1)


def test_a_dot_and_nothing_are_drawings_too(node):
    dot, nothing = node(
        """const dot = Array.from(pixelsOf(rasterize([[[5, 5]]]), 28, 255));
        console.log(JSON.stringify([dot, pixelsOf({ height: 2, width: 2, data: new Float64Array(4) }, 28, 255)]));"""
    )
    assert nothing is None
    assert np.max(dot) == 255
    assert np.isfinite(dot).all()


REPLAY = """
<script>
Element.prototype.setPointerCapture = () => {};
const pad = document.querySelector(".pad");
const heard = [];
for (const { strokes } of DRAWINGS) {
  document.querySelector("[data-do=clear]").click();
  const { left, top, width, height } = pad.getBoundingClientRect();
  for (const stroke of strokes) {
    const send = (kind, [x, y]) => pad.dispatchEvent(new PointerEvent(kind,
      { pointerId: 1, clientX: left + (x * width) / 560, clientY: top + (y * height) / 560, bubbles: true }));
    send("pointerdown", stroke[0]);
    stroke.slice(1).forEach((point) => send("pointermove", point));
    send("pointerup", stroke.at(-1));
  }
  heard.push([document.querySelector(".answer").textContent, document.querySelectorAll(".bars li").length]);
}
document.body.insertAdjacentHTML("beforeend", `<pre id="heard">${JSON.stringify(heard)}</pre>`);
</script>"""


def replayed(drawings, tmp_path, text=REPLAY):
    """Write the page with a script that draws."""
    whole = page.page(WEIGHTS.read_bytes(), "A small network.")
    path = tmp_path / "page.html"
    path.write_text(whole.replace("</body>", text.replace("DRAWINGS", json.dumps(drawings)) + "</body>"))
    return path


def heard(dom):
    # The first is in the script itself.
    return json.loads(re.findall(r'<pre id="heard">(.*?)</pre>', dom)[-1])


def test_all_digits_are_read_in_a_browser(chromium, tmp_path):
    said = heard(chromium(replayed(DRAWINGS, tmp_path)))
    read = [int(re.match(r"The network reads a (\d) \(\d+%\)", text)[1]) for text, _ in said]
    assert read == [drawing["digit"] for drawing in DRAWINGS]
    assert {count for _, count in said} == {10}


KEYS = """
<script>
const pad = document.querySelector(".pad");
const press = (key, times = 1) => { for (; times; times--) pad.dispatchEvent(new KeyboardEvent("keydown", { key })); };
pad.focus();
press("ArrowUp", 8); press(" "); press("ArrowDown", 16); press(" ");
const one = document.querySelector(".answer").textContent;
press("Backspace");
const heard = [one, document.querySelector(".answer").textContent, document.querySelector(".seen").ariaLabel];
document.body.insertAdjacentHTML("beforeend", `<pre id="heard">${JSON.stringify(heard)}</pre>`);
</script>"""


def test_the_keyboard_draws(chromium, tmp_path):
    one, after, seen = heard(chromium(replayed([], tmp_path, KEYS)))
    assert one.startswith("The network reads a 1 ")
    assert (after, seen) == ("Draw a digit.", "Nothing is drawn yet.")


DROP = """
<script>
const model = Uint8Array.from(atob(document.querySelector(".model").textContent), (letter) => letter.charCodeAt(0));
const contents = { "notes.txt": new TextEncoder().encode("hello"), "model.safetensors": model };
// The real one reads in its own time, and the clock of these tests does not wait for it.
File.prototype.arrayBuffer = async function () { return contents[this.name].buffer; };
const drop = async (name) => {
  const files = new DataTransfer();
  files.items.add(new File([contents[name]], name));
  document.querySelector("#xpnet-draw").dispatchEvent(new DragEvent("drop", { dataTransfer: files }));
  for (let k = 0; k < 10; k++) await null;
  return document.querySelector(".answer").textContent;
};
(async () => {
  const heard = [await drop("notes.txt"), await drop("model.safetensors")];
  heard.push(document.querySelector(".about").textContent);
  document.body.insertAdjacentHTML("beforeend", `<pre id="heard">${JSON.stringify(heard)}</pre>`);
})();
</script>"""


def test_a_network_of_ones_own_can_be_dropped(chromium, tmp_path):
    wrong, right, about = heard(chromium(replayed([], tmp_path, DROP)))
    assert wrong == "notes.txt cannot be used: it is not a safetensors file. Choose the model.safetensors of a run."
    assert right == "Draw a digit for your own network."
    assert about == "This is the network of model.safetensors."


def test_the_page_asks_for_nothing():
    text = page.page(WEIGHTS.read_bytes(), "<&> is escaped")
    assert "&lt;&amp;&gt; is escaped" in text
    assert not re.search(r"https?://|src=|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert "default-src 'none'" in text
    assert len(text.encode()) < 80_000


def test_the_weights_are_those_of_the_network_that_the_page_names(mnist):
    """They were trained by the example, on MNIST."""
    from xpnet.runs.checkpoint import load_arrays

    arrays, meta = load_arrays(WEIGHTS)
    network = xpnet.TrainedNetwork.from_named(
        xpnet.Network.from_config(meta["network"]), arrays, xpnet.get_backend("numpy")
    )
    assert network.size == 9098
    assert xpnet.evaluate(network, mnist).accuracy > 0.989


@pytest.mark.slow
@pytest.mark.parametrize("recipe", list(RECIPES))
def test_the_command_writes_a_page_of_every_recipe(recipe, digits, tmp_path, capsys):
    xpnet.train(recipe, dataset=digits.first(30), train_samples=30, epochs=1, progress=False, output_dir=tmp_path / "r")
    assert main(["export", str(tmp_path / "r"), str(tmp_path / "page.html")]) == 0
    assert f"The network of the recipe {recipe}, " in (tmp_path / "page.html").read_text()


def test_an_unfinished_run_is_exported_as_it_is(digits, tmp_path):
    def stop(record):
        raise ZeroDivisionError

    folder, settings = tmp_path / "r", {"dataset": digits.first(30), "epochs": 3, "progress": False}
    with pytest.raises(ZeroDivisionError):
        xpnet.train("mlp", output_dir=folder, callbacks=[stop], **settings)
    assert not (folder / "model.safetensors").exists()
    names = ["page.html", *(["model.onnx"] if importlib.util.find_spec("onnx") else [])]
    for name in names:
        with pytest.warns(UserWarning, match="unfinished|not finished|1 of 3"):
            xpnet.export.export(folder, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 10_000


def test_networks_that_do_not_read_square_grey_images_are_refused(run_of_every_layer, tmp_path, capsys):
    run_of_every_layer.save(tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "page.html")]) == 2
    assert "a page to draw on needs a network for square grey images" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
