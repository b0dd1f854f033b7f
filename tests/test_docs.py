"""The pages must keep up with the package."""

import doctest
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click
import pytest

import xpnet
from xpnet.cli import cli, main
from xpnet.course import check_exercises, exercise_names, runnable_pages, write_exercises, write_notebooks
from xpnet.course.source import source_of

DOCS = Path(__file__).parents[1] / "docs"


def pages():
    """Return every hand-written page of the site."""
    return [path for path in DOCS.rglob("*.md") if not {"_build", "generated"} & set(path.parts)]


EXERCISES = sorted(page.stem for page in (DOCS / "exercises").glob("*.md") if page.stem != "index")


class Cell(NamedTuple):
    """A code cell of a page."""

    tags: set[str]
    code: str


def cells(page):
    """Read the code cells of a page, without IPython magics."""
    found = []
    for head, body in re.findall(
        r"^```\{code-cell\} ipython3\n((?:---\n.*?^---\n|:.*?\n)?)(.*?)^```$", page, re.M | re.S
    ):
        tags = re.search(r"tags: \[(.*?)\]", head)
        code = "\n".join(line for line in body.splitlines() if not line.startswith("%"))
        found.append(Cell(set(tags[1].split(", ")) if tags else set(), code))
    return found


NEED_A_NETWORK = {"load_mnist", "fetch_mnist"}
"""Their examples are not run: everything else has one that is."""


def listed_names():
    """The names in the reference's tables, each with the module that it is imported from."""
    for page in sorted((DOCS / "reference").glob("*.md")):
        module = None
        for line in page.read_text().splitlines():
            if match := re.match(r"\.\. currentmodule:: (\S+)$", line):
                module = match[1]
            elif match := re.match(r"   (\w+)$", line):
                yield module, match[1]


@pytest.mark.parametrize("name", xpnet.__all__)
def test_every_public_name_has_its_place_in_the_reference(name):
    assert [listed for _, listed in listed_names()].count(name) == 1


@pytest.mark.parametrize("module", ["xpnet.data", "xpnet.plots"])
def test_every_public_name_of_a_package_is_in_the_reference(module):
    assert set(importlib.import_module(module).__all__) <= {name for _, name in listed_names()}


def test_every_name_in_the_reference_has_an_example():
    without = []
    for module, name in listed_names():
        text = getattr(importlib.import_module(module), name).__doc__ or ""
        examples = doctest.DocTestParser().get_examples(text)
        if not examples or (name not in NEED_A_NETWORK and all(doctest.SKIP in e.options for e in examples)):
            without.append(f"{module}.{name}")
    assert not without


