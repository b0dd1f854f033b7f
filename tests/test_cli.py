"""The command line: what it prints where, its exit codes, and that it calls what a user would call."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import xpnet
from xpnet.cli import main
from xpnet.training.run import Run


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


def test_python_and_the_command_line_give_the_same(tmp_path, capsys, digits):
    main(["train", "--dataset", "digits", "--epochs", "2", "--output-dir", str(tmp_path / "r"), "--json"])
    history = json.loads(capsys.readouterr().out)["history"]
    run = xpnet.train(dataset=digits, epochs=2, progress=False)
    assert [row["test_loss"] for row in history] == run.history.column("test_loss")


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
    assert "largest difference" in capsys.readouterr().out
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
        (["train", "--resume"], "--output-dir"),
        (["train", "--nonsense"], "--nonsense"),
        (["evaluate", "nowhere"], "'nowhere' is not the folder of a run"),
        (["predict", "nowhere", "x.npy"], "'nowhere' is not the folder of a run"),
        (["ladder", "--dataset", "digits", "--recipes", "mlp,nope"], "recipe='nope'"),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(args, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_images_that_cannot_be_read_are_a_users_mistake(run_dir, tmp_path, capsys):
    (tmp_path / "bad.idx").write_bytes(b"not idx")
    (tmp_path / "bad.npy").write_bytes(b"not npy")
    for name in ("bad.idx", "bad.npy", "missing.npy"):
        assert main(["predict", str(run_dir), str(tmp_path / name)]) == 2
        assert name in capsys.readouterr().err


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


@pytest.mark.usefixtures("heeds_interrupts")
def test_ctrl_c_saves_and_exits_with_130(tmp_path):
    args = ["train", "--recipe=tutorial", "--dataset=digits", "--epochs=5000", f"--output-dir={tmp_path / 'r'}"]
    with subprocess.Popen([sys.executable, "-m", "xpnet", *args], stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 120
            while not (tmp_path / "r" / "history.csv").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "interrupted" in err
    done = len(xpnet.History.from_csv(tmp_path / "r" / "history.csv"))
    resumed = xpnet.train(
        "tutorial", dataset="digits", epochs=done + 1, output_dir=tmp_path / "r", resume=True, progress=False
    )
    assert len(resumed.history) == done + 1


def test_a_terminal_sees_the_header_the_epochs_and_no_other_sees_anything(tmp_path):
    """A pseudo-terminal as standard error."""
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
    assert process.wait(30) == 0
    process.stdout.close()
    os.close(primary)
    text = seen.decode()
    assert "recipe mlp, 7,510 parameters, dataset digits (1,000 training images)" in text
    assert "backend numpy on cpu, float32, seed 0" in text
    assert "epoch   0   train: loss" in text
    assert "validation: loss" in text
    quiet = subprocess.run([sys.executable, "-m", "xpnet", *args, str(tmp_path / "b")], capture_output=True, check=True)
    assert quiet.stderr == b""


def test_run_is_what_the_library_returns(digits):
    assert isinstance(xpnet.train("mlp", dataset=digits, train_samples=40, epochs=1, progress=False), Run)
