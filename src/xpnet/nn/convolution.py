"""Convolution: filters that slide over images.

Inside the network a batch of images is an array of shape ``(height, channels, width, n)``, with the batch last. This
layout has three advantages. A row of all images, shifted by one column, is a slice. Rows stacked over channels are the
right-hand side of a matrix product without a copy. Every elementwise function runs along the batch, in memory order.
The kernel's weights have the shape ``(kernel_height, filters, kernel_width, channels)``, so ``weight[i]`` is the matrix
for kernel row ``i``.

`to_torch_weight` and `from_torch_weight` convert to and from PyTorch's order ``(filters, channels, height, width)``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from xpnet.nn.images import frame, image_output_size, interleave, output_size, pad, windows
from xpnet.nn.initializers import HeUniform, Initializer
from xpnet.nn.layers import Context, Layer, Variable
from xpnet.parts import PaddingOrSame, PairOfSizes, Size, as_pair
from xpnet.typing import Array, Arrays, HostArray, Namespace, Pair, Shape

How = tuple[str, int | None]
"""A key of `LOWERINGS`, and the largest number of multiplications in one product (None: no limit)."""

DEFAULT: How = ("row_shift", None)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    how: How = DEFAULT,
    xp: Namespace = None,
) -> Array:
    """Convolve images with filters (strictly speaking, correlate them: the kernel is not flipped).

    ``y[r, f, s, n] = b[f] + sum_{i, j, c} W[i, f, j, c] x[r + i, c, s + j, n]``, on the padded image. A stride keeps
    only every ``stride``-th row ``r`` and column ``s``.

    Parameters
    ----------
    x : array, shape (height, channels, width, n)
        The images.
    weight : array, shape (kernel_height, filters, kernel_width, channels)
        The filters.
    bias : array, shape (filters,), optional
        Added to every pixel of a filter's output.
    stride, padding : pair of int
        Down and across. The padding adds zeros on both sides.
    how : tuple of str and int
        ``"row_shift"`` or ``"im2col"``, and the largest number of multiplications in one product. NumPy and torch are
        fastest with products of row-shifted slices, in pieces that fit into the processor's cache. JAX and CuPy are
        faster with one large product over unrolled patches. The results differ only by rounding.
    xp : module, optional
        The array namespace; by default that of ``x``.

    Returns
    -------
    array, shape (output_height, filters, output_width, n)
        Each size is ``(size + 2 padding - kernel) // stride + 1``.

    Examples
    --------
    >>> import numpy as np
    >>> row = np.reshape(np.asarray([0.0, 0.0, 1.0, 1.0]), (1, 1, 4, 1))  # An image of one row.
    >>> edge = np.reshape(np.asarray([-1.0, 1.0]), (1, 1, 2, 1))
    >>> conv2d(row, edge)[0, 0, :, 0]
    array([0., 1., 0.])
    """
    return _convolve(x, weight, bias, stride, padding, how, xp or array_namespace(x))[0]


def conv2d_backward(
    x: Array,
    weight: Array,
    dy: Array,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    how: How = DEFAULT,
    input_gradient: bool = True,
    xp: Namespace = None,
) -> tuple[Array | None, Array, Array]:
    """Pass a gradient back through `conv2d`.

    Parameters
    ----------
    x, weight : array
        The arguments of `conv2d`.
    dy : array, shape (output_height, filters, output_width, n)
        The gradient of the output.
    stride, padding, how : tuple
        As for `conv2d`.
    input_gradient : bool
        Whether to compute ``dx``.
    xp : module, optional
        The array namespace; by default that of ``dy``.

    Returns
    -------
    dx : array, the shape of ``x``, or None
    dweight : array, the shape of ``weight``
    dbias : array, shape (filters,)

    Examples
    --------
    >>> import numpy as np
    >>> x, weight = np.ones((5, 3, 4, 2)), np.ones((3, 6, 2, 3))
    >>> dx, dweight, dbias = conv2d_backward(x, weight, np.ones((3, 6, 3, 2)))
    >>> dx.shape, dweight.shape, dbias.shape
    ((5, 3, 4, 2), (3, 6, 2, 3), (6,))
    """
    xp = xp or array_namespace(dy)
    columns = _columns(x, weight, stride, padding, how, xp)
    dweight = LOWERINGS[how[0]].weight_gradient(columns, dy, weight.shape, stride, xp)
    dx = _input_gradient(x.shape, weight, dy, stride, padding, how, xp) if input_gradient else None
    return dx, dweight, xp.sum(dy, axis=(0, 2, 3))


def _columns(x: Array, weight: Array, stride: Pair, padding: Pair, how: How, xp: Namespace) -> Array:
    """Lay the images out for the products, in the layout that forward and backward pass share."""
    return LOWERINGS[how[0]].unfold(pad(x, padding, xp), _kernel(weight), stride, xp)


def _convolve(
    x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, how: How, xp: Namespace
) -> tuple[Array, Array]:
    """Return the result of `conv2d`, and the columns."""
    height, width = output_size(x.shape, _kernel(weight), stride, padding)
    columns = _columns(x, weight, stride, padding, how, xp)
    y = LOWERINGS[how[0]].product(columns, weight, stride, how[1], xp)
    if bias is not None:
        y += bias[None, :, None]
    return xp.reshape(y, (height, y.shape[1], width, x.shape[3])), columns


def _input_gradient(
    shape: Shape, weight: Array, dy: Array, stride: Pair, padding: Pair, how: How, xp: Namespace
) -> Array:
    """Return ``dx``: the full convolution of ``dy`` with the kernel flipped, filters and channels swapped.

    Pixel ``x[p]`` reaches output ``y[r]`` through ``W[p - r]``, so ``dx[p] = sum_r W[p - r] dy[r]``. With a stride,
    ``dy`` is dilated first: zeros between its rows and columns put each output back in its place.
    """
    kh, kw = _kernel(weight)
    turned = xp.permute_dims(xp.flip(weight, axis=(0, 2)), (0, 3, 2, 1))
    spaced = interleave([interleave([dy], 0, stride[0], xp)], 2, stride[1], xp)
    # Pixels that the strides skipped at the far end have no gradient; gradients that fall on the padding are cropped.
    size, corner = (shape[0] + kh - 1, shape[2] + kw - 1), (kh - 1 - padding[0], kw - 1 - padding[1])
    return conv2d(frame(spaced, size, corner, xp), turned, how=how, xp=xp)


# Two ways to lay a convolution out as matrix products -------------------------------------------------------------


class Lowering(NamedTuple):
    """A way to compute a convolution by matrix products.

    Attributes
    ----------
    unfold : callable
        Turns the padded images into the columns that the products work on.
    product : callable
        Computes the output from columns and weights.
    weight_gradient : callable
        Computes the gradient of the weights from columns and the gradient of the output.
    """

    unfold: Callable[[Array, Pair, Pair, Namespace], Array]
    product: Callable[[Array, Array, Pair, int | None, Namespace], Array]
    weight_gradient: Callable[[Array, Array, Shape, Pair, Namespace], Array]


def row_shift_unfold(x: Array, kernel: Pair, stride: Pair, xp: Namespace) -> Array:
    """Return one shifted copy of the images per kernel column: (height, kernel_width c, width' n)."""
    shifted = xp.concat(windows(x, 2, kernel[1], stride[1]), axis=1)
    return xp.reshape(shifted, (*shifted.shape[:2], -1))


def row_shift_product(columns: Array, weight: Array, stride: Pair, limit: int | None, xp: Namespace) -> Array:
    """Multiply each kernel row's matrix by the image rows it meets, and add up: (height', filters, width' n).

    OpenBLAS, which NumPy ships with, copies the operands of a large product to suit its kernels. Up to a million
    multiplications it works on them in place, which is up to twice as fast: hence the limit.
    """
    kh, filters, kw, c = weight.shape
    rows = xp.reshape(weight, (kh, filters, kw * c))
    met = windows(columns, 0, kh, stride[0])
    pieces = []
    for piece in _pieces(columns.shape[2], filters * kw * c, limit):
        y = rows[0, ...] @ met[0][:, :, piece]
        for i in range(1, kh):
            y += rows[i, ...] @ met[i][:, :, piece]
        pieces.append(y)
    return pieces[0] if len(pieces) == 1 else xp.concat(pieces, axis=2)


def row_shift_weight_gradient(columns: Array, dy: Array, shape: Shape, stride: Pair, xp: Namespace) -> Array:
    """Multiply each output row's gradients by the image rows that it was computed from, and add up."""
    kh, filters, kw, c = shape
    dy = xp.reshape(dy, (dy.shape[0], filters, columns.shape[2]))
    rows = xp.reshape(columns, (columns.shape[0] * kw * c, columns.shape[2]))
    total = None
    for r in range(dy.shape[0]):
        # The rows are adjacent in memory, so they form one matrix without a copy.
        first = r * stride[0] * kw * c
        product = rows[first : first + kh * kw * c, :] @ dy[r, ...].T
        total = product if total is None else total + product
    return xp.reshape(xp.matrix_transpose(xp.reshape(total, (kh, kw * c, filters))), shape)


def _pieces(values: int, factor: int, limit: int | None) -> list[slice]:
    """Cut the columns of a matrix into even pieces, so that no product exceeds the limit of multiplications."""
    count = 1 if limit is None else max(math.ceil(values * factor / limit), 1)
    cuts = [values * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(cuts)]


def im2col_unfold(x: Array, kernel: Pair, stride: Pair, xp: Namespace) -> Array:
    """Return the patch that each output pixel is computed from: (kernel_height kernel_width c, height', width' n)."""
    rows = windows(xp.permute_dims(x, (1, 0, 2, 3)), 1, kernel[0], stride[0])
    patches = xp.concat([patch for row in rows for patch in windows(row, 2, kernel[1], stride[1])], axis=0)
    return xp.reshape(patches, (*patches.shape[:2], -1))


def im2col_product(columns: Array, weight: Array, stride: Pair, limit: int | None, xp: Namespace) -> Array:
    """Multiply all filters by all patches at once, whatever the limit: (height', filters, width' n)."""
    matrix = xp.reshape(xp.permute_dims(weight, (1, 0, 2, 3)), (weight.shape[1], -1))
    y = matrix @ xp.reshape(columns, (matrix.shape[1], -1))
    return xp.permute_dims(xp.reshape(y, (matrix.shape[0], *columns.shape[1:])), (1, 0, 2))


def im2col_weight_gradient(columns: Array, dy: Array, shape: Shape, stride: Pair, xp: Namespace) -> Array:
    """Multiply the gradients by the patches."""
    kh, filters, kw, c = shape
    rows = xp.reshape(xp.permute_dims(dy, (1, 0, 2, 3)), (filters, -1))
    matrix = rows @ xp.reshape(columns, (kh * kw * c, -1)).T
    return xp.permute_dims(xp.reshape(matrix, (filters, kh, kw, c)), (1, 0, 2, 3))


LOWERINGS = {
    "row_shift": Lowering(row_shift_unfold, row_shift_product, row_shift_weight_gradient),
    "im2col": Lowering(im2col_unfold, im2col_product, im2col_weight_gradient),
}


@dataclass(frozen=True)
class Conv2D(Layer):
    """A layer of filters that slide over the image.

    Parameters
    ----------
    filters : int
        The number of output channels.
    kernel_size : int or pair of int
        Height and width of a filter.
    stride : int or pair of int
        The distance between neighbouring positions of a filter.
    padding : int, pair of int, or "same"
        The number of zeros around the image. ``"same"`` keeps the size; it needs a stride of 1 and an odd kernel.
    bias : bool
        Whether to add a bias, which starts at zero.
    init_weight : Initializer
        How the weights start.

    Examples
    --------
    >>> Conv2D(8, 5).output_shape((28, 28, 1))
    (24, 24, 8)
    """

    filters: Size
    kernel_size: PairOfSizes
    stride: PairOfSizes = 1
    padding: PaddingOrSame = 0
    bias: bool = True
    init_weight: Initializer = HeUniform()

    def __post_init__(self) -> None:
        """Check that stride and kernel allow ``"same"``."""
        super().__post_init__()
        kernel, stride, _ = self.geometry
        if self.padding == "same" and (stride != (1, 1) or any(k % 2 == 0 for k in kernel)):
            raise ValueError("padding='same': needs a stride of 1 and an odd kernel_size")

    @property
    def geometry(self) -> tuple[Pair, Pair, Pair]:
        """Kernel size, stride and padding, as pairs."""
        kernel = as_pair(self.kernel_size)
        same = (kernel[0] // 2, kernel[1] // 2)
        padding = same if self.padding == "same" else as_pair(self.padding)
        return kernel, as_pair(self.stride), padding

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(height, width, filters)``."""
        return (*image_output_size(self, input_shape, *self.geometry), self.filters)

    def parameters(self, input_shape: Shape) -> dict[str, Variable]:
        """Declare ``weight``, (kernel_height, filters, kernel_width, channels), and ``bias``, (filters,)."""
        (kh, kw), c = as_pair(self.kernel_size), input_shape[2]
        weight = Variable((kh, self.filters, kw, c), self.init_weight, (kh * kw * c, kh * kw * self.filters))
        return {"weight": weight, "bias": Variable((self.filters,))} if self.bias else {"weight": weight}

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply `conv2d`, and keep the columns for `backward`."""
        _, stride, padding = self.geometry
        y, columns = _convolve(x, params["weight"], params.get("bias"), stride, padding, ctx.convolution, ctx.xp)
        return y, (x.shape, columns)

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Apply `conv2d_backward` to the columns from `forward`."""
        (shape, columns), weight, how, xp = cache, params["weight"], ctx.convolution, ctx.xp
        _, stride, padding = self.geometry
        gradients = {"weight": LOWERINGS[how[0]].weight_gradient(columns, dy, weight.shape, stride, xp)}
        if self.bias:
            gradients["bias"] = xp.sum(dy, axis=(0, 2, 3))
        dx = _input_gradient(shape, weight, dy, stride, padding, how, xp) if ctx.input_gradient else None
        return dx, gradients


def to_torch_weight(weight: HostArray) -> HostArray:
    """Reorder filters for PyTorch: (filters, channels, kernel_height, kernel_width).

    Examples
    --------
    >>> import numpy as np
    >>> to_torch_weight(np.zeros((5, 8, 3, 1))).shape  # 8 filters of 5 by 3 pixels, 1 channel.
    (8, 1, 5, 3)
    """
    return np.ascontiguousarray(np.transpose(weight, (1, 3, 0, 2)))


def from_torch_weight(weight: HostArray) -> HostArray:
    """Undo `to_torch_weight`.

    Examples
    --------
    >>> import numpy as np
    >>> weight = np.random.default_rng(0).normal(size=(5, 8, 3, 1))
    >>> bool((from_torch_weight(to_torch_weight(weight)) == weight).all())
    True
    """
    return np.ascontiguousarray(np.transpose(weight, (2, 0, 3, 1)))


def _kernel(weight: Array) -> Pair:
    return weight.shape[0], weight.shape[2]
