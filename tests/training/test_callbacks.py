"""Callbacks: objects that see each step and each epoch, and that may end a run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnet
from runs import assert_same, rows
from xpnet import SGD, BatchNorm, Dense, Network, ReLU, StopTraining, fit

NETWORK = Network([Dense(12), BatchNorm(), ReLU(), Dense(10)], (64,))
SETTINGS = {"epochs": 3, "batch_size": 29, "progress": False, "dtype": "float64"}
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Watch:
    def __init__(self):
        self.steps, self.epochs, self.accuracies = [], [], []

    def on_step(self, record):
        self.steps.append(record)

    def on_epoch(self, record, network):
        self.epochs.append((len(self.steps), record))
        self.accuracies.append(network)


def test_an_object_sees_every_step_and_every_epoch(backend, few):
    watch = Watch()
    run = fit(NETWORK, few, backend=backend, callbacks=[watch], **SETTINGS)
    assert [(s.epoch, s.step, s.steps) for s in watch.steps] == [(e, s, 7) for e in range(3) for s in range(7)]
    assert [count for count, _ in watch.epochs] == [7, 14, 21]
    assert rows(xpnet.History([record for _, record in watch.epochs])) == rows(run.history)
    for epoch, record in enumerate(run.history):
        losses = [s.loss for s in watch.steps if s.epoch == epoch]
        accuracies = [s.accuracy for s in watch.steps if s.epoch == epoch]
        # 203 samples in batches of 29 are seven of one size.
        assert np.mean(losses) == pytest.approx(record.train_loss, rel=1e-12)
        assert np.mean(accuracies) == pytest.approx(record.train_accuracy, rel=1e-12)


def test_the_first_loss_is_that_of_the_first_batch(few):
    """The mean loss over ten equally likely classes is log 10, whatever the weights of the layers before are."""
    watch = Watch()
    network = Network([Dense(10, init_weight=xpnet.Constant(0.0))], (64,))
    fit(network, few, callbacks=[watch], **SETTINGS | {"batch_size": 40})
    assert watch.steps[0].loss == pytest.approx(np.log(10.0), rel=1e-12)
    assert [s.steps for s in watch.steps[:6]] == [6] * 6
    # The last batch is a short one of three: its mean is over three.
    assert watch.steps[5].accuracy * 3 == pytest.approx(round(watch.steps[5].accuracy * 3))


def test_a_run_that_is_watched_step_by_step_is_the_same_run(backend, few):
    watched = fit(NETWORK, few, backend=backend, callbacks=[Watch()], **SETTINGS)
    assert_same(watched, fit(NETWORK, few, backend=backend, **SETTINGS))


def test_steps_of_one_sample_are_told_in_blocks(few):
    watch = Watch()
    network = Network([Dense(12), ReLU(), Dense(10)], (64,))
    run = fit(network, few, callbacks=[watch], **SETTINGS | {"batch_size": 1, "optimizer": SGD(0.01), "epochs": 1})
    assert [s.step for s in watch.steps] == [0, 1, 2, 3, 4]
    weights = np.asarray([50, 50, 50, 50, 3]) / 203
    assert weights @ [s.loss for s in watch.steps] == pytest.approx(run.history[0].train_loss, rel=1e-12)


@pytest.mark.slow
def test_a_step_may_end_the_run_after_its_epoch_which_is_saved_and_resumes(few, tmp_path):
    class Enough:
        steps = 0

        def on_step(self, record):
            self.steps += 1
            if (record.epoch, record.step) == (1, 2):
                raise StopTraining

    enough = Enough()
    run = fit(NETWORK, few, callbacks=[enough], output_dir=tmp_path, **SETTINGS)
    assert (len(run.history), enough.steps) == (2, 10)
    assert xpnet.load_run(tmp_path, data=few).history == run.history
    assert_same(fit(NETWORK, few, output_dir=tmp_path, resume=True, **SETTINGS), fit(NETWORK, few, **SETTINGS))


def test_what_is_no_callback_is_refused_before_any_work(few):
    class Keras:
        def on_epoch_end(self, epoch, logs=None):
            """Behave as Keras expects."""

    with pytest.raises(TypeError, match=r"^callbacks: Watch is a class: give an object of it, Watch\(\)"):
        fit(NETWORK, few, callbacks=[Watch], **SETTINGS)
    with pytest.raises(TypeError, match=r"has no method on_epoch or on_step or on_end$"):
        fit(NETWORK, few, callbacks=[Keras()], **SETTINGS)


@pytest.mark.parametrize("error", [None, RuntimeError("mine")])
def test_the_end_is_told_between_the_results_and_the_pictures(few, tmp_path, error):
    class End:
        def on_end(self, run):
            self.files, self.run = {path.name for path in run.folder.glob("[!.]*.*")}, run
            if error:
                raise error

    end = End()
    if error:
        with pytest.raises(RuntimeError, match="mine"):
            fit(NETWORK, few, callbacks=[end], output_dir=tmp_path, **SETTINGS)
    else:
        assert fit(NETWORK, few, callbacks=[end], output_dir=tmp_path, **SETTINGS) is end.run
    assert end.files == {"config.json", "history.csv", "model.safetensors"}
    assert len(list(tmp_path.glob("*.png"))) == 3


def run_example(name, *arguments):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_example_of_tensorboard_writes_what_tensorboard_reads(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pytest.importorskip("torch")
    assert "test accuracy 0.8" in run_example("watch_in_tensorboard.py", "--logdir", str(tmp_path), "--quick")
    events = reading.EventAccumulator(str(tmp_path))
    events.Reload()
    losses = events.Scalars("step/loss")
    assert [event.step for event in losses] == list(range(2 * 57))
    assert losses[-1].value < losses[0].value
    assert len(events.Scalars("epoch/test_accuracy")) == 2
    assert "layers.0.weight" in events.Tags()["histograms"]


@pytest.mark.slow
def test_the_example_of_a_live_plot_draws_a_point_an_epoch(tmp_path):
    printed = run_example("live_plot.py", "--quick", "--output", str(tmp_path / "live.png"))
    assert printed.startswith("3 epochs, test accuracy 0.8")
    assert (tmp_path / "live.png").stat().st_size > 5000
