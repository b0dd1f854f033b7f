"""The host: how many threads its linear algebra takes, and what becomes of the memory of freed arrays."""

from __future__ import annotations

import contextlib
import ctypes
import operator
import os
from collections.abc import Iterator


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
