"""Automatic differentiation through the forward pass agrees with the hand-written gradients.

JAX and torch differentiate the forward pass without using `backward`, an independent check of every layer,
loss and recipe. It also keeps forward functions differentiable: torch refuses one that overwrites an array it needs.
"""

import numpy as np
import pytest

import xpnet
from runs import elsewhere_but
from xpnet import (
    GELU,
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool2D,
    Network,
    RandomShift,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
    SquaredError,
    Tanh,
)
from xpnet.nn.trained import context, to_device, to_host
from xpnet.recipes import RECIPES, TutorialDropout

LAYERS = [
    Dense(4),
    Dense(4, bias=False),
    ReLU(),
    LeakyReLU(0.2),
    Tanh(),
    Sigmoid(),
    GELU(),
    BatchNorm(),
    Dropout(0.4),
]
IMAGE_LAYERS = [
    Conv2D(3, (3, 2), stride=(2, 1), padding=(1, 0)),
    Conv2D(3, 3, padding="same", bias=False),
    MaxPool2D(2),
    MaxPool2D(3, stride=2, padding=1),
    AveragePool2D((2, 3), padding=1),
    BatchNorm(),
    Dropout(0.4),
    RandomShift(1),
]


def automatic(backend, function, params):
    """Differentiate a function of parameters with the library's autograd."""
    library = backend.spec.partition(":")[0]
    if library == "jax":
        jax = pytest.importorskip("jax")
        return jax.jit(jax.grad(function))(params)  # in one piece, which takes half the time
    if library == "torch":
        given = [{name: array.clone().requires_grad_(True) for name, array in layer.items()} for layer in params]
        with pytest.importorskip("torch").enable_grad():  # which a session has switched off
            function(given).backward()
        return [{name: array.grad for name, array in layer.items()} for layer in given]
    pytest.skip(f"{library} has no automatic differentiation")


def both_ways(backend, net, loss, *, training, n=5):
    """Return the gradients of a random batch by hand and by the library, on the host."""
    rng = np.random.default_rng(3)
    params = net.init(rng)
    for layer in params:  # Biases start at 0, where a mistake would not show.
        for name, array in layer.items():
            layer[name] = array + 0.1 * rng.normal(size=array.shape)
    params, state = (to_device(layers, backend, "float64") for layers in (params, net.init_state()))
    noise = [None if drawn is None else backend.asarray(drawn) for drawn in net.noise(rng, n)]
    ctx = context(backend, training=training)
    (classes,) = net.output_shape
    x = net.prepare(backend.asarray(rng.normal(size=(n, *net.input_shape)), "float64"), "float64", backend.xp)
    targets = backend.asarray(loss.targets(rng.integers(0, classes, n), classes), "float64")

    def value(params):
        return loss.value(net.forward(params, state, x, ctx, noise)[0], targets, xp=backend.xp)

    theirs = automatic(backend, value, params)
    y, caches = net.forward(params, state, x, ctx, noise)
    _, ours = net.backward(params, caches, loss.gradient(y, targets, xp=backend.xp), ctx)
    return to_host(ours, backend), to_host(theirs, backend)


def assert_alike(ours, theirs):
    assert any(np.abs(array).max() > 1e-3 for layer in ours for array in layer.values())
    largest = max(np.abs(array).max() for layer in ours for array in layer.values())
    for our, their in zip(ours, theirs, strict=True):
        assert our.keys() == their.keys()
        for name in our:
            np.testing.assert_allclose(our[name], their[name], rtol=0, atol=1e-13 * max(largest, 1.0))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_layers_agree(backend, layer, training):
    net = Network([Dense(6), layer, Dense(3)], input_shape=(4,))
    assert_alike(*both_ways(backend, net, SoftmaxCrossEntropy(), training=training))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("layer", IMAGE_LAYERS, ids=str)
def test_layers_for_images_agree(backend, layer, training):
    net = Network([Conv2D(2, 2), layer, Flatten(), Dense(3)], input_shape=(8, 7, 2))
    assert_alike(*both_ways(backend, net, SoftmaxCrossEntropy(), training=training))


@pytest.mark.parametrize("loss", [SquaredError(), SoftmaxCrossEntropy(), SoftmaxCrossEntropy(0.1)], ids=str)
def test_losses_agree(backend, loss):
    net = Network([Dense(5), Tanh(), Dense(4)], input_shape=(3,))
    assert_alike(*both_ways(backend, net, loss, training=True))


@pytest.mark.parametrize("recipe", elsewhere_but([name for name in RECIPES if name != "tutorial"], "mlp", "best"))
def test_recipes_agree(backend, recipe, digits):
    plan = RECIPES[recipe].build(digits)
    assert_alike(*both_ways(backend, plan.network, plan.loss, training=True))


def test_the_tutorials_slips_show(backend, digits):
    plan = RECIPES["tutorial"].build(digits)
    ours, theirs = both_ways(backend, plan.network, plan.loss, training=True)
    last, first = len(ours) - 1, 0
    np.testing.assert_allclose(ours[last]["weight"], theirs[last]["weight"], rtol=0, atol=1e-12)
    assert np.abs(ours[first]["weight"] - theirs[first]["weight"]).max() > 0.1


def test_the_tutorials_dropout_goes_backward_outside_training_too():
    layer = TutorialDropout()
    ctx = xpnet.Context(np)
    y, cache = layer.forward({}, np.asarray([[1.0, -2.0]]), ctx)
    dx, gradients = layer.backward({}, cache, np.asarray([[3.0, 4.0]]), ctx)
    assert (y.tolist(), dx.tolist(), gradients) == ([[1.0, -2.0]], [[3.0, 4.0]], {})


def test_where_a_unit_is_exactly_zero_the_libraries_take_half(backend):
    """The only real difference: `maximum` has no derivative at a tie; theirs is 1/2, xpnet's is 0."""
    net = Network([Dense(2), ReLU(), Dense(1, bias=False)], input_shape=(2,))
    xp = backend.xp
    params = [{"weight": np.eye(2), "bias": np.zeros(2)}, {}, {"weight": np.ones((2, 1))}]
    params = to_device(params, backend, "float64")
    x = backend.asarray(np.asarray([[0.0, 1.0]]), "float64")
    theirs = automatic(backend, lambda p: xp.sum(net.forward(p, [{}] * 3, x, context(backend))[0]), params)
    _, caches = net.forward(params, [{}] * 3, x, context(backend))
    _, ours = net.backward(params, caches, xp.ones((1, 1), dtype=xp.float64), context(backend))
    assert backend.to_numpy(theirs[0]["bias"]).tolist() == [0.5, 1.0]
    assert backend.to_numpy(ours[0]["bias"]).tolist() == [0.0, 1.0]
