"""Files kept in a folder, and trusted only as far as their SHA-256 goes."""

from __future__ import annotations

import hashlib
import os
import secrets
import warnings
from collections.abc import Mapping
from pathlib import Path

from xpnet.data.download import DataError, DownloadError, fetch, mirrors, offline, ways_out


def complete(folder: Path, files: Mapping[str, tuple[int, str]]) -> bool:
    """Whether all the files are in the folder, and good."""
    return all(read_good(folder / name, *expected) is not None for name, expected in files.items())


def obtain(folder: Path, files: Mapping[str, tuple[int, str]]) -> dict[str, bytes]:
    """Return what the files hold: from the folder where they are good, else from a mirror, and then kept there.

    A file that is there and not good is set aside, under a name that ends in ``.bad``, and fetched once.

    Parameters
    ----------
    folder : Path
        The cache. Nothing is written if all files are good.
    files : mapping
        From each file's name to its size in bytes and its SHA-256 in hexadecimal.

    Returns
    -------
    dict
        From each file's name to its contents, whose SHA-256 has been checked.

    Raises
    ------
    DownloadError
        If no mirror gives a file, with the cause for each.
    DataError
        If the folder cannot be read or written to.
    """
    contents = {}
    bases = mirrors()
    for name, (size, digest) in files.items():
        path = folder / name
        good = read_good(path, size, digest)
        if good is None:
            if offline():
                state = "damaged" if path.exists() else "not there"
                raise DownloadError(f"{path} is {state}, and XPNET_OFFLINE is set. Unset it, or {ways_out(folder)}.")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _set_aside(path, size, digest)
                good, bases = fetch(path, size, digest, bases)
            except OSError as error:
                raise DataError(
                    f"cannot keep {name} in {folder}: {error.strerror or error}. "
                    "Name a folder that can be written to with data_dir or XPNET_DATA_DIR."
                ) from error
        contents[name] = good
    return contents


def read_good(path: Path, size: int, digest: str) -> bytes | None:
    """Return what a file holds if it is there and has the right size and SHA-256, else None.

    Raises
    ------
    DataError
        If it is there and cannot be read.
    """
    try:
        if not path.is_file() or path.stat().st_size != size:
            return None
        contents = path.read_bytes()
    except FileNotFoundError:  # another process has just set it aside
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return contents if hashlib.sha256(contents).hexdigest() == digest else None


def _set_aside(path: Path, size: int, digest: str) -> None:
    """Rename a file that is not good, unless another process has already replaced it by a good one."""
    bad = path.with_name(path.name + ".bad")
    if bad.exists():
        bad = path.with_name(f"{path.name}.{secrets.token_hex(4)}.bad")
    try:
        os.replace(path, bad)
    except FileNotFoundError:
        return
    if read_good(bad, size, digest) is not None:  # replaced since it was last looked at
        os.replace(bad, path)
        return
    warnings.warn(f"{path} was damaged: kept as {bad}, fetched anew", stacklevel=4)
