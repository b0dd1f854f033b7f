"""Displays of objects: tables and pictures with descriptions in a notebook, one short line in a terminal."""

import html
import json
import re

import numpy as np
import pytest

import xpnet
from xpnet import Dense, Dropout, Evaluation, History, Network, Record, ReLU, plots
from xpnet.runs.run import title_of


@pytest.fixture(scope="module")
def run():
    return xpnet.train("mlp", dataset="digits", epochs=3, progress=False)


@pytest.fixture(scope="module")
def cnn():
    return xpnet.train("cnn", dataset="digits", epochs=1, progress=False)


def pictures(shown):
    found = re.findall(r'<img src="data:image/png;base64,[^"]+" alt="([^"]*)"', shown)
    assert len(found) == shown.count("<img")
    return [html.unescape(words) for words in found]


def cells(shown):
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", shown)
    return [[html.unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows]


def test_a_run_shows_title_outcome_and_curves(run):
    shown = run._repr_html_()
    assert run.title in shown
    assert f"test accuracy {run.record.test_accuracy:.4f}" in shown
    assert pictures(shown) == [plots.alt_text(run.plot())]
    assert len(repr(run)) < 120


def test_a_history_shows_what_was_measured_and_marks_the_best_epoch():
    history = History([Record(e, 1.0, 0.5, None, None, 0.7, a, 0.25) for e, a in enumerate((0.5, 0.75, 0.625))])
    shown = history._repr_html_()
    assert cells(shown)[0] == ["epoch", "training loss", "training accuracy", "test loss", "test accuracy", "seconds"]
    assert cells(shown)[2] == ["1", "1.0000", "0.5000", "0.7000", "0.7500", "0.25"]
    (marked,) = re.findall(r'<tr style="font-weight:bold">(.*?)</tr>', shown)
    assert ">1<" in marked
    assert "the highest test accuracy" in shown
    assert "test_accuracy 0.625" in repr(history)
    assert History()._repr_html_() == "<p>No epochs yet.</p>"
    assert repr(History()) == "History(0 epochs)"


def test_a_long_history_shows_its_ends_and_its_best_epoch():
    accuracy = [0.9 if e == 50 else e / 1000 for e in range(100)]
    history = History([Record(e, 1.0, 0.5, 0.7, a) for e, a in enumerate(accuracy)])
    epochs = [row[0] for row in cells(history._repr_html_())[1:]]
    assert epochs == [*map(str, range(10)), "…", "50", "…", *map(str, range(90, 100))]


def test_a_history_becomes_a_data_frame():
    pandas = pytest.importorskip("pandas")
    history = History([Record(0, 0.5, 0.75, seconds=1.5), Record(1, 0.25, 0.875)])
    frame = pandas.DataFrame(history)
    assert list(frame["train_accuracy"]) == [0.75, 0.875]
    assert frame.loc[0, "seconds"] == 1.5


def test_a_network_shows_its_diagram_and_its_summary():
    network = Network([Dense(100), ReLU(), Dropout(0.5), Dense(10)], (64,))
    shown = network._repr_html_()
    assert pictures(shown) == [plots.alt_text(plots.network_diagram(network))]
    assert html.escape(network.summary()) in shown
    assert "Dropout(0.5)" in shown
    assert repr(network) == "Network([Dense(100), ReLU(), Dropout(0.5), Dense(10)], input_shape=(64,))"


def test_a_dataset_shows_its_sizes_its_classes_and_a_row_of_samples():
    data = xpnet.load_dataset("digits")
    shown = data._repr_html_()
    assert repr(data) == "Dataset('digits': 1,000 training and 797 test images of 8×8, 10 classes)"
    head, training, test = cells(shown)
    assert head == ["class", *"0123456789"]
    assert [int(cell) for cell in training[1:]] == list(np.bincount(data.train_labels))
    assert [int(cell) for cell in test[1:]] == list(np.bincount(data.test_labels))
    assert len(pictures(shown)) == 1


def test_an_evaluation_shows_its_confusions_and_figures_by_class():
    evaluation = Evaluation(np.asarray([0, 1, 1]), np.asarray([[1, 1], [0, 1]]))
    shown = evaluation._repr_html_()
    assert len(pictures(shown)) == 1
    assert cells(shown) == [line.split() for line in evaluation.table().splitlines()]
    assert repr(evaluation) == "Evaluation(3 samples, accuracy 0.6667)"


# What a run draws in one call -----------------------------------------------------------------------------------------

METHODS = ["plot", "plot_confusion", "plot_mistakes", "plot_weights", "plot_prediction", "plot_feature_maps"]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_draws_in_one_call(method, cnn, tmp_path):
    figure = getattr(cnn, method)(path=tmp_path / "a.svg")
    assert cnn.title in " ".join(figure.get_suptitle().split())
    assert (tmp_path / "a.svg").stat().st_size > 1000
    figure.draw_without_rendering()


def test_the_outputs_of_the_layers_lead_to_the_networks_own(cnn, run):
    images = cnn.data.test_images[:3]
    for network in (cnn.network, run.network):
        outputs = network.layer_outputs(images)
        assert [output.shape[1:] for output in outputs] == list(network.shapes[1:])
        np.testing.assert_allclose(outputs[-1], network.logits(images), rtol=1e-4, atol=1e-5)


def test_feature_maps_are_those_of_the_image(cnn, run):
    outputs = cnn.network.layer_outputs(cnn.data.test_images[7][None])
    drawn = cnn.plot_feature_maps(7).axes[0].images
    np.testing.assert_array_equal(drawn[0].get_array(), cnn.data.test_images[7])
    np.testing.assert_allclose(drawn[2].get_array(), outputs[0][0, :, :, 1])
    with pytest.raises(ValueError, match="no layer returns images"):
        run.plot_feature_maps()


def test_a_title_tells_what_a_configuration_says():
    config = {"recipe": "mlp", "dataset": "digits", "backend": "numpy", "dtype": "float32", "seed": 0}
    assert title_of(config) == "mlp on digits, numpy, float32, seed 0"
    assert title_of(config | {"backend": None}) == "mlp on digits, float32, seed 0"
    assert title_of({"recipe": "The ladder", "dataset": "digits", "backend": "jax"}) == "The ladder on digits, jax"


# Names of classes -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def named_run(digits, tmp_path_factory):
    """Odd and even digits, whose classes have names of two words."""
    names = ["even numbers", "odd numbers"]
    labels = [np.asarray(names)[part % 2] for part in (digits.train_labels, digits.test_labels)]
    data = xpnet.Dataset.from_arrays(digits.train_images, labels[0], digits.test_images, labels[1], name="parity")
    folder = tmp_path_factory.mktemp("named") / "run"
    return xpnet.train("mlp", dataset=data, epochs=2, output_dir=folder, progress=False), folder


def test_names_of_classes_stand_in_tables_and_pictures(named_run):
    run, folder = named_run
    lines = run.evaluation.table().splitlines()
    assert [line[:12] for line in lines] == ["       class", "even numbers", " odd numbers"]
    assert "even numbers" in run.evaluation._repr_html_()
    again = xpnet.load_run(folder)  # which remembers the names, though not the data
    assert again.class_names == run.class_names == ("even numbers", "odd numbers")
    texts = [text.get_text() for text in run.plot_mistakes().axes[0].texts]
    assert "true even numb…" in texts
    bars = run.plot_prediction(0).axes[-1]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["even numbers", "odd numbers"]
    assert "test image 0, label odd numbers. " in plots.alt_text(run.plot_prediction(0))


def test_the_command_line_answers_with_names_and_draws_what_was_seen(named_run, tmp_path, capsys):
    pillow = pytest.importorskip("PIL.Image")
    from xpnet.cli import main

    run, folder = named_run
    pages = [255 - np.kron(image * 15, np.ones((20, 20), np.uint8)) for image in run.data.test_images[:2]]
    paths = [tmp_path / f"page-{i}.png" for i in range(2)]
    for path, page in zip(paths, pages, strict=True):
        pillow.fromarray(page).save(path)
    expected = [run.class_names[label] for label in run.network.predict(paths)]
    given = [str(folder), *map(str, paths)]
    assert main(["predict", *given, "--show", str(tmp_path / "answers")]) == 0
    assert capsys.readouterr().out.splitlines() == expected
    drawn = sorted((tmp_path / "answers").iterdir())
    assert [path.name for path in drawn] == ["page-0.png", "page-1.png"]
    assert all(path.stat().st_size > 5000 for path in drawn)
    assert main(["predict", *given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["names"] == expected
    np.save(tmp_path / "images.npy", run.data.test_images[:2])
    assert main(["predict", str(folder), str(tmp_path / "images.npy"), "--show", str(tmp_path / "other")]) == 2
    assert "one or several photographs, for --show" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_photograph_is_drawn_beside_what_the_network_saw_of_it(named_run, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    run, _ = named_run
    page = np.full((160, 240), 230, np.uint8)
    page[20:120, 100:120] = 30
    pillow.fromarray(page).save(tmp_path / "one.png")
    figure = run.plot_prediction(tmp_path / "one.png", tmp_path / "drawn.svg")
    photo, seen, _ = figure.axes
    assert photo.images[0].get_array().shape == (160, 240)
    assert seen.images[0].get_array().shape == (8, 8)
    assert plots.alt_text(figure).startswith("one.png: mlp on parity, numpy, float32, seed 0. The network sees ")
    assert (tmp_path / "drawn.svg").exists()
