"""Layers: what each one computes, and how a gradient passes back through it.

Every layer is written twice. First as plain functions, a forward and, right below it, its backward, which work on
the arrays of any library that follows the Array API standard::

    y = relu(x)                 # forward:  the output
    dx = relu_backward(y, dy)   # backward: the gradient of the input, given that of the output

Then as a frozen dataclass that holds the hyperparameters and nothing else, for use in a list of layers. It never
holds an array: parameters come in, gradients go out, and what the backward pass needs travels in a *cache*.

Shapes. A batch of ``n`` dense activations is ``(n, features)``. Images are ``(height, channels, width, n)``; why,
`xpnet.nn.convolution` tells. Gradients of parameters are *sums* over the batch, never means: sums of two halves
add up to the sum of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from xpnet.checks import require_fraction, require_instance, require_positive, require_size, use_python_numbers
from xpnet.random import sixteen_bits

Array = Any
"""An array of any library that follows the Array API standard."""

Namespace = Any
"""The module of such a library, as `array_api_compat.array_namespace` returns it."""

Shape = tuple[int, ...]
Params = dict[str, Array]
State = dict[str, Array]
HostArrays = dict[str, NDArray[Any]]


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


class Random(Protocol):
    """What layers draw from: a `numpy.random.Generator`, or the legacy `numpy.random.RandomState`."""

    def random(self, size: Any = ..., /) -> Any:
        """Draw floats from [0, 1)."""


class Context(NamedTuple):
    """What a layer may know about the pass that it takes part in.

    Attributes
    ----------
    xp : module
        The array namespace of every array in the pass.
    training : bool
        Whether this pass trains: dropout drops and batch normalization looks at the batch only then.
    all_reduce : callable, optional
        Sums an array over the ranks of a distributed run. ``None``: there is one rank.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Context, Dropout
    >>> x, keep = np.asarray([[1.0, 2.0]]), np.asarray([[0, 1]])
    >>> for training in (True, False):
    ...     y, _ = Dropout(0.5).forward({}, x, Context(np, training), noise=keep)
    ...     print(training, y.tolist())
    True [[0.0, 4.0]]
    False [[1.0, 2.0]]
    """

    xp: Namespace
    training: bool = False
    all_reduce: Callable[[Array], Array] | None = None


# Initialisers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Initializer:
    """The base of all initializers, which draw the first value of a weight array, on the host.

    One of your own overrides `__call__`. Where it has fields, decorate it with ``@dataclass(frozen=True)``: they are
    saved with a run.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Dense, Initializer
    >>> class Normal(Initializer):
    ...     def __call__(self, rng, shape, fan_in, fan_out):
    ...         return rng.standard_normal(shape) / fan_in**0.5
    >>> params, _ = Dense(10, init_weight=Normal()).init(np.random.default_rng(0), (64,))
    >>> float(params["weight"].std().round(2))
    0.13
    """

    def __post_init__(self) -> None:
        """Check the fields; subclasses add to this."""
        use_python_numbers(self)

    def __call__(self, rng: Random, shape: Shape, fan_in: int, fan_out: int) -> NDArray[np.float64]:
        """Draw an array.

        Parameters
        ----------
        rng : numpy.random.Generator or numpy.random.RandomState
            What to draw from.
        shape : tuple of int
            Of the array.
        fan_in, fan_out : int
            How many numbers each output is summed from, and how many outputs each input goes to.

        Returns
        -------
        array of float64, of ``shape``
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Uniform(Initializer):
    """Weights uniform in [-bound, bound); the tutorial takes 0.1.

    Parameters
    ----------
    bound : float
        Positive.

    Examples
    --------
    >>> import numpy as np
    >>> weight = Uniform(0.1)(np.random.default_rng(0), (64, 100), 64, 100)
    >>> weight.shape, bool(weight.min() >= -0.1), bool(weight.max() < 0.1)
    ((64, 100), True, True)
    """

    bound: float = 0.1

    def __post_init__(self) -> None:
        """Check the bound."""
        super().__post_init__()
        require_positive("bound", self.bound)

    def __call__(self, rng: Random, shape: Shape, fan_in: int, fan_out: int) -> NDArray[np.float64]:
        """Draw an array of ``shape``."""
        # In this order of operations the tutorial's own `0.2 * random(...) - 0.1`, to the last bit.
        return np.asarray(2.0 * self.bound * rng.random(shape) - self.bound)


