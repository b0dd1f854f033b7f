"""The registry of backends: open one by its name, list all, find the one that an array belongs to.

xpnet's own backends are in `BACKENDS`. Another package adds one by an entry point of the group ``xpnet.backends``. The
entry point has the backend's name, and its object is a subclass of `Backend`, which is imported only when it is needed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from types import ModuleType
from typing import TYPE_CHECKING, Any

import array_api_compat

from .base import Backend, BackendError, BackendInfo, brief, installed_version
from .cupy import CupyBackend
from .dpnp import DpnpBackend
from .generic import GenericBackend
from .jax import JaxBackend
from .numpy import NumpyBackend
from .requirements import check_library
from .strict import StrictBackend
from .torch import TorchBackend

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "xpnet.backends"
VARIABLE = "XPNET_BACKEND"

BACKENDS: dict[str, type[Backend]] = {
    cls.library: cls for cls in (NumpyBackend, CupyBackend, TorchBackend, JaxBackend, DpnpBackend, StrictBackend)
}
"""xpnet's own backends. No other package can replace one of these."""


def backend_names() -> list[str]:
    """Return the names of all backends, including those of other packages, whether they can be used or not.

    Examples
    --------
    >>> backend_names()[:2]
    ['numpy', 'cupy']
    """
    return [*BACKENDS, *_plugins()]


def get_backend(backend: str | ModuleType | Backend | None = None) -> Backend:
    """Open a backend.

    Parameters
    ----------
    backend : str, module or Backend, optional
        A spec such as ``"cupy"`` or ``"torch:cuda:0"``, or any Array API namespace module. By default the
        environment variable ``XPNET_BACKEND``, else ``"numpy"``.

    Returns
    -------
    Backend

    Raises
    ------
    BackendError
        If there is no such backend, or if it cannot be used here, for example because it is not installed.

    Examples
    --------
    >>> get_backend("numpy").device_name
    'cpu'
    """
    if isinstance(backend, Backend):
        return backend
    if isinstance(backend, ModuleType):
        return _from_module(backend)
    argument = "backend" if backend is not None else VARIABLE
    spec = backend if backend is not None else os.environ.get(VARIABLE) or "numpy"
    if not isinstance(spec, str):
        raise TypeError(
            f"backend={spec!r}: must be a name such as 'numpy' or an Array API module, not {type(spec).__name__}"
        )
    name, _, device = spec.partition(":")
    if name not in BACKENDS and name not in (names := backend_names()):
        raise BackendError(f"{argument}={spec!r}: unknown; there are {', '.join(names)}")
    try:
        return _open(_find(name), device)
    except BackendError as error:
        raise BackendError(
            f"{argument}={spec!r}: {error}; 'xpnet backends' lists what can be used here"
        ) from error.__cause__


def list_backends() -> list[BackendInfo]:
    """Return the version and the devices of every backend, or the reason why it cannot be used.

    Returns
    -------
    list of BackendInfo

    Examples
    --------
    >>> import xpnet
    >>> known = {info.name: info for info in xpnet.list_backends()}
    >>> known["numpy"].usable, known["numpy"].devices
    (True, ('numpy',))
    """
    return [_info(name) for name in backend_names()]


def local_spec(backend: str | ModuleType | Backend | None, number: int) -> str | ModuleType | Backend | None:
    """Choose a device for each of several processes on a machine, a different one for each as far as possible.

    Parameters
    ----------
    backend : str, module or Backend, optional
        See `get_backend`.
    number : int
        The number of the process on the machine, from 0.

    Returns
    -------
    str, module or Backend, optional
        With four GPUs and the number 3 or 7: ``"cupy:3"`` for ``"cupy"``, and ``"torch:cuda:3"`` for ``"torch:cuda"``.
        A spec that names one device, or a kind of device without numbers, does not change.
    """
    spec = backend if backend is not None else os.environ.get(VARIABLE) or None
    if not isinstance(spec, str):
        return backend
    try:
        cls = _find(spec.partition(":")[0])
        devices = () if _import_problem(cls) else cls.devices()
    except Exception:  # `get_backend` reports the error
        return backend
    numbered = [device for device in devices if re.fullmatch(re.escape(spec) + r":\d+", device)]
    return numbered[number % len(numbered)] if numbered else backend


