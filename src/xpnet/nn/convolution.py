"""Convolution, pooling and random shifts: layers that look at images.

Inside the network a batch of images is an array of shape ``(height, channels, width, n)``: batch last. Then a row of
all images, shifted by one column, is a slice; rows stacked over channels are the right-hand side of a matrix product
as they stand; and every elementwise function runs along the batch, in order of memory. The kernel's weights have the
shape ``(kernel_height, filters, kernel_width, channels)``, so that ``weight[i]`` is the matrix for kernel row ``i``.

`to_torch_weight` and `from_torch_weight` translate to the order ``(filters, channels, height, width)`` of PyTorch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import array_api_extra as xpx
import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from xpnet.backends import convolution_lowering, product_limit
from xpnet.nn.layers import (
    Array,
    Context,
    HeUniform,
    HostArrays,
    Initializer,
    Layer,
    Namespace,
    Params,
    Random,
    Shape,
    ShapeError,
    State,
    require_size,
)

Pair = tuple[int, int]


# Convolution ------------------------------------------------------------------------------------------------------


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    xp: Namespace = None,
) -> Array:
    """Convolve images with filters (strictly speaking, correlate: the kernel is not turned round).

    ``y[r, f, s, n] = b[f] + sum_{i, j, c} W[i, f, j, c] x[r + i, c, s + j, n]``, on the padded image; with a stride
    only every so many rows ``r`` and columns ``s``.

    Parameters
    ----------
    x : array, shape (height, channels, width, n)
        The images.
    weight : array, shape (kernel_height, filters, kernel_width, channels)
        The filters.
    bias : array, shape (filters,), optional
        Added to every pixel of a filter's output.
    stride, padding : pair of int
        Down and across; the padding is of zeros, on both sides.
    xp : module, optional
        The array namespace; by default that of ``x``.

    Returns
    -------
    array, shape (output_height, filters, output_width, n)
        ``(size + 2 padding - kernel) // stride + 1`` each way.

    Examples
    --------
    >>> import numpy as np
    >>> row = np.reshape(np.asarray([0.0, 0.0, 1.0, 1.0]), (1, 1, 4, 1))  # An image of one row.
    >>> edge = np.reshape(np.asarray([-1.0, 1.0]), (1, 1, 2, 1))
    >>> conv2d(row, edge)[0, 0, :, 0]
    array([0., 1., 0.])
    """
    xp = xp or array_namespace(x)
    lowering = LOWERINGS[convolution_lowering(xp)]
    size = output_size(x.shape, _kernel(weight), stride, padding)
    columns = lowering.unfold(pad(x, padding, xp), _kernel(weight), stride, xp)
    return _finish(lowering.product(columns, weight, size[0], stride, xp), bias, size, x.shape[3], xp)


def conv2d_backward(
    x: Array,
    weight: Array,
    dy: Array,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    input_gradient: bool = True,
    xp: Namespace = None,
) -> tuple[Array | None, Array, Array]:
    """Pass a gradient back through `conv2d`.

    Parameters
    ----------
    x, weight : array
        What `conv2d` was given.
    dy : array, shape (output_height, filters, output_width, n)
        The gradient of the output.
    stride, padding : pair of int
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
    lowering = LOWERINGS[convolution_lowering(xp)]
    columns = lowering.unfold(pad(x, padding, xp), _kernel(weight), stride, xp)
    dweight = lowering.weight_gradient(columns, dy, weight.shape, stride, xp)
    dx = _input_gradient(x.shape, weight, dy, stride, padding, xp) if input_gradient else None
    return dx, dweight, xp.sum(dy, axis=(0, 2, 3))


