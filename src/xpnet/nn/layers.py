"""Layers: what each one computes, and how a gradient passes back through it.

Every layer is written twice. The first form is a pair of plain functions, a forward and, right below it, its
backward. They work on the arrays of any library that follows the Array API standard::

    y = relu(x)                 # forward:  the output
    dx = relu_backward(y, dy)   # backward: the gradient of the input, given that of the output

The second form is a frozen dataclass that holds only the hyperparameters, for use in a list of layers. It never
holds an array: parameters come in, gradients go out, and a *cache* carries the values that the backward pass needs.

A batch of ``n`` dense activations has the shape ``(n, features)``. Images have the shape
``(height, channels, width, n)``; `xpnet.nn.convolution` explains why. Gradients of parameters are *sums* over the
batch, never means, because the sums of two halves add up to the sum of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from xpnet.backends import elementwise
from xpnet.nn.initializers import Constant, HeUniform, Initializer
from xpnet.parts import Fraction, Part, Size
from xpnet.random import sixteen_bits
from xpnet.typing import Array, Arrays, HostArray, HostArrays, Namespace, Random, Shape


class ShapeError(ValueError):
    """A layer was given a shape that it cannot work on.

    Examples
    --------
    >>> from xpnet import Conv2D, Dense, Network, ShapeError
    >>> try:
    ...     Network([Conv2D(8, 3), Dense(10)], input_shape=(8, 8))
    ... except ShapeError as error:
    ...     print(error)
    layer 1: Dense(10) takes samples of shape (features,), but gets (6, 6, 8): put Flatten() before it
    """


class Context(NamedTuple):
    """Everything that a layer may ask about the pass that it takes part in.

    Attributes
    ----------
    xp : module
        The array namespace of every array in the pass.
    training : bool
        Whether this is a training pass. Only then does dropout drop units and batch normalization use the batch.
    noise : array, optional
        The random numbers of this layer for this batch, from `Layer.noise`.
    state : dict of str to array, optional
        The state of this layer, such as running means.
    input_gradient : bool
        Whether `Layer.backward` has to compute the gradient of the input.
    all_reduce : callable, optional
        Sums an array over all processes that train together. ``None`` if this pass sees the whole batch.
    convolution : tuple of str and int
        The fastest way for this library to compute a convolution; see `xpnet.nn.convolution.conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Context, Dropout
    >>> x, keep = np.asarray([[1.0, 2.0]]), np.asarray([[0, 1]])
    >>> for training in (True, False):
    ...     y, _ = Dropout(0.5).forward({}, x, Context(np, training, noise=keep))
    ...     print(training, y.tolist())
    True [[0.0, 4.0]]
    False [[1.0, 2.0]]
    """

    xp: Namespace
    training: bool = False
    noise: Array | None = None
    state: Arrays | None = None
    input_gradient: bool = True
    all_reduce: Callable[[Array], Array] | None = None
    convolution: tuple[str, int | None] = ("row_shift", None)

    def of_layer(self, noise: Array | None = None, state: Arrays | None = None, input_gradient: bool = True) -> Context:
        """Return the context of one layer: the settings of the whole pass, and the arrays of this layer."""
        # `_replace` would take three times as long, and this runs once per layer and pass.
        return Context(self.xp, self.training, noise, state, input_gradient, self.all_reduce, self.convolution)


class Variable(NamedTuple):
    """The declaration of an array that a layer owns.

    Attributes
    ----------
    shape : tuple of int
    initial : Initializer
        How its values start; by default all are zero.
    fans : tuple of int
        The number of inputs that each output sums, and the number of outputs that each input reaches.

    Examples
    --------
    >>> from xpnet import Dense
    >>> {name: variable.shape for name, variable in Dense(100).parameters((784,)).items()}
    {'weight': (784, 100), 'bias': (100,)}
    """

    shape: Shape
    initial: Initializer = Constant(0.0)
    fans: tuple[int, int] = (1, 1)


def draw(declared: Mapping[str, Variable], rng: Random) -> HostArrays:
    """Draw the arrays that a layer declares, in the order of the declarations."""
    return {name: v.initial(rng, v.shape, *v.fans) for name, v in declared.items()}


# The base ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer(Part):
    """The base of all layers, which returns its input unchanged.

    Your own layer overrides `forward` and `backward`, and any other method that must differ.

    Examples
    --------
    >>> from xpnet import Dense, Layer, Network
    >>> class Double(Layer):
    ...     def forward(self, params, x, ctx):
    ...         return 2.0 * x, None
    ...     def backward(self, params, cache, dy, ctx):
    ...         return 2.0 * dy, {}
    >>> Network([Dense(3), Double()], input_shape=(4,)).output_shape
    (3,)
    """

    def minimum_batch(self, input_shape: Shape) -> int:
        """Return the smallest number of samples that a training batch needs."""
        return 1

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output sample.

        Parameters
        ----------
        input_shape : tuple of int
            The shape of one input sample, ``(features,)`` or ``(height, width, channels)``.

        Raises
        ------
        ShapeError
            If the layer cannot work on such samples.
        """
        return input_shape

    def parameters(self, input_shape: Shape) -> dict[str, Variable]:
        """Declare the arrays that training learns: their shapes and initializers."""
        return {}

    def statistics(self, input_shape: Shape) -> dict[str, Variable]:
        """Declare the layer's state: arrays that a training pass updates without a gradient."""
        return {}

    def init(self, rng: Random, input_shape: Shape) -> HostArrays:
        """Draw the initial parameters, as NumPy arrays."""
        return draw(self.parameters(input_shape), rng)

    def noise(self, rng: Random, input_shape: Shape, n: int) -> HostArray | None:
        """Draw the random numbers that the layer needs, on the host: one row of small integers per sample."""
        return None

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Return the output for a batch, and the cache that `backward` needs."""
        return x, None

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Return the gradients of the input and of the parameters, given that of the output.

        If ``ctx.input_gradient`` is False, the layer may skip the gradient of the input: the first layer with
        parameters does not need it.
        """
        return dy, {}

    def next_state(self, state: Arrays, cache: Any, ctx: Context) -> Arrays:
        """Return the state after a training pass."""
        return state


# Dense ------------------------------------------------------------------------------------------------------------


def dense(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Apply a fully connected layer: ``y = x W + b``.

    Parameters
    ----------
    x : array, shape (n, fan_in)
        The batch.
    weight : array, shape (fan_in, fan_out)
        The weights.
    bias : array, shape (fan_out,), optional
        The biases.

    Returns
    -------
    array, shape (n, fan_out)

    Examples
    --------
    >>> import numpy as np
    >>> dense(np.asarray([[1.0, 2.0]]), np.asarray([[3.0], [4.0]]), np.asarray([0.5]))
    array([[11.5]])
    """
    y = x @ weight
    if bias is not None:
        y += bias
    return y


def dense_backward(
    x: Array, weight: Array, dy: Array, *, input_gradient: bool = True, xp: Namespace = None
) -> tuple[Array | None, Array, Array]:
    """Pass a gradient back through `dense`.

    From ``y[s, j] = sum_i x[s, i] W[i, j] + b[j]`` follow ``dx = dy W'``, ``dW = x' dy`` and ``db = sum_s dy[s]``.

    Parameters
    ----------
    x, weight : array
        The arguments of `dense`.
    dy : array, shape (n, fan_out)
        The gradient of the output.
    input_gradient : bool
        Whether to compute ``dx``.
    xp : module, optional
        The array namespace; by default that of ``dy``.

    Returns
    -------
    dx : array, shape (n, fan_in), or None
    dweight : array, shape (fan_in, fan_out)
    dbias : array, shape (fan_out,)

    Examples
    --------
    >>> import numpy as np
    >>> x, weight = np.asarray([[1.0, 2.0]]), np.asarray([[3.0], [4.0]])
    >>> dx, dweight, dbias = dense_backward(x, weight, np.asarray([[10.0]]))
    >>> dx.tolist(), dweight.tolist(), dbias.tolist()
    ([[30.0, 40.0]], [[10.0], [20.0]], [10.0])
    """
    xp = xp or array_namespace(dy)
    dx = dy @ weight.T if input_gradient else None
    if x.shape[0] == 1:
        # The product of a column and a row is an outer product, and broadcasting computes it in half the time.
        return dx, x.T * dy, dy[0, :]
    return dx, x.T @ dy, xp.sum(dy, axis=0)


@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer.

    Parameters
    ----------
    units : int
        The number of outputs.
    bias : bool
        Whether to add a bias, which starts at zero.
    init_weight : Initializer
        How the weights start.

    Examples
    --------
    >>> Dense(100).output_shape((784,))
    (100,)
    """

    units: Size
    bias: bool = True
    init_weight: Initializer = HeUniform()

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(units,)``."""
        if len(input_shape) != 1:
            raise ShapeError(
                f"{self} takes samples of shape (features,), but gets {input_shape}: put Flatten() before it"
            )
        return (self.units,)

    def parameters(self, input_shape: Shape) -> dict[str, Variable]:
        """Declare ``weight``, (fan_in, units), and ``bias``, (units,)."""
        (fan_in,) = input_shape
        weight = Variable((fan_in, self.units), self.init_weight, (fan_in, self.units))
        return {"weight": weight, "bias": Variable((self.units,))} if self.bias else {"weight": weight}

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply `dense`."""
        return dense(x, params["weight"], params.get("bias")), x

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Apply `dense_backward`."""
        dx, dweight, dbias = dense_backward(cache, params["weight"], dy, input_gradient=ctx.input_gradient, xp=ctx.xp)
        return dx, {"weight": dweight, "bias": dbias} if self.bias else {"weight": dweight}


# Dropout ----------------------------------------------------------------------------------------------------------

KEEP_LEVELS = 2**16
"""Random 16-bit integers decide what dropout keeps, so a rate is rounded to a multiple of 1 / 65,536."""


@elementwise
def dropout(x: Array, keep: Array, rate: float, *, xp: Namespace = None) -> Array:
    """Set some units to zero and scale the others by ``1 / (1 - rate)``, which keeps the expected value.

    The backward pass is the same function: ``dx = dropout(dy, keep, rate)``.

    Parameters
    ----------
    x : array
        The batch.
    keep : array of integers, broadcastable to ``x``
        1 for each unit to keep, 0 for each to drop.
    rate : float
        The probability of being dropped, in [0, 1).
    xp : module, optional
        The array namespace; by default that of ``x``.

    Returns
    -------
    array, the shape of ``x``

    References
    ----------
    Srivastava et al., *Dropout: a simple way to prevent neural networks from overfitting*, 2014. Scaling in training
    instead of in evaluation is known as inverted dropout.

    Examples
    --------
    >>> import numpy as np
    >>> dropout(np.asarray([[1.0, 2.0, 3.0, 4.0]]), np.asarray([[1, 0, 1, 0]]), 0.5)
    array([[2., 0., 6., 0.]])
    """
    xp = xp or array_namespace(x)
    y = xp.astype(keep, x.dtype, copy=False) * x
    y *= 1.0 / (1.0 - rate)
    return y


@dataclass(frozen=True)
class Dropout(Layer):
    """Drop units at random in training; do nothing in evaluation.

    On images the layer drops whole channels: neighbouring pixels are so alike that dropping one loses no information.

    Parameters
    ----------
    rate : float
        The probability of being dropped, in [0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> Dropout(0.2).noise(np.random.default_rng(0), (100,), 1000).mean().round(2)  # What is kept.
    np.float64(0.8)
    """

    rate: Fraction = 0.5

    def noise(self, rng: Random, input_shape: Shape, n: int) -> HostArray | None:
        """Draw the mask of units to keep, of 0 and 1: ``(n, features)``, or ``(n, channels)`` for images."""
        levels = sixteen_bits(rng, (n, input_shape[-1]))
        return np.asarray(levels >= round(self.rate * KEEP_LEVELS)).view(np.uint8)

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply `dropout` when training."""
        if not ctx.training or ctx.noise is None:
            return x, None
        keep = ctx.noise if len(x.shape) == 2 else ctx.noise.T[None, :, None, :]
        return dropout(x, keep, self.rate, xp=ctx.xp), keep

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Apply `dropout` to the gradient."""
        return (dy if cache is None else dropout(dy, cache, self.rate, xp=ctx.xp)), {}
