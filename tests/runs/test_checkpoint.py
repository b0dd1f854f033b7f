"""Files of arrays and the folder of a run, under everything that can happen to files."""

import contextlib
import dataclasses
import errno
import json
import os
import random
import signal
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xpnet import BusyError, CheckpointError, ResumeError
from xpnet.files import check_writable_directory, sweep_temporaries, write_atomically
from xpnet.runs.checkpoint import (
    KEPT,
    Checkpoint,
    RunDirectory,
    check_arrays,
    compare_configs,
    load_arrays,
    save_arrays,
)

# The time of file operations varies.
on_disk = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
posix = pytest.mark.skipif(sys.platform == "win32", reason="a matter of POSIX")

# The parts of the format that this file's own reader needs.
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "|u1",
    "BOOL": "|b1",
    "C64": "<c8",
}


def read_independently(path):
    """Read a safetensors file by the format's definition: a length, a JSON table, the numbers."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        body = data[8 + length + begin : 8 + length + end]
        arrays[name] = np.frombuffer(body, DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays, metadata


def assert_bitwise(ours, theirs):
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype.newbyteorder("=")
    assert ours.tobytes() == theirs.astype(theirs.dtype.newbyteorder("=")).tobytes()


def as_safetensors(header, body=b""):
    """Build a file by hand, whatever its header says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def arrays_of(epoch):
    """Return the contents that an epoch's checkpoint must have."""
    rng = np.random.default_rng(epoch)
    return {"theta": rng.random(7_001), "state.0": rng.random((3, 5)).astype(np.float32)}


def checkpoint(epoch):
    return Checkpoint(epoch, arrays_of(epoch), {"config": {"seed": 3}, "history": [{"epoch": epoch}]})


def assert_is_of_epoch(found, epoch):
    expected = checkpoint(epoch)
    assert found.epoch == epoch
    assert found.meta == expected.meta
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert_bitwise(found.arrays[name], array)


def names(folder):
    return sorted(os.listdir(folder))


def path_of(folder, epoch):
    return folder / "checkpoints" / f"epoch-{epoch:05d}.safetensors"


@pytest.fixture
def run(tmp_path):
    """A folder with the checkpoints of epochs 0, 1 and 2, of which 1 and 2 are left."""
    directory = RunDirectory(tmp_path)
    for epoch in range(3):
        directory.save_checkpoint(checkpoint(epoch))
    return directory


# Arrays in a file ---------------------------------------------------------------------------------------------------

