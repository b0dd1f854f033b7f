"""CuPy: NumPy on a CUDA GPU."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import math
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import graphs
from .base import Array, Backend, BackendError, Buffer, Namespace, Step, brief
from .fusion import FUSERS


class CupyBackend(Backend):
    """CuPy: NumPy on a CUDA GPU."""

    library: ClassVar[str] = "cupy"
    packages: ClassVar[tuple[str, ...]] = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
    install: ClassVar[str] = "pip install 'cupy-cuda13x[ctk]' (or 'cupy-cuda12x[ctk]' with an older driver)"

    # According to its source, CuPy computes batched products of 2-D by 3-D arrays with slower kernels.
    convolution: ClassVar[str] = "im2col"

    first_epoch: ClassVar[str] = "the first epoch compiles the kernels that are new to this machine: some seconds"

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open CuPy on the GPU of this number, by default 0."""
        cupy = importlib.import_module("cupy")
        known = cls.devices()
        number = device or "0"
        if f"cupy:{number}" not in known:
            raise BackendError(f"there are {', '.join(known)}")
        chosen = cupy.cuda.Device(int(number))
        with chosen:
            if reason := cls._cannot_compute(int(number)):
                raise BackendError(reason)
        importlib.import_module("cupyx")  # here, since CuPy's own late import may happen in two threads at once
        FUSERS[namespace()] = fuse
        return cls(f"cupy:{device}" if device else "cupy", namespace(), chosen)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the GPUs, or raise an error with the CUDA driver's message."""
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
        """Return why the current GPU, which has this number, cannot compute, or None if it can."""
        cupy = importlib.import_module("cupy")
        try:
            # This needs CUDA's libraries, to compile a kernel and compute a product; a driver does not contain them.
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
        """Always true: launching a kernel takes as long as processing a megabyte."""
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
        """Make this GPU the current one, on which CuPy launches every kernel."""
        return self._current()

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        # A Device object must not be entered twice at once, so each session enters a new one.
        with type(self.device)(self.device.id):
            yield

    def compile(self, function: Callable[..., Any], donate: Sequence[int] = ()) -> Callable[..., Any]:
        """Replay the function's loops as CUDA graphs; see `xpnet.backends.graphs`."""
        if not graphs.wanted() or importlib.import_module("cupy").cuda.runtime.is_hip:
            return function
        return graphs.Compiled(function, CupyRecorder, self.xp)

    def scan(self, step: Step, carry: Any, xs: dict[str, Array]) -> tuple[Any, Array | None]:
        """Run the steps one by one, or as the graph that is being recorded."""
        return graphs.scan(step, carry, xs, self.xp)

    def stepwise(self) -> Backend:
        """Return a backend that records no graphs, because a graph cannot communicate with other processes."""
        return StepwiseCupyBackend(self.spec, self.xp, self.device)

    def exchange(self, talk: Callable[[Buffer], None], on_device: bool = False) -> Callable[[Array], Array]:
        """Copy through page-locked host memory, which the GPU accesses at full speed."""
        if on_device:
            return super().exchange(talk, on_device)
        cupy, cupyx = importlib.import_module("cupy"), importlib.import_module("cupyx")

        def through_host(array: Array) -> Array:
            host = cupyx.empty_pinned(array.shape, array.dtype)
            array.get(out=host)
            talk(host)
            changed = cupy.empty(array.shape, array.dtype)
            changed.set(host)
            self.synchronize()  # the copy must be finished before the host memory returns to its pool
            return changed

        return through_host

    def synchronize(self) -> None:
        """Wait for the GPU."""
        self.device.synchronize()


class StepwiseCupyBackend(CupyBackend):
    """CuPy without CUDA graphs, launching kernel by kernel."""

    compile = Backend.compile


