"""Backends: which array library a run uses, where its arrays live, and how an epoch is run there.

This is the one module that knows the libraries by name. Everything else is handed a namespace ``xp`` and uses what
the Array API standard has. A backend adds what the standard leaves out:

* moving an array from the host to the device and back (`Backend.asarray`, `Backend.to_numpy`);
* running one step over many batches, and compiling that where the library can (`Backend.scan`, `Backend.compile`);
* whether the library can be used at all, and if not, why not (`list_backends`).

A backend is named by a string: ``"numpy"``, ``"cupy"``, ``"cupy:1"``, ``"torch"``, ``"torch:cuda:0"``, ``"jax"``,
``"array_api_strict"``. What stands behind the first colon is the device, in the library's own words.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import operator
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import array_api_compat
import numpy as np
from numpy.typing import NDArray

Array = Any
Namespace = Any
Buffer = Any
Step = Callable[[Any, dict[str, Array]], tuple[Any, Array | None]]

DTYPES = ("float32", "float64")


class BackendError(ValueError):
    """A backend does not exist or cannot be used here; the message says why and what would help.

    Examples
    --------
    >>> import xpnet
    >>> try:
    ...     xpnet.get_backend("abacus")
    ... except xpnet.BackendError as error:
    ...     print(error)
    backend='abacus': unknown; there are numpy, cupy, torch, jax, array_api_strict
    """


@dataclass(frozen=True)
class BackendInfo:
    """What is known of a backend on this machine.

    Attributes
    ----------
    name : str
        Its name, such as ``"cupy"``.
    version : str or None
        The version of the library that is installed.
    devices : tuple of str
        The specs that select its devices, such as ``("torch:cpu", "torch:cuda:0")``.
    reason : str or None
        Why it cannot be used; ``None`` when it can.

    Examples
    --------
    >>> from xpnet import BackendInfo
    >>> BackendInfo("cupy", None, (), "cupy is not installed").usable
    False
    """

    name: str
    version: str | None
    devices: tuple[str, ...]
    reason: str | None

    @property
    def usable(self) -> bool:
        """Whether a run can use it."""
        return self.reason is None


@dataclass(frozen=True)
class Backend:
    """An array library on a device. This base runs everything eagerly, and serves NumPy.

    Attributes
    ----------
    spec : str
        The name that selects it, such as ``"torch:cuda:0"``.
    xp : module
        The array namespace.
    device : object
        The device in the library's own type, for ``device=`` of creation functions; ``None`` is the default.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> backend = xpnet.get_backend("numpy")
    >>> x = backend.asarray(np.asarray([[1, 2], [3, 4]]), "float32")
    >>> backend.to_numpy(backend.xp.sum(x, axis=0)).tolist()
    [4.0, 6.0]
    """

    spec: str
    xp: Namespace
    device: Any = None

    library: ClassVar[str] = "numpy"
    packages: ClassVar[tuple[str, ...]] = ("numpy",)
    install: ClassVar[str] = "pip install numpy"

    arrays_apart: ClassVar[bool] = False
    """Whether a scan is faster on each of a network's arrays of parameters than on one vector that holds them all."""

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open the library on a device named in its own words, or raise `BackendError` with the cause alone."""
        if device not in ("", "cpu"):
            raise BackendError("NumPy has one device, 'cpu'")
        return cls("numpy", array_api_compat.array_namespace(np.empty(0)))

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the specs of the devices at hand, or raise with the driver's own words."""
        return ("numpy",)

    @property
    def device_name(self) -> str:
        """The device, for people to read."""
        return "cpu" if self.device is None else str(self.device)

    @property
    def version(self) -> str:
        """The version of the library."""
        return installed_version(self.packages) or "unknown"

    def asarray(self, host: Any, dtype: str | None = None) -> Array:
        """Copy a host array to the device.

        Parameters
        ----------
        host : array_like
            Of any layout and byte order.
        dtype : str, optional
            A dtype of the standard; by default that of ``host``.

        Returns
        -------
        array
            A C-ordered copy that shares no memory with ``host``: some libraries' own ``asarray`` would share.
        """
        host = np.asarray(host)
        kind = np.dtype(dtype) if dtype else host.dtype.newbyteorder("=")
        return self.xp.asarray(np.array(host, dtype=kind, order="C", copy=True), device=self.device)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy an array of this backend to the host: the one way there."""
        return np.array(array)

    def session(self, dtype: str = "float32") -> contextlib.AbstractContextManager[Any]:
        """Return the context in which arrays of this backend are made and used with ``dtype``."""
        return contextlib.nullcontext()

    def compile(self, function: Callable[..., Any], donate: Sequence[int] = ()) -> Callable[..., Any]:
        """Compile a function of arrays, where the library can.

        ``donate`` names the positional arguments that the caller gives up, so that their memory may be reused.
        """
        return function

    def scan(self, step: Step, carry: Any, xs: dict[str, Array]) -> tuple[Any, Array | None]:
        """Run ``step`` over the leading axis of every array in ``xs``.

        Parameters
        ----------
        step : callable
            Takes the carry and a dictionary of one slice of each array; returns the new carry and either an array
            to collect or ``None``.
        carry : object
            What goes from step to step.
        xs : dict of str to array
            At least one array, all of one length.

        Returns
        -------
        carry : object
            After the last step.
        outputs : array or None
            What the steps returned, stacked.
        """
        outputs = []
        (length,) = {array.shape[0] for array in xs.values()}
        for i in range(length):
            carry, output = step(carry, {name: array[i, ...] for name, array in xs.items()})
            outputs.append(output)
        return carry, None if not outputs or outputs[0] is None else self.xp.stack(outputs)

    def stepwise(self) -> Backend:
        """Return this backend with steps run one by one, by Python, so that they may talk to others in between."""
        return self

    def exchange(self, talk: Callable[[Buffer], None], on_device: bool = False) -> Callable[[Array], Array]:
        """Turn a function that talks to other processes into one that steps may call.

        Parameters
        ----------
        talk : callable
            Takes a contiguous array and changes it in place.
        on_device : bool
            Whether it can take an array of this backend. If not, it is given one on the host.

        Returns
        -------
        callable
            From an array of this backend, which it leaves as it is, to the changed one.
        """

        def through_host(array: Array) -> Array:
            host = self.to_numpy(array)
            talk(host)
            return host if type(self) is Backend else self.asarray(host)

        def directly(array: Array) -> Array:
            changed = self.xp.asarray(array, copy=True)
            self.synchronize()  # the other side knows nothing of what is still to be done on this device
            talk(changed)
            return changed

        return directly if on_device else through_host

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked for: clocks are read after this."""


