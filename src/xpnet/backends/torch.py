"""PyTorch, on the CPU or a GPU."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any, ClassVar

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from .base import Array, Backend, BackendError, Buffer, brief


class TorchBackend(Backend):
    """PyTorch, on the CPU, a CUDA GPU, or whatever device it knows."""

    library: ClassVar[str] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    install: ClassVar[str] = "pip install torch"

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open it on ``cpu``, ``cuda``, ``cuda:1``, ..."""
        torch = importlib.import_module("torch")
        try:
            chosen = torch.device(device or "cpu")
            # The driver's complaint, if there is one, comes with the first array; some devices only pretend.
            array = torch.zeros(1, device=chosen)
            array.cpu()
        except Exception as error:  # each device has its own
            raise BackendError(brief(error)) from None
        spec = f"torch:{device}" if device else "torch"
        return cls(spec, array_api_compat.array_namespace(array), array.device)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the CPU and the CUDA GPUs."""
        torch = importlib.import_module("torch")
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return ("torch:cpu", *(f"torch:cuda:{i}" for i in range(gpus)))

    @property
    def launch_bound(self) -> bool:
        """Whether it runs on a CUDA GPU, which a kernel's launch keeps waiting."""
        return bool(self.device.type == "cuda")

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host."""
        return np.array(array.detach().cpu().numpy())

    def session(self, dtype: str = "float32") -> contextlib.AbstractContextManager[Any]:
        """Record nothing for automatic differentiation: the gradients here are our own."""
        context: contextlib.AbstractContextManager[Any] = importlib.import_module("torch").no_grad()
        return context

    def exchange(self, talk: Callable[[Buffer], None], on_device: bool = False) -> Callable[[Array], Array]:
        """Go through page-locked memory, which the GPU copies from and to at full speed."""
        if on_device or self.device.type != "cuda":
            return super().exchange(talk, on_device)
        torch = importlib.import_module("torch")

        def through_host(array: Array) -> Array:
            host = torch.empty(array.shape, dtype=array.dtype, pin_memory=True)
            host.copy_(array)
            talk(host.numpy())
            return host.to(self.device)

        return through_host

    def synchronize(self) -> None:
        """Wait for the GPU."""
        if self.device.type == "cuda":
            importlib.import_module("torch").cuda.synchronize(self.device)
