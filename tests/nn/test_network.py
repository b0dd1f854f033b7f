"""The network: shapes, parameters, gradients of the whole, predictions."""

import copy
import pickle

import numpy as np
import pytest

import xpnet
from xpnet import (
    GELU,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool2D,
    Network,
    ReLU,
    ShapeError,
    Sigmoid,
    SoftmaxCrossEntropy,
    SquaredError,
    Tanh,
    TrainedNetwork,
    check_gradients,
)
from xpnet.nn.layers import Context


def trained(network, backend=None, dtype="float32"):
    """Return a network with its initial weights."""
    params, state = network.init(np.random.default_rng(0)), network.init_state()
    return TrainedNetwork(network, params, state, backend or xpnet.get_backend("numpy"), dtype)


DENSE = Network([Dense(5), Tanh(), Dropout(0.3), Dense(4, bias=False), GELU(), Dense(3)], (6,))
IMAGES = Network(
    [Conv2D(3, 3, padding=1), BatchNorm(), LeakyReLU(0.1), MaxPool2D(2), Dropout(0.2), Flatten(), Dense(4)],
    (5, 6, 2),
)


@pytest.mark.parametrize("loss", [SquaredError(), SoftmaxCrossEntropy(0.1)], ids=str)
@pytest.mark.parametrize("network", [DENSE, pytest.param(IMAGES, marks=pytest.mark.elsewhere)], ids=["dense", "images"])
def test_gradients_of_whole_networks(backend, network, loss):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, *network.input_shape))
    errors = check_gradients(network, loss, images, np.asarray([0, 2, 1]), backend=backend, seed=4)
    assert set(errors) == {f"layers.{i}.{name}" for i, declared in enumerate(network.parameters) for name in declared}
    assert max(errors.values()) < 1e-6, errors


def test_a_wrong_gradient_is_found():
    from xpnet.recipes import TutorialReLU

    network = Network([Dense(8), TutorialReLU(), Dense(3)], (4,))
    images = np.random.default_rng(0).normal(size=(5, 4))
    errors = check_gradients(network, SquaredError(), images, np.asarray([0, 1, 2, 0, 1]))
    assert errors["layers.0.weight"] > 1e-2
    assert errors["layers.2.weight"] < 1e-6


@pytest.mark.parametrize(
    ("takes", "refused"),
    [
        ((8, 4, 3), [(3, 8, 4), (4, 8, 3), (12, 8), (8, 4)]),
        ((8, 4), [(4, 8), (2, 16), (16, 2)]),
    ],
)
def test_images_of_another_arrangement_are_refused(takes, refused):
    network = Network([Flatten(), Dense(3)], takes)
    bound = trained(network)
    size = int(np.prod(takes))
    for shape in (takes, (*takes, 1), (1, *takes), (size,), (size, 1)):
        assert bound.logits(np.zeros((2, *shape))).shape == (2, 3)
    for shape in refused:
        with pytest.raises(ShapeError, match=r"^images of shape \(2, .*arranged as"):
            bound.logits(np.zeros((2, *shape)))
    rows = Network([Dense(3)], (size,))
    assert all(rows.takes(shape) for shape in (takes, takes[::-1], (size,)))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"network": 3}, TypeError, "^network=3: must be an instance of Network"),
        ({"loss": SquaredError}, TypeError, "^loss=<class .*: must be an instance of Loss"),
        ({"images": np.zeros((2, 4))}, ShapeError, r"^images of shape \(2, 4\)"),
        ({"images": np.full((2, 3), np.nan)}, ValueError, "^images: NaN"),
        (
            {"labels": np.asarray([0])},
            ValueError,
            r"^labels: 1 labels for 2 images",
        ),
        ({"labels": [0.0, 1.0]}, ValueError, r"^labels: shape \(2,\) of float64; must be \(n,\) of integers"),
        ({"network": Network([ReLU()], (3,))}, ValueError, "^network: no layer has parameters"),
        ({"labels": 0}, ValueError, r"^labels: shape \(\)"),
        ({"labels": np.asarray([0, 2])}, ValueError, "^labels: from 0 to 2; must be from 0 to 1"),
    ],
)
def test_gradients_of_what_does_not_fit_are_not_checked(change, error, words):
    fitting = {
        "network": Network([Dense(2)], (3,)),
        "loss": SquaredError(),
        "images": np.zeros((2, 3)),
        "labels": np.asarray([0, 1]),
    }
    with pytest.raises(error, match=words):
        check_gradients(**fitting | change)


