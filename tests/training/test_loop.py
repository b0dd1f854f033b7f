"""The loop: determinism, checkpoints, resuming, early stopping, interruptions, and what is written."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import xpnet
from runs import Stop, assert_same, elsewhere_but, stop_after
from xpnet import SGD, Adam, Cosine, Dense, Dropout, Network, ReLU, fit, train
from xpnet.recipes import RECIPES
from xpnet.runs.checkpoint import RunDirectory

QUIET = {"progress": False}


def arrays(run):
    return run.network.named_arrays()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"loss": "mse"}, r"^loss='mse': must be an instance of Loss, such as SoftmaxCrossEntropy\(\)"),
        ({"loss": ""}, "^loss='': must be"),
        ({"optimizer": Adam}, r"^optimizer=<class .*: must be an instance of Optimizer, such as Adam\(1e-3\)"),
        ({"optimizer": 0.1}, "^optimizer=0.1: must be"),
        ({"schedule": Cosine}, "^schedule=<class .*: must be an instance of Schedule"),
        ({"callbacks": print}, r"^callbacks=<built-in function print>: must be a list of functions, such as \[print\]"),
        ({"callbacks": [print, 3]}, "^callbacks: 3 is not a function, and has no method on_epoch or on_step or on_end"),
        ({"network": Dense(10)}, "^network=Dense.*: must be an instance of Network"),
        ({"data": "digits"}, "^data='digits': must be an instance of Dataset"),
    ],
)
def test_what_is_no_part_of_training_is_named_before_any_work(tmp_path, few, wrong, words):
    records = []
    settings = {
        "network": Network([Dense(10)], (64,)),
        "data": few,
        "callbacks": [records.append],
        "epochs": 1,
        **QUIET,
    }
    with pytest.raises(TypeError, match=words):
        fit(**settings | {"output_dir": tmp_path / "run"} | wrong)
    assert not records
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match=r"^output_dir=3: must be a path"):
        fit(**settings, output_dir=3)
    with pytest.raises(ValueError, match=r"^resume=True: needs the output_dir"):
        fit(**settings, output_dir=True, resume=True)


def test_a_new_folder_is_named_after_the_run(tmp_path, monkeypatch, few):
    monkeypatch.chdir(tmp_path)
    data = dataclasses.replace(few, name="my own/digits")
    run = fit(Network([Dense(10)], (64,)), data, epochs=1, recipe="plain", output_dir=True, **QUIET)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("plain-my-own-digits-2")
    assert run.folder == Path("runs") / folder.name
    assert xpnet.load(run.folder).predict(few.test_images).tolist() == run.evaluation.predictions.tolist()


@pytest.mark.parametrize("recipe", elsewhere_but(RECIPES, "mlp", "cnn"))
def test_the_same_seed_gives_the_same_run_bit_by_bit(backend, few, recipe):
    settings = {"dataset": few.first(100), "epochs": 2, "backend": backend, **QUIET}
    first = train(recipe, seed=3, **settings)
    np.random.seed(0)
    random.random()
    other = train(recipe, seed=4, **settings)
    assert_same(first, train(recipe, seed=3, **settings))
    assert any(np.any(arrays(first)[k] != arrays(other)[k]) for k in arrays(first))


def test_no_global_generator_is_touched(digits):
    np.random.seed(5)
    before = np.random.get_state()[1].tolist(), random.getstate()
    train("tutorial", dataset=digits, epochs=1, train_samples=20, **QUIET)
    train("best", dataset=digits, epochs=1, train_samples=40, **QUIET)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.slow
def test_resuming_ends_where_an_uninterrupted_run_does(tmp_path, digits, recipe):
    settings = {"dataset": digits.first(120), "epochs": 4, "seed": 2, **QUIET}
    whole = train(recipe, **settings)
    with pytest.raises(Stop):
        train(recipe, output_dir=tmp_path, callbacks=[stop_after(1)], **settings)
    resumed = train(recipe, output_dir=tmp_path, resume=True, **settings)
    assert_same(whole, resumed)
    assert len(resumed.history) == 4


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9, nesterov=True), xpnet.RMSprop(), xpnet.AdamW()], ids=str)
@pytest.mark.slow
def test_resuming_restores_every_optimizer(tmp_path, digits, optimizer):
    net = Network([Dense(9), ReLU(), Dropout(0.3), Dense(10)], (64,))
    settings = {"optimizer": optimizer, "schedule": Cosine(5, warm_up=2.0), "epochs": 5, "batch_size": 7, **QUIET}
    settings |= {"validation_fraction": 0.25, "patience": 2}
    data = digits.first(60)
    whole = fit(net, data, **settings)
    for epoch in range(min(3, len(whole.history) - 1)):
        with pytest.raises(Stop):
            fit(net, data, output_dir=tmp_path, resume=True, callbacks=[stop_after(epoch)], **settings)
    assert_same(whole, fit(net, data, output_dir=tmp_path, resume=True, **settings))


@pytest.mark.slow
def test_resuming_a_finished_run_changes_nothing_and_more_epochs_go_on(tmp_path, digits):
    net = Network([Dense(10)], (64,))
    data = digits.first(50)
    done = fit(net, data, epochs=2, output_dir=tmp_path, **QUIET)
    assert_same(done, fit(net, data, epochs=2, output_dir=tmp_path, resume=True, **QUIET))
    longer = fit(net, data, epochs=5, output_dir=tmp_path, resume=True, **QUIET)
    assert_same(longer, fit(net, data, epochs=5, **QUIET))


@pytest.mark.slow
def test_resuming_on_another_backend(backend, tmp_path, few):
    settings = {"dataset": few.first(80), "epochs": 3, "dtype": "float64", **QUIET}
    with pytest.raises(Stop):
        train("deep", backend="numpy", output_dir=tmp_path, callbacks=[stop_after(0)], **settings)
    resumed = train("deep", backend=backend, output_dir=tmp_path, resume=True, **settings)
    whole = train("deep", backend="numpy", **settings)
    np.testing.assert_allclose(resumed.history.column("test_loss"), whole.history.column("test_loss"), rtol=1e-8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 0.5}, "optimizer.learning_rate was 0.003 and is 0.5"),
        ({"seed": 9}, "seed was 0 and is 9"),
        ({"hidden_sizes": (5,)}, "network.layers"),
        ({"train_samples": 49}, "train_samples was 50 and is 49"),
        ({"recipe": "deep"}, "recipe was 'mlp' and is 'deep'"),
        ({"dtype": "float64"}, "dtype was 'float32' and is 'float64'"),
    ],
)
@pytest.mark.slow
def test_a_different_configuration_is_not_resumed(tmp_path, digits, change, words):
    settings = {"recipe": "mlp", "dataset": digits, "train_samples": 50, "epochs": 1, **QUIET}
    train(output_dir=tmp_path, **settings)
    with pytest.raises(xpnet.ResumeError, match=words):
        train(output_dir=tmp_path, resume=True, **settings | change)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path, digits):
    settings = {"dataset": digits, "train_samples": 50, "epochs": 1, "output_dir": tmp_path, **QUIET}
    train(**settings)
    with pytest.raises(ValueError, match="holds a run already"):
        train(**settings)


def test_two_runs_do_not_share_a_folder(tmp_path, digits):
    with RunDirectory(tmp_path).lock(), pytest.raises(xpnet.BusyError, match="another run is writing"):
        train(dataset=digits, epochs=1, output_dir=tmp_path, **QUIET)


def test_what_is_written(tmp_path, digits):
    run = train("mlp", dataset=digits, epochs=3, output_dir=tmp_path / "new" / "run", **QUIET)
    folder = tmp_path / "new" / "run"
    names = {"config.json", "history.csv", "model.safetensors", "curves.png", "confusion.png", "mistakes.png"}
    assert {path.name for path in folder.iterdir()} - {".lock"} == names | {"checkpoints"}
    assert len(list((folder / "checkpoints").iterdir())) == 2
    assert xpnet.History.from_csv(folder / "history.csv") == run.history
    assert (folder / "history.csv").read_text().splitlines()[0] == (
        "epoch,train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy,seconds"
    )
    config = json.loads((folder / "config.json").read_text())
    assert (config["recipe"], config["dataset"], config["backend"]) == ("mlp", "digits", "numpy")
    assert all((folder / name).read_bytes()[:4] == b"\x89PNG" for name in names if name.endswith("png"))


def test_saved_weights_open_on_every_backend(backend, tmp_path, digits):
    run = train("best", dataset=digits.first(100), epochs=1, **QUIET)
    run.save(tmp_path)
    network = xpnet.load(tmp_path, backend=backend)
    labels = network.predict(backend.asarray(digits.test_images[:50]))
    np.testing.assert_array_equal(backend.to_numpy(labels), run.evaluation.predictions[:50])


def test_early_stopping_returns_the_best_weights(digits):
    net = Network([Dense(60), ReLU(), Dense(10)], (64,))
    run = fit(
        net,
        digits.first(200),
        optimizer=Adam(0.03),
        epochs=60,
        batch_size=20,
        validation_fraction=0.3,
        patience=4,
        **QUIET,
    )
    accuracies = run.history.column("val_accuracy")
    best = int(np.argmax(accuracies))
    assert len(run.history) == best + 1 + 4 < 60
    assert run.evaluation.accuracy == run.history[best].test_accuracy
    assert len({record.test_loss for record in run.history}) > 4


def test_without_patience_the_last_weights_are_returned(digits):
    run = fit(Network([Dense(10)], (64,)), digits.first(90), epochs=4, validation_fraction=0.2, **QUIET)
    assert run.evaluation.accuracy == run.history[-1].test_accuracy


def test_nothing_is_selected_on_the_test_set(digits):
    """Other test images change the test numbers and nothing else."""
    from dataclasses import replace

    other = replace(digits, test_images=digits.test_images[:50], test_labels=digits.test_labels[:50])
    settings = {"epochs": 3, "train_samples": 100, **QUIET}
    a, b = train("mlp", dataset=digits, **settings), train("mlp", dataset=other, **settings)
    assert a.history.column("val_loss") == b.history.column("val_loss")
    for name, array in arrays(a).items():
        np.testing.assert_array_equal(array, arrays(b)[name])


def test_a_loss_that_overflows_stops_the_run_and_keeps_the_rest(tmp_path, digits):
    net = Network([Dense(20), ReLU(), Dense(10)], (64,))
    settings = {"loss": xpnet.SquaredError(), "epochs": 50, "output_dir": tmp_path, **QUIET}
    with (
        np.errstate(all="ignore"),
        pytest.raises(xpnet.DivergedError, match=r"epoch \d+: .* learning_rate=30"),
    ):
        fit(net, digits.first(100), optimizer=SGD(30.0), **settings)
    assert (tmp_path / "config.json").exists()


def test_callbacks_get_every_record(digits):
    seen = []
    run = train("mlp", dataset=digits, train_samples=60, epochs=3, callbacks=[seen.append], **QUIET)
    assert seen == list(run.history)


def test_mistakes_of_the_caller_are_named(digits):
    net = Network([Dense(10)], (64,))
    for settings, words in (
        ({"patience": 3}, "patience=3: early stopping needs a validation set"),
        ({"schedule": Cosine(3), "epochs": 4}, "covers only 3"),
        ({"monitor": "test_accuracy", "patience": 1, "validation_fraction": 0.1}, "monitor='test_accuracy'"),
    ):
        with pytest.raises(ValueError, match=words):
            fit(net, digits, **settings, **QUIET)
    for network, words in (
        (Network([Dense(10)], (63,)), r"samples of shape \(63,\)"),
        (Network([Dense(9)], (64,)), r"end it with Dense\(10\)"),
    ):
        with pytest.raises(ValueError, match=words):
            fit(network, digits, **QUIET)
    with pytest.raises(TypeError, match="network="):
        fit([Dense(10)], digits, **QUIET)
    with pytest.raises(TypeError, match="data="):
        fit(net, digits.train_images, **QUIET)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_named(tmp_path, digits):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="output_dir="):
        train(dataset=digits, output_dir=tmp_path / "run", **QUIET)


def test_a_file_in_the_way_is_named(tmp_path, digits):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ValueError, match="output_dir="):
        train(dataset=digits, output_dir=tmp_path / "run", **QUIET)
    assert (tmp_path / "run").read_text() == "mine"


SCRIPT = """
    import sys, xpnet
    xpnet.train("mlp", dataset="digits", train_samples=100, epochs=25, patience=25, seed=6, output_dir=sys.argv[1],
                resume=True, progress=False)
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder)], stderr=subprocess.PIPE, text=True
    )