class StrictBackend(Backend):
    """array-api-strict: NumPy that refuses whatever the standard does not promise. For tests."""

    library: ClassVar[str] = "array_api_strict"
    packages: ClassVar[tuple[str, ...]] = ("array-api-strict",)
    install: ClassVar[str] = "pip install array-api-strict"

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open it on ``CPU_DEVICE``, or on another of its pretended devices."""
        xp = importlib.import_module("array_api_strict")
        try:
            chosen = xp.Device(device or "CPU_DEVICE")
        except ValueError as error:
            raise BackendError(f"{_brief(error)}; there are {', '.join(cls.devices())}") from None
        if device == "no_x64":
            raise BackendError("its argmax gives 64-bit integers, which this device refuses")
        return cls(f"array_api_strict:{device}" if device else "array_api_strict", xp, chosen)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the pretended devices."""
        xp = importlib.import_module("array_api_strict")
        names = [_strict_name(device) for device in xp.__array_namespace_info__().devices()]
        return tuple(f"array_api_strict:{name}" for name in names if name != "no_x64")

    @property
    def device_name(self) -> str:
        """The device's name."""
        return _strict_name(self.device)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host through the library's CPU device."""
        return np.array(array_api_compat.to_device(array, self.xp.Device("CPU_DEVICE")))

    def session(self, dtype: str = "float32") -> contextlib.AbstractContextManager[Any]:
        """Refuse float64 on the device that pretends to have none."""
        if dtype == "float64" and self.device_name == "no_float64":
            raise BackendError("dtype='float64': the device 'no_float64' has no float64, take dtype='float32'")
        return contextlib.nullcontext()


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
            raise BackendError(_brief(error)) from None
        spec = f"torch:{device}" if device else "torch"
        return cls(spec, array_api_compat.array_namespace(array), array.device)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the CPU and the CUDA GPUs."""
        torch = importlib.import_module("torch")
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return ("torch:cpu", *(f"torch:cuda:{i}" for i in range(gpus)))

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


class JaxBackend(Backend):
    """JAX, which compiles a whole epoch into one program."""

    library: ClassVar[str] = "jax"
    packages: ClassVar[tuple[str, ...]] = ("jax",)
    install: ClassVar[str] = "pip install jax"

    # A compiled loop has no calls to spare, but copies what it cuts from a vector, and what it puts together.
    arrays_apart: ClassVar[bool] = True

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open it on its default device, or on a platform and number such as ``gpu:0``."""
        jax = importlib.import_module("jax")
        platform, _, number = device.partition(":")
        try:
            found, index = jax.devices(platform or None), int(number or 0)
        except (RuntimeError, ValueError) as error:
            raise BackendError(_brief(error)) from None
        if not 0 <= index < len(found):
            raise BackendError(f"there {'is' if len(found) == 1 else 'are'} {len(found)}, counted from 0")
        xp = importlib.import_module("jax.numpy")
        return cls(f"jax:{device}" if device else "jax", xp, found[index])

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the devices of the default platform."""
        jax = importlib.import_module("jax")
        return tuple(f"jax:{device.platform}:{device.id}" for device in jax.devices())

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host."""
        return np.array(array)

    def session(self, dtype: str = "float32") -> contextlib.AbstractContextManager[Any]:
        """Switch 64-bit numbers on for a float64 run: without that JAX would go on in float32."""
        jax = importlib.import_module("jax")
        context: contextlib.AbstractContextManager[Any] = jax.enable_x64(dtype == "float64")
        return context

    def compile(self, function: Callable[..., Any], donate: Sequence[int] = ()) -> Callable[..., Any]:
        """Compile with `jax.jit`."""
        compiled: Callable[..., Any] = importlib.import_module("jax").jit(function, donate_argnums=tuple(donate))
        return compiled

    def scan(self, step: Step, carry: Any, xs: dict[str, Array]) -> tuple[Any, Array | None]:
        """Run `jax.lax.scan`, one compiled loop."""
        result: tuple[Any, Array | None] = importlib.import_module("jax").lax.scan(step, carry, xs)
        return result

    def stepwise(self) -> Backend:
        """Compile nothing: a compiled program could call back to the host, but may then wait for itself on a CPU."""
        return StepwiseJaxBackend(self.spec, self.xp, self.device)

    def exchange(self, talk: Callable[[Buffer], None], on_device: bool = False) -> Callable[[Array], Array]:
        """Go through the host: JAX lets nobody write to its arrays."""
        if on_device:
            raise BackendError("backend='jax': its arrays cannot be changed in place, so they go through the host")
        return super().exchange(talk)

    def synchronize(self) -> None:
        """Wait for what was dispatched: work on one device is done in order."""
        jax = importlib.import_module("jax")
        jax.block_until_ready(jax.device_put(0.0, self.device) + 0.0)