def test_forward_equals_torch(torch):
    network = Network([Dense(7), ReLU(), Dense(5), Sigmoid(), Dense(3)], (4,))
    params, state = network.init(np.random.default_rng(0)), network.init_state()
    theirs = torch.nn.Sequential(
        torch.nn.Linear(4, 7),
        torch.nn.ReLU(),
        torch.nn.Linear(7, 5),
        torch.nn.Sigmoid(),
        torch.nn.Linear(5, 3),
    ).double()
    with torch.no_grad():
        for i in (0, 2, 4):
            theirs[i].weight.copy_(torch.tensor(params[i]["weight"].T))
            theirs[i].bias.copy_(torch.tensor(params[i]["bias"]))
    x = np.random.default_rng(1).normal(size=(6, 4))
    y, caches = network.forward(params, state, x, Context(np, training=True))
    torch.nn.functional.cross_entropy(
        theirs(torch.tensor(x)), torch.tensor([0, 1, 2, 0, 1, 2]), reduction="sum"
    ).backward()
    np.testing.assert_allclose(y, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-12)
    loss = SoftmaxCrossEntropy()
    dy = loss.gradient(y, loss.targets(np.arange(6) % 3, 3), xp=np)
    dx, gradients = network.backward(params, caches, dy, Context(np, training=True))
    assert dx is None
    for i, grads in enumerate(gradients):
        if grads:
            np.testing.assert_allclose(grads["weight"], theirs[i].weight.grad.numpy().T, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(grads["bias"], theirs[i].bias.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_summary_counts():
    assert IMAGES.output_shape == (4,)
    assert IMAGES.size == 3 * 3 * 3 * 2 + 3 + 3 + 3 + (2 * 3 * 3) * 4 + 4
    text = IMAGES.summary()
    assert "Conv2D(3, 3, padding=1)" in text
    assert text.splitlines()[-1].split() == ["total", "139"]


@pytest.mark.parametrize("network", [DENSE, IMAGES], ids=["dense", "images"])
def test_prediction_returns_the_callers_kind_of_array(backend, network):
    bound = trained(network, dtype="float64")
    images = np.random.default_rng(1).integers(0, 256, size=(7, *network.input_shape)).astype(np.uint8)
    expected = np.argmax(bound.logits(images), axis=1)
    labels = bound.predict(backend.asarray(images))
    assert xpnet.backends.backend_of(labels).library == backend.library
    np.testing.assert_array_equal(backend.to_numpy(labels), expected)
    np.testing.assert_allclose(bound.logits(images), bound.logits(images / 255.0), rtol=1e-10)
    np.testing.assert_allclose(bound.predict_proba(images).sum(axis=1), 1.0)


@pytest.mark.parametrize(
    "distort",
    [
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a.astype(">f8"),
        lambda a: a.tolist(),
    ],
    ids=["fortran", "strided", "big-endian", "list"],
)
def test_prediction_takes_any_layout(distort):
    bound = trained(DENSE, dtype="float64")
    images = np.random.default_rng(1).normal(size=(5, 6))
    images.flags.writeable = False
    np.testing.assert_array_equal(bound.predict(distort(images)), bound.predict(images))


KINDS = ["u1", "i1", "u2", ">i2", "u4", ">i4", "u8", "i8", "f2", ">f2", "f4", ">f4", "f8", ">f8", "g"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_prediction_takes_every_kind_of_number(backend, dtype):
    """NumPy's precisions, whichever of them the network's library supports."""
    with backend.session(dtype):
        bound = trained(DENSE, backend, dtype)
    here = trained(DENSE, dtype="float64")
    pixels = np.random.default_rng(1).integers(0, 128, (4, 6))
    for kind in KINDS:
        images = pixels.astype(kind) if np.dtype(kind).kind in "ui" else (pixels / 255).astype(kind)
        logits = bound.logits(images)
        assert logits.dtype == dtype
        exact = here.logits(images.astype("f8") / (255 if images.dtype.kind in "ui" else 1))
        np.testing.assert_allclose(logits, exact, rtol=1e-5, atol=1e-6, err_msg=kind)


@pytest.mark.parametrize("images", [np.empty((0, 6)), np.empty((0, 6), np.uint8), np.empty((0, 2, 3), np.float16)])
def test_prediction_of_nothing_is_nothing(backend, images):
    bound = trained(DENSE, backend)
    assert bound.predict(images).shape == (0,)
    assert bound.logits(images).shape == bound.predict_proba(images).shape == (0, 3)


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (np.zeros((2, 5)), ShapeError, r"\(2, 5\)"),
        (np.zeros(5), ShapeError, r"\(5,\)"),
        (np.zeros((2, 7)), ShapeError, r"\(2, 7\): this network takes \(n, ...\) with 6 numbers"),
        (np.float64(3.0), ShapeError, r"\(\)"),
        ([], ShapeError, r"\(0,\)"),
        (np.full((1, 6), np.nan), ValueError, "NaN"),
        (np.full((1, 6), -np.inf), ValueError, "infinity"),
        (np.full((1, 6), 1e39), ValueError, "too large for float32"),
        (np.full((1, 6), -1), ValueError, "pixels from -1 to -1; must be from 0 to pixel_max=255"),
        (np.full((1, 6), 256), ValueError, "pixels from 256 to 256"),
        (np.full((1, 6), 2**40), ValueError, "scaled already must be floats"),
        (np.zeros((1, 6), bool), TypeError, "real numbers, not bool"),
        (np.full((1, 6), None), ValueError, "6 of 6 values are missing"),
        (np.zeros((1, 6), complex), TypeError, "complex"),
        (np.full((1, 6), "a"), TypeError, "real numbers"),
    ],
)
def test_bad_images_are_refused(images, error, words):
    bound = trained(DENSE)
    with pytest.raises(error, match=words):
        bound.predict(images)


def test_weights_of_another_size_are_refused():
    params, state = DENSE.init(np.random.default_rng(0)), DENSE.init_state()
    transposed = [{name: array.T for name, array in layer.items()} for layer in params]
    unknown = [{**layer, "scale": np.ones(1)} for layer in params]
    for wrong, words in ((params[:-1], "params"), (transposed, "params"), (unknown, "params"), (params, "state")):
        states = state[:-1] if words == "state" else state
        with pytest.raises(ShapeError, match=rf"^{words} of shapes .*: the layers of this network declare"):
            TrainedNetwork(DENSE, wrong, states, xpnet.get_backend("numpy"))


@pytest.mark.parametrize("network", [DENSE, IMAGES], ids=["dense", "images"])
def test_a_trained_network_can_be_copied_and_pickled(backend, network):
    before = trained(network, backend)
    images = np.random.default_rng(1).normal(size=(3, *network.input_shape))
    for after in (copy.deepcopy(before), pickle.loads(pickle.dumps(before))):
        assert isinstance(after, TrainedNetwork)
        assert after.layers == before.layers
        assert after.backend.spec == before.backend.spec
        np.testing.assert_array_equal(after.logits(images), before.logits(images))


def test_a_network_without_weights_says_so():
    with pytest.raises(ValueError, match=r"^this network has no weights yet: train it with xpnet\.fit, or load one"):
        DENSE.predict(np.zeros((1, 6)))


@pytest.mark.parametrize(
    ("layers", "shape", "error", "words"),
    [
        ([], (4,), ValueError, "at least one layer"),
        ([Dense(3), Conv2D(2, 3)], (4,), ShapeError, "layer 1: Conv2D takes images"),
        ([Conv2D(2, 3), Dense(3)], (8, 8), ShapeError, r"layer 1: Dense\(3\) .* Flatten"),
        ([Conv2D(2, 9)], (8, 8), ShapeError, "layer 0: Conv2D .* does not fit"),
        ([ReLU], (4,), TypeError, "must be called"),
        (3, (4,), TypeError, "^layers=3: must be a list of layers"),
        (Dense(2), (4,), TypeError, r"^layers=Dense\(.*: must be a list of layers"),
        ([Dense(2)], 4, TypeError, "input_shape=4"),
        ([Dense(2)], (4.5,), TypeError, r"input_shape=\(4\.5,\): must be a tuple of integers"),
        ([Dense(2)], (0,), ShapeError, "input_shape"),
        ([Dense(2)], (2, 3, 4, 5), ShapeError, "input_shape"),
    ],
)
def test_layers_that_do_not_fit_are_refused_when_the_network_is_built(layers, shape, error, words):
    with pytest.raises(error, match=words):
        Network(layers, shape)


def test_a_description_builds_the_same_network():
    network = Network(
        [Conv2D(2, (3, 1), stride=(1, 2), init_weight=xpnet.GlorotUniform()), Flatten(), Dense(2)], (4, 6), 16.0
    )
    again = Network.from_config(network.to_config())
    assert again.layers == network.layers
    assert (again.input_shape, again.pixel_max) == ((4, 6, 1), 16.0)
    with pytest.raises(ValueError, match="'Nonsense' is not a known Layer"):
        Network.from_config({"layers": [{"class": "Nonsense"}], "input_shape": [2], "pixel_max": 1.0})


@pytest.mark.parametrize(
    ("pixel_max", "error"), [(0.0, ValueError), (-1, ValueError), (np.nan, ValueError), ("1", TypeError)]
)
def test_a_wrong_brightness_is_refused(pixel_max, error):
    with pytest.raises(error, match=f"^pixel_max={pixel_max!r}"):
        Network([Dense(2)], (3,), pixel_max)
