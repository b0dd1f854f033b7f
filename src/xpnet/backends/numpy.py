"""NumPy: the host itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, ClassVar

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from .base import Array, Backend, BackendError, Buffer


class NumpyBackend(Backend):
    """NumPy, the default."""

    library: ClassVar[str] = "numpy"
    packages: ClassVar[tuple[str, ...]] = ("numpy",)
    install: ClassVar[str] = "pip install numpy"

    # OpenBLAS, which NumPy ships with, copies the operands of a large product to suit its kernels. Up to a million
    # multiplications it works on them in place, which is up to twice as fast.
    product_limit: ClassVar[int | None] = 10**6

    threads_compute: ClassVar[bool] = True

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open NumPy on its only device."""
        if device not in ("", "cpu"):
            raise BackendError("NumPy has one device, 'cpu'")
        return cls("numpy", array_api_compat.array_namespace(np.empty(0)))

    @classmethod
    def spec_of(cls, device: Any) -> str:
        """Return the only spec."""
        return "numpy"

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy the array."""
        return np.array(array)

    def session(self, dtype: str = "float32") -> contextlib.AbstractContextManager[Any]:
        """Let numbers that are too small become zero, whatever NumPy's error state in the user's program."""
        return np.errstate(under="ignore")

    def exchange(self, talk: Callable[[Buffer], None], on_device: bool = False) -> Callable[[Array], Array]:
        """Pass a copy of the array to ``talk``, since the host is the device."""
        return super().exchange(talk, on_device=True)
