"""Losses: how wrong the outputs are, and the gradient with respect to them.

Labels become *targets* once, on the host, before training: one row per sample, as wide as the network's output. Label
smoothing therefore only changes the targets, and a loss is a function of two arrays.

Losses and gradients are sums over the batch, never means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from xpnet.backends import elementwise
from xpnet.data.preprocessing import one_hot
from xpnet.parts import Fraction, Part
from xpnet.typing import Array, HostArray, Namespace


def squared_error(y: Array, targets: Array, *, xp: Namespace = None) -> Array:
    """Sum the squared differences: ``L = sum (y - t)^2``.

    Parameters
    ----------
    y, targets : array, shape (n, classes)
        The network's outputs, and their desired values.
    xp : module, optional
        The array namespace; by default that of ``y``.

    Returns
    -------
    array, shape ()
        The sum over samples and classes.

    Examples
    --------
    >>> import numpy as np
    >>> float(squared_error(np.asarray([[1.0, 2.0]]), np.asarray([[0.0, 4.0]])))
    5.0
    """
    xp = xp or array_namespace(y)
    error = y - targets
    return xp.sum(error * error)


def squared_error_backward(y: Array, targets: Array) -> Array:
    """Return the gradient of `squared_error`: ``dL/dy = 2 (y - t)``.

    Examples
    --------
    >>> import numpy as np
    >>> squared_error_backward(np.asarray([[1.0, 2.0]]), np.asarray([[0.0, 4.0]]))
    array([[ 2., -4.]])
    """
    return 2.0 * (y - targets)


def softmax(logits: Array, *, xp: Namespace = None) -> Array:
    """Turn each row of logits into probabilities: ``p[j] = exp(z[j]) / sum_k exp(z[k])``.

    The code first subtracts the largest logit of each row. In exact arithmetic this changes nothing, and it keeps the
    exponentials from overflowing.

    Parameters
    ----------
    logits : array, shape (n, classes)
        Any finite numbers.
    xp : module, optional
        The array namespace; by default that of ``logits``.

    Returns
    -------
    array, shape (n, classes)
        Rows that sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.asarray([[0.0, 0.0], [1e4, -1e4]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    return softmax_parts(logits, xp or array_namespace(logits))[0]


def softmax_parts(logits: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """Return the probabilities, the shifted logits, and the sum of exponentials of each row, (n, 1)."""
    shifted, p = _shifted_exp(logits, xp.max(logits, axis=1, keepdims=True), xp=xp)
    total = xp.sum(p, axis=1, keepdims=True)
    return p / total, shifted, total


@elementwise
def _shifted_exp(logits: Array, largest: Array, *, xp: Namespace) -> tuple[Array, Array]:
    shifted = logits - largest
    return shifted, xp.exp(shifted)


def softmax_cross_entropy(logits: Array, targets: Array, *, xp: Namespace = None) -> Array:
    """Sum the cross-entropy between targets and the softmax of logits: ``L = -sum t log p``.

    The code computes ``log p = z - log(sum exp z)`` from the logits, so it never takes the logarithm of a probability
    that has underflowed to 0.

    Parameters
    ----------
    logits, targets : array, shape (n, classes)
        The network's outputs, and rows of probabilities such as one-hot labels.
    xp : module, optional
        The array namespace; by default that of ``logits``.

    Returns
    -------
    array, shape ()
        The sum over samples, in nats.

    Examples
    --------
    >>> import numpy as np
    >>> logits, targets = np.asarray([[0.0, 0.0]]), np.asarray([[1.0, 0.0]])
    >>> softmax_cross_entropy(logits, targets).round(4)  # log 2
    np.float64(0.6931)
    """
    return _cross_entropy(logits, targets, xp or array_namespace(logits))[0]


def _cross_entropy(logits: Array, targets: Array, xp: Namespace) -> tuple[Array, Array]:
    p, shifted, total = softmax_parts(logits, xp)
    # sum_j t[j] (z[j] - log total), where the targets of a row sum to 1.
    return xp.sum(xp.log(total)) - xp.sum(shifted * targets), p


def softmax_cross_entropy_backward(p: Array, targets: Array) -> Array:
    """Return the gradient of `softmax_cross_entropy`: ``dL/dz = p - t``.

    Parameters
    ----------
    p : array, shape (n, classes)
        The softmax of the logits.
    targets : array, shape (n, classes)
        The targets of `softmax_cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> p = softmax(np.asarray([[0.0, 0.0]]))
    >>> softmax_cross_entropy_backward(p, np.asarray([[1.0, 0.0]]))
    array([[-0.5,  0.5]])
    """
    return p - targets


@dataclass(frozen=True)
class Loss(Part):
    """The base of all losses.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Loss
    >>> Loss().targets(np.asarray([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """

    def targets(self, labels: HostArray, classes: int) -> HostArray:
        """Turn labels into one-hot targets.

        Parameters
        ----------
        labels : array of integers, shape (n,)
            The labels on the host, from 0 to ``classes - 1``.
        classes : int
            The number of classes.

        Returns
        -------
        array, shape (n, classes)
            The targets, on the host.

        Raises
        ------
        ValueError
            If a label is not one of the classes.
        """
        # Without this check the row of such a label would be zeros.
        if np.any((labels < 0) | (labels >= classes)):
            raise ValueError(f"labels: from {labels.min()} to {labels.max()}; must be from 0 to {classes - 1}")
        return np.asarray(one_hot(labels, classes))

    def value(self, y: Array, targets: Array, *, xp: Namespace) -> Array:
        """Return the loss, summed over the batch."""
        raise NotImplementedError

    def gradient(self, y: Array, targets: Array, *, xp: Namespace) -> Array:
        """Return the gradient of the sum with respect to ``y``."""
        raise NotImplementedError

    def value_and_gradient(self, y: Array, targets: Array, *, xp: Namespace) -> tuple[Array, Array]:
        """Return both; a loss overrides this if it can compute both in one pass."""
        return self.value(y, targets, xp=xp), self.gradient(y, targets, xp=xp)


@dataclass(frozen=True)
class SquaredError(Loss):
    """The loss of the tutorial, `squared_error`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import SquaredError
    >>> y, targets = np.asarray([[1.0, 2.0]]), np.asarray([[0.0, 4.0]])
    >>> value, gradient = SquaredError().value_and_gradient(y, targets, xp=np)
    >>> float(value), gradient.tolist()
    (5.0, [[2.0, -4.0]])
    """

    def value(self, y: Array, targets: Array, *, xp: Namespace) -> Array:
        """Apply `squared_error`."""
        return squared_error(y, targets, xp=xp)

    def gradient(self, y: Array, targets: Array, *, xp: Namespace) -> Array:
        """Apply `squared_error_backward`."""
        return squared_error_backward(y, targets)


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """The loss of `softmax_cross_entropy`, the usual choice for classification.

    Parameters
    ----------
    label_smoothing : float
        The share of each target that is spread evenly over all classes, in [0, 1).

    References
    ----------
    Szegedy et al., *Rethinking the Inception architecture for computer vision*, 2016, section 7, for label smoothing.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import SoftmaxCrossEntropy
    >>> SoftmaxCrossEntropy(label_smoothing=0.2).targets(np.asarray([1]), 4).round(2).tolist()
    [[0.05, 0.85, 0.05, 0.05]]
    """

    label_smoothing: Fraction = 0.0

    def targets(self, labels: HostArray, classes: int) -> HostArray:
        """Turn labels into one-hot targets, smoothed."""
        return super().targets(labels, classes) * (1.0 - self.label_smoothing) + (self.label_smoothing / classes)

    def value(self, y: Array, targets: Array, *, xp: Namespace) -> Array:
        """Apply `softmax_cross_entropy`."""
        return softmax_cross_entropy(y, targets, xp=xp)

    def gradient(self, y: Array, targets: Array, *, xp: Namespace) -> Array:
        """Apply `softmax_cross_entropy_backward`."""
        return softmax_cross_entropy_backward(softmax(y, xp=xp), targets)

    def value_and_gradient(self, y: Array, targets: Array, *, xp: Namespace) -> tuple[Array, Array]:
        """Return both from one softmax."""
        value, p = _cross_entropy(y, targets, xp)
        return value, softmax_cross_entropy_backward(p, targets)
