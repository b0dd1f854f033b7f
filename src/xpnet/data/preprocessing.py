"""Preprocessing: from pixels and labels to the numbers that a network is fed."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from xpnet.random import generator

Array = Any
Namespace = Any


def scale(images: Array, pixel_max: float = 255.0, dtype: str = "float64", *, xp: Namespace = None) -> Array:
    """Scale pixels to [0, 1].

    Parameters
    ----------
    images : array of integers
        Pixels from 0 to ``pixel_max``, in any shape.
    pixel_max : float
        The brightest value there may be.
    dtype : str
        Of the result.
    xp : module, optional
        The array namespace; by default that of ``images``.

    Returns
    -------
    array, the shape of ``images``

    Examples
    --------
    >>> import numpy as np
    >>> scale(np.asarray([0, 51, 255], dtype=np.uint8)).tolist()
    [0.0, 0.2, 1.0]
    """
    xp = xp or array_namespace(images)
    return xp.astype(images, getattr(xp, dtype)) / pixel_max


def one_hot(labels: Array, classes: int = 10, dtype: str = "float64", *, xp: Namespace = None) -> Array:
    """Turn labels into rows with a one at the label and zeros elsewhere.

    Parameters
    ----------
    labels : array of integers, shape (n,)
        From 0 to ``classes - 1``; a label outside gives a row of zeros.
    classes : int
        The number of classes.
    dtype : str
        Of the result.
    xp : module, optional
        The array namespace; by default that of ``labels``.

    Returns
    -------
    array, shape (n, classes)

    Examples
    --------
    >>> import numpy as np
    >>> one_hot(np.asarray([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    xp = xp or array_namespace(labels)
    each = xp.arange(classes, dtype=labels.dtype, device=device(labels))
    return xp.astype(labels[:, None] == each[None, :], getattr(xp, dtype))


def train_validation_split(n: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Set samples aside for validation, at random.

    Parameters
    ----------
    n : int
        The number of samples.
    fraction : float
        The share to set aside, in [0, 1). It is rounded to whole samples.
    seed : int
        Decides which.

    Returns
    -------
    train, validation : array of integers
        Indices, each in ascending order; together all of ``range(n)``.

    Raises
    ------
    ValueError
        If a fraction above 0 leaves nothing on one of the two sides.
    """
    if isinstance(fraction, bool) or not 0.0 <= fraction < 1.0:
        raise ValueError(f"validation_fraction={fraction!r}: must be in [0, 1)")
    held_out = round(n * fraction)
    if fraction > 0.0 and not 0 < held_out < n:
        left = "validate on" if held_out == 0 else "train on"
        raise ValueError(f"validation_fraction={fraction!r}: of {n} samples it leaves none to {left}")
    order = generator(seed, "validation split").permutation(n)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
