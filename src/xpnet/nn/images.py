"""Output sizes, windows and borders, which the layers for images share, and `Flatten`, which follows them.

Inside the network a batch of images is an array of shape ``(height, channels, width, n)``; `xpnet.nn.convolution`
explains why. A `Pair` is two integers, down and across.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import array_api_extra as xpx

from xpnet.backends import device_of
from xpnet.nn.layers import Context, Layer, ShapeError
from xpnet.typing import Array, Arrays, Namespace, Pair, Shape

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
    kind = type(layer).__name__
    if len(input_shape) != 3:
        raise ShapeError(f"{kind} takes images of shape (height, width, channels), but gets {input_shape}")
    h, w, c = input_shape
    check_numbers(layer, (h + 2 * padding[0], w + 2 * padding[1], c))
    size = output_size((h, c, w, 1), kernel, stride, padding)
    if min(size) < 1:
        raise ShapeError(f"{kind} with a window of {kernel} and padding {padding} does not fit into images of {(h, w)}")
    return size


def windows(x: Array, axis: int, size: int, stride: int) -> list[Array]:
    """Return one view for each place in a window along an axis: the pixels at that place in all windows."""
    last = (x.shape[axis] - size) // stride * stride
    before = (slice(None),) * axis
    return [x[(*before, slice(i, i + last + 1, stride), ...)] for i in range(size)]


def interleave(pieces: Sequence[Array], axis: int, step: int, xp: Namespace) -> Array:
    """Undo `windows` that do not overlap: the pixels of a piece are ``step`` apart again, with zeros in any gaps."""
    if step == 1:
        return pieces[0]
    shape = list(pieces[0].shape)
    shape[axis] *= step
    gaps = [xp.zeros_like(pieces[0]) for _ in range(step - len(pieces))]
    return xp.reshape(xp.stack([*pieces, *gaps], axis=axis + 1), tuple(shape))


def frame(x: Array, size: Pair, corner: Pair, xp: Namespace, value: float = 0.0) -> Array:
    """Lay images into a frame of a height and width, with their first pixel at ``corner``, and crop what lies outside.

    Filling an array with the border's value and copying the images into it takes a quarter of the time of NumPy's pad.
    """
    (h, c, w, n), (top, left) = x.shape, corner
    x = x[max(-top, 0) : min(size[0] - top, h), :, max(-left, 0) : min(size[1] - left, w), :]
    if (x.shape[0], x.shape[2]) == size:
        return x
    shape, kind = (size[0], c, size[1], n), {"dtype": x.dtype, "device": device_of(x)}
    border = xp.full(shape, value, **kind) if value else xp.zeros(shape, **kind)  # zeros need no kernel on a GPU
    top, left = max(top, 0), max(left, 0)
    return xpx.at(border)[top : top + x.shape[0], :, left : left + x.shape[2], :].set(x, xp=xp)


def pad(x: Array, padding: Pair, xp: Namespace, value: float = 0.0) -> Array:
    """Put a border around images of shape (height, channels, width, n)."""
    size = (x.shape[0] + 2 * padding[0], x.shape[2] + 2 * padding[1])
    return frame(x, size, padding, xp, value)


def unpad(x: Array, padding: Pair) -> Array:
    """Undo `pad`."""
    top, left = padding
    return x[top : x.shape[0] - top, :, left : x.shape[2] - left, :]


@dataclass(frozen=True)
class Flatten(Layer):
    """Turn a batch of images, ``(height, channels, width, n)``, into rows of features, ``(n, features)``.

    Examples
    --------
    >>> Flatten().output_shape((4, 4, 32))
    (512,)
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the product of the dimensions."""
        return (math.prod(input_shape),)

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Merge all axes but the batch axis, and put the batch axis first."""
        if len(x.shape) == 2:
            return x, x.shape
        return ctx.xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])).T, x.shape

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Undo the merge."""
        return (dy if len(cache) == 2 else ctx.xp.reshape(dy.T, cache)), {}
