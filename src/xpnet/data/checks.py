"""Checks of images and labels, for a dataset or for a network, with errors that name the argument."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.arrays import check_none_missing, to_host
from xpnet.data.download import DataError


def check_classes(classes: Any) -> int:
    """Check that the number of classes is an integer of at least 2, and return it."""
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 2:
        raise DataError(f"classes={classes!r}: must be an integer of at least 2")
    return int(classes)


def check_pixel_max(pixel_max: Any) -> float:
    """Check that the brightest pixel is a number above 0 and below 2**31, and return it."""
    number = isinstance(pixel_max, int | float | np.integer | np.floating) and not isinstance(pixel_max, bool)
    # Integers on the device are int32 at most.
    if not number or not math.isfinite(pixel_max) or not 0 < pixel_max < 2**31:
        raise DataError(f"pixel_max={pixel_max!r}: must be a number above 0 and below 2**31")
    return float(pixel_max)


def check_images(argument: str, images: Any, pixel_max: float) -> NDArray[Any]:
    """Check images, and return them in the form that a dataset keeps: C-ordered and native, uint8, int32 or floats."""
    array = to_host(argument, images)
    if array.dtype.kind not in "uif":
        way = ": give astype('uint8') of them, and pixel_max=1" if array.dtype.kind == "b" else ""
        raise DataError(f"{argument}: dtype {array.dtype}; must be integers or floats{way}")
    if not 2 <= array.ndim <= 4 or array.size == 0:
        raise DataError(
            f"{argument}: shape {array.shape}; must be (n, height, width), (n, height, width, channels) or "
            "(n, features), none of them 0"
        )
    check_pixels(argument, array, pixel_max)
    if array.dtype.kind == "f":
        # Other libraries lack NumPy's long doubles and byte orders.
        dtype = np.dtype(f"f{min(array.dtype.itemsize, 8)}")
    else:
        # The smallest dtypes that every library supports, since the pixels stay integers on the device too.
        dtype = np.dtype(np.uint8 if pixel_max <= 255 else np.int32)
    return np.ascontiguousarray(array, dtype)


def check_input(argument: str, images: Any, pixel_max: float, dtype: str) -> NDArray[Any]:
    """Check the numbers of images for a network, and return them on the host, floats in ``dtype``."""
    array = to_host(argument, images)
    if array.dtype.kind not in "uif":
        raise TypeError(f"{argument}: must be real numbers, not {array.dtype}")
    if array.dtype.kind == "f":
        # NumPy rounds here, because other libraries lack some of its precisions.
        with np.errstate(over="ignore"):
            array = array.astype(dtype, copy=False)
    check_pixels(argument, array, pixel_max)
    return array


def check_pixels(argument: str, array: NDArray[Any], pixel_max: float) -> None:
    """Check that values are finite floats, or integers from 0 to ``pixel_max``."""
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DataError(f"{argument}: NaN or infinity, or numbers too large for {array.dtype}; all must be finite")
    elif array.size and (array.min() < 0 or array.max() > pixel_max):
        raise DataError(
            f"{argument}: pixels from {array.min()} to {array.max()}; must be from 0 to pixel_max={pixel_max:g}, "
            "and images that are scaled already must be floats"
        )


def check_labels(argument: str, labels: Any, classes: int, n: int) -> NDArray[np.int64]:
    """Check the labels of ``n`` images, and return them as int64."""
    array = to_host(argument, labels)
    check_none_missing(argument, array)
    if array.ndim != 1 or array.dtype.kind not in "ui":
        raise DataError(
            f"{argument}: shape {array.shape} of {array.dtype}; must be (n,) of integers, the classes' numbers. "
            "xpnet.Dataset.from_arrays takes names, one-hot rows and whole floats"
        )
    if len(array) != n:
        raise DataError(f"{argument}: {len(array)} labels for {n} images")
    if array.size and (array.min() < 0 or array.max() >= classes):
        raise DataError(
            f"{argument}: from {array.min()} to {array.max()}; must be from 0 to {classes - 1} (classes={classes})"
        )
    return np.ascontiguousarray(array, np.int64)
