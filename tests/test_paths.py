"""Paths mean what a shell user means, everywhere alike: in every function that takes one, and on the command line."""

from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.cli import main
from xpnet.data import load_mnist, read_idx, write_idx
from xpnet.parts import require_path
from xpnet.runs.history import History

RUN = {"dataset": "digits", "epochs": 1, "train_samples": 40, "progress": False}


@pytest.fixture(scope="module")
def trained():
    return xpnet.train("mlp", **RUN)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of its own, and another current folder: nothing may be made there."""
    for name in ("home", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield tmp_path / "home"
    assert not list((tmp_path / "elsewhere").iterdir())


WRITERS = {
    "train": lambda run, path: xpnet.train("mlp", output_dir=path, **RUN),
    "save": lambda run, path: run.save(path),
    "plot": lambda run, path: run.plot(path + ".png"),
    "csv": lambda run, path: run.history.to_csv(path + ".csv"),
    "idx": lambda run, path: write_idx(path + ".gz", np.zeros((1, 2), np.uint8)),
    "exercises": lambda run, path: __import__("xpnet.course", fromlist=["_"]).write_exercises(path),
    "compare": lambda run, path: main(["compare", "--backends", "numpy", *COMMAND, "--output-dir", path]),
    "xpnet train": lambda run, path: main(["train", *COMMAND, "--output-dir", path]),
}
COMMAND = ["--dataset", "digits", "--epochs", "1", "--train-samples", "40"]


@pytest.mark.parametrize("writer", WRITERS)
def test_files_are_written_to_the_home_that_a_shell_means(trained, home, writer):
    WRITERS[writer](trained, "~/thing")
    assert [path.name.partition(".")[0] for path in home.iterdir() if path.name[0] != "."] == ["thing"]


@pytest.mark.slow
def test_files_are_read_from_there_too(trained, home, capsys):
    trained.save(home / "run")
    np.save(home / "images.npy", trained.data.test_images[:3])
    write_idx(home / "labels.idx", np.arange(3, dtype=np.uint8))
    assert xpnet.load("~/run").size == trained.network.size
    assert xpnet.load_run("~/run").history == trained.history
    assert History.from_csv("~/run/history.csv") == trained.history
    assert read_idx("~/labels.idx").shape == (3,)
    assert xpnet.train("mlp", output_dir="~/other", **RUN).folder == home / "other"
    for arguments in (
        ["predict", "~/run", "~/images.npy"],
        ["evaluate", "~/run"],
        ["plot", "~/run", "~/curves.svg"],
        ["export", "~/run", "~/page.html"],
        ["train", *COMMAND, "--output-dir", "~/third"],
    ):
        assert main(arguments) == 0, capsys.readouterr().err
    assert {"curves.svg", "page.html", "third"} <= {path.name for path in home.iterdir()}


READERS = {
    "output_dir": lambda path: xpnet.train("mlp", output_dir=path, **RUN),
    "directory": xpnet.load,
    "data_dir": load_mnist,
    "path": read_idx,
}


@pytest.mark.parametrize("argument", READERS)
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "is not the name of a file"),
        ("a\0b", "is not the name of a file"),
        ("https://example.org/x", "not an address"),
        ("s3://bucket/x", "not an address"),
        (Path("file:///x"), "not an address"),
    ],
)
def test_what_is_no_path_is_named_by_its_argument(home, argument, path, words):
    if argument == "data_dir" and path == "":
        pytest.skip("there an empty path, as an empty variable, means the default")
    with pytest.raises(ValueError, match=f"^{argument}=.*{words}"):
        READERS[argument](path)


@pytest.mark.parametrize("path", [b"run", 3, None, ["run"]])
def test_what_is_no_path_at_all_is_a_type_error(path):
    with pytest.raises(TypeError, match="directory="):
        xpnet.load(path)


@pytest.mark.parametrize(
    "path", ["a b", "ä/ö", "-x", "C:x", "1:2/3", "$HOME", "%20", "~", "~nobody-of-this-name", "a/~"]
)
def test_odd_names_are_names(path, home):
    assert require_path("path", path) == (home if path == "~" else Path(path))


def test_on_the_command_line_a_bad_path_is_one_line(home, capsys):
    for path in ("", "https://example.org/x"):
        assert main(["train", *COMMAND, "--output-dir", path]) == 2
        assert capsys.readouterr().err.startswith("xpnet: output_dir=")
