"""Fetching files over a network that may do anything.

Every wait has an end, every download a limit, and memory is bounded whatever a server sends: the standard library's
`http.client` reads each line and all headers within limits, redirects are followed here without their bodies, and
nothing is logged. A mirror that fails is followed by the next; only faults that pass (time-outs, broken connections,
"too many requests", errors inside the server) are tried again. The SHA-256 of what was fetched is checked before
anyone sees it.

Addresses may hold passwords. No message quotes an address that the user gave, nor the words of an error about it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
FILE_DEADLINE = 300.0
PROBE_DEADLINE = 8.0
"""Seconds: to connect; between two pieces of a file; for a whole file; to find out whether any mirror answers."""

ATTEMPTS = 3
BACK_OFF = 0.5
"""How often a passing fault is tried, and the seconds before the second time, doubled for each further one."""


class DataError(ValueError):
    """Data is not what it should be; the message names it and says what would help.

    Examples
    --------
    >>> import xpnet
    >>> images = [[[0, 300], [0, 0]]]
    >>> try:
    ...     xpnet.Dataset("mine", images, [0], images, [0])
    ... except xpnet.DataError as error:
    ...     print(error)
    train_images: pixels from 0 to 300; must be from 0 to pixel_max=255
    """


class DownloadError(DataError):
    """No mirror gave the data.

    Examples
    --------
    >>> import os
    >>> import tempfile
    >>> from unittest import mock
    >>> from xpnet.data import DownloadError, load_mnist
    >>> with tempfile.TemporaryDirectory() as empty, mock.patch.dict(os.environ, XPNET_OFFLINE="1"):
    ...     try:
    ...         load_mnist(empty)
    ...     except DownloadError as error:
    ...         print(str(error).partition(", ")[2].partition(".")[0])
    and XPNET_OFFLINE is set
    """


class PassingFault(Exception):
    """A fault that may be gone when one tries again."""


def mirrors() -> tuple[str, ...]:
    """Return the addresses to try: the user's ``XPNET_MNIST_URL`` first, if it is set."""
    own = os.environ.get("XPNET_MNIST_URL")
    return ((own.rstrip("/") + "/",) if own else ()) + MIRRORS


def offline() -> bool:
    """Whether ``XPNET_OFFLINE`` forbids to open any connection."""
    return os.environ.get("XPNET_OFFLINE", "0") not in ("", "0")


def any_mirror_answers(file_name: str) -> bool:
    """Find out within `PROBE_DEADLINE` whether a mirror has a file; all are asked at once.

    Names are looked up by the system, which knows no time-out; so each mirror is asked in a thread that nobody
    waits for longer than that. Where no thread can start, they are asked one after another.
    """
    if offline():
        return False
    answered = threading.Event()
    threads = [threading.Thread(target=_probe, args=(base + file_name, answered), daemon=True) for base in mirrors()]
    try:
        for thread in threads:
            thread.start()
    except RuntimeError:
        return any(_answers(base + file_name) for base in mirrors())
    deadline = time.monotonic() + PROBE_DEADLINE
    while time.monotonic() < deadline and any(thread.is_alive() for thread in threads):
        if answered.wait(0.05):
            return True
    return answered.is_set()


def fetch(name: str, size: int, digest: str, bases: tuple[str, ...], folder: Path) -> tuple[bytes, tuple[str, ...]]:
    """Fetch a file from the first mirror that has it.

    Parameters
    ----------
    name : str
        What the mirrors call it.
    size : int
        Its size in bytes: no more is read.
    digest : str
        Its SHA-256.
    bases : tuple of str
        The mirrors' addresses.
    folder : Path
        Where errors tell users to put it by hand.

    Returns
    -------
    contents : bytes
    bases : tuple of str
        The mirrors in the order to ask them for the next file: those that did not answer come last.

    Raises
    ------
    DownloadError
        If no mirror gives it, with the cause for each.
    """
    causes = []
    silent = []
    for base in bases:
        try:
            contents = _fetch_from(base + name, size, digest)
        except (DownloadError, PassingFault) as error:
            causes.append(f"  {address_to_show(base, name)}: {error}")
            silent += [base] if isinstance(error, PassingFault) else []
        else:
            return contents, (*(base for base in bases if base not in silent), *silent)
    raise DownloadError(f"cannot fetch {name}:\n" + "\n".join(causes) + f"\nYou can {ways_out(folder)}.")


def ways_out(folder: Path) -> str:
    """Return what a user can do who cannot be given the files."""
    return (
        f"put the four files into {folder} by hand, name a folder that has them with data_dir or XPNET_DATA_DIR, "
        "name a mirror with XPNET_MNIST_URL, or train on the bundled digits with dataset='digits'"
    )


def address_to_show(base: str, name: str) -> str:
    """Return the address of a file as it may be shown: of the user's own mirror only the host.

    A user's name, a password or a token may stand anywhere in an address, and an address with a mistake in it is
    taken apart in the wrong places. So it is shown only where nothing is in doubt.
    """
    if base in MIRRORS and "@" not in base and "?" not in base:
        return base + name
    with contextlib.suppress(ValueError):
        parts = urlsplit(base)
        host = parts.netloc.rpartition("@")[2]
        if "@" not in base.replace(parts.netloc, "", 1) and re.fullmatch(
            r"[\w.-]+(:\d+)?|\[[\da-fA-F:.]+\](:\d+)?", host
        ):
            return f"{name} from {parts.scheme}://{host} (XPNET_MNIST_URL)"
    return f"{name} from the address in XPNET_MNIST_URL"


def _fetch_from(url: str, size: int, digest: str) -> bytes:
    """Fetch from one mirror, trying again what is worth it."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return _retrieve(url, size, digest)
        except PassingFault:
            time.sleep(BACK_OFF * 2**attempt)
    return _retrieve(url, size, digest)


def _retrieve(url: str, size: int, digest: str) -> bytes:
    from xpnet.data.http import Request

    request = Request(url, CONNECT_TIMEOUT, READ_TIMEOUT, FILE_DEADLINE)
    contents = _within(FILE_DEADLINE, lambda: request.read(size), request.cancel)
    if hashlib.sha256(contents).hexdigest() != digest:
        raise DownloadError("the file it gives has another SHA-256")
    return contents


def _within(seconds: float, work: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Do something in a thread that nobody waits for longer than that, and cancel it then.

    No other limit holds them all: looking up a name, and a server that sends a byte now and then, know no time-out.
    Where no thread can start, the limits of the request itself have to do.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return work()
    thread.join(seconds)
    if results:
        return results[0]
    if errors:
        raise errors[0]
    cancel()
    raise DownloadError(f"took more than {seconds:g} s")


def _answers(url: str) -> bool:
    from xpnet.data.http import Request

    try:
        Request(url, CONNECT_TIMEOUT, READ_TIMEOUT, PROBE_DEADLINE).read(0)
    except (DownloadError, PassingFault):
        return False
    return True


def _probe(url: str, answered: threading.Event) -> None:
    if _answers(url):
        answered.set()
