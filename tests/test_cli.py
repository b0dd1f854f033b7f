"""The command line: its output, its exit codes, and its calls of public functions."""

import dataclasses
import datetime
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.shell_completion import ShellComplete

import xpnet
from xpnet import Dense, Network
from xpnet.cli import cli, main
from xpnet.runs.checkpoint import RunDirectory
from xpnet.runs.run import FILES, Run
from xpnet.training.loop import Loop
from xpnet.training.step import Step


@pytest.fixture
def run_dir(tmp_path, digits):
    folder = tmp_path / "run"
    xpnet.train("mlp", dataset=digits, epochs=2, output_dir=folder, progress=False)
    return folder


def test_train_writes_to_a_folder_of_its_own_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--dataset", "digits", "--epochs", "2", "--seed", "3"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mlp-digits-2")
    out = capsys.readouterr().out
    assert "mlp on digits with numpy (float32, seed 3): test accuracy 0." in out
    assert str(folder.relative_to(tmp_path)) in out
    assert all(name in out for name in ("config.json", "history.csv", "model.safetensors", "curves.png"))


def test_train_json_is_the_only_thing_on_standard_output(tmp_path, capsys):
    args = ["train", "--recipe", "deep", "--dataset", "digits", "--epochs", "2", "--train-samples", "100"]
    args += ["--hidden-sizes", "12,7", "--batch-size", "20", "--learning-rate", "0.01", "--dtype", "float64"]
    args += ["--validation-fraction", "0.2", "--backend", "array_api_strict", "--threads", "1"]
    assert main([*args, "--output-dir", str(tmp_path / "r"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    config = document["config"]
    assert (config["recipe"], config["backend"], config["dtype"]) == ("deep", "array_api_strict", "float64")
    assert [layer.get("units") for layer in config["network"]["layers"] if layer["class"] == "Dense"] == [12, 7, 10]
    assert (config["batch_size"], config["optimizer"]["learning_rate"]) == (20, 0.01)
    assert len(document["history"]) == 2
    assert document["history"][1]["val_loss"] > 0
    assert f"{tmp_path / 'r'}/model.safetensors" in document["files"]


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_in_the_pictures_leaves_the_printed_result(as_json, tmp_path, monkeypatch, capsys):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(xpnet.plots, "confusion_matrix", interrupt)
    folder = tmp_path / "run"
    arguments = ["train", "--dataset", "digits", "--epochs", "1", "--output-dir", str(folder)]
    assert main([*arguments, *(["--json"] if as_json else [])]) == 130
    out, told = capsys.readouterr()
    accuracy = xpnet.load_run(folder).evaluation.accuracy
    if as_json:
        assert json.loads(out)["test_accuracy"] == accuracy
    else:
        assert re.fullmatch(rf"mlp on digits .*: test accuracy {accuracy:.4f} after 1 epoch, .*\n", out)
    assert told == f"xpnet: this was the last epoch, and the run is in {folder}\n\nxpnet: interrupted\n"


def test_python_and_the_command_line_give_the_same(tmp_path, capsys, digits):
    main(["train", "--dataset", "digits", "--epochs", "2", "--output-dir", str(tmp_path / "r"), "--json"])
    history = json.loads(capsys.readouterr().out)["history"]
    run = xpnet.train(dataset=digits, epochs=2, progress=False)
    assert [row["test_loss"] for row in history] == run.history.column("test_loss")


@pytest.mark.slow
def test_resume_goes_on(tmp_path, capsys):
    args = ["train", "--recipe", "tutorial", "--dataset", "digits", "--train-samples", "40"]
    args += ["--output-dir", str(tmp_path / "r")]
    assert main([*args, "--epochs", "2"]) == 0
    assert main([*args, "--epochs", "4"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*args, "--epochs", "4", "--resume", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["history"]) == 4


def test_evaluate(run_dir, capsys, digits):
    assert main(["evaluate", str(run_dir), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    predictions = xpnet.load(run_dir).predict(digits.test_images)
    assert document["accuracy"] == pytest.approx(np.mean(predictions == digits.test_labels))
    assert main(["evaluate", str(run_dir), "--backend", "array_api_strict", "--dataset", "digits"]) == 0
    assert "precision" in capsys.readouterr().out


def test_predict(run_dir, tmp_path, capsys, digits):
    expected = xpnet.load(run_dir).predict(digits.test_images[:7]).tolist()
    np.save(tmp_path / "images.npy", digits.test_images[:7])
    xpnet.data.write_idx(tmp_path / "images.gz", digits.test_images[:7])
    for name in ("images.npy", "images.gz"):
        assert main(["predict", str(run_dir), str(tmp_path / name)]) == 0
        assert [int(line) for line in capsys.readouterr().out.split()] == expected
    assert main(["predict", str(run_dir), str(tmp_path / "images.npy"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == expected


def test_backends(capsys):
    assert main(["backends"]) == 0
    text = capsys.readouterr().out
    assert "numpy " in text
    assert main(["backends", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["backends"]}
    assert rows["numpy"]["usable"]
    assert all(row["usable"] or row["reason"] for row in rows.values())


def test_recipes_says_what_each_is_and_does_by_default(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line for line in lines if not line.startswith(" ")]
    assert names == ["tutorial", "corrected", "mlp", "deep", "cnn", "best"]
    assert "  --epochs 100; --learning-rate 0.005; --hidden-sizes 100" in lines
    assert max(map(len, lines)) < 80
    assert main(["recipes", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["recipes"]}
    assert (rows["tutorial"]["seed"], rows["tutorial"]["dtype"], rows["tutorial"]["train_samples"]) == (
        1,
        "float64",
        1000,
    )
    assert rows["deep"]["settings"]["hidden_sizes"] == [512, 512, 256]
    assert rows["corrected"]["what"] == "The tutorial with true gradients"


MINE = """
from dataclasses import dataclass
import xpnet
from xpnet.recipes import Plan, recipe

@dataclass(frozen=True)
class Doubled(xpnet.ReLU):
    pass

@recipe(seed=3)
def {name}(data, *, epochs=1, width=7):
    "A recipe of one's own."
    layers = [xpnet.Dense(width), Doubled(), xpnet.Dense(data.classes)]
    return Plan(xpnet.Network(layers, (64,), data.pixel_max), epochs=epochs)
"""


@pytest.fixture
def own_recipe(tmp_path, monkeypatch):
    """Write a module with a recipe and a layer to the current folder; forget them afterwards."""
    from xpnet.recipes import RECIPES

    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts_of_mine.py").write_text(MINE.format(name="wide"))
    yield "parts_of_mine"
    RECIPES.pop("wide", None)
    sys.modules.pop("parts_of_mine", None)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["", ".py"])
def test_a_module_of_ones_own_brings_its_layers_and_recipes(own_recipe, ending, tmp_path, capsys, digits):
    mine = ["--import", own_recipe + ending]
    args = ["train", *mine, "--recipe", "wide", "--dataset", "digits", "--set", "width=9", "--output-dir", "r"]
    assert main([*args, "--json"]) == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert [layer["class"] for layer in config["network"]["layers"]] == ["Dense", "Doubled", "Dense"]
    assert (config["network"]["layers"][0]["units"], config["seed"]) == (9, 3)
    np.save("images.npy", digits.test_images[:3])
    # A process that has not seen the module.
    command = [sys.executable, "-m", "xpnet", "predict", "r", "images.npy"]
    done = subprocess.run([*command, *mine], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, len(done.stdout.split())) == (0, 3), done.stderr
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "Doubled" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--import", "no_such_module"], "import='no_such_module': cannot be imported: ModuleNotFoundError"),
        (["--import", "broken.py"], "import='broken.py': cannot be imported: ZeroDivisionError"),
        (["--set", "depth"], "'depth': must be a name and a value"),
        (["--set", "depth=3"], "depth=3: the recipe 'mlp' does not use it"),
    ],
)
def test_what_is_wrong_with_ones_own_is_one_line(args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("1 / 0")
    assert main(["train", "--dataset", "digits", *args]) == 2
    assert words in one_line(capsys)


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        (["train", "--recipe"], "", ["tutorial", "corrected", "mlp", "deep", "cnn", "best"]),
        (["train", "--recipe"], "c", ["corrected", "cnn"]),
        (["train", "--dataset"], "d", ["digits"]),
        (["evaluate", "--dtype"], "", ["float32", "float64"]),
        (["compare", "--backends"], "numpy,n", ["numpy,numpy"]),
        (["ladder", "--recipes"], "mlp,t", ["mlp,tutorial"]),
        ([], "re", ["recipes"]),
    ],
)
def test_tab_completes(words, incomplete, expected):
    completer = ShellComplete(cli, {}, "xpnet", "_XPNET_COMPLETE")
    assert [item.value for item in completer.get_completions(words, incomplete)] == expected


def test_the_shell_asks_the_program_what_completes():
    asked = {"_XPNET_COMPLETE": "bash_complete", "COMP_WORDS": "xpnet train --recipe b", "COMP_CWORD": "3"}
    code = "from xpnet.cli import entry; entry()"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("plain,best\n", "")


def test_every_command_shows_an_example():
    for name, command in cli.commands.items():
        assert f"xpnet {name}" in command.epilog


@pytest.mark.slow
def test_runs_that_begin_in_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    class Noon(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 29, 12, 0, 0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("xpnet.training.fit.datetime.datetime", Noon)
    args = ["train", "--dataset", "digits", "--train-samples", "50", "--epochs", "1"]
    assert [main([*args, "--seed", seed]) for seed in "123"] == [0, 0, 0]
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == [f"mlp-digits-20261129-120000{ending}" for ending in ("", "-2", "-3")]


def test_fetch_finds_what_is_there(mnist, capsys, monkeypatch):
    from xpnet.data import datasets

    monkeypatch.setattr(datasets.download, "fetch", lambda *args: pytest.fail("asked the network"))
    folder = os.environ.get("XPNET_DATA_DIR") or "../shared/data/mnist"
    assert main(["fetch", "--data-dir", folder, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["files"]) == 4


def test_compare(tmp_path, capsys):
    args = ["compare", "--recipe", "tutorial", "--dataset", "digits", "--epochs", "2", "--train-samples", "50"]
    args += ["--backends", "numpy,array_api_strict", "--output-dir", str(tmp_path)]
    assert main(args) == 0
    table = capsys.readouterr().out
    assert "curves differ" in table
    assert max(map(len, table.partition("written")[0].splitlines())) < 80
    rows = json.loads((tmp_path / "compare.json").read_text())
    assert [row["backend"] for row in rows] == ["numpy", "array_api_strict"]
    assert rows[1]["largest_difference"] < 1e-10
    assert rows[1]["predictions_that_differ"] == 0
    assert (tmp_path / "compare.png").stat().st_size > 1000
    assert main([*args[:-2], "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2


def test_ladder(tmp_path, capsys):
    args = [
        "ladder",
        "--dataset",
        "digits",
        "--epochs",
        "1",
        "--recipes",
        "tutorial,mlp",
        "--output-dir",
        str(tmp_path),
    ]
    assert main(args) == 0
    text = capsys.readouterr().out
    assert "parameters" in text
    assert max(map(len, text.partition("written")[0].splitlines())) < 80
    assert "7,510" in text
    rows = json.loads((tmp_path / "ladder.json").read_text())
    assert [(row["recipe"], row["parameters"]) for row in rows] == [("tutorial", 7400), ("mlp", 7510)]
    assert rows[0]["val_accuracy"] is None
    assert rows[1]["val_accuracy"] > 0.3
    assert (tmp_path / "ladder.png").stat().st_size > 1000
    assert main([*args[:-2], "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2


def test_plot(run_dir, tmp_path):
    assert main(["plot", str(run_dir), str(tmp_path / "c.svg")]) == 0
    assert b"<svg" in (tmp_path / "c.svg").read_bytes()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", "--recipe", "nope"], "recipe='nope'"),
        (["train", "--recipe", "tutorial", "--batch-size", "4"], "does not use it"),
        (["train", "--dataset", "nope"], "dataset='nope'"),
        (["train", "--backend", "tpu"], "backend='tpu'"),
        (["train", "--dataset", "digits", "--dtype", "int8"], "dtype='int8'"),
        (["train", "--epochs", "0"], "epochs=0"),
        (["train", "--epochs", "x"], "--epochs"),
        (["train", "--hidden-sizes", "3,x"], "3,x"),
        (["train", "--learning-rate", "-1"], "learning_rate=-1.0"),
        (["train", "--resume"], "output_dir"),
        (["train", "--nonsense"], "--nonsense"),
        (["evaluate", "nowhere"], "'nowhere' is not the folder of a run"),
        (["predict", "nowhere", "x.npy"], "'nowhere' is not the folder of a run"),
        (["ladder", "--dataset", "digits", "--recipes", "mlp,nope"], "recipe='nope'"),
        (["nonsense"], "nonsense"),
        (["train", "--epochs"], "--epochs"),
        (["predict", "nowhere"], "IMAGES"),
        (["train", "--dataset", "digits", "--train-samples", "1001"], "train_samples=1001"),
        (["train", "--dataset", "digits", "--seed", "-1"], "seed=-1"),
        (["train", "--dataset", "digits", "--threads", "0"], "threads=0"),
        (["train", "--dataset", "digits", "--patience", "0"], "patience=0"),
        (["train", "--dataset", "digits", "--validation-fraction", "1"], "validation_fraction=1.0"),
        (["train", "--dataset", "digits", "--batch-size", "0"], "batch_size=0"),
        (["train", "--dataset", "digits", "--hidden-sizes", "0"], "hidden_sizes=0"),
        (["train", "--dataset", "digits", "--learning-rate", "nan"], "learning_rate=nan"),
        (["plot", "nowhere", "c.png"], "'nowhere' is not the folder of a run"),
        (["compare", "--dataset", "digits", "--recipe", "nope", "--output-dir", "new"], "recipe='nope'"),
        (["compare", "--dataset", "digits", "--backends", "numpy,nope", "--output-dir", "new"], "backend='nope'"),
        (["compare", "--dataset", "digits", "--epochs", "0", "--output-dir", "new"], "epochs=0"),
        (["ladder", "--dataset", "digits", "--recipes", "mlp,nope", "--output-dir", "new"], "recipe='nope'"),
        (["ladder", "--dataset", "digits", "--backend", "nope", "--output-dir", "new"], "backend='nope'"),
        (["ladder", "--dataset", "nope", "--output-dir", "new"], "dataset='nope'"),
        (["ladder", "--dataset", "digits", "--threads", "0", "--output-dir", "new"], "threads=0"),
        (["ladder", "--dataset", "digits", "--seed", "-1", "--output-dir", "new"], "seed=-1"),
        (["ladder", "--dataset", "digits", "--dtype", "f", "--output-dir", "new"], "dtype='f'"),
        (["compare", "--dataset", "digits", "--train-samples", "0", "--output-dir", "new"], "train_samples=0"),
        (["compare", "--dataset", "digits", "--train-samples", "1001", "--output-dir", "new"], "train_samples=1001"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(args, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    assert words in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def one_line(capsys):
    """Return the one-line message for a user's mistake."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("xpnet: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that the tests only read."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    data = xpnet.load_dataset("digits").first(50)
    xpnet.train("mlp", dataset=data, epochs=1, output_dir=folder, progress=False)
    return folder


HUGE = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 64), }".ljust(117)
IMAGES = {
    "empty.npy": b"",
    "text.npy": b"not npy",
    "zip.npy": b"PK\x03\x04 and no more",
    "huge.npy": HUGE + b"\n" + bytes(64),
    "more than huge.npy": HUGE.replace(b"99999999999", b"9" * 30) + b"\n",
    "objects.npy": np.asarray([{}], object),
    "words.npy": np.asarray(["seven"]),
    "complex.npy": np.zeros((1, 64), complex),
    "a number.npy": np.float64(7.0),
    "too few numbers.npy": np.zeros(63),
    "wrong shape.npy": np.zeros((2, 9, 9)),
    "nan.npy": np.full((1, 64), np.nan),
    "negative.npy": np.full((1, 64), -1),
    "too bright.npy": np.full((1, 8, 8), 255, np.uint8),
    "empty.idx": b"",
    "text.idx": b"not idx",
    "cut.gz": b"\x1f\x8b\x08",
    "no dot": b"\0\0\x08\1\0\0\0\1",
}


@pytest.mark.parametrize("name", [*IMAGES, "missing.npy", "missing.idx", "."])
def test_images_that_cannot_be_read_are_a_users_mistake(trained, tmp_path, capsys, name):
    if isinstance(IMAGES.get(name), bytes):
        (tmp_path / name).write_bytes(IMAGES[name])
    elif name in IMAGES:
        np.save(tmp_path / name, IMAGES[name], allow_pickle=True)
    assert main(["predict", str(trained), str(tmp_path / name)]) == 2
    assert "images" in one_line(capsys)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 8, 8)),
        np.zeros((1, 64), np.float16),
        np.zeros((1, 64), ">f8"),
        np.zeros((1, 64), np.longdouble),
        np.full((1, 8, 8, 1), 16, np.int64),
        np.zeros((64, 3)).T,
    ],
    ids=lambda a: f"{a.dtype.str}{a.shape}",
)
def test_images_of_every_kind_of_number_are_read(trained, tmp_path, capsys, images):
    np.save(tmp_path / "images.npy", images)
    assert main(["predict", str(trained), str(tmp_path / "images.npy"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["labels"]) == len(images)


def damage_config(folder):
    (folder / "config.json").write_text("[" * 100_000)


def exchange_config(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"units": 100', '"units": 100000000000'))


def strip_config(folder):
    (folder / "config.json").write_text('{"network": {}}')


def damage_model(folder):
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(999)


def remove_model(folder):
    (folder / "model.safetensors").unlink()
    shutil.rmtree(folder / "checkpoints")


def remove_config(folder):
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    "damage", [damage_config, exchange_config, strip_config, damage_model, remove_model, remove_config]
)
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_damaged_run_is_named(trained, tmp_path, capsys, command, damage):
    folder = shutil.copytree(trained, tmp_path / "run")
    damage(folder)
    np.save(tmp_path / "images.npy", np.zeros((1, 64)))
    assert main([command, str(folder), *([str(tmp_path / "images.npy")] if command == "predict" else [])]) == 2
    assert str(folder) in one_line(capsys)


def test_plot_prints_one_document(trained, tmp_path, capsys):
    assert main(["plot", str(trained), str(tmp_path / "c.svg"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": str(trained), "picture": str(tmp_path / "c.svg")}
    assert "numpy, float32, seed 0" in (tmp_path / "c.svg").read_text()  # the run's own title


def test_what_is_done_is_shown_and_saved_when_the_rest_is_interrupted(tmp_path, capsys, monkeypatch):
    from xpnet import survey

    def interrupted(recipe="mlp", **settings):
        if recipe == "deep":
            raise KeyboardInterrupt
        return xpnet.train(recipe, **settings)

    monkeypatch.setattr(survey, "train", interrupted)
    folder = tmp_path / "l"
    args = ["ladder", "--dataset", "digits", "--epochs", "1", "--recipes", " mlp, deep", "--output-dir", str(folder)]
    assert main([*args, "--json"]) == 130
    document = json.loads(capsys.readouterr().out)
    assert ([row["recipe"] for row in document["rows"]], document["complete"]) == (["mlp"], False)
    assert (folder / "ladder.json").is_file()


@pytest.mark.parametrize("wrong", [["--threads", "0"], ["--seed", "-1"], ["--dtype", "int8"], ["--train-samples", "0"]])
def test_what_needs_no_data_is_refused_before_it_is_fetched(capsys, monkeypatch, wrong):
    monkeypatch.setattr("xpnet.training.train.load_dataset", lambda *_, **__: pytest.fail("it is fetched"))
    assert main(["train", *wrong]) == 2
    assert one_line(capsys).startswith(f"xpnet: {wrong[0][2:].replace('-', '_')}=")


def test_to_resume_where_nothing_is_begins_and_says_so(tmp_path, capsys):
    args = ["train", "--dataset", "digits", "--epochs", "1", "--train-samples", "50", "--resume"]
    assert main([*args, "--output-dir", str(tmp_path / "new")]) == 0
    assert "holds no run yet: beginning one" in capsys.readouterr().err


def test_only_what_was_written_is_listed(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    args = ["train", "--dataset", "digits", "--epochs", "1", "--train-samples", "50", "--output-dir", str(tmp_path)]
    assert main([*args, "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert sorted(Path(file).name for file in files) == sorted(FILES)


def test_too_little_memory_has_a_message(capsys, monkeypatch):
    monkeypatch.setattr("xpnet.cli.list_backends", lambda: (_ for _ in ()).throw(MemoryError()))
    assert main(["backends"]) == 1
    assert "not enough memory" in one_line(capsys)


def test_a_run_on_data_of_ones_own_is_evaluated_by_python_alone(tmp_path, capsys, digits):
    run = xpnet.fit(Network([Dense(10)], (64,)), dataclasses.replace(digits, name="mine"), epochs=1, progress=False)
    run.save(tmp_path / "r")
    assert main(["evaluate", str(tmp_path / "r")]) == 2
    assert "was trained on 'mine', which is none of digits, mnist: name one by --dataset" in one_line(capsys)


def test_a_run_that_cannot_be_drawn_is_named(trained, tmp_path, capsys):
    folder = shutil.copytree(trained, tmp_path / "run")
    for picture, words in (("c.docx", "ending"), ("missing/c.png", "no folder")):
        assert main(["plot", str(folder), str(tmp_path / picture)]) == 2
        assert words in one_line(capsys)
    (folder / "history.csv").write_text("epoch,loss\n")
    assert main(["plot", str(folder), str(tmp_path / "c.png")]) == 2
    assert "history.csv: not a history" in one_line(capsys)
    (folder / "history.csv").unlink()
    assert main(["plot", str(folder), str(tmp_path / "c.png")]) == 2
    assert "the history cannot be read" in one_line(capsys)
    strip_config(folder)
    assert main(["plot", str(folder), str(tmp_path / "c.png")]) == 2
    assert "not the configuration of a run" in one_line(capsys)


@pytest.mark.parametrize("command", ["train", "compare", "ladder"])
@pytest.mark.parametrize("place", ["file", "file/below", "/proc/xpnet"])
def test_a_folder_that_cannot_be_written_to_is_named_before_any_work(tmp_path, capsys, monkeypatch, command, place):
    if place.startswith("/proc") and not sys.platform.startswith("linux"):
        pytest.skip("no such folder here")
    monkeypatch.setattr(Step, "run_epoch", lambda *arguments: pytest.fail("the work has begun"))
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / place  # an absolute path stays unchanged
    assert main([command, "--dataset", "digits", "--epochs", "1", "--output-dir", str(folder)]) == 2
    assert f"output_dir='{folder}'" in one_line(capsys)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_in_use_is_named(tmp_path, capsys):
    with RunDirectory(tmp_path).lock():
        assert main(["train", "--dataset", "digits", "--output-dir", str(tmp_path)]) == 2
    assert "another run is writing there" in one_line(capsys)


def test_an_unknown_backend_is_named_before_the_first_of_several_runs(capsys, monkeypatch):
    monkeypatch.setattr(Step, "run_epoch", lambda *arguments: pytest.fail("the work has begun"))
    assert main(["compare", "--dataset", "digits", "--backends", "numpy,nope"]) == 2
    assert "backend='nope'" in one_line(capsys)


@pytest.mark.parametrize("command", [["fetch"], ["train", "--dataset", "mnist"]], ids=" ".join)
def test_data_that_cannot_be_had_is_exit_code_1(command, tmp_path, capsys):
    """An error that is not the user's mistake, such as one of the network."""
    assert main([*command, "--data-dir", str(tmp_path)]) == 1
    assert "XPNET_OFFLINE is set" in one_line(capsys)


def test_an_impossible_size_is_a_users_mistake(capsys):
    args = ["train", "--dataset", "digits", "--hidden-sizes", f"{10**15}"]
    assert main(args) == 2
    assert "Dense(1000000000000000): 1,000,000,000,000,000 numbers a sample" in one_line(capsys)


FULL = """
import resource, sys
from xpnet.cli import cli, main
resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a limit of POSIX")
@pytest.mark.slow
def test_a_full_disk_is_exit_code_1(tmp_path):
    args = ["train", "--dataset", "digits", "--epochs", "2", "--output-dir", str(tmp_path)]
    result = subprocess.run([sys.executable, "-c", FULL, *args], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "cannot write" in result.stderr
    assert "File too large" in result.stderr


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_accident():
    process = subprocess.Popen(
        [sys.executable, "-m", "xpnet", "backends"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(600), error) == (1, "")


def test_a_diverging_run_is_exit_code_1(tmp_path, capsys):
    args = ["train", "--recipe", "tutorial", "--dataset", "digits", "--learning-rate", "1e200"]
    with np.errstate(all="ignore"):
        assert main([*args, "--output-dir", str(tmp_path / "r")]) == 1
    assert "try a smaller one" in capsys.readouterr().err


def test_the_module_is_the_program(tmp_path):
    result = subprocess.run([sys.executable, "-m", "xpnet", "--version"], capture_output=True, text=True, check=True)
    assert xpnet.__version__ in result.stdout
    result = subprocess.run([sys.executable, "-m", "xpnet", "train", "--recipe", "x"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_closed_standard_output_is_no_error():
    command = ["sh", "-c", 'exec "$0" -m xpnet backends >&-', sys.executable]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("heeds_interrupts")
@pytest.mark.slow
def test_ctrl_c_saves_and_exits_with_130(tmp_path):
    args = ["train", "--recipe=tutorial", "--dataset=digits", "--epochs=5000", f"--output-dir={tmp_path / 'r'}"]
    with subprocess.Popen([sys.executable, "-m", "xpnet", *args], stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 600
            while not (tmp_path / "r" / "history.csv").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=600)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert f"xpnet: --output-dir {tmp_path / 'r'} --resume continues after the last epoch" in err
    done = len(xpnet.History.from_csv(tmp_path / "r" / "history.csv"))
    settings = {"dataset": "digits", "epochs": done + 1, "progress": False}
    resumed = xpnet.train("tutorial", output_dir=tmp_path / "r", resume=True, **settings)
    whole = xpnet.train("tutorial", **settings)
    for column in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        assert resumed.history.column(column) == whole.history.column(column)
    for name, array in whole.network.named_arrays().items():
        np.testing.assert_array_equal(resumed.network.named_arrays()[name], array)


@pytest.mark.usefixtures("heeds_interrupts")
def test_ctrl_c_in_the_last_epoch_keeps_the_run(tmp_path, capsys, monkeypatch):
    advance = Loop.advance

    def interrupted(loop, snapshot):
        os.kill(os.getpid(), signal.SIGINT)
        return advance(loop, snapshot)

    monkeypatch.setattr(Loop, "advance", interrupted)
    folder = str(tmp_path / "r")
    args = ["train", "--dataset", "digits", "--train-samples", "50", "--epochs", "1", "--output-dir", folder]
    assert main(args) == 130
    assert f"this was the last epoch, and the run is in {folder}" in capsys.readouterr().err
    assert main(["evaluate", folder]) == 0


@pytest.mark.slow
def test_a_terminal_sees_the_header_the_epochs_and_no_other_sees_anything(tmp_path):
    """A pseudo-terminal as standard error."""
    pty = pytest.importorskip("pty")
    args = ["train", "--dataset", "digits", "--epochs", "2", "--output-dir"]
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "xpnet", *args, str(tmp_path / "a")], stdout=subprocess.PIPE, stderr=secondary
    )
    os.close(secondary)
    seen = b""
    while True:
        try:
            piece = os.read(primary, 4096)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    assert process.wait(600) == 0
    process.stdout.close()
    os.close(primary)
    text = seen.decode()
    assert "recipe mlp, 7,510 parameters, dataset digits (1,000 training images)" in text
    assert "backend numpy on cpu, float32, seed 0" in text
    epoch = next(line for line in text.splitlines() if "epoch   0" in line)
    assert re.search(r"epoch   0  train \d\.\d{4} +\d+\.\d\d%  val \d\.\d{4} +\d+\.\d\d%  test ", epoch)
    quiet = subprocess.run([sys.executable, "-m", "xpnet", *args, str(tmp_path / "b")], capture_output=True, check=True)
    assert quiet.stderr == b""


def test_run_is_what_the_library_returns(digits):
    assert isinstance(xpnet.train("mlp", dataset=digits, train_samples=40, epochs=1, progress=False), Run)