GRID = np.arange(12.0).reshape(3, 4)
CUBE = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
LAYOUTS = {
    "plain": GRID,
    "transposed": GRID.T,
    "Fortran": np.asfortranarray(GRID),
    "strided": GRID[:, ::2],
    "backwards": GRID[::-1, ::-1],
    "a column": GRID[:, 1],
    "axes moved": CUBE.transpose(2, 0, 1),
    "broadcast": np.broadcast_to(np.float64(0.1), (2, 3)),
    "big-endian": GRID.astype(">f8"),
    "big-endian and transposed": CUBE.astype(">f4").transpose(1, 2, 0),
    "without axes": np.asarray(2.5),
    "a scalar": np.float32(2.5),
    "empty": np.zeros((0, 4), np.float32),
    "empty in the middle": np.zeros((3, 0, 2)).transpose(2, 1, 0),
    "unaligned": np.frombuffer(b"\0" + GRID.tobytes(), "<f8", offset=1),
    "special": np.asarray([np.nan, -np.nan, np.inf, -np.inf, -0.0, 5e-324]),
    "a NaN with a payload": np.asarray([0x7FF8000000000123], "<u8").view("<f8"),
    "half": GRID.astype(np.float16),
    "integers": GRID.astype(np.int32).T,
    "long integers": np.asarray([-(2**63), 2**63 - 1]),
    "bytes": GRID.astype(np.uint8)[1:, ::-2],
    "truths": (GRID % 2 == 0).T,
    "complex": (GRID + 1j).astype(np.complex64).T,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_every_layout_survive_to_the_last_bit(tmp_path, layout):
    array = np.asarray(LAYOUTS[layout])
    save_arrays(tmp_path / "a", {"x": array, "y": array}, {})
    ours, _ = load_arrays(tmp_path / "a")
    theirs, _ = read_independently(tmp_path / "a")
    for name in ("x", "y"):
        assert_bitwise(ours[name], array)
        assert_bitwise(theirs[name], array)
        assert ours[name].flags.c_contiguous
        assert ours[name].dtype.isnative


@pytest.mark.skipif(safetensors.__version__ != "0.8.0", reason="tells of safetensors 0.8.0")
@pytest.mark.parametrize("layout", ["transposed", "strided", "axes moved"])
def test_safetensors_alone_would_have_corrupted_them(layout):
    array = LAYOUTS[layout]
    theirs = safetensors.numpy.load(safetensors.numpy.save({"x": array}))["x"]
    assert theirs.shape == array.shape
    assert not np.array_equal(theirs, array)


@on_disk
@given(
    hnp.arrays(
        st.sampled_from(["<f8", ">f8", "<f4", ">f4", "<f2", "<i8", ">i4", "|u1", "|b1"]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    st.data(),
)
def test_any_array_survives_in_any_order_of_its_axes(tmp_path_factory, array, data):
    axes = data.draw(st.permutations(range(array.ndim)))
    steps = data.draw(st.tuples(*[st.sampled_from([1, 2, -1]) for _ in axes]))
    view = array.transpose(axes)[tuple(slice(None, None, step) for step in steps)]
    path = tmp_path_factory.mktemp("arrays") / "a"
    save_arrays(path, {"x": view}, {})
    assert_bitwise(load_arrays(path)[0]["x"], view)


def test_what_is_given_is_left_alone(tmp_path):
    array = GRID.astype(">f4").T
    array.flags.writeable = False
    save_arrays(tmp_path / "a", {"x": array}, {})
    assert array.dtype == ">f4"
    assert array.T.flags.c_contiguous


def test_other_programs_find_the_description_and_the_checksum_under_names_that_stay(tmp_path):
    save_arrays(tmp_path / "a", {"x": GRID}, {"epoch": 3})
    metadata = read_independently(tmp_path / "a")[1]
    assert metadata.keys() == {"xpnet.meta", "xpnet.sha256"}
    assert json.loads(metadata["xpnet.meta"]) == {"epoch": 3}
    assert len(bytes.fromhex(metadata["xpnet.sha256"])) == 32


def test_a_description_survives(tmp_path):
    meta = {"a": [1, 2.5, None, True, 'ä\u2028"\\'], "b": {"c": 1 / 3, "d": 10**30}, "e": {}}
    save_arrays(tmp_path / "a", {}, meta)
    assert load_arrays(tmp_path / "a") == ({}, meta)


@on_disk
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), st.integers(-9, 9), max_size=4))
def test_any_name_survives(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("names") / "a"
    values.pop("__metadata__", None)
    save_arrays(path, {name: np.asarray(value) for name, value in values.items()}, values)
    arrays, meta = load_arrays(path)
    assert {name: int(array) for name, array in arrays.items()} == meta == values


@pytest.mark.parametrize("dtype", [object, "U3", "S3", "datetime64[s]", np.complex128, np.longdouble, "V4"])
def test_what_the_format_cannot_hold_is_refused_by_name(tmp_path, dtype):
    with pytest.raises(TypeError, match=r"cannot hold these arrays \(fine: int64, theta: "):
        save_arrays(tmp_path / "a", {"fine": np.arange(2), "theta": np.zeros(2, dtype)}, {})
    assert names(tmp_path) == []


def test_nothing_is_unpickled(tmp_path):
    """Whoever can write a file must not be able to run code."""
    import pickle

    (tmp_path / "a").write_bytes(pickle.dumps({"x": GRID}))
    with pytest.raises(CheckpointError):
        load_arrays(tmp_path / "a")
    np.save(tmp_path / "b.npy", np.asarray([{}], object), allow_pickle=True)
    with pytest.raises(CheckpointError):
        load_arrays(tmp_path / "b.npy")


# Damage -------------------------------------------------------------------------------------------------------------

SMALL = {"w": np.arange(3, dtype=np.float32), "n": np.asarray([[7, 8]], np.uint8)}


@pytest.fixture
def small(tmp_path):
    save_arrays(tmp_path / "small", SMALL, {"epoch": 3})
    return tmp_path / "small"


def assert_refused(path, data, cause=None):
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=cause) as caught:
        load_arrays(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_every_truncation_is_found(small):
    data = small.read_bytes()
    for length in range(len(data)):
        assert_refused(small, data[:length])


@pytest.mark.slow
def test_every_flipped_bit_is_found(small):
    data = small.read_bytes()
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        assert_refused(small, bytes(damaged))


@on_disk
@given(st.data())
def test_bytes_put_in_taken_out_or_exchanged_are_found(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "a"
    save_arrays(path, SMALL, {"epoch": 3})
    whole = path.read_bytes()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 9)))
    path.write_bytes(whole[:begin] + data.draw(st.binary(max_size=9)) + whole[end:])
    try:
        found = load_arrays(path)
    except CheckpointError as error:
        found = str(error)
    if isinstance(found, str):
        assert str(path) in found
        return
    # Blanks in the table mean nothing: where only they differ, the contents must be the same.
    arrays, meta = found
    assert meta == {"epoch": 3}
    assert arrays.keys() == SMALL.keys()
    for name, array in SMALL.items():
        assert_bitwise(arrays[name], array)