def finish(process):
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error


@pytest.mark.no_cover  # what it runs are other processes
@pytest.mark.thorough
def test_killed_runs_resume_to_the_same_end(tmp_path):
    """A killed run must always be resumable, and end with the same bits as an undisturbed one."""
    finish(start(tmp_path / "quiet"))
    rng = np.random.default_rng(0)
    for _ in range(12):
        process = start(tmp_path / "killed")
        # From the middle of the imports to well into the epochs.
        time.sleep(0.2 + 0.6 * rng.random())
        process.kill()
        process.communicate()
    finish(start(tmp_path / "killed"))
    a, b = (xpnet.load(tmp_path / name).named_arrays() for name in ("quiet", "killed"))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.usefixtures("heeds_interrupts")
def test_an_interrupt_in_the_last_epoch_keeps_the_run_and_stops_what_comes_after(tmp_path, few):
    def interrupt(record):
        if record.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train("mlp", dataset=few, epochs=2, output_dir=tmp_path, callbacks=(c for c in [interrupt]), **QUIET)
    whole = train("mlp", dataset=few, epochs=2, **QUIET)
    np.testing.assert_array_equal(xpnet.load(tmp_path).logits(few.test_images), whole.network.logits(few.test_images))


@pytest.mark.usefixtures("heeds_interrupts")
def test_an_interrupt_finishes_the_epoch_and_the_run_resumes(tmp_path, digits):
    settings = {"dataset": digits.first(100), "epochs": 6, "patience": 6, **QUIET}

    def interrupt(record):
        if record.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train("mlp", output_dir=tmp_path, callbacks=[interrupt], **settings)
    assert len(xpnet.History.from_csv(tmp_path / "history.csv")) == 3
    resumed = train("mlp", output_dir=tmp_path, resume=True, **settings)
    assert_same(resumed, train("mlp", **settings))
