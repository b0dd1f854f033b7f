"""File systems of real life: without locks, without fsync for folders, full at any byte, gone under way."""

import builtins
import errno
import os
import shutil
import warnings

import numpy as np
import pytest

import xpnet
from xpnet import BusyError, Dense, Network, ReLU, files
from xpnet.runs.checkpoint import RunDirectory

fcntl = pytest.importorskip("fcntl")

NETWORK = Network([Dense(3), ReLU(), Dense(10)], (64,))


def train(folder, digits, **more):
    settings = {"epochs": 3, "batch_size": 10, "progress": False, "output_dir": folder, "resume": True}
    return xpnet.fit(NETWORK, digits.first(40), **settings | more)


def same(run, other):
    ours, theirs = run.network.named_arrays(), other.network.named_arrays()
    return all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(autouse=True)
def _quick_pictures(monkeypatch):
    for name in ("plot", "plot_confusion", "plot_mistakes"):
        monkeypatch.setattr(xpnet.Run, name, lambda run, path: files.write_atomically(path, b"a picture" * 50))


@pytest.fixture(scope="module")
def undisturbed(digits):
    return train(None, digits, resume=False)


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP", "ENOSYS"])
def test_a_file_system_without_locks_costs_a_warning(tmp_path, digits, undisturbed, monkeypatch, name):
    def refuse(descriptor, operation):
        raise OSError(getattr(errno, name), "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):  # the second goes on with the first: nothing is left that would keep it out
        with pytest.warns(UserWarning, match="has no locks"):
            assert same(train(tmp_path, digits), undisturbed)


def test_an_interrupted_lock_is_asked_for_again(tmp_path, digits, undisturbed, monkeypatch):
    flock, calls = fcntl.flock, []

    def interrupt(descriptor, operation):
        calls.append(operation)
        if len(calls) == 1:
            raise InterruptedError(errno.EINTR, "Interrupted system call")
        return flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", interrupt)
    assert same(train(tmp_path, digits), undisturbed)


def test_a_held_lock_is_still_a_held_lock(tmp_path, digits):
    with RunDirectory(tmp_path).lock(), pytest.raises(BusyError):
        train(tmp_path, digits)


@pytest.mark.parametrize("name", ["EINVAL", "EACCES", "EBADF", "EIO", "ENOTSUP", "EPERM"])
def test_folders_that_cannot_be_flushed_cost_nothing(tmp_path, digits, undisturbed, monkeypatch, name):
    fsync = os.fsync

    def refuse(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(getattr(errno, name), "not of folders")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    assert same(train(tmp_path, digits), undisturbed)


class Disk:
    """A disk with room for some bytes: what does not fit is cut off, as the system does."""

    def __init__(self, room):
        self.room, self.written = room, 0

    def open(self, *arguments, **settings):
        file, disk = builtins.open(*arguments, **settings), self  # noqa: SIM115

        class File:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                file.close()

            def __getattr__(self, name):
                return getattr(file, name)

            def write(self, data):
                fits = max(0, min(len(data), disk.room - disk.written))
                disk.written += fits
                file.write(data[:fits])
                if fits < len(data):
                    raise OSError(errno.ENOSPC, "No space left on device")

        return File()


@pytest.mark.slow
def test_a_disk_that_fills_up_at_any_byte_costs_no_finished_epoch(tmp_path, digits, undisturbed, monkeypatch):
    whole = Disk(10**9)
    monkeypatch.setattr(files, "open", whole.open, raising=False)
    train(tmp_path / "whole", digits)
    told, ends = "", {"full": 0, "pictures": 0}
    rooms = [*np.linspace(0, whole.written - 1, 20).astype(int).tolist(), whole.written - 400, whole.written - 1000]
    for room in rooms:
        folder = tmp_path / str(room)
        monkeypatch.setattr(files, "open", Disk(room).open)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pictures
            try:
                run = train(folder, digits)
            except OSError as error:
                told, run = f"{error.errno} {error}", None
            if run is None:
                assert told.startswith(f"{errno.ENOSPC} ")
                assert f"cannot write {folder}" in told
                ends["full"] += 1
            else:
                assert same(run, undisturbed)
                assert same(xpnet.load_run(folder), undisturbed)
                ends["pictures"] += 1
        monkeypatch.setattr(files, "open", Disk(10**9).open)
        assert same(train(folder, digits), undisturbed)
        assert not list(folder.rglob(f"*{files.TEMPORARY_SUFFIX}"))
        shutil.rmtree(folder)
    assert min(ends.values()) > 0


@pytest.mark.parametrize("gone", ["", "checkpoints", "config.json", ".lock", "history.csv"])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_what_is_deleted_under_way_is_made_again(tmp_path, digits, undisturbed, gone, epoch):
    def delete(record):
        if record.epoch == epoch:
            victim = tmp_path / "run" / gone
            shutil.rmtree(victim) if victim.is_dir() else victim.unlink()

    run = train(tmp_path / "run", digits, callbacks=[delete])
    assert same(run, undisturbed)
    assert same(xpnet.load_run(tmp_path / "run"), undisturbed)


def test_a_folder_deleted_under_way_can_be_opened_after_the_next_epoch(tmp_path, digits):
    def delete(record):
        if record.epoch == 0:
            shutil.rmtree(tmp_path / "run")
        if record.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", digits, callbacks=[delete])
    with pytest.warns(UserWarning, match="2 epochs"):
        xpnet.load(tmp_path / "run")
