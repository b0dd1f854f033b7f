"""The step: sums over batches, halves that add up, and blocks that equal single samples."""

import dataclasses

import numpy as np
import pytest

import xpnet
from runs import flat
from xpnet import (
    SGD,
    Adam,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPool2D,
    Network,
    RandomShift,
    ReLU,
    SoftmaxCrossEntropy,
    SquaredError,
)
from xpnet.nn.trained import to_device
from xpnet.training.batches import move_batches, move_samples, split_batches
from xpnet.training.per_sample import BlockStep, works_in_blocks
from xpnet.training.step import Step, Sums, gradients, reduce_sums, update

NETWORK = Network([Dense(7), ReLU(), Dropout(0.5), Dense(3)], (6,))


def setting(backend, network=NETWORK, optimizer=None, n=23, dtype="float64", loss=None):
    rng = np.random.default_rng(0)
    trainer = Step(network, loss or SoftmaxCrossEntropy(), optimizer or Adam(0.01), backend, dtype)
    params = to_device(network.init(rng), backend, dtype)
    progress = trainer.start(params, to_device(network.init_state(), backend, dtype))
    images = rng.integers(0, 256, (n, *network.input_shape)).astype(np.uint8)
    data = move_samples(trainer, images, rng.integers(0, 3, n), 3)
    rows = {"index": rng.permutation(n).astype(np.int32)}
    rows |= {f"noise.{i}": z for i, z in enumerate(network.noise(rng, n)) if z is not None}
    return trainer, progress, data, rows