def _input_gradient(shape: Shape, weight: Array, dy: Array, stride: Pair, padding: Pair, xp: Namespace) -> Array:
    """Return ``dx``: the full convolution of ``dy`` with the kernel turned by half a turn, filters for channels.

    Pixel ``x[p]`` reaches output ``y[r]`` through ``W[p - r]``, so ``dx[p] = sum_r W[p - r] dy[r]``. A stride first
    puts the outputs back where they came from, zeros between them.
    """
    kernel = _kernel(weight)
    turned = xp.permute_dims(xp.flip(weight, axis=(0, 2)), (0, 3, 2, 1))
    spread = _spread(dy, stride, xp)
    # What the strides or the padding cut off at the far end got no gradient, or has it in the padding.
    before = [k - 1 - p for k, p in zip(kernel, padding, strict=True)]
    after = [shape[axis] + k - 1 - b - spread.shape[axis] for axis, k, b in zip((0, 2), kernel, before, strict=True)]
    return conv2d(_pad_or_crop(spread, before, after, xp), turned, xp=xp)


# Two ways to lay a convolution out as matrix products -------------------------------------------------------------


@dataclass(frozen=True)
class Lowering:
    """A way to compute a convolution by matrix products.

    Attributes
    ----------
    unfold : callable
        From the padded images to the columns that the products work on.
    product : callable
        From columns and weights to the output.
    weight_gradient : callable
        From columns and the gradient of the output to that of the weights.
    """

    unfold: Callable[[Array, Pair, Pair, Namespace], Array]
    product: Callable[[Array, Array, int, Pair, Namespace], Array]
    weight_gradient: Callable[[Array, Array, Shape, Pair, Namespace], Array]


def row_shift_unfold(x: Array, kernel: Pair, stride: Pair, xp: Namespace) -> Array:
    """Return the images once for each column of the kernel, shifted by it: (height, kernel_width c, width' n)."""
    h, c, w, n = x.shape
    kw, step = kernel[1], stride[1]
    width = (w - kw) // step + 1
    shifted = [x[:, :, j : j + (width - 1) * step + 1 : step, :] for j in range(kw)]
    return xp.reshape(xp.concat(shifted, axis=1), (h, kw * c, width * n))


def row_shift_product(columns: Array, weight: Array, height: int, stride: Pair, xp: Namespace) -> Array:
    """Add up, for each kernel row, its matrix times the image rows that it meets: (height', filters, width' n)."""
    kh, filters, kw, c = weight.shape
    rows = xp.reshape(weight, (kh, filters, kw * c))
    pieces = []
    for piece in _pieces(columns.shape[2], filters * kw * c, product_limit(xp)):
        y = rows[0, ...] @ _image_rows(columns, 0, height, stride, piece)
        for i in range(1, kh):
            y += rows[i, ...] @ _image_rows(columns, i, height, stride, piece)
        pieces.append(y)
    return pieces[0] if len(pieces) == 1 else xp.concat(pieces, axis=2)


def row_shift_weight_gradient(columns: Array, dy: Array, shape: Shape, stride: Pair, xp: Namespace) -> Array:
    """Add up, for each output row, the products of the image rows that it looked at with its gradients."""
    kh, filters, kw, c = shape
    height, values = dy.shape[0], columns.shape[2]
    dy = xp.reshape(dy, (height, filters, values))
    total = None
    for r in range(height):
        # The rows lie one after the other in memory, so they are one matrix without being copied.
        seen = xp.reshape(columns[r * stride[0] : r * stride[0] + kh, ...], (kh * kw * c, values))
        product = seen @ dy[r, ...].T
        total = product if total is None else total + product
    return xp.reshape(xp.matrix_transpose(xp.reshape(total, (kh, kw * c, filters))), shape)


def _image_rows(columns: Array, first: int, count: int, stride: Pair, piece: slice) -> Array:
    return columns[first : first + (count - 1) * stride[0] + 1 : stride[0], :, piece]


def _pieces(values: int, factor: int, limit: int | None) -> list[slice]:
    """Cut the columns of a matrix into even pieces, so that no product with it has more multiplications than that."""
    count = 1 if limit is None else max(math.ceil(values * factor / limit), 1)
    cuts = [values * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(cuts)]


