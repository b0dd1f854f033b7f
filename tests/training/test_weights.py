"""Weights of classes and samples, and frozen layers."""

import dataclasses

import numpy as np
import pytest

import xpnet
from runs import Stop, assert_same, stop_after
from test_step import setting
from xpnet import (
    SGD,
    Adam,
    BatchNorm,
    Conv2D,
    DataError,
    Dense,
    Dropout,
    Flatten,
    Network,
    ReLU,
    SoftmaxCrossEntropy,
    SquaredError,
    fit,
)
from xpnet.nn.gradcheck import numerical_gradient
from xpnet.training.batches import move_batches, move_samples
from xpnet.training.step import gradients
from xpnet.training.workers import Workers

NETWORK = Network([Dense(12), BatchNorm(), ReLU(), Dropout(0.3), Dense(10)], (64,))
SETTINGS = {"epochs": 3, "batch_size": 29, "progress": False, "dtype": "float64"}
CLASS_WEIGHT = [0.5, 2.0, 3.0]


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(0.1), SquaredError()], ids=str)
def test_the_gradient_of_weighted_samples_is_that_of_the_weighted_sum_of_losses(backend, loss):
    network = Network([Dense(3)], (6,))
    trainer, progress, data, rows = setting(backend, network, loss=loss)
    host = {name: backend.to_numpy(getattr(data, name)) for name in ("images", "labels")}
    weights = np.random.default_rng(5).uniform(0.0, 3.0, len(host["labels"]))
    samples = move_samples(trainer, host["images"], host["labels"], 3, weights)
    sums, _ = gradients(trainer, progress.params, progress.state, move_batches(trainer, rows), samples)
    targets, x = loss.targets(host["labels"], 3), host["images"] / 255.0
    bias = backend.to_numpy(progress.params[0]["bias"])

    def weighted(weight):
        y = x @ weight + bias
        return sum(w * loss.value(y[i : i + 1], targets[i : i + 1], xp=np) for i, w in enumerate(weights))

    expected = numerical_gradient(weighted, backend.to_numpy(progress.params[0]["weight"]))
    np.testing.assert_allclose(backend.to_numpy(sums.gradient[0]["weight"]), expected, rtol=1e-6, atol=1e-8)
    assert sums.count == 23.0