class CupyRecorder:
    """Records the kernels that CuPy launches; see `xpnet.backends.graphs.Recorder`."""

    def __init__(self) -> None:
        self.cupy = importlib.import_module("cupy")
        self.stream = self.cupy.cuda.Stream(non_blocking=True)
        self.pool = self.cupy.cuda.MemoryPool()

    @contextlib.contextmanager
    def memory(self) -> Iterator[None]:
        """Use the recording's own stream and memory pool, and keep CuPy from operations that it cannot record."""
        before = self.cupy.cuda.get_current_stream()
        self.stream.wait_event(before.record())
        with _RECORDING, self.stream, self.cupy.cuda.using_allocator(self.pool.malloc):
            self.products = Products(self.stream)
            with recordable(self.products):
                yield
        before.wait_event(self.stream.record())

    def begin(self) -> None:
        """Capture the stream."""
        self.stream.begin_capture()

    def end(self) -> Callable[[], Any]:
        """Return the graph's launch."""
        launch: Callable[[], Any] = self.stream.end_capture().launch
        return launch

    def address(self, array: Array) -> int:
        """Return the pointer."""
        return int(array.data.ptr)


_RECORDING = threading.Lock()


@contextlib.contextmanager
def recordable(products: Products) -> Iterator[None]:
    """Allow matrix products, which CuPy refuses to record; refuse host copies, whose address a graph would keep."""
    cupy: Any = importlib.import_module("cupy")
    core: Any = importlib.import_module("cupy._core")
    here = threading.get_ident()
    usual_product, usual_array = cupy.ndarray.__matmul__, core.array

    def product(a: Any, b: Any) -> Any:
        mine = threading.get_ident() == here and products.can(a, b)
        return products(a, b) if mine else usual_product(a, b)

    def array(obj: Any, *args: Any, **options: Any) -> Any:
        if threading.get_ident() == here and not isinstance(obj, cupy.ndarray):
            raise TypeError(f"a graph copies nothing from the host, but a step makes an array of {type(obj).__name__}")
        return usual_array(obj, *args, **options)

    cupy.ndarray.__matmul__, core.array = product, array
    try:
        yield
    finally:
        cupy.ndarray.__matmul__, core.array = usual_product, usual_array


