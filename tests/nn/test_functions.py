"""Properties of all public functions: shapes, dtypes, devices, layouts, and no changes in place."""

import dataclasses

import array_api_compat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet
from xpnet.data import one_hot, scale
from xpnet.nn import activations as act
from xpnet.nn import augmentation, layers, losses, pooling
from xpnet.nn import convolution as conv
from xpnet.nn import normalization as norm
from xpnet.nn.layers import Context


def dense_cases(n, f, k):
    """Return (function, shapes of the arrays, further arguments, shapes of the results) for rows of features."""
    rows, logits, square = (n, f), (n, k), (f, k)
    for name in ("relu", "leaky_relu", "tanh", "sigmoid", "gelu"):
        yield getattr(act, name), [rows], {}, [rows]
        yield getattr(act, f"{name}_backward"), [rows, rows], {}, [rows]
    yield layers.dense, [rows, square], {}, [logits]
    yield layers.dense, [rows, square, (k,)], {}, [logits]
    yield layers.dense_backward, [rows, square, logits], {}, [rows, square, (k,)]
    yield layers.dense_backward, [rows, square, logits], {"input_gradient": False}, [None, square, (k,)]
    yield layers.dropout, [rows, rows], {"rate": 0.25}, [rows]
    yield losses.softmax, [logits], {}, [logits]
    yield losses.softmax_cross_entropy, [logits, logits], {}, [()]
    yield losses.softmax_cross_entropy_backward, [logits, logits], {}, [logits]
    yield losses.squared_error, [logits, logits], {}, [()]
    yield losses.squared_error_backward, [logits, logits], {}, [logits]
    if n:  # the mean of no samples is undefined
        yield norm_forward, [rows, (f,), (f,)], {}, [rows, (f,), (f,)]
        yield norm_backward, [rows, (f,), (f,), rows], {}, [rows, (f,), (f,)]
    yield normalize, [rows, (f,), (f,), (f,)], {}, [rows]
    yield normalize_backward, [rows, (f,), (f,), (f,), rows], {}, [rows, (f,), (f,)]


