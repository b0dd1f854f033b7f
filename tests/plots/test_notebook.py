"""An executed notebook displays every object and figure, without ``%matplotlib``."""

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

FIGURE = {"text/html", "image/png"}
# A cell, the kinds of output that it has, and how many pictures are in them.
CELLS = {
    "import xpnet\nfrom xpnet import plots": (set(), 0),
    'data = xpnet.load_dataset("digits")\ndata': ({"text/html"}, 1),
    'run = xpnet.train("mlp", dataset=data, epochs=4)': ({"text/html"}, 1),
    "run": ({"text/html"}, 1),
    "run.history": ({"text/html"}, 0),
    "run.network": ({"text/html"}, 1),
    "xpnet.Network([xpnet.Dense(10)], (64,))": ({"text/html"}, 1),
    "run.evaluation": ({"text/html"}, 1),
    "run.plot()": (FIGURE, 1),
    "run.plot_confusion()": (FIGURE, 1),
    "run.plot_mistakes()": (FIGURE, 1),
    "run.plot_weights()": (FIGURE, 1),
    "run.plot_prediction(3)": (FIGURE, 1),
    "trace = run.network.trace(data.test_images[:50], data.test_labels[:50])\ntrace": ({"text/html"}, 0),
    'trace.plot("gradients")': (FIGURE, 1),
    'with plots.style("dark"):\n    dark = run.plot()\ndark': (FIGURE, 1),
    'film = plots.Film(data, title="mlp")\nfilm.add(3, run.network)\nfilm': ({"text/html"}, 1),
    'xpnet.train("mlp", dataset=data, epochs=1, progress=False).title': (set(), 0),
}


@pytest.fixture(scope="module")
def outputs():
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    return {cell.source: cell.outputs for cell in notebook.cells}


@pytest.mark.parametrize("source", CELLS)
def test_every_object_shows_itself(source, outputs):
    kinds, count = CELLS[source]
    rich = [output for output in outputs[source] if output.output_type != "stream"]
    shown = {kind for output in rich for kind in output.data if kind != "text/plain"}
    assert shown == kinds
    assert all("text/plain" in output.data and len(output.data["text/plain"]) < 500 for output in rich)
    in_html = "".join(output.data.get("text/html", "") for output in rich)
    assert in_html.count("<img") == count
    assert not [output for output in outputs[source] if output.output_type == "stream"]


def test_every_picture_has_its_description(outputs):
    for cell in outputs.values():
        for output in cell:
            if "image/png" in output.get("data", {}):
                assert len(output.metadata["image/png"]["alt"]) > 40
            html = output.get("data", {}).get("text/html", "")
            assert html.count("<img") == html.count('alt="')
            assert "<svg" not in html  # which a notebook strips that is opened without being run


def test_a_running_run_is_one_output_with_its_last_state(outputs):
    (output,) = outputs['run = xpnet.train("mlp", dataset=data, epochs=4)']
    html = output.data["text/html"]
    assert "4 of 4 epochs" in html
    assert "backend numpy on cpu" in html
    assert html.count("<tr") == 5
