"""Files kept in a folder, each verified by the SHA-256 of its contents.

A file may be there as published, unpacked or compressed anew, under the names that others give it, or in the folders
that others make: only the contents count. A user's file is renamed or replaced only if it is damaged, and only once a
good one is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from xpnet.data.download import DataError, DownloadError, fetch, mirrors, offline, ways_out
from xpnet.data.idx import IdxError, idx_shape, unpacked
from xpnet.files import TEMPORARY_SUFFIX, sweep_temporaries, write_atomically

SUBFOLDERS = ("", "raw", "MNIST/raw")
"""Subfolders of the user's folder that may hold the files; the last two are torchvision's."""

_STALE_AFTER = 3600.0


class Published(NamedTuple):
    """Size and SHA-256 of a published file, compressed with gzip, and of its contents."""

    size: int
    sha256: str
    contents_size: int
    contents_sha256: str


class OtherDataError(DataError):
    """A file is readable but holds other data."""


def complete(folder: Path, files: Mapping[str, Published]) -> bool:
    """Whether all the files are in the folder and good.

    Raises
    ------
    DataError
        See `find_good`.
    """
    return all(find_good(folder, name, published) is not None for name, published in files.items())


def obtain(folder: Path, files: Mapping[str, Published]) -> dict[str, bytes]:
    """Return the contents of files, from the folder if they are good, else from a mirror; then keep them there.

    A damaged file is replaced: first the new one is fetched, then the old one gets a name that ends in ``.bad``.

    Parameters
    ----------
    folder : Path
        The cache. Nothing is written if all files are good.
    files : mapping
        The names of the files, and their sizes and hashes as published.

    Returns
    -------
    dict
        The verified contents of each file by name, compressed or not.

    Raises
    ------
    DownloadError
        If no mirror provides a file, with the cause for each mirror.
    DataError
        If a file holds other data, or the folder cannot be read or written to.
    """
    found = {name: find_good(folder, name, published) for name, published in files.items()}
    bases = mirrors()
    contents = {}
    for name, published in files.items():
        good = found[name]
        if good is None:
            path = folder / name
            if offline():
                state = "damaged" if os.path.lexists(path) else "not there"
                raise DownloadError(f"{path} is {state}, and XPNET_OFFLINE is set. Unset it, or {ways_out(folder)}.")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                sweep_temporaries(folder, older_than=_STALE_AFTER)
                good, bases = fetch(name, published.size, published.sha256, bases, folder)
                _place(path, good, published)
            except OSError as error:
                raise DataError(
                    f"cannot keep {name} in {folder}: {error.strerror or error}. "
                    "Name a folder that can be written to with data_dir or XPNET_DATA_DIR."
                ) from error
        contents[name] = good
    return contents


def find_good(folder: Path, name: str, published: Published) -> bytes | None:
    """Return the contents of a file from any place in the folder where it is good, else None.

    Raises
    ------
    OtherDataError
        If there is no good file, but an undamaged file under one of its names holds other data.
    DataError
        If a file cannot be read.
    """
    there = [path for sub in SUBFOLDERS for path in _spellings(folder / sub, name) if path.is_file()]
    for path in there:
        if (good := read_good(path, published)) is not None:
            return good
    for path in there:
        with contextlib.suppress(IdxError, OSError):
            shape = idx_shape(path)
            if (good := read_good(path, published)) is not None:  # another process has just put it there
                return good
            raise OtherDataError(
                f"{path} is not MNIST's: it holds other data in good order, of shape {shape}, and is left as it is. "
                f"To train on the files of this folder, name it as the dataset: dataset={str(folder)!r}, or --dataset. "
                "For MNIST name another folder with data_dir or XPNET_DATA_DIR."
            )
    return None


def read_good(path: Path, published: Published) -> bytes | None:
    """Return a file's contents, compressed or not, if they are as published, else None.

    Raises
    ------
    DataError
        If the file exists and cannot be read.
    """
    try:
        if not path.is_file():
            return None
        if path.stat().st_size == published.size:
            contents = path.read_bytes()
            if hashlib.sha256(contents).hexdigest() == published.sha256:
                return contents
        contents = unpacked(path, published.contents_size + 1)
    except (FileNotFoundError, IdxError):  # another process has just set it aside, or it is damaged
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return contents if hashlib.sha256(contents).hexdigest() == published.contents_sha256 else None


def _spellings(folder: Path, name: str) -> tuple[Path, ...]:
    """Return the possible names of a file: as published, unpacked, and with the dot of Kaggle's names."""
    plain = name.removesuffix(".gz")
    kaggle = plain.replace("-idx", ".idx")
    return tuple(folder / spelling for spelling in (name, plain, kaggle, kaggle + ".gz"))


def _place(path: Path, good: bytes, published: Published) -> None:
    """Put a file in its place; a damaged file that is there gets another name."""
    if not os.path.lexists(path):
        write_atomically(path, good)
        return
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    write_atomically(new, good)
    try:
        bad = _set_aside(path, published)
        os.replace(new, path)
    finally:
        with contextlib.suppress(OSError):
            new.unlink()
    if bad is not None:
        warnings.warn(f"{path} was damaged: kept as {bad}, fetched anew", stacklevel=4)


def _set_aside(path: Path, published: Published) -> Path | None:
    """Rename a file that is not good, unless another process has already replaced it by a good one."""
    bad = path.with_name(path.name + ".bad")
    if os.path.lexists(bad):
        bad = path.with_name(f"{path.name}.{secrets.token_hex(4)}.bad")
    try:
        os.replace(path, bad)
    except FileNotFoundError:
        return None
    if read_good(bad, published) is not None:  # replaced since it was last looked at
        os.replace(bad, path)
        return None
    return bad