class StepwiseJaxBackend(JaxBackend):
    """JAX, operation by operation, as the other libraries run."""

    arrays_apart: ClassVar[bool] = False

    compile = Backend.compile
    scan = Backend.scan


class CupyBackend(Backend):
    """CuPy: NumPy on a CUDA GPU."""

    library: ClassVar[str] = "cupy"
    packages: ClassVar[tuple[str, ...]] = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
    install: ClassVar[str] = "pip install 'cupy-cuda13x[ctk]' (or 'cupy-cuda12x[ctk]' with an older driver)"

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
                f"CuPy finds a GPU but cannot compute on it: {_brief(error)}; if a library of CUDA's is missing, "
                "pip install 'cupy-cuda13x[ctk]' (or 'cupy-cuda12x[ctk]') brings it along"
            )
        return None

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


class GenericBackend(Backend):
    """Any other Array API library, given as its namespace module."""

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host through DLPack, the standard's own way."""
        try:
            return np.array(np.from_dlpack(array))
        except (AttributeError, RuntimeError, BufferError, TypeError):
            return np.array(array)

    @property
    def version(self) -> str:
        """The version that the module says it has."""
        return str(getattr(self.xp, "__version__", "unknown"))


BACKENDS: dict[str, type[Backend]] = {
    cls.library: cls for cls in (Backend, CupyBackend, TorchBackend, JaxBackend, StrictBackend)
}


