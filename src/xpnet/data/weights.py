"""Weights of training samples, given for the classes or for the samples themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.arrays import to_host
from xpnet.data.download import DataError

MOST = 1e9
"""Larger weights would make gradients overflow."""


def check_weights(argument: str, weights: Any, n: int) -> NDArray[np.float64]:
    """Check that weights are n numbers of at least 0, not all 0, and return them.

    Raises
    ------
    DataError
        Naming the argument.
    """
    array = to_host(argument, weights)
    if array.shape != (n,) or array.dtype.kind not in "uif":
        raise DataError(f"{argument}: shape {array.shape} of {array.dtype}; must be ({n},) of numbers")
    if not np.isfinite(array).all() or array.min(initial=0.0) < 0.0 or not 0.0 < array.max(initial=0.0) <= MOST:
        raise DataError(
            f"{argument}: from {array.min()} to {array.max()}; all must be finite and at least 0, and one above zero; "
            f"none may be above {MOST:g}"
        )
    return np.ascontiguousarray(array, np.float64)


def weights_of_classes(class_weight: Any, labels: NDArray[np.int64], class_names: Sequence[str]) -> NDArray[np.float64]:
    """Return the weight of each sample from the weights of the classes.

    Parameters
    ----------
    class_weight : "balanced", mapping or sequence
        See `xpnet.Dataset.weighted`.
    labels : array of integers, shape (n,)
        The class of each sample.
    class_names : sequence of str
        The names of the classes.

    Raises
    ------
    DataError
        If ``class_weight`` is anything else, or names an unknown class.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.weights import weights_of_classes
    >>> weights_of_classes("balanced", np.asarray([0, 1, 1, 1]), ["0", "1"]).round(2).tolist()
    [2.0, 0.67, 0.67, 0.67]
    >>> weights_of_classes({"cat": 5}, np.asarray([0, 1, 1, 1]), ["cat", "dog"]).tolist()
    [5.0, 1.0, 1.0, 1.0]
    """
    classes = len(class_names)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise DataError(f"class_weight={class_weight!r}: must be 'balanced', or the weight of each class")
        counts = np.bincount(labels, minlength=classes)
        return np.asarray(len(labels) / (classes * counts[labels]))
    if isinstance(class_weight, Mapping):
        given = {str(name): weight for name, weight in class_weight.items()}
        if unknown := sorted(given.keys() - set(class_names)):
            raise DataError(f"class_weight: there is no class {unknown[0]!r}; there are {', '.join(class_names)[:200]}")
        class_weight = [given.get(name, 1.0) for name in class_names]
    return check_weights("class_weight", class_weight, classes)[labels]
