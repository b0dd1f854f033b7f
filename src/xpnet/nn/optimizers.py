"""Optimizers: how a gradient becomes a step; and schedules: how long the steps are.

All parameters of a network travel as one flat vector, ``theta``, so each method reads as it does in its paper: a
few lines of arithmetic on vectors. What changes from step to step without looking at any array (the learning rate,
Adam's bias corrections) is computed on the host in float64 for a whole epoch and handed to the steps as data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xpnet.checks import require_fraction, require_number, require_positive, require_size, use_python_numbers
from xpnet.nn.layers import Array, Namespace

HostVector = NDArray[np.float64]


@dataclass(frozen=True)
class Optimizer:
    """The base of all optimizers.

    Parameters
    ----------
    learning_rate : float
        Positive.
    weight_decay : float
        How much of ``theta`` is added to the gradient: the derivative of ``weight_decay / 2 |theta|^2``.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import SGD, Optimizer
    >>> isinstance(SGD(0.1), Optimizer), SGD(0.1).scalars(np.asarray([1, 2]), np.asarray([0.1, 0.05]))["rate"].tolist()
    (True, [0.1, 0.05])
    """

    learning_rate: float
    weight_decay: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        """Check the hyperparameters; subclasses add to this."""
        use_python_numbers(self)
        require_positive("learning_rate", self.learning_rate)
        require_number("weight_decay", self.weight_decay)
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay={self.weight_decay!r}: must be a finite number of at least 0")

    def init(self, theta: Array, *, xp: Namespace) -> dict[str, Array]:
        """Return the state before the first step: vectors as long as ``theta``."""
        return {}

    def scalars(self, t: NDArray[np.int64], rates: HostVector) -> dict[str, HostVector]:
        """Return what `update` needs at each of some steps.

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

    def update(
        self,
        theta: Array,
        state: dict[str, Array],
        gradient: Array,
        scalars: dict[str, Array],
        *,
        xp: Namespace,
    ) -> tuple[Array, dict[str, Array]]:
        """Take one step.

        Parameters
        ----------
        theta : array, shape (size,)
            The parameters.
        state : dict of str to array, shape (size,)
            From `init` or the step before.
        gradient : array, shape (size,)
            Of the mean loss of the batch.
        scalars : dict of str to array, shape ()
            Those of this step.
        xp : module
            The array namespace.

        Returns
        -------
        theta, state
            New arrays; the old ones are left as they were.
        """
        raise NotImplementedError

    def decayed(self, theta: Array, gradient: Array) -> Array:
        """Return the gradient with weight decay in it."""
        return gradient + self.weight_decay * theta if self.weight_decay else gradient


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with or without momentum.

    ``v <- momentum v + g``, then ``theta <- theta - rate v``, or with Nesterov's look ahead
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

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        require_fraction("momentum", self.momentum)
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov=True: needs a momentum above 0")

    @property
    def plain(self) -> bool:
        """Whether a step is ``theta - rate g`` and no more."""
        return self.momentum == 0.0 and self.weight_decay == 0.0

    def init(self, theta: Array, *, xp: Namespace) -> dict[str, Array]:
        """Return the velocity, zero."""
        return {"velocity": xp.zeros_like(theta)} if self.momentum else {}

    def update(
        self,
        theta: Array,
        state: dict[str, Array],
        gradient: Array,
        scalars: dict[str, Array],
        *,
        xp: Namespace,
    ) -> tuple[Array, dict[str, Array]]:
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

    learning_rate: float = 1e-2
    decay: float = 0.99
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        require_fraction("decay", self.decay)
        require_positive("epsilon", self.epsilon)

    def init(self, theta: Array, *, xp: Namespace) -> dict[str, Array]:
        """Return the running mean, zero."""
        return {"square": xp.zeros_like(theta)}

    def update(
        self,
        theta: Array,
        state: dict[str, Array],
        gradient: Array,
        scalars: dict[str, Array],
        *,
        xp: Namespace,
    ) -> tuple[Array, dict[str, Array]]:
        """Take one step."""
        gradient = self.decayed(theta, gradient)
        square = self.decay * state["square"]
        square += (1.0 - self.decay) * (gradient * gradient)
        step = gradient / (xp.sqrt(square) + self.epsilon)
        return theta - scalars["rate"] * step, {"square": square}


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adaptive moments: momentum, over the root of a running mean of squared gradients, both corrected for bias.

    ``m <- b1 m + (1 - b1) g`` and ``v <- b2 v + (1 - b2) g^2``; both start at zero, so they are divided by
    ``1 - b1^t`` and ``1 - b2^t``: ``theta <- theta - rate m^ / (sqrt(v^) + epsilon)``.

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

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        require_fraction("beta1", self.beta1)
        require_fraction("beta2", self.beta2)
        require_positive("epsilon", self.epsilon)

    def init(self, theta: Array, *, xp: Namespace) -> dict[str, Array]:
        """Return the two moments, zero."""
        return {"first": xp.zeros_like(theta), "second": xp.zeros_like(theta)}

    def scalars(self, t: NDArray[np.int64], rates: HostVector) -> dict[str, HostVector]:
        """Return the rate and the bias corrections, gathered into two factors and one addend a step.

        The state holds ``M = m / (1 - b1)`` and ``V = v / (1 - b2)``, which saves two passes over the vectors.
        """
        correction = np.sqrt((1.0 - self.beta2**t) / (1.0 - self.beta2))
        return {
            "rate": rates,
            "step": rates * (1.0 - self.beta1) / (1.0 - self.beta1**t) * correction,
            "epsilon": self.epsilon * correction,
        }

    def update(
        self,
        theta: Array,
        state: dict[str, Array],
        gradient: Array,
        scalars: dict[str, Array],
        *,
        xp: Namespace,
    ) -> tuple[Array, dict[str, Array]]:
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
    """Adam, with weight decay beside the gradient instead of in it: ``theta`` shrinks by ``rate weight_decay``.

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

    weight_decay: float = field(default=1e-2, kw_only=True)

    def decayed(self, theta: Array, gradient: Array) -> Array:
        """Return the gradient as it is."""
        return gradient

    def update(
        self,
        theta: Array,
        state: dict[str, Array],
        gradient: Array,
        scalars: dict[str, Array],
        *,
        xp: Namespace,
    ) -> tuple[Array, dict[str, Array]]:
        """Take one step."""
        shrunk = theta - (self.weight_decay * scalars["rate"]) * theta
        return super().update(shrunk, state, gradient, scalars, xp=xp)


# Schedules --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """The base of all schedules: a constant learning rate.

    Examples
    --------
    >>> import numpy as np
    >>> Schedule().factor(np.asarray([0.0, 10.0]))
    array([1., 1.])
    """

    def __post_init__(self) -> None:
        """Check the hyperparameters; subclasses add to this."""
        use_python_numbers(self)

    @property
    def length(self) -> float:
        """The number of epochs that it covers."""
        return math.inf

    def factor(self, epochs: HostVector) -> HostVector:
        """Return what the learning rate is multiplied by.

        Parameters
        ----------
        epochs : array
            Times in epochs since the start of training, with fractions.

        Returns
        -------
        array
            The factor at each.
        """
        return np.ones_like(epochs)


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiply the learning rate by ``gamma`` every ``every`` epochs.

    Parameters
    ----------
    every : int
        Epochs between two cuts.
    gamma : float
        In (0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> StepDecay(every=5, gamma=0.5).factor(np.asarray([0.0, 4.9, 5.0, 12.0]))
    array([1.  , 1.  , 0.5 , 0.25])
    """

    every: int = 5
    gamma: float = 0.5

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        require_size("every", self.every)
        require_number("gamma", self.gamma)
        if not 0.0 < self.gamma <= 1.0:
            raise ValueError(f"gamma={self.gamma!r}: must be in (0, 1]")

    def factor(self, epochs: HostVector) -> HostVector:
        """Return the factors."""
        return np.asarray(self.gamma ** np.floor(epochs / self.every))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Lower the learning rate along half a cosine, from 1 to ``floor``.

    Parameters
    ----------
    epochs : int
        How long it takes: at least as long as the run.
    floor : float
        The factor at the end, in [0, 1).
    warm_up : float
        Epochs over which the factor first rises from ``start`` to 1 in a straight line; fewer than ``epochs``.
    start : float
        In (0, 1].

    References
    ----------
    Loshchilov and Hutter, *SGDR: stochastic gradient descent with warm restarts*, 2017, equation 5, without
    restarts.

    Examples
    --------
    >>> import numpy as np
    >>> Cosine(10).factor(np.asarray([0.0, 5.0, 10.0])).round(3).tolist()
    [1.0, 0.5, 0.0]
    """

    epochs: int
    floor: float = 0.0
    warm_up: float = 0.0
    start: float = 0.1

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        require_size("epochs", self.epochs)
        require_fraction("floor", self.floor)
        require_number("warm_up", self.warm_up)
        if not 0.0 <= self.warm_up < self.epochs:
            raise ValueError(f"warm_up={self.warm_up!r}: must be at least 0 and shorter than epochs={self.epochs}")
        _require_start(self.start)

    @property
    def length(self) -> float:
        """``epochs``."""
        return self.epochs

    def factor(self, epochs: HostVector) -> HostVector:
        """Return the factors."""
        progress = np.clip((epochs - self.warm_up) / (self.epochs - self.warm_up), 0.0, 1.0)
        cosine = self.floor + (1.0 - self.floor) * 0.5 * (1.0 + np.cos(math.pi * progress))
        if not self.warm_up:
            return cosine
        return np.where(epochs < self.warm_up, WarmUp(self.warm_up, self.start).factor(epochs), cosine)


@dataclass(frozen=True)
class WarmUp(Schedule):
    """Raise the learning rate in a straight line over the first epochs, then keep it.

    Parameters
    ----------
    epochs : float
        How long the rise takes.
    start : float
        The factor at the first step, in (0, 1].

    References
    ----------
    Goyal et al., *Accurate, large minibatch SGD: training ImageNet in 1 hour*, 2017, section 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> WarmUp(2.0, start=0.1).factor(np.asarray([0.0, 1.0, 2.0, 5.0])).round(3)
    array([0.1 , 0.55, 1.  , 1.  ])
    """

    epochs: float = 1.0
    start: float = 0.1

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        require_positive("epochs", self.epochs)
        _require_start(self.start)

    def factor(self, epochs: HostVector) -> HostVector:
        """Return the factors."""
        return np.minimum(self.start + (1.0 - self.start) * epochs / self.epochs, 1.0)


def _require_start(value: float) -> None:
    require_number("start", value)
    if not 0.0 < value <= 1.0:
        raise ValueError(f"start={value!r}: must be in (0, 1]")