class Products:
    """Matrix products by cuBLAS directly, on CuPy's handle. CuPy refuses them in a capture, cuBLAS does not."""

    WORKSPACE = 32 << 20
    """Bytes, as NVIDIA's manual recommends for Hopper. Without it, cuBLAS would allocate memory during the capture."""

    def __init__(self, stream: Any) -> None:
        self.cupy = importlib.import_module("cupy")
        pathfinder = importlib.import_module("cuda.pathfinder")
        self.cublas = ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)
        self.handle = ctypes.c_void_p(self.cupy.cuda.device.get_cublas_handle())
        self.workspace = self.cupy.cuda.alloc(self.WORKSPACE)
        self._call("cublasSetStream_v2", ctypes.c_void_p(stream.ptr))
        self._call("cublasSetWorkspace_v2", ctypes.c_void_p(self.workspace.ptr), ctypes.c_size_t(self.WORKSPACE))

    def can(self, a: Any, b: Any) -> bool:
        """Whether this is a product of two non-empty matrices of the same float dtype."""
        return (
            isinstance(b, self.cupy.ndarray)
            and a.ndim == b.ndim == 2
            and a.shape[1] == b.shape[0]
            and a.dtype == b.dtype
            and a.dtype.char in "fd"
            and bool(a.size and b.size)
        )

    def __call__(self, a: Any, b: Any) -> Any:
        """Return ``a @ b``. cuBLAS is column-major, so it reads and writes the transposed matrices."""
        (m, k), n = a.shape, b.shape[1]
        real, compute, number = (0, 68, ctypes.c_float) if a.dtype.char == "f" else (1, 70, ctypes.c_double)
        # The arithmetic that CuPy would choose: its 2 means pedantic, its 7 TF32, which CUPY_TF32=1 asks for.
        wish = importlib.import_module("cupy._core").get_compute_type(a.dtype)
        compute = {2: compute + 1, 7: 77}.get(wish, compute)
        (a, turn_a, row_a), (b, turn_b, row_b) = self._laid_out(a), self._laid_out(b)
        out = self.cupy.empty((m, n), a.dtype)
        one, zero = ctypes.byref(number(1.0)), ctypes.byref(number(0.0))
        at_a, at_b, at_out = (ctypes.c_void_p(array.data.ptr) for array in (a, b, out))
        matrices = (at_b, real, row_b, at_a, real, row_a, zero, at_out, real, n)
        self._call("cublasGemmEx", turn_b, turn_a, n, m, k, one, *matrices, compute, -1)
        return out

    def _laid_out(self, a: Any) -> tuple[Any, int, int]:
        """Return a matrix, whether it is transposed in memory (1 or 0), and the distance between its rows there."""
        if a.flags.f_contiguous:
            return a, 1, max(a.strides[1] // a.itemsize, a.shape[0])
        a = a if a.flags.c_contiguous else a.copy()
        return a, 0, a.strides[0] // a.itemsize

    def _call(self, name: str, *arguments: Any) -> None:
        if status := getattr(self.cublas, name)(self.handle, *arguments):
            raise RuntimeError(f"{name}: status {status}")


@functools.cache
def namespace() -> Namespace:
    """Return CuPy's namespace with two functions replaced, by fewer kernels without copies from the host."""
    usual = importlib.import_module("array_api_compat.cupy")
    xp = types.ModuleType(usual.__name__, usual.__doc__)
    vars(xp).update(vars(usual), concat=concat, vecdot=vecdot)
    return xp


def fuse(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Fuse an elementwise function."""
    fused: Callable[..., Any] = importlib.import_module("cupy").fuse(kernel_name=f"xpnet_{name}")(function)
    return fused


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Multiply and add up; array-api-compat would copy both arrays and multiply row by column, one by one."""
    usual = importlib.import_module("array_api_compat.cupy")
    real = x1.dtype.kind == x2.dtype.kind == "f" and x1.dtype == x2.dtype
    return usual.sum(x1 * x2, axis=axis) if real else usual.vecdot(x1, x2, axis=axis)


def concat(arrays: Sequence[Array], /, *, axis: int | None = 0) -> Array:
    """Join arrays by one kernel. CuPy launches one per array, or copies the addresses first if there are over eight."""
    cupy = importlib.import_module("cupy")
    arrays = [array.reshape(-1) for array in arrays] if axis is None else list(arrays)
    first, axis = arrays[0], (axis or 0) % max(arrays[0].ndim, 1)
    shapes = {(*array.shape[:axis], *array.shape[axis + 1 :], array.dtype) for array in arrays}
    if first.ndim == 0 or len(shapes) > 1 or not 2 <= len(arrays) <= MOST_JOINED:
        return importlib.import_module("array_api_compat.cupy").concat(arrays, axis=axis)
    stops = np.cumsum([array.shape[axis] for array in arrays]).tolist()
    joined = cupy.empty((*first.shape[:axis], stops[-1], *first.shape[axis + 1 :]), first.dtype)
    if joined.size:
        inner = math.prod(first.shape[axis + 1 :])
        _joining(len(arrays))(*(each for pair in zip(arrays, stops, strict=True) for each in pair), inner, joined)
    return joined


MOST_JOINED = 24
"""The largest number of four-dimensional arrays whose descriptions fit into the 4 kB of a kernel's arguments."""


@functools.cache
def _joining(count: int) -> Any:
    """Return a kernel that joins ``count`` arrays, given each one's stop along the axis and the values per position."""
    inputs = ", ".join(f"raw T a{j}, int64 stop{j}" for j in range(count))
    cases = []
    for j in range(count):
        start, length = (f"stop{j - 1}", f"(stop{j} - stop{j - 1})") if j else ("0", "stop0")
        # A raw array is indexed in C order, whatever its strides.
        value = f"y = a{j}[(outer * {length} + place - {start}) * inner + i % inner];"
        cases.append(f"if (place < stop{j}) {value}" if j < count - 1 else value)
    body = f"long long place = i / inner % stop{count - 1}, outer = i / inner / stop{count - 1};\n" + " else ".join(
        cases
    )
    kernel = importlib.import_module("cupy").ElementwiseKernel
    return kernel(f"{inputs}, int64 inner", "T y", body, f"xpnet_concat_{count}")
