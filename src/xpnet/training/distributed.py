"""Training on several processes at once: each computes its share of every batch, and MPI adds up the results.

The processes of a job are its *ranks*, numbered from 0. All of them draw the same permutation and the same noise, and
take the same steps; they split only the samples of a batch. A sum over a batch is the sum over its shares, so up to
rounding each step is the one that a single process would take: only the size of the global batch matters, not the
number of ranks. A rank whose share is empty takes part like the others.

Between the two pure functions of a step the ranks exchange one message, the flat buffer of
`xpnet.training.step.reduce_sums`. Batch normalization adds messages of its own, for statistics over the whole batch.

The training loop sees only `Ranks`. This base class is a process that trains alone; `MPIRanks` is a rank of an MPI job.
No other module knows MPI, and mpi4py is imported only when it is needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, TracebackType
from typing import Any, TypeVar

import numpy as np

from xpnet.backends import Backend, Buffer, get_backend, local_spec
from xpnet.host import check_threads, processors
from xpnet.runs.checkpoint import config_differences
from xpnet.typing import Array, HostArrays

T = TypeVar("T")

NAMES = ("mpi", "mpi:device")

MAY_DIFFER = {"backend", "device", "workers", "threads"}
"""Settings that may differ between ranks, since each may have its own GPU. Versions of libraries must be the same."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which a user may set the number of threads."""

LAUNCHERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
"""Environment variables by which MPICH's and Open MPI's mpiexec give the number of processes."""

GRACE = 1.0
"""Seconds that a rank waits before it prints an error: if the first rank fails the same way, one message is enough."""

LAST_WORDS = 0.3
"""Seconds between an error message and the abort, because mpiexec drops output that it has not yet passed on."""