def test_every_command_is_in_the_reference_and_every_option_says_what_it_does():
    headings = re.findall(r"^## xpnet (\w+)$", (DOCS / "reference" / "cli.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(cli.commands)
    for command in cli.commands.values():
        assert command.help
        assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    written = write_notebooks(folder)
    return {path.relative_to(folder).as_posix(): json.loads(path.read_text("utf-8")) for path in written}


def test_every_page_with_code_is_a_notebook_whose_cells_are_its_own(notebooks):
    for name in runnable_pages():
        page = cells((DOCS / f"{name}.md").read_text())
        code = [cell for cell in notebooks[f"{name}.ipynb"]["cells"] if cell["cell_type"] == "code"]
        code = [cell for cell in code if not "".join(cell["source"]).startswith("%")]
        expected = [cell.code.strip() for cell in page if cell.code.strip()]
        if "solution" in {tag for cell in page for tag in cell.tags}:
            expected = expected[: len(code)]
            assert f"solutions/{Path(name).name}.ipynb" in notebooks
        assert ["".join(cell["source"]) for cell in code] == expected
        assert all(cell["outputs"] == [] for cell in code)


def test_a_notebooks_text_is_what_jupyter_can_read(notebooks):
    left = re.compile(r"^```\{|^:::|\{\w+(:\w+)?\}`|^\(\S+\)=$|\.md[)#]", re.MULTILINE)
    for name, notebook in notebooks.items():
        for cell in notebook["cells"]:
            text = "".join(cell["source"])
            assert cell["cell_type"] == "code" or not left.search(text), f"{name}: {text}"


def test_a_notebook_shows_a_picture_once_and_has_it(notebooks):
    text = "".join("".join(cell["source"]) for cell in notebooks["index.ipynb"]["cells"])
    (picture,) = re.findall(r"!\[[^\]]+\]\((_static/[\w.-]+)\)", text)
    assert (DOCS / picture).is_file()


def test_a_notebooks_links_lead_to_notebooks(notebooks):
    for name, notebook in notebooks.items():
        text = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
        for target in re.findall(r"\]\(([^)#\s]+\.ipynb)\)", text):
            assert os.path.normpath(Path(name).parent / target) in notebooks, f"{name}: {target}"


def test_a_notebook_shows_the_source_as_the_package_has_it(notebooks):
    text = "".join("".join(cell["source"]) for cell in notebooks["mathematics/dense.ipynb"]["cells"])
    assert "```python\ndef dense(x: Array, weight: Array" in text
    assert source_of("xpnet.nn.layers", ["dense_backward"]) in text


@pytest.mark.thorough
@pytest.mark.parametrize("name", runnable_pages())
def test_a_notebook_runs_from_top_to_bottom(name, tmp_path):
    """As a script, in a process of its own; `nox -s notebooks` runs them all in Jupyter."""
    write_notebooks(tmp_path)
    notebook = json.loads((tmp_path / f"{name}.ipynb").read_text("utf-8"))
    lines = ["import contextlib"]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            code = "".join(line for line in cell["source"] if not line.startswith("%"))
            meant = "raises-exception" in cell["metadata"].get("tags", [])
            lines.append(f"with contextlib.suppress(Exception):\n    exec({code!r})" if meant else code)
    script = (tmp_path / name).with_suffix(".py")
    script.write_text("\n\n".join(lines), encoding="utf-8")
    surroundings = os.environ | {"XPNET_OFFLINE": "1", "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, script], cwd=script.parent, env=surroundings, capture_output=True, text=True)
    if missing := re.search(r"^ModuleNotFoundError: No module named '(\w+)", done.stderr, re.MULTILINE):
        pytest.skip(f"needs {missing[1]}")
    assert done.returncode == 0, done.stderr


def test_notebooks_replace_older_ones_and_leave_other_files_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    first = write_notebooks(tmp_path)
    first[0].write_text("older")
    assert write_notebooks(tmp_path) == first
    assert json.loads(first[0].read_text("utf-8"))["nbformat"] == 4
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_notebooks_into_a_file_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match=r"folder=.*is a file"):
        write_notebooks(tmp_path / "file")


def test_the_citation_names_this_version():
    assert f"\nversion: {xpnet.__version__}\n" in (DOCS / "CITATION.cff").read_text()


def test_the_changelog_tells_of_this_version():
    """In the form that programs read: https://keepachangelog.com."""
    page = (DOCS / "changelog.md").read_text()
    assert re.search(rf"^## \[{re.escape(xpnet.__version__)}\] - \d{{4}}-\d\d-\d\d$", page, re.MULTILINE)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", page, re.MULTILINE)) <= kinds


@pytest.mark.parametrize("name", EXERCISES)
def test_an_exercises_check_refuses_what_is_given_and_accepts_the_solution(name, capsys):
    page = cells((DOCS / "exercises" / f"{name}.md").read_text())
    kinds = [
        kind for cell in page for kind in ("exercise", "check", "raises-exception", "solution") if kind in cell.tags
    ]
    assert kinds == ["exercise", "check", "raises-exception", "solution"]
    solved = False
    names = {"__name__": name}
    for cell in page:
        code = compile(cell.code, f"{name}.md", "exec", dont_inherit=True)
        if "raises-exception" in cell.tags:
            with pytest.raises(AssertionError, match=r"\w"):
                exec(code, names)
            assert "All right." not in capsys.readouterr().out
            continue
        exec(code, names)
        if "solution" in cell.tags:
            solved = True
        elif solved and cell.code.startswith("check("):
            assert capsys.readouterr().out.endswith("All right.\n")
            solved = "and checked"
    assert solved == "and checked"


def test_exercises_are_files_that_the_check_refuses_until_they_are_solved(tmp_path):
    written = write_exercises(tmp_path)
    assert sorted(path.stem for path in written) == sorted(name.replace("-", "_") for name in EXERCISES)
    for result in check_exercises(tmp_path):
        assert not result.right
        assert result.message
    for path in written:
        name = path.stem.replace("_", "-")
        page = cells((DOCS / "exercises" / f"{name}.md").read_text())
        (solution,) = (cell.code for cell in page if "solution" in cell.tags)
        path.write_text(f"{path.read_text()}\n\n{solution}\n")
    assert check_exercises(tmp_path) == [(name, True, "All right.") for name in exercise_names()]


def test_work_on_an_exercise_is_not_replaced(tmp_path):
    first = write_exercises(tmp_path)
    first[0].write_text("mine = 1")
    assert write_exercises(tmp_path) == []
    assert first[0].read_text() == "mine = 1"


def test_an_error_in_somebodys_file_is_the_message(tmp_path):
    (tmp_path / "momentum.py").write_text("def step(:")
    (result,) = check_exercises(tmp_path)
    assert not result.right
    assert result.message.startswith("SyntaxError")


def test_a_folder_without_exercises_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="write them with: xpnet exercises"):
        check_exercises(tmp_path)


def test_the_command_writes_exercises_and_exits_with_1_until_all_are_right(tmp_path, capsys):
    assert main(["exercises", str(tmp_path)]) == 0
    with pytest.raises(SystemExit) as stopped:
        main(["exercises", str(tmp_path), "--check"])
    assert stopped.value.code == 1
    assert capsys.readouterr().out.endswith(f"0 of {len(EXERCISES)} are right.\n")


INSTEAD_OF = {
    r"by heart": "memorized",
    r"learnt": "learned",
    r"(on|for|of) the way (back|forward)": "in the backward pass, in the forward pass",
    r"sets? that right": "corrects this",
    r"whoever": "you, or a noun",
    r"for ever": "forever, or keeps",
    r"by the way": "nothing",
    r"needs? of chance|the chance that layer": "random numbers",
    r"mend(s|ed|ing)?": "correct, repair",
    r"to the letter": "exactly",
    r"at the least": "at least",
    r"tell(s|ing)? (of|what is) ": "describes, says",
    r"to be had": "available",
    r"in vain": "without need",
    r"heed(s|ed)?": "respect",
    r"to the very": "exactly",
}
"""Phrases that pages must not use, and better ones."""


@pytest.mark.parametrize("page", sorted(path.relative_to(DOCS).as_posix() for path in pages()))
def test_a_page_speaks_plainly(page):
    text = re.sub(r"^```.*?^```$", "", (DOCS / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    searches = {better: re.search(rf"\b({said})\b", text, re.IGNORECASE) for said, better in INSTEAD_OF.items()}
    assert not {found[0]: better for better, found in searches.items() if found}


def lessons_pages():
    """Return the pages with code that the track for learners lists, without the exercises."""
    listed = re.findall(r"\]\(([\w/-]+)\.md\)", (DOCS / "learn.md").read_text())
    return [name for name in runnable_pages() if name in listed or name.startswith("mathematics/")]


@pytest.mark.parametrize("name", sorted({*lessons_pages(), "portable"} - {"draw"}))
def test_a_page_ends_with_five_questions_to_predict_and_run(name):
    page = (DOCS / f"{name}.md").read_text()
    (section,) = re.findall(r"^## Questions\n\nPredict first, .*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^(\d)\. ", section, re.MULTILINE) == list("12345")
    assert len(re.findall(r"^```\{code-cell\}", page, re.MULTILINE)) > 1


@pytest.fixture
def extensions(monkeypatch):
    """Import the extensions of the site as Sphinx does."""
    monkeypatch.syspath_prepend(DOCS / "_extensions")
    return importlib.import_module


def test_the_dark_variant_of_a_figure_has_the_opposite_lightness(extensions):
    """And keeps the hues, which the text names."""
    variants = extensions("variants")
    svg = '<svg ><g id="patch_2"><path style="fill: #{}"/></g></svg>'
    black, white, blue = map(svg.format, ("000000", "ffffff", "0072b2"))
    assert "fill: #ebebeb" in variants.opposite(black)
    assert f"fill: {variants.PAPER}" in variants.opposite(white)
    red, green, other = bytes.fromhex(re.search(r"fill: #(\w+)", variants.opposite(blue))[1])
    assert red < green < other
    paper = '<svg ><g id="patch_1">\n <path d="M 0 0" style="fill: #ffffff"/></g></svg>'
    assert "fill: none" in variants.opposite(paper)


def test_a_page_shows_a_figures_variants(extensions, tmp_path):
    variants = extensions("variants")
    name = "0" * 64
    for variant in ("dark", "narrow", "narrow-dark"):
        (tmp_path / f"{name}-{variant}.svg").write_text("<svg/>")
    image = f'<img alt="curves" src="../_images/{name}.svg" />'
    shown = variants.picture(image, name, tmp_path, "../figures")
    assert shown.count('alt="curves"') == 2
    assert re.findall(r'class="(only-\w+)"', shown) == ["only-light", "only-dark"]
    assert re.findall(r'srcset="../figures/0+-([\w-]+).svg"', shown) == ["narrow", "narrow-dark"]
    assert variants.picture(image, "1" * 64, tmp_path, "") == image


def test_every_layer_and_loss_links_to_its_derivation_and_back(extensions):
    pytest.importorskip("sphinx")
    source = extensions("source")
    names = source.listed(DOCS / "reference")
    assert names["xpnet.nn.layers.Dense"] == "xpnet.Dense"
    derived = source.derivations(DOCS / "mathematics", names)
    assert derived["xpnet.nn.layers.dense"] == ("mathematics/dense", "Dense layers and the chain rule")
    for module in ("layers", "activations", "convolution", "pooling", "normalization", "losses"):
        functions = {place for place in names.values() if re.fullmatch(rf"xpnet\.nn\.{module}\.\w+_backward", place)}
        assert functions <= set(derived), functions - set(derived)


@pytest.mark.parametrize("function", [xpnet.train, xpnet.fit, xpnet.load, xpnet.load_dataset, xpnet.check_gradients])
def test_every_parameter_is_described(function):
    # Python 3.13 removes the indentation, which earlier versions keep.
    described = re.findall(r"^(\*{0,2}\w+(?:, \w+)*) : ?|^(\*\*\w+)$", inspect.getdoc(function), re.MULTILINE)
    names = {name for found in described for part in found for name in part.split(", ")}
    parameters = inspect.signature(function).parameters.values()
    assert {("**" if p.kind is p.VAR_KEYWORD else "") + p.name for p in parameters} <= names


def test_slides_are_made_of_a_pages_sections(extensions):
    bs4 = pytest.importorskip("bs4")
    slides = extensions("slides")
    long = "<pre>" + "line\n" * 15 + "</pre>"
    page = f"""<section><h1>A page#</h1><p>First. <i>Then. More.</i></p><section><h2>Part</h2>
        <div class="cell">{long}</div><div class="cell"><details>{long}</details></div><div class="cell">{long}</div>
        <div class="formula"><math></math></div></section></section>"""
    made = slides.section_slides(bs4.BeautifulSoup(page, "html.parser").section)
    assert [re.search(r"<h2>(.*?)</h2>", one)[1] for one in made] == ["A page", "Part", "Part"]
    assert "<p>First.</p></div><aside" in made[0]
    assert "Then. More." in made[0].partition("<aside")[2]
    assert "".join(made).count("<pre>") == 2  # Text that is folded on the page is not shown.


def test_the_plan_of_lessons_names_slides_for_each():
    plan = (DOCS / "teach.md").read_text()
    assert re.findall(r"^\| (\d)\. .*?lesson-(\d)\.html", plan, re.MULTILINE) == [(n, n) for n in "123456"]


@pytest.mark.parametrize("page", sorted(path.relative_to(DOCS).as_posix() for path in pages()))
def test_no_sentence_has_a_question_word_as_its_subject(page):
    text = re.sub(r"\A---\n.*?\n---\n|^```.*?^```$|^\|.*?$", "", (DOCS / page).read_text(), flags=re.M | re.DOTALL)
    sentences = re.findall(
        r"(?:^|(?<=[.!?:] )|(?<=[.!?:]\n))(?:- )?((?:What|Who|Whatever|Whoever)\b.*?[.?!])(?=\s)", text, re.M | re.S
    )
    assert not [sentence for sentence in sentences if not sentence.endswith("?")]


def test_every_doi_has_the_form_of_one_and_leads_to_itself():
    text = "".join(page.read_text() for page in pages())
    shown = re.findall(r"\[doi:([^\]]+)\]\(https://doi\.org/([^)]+)\)", text)
    assert len(shown) > 12
    assert all(name == address and re.fullmatch(r"10\.\d{4,9}/[\w.()/:-]+", name) for name, address in shown)
    assert text.count("doi.org/") == len(shown)


def test_formulas_have_no_braces_that_a_browser_must_stretch():
    """Chromium draws them in the wrong size."""
    assert not [page.name for page in pages() if re.search(r"\\(under|over)brace", page.read_text())]


def test_the_first_use_of_a_glossarys_word_links_to_it(extensions):
    nodes = pytest.importorskip("docutils.nodes")
    pytest.importorskip("sphinx")
    first_uses = extensions("first_uses")
    words = first_uses.terms((DOCS / "glossary.md").read_text())
    assert words["overfitting"] == "overfitting"
    assert words["array api standard"] == "Array API standard"
    made = first_uses._linked("The Loss functions of two losses and a batchwise Jacobian.", words, "tutorial")
    links = {node.astext(): node["reftarget"] for node in made if not isinstance(node, nodes.Text)}
    assert links == {"Loss": "loss", "Jacobian": "Jacobian"}
    assert "".join(node.astext() for node in made) == "The Loss functions of two losses and a batchwise Jacobian."
    assert not {"loss", "jacobian"} & set(words)


def test_every_exercise_is_listed():
    index = (DOCS / "exercises" / "index.md").read_text()
    assert all(f"]({name}.md)" in index and f"\n{name}\n" in index for name in EXERCISES)


def tutorials_own_loop(spec):
    """Run the tutorial, with two epochs, until its loop by hand has answered; return its names."""
    names = {}
    for cell in cells((DOCS / "tutorial.md").read_text()):
        code = cell.code.replace('backend = "numpy"', f"backend = {spec!r}").replace("epochs = 20", "epochs = 2")
        exec(compile(code, "tutorial.md", "exec", dont_inherit=True), names)
        if "by_hand" in names:
            return names
    raise AssertionError("the tutorial has no loop by hand")


def test_the_tutorials_own_loop_learns_the_same_on_any_library(backend):
    names = tutorials_own_loop(backend.spec)
    assert names["opened"].spec == backend.spec
    # Guessing would be right in 10%.
    assert names["by_hand"] > 0.5
    # Rounding may decide an image or two.
    assert sum(names["answers"] != tutorials_own_loop("numpy")["answers"]) <= 2


@pytest.mark.parametrize("page", sorted(path.relative_to(DOCS).as_posix() for path in pages()))
def test_a_page_that_shows_source_shows_the_helpers_that_it_calls(page):
    """Otherwise the lines that implement a derivation may be elsewhere."""
    blocks = re.findall(r"^```\{source\} (\S+)\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    shown = {name.rpartition(".")[2] for _, names in blocks for name in names.split()}
    called = {
        helper
        for module, names in blocks
        for helper in re.findall(r"(?<![\w.])(_[a-z]\w*)\(", source_of(module, names.split()))
    }
    assert called <= shown


def test_figures_that_pages_repeat_are_those_of_the_ladder():
    rows = {row["recipe"]: row for row in json.loads((DOCS / "_static" / "ladder.json").read_text())}
    told = {name: f"{100 * row['mean']:.2f}% ± {100 * row['std']:.2f}" for name, row in rows.items()}
    means = {name: 100 * row["mean"] for name, row in rows.items()}
    tutorial = " ".join((DOCS / "tutorial.md").read_text().split())
    assert f"{told['tutorial']} before and {told['corrected']} after" in tutorial
    assert round(means["corrected"] - means["tutorial"]) == 6  # Points, over three seeds.
    assert [round(rows[name]["seconds"]) for name in ("tutorial", "corrected")] == [6, 6]
    assert f"{means['best']:.2f}% on MNIST" in (DOCS / "learn.md").read_text()
    ladder = " ".join((DOCS / "ladder.md").read_text().split())
    assert f"{88.14 - means['corrected']:.1f} points more than `corrected`" in ladder
    assert f"leaves {means['mlp'] - 95.81:.1f} points" in ladder


@pytest.mark.thorough
@pytest.mark.xdist_group("mnist")
def test_the_tutorials_figures_of_mnist_are_what_comes_out(run_on_mnist):
    table = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", (DOCS / "tutorial.md").read_text(), re.M)
    assert [row[0] for row in table] == ["tutorial", "corrected"]
    for recipe, *told in table:
        last = run_on_mnist(recipe).history[-1]
        measured = [last.test_accuracy, last.test_loss, last.train_accuracy]
        assert [f"{value:.4f}" for value in measured] == told


def test_every_test_that_a_promise_names_exists():
    """And is counted as a test: a function of that name in that file."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS / "promises.md").read_text())
    assert len(named) > 50
    assert len(named) == len(set(named))
    for file, name in named:
        source = (DOCS.parent / file).read_text()
        assert name.startswith("test_")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{file}::{name}"


def test_every_promise_names_a_test():
    text = (DOCS / "promises.md").read_text().partition("## What is not promised")[0]
    promises = re.findall(r"^\*\*(?:.+\n)+\n(.*)", text, re.MULTILINE)
    assert len(promises) > 15
    assert all(line.startswith("- `tests/") for line in promises), promises
