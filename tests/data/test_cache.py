"""The cache: good files stay, bad ones are set aside, and any number of processes may fill it at once."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xpnet.data import DataError, DownloadError, cache, download, fetch_mnist, load_mnist, mnist, mnist_folder

FIRST = "train-images-idx3-ubyte.gz"


@pytest.fixture
def filled(tmp_path, little_mnist):
    """A folder with four good files."""
    for name, data in little_mnist.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def state(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in [*folder.iterdir()]}


def test_good_files_are_read_without_a_write_or_a_socket(filled, no_sockets, monkeypatch):
    monkeypatch.delenv("XPNET_OFFLINE")
    for path in filled.iterdir():
        path.chmod(0o444)
    filled.chmod(0o555)
    before, of_folder = state(filled), filled.stat().st_mtime_ns
    data = load_mnist(filled)
    assert data.name == "mnist"
    assert data.train_images.shape == (23, 6, 5)
    assert data.test_labels.shape == (11,)
    assert state(filled) == before
    assert filled.stat().st_mtime_ns == of_folder
    filled.chmod(0o755)


@pytest.mark.parametrize(
    "damage", [bytes, lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda data: data * 2]
)
def test_a_bad_file_is_set_aside_and_fetched_again(damage, filled, web, online, little_mnist, monkeypatch):
    monkeypatch.setattr(download, "MIRRORS", (web.mirror("good"),))
    bad = damage(little_mnist[FIRST]) if damage is not bytes else b""
    (filled / FIRST).write_bytes(bad)
    with pytest.warns(UserWarning, match=rf"{FIRST} was damaged: kept as .*{FIRST}\.bad, fetched anew"):
        load_mnist(filled)
    assert web.hits == [f"/good/{FIRST}"]
    assert {path.name: path.read_bytes() for path in filled.iterdir()} == {**little_mnist, FIRST + ".bad": bad}


def test_what_was_set_aside_before_is_kept(filled, web, online, little_mnist, monkeypatch):
    monkeypatch.setattr(download, "MIRRORS", (web.mirror("good"),))
    (filled / (FIRST + ".bad")).write_bytes(b"earlier")
    (filled / FIRST).write_bytes(b"later")
    with pytest.warns(UserWarning, match="was damaged"):
        load_mnist(filled)
    bad = [path.read_bytes() for path in filled.glob("*.bad")]
    assert sorted(bad) == [b"earlier", b"later"]


def test_a_bad_file_is_fetched_once_and_then_named(filled, web, online, monkeypatch):
    monkeypatch.setattr(download, "MIRRORS", (web.mirror("wrong"),))
    (filled / FIRST).write_bytes(b"bad")
    with pytest.raises(DownloadError, match=rf"cannot fetch {FIRST}(.|\n)*another SHA-256"):
        load_mnist(filled)
    assert web.hits == [f"/wrong/{FIRST}"]
    # It keeps its name and place until a good file is there.
    assert (filled / FIRST).read_bytes() == b"bad"
    assert not [*filled.glob("*.bad")]


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_is_not_a_file_is_set_aside_too(kind, filled, web, online, monkeypatch):
    monkeypatch.setattr(download, "MIRRORS", (web.mirror("good"),))
    (filled / FIRST).unlink()
    if kind == "folder":
        (filled / FIRST).mkdir()
    else:
        (filled / FIRST).symlink_to(filled / FIRST)
    with pytest.warns(UserWarning, match="was damaged"):
        load_mnist(filled)
    assert (filled / FIRST).is_file()


def test_a_file_that_another_process_has_just_mended_is_left_alone(filled, web, online, little_mnist, monkeypatch):
    """The rename that sets a bad file aside may come just after another process has put a good one there."""
    monkeypatch.setattr(download, "MIRRORS", (web.mirror("good"),))
    looked_bad = iter([None])
    read_good = cache.read_good
    monkeypatch.setattr(cache, "read_good", lambda *args: next(looked_bad, read_good(*args)))
    load_mnist(filled)
    assert {path.name: path.read_bytes() for path in filled.iterdir()} == little_mnist


def test_offline_opens_no_socket_and_says_what_helps(tmp_path, little_mnist, no_sockets):
    for state in ("not there", "damaged"):
        with pytest.raises(DownloadError, match=f"{FIRST} is {state}, and XPNET_OFFLINE is set") as caught:
            load_mnist(tmp_path)
        for way_out in (str(tmp_path), "data_dir", "XPNET_DATA_DIR", "dataset='digits'"):
            assert way_out in str(caught.value)
        (tmp_path / FIRST).write_bytes(b"bad")
    assert (tmp_path / FIRST).read_bytes() == b"bad"


@pytest.mark.parametrize("value", ["0", ""])
def test_offline_can_be_switched_off(value, tmp_path, web, online, little_mnist, monkeypatch):
    monkeypatch.setattr(download, "MIRRORS", (web.mirror("good"),))
    monkeypatch.setenv("XPNET_OFFLINE", value)
    load_mnist(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path, little_mnist, online):
    (tmp_path / "file").write_bytes(b"")
    folder = tmp_path / "file" / "mnist"
    with pytest.raises(DataError, match=f"cannot keep {FIRST} in {folder}: .*data_dir or XPNET_DATA_DIR"):
        load_mnist(folder)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_to_is_named(code, tmp_path, web, online, little_mnist, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(code, "the system's words")

    monkeypatch.setattr(download, "MIRRORS", (web.mirror("good"),))
    monkeypatch.setattr(cache, "write_atomically", refuse)
    with pytest.raises(DataError, match=f"cannot keep {FIRST} in {tmp_path}: the system's words"):
        load_mnist(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_cannot_be_read_is_named(filled, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=f"cannot read {filled / FIRST}: Permission denied"):
        load_mnist(filled)


def test_where_the_files_are(tmp_path, filled, monkeypatch):
    monkeypatch.setenv("XPNET_DATA_DIR", str(filled))
    assert mnist_folder() == filled
    assert mnist_folder(tmp_path / "other") == tmp_path / "other"
    assert fetch_mnist() == filled
    monkeypatch.setenv("XPNET_DATA_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert mnist_folder().name == "mnist"
    assert "xpnet" in mnist_folder().parts
    if sys.platform == "linux":
        assert mnist_folder() == tmp_path / "cache" / "xpnet" / "mnist"
    assert mnist_folder("~") == Path.home()


PROCESS = """
import json, sys, warnings
from xpnet.data import cache, datasets, download, mnist
warnings.simplefilter("ignore", UserWarning)
files, mirror, folder = json.loads(sys.argv[1])
mnist.MNIST_FILES = {name: cache.Published(*entry) for name, entry in files.items()}
download.MIRRORS = (mirror,)
print("ready", flush=True)
sys.stdin.readline()
print(len(datasets.load_mnist(folder).train_labels))
"""


@pytest.mark.parametrize("damaged", [False, True], ids=["empty", "with a bad file"])
@pytest.mark.thorough
def test_eight_processes_at_once(damaged, web, online, little_mnist, tmp_path):
    folder = tmp_path / "mnist"
    if damaged:
        folder.mkdir()
        (folder / FIRST).write_bytes(b"bad")
    argument = json.dumps([mnist.MNIST_FILES, web.mirror("good"), str(folder)])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([sys.executable, "-c", PROCESS, argument], **pipes) for _ in range(8)]
    assert [process.stdout.readline() for process in running] == ["ready\n"] * 8
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=600) for process in running] == [("23\n", "")] * 8
    expected = dict(little_mnist)
    if damaged:
        expected[FIRST + ".bad"] = b"bad"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected


def test_the_contents_that_are_used_are_those_that_were_checked(filled, little_mnist, monkeypatch):
    """A file that changes after it was checked changes nothing."""
    read_good = cache.read_good

    def read_then_spoil(path, *args):
        contents = read_good(path, *args)
        path.write_bytes(b"changed")
        return contents

    images = load_mnist(filled).train_images
    monkeypatch.setattr(cache, "read_good", read_then_spoil)
    np.testing.assert_array_equal(load_mnist(filled).train_images, images)
