"""Tests of portable array code: call it on every array library, and compare the results.

You can use this module in the tests of your own package. It needs no test framework.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from array_api_compat import device

from xpnet.backends import Backend, get_backend, list_backends


def backends_here() -> list[str]:
    """Return the specs of all backends that can be used here, and of their further devices.

    array-api-strict simulates a second device, on which an array that was created without ``device=`` fails.

    Examples
    --------
    >>> from xpnet.testing import backends_here
    >>> "numpy" in backends_here()
    True
    """
    specs: list[str] = []
    for info in list_backends():
        if info.usable:
            # A device without float64 would refuse most tests.
            specs += [info.name, *(spec for spec in info.devices[1:] if not spec.endswith("no_float64"))]
    return specs


def assert_same_everywhere(
    function: Callable[..., Any],
    *arrays: Any,
    backends: Sequence[str] | None = None,
    dtype: str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> Any:
    """Call a function of arrays on every array library, and compare its results with those on NumPy.

    Parameters
    ----------
    function : callable
        Takes arrays of any library; returns an array, or arrays in tuples, lists and dictionaries.
    *arrays : array_like
        The function's arguments, on the host. Each library gets its own copies.
    backends : sequence of str, optional
        The specs to try; by default `backends_here`.
    dtype : {"float32", "float64"}, optional
        The dtype of floating-point arguments and of the session; by default float64.
    rtol, atol : float, optional
        The tolerances for differences from NumPy's results, as in `numpy.testing.assert_allclose`. By default 1e-12
        and 1e-12 in float64, 1e-5 and 1e-6 in float32.

    Returns
    -------
    object
        The function's result on NumPy.

    Raises
    ------
    AssertionError
        If on some library the function fails, changes its arguments, or returns another structure, shape, dtype or
        device, or other numbers. The message names the library.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.testing import assert_same_everywhere
    >>> def halves(x):
    ...     return x / 2.0
    >>> assert_same_everywhere(halves, np.asarray([1.0, 2.0]))
    array([0.5, 1. ])
    >>> def doubled(x):  # A library author's mistake.
    ...     x *= 2.0
    ...     return x
    >>> assert_same_everywhere(doubled, np.asarray([1.0, 2.0]), backends=["numpy"])
    Traceback (most recent call last):
    AssertionError: numpy: argument 0 was changed by the function
    """
    kind = dtype or "float64"
    loose = {"rtol": 1e-5, "atol": 1e-6} if kind == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    allowed = {"rtol": loose["rtol"] if rtol is None else rtol, "atol": loose["atol"] if atol is None else atol}
    host = [_converted(np.asarray(array), kind) for array in arrays]
    expected = _called("numpy", function, host, kind)
    for spec in backends_here() if backends is None else backends:
        if spec != "numpy":
            _compare(spec, "result", _called(spec, function, host, kind), expected, allowed)
    return expected


def _converted(array: Any, dtype: str) -> Any:
    return array.astype(dtype) if array.dtype.kind == "f" else array


def _called(spec: str, function: Callable[..., Any], host: list[Any], dtype: str) -> Any:
    """Call the function on one library, and return its results on the host."""
    backend = get_backend(spec)
    with backend.session(dtype):
        moved = [backend.asarray(array) for array in host]
        try:
            result = function(*moved)
        except Exception as error:
            raise AssertionError(f"{spec}: {type(error).__name__}: {error}") from error
        for i, (array, before) in enumerate(zip(moved, host, strict=True)):
            if not np.array_equal(backend.to_numpy(array), before, equal_nan=before.dtype.kind == "f"):
                raise AssertionError(f"{spec}: argument {i} was changed by the function")
        return _on_host(spec, result, backend)


def _on_host(spec: str, result: Any, backend: Backend) -> Any:
    if isinstance(result, dict):
        return {name: _on_host(spec, value, backend) for name, value in result.items()}
    if isinstance(result, tuple | list):
        return [_on_host(spec, value, backend) for value in result]
    if not hasattr(result, "dtype"):
        return result
    here = backend.asarray(0.0)
    if _library(result) != _library(here):
        raise AssertionError(f"{spec}: the result is an array of {_library(result)}, not of its arguments' library")
    if device(result) != device(here):
        raise AssertionError(f"{spec}: the result is on {device(result)}: pass device= to creation functions")
    return backend.to_numpy(result)


def _library(array: Any) -> str:
    return type(array).__module__.partition(".")[0]


def _compare(spec: str, where: str, found: Any, expected: Any, allowed: dict[str, float]) -> None:
    """Compare the results of one library with NumPy's, recursively."""
    if type(found) is not type(expected) and not (np.ndim(found) == np.ndim(expected) == 0):
        raise AssertionError(f"{spec}: {where} is {type(found).__name__}, on numpy {type(expected).__name__}")
    if isinstance(expected, dict | list):
        keys = list(expected) if isinstance(expected, dict) else list(range(len(expected)))
        if keys != (list(found) if isinstance(found, dict) else list(range(len(found)))):
            raise AssertionError(f"{spec}: {where} has {len(found)} entries, on numpy {keys}")
        for key in keys:
            _compare(spec, f"{where}[{key!r}]", found[key], expected[key], allowed)
        return
    a, b = np.asarray(found), np.asarray(expected)
    for what, ours, theirs in (("shape", a.shape, b.shape), ("dtype", a.dtype, b.dtype)):
        if ours != theirs:
            raise AssertionError(f"{spec}: {where} has the {what} {ours}, on numpy {theirs}")
    said = f"{spec}: {where} differs from numpy's"
    np.testing.assert_allclose(a, b, rtol=allowed["rtol"], atol=allowed["atol"], err_msg=said)
