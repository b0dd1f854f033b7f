"""Writing files so that they are whole or absent, whatever happens in between."""

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
"""Ends the name of a file that is being written: one that was left behind can be told, and swept away."""


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that its old contents stay until the new are safely on the disk.

    The data goes to a temporary file in the same folder, is flushed to the disk, and takes its name by a rename,
    which the file system does at once or not at all; then the folder is flushed too.

    Parameters
    ----------
    path : path-like
        The file.
    data : bytes
        What it shall hold.

    Raises
    ------
    OSError
        If it cannot be written, for want of room or permission. The old file is as it was.
    """
    path = require_path("path", path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        # Opened by hand for the ordinary permissions that the user's umask leaves.
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
    """Flush a folder's list of names to the disk, where the system and the file system can."""
    if hasattr(os, "O_DIRECTORY"):
        # Some file systems open or flush no folders: the file is written and has its name all the same.
        with contextlib.suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def sweep_temporaries(directory: Path, *, older_than: float = 0.0) -> None:
    """Remove what interrupted writes have left in a folder, so many seconds ago at least."""
    for stale in directory.glob(f".*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime >= older_than:
                stale.unlink()


def _fsync(descriptor: int) -> None:
    """Flush a file to the disk, on file systems that can: some that are reached over a network cannot."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def new_directory(path: str | os.PathLike[str]) -> Path:
    """Make a folder that was not there before: ``path``, or else ``path-2``, ``path-3`` and so on.

    Several processes that ask for the same name at the same moment each get a folder of their own.

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
    """Make a folder if need be and see that files can be written there.

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
        raise ValueError(f"{argument}={str(path)!r}: not a folder one can write to: {error.strerror}") from None
    return directory