@dataclass(frozen=True)
class GlorotUniform(Initializer):
    """Weights uniform with variance 2 / (fan_in + fan_out): keeps the scale of tanh and linear layers.

    References
    ----------
    Glorot and Bengio, *Understanding the difficulty of training deep feedforward neural networks*, 2010.

    Examples
    --------
    >>> import numpy as np
    >>> weight = GlorotUniform()(np.random.default_rng(0), (300, 100), 300, 100)
    >>> float((weight.var() * (300 + 100) / 2).round(1))
    1.0
    """

    def __call__(self, rng: Random, shape: Shape, fan_in: int, fan_out: int) -> NDArray[np.float64]:
        """Draw an array of ``shape``."""
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        return np.asarray(bound * (2.0 * rng.random(shape) - 1.0))


@dataclass(frozen=True)
class HeUniform(Initializer):
    """Weights uniform with variance 2 / fan_in: keeps the scale through ReLU, which halves it.

    References
    ----------
    He, Zhang, Ren and Sun, *Delving deep into rectifiers*, 2015, equation 10.

    Examples
    --------
    >>> import numpy as np
    >>> weight = HeUniform()(np.random.default_rng(0), (300, 100), 300, 100)
    >>> float((weight.var() * 300 / 2).round(1))
    1.0
    """

    def __call__(self, rng: Random, shape: Shape, fan_in: int, fan_out: int) -> NDArray[np.float64]:
        """Draw an array of ``shape``."""
        bound = math.sqrt(6.0 / fan_in)
        return np.asarray(bound * (2.0 * rng.random(shape) - 1.0))


