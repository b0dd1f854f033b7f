"""dpnp: NumPy on any SYCL device, such as Intel's GPUs, or any CPU through Intel's OpenCL runtime."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .base import Array, Backend, BackendError, brief


class DpnpBackend(Backend):
    """dpnp, on a GPU or a CPU. Like CuPy, it refuses every implicit copy to the host."""

    library: ClassVar[str] = "dpnp"
    packages: ClassVar[tuple[str, ...]] = ("dpnp",)
    install: ClassVar[str] = "pip install dpnp"

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open dpnp on SYCL's default device, or on the one that a filter string such as ``gpu`` selects."""
        known = cls.devices()
        dpnp = importlib.import_module("dpnp")
        try:
            array = dpnp.ones((2, 2), dtype=dpnp.float32, device=device or None)
            dpnp.asnumpy(array @ array)
        except Exception as error:
            raise BackendError(f"{brief(error)}; there are {', '.join(known)}") from None
        return cls(f"dpnp:{device}" if device else "dpnp", dpnp, array.device)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the devices that SYCL finds, or raise `BackendError` if there are none."""
        found = importlib.import_module("dpctl").get_devices()
        if not found:
            raise BackendError(
                "dpnp is installed but finds no device: a GPU needs its driver, and a CPU needs 'pip install "
                "intel-opencl-rt' and OCL_ICD_FILENAMES, set to the path of its libintelocl.so"
            )
        return tuple(f"dpnp:{device.filter_string}" for device in found)

    @classmethod
    def spec_of(cls, device: Any) -> str:
        """Return the spec that selects a device."""
        return f"dpnp:{device.sycl_device.filter_string}"

    @property
    def launch_bound(self) -> bool:
        """Always true: a call waits for SYCL to launch a kernel, even on a CPU."""
        return True

    @property
    def device_name(self) -> str:
        """The device's name, and the filter string that selects it."""
        found = self.device.sycl_device
        return f"{found.name.strip()} ({found.filter_string})"

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host."""
        return np.asarray(self.xp.asnumpy(array))

    def synchronize(self) -> None:
        """Wait for the device."""
        self.device.sycl_queue.wait()
