"""Unusual data and extreme numbers: the results are finite, or the input is refused by name."""

import dataclasses
import json
from typing import NamedTuple

import numpy as np
import pytest

import xpnet
from xpnet import (
    SGD,
    BatchNorm,
    Conv2D,
    Cosine,
    Dataset,
    Dense,
    Dropout,
    LeakyReLU,
    Network,
    ReLU,
    SoftmaxCrossEntropy,
    Tanh,
    fit,
    train,
)
from xpnet.recipes import RECIPES

QUIET = {"progress": False}
RNG = np.random.default_rng(0)


def dataset(n=20, m=7, **changes):
    parts = {
        "train_images": RNG.integers(0, 17, (n, 8, 8)).astype(np.uint8),
        "train_labels": RNG.integers(0, 10, n),
        "test_images": RNG.integers(0, 17, (m, 8, 8)).astype(np.uint8),
        "test_labels": RNG.integers(0, 10, m),
    }
    return Dataset("odd", **parts | changes, pixel_max=16.0)


def everywhere(value, dtype=np.uint8):
    return {"train_images": np.full((20, 8, 8), value, dtype), "test_images": np.full((7, 8, 8), value, dtype)}


ODD = {
    "one class": dataset(train_labels=np.zeros(20, int), test_labels=np.zeros(7, int)),
    "a class that is only tested": dataset(train_labels=np.zeros(20, int), test_labels=np.full(7, 9)),
    "black": dataset(**everywhere(0)),
    "grey": dataset(**everywhere(9)),
    "one test image": dataset(m=1),
    "the same image": dataset(train_images=np.repeat(RNG.integers(0, 17, (1, 8, 8)).astype(np.uint8), 20, axis=0)),
    "half precision": dataset(train_images=RNG.random((20, 8, 8)).astype("f2"), test_images=np.ones((7, 8, 8), "f2")),
    "big-endian": dataset(train_images=RNG.random((20, 8, 8)).astype(">f4"), test_images=np.ones((7, 8, 8), ">f8")),
    "dim": dataset(**everywhere(1e-30, np.float64)),
}


def assert_finite(run):
    assert all(record.finite() for record in run.history)
    for name, array in run.network.named_arrays().items():
        assert np.isfinite(array).all(), name
    probabilities = run.network.predict_proba(run.data.test_images)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("odd", ODD)
def test_every_recipe_survives_odd_data(recipe, odd):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert_finite(train(recipe, dataset=ODD[odd], epochs=2, **QUIET))


@pytest.mark.elsewhere
@pytest.mark.parametrize("odd", ["one class", "grey"])
def test_odd_data_on_every_backend(backend, odd):
    assert_finite(train("deep", dataset=ODD[odd], epochs=1, backend=backend, **QUIET))


@pytest.mark.parametrize("recipe", ["tutorial", "corrected", "cnn"])
def test_one_sample_is_enough_where_nothing_looks_at_the_batch(recipe):
    settings = {"validation_fraction": 0.0} if recipe == "cnn" else {}
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert_finite(train(recipe, dataset=dataset(1, 1), epochs=2, **settings, **QUIET))


@pytest.mark.parametrize("recipe", ["deep", "best"])
def test_one_sample_is_too_few_for_batch_normalization(recipe):
    with pytest.raises(ValueError, match="1 training samples leave a batch of 1"):
        train(recipe, dataset=dataset(1, 1), epochs=1, validation_fraction=0.0, **QUIET)


