"""Backends: the array library of a run, the device of its arrays, and the way an epoch runs there.

Only this package knows the libraries by name. All other code receives a namespace ``xp`` and uses the Array API
standard. A backend adds three things that the standard leaves out:

* moving an array from the host to the device and back (`Backend.asarray`, `Backend.to_numpy`);
* running one step over many batches, and compiling that loop if the library can (`Backend.scan`, `Backend.compile`);
* finding out whether the library can be used, and if not, why not (`list_backends`).

A string names a backend: ``"numpy"``, ``"cupy"``, ``"cupy:1"``, ``"torch"``, ``"torch:cuda:0"``, ``"jax"``,
``"dpnp"``, ``"array_api_strict"``, or a name that another package adds. The part after the first colon is the device,
in the library's own notation.

Read `base` first. Each library has a file of its own, and `registry` finds them. Nothing here imports another part of
xpnet.
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
    device_of,
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
    "device_of",
    "elementwise",
    "get_backend",
    "installed_version",
    "list_backends",
    "local_spec",
]
