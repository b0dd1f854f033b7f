"""array-api-strict: NumPy that refuses everything beyond the standard."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any, ClassVar

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from .base import Array, Backend, BackendError, brief


class StrictBackend(Backend):
    """array-api-strict: NumPy that refuses everything beyond the standard, for tests."""

    library: ClassVar[str] = "array_api_strict"
    packages: ClassVar[tuple[str, ...]] = ("array-api-strict",)
    install: ClassVar[str] = "pip install array-api-strict"

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open the library on ``CPU_DEVICE``, or on another of its simulated devices."""
        xp = importlib.import_module("array_api_strict")
        try:
            chosen = xp.Device(device or "CPU_DEVICE")
        except ValueError as error:
            raise BackendError(f"{brief(error)}; there are {', '.join(cls.devices())}") from None
        if device == "no_x64":
            raise BackendError("its argmax gives 64-bit integers, which this device refuses")
        return cls(f"array_api_strict:{device}" if device else "array_api_strict", xp, chosen)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the simulated devices."""
        xp = importlib.import_module("array_api_strict")
        names = [_strict_name(device) for device in xp.__array_namespace_info__().devices()]
        return tuple(f"array_api_strict:{name}" for name in names if name != "no_x64")

    @classmethod
    def spec_of(cls, device: Any) -> str:
        """Return the spec that selects a simulated device."""
        return f"array_api_strict:{_strict_name(device)}"

    @property
    def device_name(self) -> str:
        """The device's name."""
        return _strict_name(self.device)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host through the library's CPU device."""
        return np.array(array_api_compat.to_device(array, self.xp.Device("CPU_DEVICE")))

    def session(self, dtype: str = "float32") -> contextlib.AbstractContextManager[Any]:
        """Refuse float64 on the device that simulates its absence."""
        if dtype == "float64" and self.device_name == "no_float64":
            raise BackendError("dtype='float64': the device 'no_float64' has no float64, take dtype='float32'")
        return contextlib.nullcontext()


def _strict_name(device: Any) -> str:
    return str(device).partition("'")[2].rstrip("')")
