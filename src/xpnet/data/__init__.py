"""Data: the IDX format, datasets and preprocessing, all on the host."""

from xpnet.data.datasets import (
    Dataset,
    fetch_mnist,
    load_dataset,
    load_digits,
    load_mnist,
    mnist_folder,
)
from xpnet.data.download import DataError, DownloadError
from xpnet.data.facts import DataWarning, Facts
from xpnet.data.idx import IdxError, decode_idx, encode_idx, read_idx, write_idx
from xpnet.data.photos import load_image, prepare_digit
from xpnet.data.preprocessing import one_hot, scale, train_validation_split
from xpnet.data.readers import read_dataset

__all__ = [
    "DataError",
    "DataWarning",
    "Dataset",
    "DownloadError",
    "Facts",
    "IdxError",
    "decode_idx",
    "encode_idx",
    "fetch_mnist",
    "load_dataset",
    "load_digits",
    "load_image",
    "load_mnist",
    "mnist_folder",
    "one_hot",
    "prepare_digit",
    "read_dataset",
    "read_idx",
    "scale",
    "train_validation_split",
    "write_idx",
]
