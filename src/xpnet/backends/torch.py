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
    """PyTorch, on the CPU, a GPU, or any other device it knows."""

    library: ClassVar[str] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    install: ClassVar[str] = "pip install torch"

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open it on ``cpu``, ``cuda``, ``cuda:1``, ..."""
        torch = importlib.import_module("torch")
        if device.startswith("mps") and not torch.backends.mps.is_available():
            raise BackendError("torch finds no Apple GPU that it can use by MPS")
        try:
            chosen = torch.device(device or "cpu")
            # The driver complains, if it does, at the first array; some devices only pretend to hold one.
            array = torch.zeros(1, device=chosen)
            array.cpu()
        except Exception as error:  # each device has its own
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
        """Whether it runs on a CUDA GPU, which a kernel's launch keeps waiting."""
        return bool(self.device.type == "cuda")

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host."""
        return np.array(array.detach().cpu().numpy())

    def session(self, dtype: str = "float32") -> contextlib.AbstractContextManager[Any]:
        """Record nothing for automatic differentiation: the gradients here are our own."""
        if dtype == "float64" and self.device.type == "mps":
            raise BackendError("dtype='float64': the device 'mps' has no float64, take dtype='float32'")
        context: contextlib.AbstractContextManager[Any] = importlib.import_module("torch").no_grad()
        return context

    def compile(self, function: Callable[..., Any], donate: Sequence[int] = ()) -> Callable[..., Any]:
        """On a CUDA GPU, replay the function's loops as CUDA graphs: see `xpnet.backends.graphs`."""
        if self.device.type != "cuda" or not graphs.wanted():
            return function
        return graphs.Compiled(function, functools.partial(TorchRecorder, self.device), self.xp)

    def scan(self, step: Step, carry: Any, xs: dict[str, Array]) -> tuple[Any, Array | None]:
        """Run the steps one by one, or as the graph that is being recorded."""
        return graphs.scan(step, carry, xs, self.xp) if self.launch_bound else super().scan(step, carry, xs)

    def stepwise(self) -> Backend:
        """Record nothing: a graph cannot talk to other processes."""
        return StepwiseTorchBackend(self.spec, self.xp, self.device)

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
        torch = importlib.import_module("torch")
        if self.device.type in ("cuda", "xpu"):
            getattr(torch, self.device.type).synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


class StepwiseTorchBackend(TorchBackend):
    """PyTorch, kernel by kernel."""

    compile = Backend.compile


class TorchRecorder:
    """Records what PyTorch launches on a CUDA GPU: see `xpnet.backends.graphs.Recorder`."""

    def __init__(self, device: Any) -> None:
        self.cuda, self.device = importlib.import_module("torch").cuda, device
        self.stream, self.pool = self.cuda.Stream(device), self.cuda.graph_pool_handle()

    @contextlib.contextmanager
    def memory(self) -> Iterator[None]:
        """Use a stream of the recording's own; while a graph is recorded, PyTorch takes memory from its pool."""
        before = self.cuda.current_stream(self.device)
        self.stream.wait_stream(before)
        with self.cuda.stream(self.stream):
            yield
        before.wait_stream(self.stream)

    def begin(self) -> None:
        """Capture the stream. What other threads allocate meanwhile does not matter."""
        self.graph = self.cuda.CUDAGraph()
        self.graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")

    def end(self) -> Callable[[], Any]:
        """Return the graph's replay."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The CUDA Graph is empty")  # as after a loop that is all there is
            self.graph.capture_end()
        replay: Callable[[], Any] = self.graph.replay
        return replay

    def address(self, array: Array) -> int:
        """Return the pointer."""
        return int(array.data_ptr())
