"""Fetching MNIST over a network that may do anything.

Every wait has an end and every download a limit. A mirror that fails is followed by the next; only faults that pass
(time-outs, broken connections, "too many requests", errors inside the server) are tried again. A file takes its
place in the cache only after its SHA-256 has been checked, by a rename, so any number of processes may do this at
once.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


class DataError(ValueError):
    """Data is not what it should be; the message names it and says what would help."""


class DownloadError(DataError):
    """No mirror gave the data."""


class PassingFault(Exception):
    """A fault that may be gone when one tries again."""


def mirrors() -> tuple[str, ...]:
    """Return the addresses to try: the user's ``XPNET_MNIST_URL`` first, if it is set."""
    own = os.environ.get("XPNET_MNIST_URL")
    return ((own.rstrip("/") + "/",) if own else ()) + MIRRORS


def offline() -> bool:
    """Whether ``XPNET_OFFLINE`` forbids to open any connection."""
    return os.environ.get("XPNET_OFFLINE", "0") not in ("", "0")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def fetch(folder: Path, file_name: str, digest: str, limit: int) -> None:
    """Fetch a file from the first mirror that has it.

    Parameters
    ----------
    folder : Path
        Where it goes; must exist.
    file_name : str
        Its name, there and on the mirrors.
    digest : str
        Its SHA-256.
    limit : int
        Its size in bytes: no more is read.

    Raises
    ------
    DownloadError
        If no mirror gives it, with the cause for each.
    OSError
        If the folder cannot be written to.
    """
    causes = []
    for base in mirrors():
        try:
            _fetch_from(base + file_name, folder / file_name, digest, limit)
        except (DownloadError, PassingFault) as error:
            causes.append(f"  {base}{file_name}: {error}")
        else:
            return
    raise DownloadError(
        f"cannot fetch {file_name}:\n" + "\n".join(causes) + f"\nPut the four files into {folder} by hand, "
        "name a folder that has them with data_dir or XPNET_DATA_DIR, name a mirror with XPNET_MNIST_URL, "
        "or train on the bundled digits with dataset='digits'."
    )


def _fetch_from(url: str, target: Path, digest: str, limit: int) -> None:
    """Fetch from one mirror, trying again what is worth it."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACK_OFF * 2 ** (attempt - 1))
        try:
            _retrieve(url, target, digest, limit)
            return
        except PassingFault:
            if attempt == ATTEMPTS - 1:
                raise


def _retrieve(url: str, target: Path, digest: str, limit: int) -> None:
    """Let pooch download into a folder of its own, check the hash, and move the file to its place."""
    import pooch

    pooch.get_logger().setLevel("WARNING")

    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
        try:
            path = pooch.retrieve(url, f"sha256:{digest}", fname=target.name, path=folder, downloader=_bounded(limit))
        except ValueError as error:
            if "hash" not in str(error):
                raise
            raise DownloadError("the file it gives has another SHA-256") from None
        # pooch leaves the file readable to its owner alone; the cache may be shared.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(path, 0o666 & ~mask)
        os.replace(path, target)


def _bounded(limit: int) -> Callable[[str, Any, Any], None]:
    """Return a downloader for pooch that reads at most ``limit`` bytes in at most `FILE_DEADLINE` seconds."""

    def download(url: str, output_file: Any, pooch: Any) -> None:
        deadline = time.monotonic() + FILE_DEADLINE
        with _open(url) as response, open(output_file, "wb") as file:
            size = 0
            for piece in _pieces(response):
                size += len(piece)
                if size > limit:
                    raise DownloadError(f"sends more than the {limit} bytes that the file has")
                if time.monotonic() > deadline:
                    raise DownloadError(f"took more than {FILE_DEADLINE:.0f} s")
                file.write(piece)
        if size < limit:
            raise PassingFault(f"sent {size} of {limit} bytes")

    return download


def _open(url: str) -> Any:
    """Ask for a file, and sort what may go wrong into what passes and what does not."""
    import requests

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
    except requests.exceptions.SSLError as error:
        raise DownloadError(f"no secure connection: {_reason(error)}") from error
    except requests.ConnectionError as error:
        raise PassingFault(f"no connection: {_reason(error)}") from error
    except requests.RequestException as error:
        raise DownloadError(_reason(error)) from error
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
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise PassingFault(f"broke off in the middle: {_reason(error)}") from error


def _probe(url: str, answered: threading.Event) -> None:
    try:
        _open(url).close()
    except (DownloadError, PassingFault):
        return
    answered.set()


def _reason(error: BaseException) -> str:
    """Return the innermost cause, on one line: what wraps it only repeats the address."""
    while (inner := getattr(error, "reason", None) or (error.args[0] if error.args else None)) is not None:
        if not isinstance(inner, BaseException):
            break
        error = inner
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:200]
