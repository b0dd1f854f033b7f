"""A figure in a file or a notebook: written atomically, with its description, in the light and the dark style."""

import base64
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest

from xpnet import Dense, Network, Record, plots

HISTORY = [Record(0, 1.5, 0.4, 1.25, 0.5, 1.3, 0.45, 0.1), Record(1, 0.5, 0.8, 0.6, 0.7, 0.7, 0.75, 0.1)]
DRAW = {
    "curves": lambda: plots.training_curves(HISTORY, title="costs $5 & <more>"),
    "confusion": lambda: plots.confusion_matrix(np.asarray([[900, 3], [40, 1000]]), title="two"),
    "filters": lambda: plots.filters(np.random.default_rng(0).normal(size=(6, 3, 3)), title="filters"),
    "ladder": lambda: plots.ladder([{"recipe": "mlp", "seconds": 1, "test_accuracy": 0.9}], title="ladder"),
    "diagram": lambda: plots.network_diagram(Network([Dense(3)], (4,)), title="4×3"),
    "no mistakes": lambda: plots.mistakes(np.ones((2, 4, 4)), [0, 1], [0, 1], title="none"),
}


@pytest.fixture(scope="module")
def figures():
    return {name: draw() for name, draw in DRAW.items()}


def png_texts(data):
    """Read a PNG's size and texts, chunk by chunk, by the format's own definition."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            found["size"] = struct.unpack(">II", body[:8])
        elif kind == b"tEXt":
            key, _, text = body.partition(b"\0")
            found[key.decode()] = text.decode("latin-1")
        elif kind == b"iTXt":
            key, _, rest = body.partition(b"\0")
            found[key.decode()] = rest[2:].split(b"\0", 2)[2].decode()
        at += 12 + length
    return found


def test_a_png_has_its_title_and_its_description(tmp_path, figures):
    plots.save(figures["diagram"], tmp_path / "a.PNG")
    found = png_texts((tmp_path / "a.PNG").read_bytes())
    assert found["Title"] == "4×3"
    assert found["Description"] == plots.alt_text(figures["diagram"])
    assert found["Description"] == "4×3. A network of 15 parameters: input: 4; Dense(3): 3."
    assert found["size"][0] == 5.2 * 160


SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", DRAW)
def test_an_svg_tells_a_screen_reader_what_is_on_it(name, figures, tmp_path):
    plots.save(figures[name], tmp_path / "a.svg")
    root = ET.parse(tmp_path / "a.svg").getroot()
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == figures[name].get_suptitle()
    assert root.findtext(f"{SVG}desc") == plots.alt_text(figures[name])


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_figure_is_the_same_file(ending, tmp_path):
    for name in ("a", "b"):
        plots.save(DRAW["curves"](), tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_a_pdf_has_its_title_and_no_date(tmp_path, figures):
    plots.save(figures["ladder"], tmp_path / "a.pdf")
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"ladder" in pdf
    assert b"CreationDate" not in pdf


def test_a_file_is_whole_or_as_it_was(tmp_path, figures, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        plots.save(figures["curves"], path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", ["a", "a.docx", "a.png.txt"])
def test_an_unknown_ending_is_refused_before_anything_is_written(tmp_path, figures, name):
    with pytest.raises(ValueError, match=r"its ending must be one of .*pdf.*png.*svg"):
        plots.save(figures["curves"], tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_any_figure_can_be_saved(tmp_path):
    from matplotlib.figure import Figure

    plots.save(Figure(), tmp_path / "empty.png")
    assert plots.alt_text(Figure()) == ""
    assert png_texts((tmp_path / "empty.png").read_bytes())["Title"] == ""


# Light and dark -------------------------------------------------------------------------------------------------------


def luminance(colour):
    from matplotlib.colors import to_rgb

    c = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(colour)]
    return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]


@pytest.mark.parametrize(("style", "page"), [("light", "white"), ("dark", "#14181e")])
@pytest.mark.parametrize("name", DRAW)
def test_text_can_be_read_in_every_style(name, style, page):
    from matplotlib.text import Text

    with plots.style(style):
        figure = DRAW[name]()
    assert figure.get_facecolor() == ((1, 1, 1, 1) if style == "light" else (0, 0, 0, 0))
    in_cells = {text for ax in figure.axes if ax.images for text in ax.texts if name == "confusion"}
    for text in set(figure.findobj(Text)) - in_cells:
        if text.get_text() and text.get_visible():
            high, low = sorted((luminance(text.get_color()), luminance(page)), reverse=True)
            assert (high + 0.05) / (low + 0.05) > 4.5, text.get_text()


def test_a_dark_picture_is_transparent(tmp_path):
    from PIL import Image

    for style in ("dark", "light"):
        with plots.style(style):
            figure = DRAW["curves"]()
        plots.save(figure, tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            assert image.convert("RGBA").getpixel((2, 2))[3] == (0 if style == "dark" else 255)


def test_a_style_ends_with_its_block():
    with pytest.raises(RuntimeError), plots.style("dark"):
        raise RuntimeError
    assert DRAW["curves"]().get_facecolor() == (1, 1, 1, 1)
    with pytest.raises(ValueError, match="name='neon': must be one of light, dark"), plots.style("neon"):
        pass


# In a notebook --------------------------------------------------------------------------------------------------------


def test_a_figure_shows_itself_with_its_words(figures):
    data, metadata = figures["confusion"]._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == repr(figures["confusion"]) == plots.alt_text(figures["confusion"])
    assert metadata["image/png"]["alt"] == plots.alt_text(figures["confusion"])
    assert metadata["image/png"]["width"] < 600


def test_text_is_as_large_on_a_phone_as_it_should_be(figures):
    from matplotlib.text import Text

    for figure in figures.values():
        pixels_per_point = 390 / (72 * figure.get_figwidth())
        shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        assert min(text.get_fontsize() for text in shown) * pixels_per_point > 9
