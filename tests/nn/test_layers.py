"""Layers and activations, against central differences and torch's own derivatives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet
from xpnet.nn import activations
from xpnet.nn.gradcheck import numerical_gradient, relative_error
from xpnet.nn.images import Flatten
from xpnet.nn.layers import Context, Dense, Dropout, dense, dense_backward, dropout

ACTIVATIONS = {
    "relu": (activations.relu, activations.relu_backward, "output"),
    "leaky_relu": (activations.leaky_relu, activations.leaky_relu_backward, "output"),
    "tanh": (activations.tanh, activations.tanh_backward, "output"),
    "sigmoid": (activations.sigmoid, activations.sigmoid_backward, "output"),
    "gelu": (activations.gelu, activations.gelu_backward, "input"),
}


def values(rng, *shape):
    """Numbers away from the kink at 0."""
    x = rng.normal(size=shape)
    return x + 0.1 * np.sign(x)


@pytest.mark.parametrize("name", ACTIVATIONS)
@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 5), features=st.integers(1, 7), seed=st.integers(0, 99))
def test_gradient_of_activation_is_central_difference(name, n, features, seed):
    forward, backward, kept = ACTIVATIONS[name]
    rng = np.random.default_rng(seed)
    x, dy = values(rng, n, features), rng.normal(size=(n, features))
    numerical = numerical_gradient(lambda v: float(np.sum(forward(v) * dy)), x)
    assert relative_error(backward(x if kept == "input" else forward(x), dy), numerical) < 1e-7


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_the_same_on_every_backend(backend, name):
    forward, backward, kept = ACTIVATIONS[name]
    rng = np.random.default_rng(3)
    x, dy = values(rng, 4, 3), rng.normal(size=(4, 3))
    y = forward(backend.asarray(x))
    dx = backward(backend.asarray(x) if kept == "input" else y, backend.asarray(dy))
    np.testing.assert_allclose(backend.to_numpy(y), forward(x), rtol=1e-12)
    np.testing.assert_allclose(backend.to_numpy(dx), backward(x if kept == "input" else forward(x), dy), rtol=1e-12)


def test_activations_equal_torch(torch):
    functions = {
        "relu": torch.relu,
        "leaky_relu": torch.nn.functional.leaky_relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "gelu": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    }
    rng = np.random.default_rng(1)
    host, dy = values(rng, 5, 7), rng.normal(size=(5, 7))
    for name, (forward, backward, kept) in ACTIVATIONS.items():
        x = torch.tensor(host, requires_grad=True)
        y = functions[name](x)
        y.backward(torch.tensor(dy))
        np.testing.assert_allclose(forward(host), y.detach().numpy(), rtol=1e-10, atol=1e-12)
        dx = backward(host if kept == "input" else forward(host), dy)
        np.testing.assert_allclose(dx, x.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_activations_survive_large_numbers():
    x = np.asarray([-1e4, -0.0, 1e4])
    with np.errstate(all="raise", under="ignore"):
        for forward, backward, kept in ACTIVATIONS.values():
            y = forward(x)
            assert np.isfinite(y).all()
            assert np.isfinite(backward(x if kept == "input" else y, np.ones(3))).all()
    np.testing.assert_array_equal(activations.sigmoid(x), [0.0, 0.5, 1.0])


def test_relu_backward_holds_the_gradient_of_a_zero_back():
    assert activations.relu_backward(np.zeros(2), np.ones(2)).tolist() == [0.0, 0.0]
    assert activations.leaky_relu_backward(np.zeros(2), np.ones(2), 0.25).tolist() == [0.25, 0.25]


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 4), fan_in=st.integers(1, 6), fan_out=st.integers(1, 5), seed=st.integers(0, 99))
def test_gradient_of_dense_is_central_difference(n, fan_in, fan_out, seed):
    rng = np.random.default_rng(seed)
    x, w, b = rng.normal(size=(n, fan_in)), rng.normal(size=(fan_in, fan_out)), rng.normal(size=fan_out)
    dy = rng.normal(size=(n, fan_out))
    dx, dw, db = dense_backward(x, w, dy)
    for analytic, at, function in (
        (dx, x, lambda v: dense(v, w, b)),
        (dw, w, lambda v: dense(x, v, b)),
        (db, b, lambda v: dense(x, w, v)),
    ):
        assert relative_error(analytic, numerical_gradient(lambda v, f=function: float(np.sum(f(v) * dy)), at)) < 1e-6


def test_dense_without_input_gradient(backend):
    layer = Dense(3)
    params = layer.init(np.random.default_rng(0), (5,))
    params = {name: backend.asarray(value) for name, value in params.items()}
    ctx = Context(backend.xp, training=True)
    y, cache = layer.forward(params, backend.asarray(np.ones((2, 5))), ctx)
    assert tuple(y.shape) == (2, 3)
    dx, grads = layer.backward(params, cache, y, ctx._replace(input_gradient=False))
    assert dx is None
    assert {name: tuple(g.shape) for name, g in grads.items()} == {"weight": (5, 3), "bias": (3,)}


def test_dropout_keeps_the_expected_value_and_is_its_own_backward(backend):
    layer = Dropout(0.3)
    keep = layer.noise(np.random.default_rng(0), (200,), 300)
    assert keep.dtype == np.uint8
    assert keep.shape == (300, 200)
    assert abs(keep.mean() - 0.7) < 0.01
    host = np.random.default_rng(1).uniform(1.0, 2.0, (300, 200))
    x = backend.asarray(host)
    y = backend.to_numpy(dropout(x, backend.asarray(keep), 0.3))
    np.testing.assert_allclose(y, np.where(keep == 1, host / 0.7, 0.0))
    ctx = Context(backend.xp, training=True, noise=backend.asarray(keep))
    y, cache = layer.forward({}, x, ctx)
    dx, _ = layer.backward({}, cache, x, ctx)
    np.testing.assert_array_equal(backend.to_numpy(dx), backend.to_numpy(y))


def test_dropout_in_evaluation_does_nothing(backend):
    x = backend.asarray(np.arange(6.0).reshape(2, 3))
    y, _ = Dropout(0.5).forward({}, x, Context(backend.xp, noise=backend.asarray(np.zeros((2, 3), np.uint8))))
    np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(x))


def test_dropout_drops_whole_channels_of_images(backend):
    keep = Dropout(0.5).noise(np.random.default_rng(0), (4, 5, 3), 2)
    assert keep.shape == (2, 3)
    x = backend.asarray(np.ones((4, 3, 5, 2)))
    y, _ = Dropout(0.5).forward({}, x, Context(backend.xp, training=True, noise=backend.asarray(keep)))
    expected = np.broadcast_to(2.0 * keep.T[None, :, None, :], (4, 3, 5, 2))
    np.testing.assert_array_equal(backend.to_numpy(y), expected)


def test_flatten_goes_there_and_back(backend):
    host = np.arange(2.0 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    ctx = Context(backend.xp)
    y, cache = Flatten().forward({}, backend.asarray(host), ctx)
    np.testing.assert_array_equal(backend.to_numpy(y)[2], host[:, :, :, 2].ravel())
    dx, _ = Flatten().backward({}, cache, y, ctx)
    np.testing.assert_array_equal(backend.to_numpy(dx), host)


@pytest.mark.parametrize(
    ("init", "bound"),
    [
        (xpnet.Uniform(0.3), 0.3),
        (xpnet.GlorotUniform(), np.sqrt(6 / 300)),
        (xpnet.HeUniform(), np.sqrt(6 / 100)),
    ],
)
def test_initialisers_are_uniform_within_their_bound(init, bound):
    drawn = init(np.random.default_rng(0), (100, 200), 100, 200)
    assert np.abs(drawn).max() <= bound
    assert abs(drawn.var() / (bound**2 / 3.0) - 1.0) < 0.02
    assert abs(drawn.mean()) < 0.01 * bound * 2


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Dense(0), ValueError, r"^units=0: must be at least 1"),
        (lambda: Dense(2.5), TypeError, r"^units=2\.5: must be an integer, not float"),
        (lambda: Dense(True), TypeError, "^units=True: must be an integer, not bool"),
        (lambda: Dense("3"), TypeError, "^units='3': must be an integer, not str"),
        (lambda: Dense(2, init_weight="he"), TypeError, "^init_weight='he': must be an instance of Initializer"),
        (
            lambda: Dense(2, init_weight=xpnet.HeUniform),
            TypeError,
            r"^init_weight=<class .*: must be .*HeUniform\(\)",
        ),
        (lambda: xpnet.Conv2D(2, 3, init_weight=None), TypeError, "^init_weight=None: must be an instance"),
        (lambda: Dropout(1.0), ValueError, r"^rate=1\.0"),
        (lambda: Dropout(-0.1), ValueError, r"^rate=-0\.1"),
        (lambda: Dropout(float("nan")), ValueError, "^rate=nan"),
        (lambda: Dropout("half"), TypeError, "^rate='half': must be a number, not str"),
        (lambda: Dropout(None), TypeError, "^rate=None: must be a number"),
        (lambda: Dropout(False), TypeError, "^rate=False: must be a number, not bool"),
        (lambda: xpnet.LeakyReLU(2.0), ValueError, r"^slope=2\.0"),
        (lambda: xpnet.LeakyReLU(-0.1), ValueError, r"^slope=-0\.1"),
        (lambda: xpnet.LeakyReLU("a"), TypeError, "^slope='a': must be a number"),
        (lambda: xpnet.Uniform(0.0), ValueError, r"^bound=0\.0"),
        (lambda: xpnet.Uniform(-1), ValueError, "^bound=-1"),
        (lambda: xpnet.Uniform(float("inf")), ValueError, "^bound=inf"),
        (lambda: xpnet.Uniform("a"), TypeError, "^bound='a': must be a number"),
        (lambda: Dense(3).output_shape((8, 8, 1)), xpnet.ShapeError, "Flatten"),
        (lambda: Dense(3).output_shape((8, 8)), xpnet.ShapeError, "Flatten"),
    ],
)
def test_bad_hyperparameters_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_hyperparameters_at_their_bounds_are_accepted():
    assert Dense(1).output_shape((3,)) == (1,)
    assert Dense(np.int64(2)).output_shape((3,)) == (2,)
    assert Dropout(0.0).noise(np.random.default_rng(0), (1000,), 1000).all()
    assert (xpnet.LeakyReLU(0.0).slope, xpnet.LeakyReLU(1.0).slope) == (0.0, 1.0)
    assert Dropout(np.float32(0.5)).rate == 0.5


def test_hyperparameters_at_their_defaults_are_the_documented_ones():
    assert Dense(3) == Dense(3, bias=True, init_weight=xpnet.HeUniform())
    assert Dropout() == Dropout(0.5)
    assert xpnet.LeakyReLU() == xpnet.LeakyReLU(0.01)
    assert xpnet.Uniform() == xpnet.Uniform(0.1)


def test_biases_start_at_zero_and_may_be_left_out():
    params = Dense(3).init(np.random.default_rng(0), (4,))
    assert params.keys() == {"weight", "bias"}
    assert params["bias"].tolist() == [0.0, 0.0, 0.0]
    assert Dense(3, bias=False).init(np.random.default_rng(0), (4,)).keys() == {"weight"}
    assert Dense(3).statistics((4,)) == {}


def test_leaky_relu_takes_another_slope(backend):
    layer, ctx = xpnet.LeakyReLU(0.25), Context(backend.xp)
    y, cache = layer.forward({}, backend.asarray(np.asarray([[-4.0, 8.0]])), ctx)
    dx, _ = layer.backward({}, cache, backend.asarray(np.asarray([[2.0, 3.0]])), ctx)
    assert backend.to_numpy(y).tolist() == [[-1.0, 8.0]]
    assert backend.to_numpy(dx).tolist() == [[0.5, 3.0]]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_layers_are_their_functions(name):
    forward, backward, kept = ACTIVATIONS[name]
    layer = {
        layer.__name__.lower(): layer for layer in (xpnet.ReLU, xpnet.LeakyReLU, xpnet.Tanh, xpnet.Sigmoid, xpnet.GELU)
    }
    x, dy = values(np.random.default_rng(0), 3, 4), values(np.random.default_rng(1), 3, 4)
    part = layer[name.replace("_", "")]()
    y, cache = part.forward({}, x, Context(np))
    dx, gradients = part.backward({}, cache, dy, Context(np))
    np.testing.assert_array_equal(y, forward(x))
    np.testing.assert_array_equal(dx, backward(x if kept == "input" else y, dy))
    assert gradients == {}
    assert part.output_shape((3, 4, 2)) == (3, 4, 2)


def test_the_dense_layer_adds_its_bias(backend):
    weight, bias = np.asarray([[1.0, 2.0], [3.0, 4.0]]), np.asarray([10.0, 20.0])
    params = {"weight": backend.asarray(weight), "bias": backend.asarray(bias)}
    y, _ = Dense(2).forward(params, backend.asarray(np.asarray([[1.0, 1.0]])), Context(backend.xp))
    assert backend.to_numpy(y).tolist() == [[14.0, 26.0]]


def test_flatten_leaves_rows_as_they_are():
    x = np.arange(12.0).reshape(3, 4)
    y, cache = Flatten().forward({}, x, Context(np))
    dx, _ = Flatten().backward({}, cache, x, Context(np))
    assert y.tolist() == dx.tolist() == x.tolist()
