"""Reading datasets from files in common formats: IDX, .npy, .npz, CSV, and folders of pictures.

`read_dataset` recognizes the format. It unpickles nothing, and writes nothing.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Dataset
from xpnet.data.download import DataError
from xpnet.data.frames import LABEL_COLUMNS, suspect_counter
from xpnet.data.idx import read_idx
from xpnet.data.photos import is_picture, load_image
from xpnet.parts import require_path

PARTS = {"train": re.compile(r"train", re.I), "test": re.compile(r"t10k|test", re.I)}
KINDS = {
    "images": re.compile(r"image|imgs|(^|[_-])x([_.-]|$)", re.I),
    "labels": re.compile(r"label|(^|[_-])y([_.-]|$)", re.I),
}
"""Patterns in file names that show what the files hold."""


def read_dataset(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    transposed: bool | None = None,
    image_size: tuple[int, int] = (28, 28),
    test_fraction: float = 0.2,
    pixel_max: float | None = None,
) -> Dataset:
    """Read a dataset from files.

    Parameters
    ----------
    path : path-like
        One of

        - a folder with four files, of training and test images and labels, like the relatives of MNIST (Fashion-MNIST,
          KMNIST, QMNIST, EMNIST): IDX, compressed with gzip or not, ``.npy`` or ``.npz``; also in torchvision's
          folder ``raw``;
        - an ``.npz`` file in Keras's layout (``x_train``, ``y_train``, ``x_test``, ``y_test``) or with ``images`` and
          ``labels``;
        - a CSV file, or a folder with two whose names contain ``train`` and ``test``, with a label and the pixels in
          each row, with or without a header, like Kaggle's;
        - a folder of pictures with a folder per class, either directly or inside ``train`` and ``test``.
    name : str, optional
        The name of the dataset in plots and records; by default that of the file or folder.
    transposed : bool, optional
        Whether the images are transposed, as EMNIST stores them; by default they are if all file names begin with
        "emnist".
    image_size : pair of int
        Height and width to scale pictures to.
    test_fraction : float
        The share to test with if there is no test set.
    pixel_max : float, optional
        The largest possible pixel; for the default see `Dataset.from_arrays`.

    Returns
    -------
    Dataset
        Labels that are strings, or integers that do not start from 0, become `Dataset.class_names`.

    Raises
    ------
    DataError
        If the path holds no dataset in one of these formats, or a damaged one.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from xpnet.data import read_dataset
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     images = np.arange(40, dtype=np.uint8).reshape(10, 2, 2)
    ...     np.savez(f"{folder}/dots.npz", images=images, labels=["a", "b"] * 5)
    ...     data = read_dataset(f"{folder}/dots.npz")
    >>> data.name, data.class_names, data.train_images.shape
    ('dots', ('a', 'b'), (8, 2, 2))
    """
    where = require_path("dataset", path)
    called = name or where.name.split(".")[0] or "mine"
    how: dict[str, Any] = {"name": called, "pixel_max": pixel_max, "test_fraction": test_fraction}
    try:
        if where.is_dir():
            return _read_folder(where, how, transposed, image_size)
        if not where.exists():
            raise DataError(f"dataset={str(where)!r}: there is no such file or folder")
        if where.suffix.lower() == ".npz":
            return Dataset.from_arrays(_read_npz(where), **how)
        if re.search(r"\.csv(\.gz)?$", where.name, re.I):
            return Dataset.from_arrays(*_read_csv(where), **how)
    except OSError as error:
        raise DataError(f"{where}: cannot be read: {error.strerror or error}") from None
    raise DataError(f"dataset={str(where)!r}: not a folder, an .npz or a .csv file")


def read_array(path: Path) -> NDArray[Any]:
    """Read the only array in an .npy, .npz or IDX file.

    Raises
    ------
    DataError, IdxError
        If the file is damaged, or holds anything else.
    """
    if path.suffix.lower() == ".npy":
        return read_npy(path)
    if path.suffix.lower() == ".npz":
        held = _read_npz(path)
        if len(held) != 1:
            raise DataError(f"{path}: holds {len(held)} arrays ({', '.join(held)[:100]}); it must hold one")
        return next(iter(held.values()))
    return read_idx(path)


def read_npy(path: Path) -> NDArray[Any]:
    """Read an .npy file without trusting its header.

    Raises
    ------
    DataError
        If the file is damaged, holds Python objects, or promises more bytes than it has.
    """
    with open(path, "rb") as file:
        return _npy(file, os.fstat(file.fileno()).st_size, str(path))


def _npy(file: Any, size: int, name: str) -> NDArray[Any]:
    """Read an array from a stream of ``size`` bytes: first the header, then at most the remaining bytes."""
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise ValueError(f"version {version} of the format")
        shape, fortran, dtype = read_header[version](file)
        if dtype.hasobject or dtype.itemsize == 0 or dtype.names is not None or dtype.kind not in "biufSU":
            raise ValueError(f"dtype {dtype}; must be numbers or strings")
        promised = math.prod(shape) * dtype.itemsize
        if any(length < 0 for length in shape) or promised > size:
            raise ValueError(f"the header promises {promised:,} bytes for shape {shape}, and the file has {size:,}")
        data = file.read(promised)
        if len(data) < promised:
            raise ValueError(f"the header promises {promised:,} bytes, and {len(data):,} are there")
        array = np.frombuffer(data, dtype)
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    except OSError:
        raise
    except Exception as error:  # the header is a Python literal, so its errors raise many kinds of exceptions
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{name}: not a good .npy file: {words}") from None


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz file, each at most as large as the archive says."""
    try:
        with zipfile.ZipFile(path) as archive:
            held = {}
            for entry in archive.infolist():
                if entry.filename.endswith(".npy"):
                    with archive.open(entry) as file:
                        held[entry.filename.removesuffix(".npy")] = _npy(
                            file, entry.file_size, f"{path}: {entry.filename}"
                        )
            return held
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a good .npz file: {error}") from None


