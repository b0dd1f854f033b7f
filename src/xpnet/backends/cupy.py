"""CuPy: NumPy on a CUDA GPU."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from .base import Array, Backend, BackendError, Buffer, brief


class CupyBackend(Backend):
    """CuPy: NumPy on a CUDA GPU."""

    library: ClassVar[str] = "cupy"
    packages: ClassVar[tuple[str, ...]] = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
    install: ClassVar[str] = "pip install 'cupy-cuda13x[ctk]' (or 'cupy-cuda12x[ctk]' with an older driver)"

    # Going by its sources: it hands batched products of 2-D by 3-D arrays to slower kernels.
    convolution: ClassVar[str] = "im2col"

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open it on the GPU of that number, 0 by default."""
        cupy = importlib.import_module("cupy")
        known = cls.devices()
        number = device or "0"
        if f"cupy:{number}" not in known:
            raise BackendError(f"there are {', '.join(known)}")
        chosen = cupy.cuda.Device(int(number))
        with chosen:
            if reason := cls._cannot_compute(int(number)):
                raise BackendError(reason)
            xp = array_api_compat.array_namespace(cupy.empty(0))
        return cls(f"cupy:{device}" if device else "cupy", xp, chosen)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the GPUs, or raise with the CUDA driver's words."""
        runtime = importlib.import_module("cupy").cuda.runtime
        try:
            count = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            raise BackendError(f"CuPy is installed but finds no usable GPU: {error}") from None
        return tuple(f"cupy:{i}" for i in range(count))

    @classmethod
    def spec_of(cls, device: Any) -> str:
        """Return the spec that selects a GPU."""
        return f"cupy:{device.id}"

    @staticmethod
    @functools.cache
    def _cannot_compute(number: int) -> str | None:
        """Say why the current GPU, which has this number, cannot compute, or return None."""
        cupy = importlib.import_module("cupy")
        try:
            # A kernel is compiled and a product done by CUDA's libraries, which a driver does not bring along.
            x = cupy.ones((2, 2), cupy.float32)
            (x @ x + x).get()
        except Exception as error:
            return (
                f"CuPy finds a GPU but cannot compute on it: {brief(error)}; if a library of CUDA's is missing, "
                "pip install 'cupy-cuda13x[ctk]' (or 'cupy-cuda12x[ctk]') brings it along"
            )
        return None

    @property
    def launch_bound(self) -> bool:
        """Always: a kernel's launch costs as much as the work on a megabyte."""
        return True

    @property
    def device_name(self) -> str:
        """The GPU's name and number."""
        runtime = importlib.import_module("cupy").cuda.runtime
        name = runtime.getDeviceProperties(self.device.id)["name"].decode()
        return f"{name} (GPU {self.device.id})"

    def asarray(self, host: Any, dtype: str | None = None) -> Array:
        """Copy to the GPU."""
        with self.device:
            return super().asarray(host, dtype)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host."""
        return np.asarray(importlib.import_module("cupy").asnumpy(array))

    def session(self, dtype: str = "float32") -> contextlib.AbstractContextManager[Any]:
        """Make the GPU current: CuPy launches every kernel on the current one."""
        return self._current()

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        # A Device object is a context manager that may not be entered twice at once; a fresh one may.
        with type(self.device)(self.device.id):
            yield

    def exchange(self, talk: Callable[[Buffer], None], on_device: bool = False) -> Callable[[Array], Array]:
        """Go through page-locked memory, which the GPU copies from and to at full speed."""
        if on_device:
            return super().exchange(talk, on_device)
        cupy, cupyx = importlib.import_module("cupy"), importlib.import_module("cupyx")

        def through_host(array: Array) -> Array:
            host = cupyx.empty_pinned(array.shape, array.dtype)
            array.get(out=host)
            talk(host)
            changed = cupy.empty(array.shape, array.dtype)
            changed.set(host)
            self.synchronize()  # the memory goes back to its pool, so the copy must be done
            return changed

        return through_host

    def synchronize(self) -> None:
        """Wait for the GPU."""
        self.device.synchronize()
