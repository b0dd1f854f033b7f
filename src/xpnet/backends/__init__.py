"""Backends: which array library a run uses, where its arrays live, and how an epoch is run there.

This is the one package that knows the libraries by name. Everything else is handed a namespace ``xp`` and uses what
the Array API standard has. A backend adds what the standard leaves out:

* moving an array from the host to the device and back (`Backend.asarray`, `Backend.to_numpy`);
* running one step over many batches, and compiling that where the library can (`Backend.scan`, `Backend.compile`);
* whether the library can be used at all, and if not, why not (`list_backends`).

A string names a backend: ``"numpy"``, ``"cupy"``, ``"cupy:1"``, ``"torch"``, ``"torch:cuda:0"``, ``"jax"``,
``"dpnp"``, ``"array_api_strict"``, or a name that another package adds. The part behind the first colon is the device,
in the library's own words.

`base` is the page to read first; each library has a file, and `registry` finds them. Nothing here imports anything
else of xpnet.
"""

from .base import (
    DTYPES,
    Array,
    Backend,
    BackendError,
    BackendInfo,
    Buffer,
    Namespace,
    Step,
    check_dtype,
    installed_version,
)
from .cupy import CupyBackend
from .dpnp import DpnpBackend
from .fusion import elementwise
from .generic import GenericBackend
from .jax import JaxBackend
from .numpy import NumpyBackend
from .registry import (
    BACKENDS,
    backend_names,
    backend_of,
    get_backend,
    list_backends,
    local_spec,
)
from .requirements import check_library
from .strict import StrictBackend
from .torch import TorchBackend

__all__ = [
    "BACKENDS",
    "DTYPES",
    "Array",
    "Backend",
    "BackendError",
    "BackendInfo",
    "Buffer",
    "CupyBackend",
    "DpnpBackend",
    "GenericBackend",
    "JaxBackend",
    "Namespace",
    "NumpyBackend",
    "Step",
    "StrictBackend",
    "TorchBackend",
    "backend_names",
    "backend_of",
    "check_dtype",
    "check_library",
    "elementwise",
    "get_backend",
    "installed_version",
    "list_backends",
    "local_spec",
]