def _read_folder(folder: Path, how: dict[str, Any], transposed: bool | None, size: tuple[int, int]) -> Dataset:
    for place in (folder, folder / "raw", folder / "MNIST" / "raw", *sorted(folder.glob("*/raw"))):
        if place.is_dir() and (files := _four_files(place)):
            return _read_four(files, how, transposed)
    tables = sorted(path for path in folder.iterdir() if re.search(r"\.csv(\.gz)?$", path.name, re.I))
    if tables:
        return _read_tables(folder, tables, how)
    return _read_pictures(folder, how, size)


def _four_files(folder: Path) -> dict[tuple[str, str], Path]:
    """Return the four files of training and test images and labels, or an empty dictionary if one is missing."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or not re.search(r"ubyte|idx|\.np[yz]$", path.name):
            continue
        for part, in_part in PARTS.items():
            for kind, of_kind in KINDS.items():
                if not (in_part.search(path.name) and of_kind.search(path.name)):
                    continue
                other = found.setdefault((part, kind), path)
                if _stem(other) != _stem(path):
                    raise DataError(
                        f"{folder}: both {other.name} and {path.name} have {kind} to {part}: keep one there"
                    )
    return found if len(found) == 4 else {}


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").replace(".idx", "-idx")


def _read_four(files: dict[tuple[str, str], Path], how: dict[str, Any], transposed: bool | None) -> Dataset:
    arrays = {key: read_array(path) for key, path in files.items()}
    if transposed is None:
        transposed = all(path.name.lower().startswith("emnist") for path in files.values())
    parts = []
    for part in PARTS:
        images, labels = arrays[part, "images"], arrays[part, "labels"]
        if labels.ndim == 2 and labels.shape[1] == 8:  # QMNIST has the class, and seven numbers about the writer
            labels = labels[:, 0]
        parts += [np.swapaxes(images, 1, 2) if transposed and images.ndim >= 3 else images, labels]
    return Dataset.from_arrays(*parts, **how)


def _read_tables(folder: Path, tables: list[Path], how: dict[str, Any]) -> Dataset:
    """Read one CSV file, or a training and a test file; a test file without labels is ignored."""
    named = {part: [path for path in tables if pattern.search(path.name)] for part, pattern in PARTS.items()}
    if len(tables) == 1:
        return Dataset.from_arrays(*_read_csv(tables[0]), **how)
    if len(named["train"]) != 1 or len(named["test"]) > 1:
        raise DataError(f"{folder}: {len(tables)} CSV files: name one, or call two of them train.csv and test.csv")
    train = _read_csv(named["train"][0])
    if not named["test"]:
        return Dataset.from_arrays(*train, **how)
    test = _read_csv(named["test"][0], columns=math.prod(train[0].shape[1:]))
    return Dataset.from_arrays(*train, *(test or ()), **how)


def _read_csv(path: Path, columns: int | None = None) -> tuple[Any, ...]:
    """Read images and labels; return ``()`` for ``columns`` pixels without labels, such as Kaggle's test files."""
    contents = path.read_bytes()
    try:
        lines = (
            (gzip.decompress(contents) if contents[:2] == b"\x1f\x8b" else contents).decode("utf-8-sig").splitlines()
        )
    except (EOFError, zlib.error, ValueError, OSError) as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from None
    rows = [line for line in lines if line.strip()]
    if not rows:
        raise DataError(f"{path}: empty")
    first = next(csv.reader([rows[0]]))
    names = [cell.strip().lower() for cell in first]
    named = bool({*names} & {*LABEL_COLUMNS[:-1]})  # "y" may be a letter's label; pixels may be called 0, 1, 2
    header = named or not any(_is_number(cell) for cell in first[1:]) or not first[1:]
    if columns is not None and len(first) == columns:
        return ()
    at = next((names.index(name) for name in LABEL_COLUMNS if name in names), 0) if header else 0
    if header:
        suspect_counter(str(path), [*names[:at], *names[at + 1 :]], "Delete it")
    body = rows[1:] if header else rows
    pixels = [i for i in range(len(first)) if i != at]
    try:
        cells = [next(csv.reader([line]))[at].strip() for line in body]
        images = np.loadtxt(
            io.StringIO("\n".join(body)), delimiter=",", usecols=pixels, dtype=np.float32, ndmin=2, quotechar='"'
        )
    except (ValueError, IndexError, StopIteration, csv.Error) as error:
        raise DataError(f"{path}: not a label and pixels in each row: {' '.join(str(error).split())[:200]}") from None
    side = math.isqrt(len(pixels))
    if side * side == len(pixels) and side >= 8:
        images = images.reshape(len(images), side, side)
    labels = np.asarray(cells)
    return images, labels.astype(np.float64) if all(_is_number(cell) for cell in cells) else labels


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_pictures(folder: Path, how: dict[str, Any], size: tuple[int, int]) -> Dataset:
    """Read pictures from one folder per class."""
    parts = {part: folder / part for part in PARTS if (folder / part).is_dir()}
    if set(parts) == set(PARTS):
        names = _classes(parts["train"])
        read = [array for part in parts.values() for array in _read_classes(part, names, size)]
        return Dataset.from_arrays(*read, class_names=names, **how)
    names = _classes(folder)
    images, labels = _read_classes(folder, names, size)
    return Dataset.from_arrays(images, labels, class_names=names, **how)


def _classes(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and any(map(is_picture, path.iterdir())))
    if len(names) < 2:
        raise DataError(
            f"{folder}: no known dataset: neither four IDX or .npy files of images and labels, nor a CSV; "
            f"and {len(names)} folders of pictures, of which there must be one for each class"
        )
    return names


def _read_classes(folder: Path, names: list[str], size: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    from xpnet.data.ink import average_areas

    images, labels = [], []
    for label, name in enumerate(names):
        if not (folder / name).is_dir():
            continue
        for path in sorted(path for path in (folder / name).iterdir() if is_picture(path)):
            images.append(np.rint(255.0 * average_areas(load_image(path), *size)).astype(np.uint8))
            labels.append(label)
    if not images:
        raise DataError(f"{folder}: no pictures in {', '.join(names)[:200]}")
    return np.stack(images), np.asarray(labels)