def get_backend(backend: str | ModuleType | Backend | None = None) -> Backend:
    """Open a backend.

    Parameters
    ----------
    backend : str, module or Backend, optional
        A spec such as ``"cupy"`` or ``"torch:cuda:0"``, or any Array API namespace module. By default the
        environment variable ``XPNET_BACKEND``, else ``"numpy"``.

    Returns
    -------
    Backend

    Raises
    ------
    BackendError
        If there is no such backend, or it cannot be used here: not installed, or no GPU.

    Examples
    --------
    >>> get_backend("numpy").device_name
    'cpu'
    """
    if isinstance(backend, Backend):
        return backend
    if isinstance(backend, ModuleType):
        return _from_module(backend)
    argument = "backend" if backend is not None else "XPNET_BACKEND"
    spec = backend if backend is not None else os.environ.get("XPNET_BACKEND") or "numpy"
    if not isinstance(spec, str):
        raise TypeError(
            f"backend={spec!r}: must be a name such as 'numpy' or an Array API module, not {type(spec).__name__}"
        )
    name, _, device = spec.partition(":")
    if name not in BACKENDS:
        raise BackendError(f"{argument}={spec!r}: unknown; there are {', '.join(BACKENDS)}")
    cls = BACKENDS[name]
    try:
        if reason := _import_problem(cls):
            raise BackendError(reason)
        return cls.open(device)
    except BackendError as error:
        raise BackendError(f"{argument}={spec!r}: {error}; 'xpnet backends' lists what can be used here") from None


def list_backends() -> list[BackendInfo]:
    """Look at every backend: its version, its devices, and why it cannot be used if it cannot.

    Returns
    -------
    list of BackendInfo

    Examples
    --------
    >>> import xpnet
    >>> known = {info.name: info for info in xpnet.list_backends()}
    >>> known["numpy"].usable, known["numpy"].devices
    (True, ('numpy',))
    """
    return [_info(cls) for cls in BACKENDS.values()]


def local_spec(backend: str | ModuleType | Backend | None, number: int) -> str | ModuleType | Backend | None:
    """Give each of several processes on a machine a device of its own, as far as there are.

    Parameters
    ----------
    backend : str, module or Backend, optional
        As `get_backend` takes it.
    number : int
        The process's number on the machine, from 0 on.

    Returns
    -------
    str, module or Backend, optional
        ``"cupy:3"`` for ``"cupy"`` and ``"torch:cuda:3"`` for ``"torch:cuda"``, if the number is 3, or 7 and there
        are four GPUs. What names no kind of device that is numbered, or names one of them, stays.
    """
    spec = backend if backend is not None else os.environ.get("XPNET_BACKEND") or None
    cls = BACKENDS.get(spec.partition(":")[0]) if isinstance(spec, str) else None
    if cls is None or _import_problem(cls):
        return backend
    try:
        devices = cls.devices()
    except BackendError:  # `get_backend` says the same, and more
        return backend
    numbered = [device for device in devices if re.fullmatch(re.escape(str(spec)) + r":\d+", device)]
    return numbered[number % len(numbered)] if numbered else backend


def backend_of(array: Any) -> Backend:
    """Find the backend that an array belongs to; lists and numbers belong to NumPy.

    Parameters
    ----------
    array : array_like
        Of any library.

    Returns
    -------
    Backend

    Examples
    --------
    >>> import numpy as np
    >>> backend_of(np.zeros(3)).spec, backend_of([1, 2, 3]).spec
    ('numpy', 'numpy')
    """
    if not array_api_compat.is_array_api_obj(array):
        return get_backend("numpy")
    xp = array_api_compat.array_namespace(array)
    name = _library_of(xp)
    if name == "numpy":
        return get_backend("numpy")
    # Not opened: the array shows that its device works.
    return BACKENDS.get(name, GenericBackend)(name, xp, array_api_compat.device(array))


def convolution_lowering(xp: Namespace) -> str:
    """Say which of the two ways to compute a convolution suits a library.

    NumPy and torch do best with products of row-shifted slices, which reuse what is in a processor's cache: on NumPy
    in less than half the time. JAX is faster with one large product over unrolled patches, by half, and compiles it
    sooner. So is CuPy, going by its sources: it hands batched products of 2-D by 3-D arrays to slower kernels.

    Parameters
    ----------
    xp : module
        The array namespace.

    Returns
    -------
    {"row_shift", "im2col"}
    """
    unrolled = array_api_compat.is_cupy_namespace(xp) or array_api_compat.is_jax_namespace(xp)
    return "im2col" if unrolled else "row_shift"


