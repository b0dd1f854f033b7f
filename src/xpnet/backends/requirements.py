"""The parts of the standard that xpnet needs, and a check that an unknown library has them.

A library may follow an older revision of the Array API standard, or only a part of it. Without these checks a missing
function would raise an `AttributeError` in the middle of an epoch.
"""

from __future__ import annotations

import numpy as np

from .base import Array, Backend, BackendError, brief

REVISION = "2024.12"
"""The revision of the standard that xpnet is written for: the first in which functions take Python scalars."""

NEEDED = (
    *("int32", "float32", "iinfo", "finfo", "isdtype", "asarray", "astype", "arange", "zeros_like", "full_like"),
    *("zeros", "full", "isfinite", "logical_and", "all"),
    *("concat", "stack", "take", "flip", "reshape", "permute_dims", "matrix_transpose", "vecdot"),
    *("sum", "max", "argmax", "maximum", "exp", "log", "sqrt", "tanh"),
)
"""The names of the standard that xpnet uses."""

HOST = np.asarray([[1.0, -2.0], [0.0, 4.0], [-1.0, 0.5]], dtype=np.float32)


def check_library(backend: Backend) -> None:
    """Check that a library has the functions, devices, scalars and copies to the host that xpnet needs.

    Parameters
    ----------
    backend : Backend
        The library, on the device to use.

    Raises
    ------
    BackendError
        Naming what the library lacks, on one line.

    Examples
    --------
    >>> import types
    >>> import numpy as np
    >>> from xpnet.backends import BackendError, GenericBackend, check_library
    >>> xp = types.ModuleType("nearly")
    >>> xp.__dict__.update({name: value for name, value in vars(np).items() if name not in ("take", "vecdot")})
    >>> try:
    ...     check_library(GenericBackend("nearly", xp))
    ... except BackendError as error:
    ...     print(error)
    it lacks take, vecdot; xpnet needs revision 2024.12 of the Array API standard, and the library has 2024.12
    """
    if missing := [name for name in NEEDED if not hasattr(backend.xp, name)]:
        raise BackendError(f"it lacks {', '.join(missing)}; {_revision(backend)}")
    with backend.session("float32"):
        array, result = _compute(backend)
        copied, host = backend.to_numpy(array), backend.to_numpy(result)
    if copied.dtype != HOST.dtype:
        raise BackendError(f"its asarray makes {copied.dtype} of {HOST.dtype}")
    if not np.array_equal(host, np.maximum(HOST, 0.0)):
        raise BackendError(f"it computes maximum(x, 0.0) as {host.tolist()} for {HOST.tolist()}")


def _compute(backend: Backend) -> tuple[Array, Array]:
    """Return an array and a result, from calls that some libraries lack; name the one that fails."""
    attempt = "asarray(x, device=...)"
    try:
        array = backend.asarray(HOST)
        attempt = "arange(3, device=...)"
        backend.xp.arange(3, device=backend.device)
        attempt = "maximum(x, 0.0)"
        return array, backend.xp.maximum(array, 0.0)
    except Exception as error:  # each library raises its own kind
        raise BackendError(f"it cannot do {attempt}: {brief(error).rstrip(':')}; {_revision(backend)}") from None


def _revision(backend: Backend) -> str:
    told = getattr(backend.xp, "__array_api_version__", None)
    needed = f"xpnet needs revision {REVISION} of the Array API standard"
    return f"{needed}, and the library has {told}" if told else needed
