"""Initializers: the first values of an array of parameters, drawn on the host."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xpnet.parts import Number, Part, Positive
from xpnet.typing import HostArray, Random, Shape


@dataclass(frozen=True)
class Initializer(Part):
    """The base of all initializers, which draw the first values of an array of parameters, on the host.

    Your own initializer overrides `__call__`. If it has fields, decorate it with ``@dataclass(frozen=True)``: a run
    saves them.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Dense, Initializer
    >>> class Normal(Initializer):
    ...     def __call__(self, rng, shape, fan_in, fan_out):
    ...         return rng.standard_normal(shape) / fan_in**0.5
    >>> params = Dense(10, init_weight=Normal()).init(np.random.default_rng(0), (64,))
    >>> float(params["weight"].std().round(2))
    0.13
    """

    def __call__(self, rng: Random, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
        """Draw an array.

        Parameters
        ----------
        rng : numpy.random.Generator or numpy.random.RandomState
            The source of random numbers.
        shape : tuple of int
            The shape of the array.
        fan_in, fan_out : int
            The number of inputs that each output sums, and the number of outputs that each input reaches.

        Returns
        -------
        array of float64, of ``shape``
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Initializer):
    """The same number everywhere; biases start at zero.

    Parameters
    ----------
    value : float
        Any number.

    Examples
    --------
    >>> import numpy as np
    >>> Constant(1.0)(np.random.default_rng(0), (3,), 3, 3)
    array([1., 1., 1.])
    """

    value: Number = 0.0

    def __call__(self, rng: Random, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
        """Return an array of ``shape``, without random numbers."""
        return np.full(shape, float(self.value))


@dataclass(frozen=True)
class Uniform(Initializer):
    """Weights uniform in [-bound, bound); the tutorial uses 0.1.

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

    bound: Positive = 0.1

    def __call__(self, rng: Random, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
        """Draw an array of ``shape``."""
        # This order of operations gives the tutorial's `0.2 * random(...) - 0.1` to the last bit.
        return np.asarray(2.0 * self.bound * rng.random(shape) - self.bound)


@dataclass(frozen=True)
class GlorotUniform(Initializer):
    """Weights uniform with variance 2 / (fan_in + fan_out), which keeps the scale through tanh and linear layers.

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

    def __call__(self, rng: Random, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
        """Draw an array of ``shape``."""
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        return np.asarray(bound * (2.0 * rng.random(shape) - 1.0))


@dataclass(frozen=True)
class HeUniform(Initializer):
    """Weights uniform with variance 2 / fan_in, which makes up for ReLU halving the scale.

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

    def __call__(self, rng: Random, shape: Shape, fan_in: int, fan_out: int) -> HostArray:
        """Draw an array of ``shape``."""
        bound = math.sqrt(6.0 / fan_in)
        return np.asarray(bound * (2.0 * rng.random(shape) - 1.0))
