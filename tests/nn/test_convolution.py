"""Convolution, against naive loops, central differences and torch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet
from xpnet import AveragePool2D, Conv2D, MaxPool2D, RandomShift
from xpnet.nn.convolution import (
    LOWERINGS,
    conv2d,
    conv2d_backward,
    from_torch_weight,
    to_torch_weight,
)
from xpnet.nn.gradcheck import numerical_gradient, relative_error
from xpnet.nn.layers import Context

GEOMETRY = {
    "n": st.integers(1, 3),
    "channels": st.integers(1, 3),
    "filters": st.integers(1, 3),
    "size": st.tuples(st.integers(4, 6), st.integers(4, 7)),
    "kernel": st.tuples(st.integers(1, 3), st.integers(1, 4)),
    "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "padding": st.tuples(st.integers(0, 2), st.integers(0, 3)),
    "lowering": st.sampled_from(sorted(LOWERINGS)),
    "limit": st.sampled_from([None, 1, 70, 10**6]),
    "seed": st.integers(0, 99),
}


def naive_conv2d(x, w, b, stride, padding):
    """Convolve with plain loops."""
    x = np.pad(x, ((padding[0],) * 2, (0, 0), (padding[1],) * 2, (0, 0)))
    kh, filters, kw, _ = w.shape
    height, width = (x.shape[0] - kh) // stride[0] + 1, (x.shape[2] - kw) // stride[1] + 1
    y = np.empty((height, filters, width, x.shape[3]))
    for r, s, f, n in np.ndindex(height, width, filters, x.shape[3]):
        top, left = r * stride[0], s * stride[1]
        patch = x[top : top + kh, :, left : left + kw, n]
        y[r, f, s, n] = b[f] + np.sum(np.transpose(w[:, f], (0, 2, 1)) * patch)
    return y


@settings(max_examples=40, deadline=None)
@given(**GEOMETRY)
def test_convolution_and_its_gradient(n, channels, filters, size, kernel, stride, padding, lowering, limit, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size[0], channels, size[1], n))
    w, b = rng.normal(size=(kernel[0], filters, kernel[1], channels)), rng.normal(size=filters)
    where = {"stride": stride, "padding": padding}
    how = where | {"how": (lowering, limit)}
    y = conv2d(x, w, b, **how)
    np.testing.assert_allclose(y, naive_conv2d(x, w, b, **where), atol=1e-12)
    dy = rng.normal(size=y.shape)
    dx, dw, db = conv2d_backward(x, w, dy, **how)
    for analytic, at, function in (
        (dx, x, lambda v: conv2d(v, w, b, **how)),
        (dw, w, lambda v: conv2d(x, v, b, **how)),
        (db, b, lambda v: conv2d(x, w, v, **how)),
    ):
        numerical = numerical_gradient(lambda v, f=function: float(np.sum(f(v) * dy)), at, 1e-4)
        assert relative_error(analytic, numerical) < 1e-6


@pytest.mark.parametrize("lowering", sorted(LOWERINGS))
@pytest.mark.parametrize(
    "layer",
    [
        Conv2D(4, 3),
        Conv2D(4, (3, 5), padding="same"),
        Conv2D(2, (2, 3), stride=(2, 1), padding=(1, 0), bias=False),
        MaxPool2D(2),
        MaxPool2D(3, 2, 1),
        MaxPool2D((2, 3), (1, 2)),
        AveragePool2D(2),
        AveragePool2D(3, 2, 1),
    ],
    ids=str,
)
def test_layer_is_the_same_on_every_backend(backend, layer, lowering):
    rng = np.random.default_rng(0)
    host = np.round(2.0 * rng.normal(size=(7, 3, 6, 2)))  # rounded, so that windows have ties
    params = layer.init(rng, (7, 6, 3))
    results = []
    for opened in (xpnet.get_backend("numpy"), backend):
        ctx = Context(opened.xp, training=True, convolution=(lowering, 500))
        moved = {name: opened.asarray(value) for name, value in params.items()}
        y, cache = layer.forward(moved, opened.asarray(host), ctx)
        dy = np.cos(np.arange(float(np.prod(y.shape)))).reshape(y.shape)
        dx, grads = layer.backward(moved, cache, opened.asarray(dy), ctx)
        results.append([opened.to_numpy(a) for a in (y, dx, *grads.values())])
        height, width, channels = layer.output_shape((7, 6, 3))
        assert tuple(y.shape) == (height, channels, width, 2)
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def batch_last(x):
    return np.ascontiguousarray(np.transpose(x, (2, 1, 3, 0)))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [((9, 8), (3, 3), (1, 1), (0, 0)), ((9, 7), (5, 3), (2, 1), (1, 2)), ((8, 8), (2, 4), (3, 2), (0, 1))],
)
def test_convolution_equals_torch(size, kernel, stride, padding, torch):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(4, 3, *size)), rng.normal(size=(5, 3, *kernel)), rng.normal(size=5)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    ty = torch.nn.functional.conv2d(tx, tw, tb, stride=stride, padding=padding)
    dy = rng.normal(size=ty.shape)
    ty.backward(torch.tensor(dy))
    where = {"stride": stride, "padding": padding}
    y = conv2d(batch_last(x), from_torch_weight(w), b, **where)
    dx, dw, db = conv2d_backward(batch_last(x), from_torch_weight(w), batch_last(dy), **where)
    close = {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(y, batch_last(ty.detach().numpy()), **close)
    np.testing.assert_allclose(dx, batch_last(tx.grad.numpy()), **close)
    np.testing.assert_allclose(to_torch_weight(dw), tw.grad.numpy(), **close)
    np.testing.assert_allclose(db, tb.grad.numpy(), **close)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Conv2D(0, 3), ValueError, "^filters=0"),
        (lambda: Conv2D(1.5, 3), TypeError, r"^filters=1\.5"),
        (lambda: Conv2D(1, (3, 3, 3)), TypeError, r"^kernel_size=\(3, 3, 3\): must be an integer or a pair"),
        (lambda: Conv2D(1, True), TypeError, "^kernel_size=True"),
        (lambda: Conv2D(1, 3, stride=0), ValueError, "^stride=0"),
        (lambda: Conv2D(1, 3, padding=-1), ValueError, "^padding=-1"),
        (lambda: RandomShift(0), ValueError, "^pixels=0"),
        (lambda: RandomShift(1.0), TypeError, r"^pixels=1\.0"),
        (lambda: RandomShift(3).output_shape((3, 9, 1)), xpnet.ShapeError, "RandomShift"),
        (lambda: RandomShift(1).output_shape((9,)), xpnet.ShapeError, "RandomShift"),
        (lambda: MaxPool2D(0), ValueError, "^size=0"),
        (lambda: AveragePool2D(2, 0), ValueError, "^stride=0"),
        (lambda: Conv2D(1, 4, padding="same"), ValueError, "odd"),
        (lambda: Conv2D(1, 3).output_shape((10,)), xpnet.ShapeError, "Conv2D takes images"),
        (lambda: Conv2D(1, 5).output_shape((4, 9, 1)), xpnet.ShapeError, "does not fit"),
    ],
)
def test_bad_hyperparameters_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_defaults_are_the_documented_ones():
    assert Conv2D(2, 3) == Conv2D(2, 3, stride=1, padding=0, bias=True, init_weight=xpnet.HeUniform())
    assert MaxPool2D() == MaxPool2D(2, stride=None, padding=0)
    assert AveragePool2D() == AveragePool2D(2, stride=None, padding=0)
    assert MaxPool2D(3).geometry == ((3, 3), (3, 3), (0, 0))
    assert RandomShift() == RandomShift(2)
    assert Conv2D(2, 3).init(np.random.default_rng(0), (4, 5, 1)).keys() == {"weight", "bias"}
    assert Conv2D(2, 3, bias=False).init(np.random.default_rng(0), (4, 5, 1)).keys() == {"weight"}


def test_the_lowerings_are_those_that_backends_choose_between():
    assert sorted(LOWERINGS) == ["im2col", "row_shift"]


def test_weights_start_by_the_fans_of_a_filter():
    seen = []

    class Recorded(xpnet.Initializer):
        def __call__(self, rng, shape, fan_in, fan_out):
            seen.append((shape, fan_in, fan_out))
            return np.zeros(shape)

    Conv2D(5, (2, 3), init_weight=Recorded()).init(np.random.default_rng(0), (8, 9, 4))
    # Each output sees 2 x 3 pixels of 4 channels, each pixel is seen at 2 x 3 places by 5 filters.
    assert seen == [((2, 5, 3, 4), 2 * 3 * 4, 2 * 3 * 5)]


def test_same_keeps_the_size_under_kernels_of_any_odd_size():
    for kernel in ((5, 7), (1, 3), (9, 1)):
        assert Conv2D(2, kernel, padding="same").output_shape((11, 12, 1)) == (11, 12, 2)
