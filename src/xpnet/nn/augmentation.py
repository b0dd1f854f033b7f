"""Augmentation: random changes to training images, which teach the network to ignore such changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from xpnet.backends import device_of
from xpnet.nn.layers import Context, Layer, ShapeError
from xpnet.parts import Size
from xpnet.random import integers
from xpnet.typing import Array, Arrays, HostArray, Namespace, Random, Shape


def shift_images(x: Array, shifts: Array, *, xp: Namespace = None) -> Array:
    """Shift each image by whole pixels, filling with zeros at the border.

    The backward pass is the same function with the opposite shifts.

    Parameters
    ----------
    x : array, shape (height, channels, width, n)
        The images.
    shifts : array of integers, shape (n, 2)
        How far down and across each image moves.
    xp : module, optional
        The array namespace; by default that of ``x``.

    Returns
    -------
    array, the shape of ``x``

    Examples
    --------
    >>> import numpy as np
    >>> image = np.asarray([[1.0, 2.0], [3.0, 4.0]])
    >>> shift_images(image[:, None, :, None], np.asarray([[0, 1]]))[:, 0, :, 0]  # One pixel to the right.
    array([[0., 1.],
           [0., 3.]])
    """
    xp = xp or array_namespace(x)
    h, c, w, n = x.shape
    where = {"dtype": xp.int32, "device": device_of(shifts)}
    shifts = xp.astype(shifts, xp.int32)
    # Where each pixel comes from, and whether that is inside the image.
    row = xp.arange(h, **where)[:, None] - shifts[None, :, 0]
    column = xp.arange(w, **where)[:, None] - shifts[None, :, 1]
    down, across = (row >= 0) & (row < h), (column >= 0) & (column < w)
    # Pixels from outside the image are taken from row or column 0 here, and set to zero below. The code avoids clip,
    # which copies masks back to the host on CuPy.
    row, column = row * xp.astype(down, xp.int32), column * xp.astype(across, xp.int32)
    # The flat index of pixel (row, channel, column, image).
    index = (row * (c * w * n))[:, None, None, :] + (column * n)[None, None, :, :]
    index = index + (xp.arange(c, **where) * (w * n))[None, :, None, None]
    index = index + xp.arange(n, **where)
    y = xp.reshape(xp.take(xp.reshape(x, (-1,)), xp.reshape(index, (-1,)), axis=0), x.shape)
    y *= xp.astype(down[:, None, :] & across[None, :, :], x.dtype)[:, None, :, :]
    return y


@dataclass(frozen=True)
class RandomShift(Layer):
    """Shift each image at random in training, so that the network learns to ignore position; do nothing in evaluation.

    Parameters
    ----------
    pixels : int
        The largest shift in each direction.

    Examples
    --------
    >>> import numpy as np
    >>> shifts = RandomShift(2).noise(np.random.default_rng(0), (28, 28, 1), 1000)
    >>> shifts.shape, sorted(set(shifts.ravel().tolist()))
    ((1000, 2), [-2, -1, 0, 1, 2])
    """

    pixels: Size = 2

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape."""
        if len(input_shape) != 3 or self.pixels >= min(input_shape[:2]):
            raise ShapeError(f"{self} takes images larger than that, (height, width, channels), but gets {input_shape}")
        return input_shape

    def noise(self, rng: Random, input_shape: Shape, n: int) -> HostArray | None:
        """Draw how far down and across each image moves."""
        return integers(rng, -self.pixels, self.pixels + 1, (n, 2)).astype(np.int16)

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply `shift_images` when training."""
        if not ctx.training or ctx.noise is None:
            return x, None
        return shift_images(x, ctx.noise, xp=ctx.xp), ctx.noise

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Shift the gradient back."""
        if cache is None:
            return dy, {}
        return shift_images(dy, -ctx.xp.astype(cache, ctx.xp.int32), xp=ctx.xp), {}