def test_class_weights_are_those_of_torch(backend, torch):
    trainer, progress, data, rows = setting(backend, Network([Dense(3)], (6,)))
    images, labels = backend.to_numpy(data.images), backend.to_numpy(data.labels)
    samples = move_samples(trainer, images, labels, 3, np.asarray(CLASS_WEIGHT)[labels])
    sums, _ = gradients(trainer, progress.params, progress.state, move_batches(trainer, rows), samples)
    layer = torch.nn.Linear(6, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.weight[:] = torch.asarray(backend.to_numpy(progress.params[0]["weight"]).T)
        layer.bias[:] = torch.asarray(backend.to_numpy(progress.params[0]["bias"]))
    criterion = torch.nn.CrossEntropyLoss(torch.asarray(CLASS_WEIGHT, dtype=torch.float64), reduction="sum")
    with torch.enable_grad():
        criterion(layer(torch.asarray(images / 255.0)), torch.asarray(labels).long()).backward()
    ours = sums.gradient[0]
    np.testing.assert_allclose(backend.to_numpy(ours["weight"]), layer.weight.grad.numpy().T, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(backend.to_numpy(ours["bias"]), layer.bias.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.elsewhere
def test_shards_add_up_to_the_weighted_batch(backend):
    trainer, progress, data, rows = setting(backend)
    images, labels = backend.to_numpy(data.images), backend.to_numpy(data.labels)
    samples = move_samples(trainer, images, labels, 3, np.asarray(CLASS_WEIGHT)[labels])
    batch = move_batches(trainer, rows)
    whole, _ = gradients(trainer, progress.params, progress.state, batch, samples)
    workers = Workers(3, 1)
    parts, _ = workers.gradients(trainer, progress.params, progress.state, batch, samples)
    workers.close()
    for one, other in zip(whole.gradient, parts.gradient, strict=True):
        for name in one:
            np.testing.assert_allclose(
                backend.to_numpy(other[name]), backend.to_numpy(one[name]), rtol=1e-9, atol=1e-12
            )


@pytest.mark.elsewhere
@pytest.mark.parametrize("settings", [{}, {"batch_size": 1, "optimizer": SGD(0.002)}], ids=["batches", "blocks"])
def test_a_weight_of_two_is_a_step_of_twice_the_length(backend, few, settings):
    """With plain SGD, one weight for all samples acts like a learning rate, in blocks of samples too."""
    network = Network([Dense(12), ReLU(), Dense(10)], (64,))
    settings = {**SETTINGS, "optimizer": SGD(0.02), "backend": backend, **settings, "epochs": 1}
    once = fit(network, few, class_weight=[2.0] * 10, **settings)
    twice = fit(network, few, **settings | {"optimizer": SGD(2 * settings["optimizer"].learning_rate)})
    np.testing.assert_allclose(
        once.network.logits(few.test_images), twice.network.logits(few.test_images), rtol=1e-9, atol=1e-12
    )


def test_samples_of_no_weight_teach_nothing(few):
    """The labels of samples with weight 0 do not matter."""
    weights = np.arange(203) % 2
    labels = np.where(weights, few.train_labels, 9 - few.train_labels)
    network = Network([Dense(12), ReLU(), Dense(10)], (64,))
    one = fit(network, few, sample_weight=weights, **SETTINGS)
    other = fit(network, dataclasses.replace(few, train_labels=labels), sample_weight=weights, **SETTINGS)
    for name, array in one.network.named_arrays().items():
        np.testing.assert_array_equal(other.network.named_arrays()[name], array, err_msg=name)


@pytest.mark.filterwarnings("ignore:digits. 4 of 905 training images are of class 9")
def test_a_rare_class_is_found_when_it_counts_as_much_as_the_others(digits):
    nines = digits.train_labels == 9
    kept = ~nines | (np.cumsum(nines) <= 4)
    rare = dataclasses.replace(digits, train_images=digits.train_images[kept], train_labels=digits.train_labels[kept])
    network = Network([Dense(30), ReLU(), Dense(10)], (64,))
    settings = {"epochs": 15, "batch_size": 32, "progress": False}
    plain, even = fit(network, rare, **settings), fit(network, rare, class_weight="balanced", **settings)
    assert even.evaluation.recall[9] > plain.evaluation.recall[9] + 0.2
    assert even.evaluation.accuracy > plain.evaluation.accuracy


def test_the_weights_of_a_dataset_go_with_its_samples(few, tmp_path):
    weighted = few.weighted({"9": 3, 1: 0.5}).weighted(sample_weight=np.full(203, 2.0))
    expected = 2.0 * np.where(few.train_labels == 9, 3.0, np.where(few.train_labels == 1, 0.5, 1.0))
    np.testing.assert_array_equal(weighted.train_weights, expected)
    np.testing.assert_array_equal(weighted.first(50).train_weights, expected[:50])
    assert weighted.fingerprint() == few.fingerprint()
    balanced = few.weighted("balanced").train_weights
    assert balanced.mean() == pytest.approx(1.0)
    sums = np.bincount(few.train_labels, balanced)
    np.testing.assert_allclose(sums, 20.3)
    # A run can only be resumed with the weights that it started with.
    whole = fit(NETWORK, weighted, **SETTINGS)
    with pytest.raises(Stop):
        fit(NETWORK, weighted, output_dir=tmp_path, callbacks=[stop_after(1)], **SETTINGS)
    with pytest.raises(xpnet.ResumeError, match="train_weights was"):
        fit(NETWORK, few, output_dir=tmp_path, resume=True, **SETTINGS)
    assert_same(fit(NETWORK, weighted, output_dir=tmp_path, resume=True, **SETTINGS), whole)


def test_the_command_line_takes_class_weights(tmp_path, capsys):
    from xpnet.cli import main

    command = ["train", "--dataset", "digits", "--epochs", "1", "--set", "class_weight=balanced"]
    assert main([*command, "--output-dir", str(tmp_path / "run")]) == 0
    assert xpnet.load_run(tmp_path / "run").config["train_weights"] is not None
    assert main([*command[:-1], "class_weight=even", "--output-dir", str(tmp_path / "other")]) == 2
    assert "class_weight='even': must be 'balanced'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"class_weight": "even"}, r"^class_weight='even': must be 'balanced'"),
        ({"class_weight": {"ten": 2}}, r"^class_weight: there is no class 'ten'; there are 0, 1, 2"),
        ({"class_weight": [1.0, 2.0]}, r"^class_weight: shape \(2,\) of float64; must be \(10,\) of numbers"),
        ({"class_weight": [0.0] * 10}, r"^class_weight: from 0.0 to 0.0; all must be finite and at least 0, and one"),
        ({"class_weight": {"0": -1}}, r"^class_weight: from -1.0 to 1.0; all must be finite"),
        ({"sample_weight": [1.0] * 4}, r"^sample_weight: shape \(4,\) of float64; must be \(203,\) of numbers"),
        ({"sample_weight": [np.nan] * 203}, r"^sample_weight: from nan to nan; all must be finite"),
    ],
)
def test_what_is_no_weight_is_refused_before_any_work(few, given, words):
    with pytest.raises(DataError, match=words):
        fit(NETWORK, few, **given, **SETTINGS)


def test_a_loss_of_ones_own_that_weights_targets_is_told_what_to_do(few):
    class Weighted(SoftmaxCrossEntropy):
        def targets(self, labels, classes):
            return super().targets(labels, classes) * np.linspace(1.0, 2.0, classes)

    with pytest.raises(ValueError, match=r"^loss: the targets of a sample sum to 2; .* see xpnet.Dataset.weighted"):
        fit(NETWORK, few, loss=Weighted(), **SETTINGS)


IMAGES = Network([Conv2D(4, 3), BatchNorm(), ReLU(), Flatten(), Dense(12), ReLU(), Dense(10)], (8, 8))


def test_frozen_layers_stay_as_they_are_to_the_last_bit(backend, few):
    first = fit(IMAGES, few, backend=backend, **SETTINGS)
    run = fit(first.network, few, backend=backend, initial="given", freeze=[0, 1, 4], **SETTINGS)
    before, after = first.network.named_arrays(), run.network.named_arrays()
    assert before.keys() == after.keys()
    for name, array in before.items():
        if name.startswith(("layers.0", "layers.1", "layers.4")):
            np.testing.assert_array_equal(after[name], array, err_msg=name)
        else:
            assert not np.array_equal(after[name], array), name
    assert run.network.to_config() == first.network.to_config()
    assert (run.config["freeze"], first.config["freeze"]) == ([0, 1, 4], [])


def test_what_is_learnt_above_frozen_layers_is_learnt_from_their_outputs(few):
    """The last layer alone is a network by itself, on what the others make of the images."""
    first = fit(IMAGES, few, **SETTINGS)
    settings = SETTINGS | {"optimizer": SGD(0.1), "batch_size": 203, "epochs": 2}
    run = fit(first.network, few, initial="given", freeze=range(-7, -1), **settings)
    x = first.network.layer_outputs(few.train_images)[5]
    layer = {name: array.copy() for name, array in first.network.host_arrays()[0][6].items()}
    for _ in range(2):
        logits = x @ layer["weight"] + layer["bias"]
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        dy = (p / p.sum(axis=1, keepdims=True) - np.eye(10)[few.train_labels]) / 203
        layer["weight"] -= 0.1 * x.T @ dy
        layer["bias"] -= 0.1 * dy.sum(axis=0)
    for name, array in layer.items():
        np.testing.assert_allclose(run.network.host_arrays()[0][6][name], array, rtol=1e-9, err_msg=name)


def test_a_run_with_frozen_layers_resumes_and_opens_unfinished(few, tmp_path):
    settings = SETTINGS | {"freeze": [0], "initial": "given", "optimizer": Adam(0.01)}
    first = fit(IMAGES, few, **SETTINGS)
    whole = fit(first.network, few, **settings)
    with pytest.raises(Stop):
        fit(first.network, few, output_dir=tmp_path, callbacks=[stop_after(1)], **settings)
    with pytest.warns(UserWarning, match="the run is not finished"):
        half = xpnet.load(tmp_path)
    np.testing.assert_array_equal(
        half.named_arrays()["layers.0.weight"], first.network.named_arrays()["layers.0.weight"]
    )
    with pytest.raises(xpnet.ResumeError, match=r"freeze was \[0\] and is \[\]"):
        fit(first.network, few, output_dir=tmp_path, resume=True, **settings | {"freeze": []})
    assert_same(fit(first.network, few, output_dir=tmp_path, resume=True, **settings), whole)


@pytest.mark.parametrize(
    ("freeze", "words"),
    [
        ([7], r"^freeze=\[7\]: there is no layer 7; they go from 0 to 6"),
        ([0, 1, 4, 6], r"^freeze=.*: no other layer has parameters, so there is nothing to train"),
        ("all", r"^freeze='all': must be a list of the indices of layers"),
        (0, r"^freeze=0: must be a list of the indices of layers"),
    ],
)
def test_what_cannot_be_frozen_is_refused_before_any_work(few, freeze, words):
    with pytest.raises((TypeError, ValueError), match=words):
        fit(IMAGES, few, freeze=freeze, **SETTINGS)
