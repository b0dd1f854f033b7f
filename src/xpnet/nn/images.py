"""Output sizes, padding and dilation: helpers that the layers for images share.

Inside the network a batch of images is an array of shape ``(height, channels, width, n)``; `xpnet.nn.convolution`
explains why. A `Pair` is two integers, down and across.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import array_api_extra as xpx

from xpnet.backends import device_of
from xpnet.nn.layers import Layer, ShapeError
from xpnet.typing import Array, Namespace, Pair, Shape

MOST_NUMBERS = 1 << 26
"""The largest output of a layer for one sample: 256 MiB in float32, twenty times the largest of VGG-16."""


def check_numbers(layer: object, shape: Shape) -> Shape:
    """Check that a sample of this shape is not too large to compute with.

    Raises
    ------
    ShapeError
        Naming the layer that returns it.
    """
    if math.prod(shape) > MOST_NUMBERS:
        raise ShapeError(f"{layer}: {math.prod(shape):,} numbers a sample, {shape}, where at most {MOST_NUMBERS:,} fit")
    return shape


def output_size(shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return height and width of the output of a window that slides over images of shape (h, c, w, n)."""
    h, w = (
        (size + 2 * p - k) // s + 1 for size, k, s, p in zip((shape[0], shape[2]), kernel, stride, padding, strict=True)
    )
    return h, w


def image_output_size(layer: Layer, input_shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return `output_size` for samples of shape (height, width, channels), or raise `ShapeError`."""
    if len(input_shape) != 3:
        raise ShapeError(
            f"{type(layer).__name__} takes images of shape (height, width, channels), but gets {input_shape}"
        )
    h, w, c = input_shape
    check_numbers(layer, (h + 2 * padding[0], w + 2 * padding[1], c))
    size = output_size((h, c, w, 1), kernel, stride, padding)
    if min(size) < 1:
        raise ShapeError(
            f"{type(layer).__name__} with a window of {kernel} and padding {padding} does not fit into images "
            f"of {(h, w)}"
        )
    return size


def pad(x: Array, padding: Pair, xp: Namespace, value: float = 0.0) -> Array:
    """Put a border around images of shape (height, channels, width, n)."""
    if padding == (0, 0):
        return x
    return _framed(x, (padding[0], padding[0]), (padding[1], padding[1]), xp, value)


def unpad(x: Array, padding: Pair) -> Array:
    """Undo `pad`."""
    top, left = padding
    return x[top : x.shape[0] - top, :, left : x.shape[2] - left, :]


def pad_or_crop(x: Array, before: Sequence[int], after: Sequence[int], xp: Namespace) -> Array:
    """Add rows and columns of zeros, or remove some where a number is negative."""
    keep = [
        slice(max(-b, 0), size - max(-a, 0)) for b, a, size in zip(before, after, (x.shape[0], x.shape[2]), strict=True)
    ]
    x = x[keep[0], :, keep[1], :]
    add = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
    return x if add == [(0, 0), (0, 0)] else _framed(x, add[0], add[1], xp)


def _framed(x: Array, rows: Pair, columns: Pair, xp: Namespace, value: float = 0.0) -> Array:
    """Add a number of rows above and below, and of columns left and right.

    Filling an array with the border's value and copying the images into it takes a quarter of the time of NumPy's pad.
    """
    h, c, w, n = x.shape
    shape, kind = (h + sum(rows), c, w + sum(columns), n), {"dtype": x.dtype, "device": device_of(x)}
    border = xp.full(shape, value, **kind) if value else xp.zeros(shape, **kind)  # zeros need no kernel on a GPU
    return xpx.at(border)[rows[0] : rows[0] + h, :, columns[0] : columns[0] + w, :].set(x, xp=xp)


def spread(x: Array, stride: Pair, xp: Namespace) -> Array:
    """Dilate: put zeros between rows and columns, so that they are ``stride`` apart."""
    for axis, step in ((0, stride[0]), (2, stride[1])):
        if step > 1:
            gap = xp.zeros_like(x)
            size = x.shape[axis]
            spread = xp.stack([x, *[gap] * (step - 1)], axis=axis + 1)
            shape = (*x.shape[:axis], size * step, *x.shape[axis + 1 :])
            x = xp.reshape(spread, shape)
            last = (size - 1) * step + 1
            x = x[:last, ...] if axis == 0 else x[:, :, :last, :]
    return x
