"""The host: its processors, the threads of its linear algebra, and the memory of freed arrays."""

from __future__ import annotations

import contextlib
import ctypes
import operator
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def thread_limit(threads: int | None) -> Iterator[None]:
    """Limit the threads of the linear-algebra libraries inside a ``with`` block.

    Parameters
    ----------
    threads : int, optional
        By default ``XPNET_THREADS``; if that is not set either, the user's own settings stay.

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
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:  # as in a browser's Python, which has one thread
        yield
        return
    with _changing:
        limit = threadpool_limits(count)
        _limits.append(limit)
    try:
        yield
    finally:
        _leave(limit)


_changing = threading.Lock()
_limits: list[Any] = []
"""The limits of the blocks that were entered, in this order."""
_left: list[Any] = []
"""The limits whose block has ended while a later one is still running."""


def _leave(limit: Any) -> None:
    """Undo a limit once all later ones are undone, since blocks in several threads may end in any order."""
    with _changing:
        _left.append(limit)
        while _limits and _limits[-1] in _left:
            undone = _limits.pop()
            _left.remove(undone)
            undone.__exit__(None, None, None)


def check_threads(threads: int | None) -> int | None:
    """Return the number of threads for linear algebra: ``threads``, else ``XPNET_THREADS``, else ``None``.

    Raises
    ------
    ValueError
        If the number is not at least 1.
    """
    return _count("threads", threads)


def check_workers(workers: int | None) -> int | None:
    """Return the number of workers: ``workers``, else ``XPNET_WORKERS``, else ``None``; see `check_threads`."""
    return _count("workers", workers)


def processors() -> int:
    """Count the processors that this process may use, which in a container or on a shared server are not all.

    Examples
    --------
    >>> processors() >= 1
    True
    """
    # `process_cpu_count` exists from Python 3.13 on; it respects affinity and the user's PYTHON_CPU_COUNT.
    count = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    if hasattr(os, "sched_getaffinity"):
        count = min(count, len(os.sched_getaffinity(0)))
    quota = _cgroup_quota()
    return count if quota is None else max(1, min(count, int(quota)))


def _cgroup_quota() -> float | None:
    """Return the number of processors whose time a Linux container may use, if that is limited."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")
        limit = int((folder / "cpu.cfs_quota_us").read_text())
        return None if limit < 0 else limit / int((folder / "cpu.cfs_period_us").read_text())
    return None


def _count(name: str, value: int | None) -> int | None:
    argument = name if value is not None else f"XPNET_{name.upper()}"
    given = value if value is not None else os.environ.get(argument)
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
    """Keep the memory of freed arrays for reuse inside a ``with`` block, if the C library is glibc.

    A training step allocates and frees the same temporary arrays as the step before. glibc returns large ones, from a
    few megabytes on, to the system each time, and the system has to hand out zeroed pages again. This takes a sixth of
    the time of a convolutional network's step on NumPy. With another C library nothing happens.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt, malloc_trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    # Arrays below this threshold, the largest that glibc accepts, come from the heap, which then does not shrink.
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        yield
    finally:
        # glibc itself would set this value, once a program has freed an array of 32 MiB.
        mallopt(_M_TRIM_THRESHOLD, 64 << 20)
        malloc_trim(0)
