"""Atomic writes: after an interruption a file is complete or absent, never half written."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import time
from pathlib import Path

from xpnet.parts import require_path

TEMPORARY_SUFFIX = ".xpnet-tmp"
"""The end of a temporary file's name, by which a file left behind can be recognized and removed."""


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that its old contents stay until the new ones are safely on disk.

    The data is written to a temporary file in the same folder and flushed to disk. An atomic rename then gives the file
    its name, and the folder is flushed too.

    Parameters
    ----------
    path : path-like
        The file.
    data : bytes
        The new contents.

    Raises
    ------
    OSError
        If the file cannot be written, for lack of space or permission. The old file does not change.
    """
    path = require_path("path", path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        # `os.open` gives the file ordinary permissions, as the user's umask allows; `tempfile` would not.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise type(error)(error.errno, f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    flush_directory(path.parent)


def flush_directory(directory: Path) -> None:
    """Flush a folder's list of names to disk, if the system and the file system can."""
    if hasattr(os, "O_DIRECTORY"):
        # Some file systems cannot open or flush folders. The file itself is written all the same.
        with contextlib.suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def sweep_temporaries(directory: Path, *, older_than: float = 0.0) -> None:
    """Remove temporary files of interrupted writes from a folder, if they are at least ``older_than`` seconds old."""
    for stale in directory.glob(f".*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime >= older_than:
                stale.unlink()


def _fsync(descriptor: int) -> None:
    """Flush a file to disk, unless the file system cannot, as some network file systems."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def new_directory(path: str | os.PathLike[str]) -> Path:
    """Create a new folder: ``path``, or if that exists, ``path-2``, ``path-3`` and so on.

    Several processes that ask for the same name at the same moment each get their own folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [new_directory(Path(folder, "run")).name for _ in range(3)]
    ['run', 'run-2', 'run-3']
    """
    wanted = require_path("path", path)
    for number in itertools.count(1):
        directory = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue
        return directory
    raise AssertionError("there is always a number that is free")


def check_writable_directory(path: str | os.PathLike[str], argument: str = "output_dir") -> Path:
    """Create a folder if it does not exist, and check that files can be written there.

    Raises
    ------
    ValueError
        Naming the argument, the folder and the cause.
    """
    directory = require_path(argument, path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{argument}={str(path)!r}: not a writable folder: {error.strerror}") from None
    return directory