class Ranks:
    """The processes that train together, seen from one of them. This base class is a process that trains alone.

    Attributes
    ----------
    rank : int
        The number of this process.
    size : int
        The number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that prints, draws and writes."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return this rank's share of ``n`` samples. Shares differ by at most one sample, and may be empty."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def open_backend(self, backend: str | ModuleType | Backend | None) -> Backend:
        """Open a backend for this rank; see `xpnet.get_backend`."""
        return get_backend(backend)

    def processors(self) -> int:
        """Return how many processors this rank may use."""
        return processors()

    def threads(self, wanted: int | None, backend: Backend) -> int | None:
        """Return the number of threads for linear algebra; ``None`` keeps the libraries' own settings.

        If workers of this process can share the work, linear algebra gets one thread. Its own threads spin while they
        wait for each other: next to another program, two of them take six times as long as one. Their number also
        changes the last bits of a product.
        """
        count = check_threads(wanted)
        if count is not None or any(os.environ.get(name) for name in THREAD_VARIABLES):
            return count
        return 1 if backend.threads_compute else None

    def all_reduce(self, backend: Backend) -> Callable[[Array], Array] | None:
        """Return the function that sums an array of a backend over the ranks, or None for a process alone."""
        return None

    def add(self, numbers: Sequence[float]) -> Sequence[float]:
        """Sum numbers over the ranks."""
        return numbers

    def any(self, flag: bool) -> bool:
        """Return whether a flag is true on any rank."""
        return flag

    def from_first(self, function: Callable[[], T]) -> T:
        """Call a function on the first rank, and return its result, or raise its error, on all ranks."""
        return function()

    def once_a_machine(self, function: Callable[[], T]) -> T:
        """Call a function on one rank of each machine, and return its result, or raise its error, on all its ranks."""
        return function()

    def agree(self, settings: Mapping[str, Any]) -> None:
        """Check that all ranks have the same settings, before any of them waits for another; see `compare`."""

    def compare(self, config: Mapping[str, Any], weights: Callable[[], Sequence[HostArrays]]) -> None:
        """Check that all ranks start with the same settings, data and weights.

        Parameters
        ----------
        config : mapping
            The configuration, including the fingerprint of the data.
        weights : callable
            Returns the initial parameters.

        Raises
        ------
        ValueError
            On every rank, naming the ranks that differ from the first, and the differences.
        """


class MPIRanks(Ranks):
    """The ranks of an MPI job.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        All ranks.
    machine : mpi4py.MPI.Comm
        The ranks on this machine.
    on_device : bool
        Whether MPI can take the arrays of a GPU.
    """

    def __init__(self, comm: Any, machine: Any, on_device: bool = False) -> None:
        self.comm, self.machine, self.on_device = comm, machine, on_device
        self.rank, self.size = comm.Get_rank(), comm.Get_size()

    def open_backend(self, backend: str | ModuleType | Backend | None) -> Backend:
        """Open a backend on this rank's device, chosen by its number on the machine."""
        opened = get_backend(local_spec(backend, self.machine.Get_rank()))
        return opened.stepwise() if self.size > 1 else opened

    def processors(self) -> int:
        """Return this rank's share of the machine's processors."""
        available = set().union(*self.machine.allgather(_processors()))
        return max(1, min(processors(), len(available) // int(self.machine.Get_size())))

    def threads(self, wanted: int | None, backend: Backend) -> int | None:
        """Limit the threads to this rank's processors, unless the user set a number.

        Linear algebra with more threads than processors can be ten times slower, because the threads wait for each
        other.
        """
        share = self.processors()  # A collective call, so every rank makes it, whatever its own setting.
        chosen = super().threads(wanted, backend)
        if chosen is not None or any(os.environ.get(name) for name in THREAD_VARIABLES):
            return chosen
        return share

    def all_reduce(self, backend: Backend) -> Callable[[Array], Array] | None:
        """Return the function that sums an array over the ranks, through the host or on the device."""
        if self.size == 1:
            return None
        return backend.exchange(self._add_in_place, on_device=self.on_device)

    def _add_in_place(self, buffer: Buffer) -> None:
        self.comm.Allreduce(_mpi().IN_PLACE, buffer)

    def add(self, numbers: Sequence[float]) -> Sequence[float]:
        """Sum numbers over the ranks, in float64."""
        total = np.array(numbers, dtype=np.float64)
        self._add_in_place(total)
        return [float(number) for number in total]

    def any(self, flag: bool) -> bool:
        """Return whether a flag is true on any rank."""
        return bool(self.comm.allreduce(int(flag)) > 0)

    def from_first(self, function: Callable[[], T]) -> T:
        """Call a function on the first rank, and return its result, or raise its error, on all ranks."""
        return _from_first_of(self.comm, function)

    def once_a_machine(self, function: Callable[[], T]) -> T:
        """Call a function on one rank of each machine, and return its result, or raise its error, on all its ranks."""
        return _from_first_of(self.machine, function)

    def compare(self, config: Mapping[str, Any], weights: Callable[[], Sequence[HostArrays]]) -> None:
        """Compare every rank with the first; see `Ranks.compare`."""
        self.agree({**config, "initial_weights": digest_of(weights())})

    def agree(self, settings: Mapping[str, Any]) -> None:
        """Compare every rank's settings with those of the first; see `Ranks.agree`."""
        ours = dict(settings)
        theirs = self.comm.bcast(ours)
        found = [
            f"on rank {self.rank} {name} is {mine}, on rank 0 {first}"
            for name, first, mine in config_differences(theirs, ours, MAY_DIFFER)
        ]
        differences = [text for rank in self.comm.allgather(found) for text in rank]
        if differences:
            raise ValueError(
                f"distributed: the ranks do not have the same settings: {'; '.join(differences)}. "
                "Start all of them with the same settings, data and versions."
            )


def digest_of(layers: Sequence[HostArrays]) -> str:
    """Return a hash of the arrays of all layers."""
    digest = hashlib.sha256()
    for layer in layers:
        for array in layer.values():
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def get_ranks(distributed: str | Ranks | None) -> Ranks:
    """Find out which rank this process is.

    Parameters
    ----------
    distributed : {"mpi", "mpi:device"} or Ranks, optional
        By default the process trains alone. ``"mpi"`` sends everything through the host's memory. ``"mpi:device"``
        hands GPU arrays to MPI, which must be built for that.

    Returns
    -------
    Ranks

    Raises
    ------
    ValueError
        If the value is unknown, or MPI is not installed, is not the one that ``mpiexec`` belongs to, or cannot take
        a GPU's arrays.
    """
    if distributed is None:
        return Ranks()
    if isinstance(distributed, Ranks):
        return distributed
    if distributed not in NAMES:
        raise ValueError(f"distributed={distributed!r}: unknown; there are {', '.join(NAMES)}")
    return _join(distributed)


@functools.cache
def _join(distributed: str) -> MPIRanks:
    """Join the MPI job of this process, and make sure that no rank waits for one that has failed."""
    mpi = _mpi()
    world = mpi.COMM_WORLD
    started = _started()
    if world.Get_size() == 1 and started > 1:
        raise ValueError(
            f"distributed={distributed!r}: {started} processes were started, but each finds itself alone: mpiexec "
            f"belongs to another MPI than mpi4py, which uses {_first_line(mpi.Get_library_version())}"
        )
    on_device = distributed == "mpi:device"
    if on_device and not cuda_aware(mpi):
        raise ValueError(
            f"distributed={distributed!r}: {_first_line(mpi.Get_library_version())} cannot take the arrays of a GPU, "
            "or does not say that it can: take distributed='mpi', or an MPI that was built with CUDA"
        )
    sys.excepthook = functools.partial(_complain_and_end, sys.excepthook)
    # Duplicated communicators keep these messages apart from the user's own.
    return MPIRanks(world.Dup(), world.Split_type(mpi.COMM_TYPE_SHARED), on_device)


def cuda_aware(mpi: ModuleType) -> bool:
    """Ask MPI whether it takes a GPU's arrays, through a function that Open MPI and MPICH share."""
    # mpi4py's module is linked to the MPI library, so the library's symbols can be found through it.
    query = getattr(ctypes.CDLL(mpi.__file__), "MPIX_Query_cuda_support", None)
    return query is not None and query() == 1


# The end of a job -------------------------------------------------------------------------------------------------


def hold_back() -> None:
    """Give the first rank time to report an error and end the job before this rank reports its own."""
    if _rank_and_size()[0] > 0:
        time.sleep(GRACE)


def check_joins(distributed: str | None) -> None:
    """Check that a process that `mpiexec` started joins the other processes, which may wait for it.

    Raises
    ------
    ValueError
        If there are several processes, and this one does not join.
    """
    if distributed is None and _started() > 1:
        name = next(name for name in LAUNCHERS if _number(os.environ.get(name)) > 1)
        raise ValueError(
            f"distributed: mpiexec has started {_started()} processes, and this one was not told to join the others: "
            f"add --distributed mpi, or unset {name} to train by itself"
        )


def end_job(code: int, joins: bool = False) -> None:
    """End all ranks if this process ends with an error, because the others would wait for it forever.

    Parameters
    ----------
    code : int
        The exit code. Nothing happens if it is 0 or if the process is alone.
    joins : bool
        Whether the others wait even if this process has not joined them: MPI can end a job only once all have joined.
    """
    if code and (_rank_and_size()[1] > 1 or (joins and _started() > 1)):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # closed
                stream.flush()
        time.sleep(LAST_WORDS)
        with contextlib.suppress(ValueError):  # there is no MPI
            _mpi().COMM_WORLD.Abort(code)


def _complain_and_end(
    complain: Callable[..., Any], kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Report an uncaught exception, then end the job."""
    hold_back()
    complain(kind, error, traceback)
    end_job(130 if issubclass(kind, KeyboardInterrupt) else 1)


def _rank_and_size() -> tuple[int, int]:
    """Return this process's rank and the number of ranks, without starting MPI."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return 0, 1
    return mpi.COMM_WORLD.Get_rank(), mpi.COMM_WORLD.Get_size()


# Small things -----------------------------------------------------------------------------------------------------


def _mpi() -> Any:
    try:
        return importlib.import_module("mpi4py.MPI")
    except ModuleNotFoundError:
        raise ValueError("distributed='mpi': mpi4py is not installed: pip install mpi4py") from None
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"distributed='mpi': mpi4py finds no MPI ({_first_line(str(error))}): load the one of your cluster, "
            "or pip install mpich"
        ) from None


def _from_first_of(comm: Any, function: Callable[[], T]) -> T:
    outcome: tuple[Any, Exception | None] | None = None
    if comm.Get_rank() == 0:
        try:
            outcome = function(), None
        except Exception as error:
            outcome = None, error
    value, raised = comm.bcast(outcome)
    if raised is not None:
        raise raised
    result: T = value
    return result


def _processors() -> set[int]:
    """Return the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _started() -> int:
    """Return the number of processes that mpiexec has started."""
    return max(_number(os.environ.get(name)) for name in LAUNCHERS)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 1


def _first_line(text: str) -> str:
    return " ".join(text.strip().partition("\n")[0].split())
