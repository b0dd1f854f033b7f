"""The backend for any Array API library that is given as a module and has no backend of its own."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import array_api_compat

from .base import Array, Backend


class GenericBackend(Backend):
    """Any other Array API library, given by its namespace module."""

    @classmethod
    def of(cls, array: Array) -> Backend:
        """Return the backend of an array whose library has no backend of its own."""
        xp, device = array_api_compat.array_namespace(array), None
        with contextlib.suppress(AttributeError):  # an array that lacks parts of the standard
            device = array_api_compat.device(array)
        return cls(xp.__name__, xp, device)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the module's name."""
        if self.spec not in sys.modules:
            raise TypeError(f"backend={self.spec!r}: cannot be pickled, since no module can be imported by this name")
        from .registry import reopen_module

        return reopen_module, (self.spec,)

    @property
    def version(self) -> str:
        """The version that the module reports."""
        return str(getattr(self.xp, "__version__", "unknown"))
