"""Datasets: the bundled digits, MNIST, and your own."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data import cache, download
from xpnet.data.checks import check_classes, check_images, check_labels, check_pixel_max
from xpnet.data.download import DataError
from xpnet.data.idx import decode_idx
from xpnet.parts import require_integer, require_path

MNIST_FILES = {
    "train-images-idx3-ubyte.gz": (
        9912422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "train-labels-idx1-ubyte.gz": (
        28881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "t10k-images-idx3-ubyte.gz": (
        1648877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        4542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}
"""Size in bytes and SHA-256 of each file of MNIST, as first published."""

NAMES = ("digits", "mnist")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels, in a training and a test set, on the host.

    Parameters
    ----------
    name : str
        What plots and records call it.
    train_images : array, shape (n, height, width), (n, height, width, channels) or (n, features)
        Integers from 0 to ``pixel_max``; or floats, which are taken as they are. On the host, in any memory layout
        and byte order: they are kept C-ordered and native, integers as uint8 or, where ``pixel_max`` is above 255,
        as int32. What needs no change is not copied.
    train_labels : array of integers, shape (n,)
        From 0 to ``classes - 1``; kept as int64.
    test_images, test_labels : array
        Likewise; only the number of samples may differ.
    classes : int
        The number of classes, at least 2.
    pixel_max : float
        The brightest pixel there may be, below 2**31.

    Raises
    ------
    DataError
        If they do not fit together, naming what does not.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Dataset
    >>> images = np.zeros((6, 3, 3), dtype=np.uint8)
    >>> data = Dataset("dots", images, [0, 1, 0, 1, 0, 1], images[:2], [0, 1], classes=2)
    >>> data.sample_shape, data.train_labels.dtype.name
    ((3, 3), 'int64')
    """

    name: str
    train_images: NDArray[Any] = field(repr=False)
    train_labels: NDArray[Any] = field(repr=False)
    test_images: NDArray[Any] = field(repr=False)
    test_labels: NDArray[Any] = field(repr=False)
    classes: int = 10
    pixel_max: float = 255.0

    def __post_init__(self) -> None:
        """Check that all fits together."""
        if not isinstance(self.name, str) or not self.name:
            raise DataError(f"name={self.name!r}: must be a word to call the dataset by")
        object.__setattr__(self, "classes", check_classes(self.classes))
        object.__setattr__(self, "pixel_max", check_pixel_max(self.pixel_max))
        for part in ("train", "test"):
            images = check_images(f"{part}_images", getattr(self, f"{part}_images"), self.pixel_max)
            labels = check_labels(f"{part}_labels", getattr(self, f"{part}_labels"), self.classes)
            if len(images) != len(labels):
                raise DataError(f"{part}_labels: {len(labels)} labels for {len(images)} images")
            object.__setattr__(self, f"{part}_images", images)
            object.__setattr__(self, f"{part}_labels", labels)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(
                f"test_images: samples of shape {self.test_images.shape[1:]}, "
                f"but the training set's are {self.train_images.shape[1:]}"
            )

    def __repr__(self) -> str:
        """Say what it is and how large."""
        shape = "×".join(map(str, self.sample_shape))
        sizes = f"{len(self.train_images):,} training and {len(self.test_images):,} test images of {shape}"
        return f"Dataset({self.name!r}: {sizes}, {self.classes} classes)"

    def _repr_html_(self) -> str:
        """Show sizes, classes and a row of samples in a notebook."""
        from xpnet.plots import display

        return display.dataset_html(self)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return self.train_images.shape[1:]

    def first(self, train_samples: int | None) -> Dataset:
        """Return the dataset with only the first so many training samples; ``None`` keeps all.

        Raises
        ------
        TypeError, ValueError
            If it is no integer, or there are not as many.
        """
        if train_samples is None:
            return self
        require_integer("train_samples", train_samples)
        if not 1 <= train_samples <= len(self.train_images):
            raise ValueError(f"train_samples={train_samples}: {self.name} has from 1 to {len(self.train_images)}")
        return replace(
            self,
            train_images=self.train_images[:train_samples],
            train_labels=self.train_labels[:train_samples],
        )

    def fingerprint(self) -> str:
        """Return a SHA-256 over all images and labels, by which a resumed run knows its data."""
        digest = hashlib.sha256(f"{self.classes} {self.pixel_max}".encode())
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_dataset(dataset: str | Dataset | None = None, *, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load a dataset by name.

    Parameters
    ----------
    dataset : {"digits", "mnist"} or Dataset, optional
        By default MNIST if it is in the cache or can be downloaded, else the digits, with a warning.
    data_dir : path-like, optional
        Where the files of MNIST are or shall go: see `mnist_folder`.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If there is no dataset of that name.
    TypeError
        If it is neither a name nor a Dataset.
    DataError
        If its files are damaged or cannot be had.

    Examples
    --------
    >>> import xpnet
    >>> data = xpnet.load_dataset("digits")
    >>> data.train_images.shape, data.test_images.shape, data.pixel_max
    ((1000, 8, 8), (797, 8, 8), 16.0)
    """
    if isinstance(dataset, Dataset):
        return dataset
    if dataset is None:
        return _default_dataset(data_dir)
    if not isinstance(dataset, str):
        raise TypeError(f"dataset={dataset!r}: must be a name ({', '.join(NAMES)}) or a Dataset of your own")
    if dataset == "digits":
        return load_digits()
    if dataset == "mnist":
        return load_mnist(data_dir)
    raise ValueError(f"dataset={dataset!r}: unknown; there are {', '.join(NAMES)}, or a Dataset of your own")


def load_digits() -> Dataset:
    """Load the bundled digits: 1,797 handwritten digits of 8 x 8 pixels.

    Returns
    -------
    Dataset
        Pixels from 0 to 16; the first 1,000 to train, the other 797 to test.

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


def load_mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load MNIST: 60,000 and 10,000 handwritten digits of 28 x 28 pixels. What is missing is downloaded.

    Parameters
    ----------
    data_dir : path-like, optional
        See `mnist_folder`.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If a file cannot be had, or fails its SHA-256 even after it was fetched anew.

    References
    ----------
    LeCun, Cortes and Burges, *The MNIST database of handwritten digits*, 1998.

    Examples
    --------
    >>> from xpnet.data import load_mnist
    >>> data = load_mnist()  # doctest: +SKIP
    >>> data.train_images.shape, data.test_images.shape  # doctest: +SKIP
    ((60000, 28, 28), (10000, 28, 28))
    """
    folder = mnist_folder(data_dir)
    train_images, train_labels, test_images, test_labels = (
        decode_idx(contents, name=str(folder / name)) for name, contents in cache.obtain(folder, MNIST_FILES).items()
    )
    return Dataset("mnist", train_images, train_labels, test_images, test_labels)


def fetch_mnist(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """See that the four files of MNIST are there and good, and download those that are not.

    A file whose hash is wrong is set aside under a name that ends in ``.bad`` and fetched once more.

    Parameters
    ----------
    data_dir : path-like, optional
        See `mnist_folder`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DataError
        If a file cannot be had.

    Examples
    --------
    >>> from xpnet.data import fetch_mnist
    >>> sorted(path.name for path in fetch_mnist("mnist").iterdir())[0]  # doctest: +SKIP
    't10k-images-idx3-ubyte.gz'
    """
    folder = mnist_folder(data_dir)
    cache.obtain(folder, MNIST_FILES)
    return folder


def mnist_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return where the files of MNIST are or go: ``data_dir``, else ``XPNET_DATA_DIR``, else the user's cache.

    Examples
    --------
    >>> mnist_folder("data").as_posix()
    'data'
    """
    chosen = data_dir if data_dir is not None else os.environ.get("XPNET_DATA_DIR") or None
    if chosen is not None:
        return require_path("data_dir", chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("xpnet") / "mnist"


def _default_dataset(data_dir: str | os.PathLike[str] | None) -> Dataset:
    folder = mnist_folder(data_dir)
    try:
        # Asked first, since it answers soon: a download that insists waits for longer.
        why = None if cache.complete(folder, MNIST_FILES) else _why_no_download()
        if why is None:
            return load_mnist(data_dir)
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
