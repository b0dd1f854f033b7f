"""Reading and writing IDX, the file format in which MNIST was published.

A file holds one array: two zero bytes, a byte for the type, a byte for the number of dimensions, the dimensions as
32-bit integers, and then the numbers, all big-endian. It may be compressed with gzip.

The reader does not trust the header: it may promise 2^32 images, but memory is allocated only for bytes that exist, and
decompression stops one byte beyond the promised size.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.files import write_atomically
from xpnet.parts import require_path

TYPE_CODES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20


class IdxError(ValueError):
    """A file is not IDX, or is damaged; the message names the file and the problem.

    Examples
    --------
    >>> from xpnet.data import IdxError, decode_idx
    >>> try:
    ...     decode_idx(b"PNG?", name="labels.idx")
    ... except IdxError as error:
    ...     print(error)
    labels.idx: not IDX: starts with 50 4e, not with two zero bytes
    """


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an IDX file.

    Parameters
    ----------
    path : path-like
        The file, plain or compressed with gzip, whatever its name.

    Returns
    -------
    array
        A C-ordered array in the machine's byte order, with its own memory.

    Raises
    ------
    IdxError
        If the file is damaged or not IDX.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(f"{folder}/labels.idx", np.asarray([3, 1, 4], dtype=np.uint8))
    ...     read_idx(f"{folder}/labels.idx").tolist()
    [3, 1, 4]
    """
    with open(require_path("path", path), "rb") as file:
        return _decode(file, str(path))


def decode_idx(data: bytes, *, name: str = "<bytes>") -> NDArray[Any]:
    """Decode the contents of an IDX file.

    Parameters
    ----------
    data : bytes
        The contents, plain or compressed with gzip.
    name : str
        The name of the file in errors.

    Returns
    -------
    array

    Raises
    ------
    IdxError
        See `read_idx`.

    Examples
    --------
    >>> decode_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])).tolist()
    [7, 8, 9]
    """
    return _decode(io.BufferedReader(io.BytesIO(data)), name)


def encode_idx(array: NDArray[Any]) -> bytes:
    """Encode an array as the contents of an IDX file, without compression.

    Parameters
    ----------
    array : array
        Its dtype must exist in IDX: unsigned or signed bytes, 16- or 32-bit integers, 32- or 64-bit floats.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If the dtype or a dimension does not fit the format.

    Examples
    --------
    >>> import numpy as np
    >>> encode_idx(np.asarray([7, 8], dtype=np.uint8)).hex(" ")
    '00 00 08 01 00 00 00 02 07 08'
    """
    array = np.asarray(array)
    codes = {(dtype.kind, dtype.itemsize): code for code, dtype in TYPE_CODES.items()}
    code = codes.get((array.dtype.kind, array.dtype.itemsize))
    if code is None:
        known = ", ".join(str(dtype.newbyteorder("=")) for dtype in TYPE_CODES.values())
        raise ValueError(f"array of dtype {array.dtype}: IDX holds {known}")
    if any(size >= 2**32 for size in array.shape):  # NumPy's own limit keeps the number of dimensions below 256
        raise ValueError(f"array of shape {array.shape}: IDX holds dimensions below 2**32")
    sizes = np.asarray(array.shape, dtype=">u4").tobytes()
    return bytes([0, 0, code, array.ndim]) + sizes + array.astype(TYPE_CODES[code]).tobytes()


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array as an IDX file, compressed with gzip if the name ends in ``.gz``.

    The file appears complete or not at all.

    Parameters
    ----------
    path : path-like
        The file.
    array : array
        See `encode_idx`.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(f"{folder}/images.gz", np.zeros((2, 8, 8), dtype=np.uint8))
    ...     read_idx(f"{folder}/images.gz").shape
    (2, 8, 8)
    """
    data = encode_idx(array)
    # Without a time stamp, the same array always gives the same file.
    write_atomically(path, gzip.compress(data, mtime=0) if require_path("path", path).suffix == ".gz" else data)


def idx_shape(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Return the shape of the array in an IDX file, after reading the whole file in little memory.

    Raises
    ------
    IdxError, OSError
        See `read_idx`.
    """
    with open(require_path("path", path), "rb") as file:
        return _read(file, str(path), keep=False)[1]


def unpacked(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the first ``limit`` bytes of a file, decompressed if it is compressed with gzip."""
    with open(require_path("path", path), "rb") as file:
        stream = gzip.GzipFile(fileobj=file) if _is_gzip(file) else file
        try:
            return bytes(_read_at_most(stream, limit))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise IdxError(f"{path}: damaged gzip data: {error}") from None


def _decode(file: io.BufferedReader, name: str) -> NDArray[Any]:
    """Decode a file while reading it; a file that is not IDX is refused at its first bytes, however long it is."""
    dtype, shape, body = _read(file, name, keep=True)
    try:
        array: NDArray[Any] = np.frombuffer(body, dtype).reshape(shape)
    except ValueError as error:
        # All bytes are there, so NumPy refuses the shape: too many dimensions, or a huge one next to a zero.
        raise IdxError(f"{name}: shape {shape} is more than an array can have: {error}") from None
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read(file: io.BufferedReader, name: str, keep: bool) -> tuple[np.dtype[Any], tuple[int, ...], bytearray]:
    """Return the dtype, the shape and, with ``keep``, the bytes of an array; their number must be as promised."""
    compressed = _is_gzip(file)
    stream: io.BufferedIOBase = gzip.GzipFile(fileobj=file) if compressed else file
    try:
        dtype, shape = _read_header(stream, name)
        promised = math.prod(shape) * dtype.itemsize
        if keep:
            body = _read_at_most(stream, promised + 1)
            size = len(body)
        else:
            body, size = bytearray(), 0
            while size <= promised and (piece := stream.read(_CHUNK)):
                size += len(piece)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise IdxError(f"{name}: damaged gzip data: {error}") from None
    except MemoryError:
        raise IdxError(f"{name}: its {promised:,} bytes are more than there is memory for") from None
    if size != promised:
        what = "more" if size > promised else f"only {size}"
        raise IdxError(
            f"{name}: the header promises {promised} bytes of data for shape {shape}, but the file has {what}"
        )
    return dtype, shape, body


def _is_gzip(file: io.BufferedReader) -> bool:
    return file.peek(2)[:2] == _GZIP_MAGIC


def _read_header(stream: io.BufferedIOBase, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise IdxError(f"{name}: {len(magic)} bytes long, too short for IDX")
    if magic[:2] != b"\0\0":
        raise IdxError(f"{name}: not IDX: starts with {magic[:2].hex(' ')}, not with two zero bytes")
    if magic[2] not in TYPE_CODES:
        known = ", ".join(f"{code:#04x}" for code in TYPE_CODES)
        raise IdxError(f"{name}: unknown type code {magic[2]:#04x}; IDX has {known}")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise IdxError(f"{name}: ends inside the header, which announces {magic[3]} dimensions")
    return TYPE_CODES[magic[2]], tuple(int(size) for size in np.frombuffer(sizes, ">u4"))


def _read_at_most(stream: io.BufferedIOBase, limit: int) -> bytearray:
    """Read to the end, but at most ``limit`` bytes, in pieces, so that a huge limit allocates nothing by itself."""
    body = bytearray()
    while len(body) < limit and (piece := stream.read(min(limit - len(body), _CHUNK))):
        body += piece
    return body
