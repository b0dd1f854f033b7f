"""PyTorch, on the CPU or a GPU."""

from __future__ import annotations

import contextlib
import functools
import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from . import graphs
from .base import Array, Backend, BackendError, Buffer, Step, brief


class TorchBackend(Backend):
    """PyTorch, on the CPU, a GPU, or any other of its devices."""

    library: ClassVar[str] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    install: ClassVar[str] = "pip install torch"

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open PyTorch on ``cpu``, ``cuda``, ``cuda:1``, ..."""
        torch = importlib.import_module("torch")
        if device.startswith("mps") and not torch.backends.mps.is_available():
            raise BackendError("torch finds no Apple GPU that it can use by MPS")
        try:
            chosen = torch.device(device or "cpu")
            # A driver's errors appear with the first array. Copying it back reveals devices that hold no data.
            array = torch.zeros(1, device=chosen)
            array.cpu()
        except Exception as error:  # each device raises its own kind
            raise BackendError(brief(error)) from None
        spec = f"torch:{device}" if device else "torch"
        return cls(spec, array_api_compat.array_namespace(array), array.device)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the CPU and the GPUs: NVIDIA's or AMD's (``cuda``), Intel's (``xpu``), Apple's (``mps``)."""
        torch = importlib.import_module("torch")
        kinds = {kind: getattr(torch, kind) for kind in ("cuda", "xpu")}
        counts = {kind: gpus.device_count() for kind, gpus in kinds.items() if gpus.is_available()}
        numbered = [f"torch:{kind}:{i}" for kind, count in counts.items() for i in range(count)]
        return ("torch:cpu", *numbered, *(["torch:mps"] if torch.backends.mps.is_available() else []))

    @classmethod
    def spec_of(cls, device: Any) -> str:
        """Return the spec that selects a device."""
        return f"torch:{device}"

    @property
    def launch_bound(self) -> bool:
        """Whether this is a CUDA GPU, where launching a kernel costs more than a small computation."""
        return bool(self.device.type == "cuda")

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host."""
        return np.array(array.detach().cpu().numpy())

    def session(self, dtype: str = "float32") -> contextlib.AbstractContextManager[Any]:
        """Turn automatic differentiation off, since xpnet computes its own gradients."""
        if dtype == "float64" and self.device.type == "mps":
            raise BackendError("dtype='float64': the device 'mps' has no float64, take dtype='float32'")
        torch = importlib.import_module("torch")
        if torch.get_num_threads() > 1:
            self.refuse_fork(", or give threads=1 in both")
        context: contextlib.AbstractContextManager[Any] = torch.no_grad()
        return context

    def compile(self, function: Callable[..., Any], donate: Sequence[int] = ()) -> Callable[..., Any]:
        """Replay the function's loops as CUDA graphs, on a CUDA GPU; see `xpnet.backends.graphs`."""
        if self.device.type != "cuda" or not graphs.wanted():
            return function
        return graphs.Compiled(function, functools.partial(TorchRecorder, self.device), self.xp)

    def scan(self, step: Step, carry: Any, xs: dict[str, Array]) -> tuple[Any, Array | None]:
        """Run the steps one by one, or as the graph that is being recorded."""
        return graphs.scan(step, carry, xs, self.xp) if self.launch_bound else super().scan(step, carry, xs)

    def stepwise(self) -> Backend:
        """Return a backend that records no graphs, because a graph cannot communicate with other processes."""
        return StepwiseTorchBackend(self.spec, self.xp, self.device)

    def exchange(self, talk: Callable[[Buffer], None], on_device: bool = False) -> Callable[[Array], Array]:
        """Copy through page-locked host memory, which the GPU accesses at full speed."""
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
        torch = importlib.import_module("torch")
        if self.device.type in ("cuda", "xpu"):
            getattr(torch, self.device.type).synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


class StepwiseTorchBackend(TorchBackend):
    """PyTorch without CUDA graphs, launching kernel by kernel."""

    compile = Backend.compile


class TorchRecorder:
    """Records the kernels that PyTorch launches on a CUDA GPU; see `xpnet.backends.graphs.Recorder`."""

    def __init__(self, device: Any) -> None:
        self.cuda, self.device = importlib.import_module("torch").cuda, device
        self.stream, self.pool = self.cuda.Stream(device), self.cuda.graph_pool_handle()

    @contextlib.contextmanager
    def memory(self) -> Iterator[None]:
        """Use the recording's own stream; while it records a graph, PyTorch allocates from the graph's pool."""
        before = self.cuda.current_stream(self.device)
        self.stream.wait_stream(before)
        with self.cuda.stream(self.stream):
            yield
        before.wait_stream(self.stream)

    def begin(self) -> None:
        """Capture the stream, without regard to allocations by other threads."""
        self.graph = self.cuda.CUDAGraph()
        self.graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")

    def end(self) -> Callable[[], Any]:
        """Return the graph's replay."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The CUDA Graph is empty")  # if nothing follows a function's last loop
            self.graph.capture_end()
        replay: Callable[[], Any] = self.graph.replay
        return replay

    def address(self, array: Array) -> int:
        """Return the pointer."""
        return int(array.data_ptr())
