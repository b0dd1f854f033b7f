"""IDX: hand-built files are read, written files follow the format, and all others are refused by name."""

import errno
import gzip
import io
import os
import struct
import tracemalloc

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet.data import IdxError, decode_idx, encode_idx, read_idx, write_idx

# The codes as the format's page gives them, with how Python's struct spells a number of each.
CODES = {"uint8": (0x08, "B"), "int8": (0x09, "b"), "int16": (0x0B, "h"), "int32": (0x0C, "i")} | {
    "float32": (0x0D, "f"),
    "float64": (0x0E, "d"),
}
HEADER = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3])
VALID = HEADER + bytes(range(6))


def by_hand(dtype, shape, numbers):
    code, letter = CODES[dtype]
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I{len(numbers)}{letter}", *shape, *numbers)


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_files_built_by_hand(dtype, pack, tmp_path):
    numbers = [0, 1, 2, 100, 7, 120]
    data = by_hand(dtype, (3, 2), numbers)
    path = tmp_path / "whatever.name"
    path.write_bytes(pack(data))
    array = read_idx(path)
    assert array.dtype == np.dtype(dtype)
    assert array.dtype.isnative
    assert array.tolist() == [[0, 1], [2, 100], [7, 120]]
    assert array.flags.writeable
    assert array.flags.c_contiguous
    assert encode_idx(array) == data


@given(
    st.sampled_from([f"{order}{code}" for order in "<>" for code in ("u1", "i1", "i2", "i4", "f4", "f8")]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
    )
)
def test_round_trip(array):
    for data in (encode_idx(array), gzip.compress(encode_idx(array), 1)):
        back = decode_idx(data)
        assert back.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(back, array)


