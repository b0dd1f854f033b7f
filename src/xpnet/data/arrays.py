"""Conversion to host arrays: from arrays of any library, frames, lists of images, masked arrays and object arrays.

Missing values are an error, because a network cannot be trained on them: a mask, ``None`` or NaN is never dropped
silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backends import backend_of
from xpnet.data.download import DataError

MEND = "fill them, or leave their samples out"


def to_host(argument: str, values: Any) -> NDArray[Any]:
    """Return values as an array on the host.

    Parameters
    ----------
    argument : str
        The name of the values in errors.
    values : array_like
        An array of any library on any device, a pandas frame or series, a sparse matrix, a Pillow image, or a list of
        any of these. pandas is not imported.

    Returns
    -------
    array
        An array of numbers, booleans or strings.

    Raises
    ------
    DataError
        If the values cannot be converted to an array, or some are missing.
    """
    try:
        array = _converted(values)
    except DataError as error:
        raise DataError(f"{argument}: {error}") from None
    except Exception as error:  # each library raises its own kind
        words = " ".join(str(error).split())[:200]
        raise DataError(
            f"{argument}: {type(values).__name__} is not an array on the host: {words}{_way_out(values)}"
        ) from None
    if array.dtype.kind == "O":
        for column, dtype in zip(getattr(values, "columns", ()), getattr(values, "dtypes", ()), strict=False):
            if getattr(dtype, "kind", "O") not in "buif":
                raise DataError(f"{argument}: column {column!r} is of {dtype}, and pixels are numbers: drop it first")
        raise DataError(f"{argument}: dtype object: values of different kinds or lengths; must be one array of numbers")
    return array


def check_none_missing(argument: str, array: NDArray[Any]) -> None:
    """Refuse floats among which some are NaN, and count those."""
    if array.dtype.kind == "f" and (missing := int(np.isnan(array).sum())):
        raise DataError(f"{argument}: {missing:,} of {array.size:,} values are missing: {MEND}")


def _converted(values: Any) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        if missing := int(np.ma.getmaskarray(values).sum()):
            raise DataError(f"{missing:,} of {values.size:,} values are masked: {MEND}")
        return np.asarray(values.data)
    if isinstance(values, np.ndarray):
        return _of_objects(values) if values.dtype.kind == "O" else np.asarray(values)
    if hasattr(values, "convert") and hasattr(values, "getbands"):  # a Pillow image
        return np.asarray(values.convert("L") if values.mode in ("P", "1", "LA") else values)
    if isinstance(values, list | tuple) and values and not isinstance(values[0], int | float | str | list | tuple):
        return _of_objects(np.asarray(_stacked(values)))
    if hasattr(values, "to_numpy"):
        return _of_objects(np.asarray(values.to_numpy()))
    if hasattr(values, "toarray"):  # a sparse matrix
        return np.asarray(values.toarray())
    return _of_objects(np.asarray(_from_library(values)))


def _stacked(values: Any) -> Any:
    """Stack the items of a list, if they are arrays or images."""
    if any(isinstance(value, Mapping | str | bytes) or value is None for value in values):
        return np.asarray(values, dtype=object)
    return np.stack([_converted(value) for value in values])


def _from_library(values: Any) -> Any:
    """Copy an array of another library to the host; bfloat16, which NumPy lacks, becomes float32."""
    if not hasattr(values, "shape") or isinstance(values, np.generic):
        return values
    backend = backend_of(values)
    if backend.spec == "numpy":
        return values
    if "bfloat16" in str(values.dtype):
        values = backend.xp.astype(values, backend.xp.float32)
    return backend.to_numpy(values)


def _of_objects(array: NDArray[Any]) -> NDArray[Any]:
    """Convert an array of objects to the common dtype of its values; missing values are an error."""
    if array.dtype.kind != "O":
        return array
    flat = array.ravel().tolist()
    if missing := sum(_is_missing(value) for value in flat):
        raise DataError(f"{missing:,} of {len(flat):,} values are missing: {MEND}")
    if flat and all(isinstance(value, str) for value in flat):
        return np.asarray(flat, dtype=np.str_).reshape(array.shape)
    if flat and all(isinstance(value, bool | int | float | np.number | np.bool_) for value in flat):
        return np.asarray(flat).reshape(array.shape)
    return array


def _is_missing(value: Any) -> bool:
    """Whether a value is None, NaN or pandas's NA."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _way_out(values: Any) -> str:
    pair = isinstance(values, list | tuple) and len(values) == 2
    if pair and (isinstance(values[0], list | tuple) or np.ndim(values[0]) > np.ndim(values[1])):
        return " (pairs of images and labels go to xpnet.Dataset.from_arrays)"
    return ""
