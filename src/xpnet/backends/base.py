"""The base class of every backend: everything that an array library has to provide beyond the standard.

The Array API standard defines the operations on arrays. It leaves open how an array gets from the host to the device
and back, how a loop over many batches runs or is compiled, and whether the library can be used on this machine at all.
`Backend` answers these questions in a way that suits any library. A backend for one library overrides the methods that
it can do better.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import array_api_compat
import numpy as np
from numpy.typing import NDArray

Array = Any
Namespace = Any
Buffer = Any
Step = Callable[[Any, dict[str, Array]], tuple[Any, Array | None]]

DTYPES = ("float32", "float64")

_process_of: dict[str, int] = {}
"""The process in which a library first used its threads; a fork inherits this entry, but not the threads."""


class BackendError(ValueError):
    """A backend does not exist or cannot be used here; the message gives the reason and a remedy.

    Examples
    --------
    >>> import xpnet
    >>> try:
    ...     xpnet.get_backend("abacus")
    ... except xpnet.BackendError as error:
    ...     print(error)
    backend='abacus': unknown; there are numpy, cupy, torch, jax, dpnp, array_api_strict
    """


@dataclass(frozen=True)
class BackendInfo:
    """A backend on this machine: its version, its devices, and the reason if it cannot be used.

    Attributes
    ----------
    name : str
        The name, such as ``"cupy"``.
    version : str or None
        The installed version of the library.
    devices : tuple of str
        The specs that select its devices, such as ``("torch:cpu", "torch:cuda:0")``.
    reason : str or None
        Why it cannot be used; ``None`` if it can.

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
        """Whether a run can use the backend."""
        return self.reason is None


