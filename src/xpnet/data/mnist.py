"""MNIST: its files, where they are, and how to download them."""

from __future__ import annotations

import os
from pathlib import Path

from xpnet.data import cache
from xpnet.data.cache import Published
from xpnet.data.dataset import Dataset
from xpnet.data.idx import decode_idx
from xpnet.parts import require_path

MNIST_FILES = {
    "train-images-idx3-ubyte.gz": Published(
        9912422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        47040016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte.gz": Published(
        28881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        60008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte.gz": Published(
        1648877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        7840016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte.gz": Published(
        4542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        10008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
"""Size in bytes and SHA-256 of each MNIST file, as first published, and of its contents."""


def load_mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load MNIST: 60,000 and 10,000 handwritten digits of 28 x 28 pixels. Missing files are downloaded.

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
        If a file cannot be obtained, or holds other data.

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
    """Check that the four MNIST files are there and good, and download those that are not.

    The files may also be unpacked, compressed anew, named as on Kaggle, or in torchvision's ``MNIST/raw/``: only the
    SHA-256 of the contents counts. A damaged file is replaced once the new one is there, and kept under a name that
    ends in ``.bad``. An undamaged file with other contents is an error, and does not change.

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
        If a file cannot be obtained, or holds other data.

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
    """Return the folder of the MNIST files: ``data_dir``, else ``XPNET_DATA_DIR``, else the user's cache.

    Examples
    --------
    >>> mnist_folder("data").as_posix()
    'data'
    """
    chosen = data_dir if data_dir is not None else os.environ.get("XPNET_DATA_DIR") or None
    if chosen is not None:
        return require_path("data_dir", chosen)
    try:
        from platformdirs import user_cache_path
    except ModuleNotFoundError:  # such as in a browser's Python, whose home folder has no other user
        return Path("~/.cache/xpnet/mnist").expanduser()
    return user_cache_path("xpnet") / "mnist"