def test_two_halves_add_up_to_the_whole_batch(backend):
    trainer, progress, data, rows = setting(backend)

    compiled = backend.compile(lambda part: gradients(trainer, progress.params, progress.state, part, data)[0])

    def sums(rows):
        return compiled(move_batches(trainer, rows))

    whole = sums(rows)
    a, b = sums({k: v[:9] for k, v in rows.items()}), sums({k: v[9:] for k, v in rows.items()})
    pairs = zip(a.gradient, b.gradient, strict=True)
    gradient = [{name: one[name] + other[name] for name in one} for one, other in pairs]
    added = Sums(gradient, a.loss + b.loss, a.correct + b.correct, a.count + b.count)
    host = backend.to_numpy
    np.testing.assert_allclose(flat(added.gradient, backend), flat(whole.gradient, backend), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(float(host(added.loss)), float(host(whole.loss)), rtol=1e-12)
    assert [float(x) for x in added[2:]] == [float(x) for x in whole[2:]]
    scalars = {k: backend.asarray(v[0]) for k, v in trainer.optimizer.scalars(np.asarray([1]), np.ones(1)).items()}
    one, _ = update(trainer, progress.params, progress.moments, whole, scalars)
    two, _ = update(trainer, progress.params, progress.moments, added, scalars)
    np.testing.assert_allclose(flat(one, backend), flat(two, backend), rtol=1e-9)


def test_a_short_last_batch_counts_by_its_size(backend):
    """23 samples in batches of 5: the epoch's sums are those of single samples."""
    trainer, progress, data, rows = setting(backend, optimizer=SGD(1e-12))
    # With biases of zero all outputs of a sample may be equal, and the smallest step decides which is the largest.
    rng = np.random.default_rng(1)
    drawn = [{name: rng.normal(size=array.shape) for name, array in layer.items()} for layer in progress.params]
    progress, results = progress._replace(params=to_device(drawn, backend, "float64")), []
    for size in (5, 1, 23, 40):
        now = progress
        for part in split_batches(rows, size):
            part |= {"rate": np.full(len(part["index"]), 1e-12)}
            now = trainer.run_epoch(now, move_batches(trainer, part), data)
        results.append((float(backend.to_numpy(now.loss)), float(backend.to_numpy(now.correct))))
    np.testing.assert_allclose(results, [results[0]] * 4, rtol=1e-8)


def test_split_batches_leaves_nothing_out():
    rows = {"index": np.arange(23), "noise.2": np.arange(46).reshape(23, 2)}
    full, last = split_batches(rows, 5)
    assert (full["index"].shape, full["noise.2"].shape) == ((4, 5), (4, 5, 2))
    assert (last["index"].shape, last["noise.2"].shape) == ((1, 3), (1, 3, 2))
    np.testing.assert_array_equal(np.concatenate([full["index"].ravel(), last["index"].ravel()]), np.arange(23))
    assert [len(part["index"]) for part in split_batches(rows, 23)] == [1]
    assert [part["index"].shape for part in split_batches(rows, 99)] == [(1, 23)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("loss", [SquaredError(), SoftmaxCrossEntropy()], ids=str)
def test_blocks_equal_single_samples(backend, bias, loss):
    network = Network([Dense(7, bias=bias), ReLU(), Dropout(0.5), Dense(5), ReLU(), Dense(3)], (6,))
    trainer, progress, data, rows = setting(backend, network, SGD(0.05), loss=loss)
    assert works_in_blocks(trainer, 1)
    rows["rate"] = np.linspace(0.05, 0.01, 23)
    plain = blocks = progress
    for part in split_batches(rows, 1):
        part["rate"] = part["rate"][:, 0]
        plain = trainer.run_epoch(plain, move_batches(trainer, part), data)
    for part in split_batches(rows, 6):
        blocks = BlockStep.of(trainer).run_epoch(blocks, move_batches(trainer, part), data)
    host = backend.to_numpy
    np.testing.assert_allclose(flat(blocks.params, backend), flat(plain.params, backend), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(float(host(blocks.loss)), float(host(plain.loss)), rtol=1e-12)
    assert float(host(blocks.correct)) == float(host(plain.correct))
    assert np.max(np.abs(flat(plain.params, backend) - flat(progress.params, backend))) > 1e-3


def test_blocks_are_only_taken_where_they_are_exact():
    numpy = xpnet.get_backend("numpy")

    def taken(network, optimizer, size):
        return works_in_blocks(Step(network, SquaredError(), optimizer, numpy, "float64"), size)

    assert taken(NETWORK, SGD(0.1), 1)
    assert not taken(NETWORK, SGD(0.1), 2)
    assert not taken(NETWORK, SGD(0.1, momentum=0.9), 1)
    assert not taken(NETWORK, SGD(0.1, weight_decay=0.1), 1)
    assert not taken(NETWORK, Adam(0.1), 1)
    assert not taken(Network([Dense(3)], (6,)), SGD(0.1), 1)
    assert not taken(Network([Dense(3), ReLU()], (6,)), SGD(0.1), 1)

    class Other(SGD):
        """It might do anything."""

    assert not taken(NETWORK, Other(0.1), 1)
    assert not taken(Network([ReLU(), Dense(3)], (6,)), SGD(0.1), 1)
    assert not taken(Network([Dense(4), BatchNorm(), Dense(3)], (6,)), SGD(0.1), 1)


def test_nothing_is_read_back_while_the_steps_are_taken(monkeypatch):
    """On a GPU the host would wait for the device; array-api-strict does not notice that by itself."""
    strict = xpnet.get_backend("array_api_strict:device1")

    def refuse(array, *arguments):
        raise AssertionError("the host looked at an array")

    layers = [RandomShift(1), Conv2D(2, 3), BatchNorm(), ReLU(), MaxPool2D(2), Flatten(), Dropout(0.5), Dense(3)]
    for network, optimizer in ((Network(layers, (7, 8)), Adam(0.01)), (NETWORK, SGD(0.1))):
        trainer, progress, data, rows = setting(strict, network, optimizer, loss=SoftmaxCrossEntropy())
        blocks = works_in_blocks(trainer, 1)
        assert blocks == (network is NETWORK)
        scalars = optimizer.scalars(np.arange(1, 24), np.full(23, 0.1))
        (part, *_) = split_batches(rows | scalars, 4)
        part |= {} if blocks else {name: part[name][:, 0] for name in scalars}
        moved, index = move_batches(trainer, part), strict.asarray(np.arange(8).reshape(2, 4))
        runner = BlockStep.of(trainer) if blocks else trainer
        with monkeypatch.context() as patch:
            for name in ("__bool__", "__float__", "__int__", "__index__", "__complex__", "__array__", "__iter__"):
                patch.setattr(type(progress.loss), name, refuse, raising=False)
            done = runner.run_epoch(progress, moved, data)
            trainer.evaluate(done.params, done.state, index, data)
        assert np.isfinite(strict.to_numpy(done.loss))


def test_one_message_carries_all_sums(backend):
    messages = []

    def twice(array):
        messages.append(tuple(array.shape))
        return array + array

    trainer, progress, _, _ = setting(backend)
    trainer = dataclasses.replace(trainer, all_reduce=twice)
    sums = Sums(progress.params, *(backend.asarray(np.asarray(v)) for v in (2.0, 3.0)), 5.0)
    doubled = reduce_sums(sums, trainer)
    assert messages == [(NETWORK.size + 3,)]
    np.testing.assert_array_equal(flat(doubled.gradient, backend), 2.0 * flat(sums.gradient, backend))
    assert [float(backend.to_numpy(v)) for v in doubled[1:]] == [4.0, 6.0, 10.0]
    assert reduce_sums(sums, dataclasses.replace(trainer, all_reduce=None)) is sums


@pytest.mark.parametrize("optimizer", [Adam(0.01), SGD(0.1), SGD(0.1, momentum=0.9)], ids=str)
def test_packed_parameters_take_the_same_steps_to_the_last_bit(backend, monkeypatch, optimizer):
    trainer, progress, data, rows = setting(backend, optimizer=optimizer)
    (part,) = split_batches({name: values[:20] for name, values in rows.items()}, 5)
    part |= optimizer.scalars(np.arange(1, 5), np.full(4, optimizer.learning_rate))
    plain, packed = [], []
    for launch_bound, end in ((False, plain), (True, packed)):
        monkeypatch.setattr(type(backend), "launch_bound", launch_bound)
        done = trainer.run_epoch(progress, move_batches(trainer, part), data)
        end.append(flat(done.params, backend))
        end += [flat(list(layer.values()), backend) for layer in done.moments]
        end.append(backend.to_numpy(done.loss))
        assert [sorted(layer) for layer in done.params] == [sorted(layer) for layer in progress.params]
    # A compiler may contract a product and a sum in one form and not in the other.
    rtol = 1e-12 if backend.spec.startswith("jax") else 0.0
    for ours, theirs in zip(packed, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-2 * rtol)
    assert np.max(np.abs(plain[0] - flat(progress.params, backend))) > 1e-3