def test_strided_and_read_only_arrays_are_written_as_they_look(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(4, 6)[::-1, ::2].T
    array.flags.writeable = False
    write_idx(tmp_path / "a", array)
    assert read_idx(tmp_path / "a").tolist() == array.tolist()
    assert (tmp_path / "a").read_bytes() == encode_idx(array)


def test_the_same_array_gives_the_same_file(tmp_path):
    write_idx(tmp_path / "a.gz", np.arange(5, dtype=np.uint8))
    data = (tmp_path / "a.gz").read_bytes()
    assert data[:2] == b"\x1f\x8b"
    assert data[4:8] == bytes(4)  # no time stamp
    write_idx(tmp_path / "b.gz", np.arange(5, dtype=np.uint8))
    assert (tmp_path / "b.gz").read_bytes() == data


@pytest.mark.parametrize(
    "array", [np.zeros(3, bool), np.zeros(3, complex), np.zeros(3, np.uint16), np.zeros(3, np.int64), np.asarray("a")]
)
def test_dtypes_that_idx_lacks_are_refused_and_the_file_is_as_it_was(array, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=rf"dtype {array.dtype}.*uint8, int8, int16, int32, float32, float64"):
        write_idx(path, array)
    assert path.read_bytes() == b"old"


def test_dimensions_that_idx_has_no_room_for_are_refused():
    """Arrays without memory of their own, so that they can be that large."""
    for shape in ((2**32,), (0, 2**32), (3, 2**32, 0)):
        with pytest.raises(ValueError, match=r"dimensions below 2\*\*32"):
            encode_idx(np.broadcast_to(np.uint8(0), shape))
    largest = np.broadcast_to(np.uint8(0), (0, 2**32 - 1))
    assert encode_idx(largest) == by_hand("uint8", largest.shape, [])
    assert decode_idx(encode_idx(largest)).shape == largest.shape


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_idx(path, np.zeros(3, np.uint8))
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


BROKEN = {
    "empty": (b"", "0 bytes long"),
    "three bytes": (VALID[:3], "3 bytes long"),
    "text": (b"hello, world", "starts with 68 65, not with two zero bytes"),
    "type code": (b"\0\0\x0a" + VALID[3:], "type code 0x0a; IDX has 0x08, 0x09, 0x0b, 0x0c, 0x0d, 0x0e"),
    "inside the header": (VALID[:11], "inside the header, which announces 2 dimensions"),
    "one byte short": (VALID[:-1], r"promises 6 bytes of data for shape \(2, 3\), but the file has only 5"),
    "one byte over": (VALID + b"!", "promises 6 bytes .* has more"),
    "a huge promise": (b"\0\0\x0e\2" + b"\xff" * 8 + b"x", f"promises {8 * (2**32 - 1) ** 2} bytes .* has only 1"),
    "too many dimensions": (b"\0\0\x08\x46" + struct.pack(">70I", *[1] * 70) + b"x", "more than an array can have"),
    "huge beside a zero": (b"\0\0\x08\4" + struct.pack(">4I", 0, *[2**32 - 1] * 3), "more than an array can have"),
    "gzip cut": (gzip.compress(VALID)[:-9], "damaged gzip data"),
    "gzip without its check sum": (gzip.compress(VALID)[:-8], "damaged gzip data"),
    "gzip with a wrong check sum": (gzip.compress(VALID)[:-8] + bytes(8), "damaged gzip data"),
    "gzip magic only": (b"\x1f\x8b", "damaged gzip data"),
    "gzip and rubbish": (gzip.compress(VALID) + b"rubbish", "damaged gzip data"),
    "gzip of another method": (b"\x1f\x8b\x07" + gzip.compress(VALID)[3:], "damaged gzip data"),
    "gzip with a bit flipped": (gzip.compress(VALID)[:12] + b"\xff" + gzip.compress(VALID)[13:], "damaged gzip data"),
    "gzip of text": (gzip.compress(b"hello"), "not with two zero bytes"),
    "gzip one over": (gzip.compress(VALID + b"!"), "has more"),
    "two in one gzip": (gzip.compress(VALID) + gzip.compress(VALID), "has more"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_by_name(case, tmp_path):
    data, message = BROKEN[case]
    path = tmp_path / "some-images"
    path.write_bytes(data)
    with pytest.raises(IdxError, match=rf"some-images: .*{message}"):
        read_idx(path)
    with pytest.raises(IdxError, match=rf"^its name: .*{message}"):
        decode_idx(data, name="its name")
    with pytest.raises(IdxError, match=r"^<bytes>: "):
        decode_idx(data)


def test_a_file_without_end_is_refused_at_its_first_bytes():
    if not os.path.exists("/dev/zero"):
        pytest.skip("this system has no /dev/zero")
    with pytest.raises(IdxError, match="/dev/zero: unknown type code 0x00"):
        read_idx("/dev/zero")


def test_files_that_cannot_be_read_are_not_called_damaged(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(OSError, match=str(path)):
            read_idx(path)


def peak_memory(data):
    tracemalloc.start()
    try:
        with pytest.raises(IdxError):
            decode_idx(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_not_taken_on_a_headers_word():
    promise = b"\0\0\x0e\3" + b"\xff" * 12
    assert peak_memory(promise + b"x") < 1 << 22
    assert peak_memory(gzip.compress(promise + b"x")) < 1 << 22


def test_decompression_stops_where_the_header_says():
    bomb = gzip.compress(HEADER + bytes(1 << 26), 9)
    assert len(bomb) < 1 << 17
    assert peak_memory(bomb) < 1 << 22


def test_no_byte_is_read_beyond_the_limit():
    from xpnet.data.idx import _read_at_most

    for limit in (0, 5, (1 << 20) + 5):
        stream = io.BytesIO(bytes(3 << 20))
        assert len(_read_at_most(stream, limit)) == stream.tell() == limit


@given(st.binary(max_size=200))
def test_random_bytes(data):
    for start in (b"", b"\0\0\x08", b"\0\0\x0d\1", b"\x1f\x8b\x08"):
        check_refused_or_sound(start + data)


@given(st.booleans(), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4), st.integers(0, 60))
def test_files_with_a_few_bytes_changed(compressed, changes, length):
    data = bytearray(gzip.compress(VALID, mtime=0) if compressed else VALID)
    for at, value in changes:
        data[at % len(data)] = value
    check_refused_or_sound(bytes(data))
    check_refused_or_sound(bytes(data[:length]))
    check_refused_or_sound(gzip.compress(bytes(data[:length]), mtime=0))


def check_refused_or_sound(data):
    try:
        array = decode_idx(data)
    except IdxError:
        return
    plain = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    assert array.nbytes + 4 + 4 * array.ndim == len(plain)
    assert encode_idx(array) == plain