def image_cases(n, c, k, h, w):
    """The same for images."""
    images, filters = (h, c, w, n), (2, k, 3, c)
    out = (h - 1, k, w - 2, n)
    far = ((h + 2 - 2) // 2 + 1, k, w, n)
    half = (h // 2, c, w // 2, n)
    apart = {"stride": (2, 1), "padding": (1, 1)}
    windows = {"size": (2, 2), "stride": (2, 2)}
    yield conv.conv2d, [images, filters], {}, [out]
    yield conv.conv2d, [images, filters, (k,)], apart, [far]
    yield conv.conv2d_backward, [images, filters, out], {}, [images, filters, (k,)]
    yield conv.conv2d_backward, [images, filters, far], apart, [images, filters, (k,)]
    yield conv.conv2d_backward, [images, filters, out], {"input_gradient": False}, [None, filters, (k,)]
    yield pooling.max_pool2d, [images], windows, [half]
    yield pooling.max_pool2d_backward, [images, half, half], windows, [images]
    yield pooling.average_pool2d, [images], windows, [half]
    yield average_pool_backward(images), [half], windows, [images]
    if n:
        yield norm_forward, [images, (c,), (c,)], {}, [images, (c,), (c,)]
        yield norm_backward, [images, (c,), (c,), images], {}, [images, (c,), (c,)]
    yield normalize, [images, (c,), (c,), (c,)], {}, [images]
    yield shift(n), [images], {}, [images]


def norm_forward(x, gamma, beta):
    y, _, statistics = norm.batch_norm(x, gamma, beta)
    return y, statistics.mean, statistics.variance


def norm_backward(x, gamma, beta, dy):
    return norm.batch_norm_backward(norm.batch_norm(x, gamma, beta)[1], dy)


def normalize(x, gamma, beta, mean):
    return norm.normalize(x, gamma, beta, mean, gamma * gamma)[0]


def normalize_backward(x, gamma, beta, mean, dy):
    return norm.normalize_backward(norm.normalize(x, gamma, beta, mean, gamma * gamma)[1], dy)


def average_pool_backward(shape):
    def average_pool2d_backward(dy, size, stride):
        return pooling.average_pool2d_backward(shape, dy, size, stride)

    return average_pool2d_backward


def shift(n):
    def shift_images(x):
        xp, device = array_api_compat.array_namespace(x), array_api_compat.device(x)
        shifts = xp.reshape(xp.arange(2 * n, dtype=xp.int32, device=device), (n, 2)) % 5 - 2
        return augmentation.shift_images(x, shifts)

    return shift_images


def drawn(shape, dtype, seed):
    """Draw numbers away from 0 and from each other, so that rounding reaches no kink or tie."""
    x = np.random.default_rng(seed).permutation(int(np.prod(shape)) + 1)[1:].reshape(shape) + 0.5
    return (x / (x.size + 1.0)).astype(dtype)


def results_of(function, arrays, arguments):
    results = function(*arrays, **arguments)
    return list(results) if isinstance(results, tuple) else [results]


def name_of(case):
    return f"{case[0].__name__}{case[1]}{case[2]}"


def check(case, dtype, move, to_numpy):
    """Call a function, check the common properties, and return its results on the host."""
    function, shapes, arguments, expected = case
    hosts = [drawn(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    arrays = [move(host) for host in hosts]
    results = results_of(function, arrays, arguments)
    assert [None if r is None else tuple(r.shape) for r in results] == expected, name_of(case)
    for result in results:
        if result is not None:
            assert str(result.dtype).rpartition(".")[2] == dtype, name_of(case)
            assert array_api_compat.device(result) == array_api_compat.device(arrays[0]), name_of(case)
            assert np.isfinite(to_numpy(result)).all(), name_of(case)
    for host, array in zip(hosts, arrays, strict=True):
        np.testing.assert_array_equal(to_numpy(array), host, err_msg=f"{name_of(case)} changes what it is given")
    return [None if r is None else to_numpy(r) for r in results]


@pytest.mark.parametrize(
    ("n", "dtype"),
    [
        pytest.param(0, "float64", marks=pytest.mark.elsewhere),
        pytest.param(1, "float64", marks=pytest.mark.elsewhere),
        (3, "float32"),
    ],
)
def test_shapes_dtypes_and_devices(backend, dtype, n):
    for case in [*dense_cases(n, 4, 5), *image_cases(n, 2, 3, 5, 6)]:
        ours = check(case, dtype, backend.asarray, backend.to_numpy)
        theirs = check(case, dtype, np.array, np.asarray)
        for a, b in zip(ours, theirs, strict=True):
            if b is not None:
                rtol = 1e-4 if dtype == "float32" else 1e-10
                np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol / 10, err_msg=name_of(case))


@pytest.mark.parametrize("n", [0, 2])
def test_both_ways_to_convolve_keep_to_it(n):
    for lowering in conv.LOWERINGS:
        for function, arguments, options, results in image_cases(n, 2, 3, 5, 6):
            if function in (conv.conv2d, conv.conv2d_backward):
                case = function, arguments, options | {"how": (lowering, 7)}, results
                check(case, "float64", np.array, np.asarray)


def read_only(host):
    array = host.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "read-only": read_only,
    "Fortran": np.asfortranarray,
    "backwards": lambda host: host[tuple(slice(None, None, -1) for _ in host.shape)].copy()[
        tuple(slice(None, None, -1) for _ in host.shape)
    ],
    "strided": lambda host: np.repeat(host, 2, axis=0)[::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=10, deadline=None)
@given(sizes=st.tuples(st.integers(0, 3), *[st.integers(1, 4)] * 2, *[st.integers(3, 6)] * 2))
def test_the_layout_of_an_array_changes_nothing(layout, sizes):
    for case in [*dense_cases(*sizes[:3]), *image_cases(*sizes)]:
        plain = check(case, "float64", np.array, np.asarray)
        other = check(case, "float64", LAYOUTS[layout], np.asarray)
        for a, b in zip(plain, other, strict=True):
            if a is not None:
                # Only the order of summation differs.
                np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-13, err_msg=name_of(case))


# Layers -------------------------------------------------------------------------------------------------------------

LAYERS = [
    (xpnet.Dense(3), (4,)),
    (xpnet.Dense(3, bias=False), (4,)),
    (xpnet.ReLU(), (4,)),
    (xpnet.LeakyReLU(0.2), (4,)),
    (xpnet.Tanh(), (4,)),
    (xpnet.Sigmoid(), (4,)),
    (xpnet.GELU(), (4,)),
    (xpnet.Dropout(0.25), (4,)),
    (xpnet.Dropout(0.25), (5, 6, 2)),
    (xpnet.Flatten(), (5, 6, 2)),
    (xpnet.Flatten(), (4,)),
    (xpnet.BatchNorm(), (4,)),
    (xpnet.BatchNorm(), (5, 6, 2)),
    (xpnet.Conv2D(3, (1, 3), padding="same"), (5, 6, 2)),
    (xpnet.Conv2D(3, 3, stride=2, bias=False), (5, 6, 2)),
    (xpnet.MaxPool2D(2), (5, 6, 2)),
    (xpnet.MaxPool2D(3, 2, 1), (5, 6, 2)),
    (xpnet.AveragePool2D(2), (5, 6, 2)),
    (xpnet.RandomShift(1), (5, 6, 2)),
    (layers.Layer(), (4,)),
]


def batch_shape(sample, n):
    return (n, *sample) if len(sample) == 1 else (sample[0], sample[2], sample[1], n)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("layer", "sample"), LAYERS, ids=str)
def test_layers_keep_their_promises(backend, layer, sample, training):
    """Shapes are as declared, gradients have the shapes of their arrays, and input and state do not change."""
    n, rng = 3, np.random.default_rng(0)
    host = layer.init(rng, sample), layers.draw(layer.statistics(sample), rng)
    params, state = ({k: backend.asarray(v) for k, v in d.items()} for d in host)
    assert {k: v.shape for k, v in host[0].items()} == {k: v.shape for k, v in layer.parameters(sample).items()}
    noise = layer.noise(rng, sample, n)
    assert noise is None or (len(noise) == n and noise.dtype.kind in "ui")
    noise = None if noise is None else backend.asarray(noise)
    ctx = Context(backend.xp, training, noise=noise, state=state)
    host = drawn(batch_shape(sample, n), "float64", 1)
    x = backend.asarray(host)
    y, cache = layer.forward(params, x, ctx)
    assert tuple(y.shape) == batch_shape(layer.output_shape(sample), n)
    before = backend.to_numpy(y)
    dx, gradients = layer.backward(params, cache, backend.asarray(np.ones(before.shape)), ctx)
    assert tuple(dx.shape) == tuple(x.shape)
    assert {k: tuple(v.shape) for k, v in gradients.items()} == {k: tuple(v.shape) for k, v in params.items()}
    for array in (y, dx, *gradients.values()):
        assert array_api_compat.device(array) == array_api_compat.device(x)
        assert array.dtype == x.dtype
    np.testing.assert_array_equal(backend.to_numpy(x), host)
    np.testing.assert_array_equal(backend.to_numpy(y), before)
    dy = backend.asarray(np.ones(before.shape))
    skipped, same = layer.backward(params, cache, dy, ctx._replace(input_gradient=False))
    assert skipped is None if isinstance(layer, xpnet.Dense | xpnet.Conv2D) else tuple(skipped.shape) == tuple(x.shape)
    assert same.keys() == gradients.keys()
    for name in same:
        np.testing.assert_array_equal(backend.to_numpy(same[name]), backend.to_numpy(gradients[name]))
    after = layer.next_state(state, cache, ctx) if training else state
    assert {k: tuple(v.shape) for k, v in after.items()} == {k: tuple(v.shape) for k, v in state.items()}
    assert layer.minimum_batch(sample) <= 2


@pytest.mark.parametrize(("layer", "sample"), LAYERS, ids=str)
def test_layers_take_a_batch_of_one(backend, layer, sample):
    """This holds in training too, except for batch normalization of features, which raises an error."""
    rng = np.random.default_rng(0)
    host = layer.init(rng, sample), layers.draw(layer.statistics(sample), rng)
    params, state = ({k: backend.asarray(v) for k, v in d.items()} for d in host)
    training = layer.minimum_batch(sample) == 1
    assert training or isinstance(layer, xpnet.BatchNorm)
    noise = layer.noise(rng, sample, 1)
    noise = None if noise is None else backend.asarray(noise)
    x = backend.asarray(drawn(batch_shape(sample, 1), "float64", 1))
    y, _ = layer.forward(params, x, Context(backend.xp, training, noise=noise, state=state))
    assert tuple(y.shape) == batch_shape(layer.output_shape(sample), 1)
    assert np.isfinite(backend.to_numpy(y)).all()


PARTS = [
    *[layer for layer, _ in LAYERS],
    *[xpnet.Uniform(), xpnet.GlorotUniform(), xpnet.HeUniform()],
    *[xpnet.SquaredError(), xpnet.SoftmaxCrossEntropy()],
    *[xpnet.SGD(0.1), xpnet.RMSprop(), xpnet.Adam(), xpnet.AdamW()],
    *[xpnet.Schedule(), xpnet.StepDecay(), xpnet.Cosine(3), xpnet.WarmUp()],
]


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_parts_hold_hyperparameters_and_nothing_can_be_hung_on_them(part):
    for name in (*(field.name for field in dataclasses.fields(part)), "weight"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, 1)
    assert hash(part) == hash(dataclasses.replace(part))
    assert part == dataclasses.replace(part)


# Data ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_preprocessing_stays_on_the_device(backend, dtype):
    pixels = backend.asarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for result, shape in (
        (scale(pixels, 5.0, dtype), (2, 3)),
        (one_hot(backend.asarray(np.asarray([2, 0], np.int32)), 4, dtype), (2, 4)),
        (one_hot(backend.asarray(np.zeros(0, np.int32)), 4, dtype), (0, 4)),
        (scale(pixels[:0, :], 5.0, dtype), (0, 3)),
    ):
        assert tuple(result.shape) == shape
        assert str(result.dtype).rpartition(".")[2] == dtype
        assert array_api_compat.device(result) == array_api_compat.device(pixels)
