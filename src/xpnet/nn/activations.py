"""Activations: elementwise functions between the layers with parameters.

Each is a pair of functions, ``f(x)`` and ``f_backward``, and a layer without parameters that applies them. The
backward function takes the *output* where that determines the derivative, so the input need not be kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from array_api_compat import array_namespace

from xpnet.backends import elementwise
from xpnet.nn.layers import Context, Layer
from xpnet.parts import in_range
from xpnet.typing import Array, Arrays, Namespace


def relu(x: Array, *, xp: Namespace = None) -> Array:
    """Rectify: ``y = max(x, 0)``.

    Parameters
    ----------
    x : array of real floating-point numbers
        An array of any shape.
    xp : module, optional
        The array namespace; by default that of ``x``.

    Returns
    -------
    array, the shape and dtype of ``x``

    Examples
    --------
    >>> import numpy as np
    >>> relu(np.asarray([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    xp = xp or array_namespace(x)
    return xp.maximum(x, 0.0)


@elementwise
def relu_backward(y: Array, dy: Array, *, xp: Namespace = None) -> Array:
    """Pass a gradient back through `relu`: ``dx = dy`` where the unit was active, 0 elsewhere.

    Parameters
    ----------
    y : array
        The output of `relu`.
    dy : array
        The gradient of the output.
    xp : module, optional
        The array namespace; by default that of ``dy``.

    Returns
    -------
    array, the shape and dtype of ``dy``

    Examples
    --------
    >>> import numpy as np
    >>> y = relu(np.asarray([-1.0, 0.0, 2.0]))
    >>> relu_backward(y, np.asarray([10.0, 20.0, 30.0]))
    array([ 0.,  0., 30.])
    """
    xp = xp or array_namespace(dy)
    dx = xp.astype(y > 0.0, dy.dtype)
    dx *= dy
    return dx


def leaky_relu(x: Array, slope: float = 0.01, *, xp: Namespace = None) -> Array:
    """Rectify, but keep a small slope below zero: ``y = x`` above, ``y = slope * x`` below.

    References
    ----------
    Maas, Hannun and Ng, *Rectifier nonlinearities improve neural network acoustic models*, 2013.

    Examples
    --------
    >>> import numpy as np
    >>> leaky_relu(np.asarray([-1.0, 2.0]), 0.1)
    array([-0.1,  2. ])
    """
    xp = xp or array_namespace(x)
    # LeakyReLU checks that 0 <= slope <= 1, so the larger of the two is the right one on either side of zero.
    return xp.maximum(x, slope * x)


@elementwise
def leaky_relu_backward(y: Array, dy: Array, slope: float = 0.01, *, xp: Namespace = None) -> Array:
    """Pass a gradient back through `leaky_relu`: ``dx = dy`` above zero, ``slope * dy`` below.

    Examples
    --------
    >>> import numpy as np
    >>> y = leaky_relu(np.asarray([-1.0, 2.0]), 0.25)
    >>> leaky_relu_backward(y, np.asarray([10.0, 20.0]), 0.25)
    array([ 2.5, 20. ])
    """
    xp = xp or array_namespace(dy)
    derivative = xp.astype(y > 0.0, dy.dtype)
    derivative *= 1.0 - slope
    derivative += slope
    derivative *= dy
    return derivative


def tanh(x: Array, *, xp: Namespace = None) -> Array:
    """Squash to (-1, 1): ``y = tanh(x)``.

    Examples
    --------
    >>> import numpy as np
    >>> tanh(np.asarray([-1.0, 0.0, 1.0])).round(4)
    array([-0.7616,  0.    ,  0.7616])
    """
    xp = xp or array_namespace(x)
    return xp.tanh(x)


def tanh_backward(y: Array, dy: Array) -> Array:
    """Pass a gradient back through `tanh`: ``dx = (1 - y^2) dy``.

    Examples
    --------
    >>> import numpy as np
    >>> tanh_backward(tanh(np.asarray([0.0, 100.0])), np.asarray([5.0, 5.0]))
    array([5., 0.])
    """
    return (1.0 - y * y) * dy


def sigmoid(x: Array, *, xp: Namespace = None) -> Array:
    """Squash to (0, 1): ``y = 1 / (1 + exp(-x))``.

    The code computes ``(1 + tanh(x / 2)) / 2``, which is the same function and never overflows.

    Examples
    --------
    >>> import numpy as np
    >>> sigmoid(np.asarray([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    xp = xp or array_namespace(x)
    return 0.5 * xp.tanh(0.5 * x) + 0.5


def sigmoid_backward(y: Array, dy: Array) -> Array:
    """Pass a gradient back through `sigmoid`: ``dx = y (1 - y) dy``.

    Examples
    --------
    >>> import numpy as np
    >>> sigmoid_backward(sigmoid(np.asarray([0.0])), np.asarray([8.0]))
    array([2.])
    """
    return y * (1.0 - y) * dy


_GELU_SCALE = math.sqrt(2.0 / math.pi)
_GELU_CUBIC = 0.044715


@elementwise
def gelu(x: Array, *, xp: Namespace = None) -> Array:
    """Weight ``x`` by the Gaussian distribution function, ``y = x P(X <= x)``, in the paper's tanh form.

    ``y = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``. The exact form needs the error function, which the
    standard lacks; the two differ by less than 5e-4.

    References
    ----------
    Hendrycks and Gimpel, *Gaussian error linear units (GELUs)*, 2016, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> gelu(np.asarray([-1.0, 0.0, 1.0])).round(4)
    array([-0.1588,  0.    ,  0.8412])
    """
    xp = xp or array_namespace(x)
    return 0.5 * x * (1.0 + xp.tanh(_GELU_SCALE * (x + _GELU_CUBIC * (x * x * x))))


@elementwise
def gelu_backward(x: Array, dy: Array, *, xp: Namespace = None) -> Array:
    """Pass a gradient back through `gelu`.

    With ``t = tanh(u)``: ``dy/dx = (1 + t) / 2 + x / 2 (1 - t^2) du/dx``, the product rule on ``x / 2 (1 + t)``.

    Parameters
    ----------
    x : array
        The *input* of `gelu`. The output alone does not determine the derivative, since gelu is not monotonic.
    dy : array
        The gradient of the output.
    xp : module, optional
        The array namespace; by default that of ``dy``.

    Examples
    --------
    >>> import numpy as np
    >>> gelu_backward(np.asarray([-10.0, 0.0, 10.0]), np.asarray([1.0, 1.0, 1.0])).round(4).tolist()
    [0.0, 0.5, 1.0]
    """
    xp = xp or array_namespace(dy)
    squared = x * x
    t = xp.tanh(_GELU_SCALE * (x + _GELU_CUBIC * (squared * x)))
    du = _GELU_SCALE * (1.0 + 3.0 * _GELU_CUBIC * squared)
    return (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du) * dy


@dataclass(frozen=True)
class ReLU(Layer):
    """The layer of `relu`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Context, ReLU
    >>> y, cache = ReLU().forward({}, np.asarray([[-1.0, 2.0]]), Context(np))
    >>> ReLU().backward({}, cache, np.asarray([[5.0, 5.0]]), Context(np))
    (array([[0., 5.]]), {})
    """

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply `relu`, and keep the output for `backward`."""
        y = relu(x, xp=ctx.xp)
        return y, y

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Apply `relu_backward`."""
        return relu_backward(cache, dy, xp=ctx.xp), {}


@dataclass(frozen=True)
class LeakyReLU(Layer):
    """The layer of `leaky_relu`.

    Parameters
    ----------
    slope : float
        The slope below zero, in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Context, LeakyReLU
    >>> LeakyReLU(0.1).forward({}, np.asarray([[-1.0, 2.0]]), Context(np))[0]
    array([[-0.1,  2. ]])
    """

    slope: Annotated[float, in_range(0.0, 1.0, "LeakyReLU takes a slope in [0, 1]")] = 0.01

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply `leaky_relu`, and keep the output for `backward`."""
        y = leaky_relu(x, self.slope, xp=ctx.xp)
        return y, y

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Apply `leaky_relu_backward`."""
        return leaky_relu_backward(cache, dy, self.slope, xp=ctx.xp), {}


@dataclass(frozen=True)
class Tanh(Layer):
    """The layer of `tanh`.

    Examples
    --------
    >>> from xpnet import Dense, GlorotUniform, Network, Tanh
    >>> net = Network([Dense(20, init_weight=GlorotUniform()), Tanh(), Dense(10)], input_shape=(64,))
    >>> net.output_shape
    (10,)
    """

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply `tanh`, and keep the output for `backward`."""
        y = tanh(x, xp=ctx.xp)
        return y, y

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Apply `tanh_backward`."""
        return tanh_backward(cache, dy), {}


@dataclass(frozen=True)
class Sigmoid(Layer):
    """The layer of `sigmoid`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Context, Sigmoid
    >>> Sigmoid().forward({}, np.asarray([[0.0]]), Context(np))[0]
    array([[0.5]])
    """

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply `sigmoid`, and keep the output for `backward`."""
        y = sigmoid(x, xp=ctx.xp)
        return y, y

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Apply `sigmoid_backward`."""
        return sigmoid_backward(cache, dy), {}


@dataclass(frozen=True)
class GELU(Layer):
    """The layer of `gelu`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Context, GELU
    >>> x = np.asarray([[-3.0, 0.0, 3.0]])
    >>> y, cache = GELU().forward({}, x, Context(np))
    >>> y.round(3).tolist(), cache is x  # It keeps its input for the backward pass.
    ([[-0.004, 0.0, 2.996]], True)
    """

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply `gelu`, and keep the input for `backward`."""
        y = gelu(x, xp=ctx.xp)
        return y, x

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Apply `gelu_backward`."""
        return gelu_backward(cache, dy, xp=ctx.xp), {}