@on_disk
@given(st.binary(max_size=200))
def test_no_bytes_bring_forth_another_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "a"
    assert_refused(path, data)
    assert_refused(path, as_safetensors(data))
    assert_refused(path, as_safetensors({"x": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, 1]}}, data))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPES, "BF16", "F8_E4M3", "F4", "X1", "C64"]) | json_values,
        "shape": st.lists(st.integers(-1, 3) | st.sampled_from([2**31, 2**62, 2**63, 2**64]), max_size=4) | json_values,
        "data_offsets": st.lists(st.integers(-1, 9) | st.sampled_from([2**32, 2**64]), min_size=2, max_size=2)
        | json_values,
    }
)
tables = st.dictionaries(
    st.sampled_from(["a", "b", "__metadata__"]),
    entries | json_values | st.dictionaries(st.sampled_from(["xpnet.meta", "xpnet.sha256"]), json_values),
    max_size=3,
)


@on_disk
@given(tables | json_values, st.binary(max_size=40))
def test_no_table_brings_forth_another_error(tmp_path_factory, table, body):
    assert_refused(tmp_path_factory.mktemp("tables") / "a", as_safetensors(table, body))


@pytest.mark.parametrize("extra", ["__metadata__", "xpnet.sha256", "xpnet.meta"])
@pytest.mark.parametrize("value", [None, 1, [], {}, "text", "é"])
def test_wrong_metadata_is_refused(small, extra, value):
    good = read_independently(small)[1]
    metadata = value if extra == "__metadata__" else good | {extra: value}
    assert_refused(small, as_safetensors({"__metadata__": metadata}))


def checked(description, arrays):
    """Build a file with a correct checksum, as only an attacker would."""
    from xpnet.runs.checkpoint import _checksum

    metadata = {"xpnet.meta": description, "xpnet.sha256": _checksum(arrays, description)}
    return safetensors.numpy.save(arrays, metadata)


@pytest.mark.parametrize("text", ["[1]", '"text"', "3", "null"])
def test_a_description_of_another_kind_is_named(small, text):
    assert_refused(small, checked(text, SMALL), "arrays: its description is not a table$")