# The base ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """The base of all layers: one that changes nothing.

    A layer of your own overrides `forward` and `backward`, and what else differs from this.

    Examples
    --------
    >>> from xpnet import Dense, Layer, Network
    >>> class Double(Layer):
    ...     def forward(self, params, x, ctx, *, state=None, noise=None):
    ...         return 2.0 * x, None
    ...     def backward(self, params, cache, dy, ctx, *, input_gradient=True):
    ...         return 2.0 * dy, {}
    >>> Network([Dense(3), Double()], input_shape=(4,)).output_shape
    (3,)
    """

    def __post_init__(self) -> None:
        """Check the hyperparameters; subclasses add to this."""
        use_python_numbers(self)

    def minimum_batch(self, input_shape: Shape) -> int:
        """Return the least number of samples that a training batch needs."""
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

    def init(self, rng: Random, input_shape: Shape) -> tuple[HostArrays, HostArrays]:
        """Return the initial parameters and the initial state, as NumPy arrays."""
        return {}, {}

    def noise(self, rng: Any, input_shape: Shape, n: int) -> NDArray[Any] | None:
        """Draw on the host what the layer needs of chance for ``n`` samples, a row for each, in small integers."""
        return None

    def forward(
        self,
        params: Params,
        x: Array,
        ctx: Context,
        *,
        state: State | None = None,
        noise: Array | None = None,
    ) -> tuple[Array, Any]:
        """Return the output for a batch, and the cache that `backward` needs."""
        return x, None

    def backward(
        self, params: Params, cache: Any, dy: Array, ctx: Context, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        """Return the gradients of the input and of the parameters, given that of the output.

        ``input_gradient=False`` says that nobody needs the former: the first layer with parameters saves its cost.
        """
        return dy, {}

    def next_state(self, state: State, cache: Any, ctx: Context) -> State:
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
        What `dense` was given.
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
        # The product of a column and a row is an outer product, which broadcasting does in half the time.
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

    units: int
    bias: bool = True
    init_weight: Initializer = field(default_factory=HeUniform)

    def __post_init__(self) -> None:
        """Check the number of units and the initializer."""
        super().__post_init__()
        require_size("units", self.units)
        require_instance("init_weight", self.init_weight, Initializer, "HeUniform()")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(units,)``."""
        if len(input_shape) != 1:
            raise ShapeError(
                f"Dense({self.units}) takes samples of shape (features,), but gets {input_shape}: "
                "put Flatten() before it"
            )
        return (self.units,)

    def init(self, rng: Random, input_shape: Shape) -> tuple[HostArrays, HostArrays]:
        """Draw the weights; biases start at zero."""
        (fan_in,) = input_shape
        shape = (fan_in, self.units)
        params = {"weight": self.init_weight(rng, shape, fan_in, self.units)}
        if self.bias:
            params["bias"] = np.zeros(self.units)
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
        """Apply `dense`."""
        return dense(x, params["weight"], params.get("bias")), x

    def backward(
        self, params: Params, cache: Any, dy: Array, ctx: Context, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        """Apply `dense_backward`."""
        dx, dweight, dbias = dense_backward(cache, params["weight"], dy, input_gradient=input_gradient, xp=ctx.xp)
        return dx, {"weight": dweight, "bias": dbias} if self.bias else {"weight": dweight}


# Dropout ----------------------------------------------------------------------------------------------------------

KEEP_LEVELS = 2**16
"""Random 16-bit integers decide what dropout keeps, so a rate is rounded to a multiple of 1 / 65,536."""


def dropout(x: Array, keep: Array, rate: float, *, xp: Namespace = None) -> Array:
    """Set some units to zero and scale the others by ``1 / (1 - rate)``, so that the expected value stays.

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
    Srivastava et al., *Dropout: a simple way to prevent neural networks from overfitting*, 2014; the scaling in
    training instead of in evaluation is known as inverted dropout.

    Examples
    --------
    >>> import numpy as np
    >>> dropout(np.asarray([[1.0, 2.0, 3.0, 4.0]]), np.asarray([[1, 0, 1, 0]]), 0.5)
    array([[2., 0., 6., 0.]])
    """
    xp = xp or array_namespace(x)
    scaled = xp.astype(keep, x.dtype)
    scaled *= 1.0 / (1.0 - rate)
    return scaled * x


@dataclass(frozen=True)
class Dropout(Layer):
    """Drop units at random in training; in evaluation do nothing.

    On images whole channels are dropped: neighbouring pixels are too alike for one to be missed.

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

    rate: float = 0.5

    def __post_init__(self) -> None:
        """Check the rate."""
        super().__post_init__()
        require_fraction("rate", self.rate)

    def noise(self, rng: Any, input_shape: Shape, n: int) -> NDArray[Any] | None:
        """Draw what to keep: ``(n, features)``, or ``(n, channels)`` for images, of 0 and 1."""
        levels = sixteen_bits(rng, (n, input_shape[-1]))
        return np.asarray(levels >= round(self.rate * KEEP_LEVELS)).view(np.uint8)

    def forward(
        self,
        params: Params,
        x: Array,
        ctx: Context,
        *,
        state: State | None = None,
        noise: Array | None = None,
    ) -> tuple[Array, Any]:
        """Apply `dropout` when training."""
        if not ctx.training or noise is None:
            return x, None
        keep = noise if len(x.shape) == 2 else noise.T[None, :, None, :]
        return dropout(x, keep, self.rate, xp=ctx.xp), keep

    def backward(
        self, params: Params, cache: Any, dy: Array, ctx: Context, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        """Apply `dropout` to the gradient."""
        return (dy if cache is None else dropout(dy, cache, self.rate, xp=ctx.xp)), {}


# Flatten ----------------------------------------------------------------------------------------------------------


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

    def forward(
        self,
        params: Params,
        x: Array,
        ctx: Context,
        *,
        state: State | None = None,
        noise: Array | None = None,
    ) -> tuple[Array, Any]:
        """Merge all axes but the batch's, and put that first."""
        if len(x.shape) == 2:
            return x, x.shape
        return ctx.xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])).T, x.shape

    def backward(
        self, params: Params, cache: Any, dy: Array, ctx: Context, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        """Undo the merge."""
        return (dy if len(cache) == 2 else ctx.xp.reshape(dy.T, cache)), {}
