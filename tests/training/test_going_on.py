"""Training from given weights, and callbacks that see the network or end the run."""

import numpy as np
import pytest

import xpnet
from runs import assert_same
from xpnet import Adam, BatchNorm, Dense, Network, ReLU, StopTraining, TrainedNetwork, fit

NETWORK = Network([Dense(12), BatchNorm(), ReLU(), Dense(10)], (64,))
SETTINGS = {"epochs": 3, "batch_size": 29, "progress": False, "dtype": "float64"}


def test_training_goes_on_from_given_weights(backend, few):
    first = fit(NETWORK, few, backend=backend, **SETTINGS)
    still = fit(first.network, few, backend=backend, initial="given", optimizer=Adam(1e-12), **SETTINGS | {"epochs": 1})
    for name, array in first.network.named_arrays().items():
        if "running" not in name:  # running statistics move, whatever the rate
            np.testing.assert_allclose(still.network.named_arrays()[name], array, atol=1e-9, err_msg=name)
    longer = fit(first.network, few, backend=backend, initial="given", **SETTINGS)
    assert longer.history[0].train_loss < first.history[0].train_loss
    assert (first.config["initial"], len(longer.config["initial"])) == ("drawn", 64)


def test_weights_that_are_not_used_are_told_of(few):
    first = fit(NETWORK, few, **SETTINGS)
    with pytest.warns(UserWarning, match=r"^network: has weights, but training starts from new ones: pass"):
        again = fit(first.network, few, **SETTINGS)
    assert_same(again, first)
    assert_same(fit(first.network, few, initial="drawn", **SETTINGS), first)
    with pytest.raises(ValueError, match=r"^initial='given': the network has no weights"):
        fit(NETWORK, few, initial="given", **SETTINGS)
    with pytest.raises(ValueError, match=r"^initial='zero': must be 'drawn' or 'given'"):
        fit(NETWORK, few, initial="zero", **SETTINGS)


def test_a_run_from_given_weights_resumes_only_with_the_same(few, tmp_path):
    first, other = fit(NETWORK, few, **SETTINGS), fit(NETWORK, few, **SETTINGS | {"seed": 5})
    whole = fit(first.network, few, initial="given", **SETTINGS)

    def leave(record):
        if record.epoch == 1:
            raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        fit(first.network, few, initial="given", output_dir=tmp_path, callbacks=[leave], **SETTINGS)
    with pytest.raises(xpnet.ResumeError, match="initial was"):
        fit(other.network, few, initial="given", output_dir=tmp_path, resume=True, **SETTINGS)
    assert_same(fit(first.network, few, initial="given", output_dir=tmp_path, resume=True, **SETTINGS), whole)


def test_a_callback_may_look_at_the_network(backend, few):
    seen = []

    def look(record, network):
        assert isinstance(network, TrainedNetwork)
        assert network.backend is backend
        seen.append(network)

    run = fit(NETWORK, few, backend=backend, callbacks=[look, lambda record: None], **SETTINGS)
    assert len(seen) == 3
    for name, array in run.network.named_arrays().items():
        np.testing.assert_array_equal(seen[-1].named_arrays()[name], array, err_msg=name)
    # The network of an epoch must not change when training continues.
    accuracies = [xpnet.evaluate(network, few).accuracy for network in seen]
    assert accuracies == [record.test_accuracy for record in run.history]


def test_a_callback_may_end_the_run_which_is_saved_and_resumes(few, tmp_path):
    def enough(record):
        if record.epoch == 1:
            raise StopTraining

    whole = fit(NETWORK, few, **SETTINGS)
    run = fit(NETWORK, few, callbacks=[enough], output_dir=tmp_path, **SETTINGS)
    assert len(run.history) == 2
    loaded = xpnet.load(tmp_path)
    for name, array in run.network.named_arrays().items():
        np.testing.assert_array_equal(loaded.named_arrays()[name], array, err_msg=name)
    assert_same(fit(NETWORK, few, output_dir=tmp_path, resume=True, **SETTINGS), whole)


def test_a_network_moves_between_backends(backend, few):
    here = fit(NETWORK, few, **SETTINGS).network
    there = here.to(backend)
    assert (there.backend.spec, there.dtype) == (backend.spec, "float64")
    np.testing.assert_allclose(there.logits(few.test_images), here.logits(few.test_images), rtol=1e-10, atol=1e-12)
    assert here.to("numpy", dtype="float32").dtype == "float32"
    with pytest.raises(ValueError, match=r"^dtype='int8'"):
        here.to("numpy", dtype="int8")