def backend_of(array: Any) -> Backend:
    """Find the backend that an array belongs to; lists and numbers belong to NumPy.

    Parameters
    ----------
    array : array_like
        An array of any library.

    Returns
    -------
    Backend

    Examples
    --------
    >>> import numpy as np
    >>> backend_of(np.zeros(3)).spec, backend_of([1, 2, 3]).spec
    ('numpy', 'numpy')
    """
    if not array_api_compat.is_array_api_obj(array):
        return get_backend("numpy")
    name = _library_of(array_api_compat.array_namespace(array))
    if name == "numpy":
        return get_backend("numpy")
    try:
        return _find(name).of(array)
    except BackendError:
        return GenericBackend.of(array)


def reopen(cls: type[Backend], spec: str) -> Backend:
    """Open a backend that was pickled.

    Raises
    ------
    BackendError
        If its library or its device is missing here.
    """
    try:
        return _open(cls, spec.partition(":")[2])
    except BackendError as error:
        raise BackendError(f"backend={spec!r}, from a pickle: {error}") from None


def reopen_module(name: str) -> Backend:
    """Open a backend that was given as a module and pickled."""
    return _from_module(importlib.import_module(name))


def _plugins() -> dict[str, EntryPoint]:
    """Return the entry points of other packages by name, without importing them."""
    from importlib import metadata  # here, since it takes a third of this package's import time

    points = {point.name: point for point in reversed(tuple(metadata.entry_points(group=GROUP)))}
    return {name: points[name] for name in sorted(points) if name not in BACKENDS}


def _find(name: str) -> type[Backend]:
    """Return the class of a backend by its name, or raise `BackendError` with just the cause."""
    if name in BACKENDS:
        return BACKENDS[name]
    point = _plugins().get(name)
    if point is None:
        raise BackendError(f"there is no {name!r}")
    source = f"the package {point.dist.name}" if point.dist else "a package"
    try:
        cls = point.load()
    except (Exception, SystemExit) as error:  # another package may raise anything
        raise BackendError(f"{source} adds it as {point.value}, which fails: {_told(error)}") from None
    if not (isinstance(cls, type) and issubclass(cls, Backend) and cls.library and isinstance(cls.library, str)):
        raise BackendError(f"{source} adds it as {point.value}, which is not a subclass of Backend with a 'library'")
    return cls


def _open(cls: type[Backend], device: str) -> Backend:
    """Open a backend, or raise `BackendError` with just the cause."""
    try:
        if reason := _import_problem(cls):
            raise BackendError(reason)
        backend = cls.open(device)
        if cls not in BACKENDS.values():
            check_library(backend)
    except BackendError:
        raise
    except Exception as error:
        raise BackendError(f"it cannot be opened: {_told(error)}") from error
    return backend


def _import_problem(cls: type[Backend]) -> str | None:
    """Return why a library cannot be imported, or None if it can."""
    if importlib.util.find_spec(cls.library.partition(".")[0]) is None:
        return f"{cls.library} is not installed: {cls.install}"
    try:
        importlib.import_module(cls.library)
    except Exception as error:  # A broken installation may raise anything; its message is the user's best clue.
        return f"{cls.library} is installed but cannot be imported: {brief(error)}"
    return None


def _info(name: str) -> BackendInfo:
    version = None
    try:
        cls = _find(name)
        version = installed_version(cls.packages)
        _open(cls, "")
        return BackendInfo(name, version, tuple(map(str, cls.devices())), None)
    except Exception as error:
        return BackendInfo(name, version, (), brief(error))


def _from_module(module: ModuleType) -> Backend:
    name = _library_of(module)
    if name in BACKENDS:
        return get_backend(name)
    if not hasattr(module, "asarray"):
        raise BackendError(f"backend={module.__name__}: not an Array API namespace, it has no 'asarray'")
    try:
        backend = GenericBackend(name, array_api_compat.array_namespace(module.asarray(0.0)))
        check_library(backend)
    except Exception as error:
        told = str(error) if isinstance(error, BackendError) else f"its asarray(0.0) fails: {_told(error)}"
        raise BackendError(f"backend={module.__name__}: {told}") from None
    return backend


def _library_of(module: ModuleType) -> str:
    """Return the name of the backend that a namespace belongs to, or the module's own."""
    root = module.__name__.removeprefix("array_api_compat.").partition(".")[0]
    return root if root in BACKENDS or root in _plugins() else module.__name__


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {brief(error)}"
