"""Fetching files over a network that may do anything.

Every wait has an end and every download a limit. A mirror that fails is followed by the next; only faults that pass
(time-outs, broken connections, "too many requests", errors inside the server) are tried again. A file takes its
place in the cache only after its SHA-256 has been checked, by a rename, so any number of processes may do this at
once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from xpnet.files import write_atomically

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

_PIECE = 1 << 16
_FOLDER_PREFIX = ".fetch-"
_STALE_AFTER = 3600.0


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
    waits for longer than that.
    """
    if offline():
        return False
    answered = threading.Event()
    threads = [threading.Thread(target=_probe, args=(base + file_name, answered), daemon=True) for base in mirrors()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PROBE_DEADLINE
    while time.monotonic() < deadline and any(thread.is_alive() for thread in threads):
        if answered.wait(0.05):
            return True
    return answered.is_set()


def fetch(path: Path, size: int, digest: str, bases: tuple[str, ...]) -> tuple[bytes, tuple[str, ...]]:
    """Fetch a file from the first mirror that has it, and put it in its place.

    Parameters
    ----------
    path : Path
        Where it goes. The folder must exist, and the mirrors know the file by the same name.
    size : int
        Its size in bytes: no more is read.
    digest : str
        Its SHA-256.
    bases : tuple of str
        The mirrors' addresses.

    Returns
    -------
    contents : bytes
    bases : tuple of str
        The mirrors in the order to ask them for the next file: those that did not answer come last.

    Raises
    ------
    DownloadError
        If no mirror gives it, with the cause for each.
    OSError
        If the folder cannot be written to.
    """
    _sweep(path.parent)
    causes = []
    silent = []
    for base in bases:
        try:
            contents = _fetch_from(base + path.name, path, size, digest)
        except (DownloadError, PassingFault) as error:
            causes.append(f"  {_without_password(base)}{path.name}: {error}")
            silent += [base] if isinstance(error, PassingFault) else []
        else:
            return contents, (*(base for base in bases if base not in silent), *silent)
    raise DownloadError(f"cannot fetch {path.name}:\n" + "\n".join(causes) + f"\nYou can {ways_out(path.parent)}.")


def ways_out(folder: Path) -> str:
    """Return what a user can do who cannot be given the files."""
    return (
        f"put the four files into {folder} by hand, name a folder that has them with data_dir or XPNET_DATA_DIR, "
        "name a mirror with XPNET_MNIST_URL, or train on the bundled digits with dataset='digits'"
    )


def _sweep(folder: Path) -> None:
    """Remove what downloads that were killed have left, long enough ago that none of them can still be running."""
    for left in folder.glob(_FOLDER_PREFIX + "*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_AFTER:
                shutil.rmtree(left)


def _fetch_from(url: str, path: Path, size: int, digest: str) -> bytes:
    """Fetch from one mirror, trying again what is worth it."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return _retrieve(url, path, size, digest)
        except PassingFault:
            time.sleep(BACK_OFF * 2**attempt)
    return _retrieve(url, path, size, digest)


def _retrieve(url: str, path: Path, size: int, digest: str) -> bytes:
    """Let pooch download into a folder of its own and check the hash; then put the file in its place."""
    # An abandoned download may still be creating its file when the folder goes.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_FOLDER_PREFIX, ignore_cleanup_errors=True) as folder:
        contents = _within(FILE_DEADLINE, lambda: _pooch_retrieve(url, folder, size, digest))
        # pooch leaves a file that only its owner can read, and the cache may be shared. So it is written anew.
        write_atomically(path, contents)
    return contents


def _pooch_retrieve(url: str, folder: str, size: int, digest: str) -> bytes:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    try:
        path = pooch.retrieve(url, f"sha256:{digest}", fname="file", path=folder, downloader=_bounded(size))
    except DownloadError:
        raise
    except ValueError:
        raise DownloadError("the file it gives has another SHA-256") from None
    return Path(path).read_bytes()


def _within(seconds: float, work: Callable[[], T]) -> T:
    """Do something in a thread that nobody waits for longer than that.

    No other limit holds them all: looking up a name, and a server that sends a byte now and then, know no time-out.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    raise errors[0] if errors else DownloadError(f"took more than {seconds:g} s")


def _bounded(size: int) -> Callable[[str, Any, Any], None]:
    """Return a downloader for pooch that reads no more than ``size`` bytes and a piece."""

    def download(url: str, output_file: Any, pooch: Any) -> None:
        read = 0
        with _open(url) as response, open(output_file, "wb") as file:
            for piece in _pieces(response):
                read += len(piece)
                if read > size:
                    raise DownloadError(f"sends more than the {size} bytes that the file has")
                file.write(piece)
        if read < size:
            raise DownloadError(f"sends {read} bytes, and the file has {size}")

    return download


def _open(url: str) -> Any:
    """Ask for a file, and sort what may go wrong into what passes and what does not."""
    import requests
    import urllib3

    try:
        # Asked for as it is: a .gz file that is unpacked on the way would not have its hash any more.
        response = requests.get(
            url,
            stream=True,
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
            headers={"Accept-Encoding": "identity", "User-Agent": "xpnet"},
        )
    except requests.Timeout as error:
        raise PassingFault("no answer in time") from error
    # Addresses that cannot be read leave requests as errors of urllib3 and as plain ones.
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise _fault("no connection", error) from error
    if response.status_code == 200:
        return response
    response.close()
    kind = PassingFault if response.status_code == 429 or response.status_code >= 500 else DownloadError
    raise kind(f"HTTP status {response.status_code}")


def _pieces(response: Any) -> Any:
    """Yield the bytes as they were sent, whatever encoding the server says they have."""
    import urllib3

    try:
        yield from response.raw.stream(_PIECE, decode_content=False)
    except urllib3.exceptions.TimeoutError as error:
        raise PassingFault("stopped sending in the middle") from error
    except urllib3.exceptions.ProtocolError as error:
        raise PassingFault(f"broke off in the middle: {_reason(error)}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _fault("broke off in the middle", error) from error


def _probe(url: str, answered: threading.Event) -> None:
    try:
        _open(url).close()
    except (DownloadError, PassingFault):
        return
    answered.set()


def _fault(what: str, error: BaseException) -> DownloadError | PassingFault:
    """Sort a fault by its cause: what was cut off or timed out may pass; a refusal or an unknown name will not."""
    passing = isinstance(_cause(error), TimeoutError | ConnectionResetError | ConnectionAbortedError | BrokenPipeError)
    return (PassingFault if passing else DownloadError)(f"{what}: {_reason(error)}")


def _cause(error: BaseException) -> BaseException:
    """Return the innermost cause: what wraps it only repeats the address."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _reason(error: BaseException) -> str:
    cause = _cause(error)
    return " ".join(f"{type(cause).__name__}: {cause}".split())[:200]


def _without_password(base: str) -> str:
    """Return an address as it may be shown: without the name and password of the user."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(base)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return base
