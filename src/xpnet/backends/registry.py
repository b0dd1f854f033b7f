"""Which backends there are, how one is named and opened, and whose array this is."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from types import ModuleType
from typing import Any

import array_api_compat

from .base import Backend, BackendError, BackendInfo, GenericBackend, brief, installed_version
from .cupy import CupyBackend
from .jax import JaxBackend
from .numpy import NumpyBackend
from .strict import StrictBackend
from .torch import TorchBackend

BACKENDS: dict[str, type[Backend]] = {
    cls.library: cls for cls in (NumpyBackend, CupyBackend, TorchBackend, JaxBackend, StrictBackend)
}


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
        If there is no such backend, or it cannot be used here: not installed, or no GPU.

    Examples
    --------
    >>> get_backend("numpy").device_name
    'cpu'
    """
    if isinstance(backend, Backend):
        return backend
    if isinstance(backend, ModuleType):
        return _from_module(backend)
    argument = "backend" if backend is not None else "XPNET_BACKEND"
    spec = backend if backend is not None else os.environ.get("XPNET_BACKEND") or "numpy"
    if not isinstance(spec, str):
        raise TypeError(
            f"backend={spec!r}: must be a name such as 'numpy' or an Array API module, not {type(spec).__name__}"
        )
    name, _, device = spec.partition(":")
    if name not in BACKENDS:
        raise BackendError(f"{argument}={spec!r}: unknown; there are {', '.join(BACKENDS)}")
    cls = BACKENDS[name]
    try:
        if reason := _import_problem(cls):
            raise BackendError(reason)
        return cls.open(device)
    except BackendError as error:
        raise BackendError(f"{argument}={spec!r}: {error}; 'xpnet backends' lists what can be used here") from None


def list_backends() -> list[BackendInfo]:
    """Look at every backend: its version, its devices, and why it cannot be used if it cannot.

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
    return [_info(cls) for cls in BACKENDS.values()]


def local_spec(backend: str | ModuleType | Backend | None, number: int) -> str | ModuleType | Backend | None:
    """Give each of several processes on a machine a device of its own, as far as there are.

    Parameters
    ----------
    backend : str, module or Backend, optional
        As `get_backend` takes it.
    number : int
        The process's number on the machine, from 0 on.

    Returns
    -------
    str, module or Backend, optional
        ``"cupy:3"`` for ``"cupy"`` and ``"torch:cuda:3"`` for ``"torch:cuda"``, if the number is 3, or 7 and there
        are four GPUs. What names no kind of device that is numbered, or names one of them, stays.
    """
    spec = backend if backend is not None else os.environ.get("XPNET_BACKEND") or None
    cls = BACKENDS.get(spec.partition(":")[0]) if isinstance(spec, str) else None
    if cls is None or _import_problem(cls):
        return backend
    try:
        devices = cls.devices()
    except BackendError:  # `get_backend` says the same, and more
        return backend
    numbered = [device for device in devices if re.fullmatch(re.escape(str(spec)) + r":\d+", device)]
    return numbered[number % len(numbered)] if numbered else backend


def backend_of(array: Any) -> Backend:
    """Find the backend that an array belongs to; lists and numbers belong to NumPy.

    Parameters
    ----------
    array : array_like
        Of any library.

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
    xp = array_api_compat.array_namespace(array)
    name = _library_of(xp)
    if name == "numpy":
        return get_backend("numpy")
    # Not opened: the array shows that its device works.
    return BACKENDS.get(name, GenericBackend)(name, xp, array_api_compat.device(array))


def _import_problem(cls: type[Backend]) -> str | None:
    """Say why a library cannot be imported, or return None."""
    if importlib.util.find_spec(cls.library) is None:
        return f"{cls.library} is not installed: {cls.install}"
    try:
        importlib.import_module(cls.library)
    except Exception as error:  # A broken installation may raise anything; its words are the user's best clue.
        return f"{cls.library} is installed but cannot be imported: {brief(error)}"
    return None


def _info(cls: type[Backend]) -> BackendInfo:
    version = installed_version(cls.packages)
    if reason := _import_problem(cls):
        return BackendInfo(cls.library, version, (), reason)
    try:
        cls.open()
        return BackendInfo(cls.library, version, cls.devices(), None)
    except Exception as error:
        return BackendInfo(cls.library, version, (), brief(error))


def _from_module(module: ModuleType) -> Backend:
    name = _library_of(module)
    if name in BACKENDS:
        return get_backend(name)
    if not hasattr(module, "asarray"):
        raise BackendError(f"backend={module.__name__}: not an Array API namespace, it has no 'asarray'")
    xp = array_api_compat.array_namespace(module.asarray(0.0))
    return GenericBackend(name, xp)


def _library_of(module: ModuleType) -> str:
    root = module.__name__.removeprefix("array_api_compat.").partition(".")[0]
    return root if root in BACKENDS else module.__name__