def test_logits_of_any_size_give_probabilities(backend):
    """In the whole network, in both dtypes."""
    net = Network([Dense(3)], (3,))
    for dtype in ("float32", "float64"):
        with backend.session(dtype):
            params = [{"weight": 1e4 * np.eye(3), "bias": np.zeros(3)}]
            bound = xpnet.TrainedNetwork(net, params, [{}], backend, dtype)
            images = np.asarray([[1.0, -1.0, 0.0], [-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
            with np.errstate(over="raise", invalid="raise", divide="raise"):
                probabilities = bound.predict_proba(images)
            np.testing.assert_allclose(probabilities, [[1, 0, 0], [1 / 3] * 3, [1 / 3] * 3], rtol=1e-6)
            assert bound.predict(images).tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_logits_in_training_neither_overflow_nor_give_nan(size):
    """The first step from weights that give logits of that size."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Constant(xpnet.Uniform):
        def __call__(self, rng, shape, fan_in, fan_out):
            return np.linspace(-self.bound, self.bound, shape[0] * shape[1]).reshape(shape)

    data = dataset(**everywhere(np.sign(size), np.float64))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        run = fit(Network([Dense(10, init_weight=Constant(abs(size)))], (64,)), data, epochs=2, batch_size=4, **QUIET)
    assert_finite(run)
    assert run.history[0].train_loss > 1e3


def test_pixels_of_sixteen_bits_are_scaled_as_those_of_eight_are(backend, few):
    """The same pictures in other units, so large that they are kept as 32-bit integers."""
    brighter = xpnet.Dataset(
        "bright",
        60 * few.train_images.astype(int),
        few.train_labels,
        60 * few.test_images.astype(int),
        few.test_labels,
        pixel_max=60 * few.pixel_max,
    )
    net = Network([Dense(9), Tanh(), Dense(10)], (64,))
    settings = {"epochs": 2, "batch_size": 16, "backend": backend, "dtype": "float64", "progress": False}
    usual, run = (xpnet.fit(net, data, **settings) for data in (few, brighter))
    assert run.data.train_images.dtype == np.int32
    np.testing.assert_allclose(run.history.column("test_loss"), usual.history.column("test_loss"), rtol=1e-9)
    assert run.evaluation.accuracy == run.history[-1].test_accuracy


class Size(NamedTuple):
    h: int
    w: int


@dataclasses.dataclass(frozen=True)
class Sized(xpnet.Layer):
    """A user's layer with a field that is a subclass of tuple."""

    size: Size = dataclasses.field(default_factory=lambda: Size(2, 3))


@pytest.mark.elsewhere
def test_numbers_of_numpy_are_as_good_as_pythons(backend, few, tmp_path):
    """Kept as they are they would turn float32 into float64, and could not be written as JSON."""
    f, i = np.float64, np.int64
    layers = [Dense(i(9)), LeakyReLU(f(0.1)), Dropout(f(0.2)), BatchNorm(f(0.1), f(1e-5)), Dense(10)]
    run = xpnet.fit(
        Network(layers, (i(64),)),
        few,
        loss=SoftmaxCrossEntropy(f(0.1)),
        optimizer=SGD(f(0.1), f(0.9), weight_decay=f(1e-4)),
        schedule=Cosine(i(3), floor=f(0.1)),
        epochs=i(2),
        batch_size=i(29),
        validation_fraction=f(0.1),
        patience=i(2),
        seed=i(3),
        backend=backend,
        output_dir=tmp_path / "run",
        progress=False,
    )
    assert {array.dtype for array in run.network.named_arrays().values()} == {np.dtype(np.float32)}
    plain = xpnet.load(tmp_path / "run")
    assert plain.layers == tuple(layers)
    assert all(type(value) is not np.float64 for value in vars(plain.layers[2]).values())
    assert Sized().size.h == 2
    conv = Conv2D(i(2), (i(3), 3))
    assert json.loads(json.dumps(Network([conv], (8, 8)).to_config()))["layers"][0]["kernel_size"] == [3, 3]


@pytest.mark.filterwarnings("ignore:odd. floats from:UserWarning")
def test_images_too_large_for_the_dtype_are_named():
    data = dataset(**everywhere(1e300, np.float64))
    for recipe in ("mlp", "best"):
        with pytest.raises(ValueError, match=r"^data: the images of odd hold 1e\+300, which is too large for float32"):
            train(recipe, dataset=data, epochs=1, **QUIET)
    with pytest.raises(ValueError, match=r"hold 1e\+300"):
        fit(Network([Dense(10)], (64,)), dataset(**everywhere(-1e300, np.float64)), **QUIET)


def test_a_run_that_diverges_says_so_and_returns_nothing(backend, digits):
    net = Network([Dense(20), ReLU(), Dense(10)], (64,))
    settings = {"loss": xpnet.SquaredError(), "optimizer": SGD(1e8), "epochs": 9, "backend": backend}
    with np.errstate(all="ignore"), pytest.raises(xpnet.DivergedError, match=r"learning_rate=100000000\.0: try"):
        fit(net, digits.first(50), **settings, **QUIET)


def test_arrays_of_another_library_are_moved(backend, digits):
    """To a network on NumPy, and from NumPy to a network elsewhere; labels come back where the images were."""
    net = Network([Dense(10)], (64,), 16.0)
    params = net.init(np.random.default_rng(0))
    images = digits.test_images[:5].reshape(5, 64)
    there, here = (xpnet.TrainedNetwork(net, params, [{}], on) for on in (backend, xpnet.get_backend("numpy")))
    expected = here.predict(images).tolist()
    for bound in (there, here):
        for array in (images, backend.asarray(images), backend.asarray(images / 16.0)):
            labels = bound.predict(array)
            assert type(labels) is type(array)
            assert backend.to_numpy(labels).tolist() == expected if array is not images else labels.tolist() == expected
            for method in ("logits", "predict_proba"):
                numbers, wanted = getattr(bound, method)(array), getattr(here, method)(images)
                assert type(numbers) is type(array)
                numbers = numbers if array is images else backend.to_numpy(numbers)
                np.testing.assert_allclose(numbers, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.library
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_a_precision_that_numpy_lacks_is_taken_as_float32(library):
    pytest.importorskip(library)
    xp = xpnet.get_backend(library).xp
    net = Network([Dense(3)], (4,))
    bound = xpnet.TrainedNetwork(net, net.init(np.random.default_rng(0)), [{}], xpnet.get_backend("numpy"))
    images = xp.asarray([[1.0, 2.0, 0.5, 0.25], [-3.0, 0.0, 1.5, 8.0]], dtype=xp.bfloat16)
    assert bound.logits(images).tolist() == bound.logits([[1.0, 2.0, 0.5, 0.25], [-3.0, 0.0, 1.5, 8.0]]).tolist()


def test_a_loss_is_the_same_however_large_the_batch(digits):
    """Sums over a thousand samples in float32 lose nothing that matters."""
    net = Network([Dense(10)], (64,))
    (params,) = net.init(np.random.default_rng(0))
    loss = SoftmaxCrossEntropy()
    targets = loss.targets(digits.train_labels, 10)
    logits = digits.train_images.reshape(1000, 64) @ params["weight"]
    exact = loss.value(logits, targets, xp=np)
    rounded = loss.value(logits.astype(np.float32), targets.astype(np.float32), xp=np)
    np.testing.assert_allclose(rounded, exact, rtol=1e-5)