def im2col_unfold(x: Array, kernel: Pair, stride: Pair, xp: Namespace) -> Array:
    """Return for each output pixel the patch that it looks at: (kernel_height kernel_width c, height' width' n)."""
    h, c, w, n = x.shape
    height, width = (h - kernel[0]) // stride[0] + 1, (w - kernel[1]) // stride[1] + 1
    channels_first = xp.permute_dims(x, (1, 0, 2, 3))
    patches = [
        channels_first[
            :,
            i : i + (height - 1) * stride[0] + 1 : stride[0],
            j : j + (width - 1) * stride[1] + 1 : stride[1],
            :,
        ]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return xp.reshape(xp.concat(patches, axis=0), (kernel[0] * kernel[1] * c, height * width * n))


def im2col_product(columns: Array, weight: Array, height: int, stride: Pair, xp: Namespace) -> Array:
    """Multiply all filters with all patches at once: (height', filters, width' n)."""
    kh, filters, kw, c = weight.shape
    matrix = xp.reshape(xp.permute_dims(weight, (1, 0, 2, 3)), (filters, kh * kw * c))
    y = xp.reshape(matrix @ columns, (filters, height, columns.shape[1] // height))
    return xp.permute_dims(y, (1, 0, 2))


def im2col_weight_gradient(columns: Array, dy: Array, shape: Shape, stride: Pair, xp: Namespace) -> Array:
    """Multiply the gradients with the patches."""
    kh, filters, kw, c = shape
    rows = xp.reshape(xp.permute_dims(dy, (1, 0, 2, 3)), (filters, columns.shape[1]))
    matrix = xp.reshape(rows @ columns.T, (filters, kh, kw, c))
    return xp.permute_dims(matrix, (1, 0, 2, 3))


LOWERINGS = {
    "row_shift": Lowering(row_shift_unfold, row_shift_product, row_shift_weight_gradient),
    "im2col": Lowering(im2col_unfold, im2col_product, im2col_weight_gradient),
}


def _finish(y: Array, bias: Array | None, size: Pair, n: int, xp: Namespace) -> Array:
    """Add the bias and give the output its four axes."""
    if bias is not None:
        y += bias[None, :, None]
    return xp.reshape(y, (size[0], y.shape[1], size[1], n))


@dataclass(frozen=True)
class Conv2D(Layer):
    """A layer of filters that are moved over the image.

    Parameters
    ----------
    filters : int
        The number of output channels.
    kernel_size : int or pair of int
        Height and width of a filter.
    stride : int or pair of int
        How far a filter is moved at a time.
    padding : int, pair of int, or "same"
        Zeros put around the image; ``"same"`` keeps the size, with a stride of 1 and an odd kernel.
    bias : bool
        Whether to add a bias, which starts at zero.
    init_weight : Initializer
        How the weights start.

    Examples
    --------
    >>> Conv2D(8, 5).output_shape((28, 28, 1))
    (24, 24, 8)
    """

    filters: int
    kernel_size: int | Pair
    stride: int | Pair = 1
    padding: int | Pair | str = 0
    bias: bool = True
    init_weight: Initializer = field(default_factory=HeUniform)

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        require_size("filters", self.filters)
        kernel = as_pair("kernel_size", self.kernel_size)
        stride = as_pair("stride", self.stride)
        if self.padding == "same":
            if stride != (1, 1) or any(k % 2 == 0 for k in kernel):
                raise ValueError("padding='same': needs a stride of 1 and an odd kernel_size")
        else:
            as_pair("padding", self.padding, least=0)

    @property
    def geometry(self) -> tuple[Pair, Pair, Pair]:
        """Kernel size, stride and padding, as pairs."""
        kernel = as_pair("kernel_size", self.kernel_size)
        if self.padding == "same":
            return kernel, (1, 1), (kernel[0] // 2, kernel[1] // 2)
        return kernel, as_pair("stride", self.stride), as_pair("padding", self.padding, least=0)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(height, width, filters)``."""
        return (*image_output_size(self, input_shape, *self.geometry), self.filters)

    def init(self, rng: Random, input_shape: Shape) -> tuple[HostArrays, HostArrays]:
        """Draw the weights; biases start at zero."""
        (kh, kw), _, _ = self.geometry
        c = input_shape[2]
        fans = kh * kw * c, kh * kw * self.filters
        params = {"weight": self.init_weight(rng, (kh, self.filters, kw, c), *fans)}
        if self.bias:
            params["bias"] = np.zeros(self.filters)
        return params, {}

    def forward(
        self,
        params: Params,
        x: Array,
        ctx: Context,
        *,
        state: State | None = None,
        noise: Array | None = None,
    ) -> tuple[Array, Any]:
        """Do what `conv2d` does, and keep the columns for the way back."""
        kernel, stride, padding = self.geometry
        lowering = LOWERINGS[convolution_lowering(ctx.xp)]
        size = output_size(x.shape, kernel, stride, padding)
        columns = lowering.unfold(pad(x, padding, ctx.xp), kernel, stride, ctx.xp)
        y = lowering.product(columns, params["weight"], size[0], stride, ctx.xp)
        return _finish(y, params.get("bias"), size, x.shape[3], ctx.xp), (x.shape, columns)

    def backward(
        self, params: Params, cache: Any, dy: Array, ctx: Context, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        """Do what `conv2d_backward` does, with the columns that were kept."""
        shape, columns = cache
        _, stride, padding = self.geometry
        lowering, weight, xp = LOWERINGS[convolution_lowering(ctx.xp)], params["weight"], ctx.xp
        grads = {"weight": lowering.weight_gradient(columns, dy, weight.shape, stride, xp)}
        if self.bias:
            grads["bias"] = xp.sum(dy, axis=(0, 2, 3))
        dx = _input_gradient(shape, weight, dy, stride, padding, xp) if input_gradient else None
        return dx, grads


def to_torch_weight(weight: NDArray[Any]) -> NDArray[Any]:
    """Turn filters into the order of PyTorch: (filters, channels, kernel_height, kernel_width).

    Examples
    --------
    >>> import numpy as np
    >>> to_torch_weight(np.zeros((5, 8, 3, 1))).shape  # 8 filters of 5 by 3 pixels, 1 channel.
    (8, 1, 5, 3)
    """
    return np.ascontiguousarray(np.transpose(weight, (1, 3, 0, 2)))


def from_torch_weight(weight: NDArray[Any]) -> NDArray[Any]:
    """Undo `to_torch_weight`.

    Examples
    --------
    >>> import numpy as np
    >>> weight = np.random.default_rng(0).normal(size=(5, 8, 3, 1))
    >>> bool((from_torch_weight(to_torch_weight(weight)) == weight).all())
    True
    """
    return np.ascontiguousarray(np.transpose(weight, (2, 0, 3, 1)))


# Pooling ----------------------------------------------------------------------------------------------------------


def max_pool2d(x: Array, size: Pair, stride: Pair, *, xp: Namespace = None) -> Array:
    """Take the largest pixel of each window.

    Parameters
    ----------
    x : array, shape (height, channels, width, n)
        The images. What does not fill a window at the far ends is left out.
    size, stride : pair of int
        Of the window, and from one to the next, down and across.
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
    return _max(_windows(_max(_windows(x, 2, size[1], stride[1]), xp), 0, size[0], stride[0]), xp)


def max_pool2d_backward(x: Array, y: Array, dy: Array, size: Pair, stride: Pair, *, xp: Namespace = None) -> Array:
    """Pass a gradient back through `max_pool2d`: to the largest pixel, and to the first one where several are.

    Parameters
    ----------
    x, y : array
        Input and output of `max_pool2d`.
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
    # First back to the largest of each row of the window, and from there to the largest pixel of that row.
    columns = _windows(x, 2, size[1], stride[1])
    largest = _max(columns, xp)
    rows = _max_backward(_windows(largest, 0, size[0], stride[0]), y, dy, xp)
    dlargest = _fold(rows, largest.shape, 0, stride[0], xp)
    return _fold(_max_backward(columns, largest, dlargest, xp), x.shape, 2, stride[1], xp)


def _max(pieces: Sequence[Array], xp: Namespace) -> Array:
    y = pieces[0]
    for piece in pieces[1:]:
        y = xp.maximum(y, piece)
    return y


def _max_backward(pieces: Sequence[Array], y: Array, dy: Array, xp: Namespace) -> list[Array]:
    """Return the gradient of each of the pieces that `_max` took the largest of."""
    gradients = []
    for piece in pieces[:-1]:
        taken = xp.astype(piece >= y, dy.dtype)
        taken *= dy
        # What one takes, those after it do not get: ties count once.
        dy = dy - taken
        gradients.append(taken)
    return [*gradients, dy]


def average_pool2d(x: Array, size: Pair, stride: Pair, *, xp: Namespace = None) -> Array:
    """Take the mean of each window; shapes as for `max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.asarray([[1.0, 2.0], [3.0, 6.0]])
    >>> average_pool2d(image[:, None, :, None], (2, 2), (2, 2))[:, 0, :, 0]
    array([[3.]])
    """
    return _mean(_windows(_mean(_windows(x, 2, size[1], stride[1])), 0, size[0], stride[0]))


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


def _windows(x: Array, axis: int, size: int, stride: int) -> list[Array]:
    """Return, for each place in a window along an axis, the pixels there of all windows: views."""
    last = (x.shape[axis] - size) // stride * stride
    places = [slice(i, i + last + 1, stride) for i in range(size)]
    return [x[place, ...] if axis == 0 else x[:, :, place, :] for place in places]


def _fold(pieces: Sequence[Array], shape: Shape, axis: int, stride: int, xp: Namespace) -> Array:
    """Undo `_windows`: put the pieces back where they came from, and add where windows overlap."""
    size, before, after = len(pieces), [0, 0], [0, 0]
    side = axis // 2  # 0 down, 1 across: the axes of an image are 0 and 2
    if size == stride:
        merged = list(pieces[0].shape)
        merged[axis] *= size
        whole = xp.reshape(xp.stack(pieces, axis=axis + 1), tuple(merged))
        after[side] = shape[axis] - merged[axis]
        return _pad_or_crop(whole, before, after, xp)
    total = None
    for before[side], piece in enumerate(pieces):
        spread = _spread(piece, (stride, 1) if axis == 0 else (1, stride), xp)
        after[side] = shape[axis] - before[side] - spread.shape[axis]
        placed = _pad_or_crop(spread, before, after, xp)
        total = placed if total is None else total + placed
    return total


@dataclass(frozen=True)
class _Pool(Layer):
    """The base of the pooling layers."""

    size: int | Pair = 2
    stride: int | Pair | None = None
    padding: int | Pair = 0

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        size, _, padding = self.geometry
        if any(2 * p > s for p, s in zip(padding, size, strict=True)):
            raise ValueError(f"padding={self.padding!r}: must be at most half of size={self.size!r}")

    @property
    def geometry(self) -> tuple[Pair, Pair, Pair]:
        """Size, stride and padding, as pairs."""
        size = as_pair("size", self.size)
        stride = size if self.stride is None else as_pair("stride", self.stride)
        return size, stride, as_pair("padding", self.padding, least=0)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(height, width, channels)``."""
        return (*image_output_size(self, input_shape, *self.geometry), input_shape[2])


@dataclass(frozen=True)
class MaxPool2D(_Pool):
    """The layer of `max_pool2d`.

    Parameters
    ----------
    size : int or pair of int
        Of the window.
    stride : int or pair of int, optional
        From one window to the next; by default the size.
    padding : int or pair of int
        Put around the image, at most half the size; a padded pixel is never the largest.

    Examples
    --------
    >>> MaxPool2D(2).output_shape((28, 28, 8)), MaxPool2D(3, stride=2, padding=1).output_shape((28, 28, 8))
    ((14, 14, 8), (14, 14, 8))
    """

    def forward(
        self,
        params: Params,
        x: Array,
        ctx: Context,
        *,
        state: State | None = None,
        noise: Array | None = None,
    ) -> tuple[Array, Any]:
        """Apply `max_pool2d`."""
        size, stride, padding = self.geometry
        padded = pad(x, padding, ctx.xp, value=float(ctx.xp.finfo(x.dtype).min))
        y = max_pool2d(padded, size, stride, xp=ctx.xp)
        return y, (padded, y)

    def backward(
        self, params: Params, cache: Any, dy: Array, ctx: Context, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
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
        Of the window.
    stride : int or pair of int, optional
        From one window to the next; by default the size.
    padding : int or pair of int
        Zeros put around the image, at most half the size; they count in the mean.

    Examples
    --------
    >>> AveragePool2D(7).output_shape((7, 7, 32))
    (1, 1, 32)
    """

    def forward(
        self,
        params: Params,
        x: Array,
        ctx: Context,
        *,
        state: State | None = None,
        noise: Array | None = None,
    ) -> tuple[Array, Any]:
        """Apply `average_pool2d`."""
        size, stride, padding = self.geometry
        padded = pad(x, padding, ctx.xp)
        return average_pool2d(padded, size, stride, xp=ctx.xp), padded.shape

    def backward(
        self, params: Params, cache: Any, dy: Array, ctx: Context, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        """Apply `average_pool2d_backward`."""
        size, stride, padding = self.geometry
        return unpad(average_pool2d_backward(cache, dy, size, stride, xp=ctx.xp), padding), {}


# Random shifts ----------------------------------------------------------------------------------------------------


def shift_images(x: Array, shifts: Array, *, xp: Namespace = None) -> Array:
    """Shift each image by whole pixels; what comes in at the border is 0.

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
    where = {"dtype": xp.int32, "device": _device_of(shifts)}
    shifts = xp.astype(shifts, xp.int32)
    # Where each pixel comes from, and whether that is inside the image.
    row = xp.arange(h, **where)[:, None] - shifts[None, :, 0]
    column = xp.arange(w, **where)[:, None] - shifts[None, :, 1]
    inside = _inside(row, h, xp)[:, None, :] & _inside(column, w, xp)[None, :, :]
    row, column = xp.clip(row, 0, h - 1), xp.clip(column, 0, w - 1)
    # The flat index of pixel (row, channel, column, image).
    index = (row * (c * w * n))[:, None, None, :] + (column * n)[None, None, :, :]
    index = index + (xp.arange(c, **where) * (w * n))[None, :, None, None]
    index = index + xp.arange(n, **where)
    y = xp.reshape(xp.take(xp.reshape(x, (-1,)), xp.reshape(index, (-1,)), axis=0), x.shape)
    y *= xp.astype(inside, x.dtype)[:, None, :, :]
    return y


def _inside(index: Array, size: int, xp: Namespace) -> Array:
    return (index >= 0) & (index < size)


@dataclass(frozen=True)
class RandomShift(Layer):
    """Shift each training image at random, so that the network learns not to mind; in evaluation do nothing.

    Parameters
    ----------
    pixels : int
        The farthest, up, down, left and right.

    Examples
    --------
    >>> import numpy as np
    >>> shifts = RandomShift(2).noise(np.random.default_rng(0), (28, 28, 1), 1000)
    >>> shifts.shape, sorted(set(shifts.ravel().tolist()))
    ((1000, 2), [-2, -1, 0, 1, 2])
    """

    pixels: int = 2

    def __post_init__(self) -> None:
        """Check the distance."""
        require_size("pixels", self.pixels)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape."""
        if len(input_shape) != 3 or self.pixels >= min(input_shape[:2]):
            raise ShapeError(
                f"RandomShift({self.pixels}) takes images larger than that, "
                f"(height, width, channels), but gets {input_shape}"
            )
        return input_shape

    def noise(self, rng: Any, input_shape: Shape, n: int) -> NDArray[Any] | None:
        """Draw how far down and across each image moves."""
        drawn = rng.integers(-self.pixels, self.pixels + 1, size=(n, 2))
        return np.asarray(drawn, dtype=np.int16)

    def forward(
        self,
        params: Params,
        x: Array,
        ctx: Context,
        *,
        state: State | None = None,
        noise: Array | None = None,
    ) -> tuple[Array, Any]:
        """Apply `shift_images` when training."""
        if not ctx.training or noise is None:
            return x, None
        return shift_images(x, noise, xp=ctx.xp), noise

    def backward(
        self, params: Params, cache: Any, dy: Array, ctx: Context, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        """Shift the gradient back."""
        if cache is None:
            return dy, {}
        return shift_images(dy, -ctx.xp.astype(cache, ctx.xp.int32), xp=ctx.xp), {}


# Geometry ---------------------------------------------------------------------------------------------------------


def output_size(shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return height and width of what a window gives that is moved over images of shape (h, c, w, n)."""
    h, w = (
        (size + 2 * p - k) // s + 1 for size, k, s, p in zip((shape[0], shape[2]), kernel, stride, padding, strict=True)
    )
    return h, w


def image_output_size(layer: Layer, input_shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return `output_size` for samples (height, width, channels), or say why there is none."""
    if len(input_shape) != 3:
        raise ShapeError(
            f"{type(layer).__name__} takes images of shape (height, width, channels), but gets {input_shape}"
        )
    h, w, c = input_shape
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
    vertical, horizontal = ((p, p) for p in padding)
    return xpx.pad(x, (vertical, (0, 0), horizontal, (0, 0)), constant_values=value, xp=xp)


def unpad(x: Array, padding: Pair) -> Array:
    """Undo `pad`."""
    top, left = padding
    return x[top : x.shape[0] - top, :, left : x.shape[2] - left, :]


def _pad_or_crop(x: Array, before: Sequence[int], after: Sequence[int], xp: Namespace) -> Array:
    """Add rows and columns of zeros, or take some away where a number is negative."""
    keep = [
        slice(max(-b, 0), size - max(-a, 0)) for b, a, size in zip(before, after, (x.shape[0], x.shape[2]), strict=True)
    ]
    x = x[keep[0], :, keep[1], :]
    add = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
    if add == [(0, 0), (0, 0)]:
        return x
    return xpx.pad(x, (add[0], (0, 0), add[1], (0, 0)), xp=xp)


def _spread(x: Array, stride: Pair, xp: Namespace) -> Array:
    """Put zeros between rows and columns, so that they are ``stride`` apart."""
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


def as_pair(name: str, value: Any, least: int = 1) -> Pair:
    """Return an integer as a pair of it, and a pair as it is.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, if it is neither.
    """
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or any(isinstance(v, bool) or not isinstance(v, int | np.integer) for v in pair):
        raise TypeError(f"{name}={value!r}: must be an integer or a pair of integers")
    if min(pair) < least:
        raise ValueError(f"{name}={value!r}: must be at least {least}")
    return int(pair[0]), int(pair[1])


def _kernel(weight: Array) -> Pair:
    return weight.shape[0], weight.shape[2]


def _device_of(array: Array) -> Any:
    from array_api_compat import device

    return device(array)