def product_limit(xp: Namespace) -> int | None:
    """Say how many multiplications a product of two matrices had better not exceed.

    OpenBLAS, which NumPy brings along, copies the operands of a large product to suit its kernels. Up to a million
    multiplications it works on them where they lie, which is up to twice as fast.

    Parameters
    ----------
    xp : module
        The array namespace.

    Returns
    -------
    int or None
        ``None``: the larger, the better.
    """
    return 10**6 if array_api_compat.is_numpy_namespace(xp) else None


@contextlib.contextmanager
def thread_limit(threads: int | None) -> Iterator[None]:
    """Limit the threads of the linear-algebra libraries for the time of a ``with`` block.

    Parameters
    ----------
    threads : int, optional
        By default ``XPNET_THREADS``; when that is not set either, the user's own settings stay.

    Raises
    ------
    ValueError
        If the number is not at least 1.

    Examples
    --------
    >>> import numpy as np
    >>> with thread_limit(1):
    ...     (np.ones((2, 3)) @ np.ones((3, 4))).shape
    (2, 4)
    """
    count = check_threads(threads)
    if count is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(count):
        yield


def check_threads(threads: int | None) -> int | None:
    """Return how many threads the linear algebra shall take: ``threads``, else ``XPNET_THREADS``, else ``None``.

    Raises
    ------
    ValueError
        If the number is not at least 1.
    """
    argument = "threads" if threads is not None else "XPNET_THREADS"
    given = threads if threads is not None else os.environ.get("XPNET_THREADS")
    if given is None or given == "":
        return None
    try:
        count = int(given) if isinstance(given, str) else operator.index(given)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise ValueError(f"{argument}={given!r}: must be an integer of at least 1")
    return count


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`, from its malloc.h."""


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Keep the memory of freed arrays at hand for the time of a ``with`` block, where the C library is glibc.

    A training step makes and frees the same temporary arrays as the one before. Of a few megabytes and more, glibc
    gives them back to the system each time, and the system hands out zeroed pages anew: a sixth of the time of a
    convolutional network's step on NumPy. Elsewhere nothing happens.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt, malloc_trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    # The largest threshold there is for asking the system; what is below comes from the heap, which does not shrink.
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        yield
    finally:
        # Where glibc's own adjustment ends up, once a program has freed an array of 32 MiB.
        mallopt(_M_TRIM_THRESHOLD, 64 << 20)
        malloc_trim(0)


def check_dtype(dtype: str) -> str:
    """Return ``dtype`` if a network can be trained in it.

    Raises
    ------
    ValueError
        Naming the dtypes there are.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: must be one of {', '.join(DTYPES)}")
    return dtype


def installed_version(packages: Sequence[str]) -> str | None:
    """Return the version of the first of these distributions that is installed."""
    from importlib import metadata  # a third of the time to import all of this

    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
    return None


def _import_problem(cls: type[Backend]) -> str | None:
    """Say why a library cannot be imported, or return None."""
    if importlib.util.find_spec(cls.library) is None:
        return f"{cls.library} is not installed: {cls.install}"
    try:
        importlib.import_module(cls.library)
    except Exception as error:  # A broken installation may raise anything; its words are the user's best clue.
        return f"{cls.library} is installed but cannot be imported: {_brief(error)}"
    return None


def _info(cls: type[Backend]) -> BackendInfo:
    version = installed_version(cls.packages)
    if reason := _import_problem(cls):
        return BackendInfo(cls.library, version, (), reason)
    try:
        cls.open()
        return BackendInfo(cls.library, version, cls.devices(), None)
    except Exception as error:
        return BackendInfo(cls.library, version, (), _brief(error))


def _from_module(module: ModuleType) -> Backend:
    name = _library_of(module)
    if name in BACKENDS:
        return get_backend(name)
    if not hasattr(module, "asarray"):
        raise BackendError(f"backend={module.__name__}: not an Array API namespace, it has no 'asarray'")
    xp = array_api_compat.array_namespace(module.asarray(0.0))
    return GenericBackend(name, xp)


def _library_of(module: ModuleType) -> str:
    root = module.__name__.removeprefix("array_api_compat.").partition(".")[0]
    return root if root in BACKENDS else module.__name__


def _strict_name(device: Any) -> str:
    return str(device).partition("'")[2].rstrip("')")


def _brief(error: BaseException) -> str:
    """Return the first line of a library's complaint, or its first sentence where the line is long."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if len(line) <= 200 else line.partition(". ")[0]
