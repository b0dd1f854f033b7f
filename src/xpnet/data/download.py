"""Downloads from untrusted servers over an unreliable network.

Every wait and every download has a limit, and memory is bounded whatever a server sends. The standard library's
`http.client` limits each line and the headers, redirects are followed here without reading their bodies, and nothing is
logged. If a mirror fails, the next one is tried. Only transient faults (time-outs, broken connections, "too many
requests", errors inside the server) are retried. Each file's SHA-256 is checked before anything uses it.

Addresses may hold passwords. No message quotes an address from the user, or the text of an error about it.
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
"""Seconds to connect, between two pieces of a file, for a whole file, and to find out whether any mirror answers."""

ATTEMPTS = 3
BACK_OFF = 0.5
"""The number of attempts after transient faults, and the seconds before the second, doubled for each further one."""


class DataError(ValueError):
    """Data is invalid; the message names it and says what to do.

    Examples
    --------
    >>> import xpnet
    >>> images = [[[0, 300], [0, 0]]]
    >>> try:
    ...     xpnet.Dataset("mine", images, [0], images, [0])
    ... except xpnet.DataError as error:
    ...     print(str(error).partition(", and")[0])
    train_images: pixels from 0 to 300; must be from 0 to pixel_max=255
    """


class DownloadError(DataError):
    """No mirror provided the data.

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
    """A transient fault, after which another attempt may succeed."""


def mirrors() -> tuple[str, ...]:
    """Return the addresses to try, beginning with the user's ``XPNET_MNIST_URL`` if it is set."""
    own = os.environ.get("XPNET_MNIST_URL")
    return ((own.rstrip("/") + "/",) if own else ()) + MIRRORS


def offline() -> bool:
    """Whether ``XPNET_OFFLINE`` forbids all connections."""
    return os.environ.get("XPNET_OFFLINE", "0") not in ("", "0")


def any_mirror_answers(file_name: str) -> bool:
    """Return within `PROBE_DEADLINE` whether any mirror has a file; all mirrors are asked at once.

    The system looks names up without a time-out, so each mirror is asked in its own thread, for which the caller waits
    no longer than the deadline. If no thread can start, the mirrors are asked one after another.
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
        The file's name on the mirrors.
    size : int
        The file's size in bytes; no more is read.
    digest : str
        The file's SHA-256.
    bases : tuple of str
        The mirrors' addresses.
    folder : Path
        The folder that errors name for users who put the file there by hand.

    Returns
    -------
    contents : bytes
    bases : tuple of str
        The mirrors in the order to ask them for the next file; those with transient faults come last.

    Raises
    ------
    DownloadError
        If no mirror provides the file, with the cause for each.
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
    """Return a sentence on what users can do if the files cannot be downloaded."""
    return (
        f"put the four files into {folder} by hand, name a folder that has them with data_dir or XPNET_DATA_DIR, "
        "name a mirror with XPNET_MNIST_URL, or train on the bundled digits with dataset='digits'"
    )


def address_to_show(base: str, name: str) -> str:
    """Return the address of a file in a form that is safe to show: for the user's own mirror, only the host.

    A user name, a password or a token may be anywhere in an address, and a malformed address may be split in the wrong
    places. So even the host is shown only where there is no doubt.
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
    """Fetch from one mirror, with new attempts after transient faults."""
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
    """Run ``work`` in a thread, and cancel it after ``seconds``.

    A name lookup has no time-out, and neither has a server that sends a byte now and then. If no thread can start, the
    request's own limits must suffice.
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