@pytest.mark.parametrize("text", ["", "not JSON", "[1]", '"text"', "3", "null", "NaN", "[" * 100_000, "1" * 5_000])
def test_a_description_that_is_no_table_is_refused_even_with_the_right_checksum(small, text):
    assert_refused(small, checked(text, SMALL), "not a whole file of arrays")


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", ": it ends before its header does$"),
        (b"\x02\0\0\0\0\0\0", ": it ends before its header does$"),
        (b"\xff" * 16, ": it ends before its header does$"),
        (as_safetensors(b"{}"), ": it has no checksum, so xpnet did not write it$"),
        (as_safetensors(b"[" * 50_000), "nested too deeply"),
        (as_safetensors(b"9" * 9_000), "digits"),
        (as_safetensors(b'{"\xff": 1}'), "decode"),
        (as_safetensors({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"1234"), "dtype 'BF16'"),
        (as_safetensors({"x": {"dtype": "U8", "shape": [0, 2**63], "data_offsets": [0, 0]}}), None),
        (as_safetensors({"x": {"dtype": "U8", "shape": [1] * 99, "data_offsets": [0, 1]}}, b"1"), None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_cause_is_told(tmp_path, data, cause):
    assert_refused(tmp_path / "a", data, cause)


def test_a_file_of_another_program_is_told_from_a_damaged_one(tmp_path, small):
    assert_refused(tmp_path / "a", safetensors.numpy.save(SMALL), ": it has no checksum, so xpnet did not write it$")
    data = bytearray(small.read_bytes())
    data[-1] ^= 1
    assert_refused(small, bytes(data), "arrays: its checksum does not match its contents$")


@pytest.mark.parametrize("change", ["name", "dtype", "shape", "description"])
def test_the_checksum_covers_more_than_the_numbers(small, change):
    _, metadata = read_independently(small)
    arrays = dict(SMALL)
    if change == "name":
        arrays["v"] = arrays.pop("w")
    elif change == "dtype":
        arrays["w"] = arrays["w"].view(np.int32)
    elif change == "shape":
        arrays["n"] = arrays["n"].T.copy()
    else:
        metadata["xpnet.meta"] = '{"epoch": 4}'
    assert_refused(small, safetensors.numpy.save(arrays, metadata), "checksum does not match")


def test_memory_is_bounded_by_the_size_of_the_file(tmp_path):
    save_arrays(tmp_path / "big", {"x": np.zeros(500_000)}, {})
    size = (tmp_path / "big").stat().st_size
    promise = {"x": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}
    (tmp_path / "promise").write_bytes(as_safetensors(promise))
    load_arrays(tmp_path / "big")  # what is imported on the way does not count
    tracemalloc.start()
    try:
        load_arrays(tmp_path / "big")
        assert tracemalloc.get_traced_memory()[1] < 5 * size
        tracemalloc.reset_peak()
        with pytest.raises(CheckpointError):
            load_arrays(tmp_path / "promise")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_file_that_cannot_be_read_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "nothing")
    with pytest.raises(OSError):  # noqa: PT011
        load_arrays(tmp_path)


# Weights ------------------------------------------------------------------------------------------------------------


def test_fitting_weights_are_accepted():
    shapes = {"0.w": (2, 3), "0.b": (3,)}
    check_arrays(shapes, {"0.b": np.zeros(3), "0.w": np.zeros((2, 3), np.float32)}, "model")
    check_arrays({}, {}, "model")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"0.w": None}, "0.w is missing"),
        ({"1.w": np.zeros(4)}, "1.w is not part of this network"),
        ({"0.w": np.zeros((3, 2))}, r"0.w has shape \(3, 2\) instead of \(2, 3\)"),
        ({"0.w": np.zeros(6)}, r"0.w has shape \(6,\) instead of \(2, 3\)"),
        ({"0.b": np.zeros(3, np.float16)}, "0.b is float16 instead of float32 or float64"),
        ({"0.b": np.zeros(3, np.int64)}, "0.b is int64 instead of float32 or float64"),
        ({"0.b": np.asarray([0, np.nan, 1])}, "0.b holds NaN or infinity"),
        ({"0.b": np.asarray([0, -np.inf, 1])}, "0.b holds NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(change, cause):
    arrays = {"0.w": np.zeros((2, 3)), "0.b": np.zeros(3)} | change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with pytest.raises(CheckpointError, match=f"^model: the weights do not fit the network: {cause}$"):
        check_arrays({"0.w": (2, 3), "0.b": (3,)}, arrays, "model")


def test_everything_that_does_not_fit_is_named():
    with pytest.raises(CheckpointError, match=r"0\.b is missing; 0\.w has shape .*; 1\.w is not part"):
        check_arrays({"0.w": (2, 3), "0.b": (3,)}, {"0.w": np.zeros(2), "1.w": np.zeros(2)}, "model")


# Writing ------------------------------------------------------------------------------------------------------------


def test_data_is_on_the_disk_before_it_gets_its_name_and_then_the_name_is(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor):
        found = os.fstat(descriptor)
        steps.append("folder" if stat.S_ISDIR(found.st_mode) else f"{found.st_size} bytes")
        fsync(descriptor)

    def watched_replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_atomically(tmp_path / "a", b"12345")
    assert steps == ["5 bytes", "rename", "folder"][: 2 if sys.platform == "win32" else 3]
    assert (tmp_path / "a").read_bytes() == b"12345"


@posix
def test_the_names_of_new_folders_are_on_the_disk_before_the_work(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync

    def watched_fsync(descriptor):
        flushed.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    with RunDirectory(tmp_path / "run").lock():
        assert flushed == [(tmp_path / "run").stat().st_ino]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("accident", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_an_accident_in_between_leaves_the_old_file_and_no_other(run, monkeypatch, step, accident):
    def fail(*_):
        raise accident

    before = {path: path.read_bytes() for path in run.checkpoints.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(accident)) as caught:
            run.save_checkpoint(checkpoint(2))
        if isinstance(accident, OSError):
            assert caught.value.errno == errno.ENOSPC
            assert "cannot write" in str(caught.value)
            assert "epoch-00002.safetensors: No space left on device" in str(caught.value)
        with pytest.raises(type(accident)):
            run.save_checkpoint(checkpoint(3))
    assert {path: path.read_bytes() for path in run.checkpoints.iterdir()} == before


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_permissions_that_the_umask_leaves(tmp_path, umask, mode):
    old = os.umask(umask)
    try:
        directory = RunDirectory(tmp_path / "run")
        with directory.lock():
            directory.save_checkpoint(checkpoint(0))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path_of(directory.path, 0).stat().st_mode) == mode
    assert stat.S_IMODE(directory.checkpoints.stat().st_mode) == 0o777 & ~umask


FULL_DISK = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from xpnet.runs.checkpoint import Checkpoint, RunDirectory

    run = RunDirectory(Path(sys.argv[1]))
    with run.lock():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
        try:
            run.save_checkpoint(Checkpoint(3, {"theta": np.zeros(7_001)}, {}))
        except OSError as error:
            print(error)
"""


def start(script, *arguments):
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@posix
def test_a_full_disk_is_named_and_the_checkpoints_before_are_whole(run):
    out, _ = start(FULL_DISK, run.path).communicate(timeout=600)
    assert "cannot write" in out
    assert f"{path_of(run.path, 3)}: File too large" in out
    assert names(run.checkpoints) == ["epoch-00001.safetensors", "epoch-00002.safetensors"]
    assert_is_of_epoch(run.latest_checkpoint(), 2)
    assert names(run.path) == ["checkpoints"]


# Folders ------------------------------------------------------------------------------------------------------------


def test_a_folder_is_made_with_those_above_it_and_nothing_in_it(tmp_path):
    assert check_writable_directory(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert names(tmp_path / "a" / "b") == []


@pytest.mark.parametrize("place", ["", "checkpoints"])
def test_a_file_in_the_way_is_named_before_any_work(tmp_path, place):
    (tmp_path / "run").mkdir()
    way = tmp_path / "run" / place if place else tmp_path / "file"
    way.write_text("mine")
    directory = RunDirectory(tmp_path / "run" if place else way)
    with pytest.raises(ValueError, match=r"output_dir=.*not a writable folder") as caught, directory.lock():
        pytest.fail("the work has begun")
    assert str(way) in str(caught.value)
    assert way.read_text() == "mine"
    assert names(tmp_path / "run") == ([place] if place else [])


def test_a_folder_below_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"data_dir=.*file.*folder"):
        check_writable_directory(tmp_path / "file" / "run", "data_dir")


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ValueError, match="Permission denied"), RunDirectory(tmp_path).lock():
            pytest.fail("the work has begun")
    finally:
        tmp_path.chmod(0o700)


def test_something_else_in_place_of_the_lock_is_named(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(ValueError, match=r"output_dir=.*\.lock"), RunDirectory(tmp_path).lock():
        pytest.fail("the work has begun")


def test_stale_temporaries_are_swept_and_nothing_else(run):
    keep = [run.path / "notes.txt", run.path / ".hidden", run.checkpoints / "mine.xpnet-tmp"]
    stale = [run.path / ".a.0123.xpnet-tmp", run.checkpoints / ".epoch-00009.safetensors.4567.xpnet-tmp"]
    for path in keep + stale:
        path.write_bytes(b"x")
    with run.lock():
        assert all(path.exists() for path in keep)
        assert not any(path.exists() for path in stale)
        stale[1].write_bytes(b"x")
        run.save_checkpoint(checkpoint(3))
        assert not stale[1].exists()
    assert all(path.exists() for path in keep)


def test_a_folder_that_is_not_there_has_nothing_to_sweep(tmp_path):
    sweep_temporaries(tmp_path / "nothing")
    assert names(tmp_path) == []


def test_room_is_made_before_it_is_needed(run, monkeypatch):
    """On a disk that a killed run has filled with a temporary, the next write must not fail."""
    stale = run.checkpoints / ".epoch-00003.safetensors.89ab.xpnet-tmp"
    stale.write_bytes(b"x")
    fsync = os.fsync

    def checked_fsync(descriptor):
        assert not stale.exists()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", checked_fsync)
    run.save_checkpoint(checkpoint(3))


# The lock -----------------------------------------------------------------------------------------------------------

HOLDER = """
    import sys
    from pathlib import Path
    from xpnet.runs.checkpoint import RunDirectory

    with RunDirectory(Path(sys.argv[1])).lock():
        print("locked", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    with start(HOLDER, tmp_path) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def assert_busy(folder):
    with pytest.raises(BusyError, match="another run is writing there; choose another folder") as caught:
        RunDirectory(folder).lock().__enter__()
    assert f"output_dir={str(folder)!r}" in str(caught.value)


def test_a_second_process_is_refused_until_the_first_is_done(tmp_path, holder):
    for _ in range(3):
        assert_busy(tmp_path)
    holder.communicate("", timeout=600)
    assert holder.returncode == 0
    assert names(tmp_path) == []
    with RunDirectory(tmp_path).lock():
        assert_busy(tmp_path)


def test_a_killed_process_holds_no_lock(tmp_path, holder):
    holder.kill()
    holder.wait(timeout=600)
    with RunDirectory(tmp_path).lock():
        assert_busy(tmp_path)
    assert names(tmp_path) == []


def test_a_second_run_in_the_same_process_is_refused(tmp_path):
    with RunDirectory(tmp_path).lock():
        assert_busy(tmp_path)
        thread = threading.Thread(target=assert_busy, args=[tmp_path])
        thread.start()
        thread.join()
        assert_busy(tmp_path)
    with RunDirectory(tmp_path).lock():
        pass


def test_another_folder_is_free(tmp_path):
    with RunDirectory(tmp_path / "a").lock(), RunDirectory(tmp_path / "b").lock():
        assert names(tmp_path) == ["a", "b"]


def test_the_lock_is_released_and_removed_however_the_run_ends(tmp_path):
    with pytest.raises(ZeroDivisionError), RunDirectory(tmp_path).lock():
        raise ZeroDivisionError
    assert names(tmp_path) == []
    with RunDirectory(tmp_path).lock():
        pass


def test_a_busy_folder_elsewhere_is_not_taken_for_this_one(tmp_path):
    """An error from inside the run is raised unchanged."""
    other, mine = (RunDirectory(tmp_path / name) for name in ("other", "mine"))
    with other.lock(), pytest.raises(BusyError, match="other"), mine.lock():
        other.lock().__enter__()
    with mine.lock():
        assert_busy(mine.path)


def test_a_release_leaves_the_next_run_its_lock(tmp_path, monkeypatch):
    """The next run may take the lock as soon as its file is gone, before the system has released it."""
    import filelock

    release, following = filelock.FileLock.release, contextlib.ExitStack()

    def late(lock, *arguments, **options):
        monkeypatch.undo()
        following.enter_context(RunDirectory(tmp_path).lock())
        release(lock, *arguments, **options)

    with RunDirectory(tmp_path).lock():
        monkeypatch.setattr(filelock.FileLock, "release", late)
    with following:
        assert_busy(tmp_path)


def test_only_one_of_many_gets_in_at_a_time(tmp_path):
    """Locks are taken and removed quickly; no process may hold one that another has removed."""
    inside, most, entered = [], [], []
    barrier = threading.Barrier(4)

    def hurry():
        barrier.wait()
        for _ in range(40):
            try:
                with RunDirectory(tmp_path).lock():
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.0005)
                    inside.pop()
                    entered.append(1)
            except BusyError:
                time.sleep(0.0002)

    threads = [threading.Thread(target=hurry) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entered) >= 10
    assert max(most) == 1
    assert names(tmp_path) == []


# Checkpoints --------------------------------------------------------------------------------------------------------


def test_the_last_two_are_kept(run):
    assert KEPT == 2
    assert names(run.path) == ["checkpoints"]
    assert names(run.checkpoints) == ["epoch-00001.safetensors", "epoch-00002.safetensors"]
    assert_is_of_epoch(run.latest_checkpoint(), 2)


def test_a_checkpoint_cannot_be_changed_and_is_equal_to_itself_alone():
    """Arrays have no single truth value, so a checkpoint is equal only to itself."""
    one = checkpoint(1)
    for part, name in ((one, "epoch"), (RunDirectory(None), "path")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, 2)
    assert one == one
    assert one != checkpoint(1)
    assert len({one, checkpoint(1)}) == 2


def test_epochs_are_ordered_as_numbers(tmp_path):
    run = RunDirectory(tmp_path)
    for epoch in (99_998, 99_999, 100_000, 100_001):
        run.save_checkpoint(checkpoint(epoch))
    assert names(run.checkpoints) == ["epoch-100000.safetensors", "epoch-100001.safetensors"]
    assert run.latest_checkpoint().epoch == 100_001


def test_without_checkpoints_there_is_none(tmp_path):
    assert RunDirectory(tmp_path / "nothing").latest_checkpoint() is None
    (tmp_path / "checkpoints").mkdir()
    assert RunDirectory(tmp_path).latest_checkpoint() is None
    (tmp_path / "checkpoints" / "notes.txt").write_text("mine")
    (tmp_path / "checkpoints" / "epoch-00001.safetensors.bak").write_text("mine")
    assert RunDirectory(tmp_path).latest_checkpoint() is None


def test_other_files_among_them_are_left_alone(run):
    mine = run.checkpoints / "epoch-00000.safetensors.bak"
    mine.write_text("mine")
    run.save_checkpoint(checkpoint(3))
    assert mine.read_text() == "mine"


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


def zeros(path):
    """Some file systems keep the length after a power failure, but not the bytes."""
    path.write_bytes(bytes(path.stat().st_size))


def exchange(path):
    """Put the weights of another program there."""
    path.write_bytes(safetensors.numpy.save(arrays_of(2)))


def rename(path):
    """Pass an older checkpoint off as a newer one."""
    path.write_bytes(path.with_name("epoch-00001.safetensors").read_bytes())


def misplace(path):
    """Put a file there that is whole, but no checkpoint."""
    save_arrays(path, arrays_of(2), {"network": {}})


def undescribe(path):
    save_arrays(path, arrays_of(2), {"epoch": 2, "meta": None})


def block(path):
    path.unlink()
    path.mkdir()


DAMAGES = [cut, flip, empty, zeros, exchange, rename, misplace, undescribe, block]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_older_one_is_used_where_the_newest_is_damaged(run, damage):
    damage(path_of(run.path, 2))
    with pytest.warns(UserWarning, match=r"epoch-00002\.safetensors.*using epoch-00001\.safetensors") as caught:
        found = run.latest_checkpoint()
    assert_is_of_epoch(found, 1)
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("damage", [d for d in DAMAGES if d is not rename])
def test_where_all_are_damaged_each_is_named_with_its_cause(run, damage):
    flip(path_of(run.path, 1))
    damage(path_of(run.path, 2))
    with pytest.raises(CheckpointError, match="no checkpoint can be read: ") as caught:
        run.latest_checkpoint()
    assert str(path_of(run.path, 1)) in str(caught.value)
    assert str(path_of(run.path, 2)) in str(caught.value)
    assert "checksum" in str(caught.value)


def test_every_damaged_one_that_is_passed_over_is_named(run):
    for epoch in (3, 4):
        path_of(run.path, epoch).write_bytes(b"damaged")
    with pytest.warns(UserWarning, match=r"epoch-00004.*epoch-00003.*using epoch-00002"):
        assert_is_of_epoch(run.latest_checkpoint(), 2)


def test_a_damaged_newer_one_does_not_push_out_a_good_one(run):
    for epoch in (7, 8, 9):
        path_of(run.path, epoch).write_bytes(b"damaged")
    run.save_checkpoint(checkpoint(3))
    assert names(run.checkpoints) == ["epoch-00002.safetensors", "epoch-00003.safetensors"]
    assert_is_of_epoch(run.latest_checkpoint(), 3)


def test_a_damaged_one_is_replaced_when_its_epoch_is_done_again(run):
    cut(path_of(run.path, 2))
    run.save_checkpoint(checkpoint(2))
    assert_is_of_epoch(run.latest_checkpoint(), 2)


# Killed at any moment -----------------------------------------------------------------------------------------------

WRITERS = """
    import os, shutil, sys, traceback
    from pathlib import Path

    import filelock, safetensors.numpy  # before the fork: each child is to write at once
    import numpy as np
    from xpnet.runs.checkpoint import Checkpoint, RunDirectory

    def arrays_of(epoch):
        rng = np.random.default_rng(epoch)
        return {"theta": rng.random(7_001), "state.0": rng.random((3, 5)).astype(np.float32)}

    def say(word, number):
        # In one piece: where Python's output is not buffered, a kill may fall between the pieces that print writes.
        os.write(1, f"{word} {number}\\n".encode())

    def write(folder, stop):
        run = RunDirectory(folder)
        with run.lock():
            last = run.latest_checkpoint()
            epoch = 0 if last is None else last.epoch + 1
            while epoch < stop:
                meta = {"config": {"seed": 3}, "history": [{"epoch": epoch}]}
                run.save_checkpoint(Checkpoint(epoch, arrays_of(epoch), meta))
                say("epoch", epoch)
                epoch += 1

    def in_a_child(work):
        child = os.fork()
        if child == 0:
            try:
                say("process", os.getpid())
                work()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        say("status", os.waitpid(child, 0)[1])
"""

UNTIL_KILLED = """
    for stop in sys.stdin:
        in_a_child(lambda: write(Path(sys.argv[1]), int(stop)))
"""


class Writers:
    """A process whose children write checkpoints, one after the other."""

    def __init__(self, process):
        self.process = process

    def begin(self, stop):
        """Let a child write up to an epoch; return its number."""
        self.process.stdin.write(f"{stop}\n")
        self.process.stdin.flush()
        word, number = self.process.stdout.readline().split()
        assert word == "process"
        return int(number)

    def announced(self):
        """Wait for one epoch."""
        word, number = self.process.stdout.readline().split()
        assert word == "epoch"
        return int(number)

    def end(self, announced=()):
        """Wait for the child's end; return the epochs that it has announced, and its exit status."""
        epochs = list(announced)
        while True:
            word, number = self.process.stdout.readline().split()
            if word == "status":
                return epochs, int(number)
            epochs.append(int(number))


@posix
def test_killed_at_any_moment_nothing_is_lost_and_nothing_is_damaged(tmp_path):
    rng = random.Random(0)
    run = RunDirectory(tmp_path)
    with start(textwrap.dedent(WRITERS) + textwrap.dedent(UNTIL_KILLED), tmp_path) as process:
        writers = Writers(process)
        writers.begin(3)
        assert writers.end() == ([0, 1, 2], 0)
        last = 2
        for kill in range(40):
            child = writers.begin(10**9)
            # Every other one in the middle of its writing, the rest from the moment that it begins.
            first = [writers.announced()] if kill % 2 else []
            time.sleep(0.03 * rng.random())
            os.kill(child, signal.SIGKILL)
            announced, status = writers.end(first)
            assert os.WTERMSIG(status) == signal.SIGKILL
            # It went on where the one before was killed, and what it announced is there: whole, without a warning.
            assert announced == list(range(last + 1, last + 1 + len(announced)))
            found = run.latest_checkpoint()
            assert found.epoch - (last + len(announced)) in (0, 1)
            assert_is_of_epoch(found, found.epoch)
            last = found.epoch
        writers.begin(last + 3)
        assert writers.end() == ([last + 1, last + 2], 0)
        process.communicate(timeout=600)
    assert last >= 22
    assert names(tmp_path) == ["checkpoints"]
    assert names(run.checkpoints) == [path_of(tmp_path, epoch).name for epoch in (last + 1, last + 2)]


DYING_STEP_BY_STEP = """
    CALLS = "open", "fsync", "close", "replace", "unlink", "mkdir", "rmdir"

    def die_at(step):
        left = [step]

        def dying(call):
            def wrapper(*arguments, **options):
                if left[0] == 0:
                    os._exit(9)
                left[0] -= 1
                return call(*arguments, **options)
            return wrapper

        for name in CALLS:
            setattr(os, name, dying(getattr(os, name)))

    def work(folder, step):
        die_at(step)
        write(folder, 4)

    base = Path(sys.argv[1])
    for step in range(int(sys.argv[2])):
        folder = base.with_name(f"died-at-{step}")
        shutil.copytree(base, folder)
        in_a_child(lambda: work(folder, step))
"""


@posix
def test_a_write_that_dies_at_any_of_its_steps_leaves_a_whole_checkpoint(run):
    """Random kills rarely hit these moments: death before each call by which a write changes the disk."""
    # A copy in its own folder, next to which there is room.
    base = run.path / "base"
    (run.path / "checkpoints").rename(run.path / "kept")
    base.mkdir()
    (run.path / "kept").rename(base / "checkpoints")
    out, _ = start(textwrap.dedent(WRITERS) + textwrap.dedent(DYING_STEP_BY_STEP), base, 40).communicate(timeout=600)
    ends = [int(line.split()[1]) for line in out.splitlines() if line.startswith("status")]
    alive = ends.index(0)  # the first that had fewer steps to go
    assert [os.WEXITSTATUS(end) for end in ends] == [9] * alive + [0] * (40 - alive)
    assert alive > 10
    epochs = []
    for step in range(40):
        died = RunDirectory(base.with_name(f"died-at-{step}"))
        found = died.latest_checkpoint()
        assert_is_of_epoch(found, found.epoch)
        epochs.append(found.epoch)
        with died.lock():
            died.save_checkpoint(checkpoint(found.epoch + 1))
        assert names(died.path) == ["checkpoints"]
        assert [RunDirectory(died.path).latest_checkpoint().epoch, len(names(died.checkpoints))] == [found.epoch + 1, 2]
    assert epochs == sorted(epochs)
    assert set(epochs) == {2, 3}


# Configurations -----------------------------------------------------------------------------------------------------

CONFIG = {
    "seed": 3,
    "epochs": 5,
    "patience": None,
    "optimizer": {"class": "Adam", "learning_rate": 0.001},
    "network": {"layers": [{"class": "Dense", "units": 10}, {"class": "ReLU"}], "input_shape": [8, 8]},
    "versions": {"numpy": "2.0"},
}


def differing(changes):
    current = json.loads(json.dumps(CONFIG))
    for path, value in changes.items():
        *above, last = path.split(".")
        place = current
        for key in above:
            place = place[int(key) if key.isdigit() else key]
        place[int(last) if last.isdigit() else last] = value
    return current


def test_the_same_configuration_is_accepted():
    compare_configs(CONFIG, differing({}), set())
    compare_configs({}, {}, set())


def test_lists_are_tuples():
    """A configuration in memory may have tuples; JSON gives lists back."""
    compare_configs(CONFIG, differing({"network.input_shape": (8, 8)}), set())
    compare_configs({"a": [[1, 2]], "b": []}, {"a": ((1, 2),), "b": ()}, set())


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("seed", 4, "seed was 3 and is 4"),
        ("patience", 3, "patience was None and is 3"),
        ("optimizer.learning_rate", 0.01, "optimizer.learning_rate was 0.001 and is 0.01"),
        ("network.layers.0.units", 20, "network.layers.0.units was 10 and is 20"),
        ("network.input_shape", [64], r"network.input_shape was \[8, 8\] and is \[64\]"),
        ("versions.numpy", "2.1", "versions.numpy was '2.0' and is '2.1'"),
        ("versions.torch", "2.1", "versions.torch was not there and is '2.1'"),
        ("dtype", None, "dtype was not there and is None"),
        ("optimizer", None, "optimizer was not there and is None; optimizer.class was 'Adam' and is not there"),
        ("optimizer", {}, "optimizer was not there and is {}; optimizer.class was 'Adam' and is not there"),
    ],
)
def test_a_difference_is_named_with_both_values(path, value, words):
    with pytest.raises(ResumeError, match=f"resume: the run was begun with other settings: {words}") as caught:
        compare_configs(CONFIG, differing({path: value}), set())
    assert "choose another output_dir" in str(caught.value)


def test_every_difference_is_named_and_nothing_else():
    with pytest.raises(ResumeError) as caught:
        compare_configs(CONFIG, differing({"seed": 4, "network.layers.0.units": 20, "epochs": 9}), {"epochs"})
    assert ": network.layers.0.units was 10 and is 20; seed was 3 and is 4." in str(caught.value)


def test_what_is_free_may_change_in_all_its_parts():
    compare_configs(CONFIG, differing({"epochs": 9, "versions.numpy": "3"}), {"epochs", "versions", "backend"})
    compare_configs(CONFIG, differing({"versions": {}, "backend": "torch"}), {"versions", "backend"})
    with pytest.raises(ResumeError, match="seed"):
        compare_configs(CONFIG, differing({"epochs": 9, "seed": 9}), {"epochs", "see"})


def test_a_setting_that_is_gone_is_named():
    current = differing({})
    del current["seed"]
    with pytest.raises(ResumeError, match="seed was 3 and is not there"):
        compare_configs(CONFIG, current, set())
