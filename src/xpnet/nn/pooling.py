"""Pooling: each window of pixels becomes one, their maximum or their mean.

Pooling one axis after the other gives the same result with less work: the maximum of a window is the maximum of its
rows' maxima, and its mean is the mean of its rows' means. Images have the shape ``(height, channels, width, n)``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from xpnet.backends import elementwise
from xpnet.nn.images import frame, image_output_size, interleave, pad, unpad, windows
from xpnet.nn.layers import Context, Layer
from xpnet.parts import Padding, PairOfSizes, as_pair
from xpnet.typing import Array, Arrays, Namespace, Pair, Shape


def max_pool2d(x: Array, size: Pair, stride: Pair, *, xp: Namespace = None) -> Array:
    """Take the largest pixel of each window.

    Parameters
    ----------
    x : array, shape (height, channels, width, n)
        The images. Pixels at the far ends that do not fill a window are ignored.
    size, stride : pair of int
        The size of a window, and the distance from one to the next, down and across.
    xp : module, optional
        The array namespace; by default that of ``x``.

    Returns
    -------
    array, shape (height', channels, width', n)

    Examples
    --------
    >>> import numpy as np
    >>> image = np.asarray([[1.0, 2.0, 5.0, 0.0], [3.0, 4.0, 6.0, 7.0]])
    >>> max_pool2d(image[:, None, :, None], (2, 2), (2, 2))[:, 0, :, 0]
    array([[4., 7.]])
    """
    xp = xp or array_namespace(x)
    return _max(windows(_max(windows(x, 0, size[0], stride[0]), xp), 2, size[1], stride[1]), xp)


def max_pool2d_backward(x: Array, y: Array, dy: Array, size: Pair, stride: Pair, *, xp: Namespace = None) -> Array:
    """Pass a gradient back through `max_pool2d`: to the largest pixel of each window, or to the first of equals.

    Parameters
    ----------
    x, y : array
        The input and the output of `max_pool2d`.
    dy : array, the shape of ``y``
        The gradient of the output.
    size, stride : pair of int
        As for `max_pool2d`.
    xp : module, optional
        The array namespace; by default that of ``dy``.

    Returns
    -------
    array, the shape of ``x``

    Examples
    --------
    >>> import numpy as np
    >>> x = np.asarray([[1.0, 4.0], [4.0, 2.0]])[:, None, :, None]  # A tie: the first one gets all.
    >>> y = max_pool2d(x, (2, 2), (2, 2))
    >>> max_pool2d_backward(x, y, np.full_like(y, 10.0), (2, 2), (2, 2))[:, 0, :, 0]
    array([[ 0., 10.],
           [ 0.,  0.]])
    """
    xp = xp or array_namespace(dy)
    # The gradient goes first to the row with the largest pixel, and from there to the pixel itself.
    columns = windows(x, 2, size[1], stride[1])
    largest = _max(columns, xp)
    rows = _max_backward(windows(largest, 0, size[0], stride[0]), y, dy, xp)
    dlargest = _fold(rows, largest.shape, 0, stride[0], xp)
    return _fold(_max_backward(columns, largest, dlargest, xp), x.shape, 2, stride[1], xp)


def _max(pieces: Sequence[Array], xp: Namespace) -> Array:
    return functools.reduce(xp.maximum, pieces)


def _max_backward(pieces: Sequence[Array], y: Array, dy: Array, xp: Namespace) -> list[Array]:
    """Return the gradient of each piece that `_max` compared."""
    gradients = []
    for piece in pieces[:-1]:
        taken, dy = _share(piece, y, dy, xp=xp)
        gradients.append(taken)
    return [*gradients, dy]


@elementwise
def _share(piece: Array, y: Array, dy: Array, *, xp: Namespace) -> tuple[Array, Array]:
    """Return the gradient of a piece where it is the largest, and the rest for later pieces: ties count once."""
    taken = xp.astype(piece >= y, dy.dtype)
    taken *= dy
    return taken, dy - taken


def average_pool2d(x: Array, size: Pair, stride: Pair, *, xp: Namespace = None) -> Array:
    """Take the mean of each window; shapes are those of `max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.asarray([[1.0, 2.0], [3.0, 6.0]])
    >>> average_pool2d(image[:, None, :, None], (2, 2), (2, 2))[:, 0, :, 0]
    array([[3.]])
    """
    return _mean(windows(_mean(windows(x, 2, size[1], stride[1])), 0, size[0], stride[0]))


def average_pool2d_backward(shape: Shape, dy: Array, size: Pair, stride: Pair, *, xp: Namespace = None) -> Array:
    """Pass a gradient back through `average_pool2d`: an equal share to every pixel of the window.

    Examples
    --------
    >>> import numpy as np
    >>> dy = np.full((1, 1, 1, 1), 8.0)
    >>> average_pool2d_backward((2, 1, 2, 1), dy, (2, 2), (2, 2))[:, 0, :, 0]
    array([[2., 2.],
           [2., 2.]])
    """
    xp = xp or array_namespace(dy)
    h, c, _, n = shape
    rows = _fold([dy * (1.0 / size[0])] * size[0], (h, c, dy.shape[2], n), 0, stride[0], xp)
    return _fold([rows * (1.0 / size[1])] * size[1], shape, 2, stride[1], xp)


def _mean(pieces: Sequence[Array]) -> Array:
    y = pieces[0] * (1.0 / len(pieces))
    for piece in pieces[1:]:
        y += piece * (1.0 / len(pieces))
    return y


def _fold(pieces: Sequence[Array], shape: Shape, axis: int, stride: int, xp: Namespace) -> Array:
    """Undo `windows`: put the pieces back in their places, and add them up where windows overlap."""
    total = None
    for start in range(0, len(pieces), stride):
        together = interleave(pieces[start : start + stride], axis, stride, xp)
        placed = frame(together, (shape[0], shape[2]), (start, 0) if axis == 0 else (0, start), xp)
        total = placed if total is None else total + placed
    return total


@dataclass(frozen=True)
class _Pool(Layer):
    """The base of the pooling layers."""

    size: PairOfSizes = 2
    stride: PairOfSizes | None = None
    padding: Padding = 0

    def __post_init__(self) -> None:
        """Check that no window lies in the padding alone."""
        super().__post_init__()
        size, _, padding = self.geometry
        if any(2 * p > s for p, s in zip(padding, size, strict=True)):
            raise ValueError(f"padding={self.padding!r}: must be at most half of size={self.size!r}")

    @property
    def geometry(self) -> tuple[Pair, Pair, Pair]:
        """Size, stride and padding, as pairs."""
        return as_pair(self.size), as_pair(self.stride or self.size), as_pair(self.padding)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(height, width, channels)``."""
        return (*image_output_size(self, input_shape, *self.geometry), input_shape[2])


@dataclass(frozen=True)
class MaxPool2D(_Pool):
    """The layer of `max_pool2d`.

    Parameters
    ----------
    size : int or pair of int
        The size of the window.
    stride : int or pair of int, optional
        The distance from one window to the next; by default the size.
    padding : int or pair of int
        The border around the image, at most half the size; a padded pixel is never the largest.

    Examples
    --------
    >>> MaxPool2D(2).output_shape((28, 28, 8)), MaxPool2D(3, stride=2, padding=1).output_shape((28, 28, 8))
    ((14, 14, 8), (14, 14, 8))
    """

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply `max_pool2d`."""
        size, stride, padding = self.geometry
        padded = pad(x, padding, ctx.xp, value=float(ctx.xp.finfo(x.dtype).min))
        y = max_pool2d(padded, size, stride, xp=ctx.xp)
        return y, (padded, y)

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Apply `max_pool2d_backward`."""
        size, stride, padding = self.geometry
        padded, y = cache
        dx = max_pool2d_backward(padded, y, dy, size, stride, xp=ctx.xp)
        return unpad(dx, padding), {}


@dataclass(frozen=True)
class AveragePool2D(_Pool):
    """The layer of `average_pool2d`.

    Parameters
    ----------
    size : int or pair of int
        The size of the window.
    stride : int or pair of int, optional
        The distance from one window to the next; by default the size.
    padding : int or pair of int
        The number of zeros around the image, at most half the size; they count in the mean.

    Examples
    --------
    >>> AveragePool2D(7).output_shape((7, 7, 32))
    (1, 1, 32)
    """

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply `average_pool2d`."""
        size, stride, padding = self.geometry
        padded = pad(x, padding, ctx.xp)
        return average_pool2d(padded, size, stride, xp=ctx.xp), padded.shape

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Apply `average_pool2d_backward`."""
        size, stride, padding = self.geometry
        return unpad(average_pool2d_backward(cache, dy, size, stride, xp=ctx.xp), padding), {}
