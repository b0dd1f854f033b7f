"""Datasets by name or path: the bundled digits, MNIST, and files of your own."""

from __future__ import annotations

import os
import warnings
from importlib import resources
from typing import Any

from numpy.typing import NDArray

from xpnet.data import cache, download, mnist
from xpnet.data.dataset import Dataset
from xpnet.data.download import DataError
from xpnet.data.idx import decode_idx
from xpnet.data.mnist import MNIST_FILES, fetch_mnist, load_mnist, mnist_folder
from xpnet.data.readers import read_dataset

__all__ = [
    "MNIST_FILES",
    "NAMES",
    "Dataset",
    "fetch_mnist",
    "load_dataset",
    "load_digits",
    "load_mnist",
    "mnist_folder",
]

NAMES = ("digits", "mnist")


def load_dataset(dataset: Any = None, *, data_dir: str | os.PathLike[str] | None = None, **options: Any) -> Dataset:
    """Load a dataset by name, from files, or from objects that hold images and labels.

    Parameters
    ----------
    dataset : {"digits", "mnist"}, path-like, Dataset or other data, optional
        By default MNIST if it is in the cache or can be downloaded, else the digits, with a warning. A path names
        files; see `xpnet.data.read_dataset`. Anything else is passed to `Dataset.from_arrays`.
    data_dir : path-like, optional
        The folder of the MNIST files; see `mnist_folder`.
    **options
        Arguments of `read_dataset` or `Dataset.from_arrays`.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If there is no dataset of that name.
    TypeError
        If ``dataset`` is a single array or a number, or if options are given for a named dataset.
    DataError
        If files are damaged or cannot be obtained, or if the data are invalid.

    Examples
    --------
    >>> import xpnet
    >>> data = xpnet.load_dataset("digits")
    >>> data.train_images.shape, data.test_images.shape, data.pixel_max
    ((1000, 8, 8), (797, 8, 8), 16.0)
    """
    if isinstance(dataset, Dataset):
        return dataset
    if isinstance(dataset, os.PathLike) or (isinstance(dataset, str) and _is_path(dataset)):
        return read_dataset(dataset, **options)
    if dataset is not None and not isinstance(dataset, str):
        array = hasattr(dataset, "shape") and not hasattr(dataset, "columns")
        if array or isinstance(dataset, bool | int | float):
            raise TypeError(
                f"dataset={str(dataset)[:80]}: must be a name ({', '.join(NAMES)}) or a Dataset of your own, a path or "
                "pairs of images and labels"
            )
        return Dataset.from_arrays(dataset, **options)
    if options:
        raise TypeError(f"{next(iter(options))}: is for files and arrays, not for dataset={dataset!r}")
    if dataset is None:
        return _default_dataset(data_dir)
    if dataset == "digits":
        return load_digits()
    if dataset == "mnist":
        return load_mnist(data_dir)
    raise ValueError(
        f"dataset={dataset!r}: unknown; there are {', '.join(NAMES)}, or a Dataset of your own, or the path of one"
    )


def _is_path(text: str) -> bool:
    """Whether a string is a path: it looks like one, or there is such a file or folder."""
    if text in NAMES or not text:
        return False
    return any(mark in text for mark in ("/", "\\", "~")) or bool(os.path.splitext(text)[1]) or os.path.exists(text)


def load_digits() -> Dataset:
    """Load the bundled digits: 1,797 handwritten digits of 8 x 8 pixels.

    Returns
    -------
    Dataset
        Pixels from 0 to 16; the first 1,000 images are for training, the other 797 for testing.

    References
    ----------
    Alpaydin and Kaynak, *Optical recognition of handwritten digits*, UCI Machine Learning Repository, 1998.

    Examples
    --------
    >>> from xpnet.data import load_digits
    >>> data = load_digits()
    >>> data.train_labels[:5].tolist(), int(data.train_images.max())
    ([0, 1, 2, 3, 4], 16)
    """
    folder = resources.files("xpnet.data") / "digits"

    def read(name: str) -> NDArray[Any]:
        return decode_idx((folder / name).read_bytes(), name=name)

    return Dataset(
        "digits",
        read("train-images-idx3-ubyte.gz"),
        read("train-labels-idx1-ubyte.gz"),
        read("test-images-idx3-ubyte.gz"),
        read("test-labels-idx1-ubyte.gz"),
        pixel_max=16.0,
    )


def _default_dataset(data_dir: str | os.PathLike[str] | None) -> Dataset:
    folder = mnist_folder(data_dir)
    try:
        # Probe the mirrors first: the probe answers soon, while a download retries for longer.
        why = None if cache.complete(folder, mnist.MNIST_FILES) else _why_no_download()
        if why is None:
            return load_mnist(data_dir)
    except cache.OtherDataError:
        raise
    except DataError as error:
        why = str(error)
    warnings.warn(
        f"MNIST is not complete in {folder} and cannot be downloaded ({why}): using the bundled digits instead. "
        "dataset='mnist' insists on MNIST, dataset='digits' on the digits without this warning.",
        UserWarning,
        stacklevel=3,
    )
    return load_digits()


def _why_no_download() -> str | None:
    if download.offline():
        return "XPNET_OFFLINE is set"
    if not download.any_mirror_answers("t10k-labels-idx1-ubyte.gz"):
        return "no mirror answers"
    return None
