"""Folders that are opened as runs again."""

import copy
import pickle

import numpy as np
import pytest

import xpnet
from runs import Stop, rows, stop_after
from xpnet import Dense, Network, ReLU, fit

NETWORK = Network([Dense(12), ReLU(), Dense(10)], (64,))
SETTINGS = {"epochs": 3, "batch_size": 29, "progress": False}


@pytest.fixture
def finished(tmp_path):
    run = xpnet.train("mlp", dataset="digits", epochs=2, progress=False, output_dir=tmp_path / "run")
    return run, tmp_path / "run"


def test_a_folder_opens_as_the_run_that_wrote_it(finished, tmp_path):
    run, folder = finished
    again = xpnet.load_run(folder)
    assert again.history == run.history
    assert (again.title, repr(again), again.record) == (run.title, repr(run), run.record)
    np.testing.assert_array_equal(again.evaluation.confusion, run.evaluation.confusion)
    for name in ("plot", "plot_confusion", "plot_mistakes", "plot_weights", "plot_prediction"):
        assert getattr(again, name)().axes, name
    assert "<img" in again._repr_html_()
    names = [path.name for path in again.save(tmp_path / "copy")]
    assert names == [path.name for path in run.save(tmp_path / "other")]
    for other in (copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
        assert other.evaluation.accuracy == run.evaluation.accuracy


@pytest.mark.slow
def test_its_network_goes_where_it_is_asked_to(finished, backend):
    run, folder = finished
    again = xpnet.load_run(folder, backend=backend, dtype="float64")
    assert (again.network.backend.spec, again.network.dtype) == (backend.spec, "float64")
    np.testing.assert_array_equal(again.evaluation.predictions, run.evaluation.predictions)


def test_an_unfinished_run_opens_as_it_was_after_its_last_epoch(few, tmp_path):
    with pytest.raises(Stop) as stopped:
        fit(NETWORK, few, output_dir=tmp_path, callbacks=[stop_after(1)], **SETTINGS)
    with pytest.warns(UserWarning, match="the run is not finished: these are its weights of 2 epochs"):
        again = xpnet.load_run(tmp_path, data=few)
    assert rows(again.history) == rows(stopped.value.run.history)
    assert again.evaluation.accuracy == again.history[-1].test_accuracy


def test_data_of_ones_own_are_given_and_compared(few, tmp_path):
    mine = xpnet.Dataset("mine", few.train_images, few.train_labels, few.test_images, few.test_labels, pixel_max=16)
    run = fit(NETWORK, mine, output_dir=tmp_path, **SETTINGS)
    again = xpnet.load_run(tmp_path)
    assert again.plot().axes  # which needs no data
    with pytest.raises(ValueError, match=r"was trained on 'mine', which is none of digits, mnist: name one"):
        again.evaluation  # noqa: B018
    assert xpnet.load_run(tmp_path, data=mine).evaluation.accuracy == run.evaluation.accuracy
    with pytest.raises(ValueError, match="was trained on other data"):
        xpnet.load_run(tmp_path, data=mine.first(100))


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(xpnet.CheckpointError, match="is not the folder of a run"):
        xpnet.load_run(tmp_path)