@dataclass(frozen=True)
class Backend:
    """An array library on a device. This base class uses only the standard, and runs everything eagerly.

    Attributes
    ----------
    spec : str
        The name that selects the backend, such as ``"torch:cuda:0"``.
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

    library: ClassVar[str] = ""
    """The module to import, which also names the backend."""

    packages: ClassVar[tuple[str, ...]] = ()
    """The distributions that may provide the module; the version is that of the first one installed."""

    install: ClassVar[str] = ""
    """The command that installs the library."""

    convolution: ClassVar[str] = "row_shift"
    """The fastest way for the library to compute a convolution: ``"row_shift"``, as products of row-shifted slices, or
    ``"im2col"``, as one large product over unrolled patches. See `xpnet.nn.convolution`."""

    product_limit: ClassVar[int | None] = None
    """The largest number of multiplications in a fast product of two matrices; ``None`` if larger is always better."""

    threads_compute: ClassVar[bool] = False
    """Whether Python threads of one process compute in parallel: the library releases Python's lock, runs each call
    at once, and has no better use for the processors."""

    first_epoch: ClassVar[str] = ""
    """The reason why a run's first epoch takes longer than later ones, in readable form."""

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open the library on a device, named in its own notation, or raise `BackendError` with just the cause."""
        if device:
            raise BackendError(f"{cls.library} has no devices to choose between")
        module = importlib.import_module(cls.library)
        return cls(cls.library, array_api_compat.array_namespace(module.asarray(0.0)))

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the specs of the available devices, or raise an error with the driver's message."""
        return (cls.library,)

    @classmethod
    def of(cls, array: Array) -> Backend:
        """Return the backend of an array of this library, without a check: the array shows that its device works."""
        device = array_api_compat.device(array)
        return cls(cls.spec_of(device), array_api_compat.array_namespace(array), device)

    @classmethod
    def spec_of(cls, device: Any) -> str:
        """Return the spec that selects a device; ``device`` is of the library's own type."""
        return f"{cls.library}:{device}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the class and the spec: a module cannot be pickled, and a device may not exist elsewhere."""
        from .registry import reopen

        return reopen, (type(self), self.spec)

    def __copy__(self) -> Backend:
        """Return the backend itself, which never changes."""
        return self

    def __deepcopy__(self, memo: Any) -> Backend:
        """Return the backend itself, which never changes."""
        return self

    @property
    def launch_bound(self) -> bool:
        """Whether a call costs microseconds whatever its size, so that few large arrays are better than many."""
        return False

    @property
    def device_name(self) -> str:
        """The device in readable form."""
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
            An array of any layout and byte order.
        dtype : str, optional
            A dtype of the standard; by default that of ``host``.

        Returns
        -------
        array
            A C-ordered copy. It never shares memory with ``host``, unlike the result of some libraries' ``asarray``.
        """
        host = np.asarray(host)
        kind = np.dtype(dtype) if dtype else host.dtype.newbyteorder("=")
        return self.xp.asarray(np.array(host, dtype=kind, order="C", copy=True), device=self.device)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy an array of this backend to the host.

        Raises
        ------
        BackendError
            If the library offers neither DLPack nor ``__array__``.
        """
        problem: Exception | None = None
        for copied in (_by_dlpack, np.from_dlpack, np.asarray):
            try:
                host = np.array(copied(array))
            except (AttributeError, BufferError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                problem = error
            else:
                if host.dtype != object and host.shape == tuple(array.shape):
                    return host
        why = f": {brief(problem)}" if problem else ""
        raise BackendError(f"its arrays cannot be copied to the host, by DLPack or by __array__{why}")

    def session(self, dtype: str = "float32") -> contextlib.AbstractContextManager[Any]:
        """Return the context manager inside which code creates or uses arrays of this backend with ``dtype``."""
        return contextlib.nullcontext()

    def refuse_fork(self, remedy: str) -> None:
        """Raise if a fork of this process's parent has lost the threads of a library that would wait for them forever.

        Raises
        ------
        BackendError
            Naming a remedy.
        """
        if _process_of.setdefault(self.library, os.getpid()) != os.getpid():
            raise BackendError(
                f"{self.library} has already computed in the process that this one was forked from, and would wait "
                f"forever for threads that a fork does not copy: start processes by 'spawn', such as "
                f"multiprocessing.get_context('spawn'){remedy}"
            )

    def compile(self, function: Callable[..., Any], donate: Sequence[int] = ()) -> Callable[..., Any]:
        """Compile a function of arrays, if the library can.

        ``donate`` gives the positions of arguments that the caller gives up, so that their memory may be reused.
        """
        return function

    def padded(self, batch: NDArray[Any], most: int) -> NDArray[Any]:
        """Return a batch, with additional rows of any content if the library compiles a program per batch size."""
        return batch

    def scan(self, step: Step, carry: Any, xs: dict[str, Array]) -> tuple[Any, Array | None]:
        """Run ``step`` over the leading axis of every array in ``xs``.

        Parameters
        ----------
        step : callable
            Takes the carry and a dictionary of one slice of each array; returns the new carry and either an array
            to collect or ``None``.
        carry : object
            The value that each step passes on to the next.
        xs : dict of str to array
            At least one array; all have the same length.

        Returns
        -------
        carry : object
            The carry after the last step.
        outputs : array or None
            The stack of the arrays that the steps returned.
        """
        outputs = []
        (length,) = {array.shape[0] for array in xs.values()}
        for i in range(length):
            carry, output = step(carry, {name: array[i, ...] for name, array in xs.items()})
            outputs.append(output)
        return carry, None if not outputs or outputs[0] is None else self.xp.stack(outputs)

    def stepwise(self) -> Backend:
        """Return this backend in a form that runs steps one by one in Python, so that they may exchange messages."""
        return self

    def exchange(self, talk: Callable[[Buffer], None], on_device: bool = False) -> Callable[[Array], Array]:
        """Turn a function that communicates with other processes into one that steps may call.

        Parameters
        ----------
        talk : callable
            Takes a contiguous array and changes it in place.
        on_device : bool
            Whether ``talk`` can take an array of this backend. If not, it gets a copy on the host.

        Returns
        -------
        callable
            Takes an array of this backend and returns the changed array; its argument does not change.
        """

        def through_host(array: Array) -> Array:
            host = self.to_numpy(array)
            talk(host)
            return self.asarray(host)

        def directly(array: Array) -> Array:
            changed = self.xp.asarray(array, copy=True)
            self.synchronize()  # `talk` does not wait for this device
            talk(changed)
            return changed

        return directly if on_device else through_host

    def synchronize(self) -> None:
        """Wait until the device has finished its work; call this before you measure time."""


def _by_dlpack(array: Array) -> NDArray[Any]:
    """Copy an array to the CPU by DLPack, if its library agrees."""
    return np.from_dlpack(array, device="cpu")


def device_of(array: Array) -> Any:
    """Return the device of an array, or ``None``, the default device, if the library's arrays have no device.

    Examples
    --------
    >>> import numpy as np
    >>> device_of(np.zeros(3))
    'cpu'
    """
    return array_api_compat.device(array) if hasattr(array, "device") else None


def check_dtype(dtype: str) -> str:
    """Check that a network can be trained in ``dtype``, and return it.

    Raises
    ------
    ValueError
        If not; the message lists the dtypes.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: must be one of {', '.join(DTYPES)}")
    return dtype


def installed_version(packages: Sequence[str]) -> str | None:
    """Return the version of the first of these distributions that is installed."""
    from importlib import metadata  # here, since it takes a third of this package's import time

    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
    return None


def brief(error: BaseException) -> str:
    """Return the first line of an error's message, or its first sentence if the line is long."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if len(line) <= 200 else line.partition(". ")[0]
