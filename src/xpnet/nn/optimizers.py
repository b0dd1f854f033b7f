"""Optimizers: how a gradient becomes a step.

An optimizer sees one array of parameters at a time, ``theta``, and each method is a few lines of arithmetic, as in its
paper. `xpnet.training.step.update` loops over the arrays of a network. The scalars of a step that depend on no array
(the learning rate, Adam's bias corrections) are computed on the host in float64 for a whole epoch, and passed to the
steps as data.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xpnet.parts import Fraction, NonNegative, Part, Positive
from xpnet.typing import Array, Arrays, HostArray, HostVector, Namespace

Update = tuple[Array, Arrays]
"""The new parameters, and the optimizer's new state for them."""


@dataclass(frozen=True)
class Optimizer(Part):
    """The base of all optimizers.

    Parameters
    ----------
    learning_rate : float
        Positive.
    weight_decay : float
        The factor of ``theta`` in the gradient: the penalty ``weight_decay / 2 |theta|^2`` has this derivative.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import SGD, Optimizer
    >>> isinstance(SGD(0.1), Optimizer), SGD(0.1).scalars(np.asarray([1, 2]), np.asarray([0.1, 0.05]))["rate"].tolist()
    (True, [0.1, 0.05])
    """

    learning_rate: Positive
    weight_decay: NonNegative = field(default=0.0, kw_only=True)

    def init(self, theta: Array, *, xp: Namespace) -> Arrays:
        """Return the state before the first step: arrays like ``theta``."""
        return {}

    def scalars(self, t: HostArray, rates: HostVector) -> dict[str, HostVector]:
        """Return the scalars that `update` needs at each of some steps.

        Parameters
        ----------
        t : array of integers, shape (steps,)
            The numbers of the steps, from 1 on.
        rates : array, shape (steps,)
            The learning rate at each.

        Returns
        -------
        dict of str to array, shape (steps,)
        """
        return {"rate": rates}

    def update(self, theta: Array, state: Arrays, gradient: Array, scalars: Arrays, *, xp: Namespace) -> Update:
        """Take one step.

        Parameters
        ----------
        theta : array
            The parameters, of any shape.
        state : dict of str to array, the shape of ``theta``
            The state from `init` or the previous step.
        gradient : array, the shape of ``theta``
            The gradient of the batch's mean loss.
        scalars : mapping of str to array, shape ()
            The scalars of this step.
        xp : module
            The array namespace.

        Returns
        -------
        theta, state
            New arrays; the old ones do not change.
        """
        raise NotImplementedError

    def decayed(self, theta: Array, gradient: Array) -> Array:
        """Return the gradient plus weight decay."""
        return gradient + self.weight_decay * theta if self.weight_decay else gradient


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with or without momentum.

    ``v <- momentum v + g``, then ``theta <- theta - rate v``, or with Nesterov's look-ahead
    ``theta <- theta - rate (g + momentum v)``.

    Parameters
    ----------
    learning_rate : float
        Positive.
    weight_decay : float
        See `Optimizer`.
    momentum : float
        In [0, 1).
    nesterov : bool
        Whether to look ahead; needs a momentum.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton, *On the importance of initialization and momentum in deep learning*, 2013,
    in the form in which deep learning libraries write it.

    Examples
    --------
    >>> import numpy as np
    >>> theta, state = SGD(0.5).update(np.asarray([1.0]), {}, np.asarray([0.2]), {"rate": 0.5}, xp=np)
    >>> theta
    array([0.9])
    """

    momentum: Fraction = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        """Check that ``nesterov`` has a momentum."""
        super().__post_init__()
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov=True: needs a momentum above 0")

    @property
    def plain(self) -> bool:
        """Whether a step is just ``theta - rate g``."""
        return self.momentum == 0.0 and self.weight_decay == 0.0

    def init(self, theta: Array, *, xp: Namespace) -> Arrays:
        """Return a velocity of zero."""
        return {"velocity": xp.zeros_like(theta)} if self.momentum else {}

    def update(self, theta: Array, state: Arrays, gradient: Array, scalars: Arrays, *, xp: Namespace) -> Update:
        """Take one step."""
        step = self.decayed(theta, gradient)
        if self.momentum:
            velocity = self.momentum * state["velocity"]
            velocity += step
            step = step + self.momentum * velocity if self.nesterov else velocity
            state = {"velocity": velocity}
        return theta - scalars["rate"] * step, state


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """Divide each step by the root of a running mean of squared gradients.

    ``s <- decay s + (1 - decay) g^2``, then ``theta <- theta - rate g / (sqrt(s) + epsilon)``.

    Parameters
    ----------
    learning_rate : float
        Positive.
    weight_decay : float
        See `Optimizer`.
    decay : float
        In [0, 1).
    epsilon : float
        Positive.

    References
    ----------
    Tieleman and Hinton, *Lecture 6.5: rmsprop*, Coursera, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> theta = np.asarray([1.0, 1.0])
    >>> gradient = np.asarray([100.0, 0.01])  # However large a gradient is, the first steps are of one length.
    >>> theta, state = RMSprop(0.1, decay=0.0).update(theta, {"square": 0.0 * theta}, gradient, {"rate": 0.1}, xp=np)
    >>> theta.round(3)
    array([0.9, 0.9])
    """

    learning_rate: Positive = 1e-2
    decay: Fraction = 0.99
    epsilon: Positive = 1e-8

    def init(self, theta: Array, *, xp: Namespace) -> Arrays:
        """Return a running mean of zero."""
        return {"square": xp.zeros_like(theta)}

    def update(self, theta: Array, state: Arrays, gradient: Array, scalars: Arrays, *, xp: Namespace) -> Update:
        """Take one step."""
        gradient = self.decayed(theta, gradient)
        square = self.decay * state["square"]
        square += (1.0 - self.decay) * (gradient * gradient)
        step = gradient / (xp.sqrt(square) + self.epsilon)
        return theta - scalars["rate"] * step, {"square": square}


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adaptive moments: momentum divided by the root of a running mean of squared gradients, both corrected for bias.

    ``m <- b1 m + (1 - b1) g`` and ``v <- b2 v + (1 - b2) g^2`` both start at zero. Dividing them by ``1 - b1^t`` and
    ``1 - b2^t`` corrects for that: ``theta <- theta - rate m^ / (sqrt(v^) + epsilon)``.

    Parameters
    ----------
    learning_rate : float
        Positive.
    weight_decay : float
        See `Optimizer`.
    beta1, beta2 : float
        In [0, 1).
    epsilon : float
        Positive.

    References
    ----------
    Kingma and Ba, *Adam: a method for stochastic optimization*, 2015, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> adam = Adam(0.1)
    >>> theta = np.asarray([1.0, 1.0])
    >>> scalars = {name: values[0] for name, values in adam.scalars(np.asarray([1]), np.asarray([0.1])).items()}
    >>> theta, state = adam.update(theta, adam.init(theta, xp=np), np.asarray([100.0, -0.01]), scalars, xp=np)
    >>> theta.round(3)  # The first step has the length of the rate, whatever the gradient's.
    array([0.9, 1.1])
    """

    learning_rate: Positive = 1e-3
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Positive = 1e-8

    def init(self, theta: Array, *, xp: Namespace) -> Arrays:
        """Return two moments of zero."""
        return {"first": xp.zeros_like(theta), "second": xp.zeros_like(theta)}

    def scalars(self, t: HostArray, rates: HostVector) -> dict[str, HostVector]:
        """Return the rate and the bias corrections, combined into two factors and one addend per step.

        The state holds ``M = m / (1 - b1)`` and ``V = v / (1 - b2)``, which saves two passes over the arrays.
        """
        correction = np.sqrt((1.0 - self.beta2**t) / (1.0 - self.beta2))
        return {
            "rate": rates,
            "step": rates * (1.0 - self.beta1) / (1.0 - self.beta1**t) * correction,
            "epsilon": self.epsilon * correction,
        }

    def update(self, theta: Array, state: Arrays, gradient: Array, scalars: Arrays, *, xp: Namespace) -> Update:
        """Take one step."""
        gradient = self.decayed(theta, gradient)
        first = self.beta1 * state["first"]
        first += gradient
        second = self.beta2 * state["second"]
        second += gradient * gradient
        denominator = xp.sqrt(second)
        denominator += scalars["epsilon"]
        step = first / denominator
        step *= scalars["step"]
        return theta - step, {"first": first, "second": second}


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: each step shrinks ``theta`` by the share ``rate weight_decay``.

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon : float
        See `Adam`.
    weight_decay : float
        At least 0.

    References
    ----------
    Loshchilov and Hutter, *Decoupled weight decay regularization*, 2019, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> adam = AdamW(0.1, weight_decay=0.5)
    >>> theta = np.asarray([1.0])
    >>> scalars = {name: values[0] for name, values in adam.scalars(np.asarray([1]), np.asarray([0.1])).items()}
    >>> theta, state = adam.update(theta, adam.init(theta, xp=np), np.asarray([0.0]), scalars, xp=np)
    >>> theta.round(3)  # No gradient at all: only the decay is left.
    array([0.95])
    """

    weight_decay: NonNegative = field(default=1e-2, kw_only=True)

    def decayed(self, theta: Array, gradient: Array) -> Array:
        """Return the gradient unchanged."""
        return gradient

    def update(self, theta: Array, state: Arrays, gradient: Array, scalars: Arrays, *, xp: Namespace) -> Update:
        """Take one step."""
        shrunk = theta - (self.weight_decay * scalars["rate"]) * theta
        return super().update(shrunk, state, gradient, scalars, xp=xp)
