"""Preprocessing: scaled pixels, one-hot labels, and a validation set."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from xpnet.backends import elementwise
from xpnet.parts import require_fraction, require_positive, require_size
from xpnet.random import generator
from xpnet.typing import Array, Namespace


def scale(images: Array, pixel_max: float = 255.0, dtype: str = "float64", *, xp: Namespace = None) -> Array:
    """Scale pixels to [0, 1].

    Parameters
    ----------
    images : array of integers
        Pixels from 0 to ``pixel_max``, in any shape.
    pixel_max : float
        The largest possible pixel.
    dtype : str
        The dtype of the result, float32 or float64.
    xp : module, optional
        The array namespace; by default that of ``images``.

    Returns
    -------
    array, the shape of ``images``

    Raises
    ------
    TypeError, ValueError
        If ``pixel_max`` is not a positive number, or the dtype is not float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> scale(np.asarray([0, 51, 255], dtype=np.uint8)).tolist()
    [0.0, 0.2, 1.0]
    """
    xp = xp or array_namespace(images)
    return _scaled(images, 1.0 / require_positive("pixel_max", pixel_max), dtype=_floating(xp, dtype), xp=xp)


@elementwise
def _scaled(pixels: Array, factor: float, *, dtype: Any, xp: Namespace) -> Array:
    x = xp.astype(pixels, dtype)
    x *= factor
    return x


def one_hot(labels: Array, classes: int = 10, dtype: str = "float64", *, xp: Namespace = None) -> Array:
    """Turn labels into rows with a one at the label and zeros elsewhere.

    Parameters
    ----------
    labels : array of integers, shape (n,)
        Labels from 0 to ``classes - 1``; a label outside gives a row of zeros.
    classes : int
        The number of classes.
    dtype : str
        The dtype of the result, float32 or float64.
    xp : module, optional
        The array namespace; by default that of ``labels``.

    Returns
    -------
    array, shape (n, classes)

    Raises
    ------
    TypeError, ValueError
        If the labels are not integers of shape (n,), ``classes`` is not a positive integer, or the dtype is not float32
        or float64. Labels outside the classes are not checked here, because that would wait for the device; `Dataset`
        checks them on the host.

    Examples
    --------
    >>> import numpy as np
    >>> one_hot(np.asarray([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    xp = xp or array_namespace(labels)
    if labels.ndim != 1 or not xp.isdtype(labels.dtype, "integral"):
        raise ValueError(f"labels: shape {tuple(labels.shape)} of {labels.dtype}; must be (n,) of integers")
    # The labels' own dtype may be too small for the class numbers.
    fits = require_size("classes", classes) - 1 <= xp.iinfo(labels.dtype).max
    labels = labels if fits else xp.astype(labels, xp.int32)
    each = xp.arange(classes, dtype=labels.dtype, device=device(labels))
    return xp.astype(labels[:, None] == each[None, :], _floating(xp, dtype))


def train_validation_split(n: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Set random samples aside for validation.

    Parameters
    ----------
    n : int
        The number of samples, at least 1.
    fraction : float
        The share to set aside, in [0, 1), rounded to whole samples.
    seed : int
        The seed of the choice.

    Returns
    -------
    train, validation : array of integers
        Indices, each in ascending order; together all of ``range(n)``.

    Raises
    ------
    TypeError
        If ``n`` is not an integer or ``fraction`` is not a number.
    ValueError
        If either is out of bounds, or if a fraction above 0 leaves one of the two sets empty.

    Examples
    --------
    >>> train, validation = train_validation_split(10, 0.3, seed=1)
    >>> len(train), len(validation), sorted({*train.tolist(), *validation.tolist()}) == list(range(10))
    (7, 3, True)
    """
    require_size("n", n)
    require_fraction("validation_fraction", fraction)
    held_out = round(n * fraction)
    if fraction > 0.0 and not 0 < held_out < n:
        left = "validate on" if held_out == 0 else "train on"
        raise ValueError(f"validation_fraction={fraction!r}: of {n} samples it leaves none to {left}")
    order = generator(seed, "validation split").permutation(n)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _floating(xp: Namespace, dtype: str) -> Any:
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype={dtype!r}: must be float32 or float64")
    return getattr(xp, dtype)
