"""Schedules: how the learning rate changes over the epochs, computed on the host in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xpnet.parts import Fraction, Number, Part, Positive, Share, Size
from xpnet.typing import HostVector


@dataclass(frozen=True)
class Schedule(Part):
    """The base of all schedules: a constant learning rate.

    Examples
    --------
    >>> import numpy as np
    >>> Schedule().factor(np.asarray([0.0, 10.0]))
    array([1., 1.])
    """

    @property
    def length(self) -> float:
        """The number of epochs that the schedule covers."""
        return math.inf

    def factor(self, epochs: HostVector) -> HostVector:
        """Return the factors by which the learning rate is multiplied.

        Parameters
        ----------
        epochs : array
            Times in epochs since the start of training, with fractions.

        Returns
        -------
        array
            The factor at each time.
        """
        return np.ones_like(epochs)


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiply the learning rate by ``gamma`` every ``every`` epochs.

    Parameters
    ----------
    every : int
        The number of epochs between two reductions.
    gamma : float
        In (0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> StepDecay(every=5, gamma=0.5).factor(np.asarray([0.0, 4.9, 5.0, 12.0]))
    array([1.  , 1.  , 0.5 , 0.25])
    """

    every: Size = 5
    gamma: Share = 0.5

    def factor(self, epochs: HostVector) -> HostVector:
        """Return the factors."""
        return np.asarray(self.gamma ** np.floor(epochs / self.every))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Lower the learning rate along half a cosine, from 1 to ``floor``.

    Parameters
    ----------
    epochs : int
        The length of the schedule, at least that of the run.
    floor : float
        The factor at the end, in [0, 1).
    warm_up : float
        The number of epochs over which the factor first rises linearly from ``start`` to 1; less than ``epochs``.
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

    epochs: Size
    floor: Fraction = 0.0
    warm_up: Number = 0.0
    start: Share = 0.1

    def __post_init__(self) -> None:
        """Check that the warm-up is shorter than the schedule."""
        super().__post_init__()
        if not 0.0 <= self.warm_up < self.epochs:
            raise ValueError(f"warm_up={self.warm_up!r}: must be at least 0 and shorter than epochs={self.epochs}")

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
    """Raise the learning rate linearly over the first epochs, then keep it.

    Parameters
    ----------
    epochs : float
        The length of the warm-up.
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

    epochs: Positive = 1.0
    start: Share = 0.1

    def factor(self, epochs: HostVector) -> HostVector:
        """Return the factors."""
        return np.minimum(self.start + (1.0 - self.start) * epochs / self.epochs, 1.0)
