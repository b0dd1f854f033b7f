"""Resuming: whatever stops a run, resuming it gives the result of a run that was never stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import xpnet
import xpnet.plots
from runs import Stop, assert_same, rows, stop_after
from xpnet import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    CheckpointError,
    Conv2D,
    Cosine,
    Dense,
    Dropout,
    Flatten,
    Network,
    RandomShift,
    ReLU,
    ResumeError,
    RMSprop,
    Schedule,
    StepDecay,
    WarmUp,
    fit,
    train,
)
from xpnet.runs.checkpoint import RunDirectory, load_arrays, save_arrays

DENSE = Network([Dense(9), ReLU(), Dropout(0.3), Dense(10)], (64,))
# Everything with state or random numbers: shifts, running statistics, dropout.
IMAGES = Network(
    [RandomShift(1), Conv2D(3, 3, padding=1, bias=False), BatchNorm(), ReLU(), Flatten(), Dropout(0.2), Dense(10)],
    (8, 8),
)
QUIET = {"progress": False}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Skip the parts that take most of the time of such small runs, and are tested elsewhere."""
    for name in ("training_curves", "confusion_matrix", "mistakes", "save"):
        monkeypatch.setattr(xpnet.plots, name, lambda *arguments, **settings: None)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def newest(folder):
    return max((folder / "checkpoints").iterdir())


# The very same end --------------------------------------------------------------------------------------------------

WAYS = {
    "plain, sample by sample": {"optimizer": SGD(0.05), "batch_size": 1},
    "tutorial's one stream": {"optimizer": SGD(0.05), "batch_size": 1, "network": Network([Dense(10)], (64,))},
    "momentum, steps": {"optimizer": SGD(0.1, momentum=0.9), "schedule": StepDecay(2, 0.3)},
    "Nesterov, decay": {"optimizer": SGD(0.1, 0.9, nesterov=True, weight_decay=0.01), "schedule": WarmUp(2.5, 0.2)},
    "RMSprop": {"optimizer": RMSprop(1e-3, weight_decay=0.01), "schedule": Schedule()},
    "Adam, cosine": {"optimizer": Adam(0.01, 0.01), "schedule": Cosine(5, floor=0.1), "network": IMAGES},
    "AdamW, all": {"optimizer": AdamW(0.01), "schedule": Cosine(5, warm_up=1.5), "network": IMAGES, "patience": 2},
    "stopped early": {"optimizer": AdamW(0.05), "network": IMAGES, "patience": 1, "monitor": "val_loss"},
    "float64": {"optimizer": RMSprop(1e-2), "dtype": "float64", "network": IMAGES, "patience": 3},
}


def settings_of(way):
    settings = {"network": DENSE, "epochs": 5, "batch_size": 8, "seed": 11, **QUIET} | WAYS[way]
    if "patience" in settings:
        settings["validation_fraction"] = 0.3
    if way == "tutorial's one stream":
        settings["sequential"] = True
    return settings


@pytest.mark.parametrize("way", WAYS)
def test_stopped_after_every_epoch_it_ends_as_if_never_stopped(tmp_path, digits, way):
    settings = settings_of(way) | {"data": digits.first(50)}
    whole = fit(**settings)
    for epoch in range(len(whole.history)):
        with pytest.raises(Stop):
            fit(output_dir=tmp_path, resume=True, callbacks=[stop_after(epoch)], **settings)
    resumed = fit(output_dir=tmp_path, resume=True, **settings)
    assert_same(whole, resumed)
    assert rows(xpnet.History.from_csv(tmp_path / "history.csv")) == rows(whole.history)
    if way == "stopped early":
        assert len(whole.history) < 5
    np.testing.assert_array_equal(
        xpnet.load(tmp_path).logits(digits.test_images), whole.network.logits(digits.test_images)
    )


@pytest.mark.elsewhere
@pytest.mark.parametrize("way", ["AdamW, all", "plain, sample by sample"])
def test_bitwise_on_every_backend(backend, tmp_path, few, way):
    settings = settings_of(way) | {"data": few.first(50), "epochs": 4, "backend": backend}
    whole = fit(**settings)
    with pytest.raises(Stop):
        fit(output_dir=tmp_path, callbacks=[stop_after(1)], **settings)
    assert_same(whole, fit(output_dir=tmp_path, resume=True, **settings))


@pytest.mark.elsewhere
@pytest.mark.parametrize("first", [True, False], ids=["begun on NumPy", "ended on NumPy"])
def test_another_backend_goes_on_within_rounding(backend, tmp_path, few, first):
    """All that a run keeps (parameters, moments, running statistics) is understood elsewhere."""
    settings = settings_of("AdamW, all") | {"data": few.first(50), "dtype": "float64"}
    spec, then = ("numpy", backend) if first else (backend, "numpy")
    with pytest.raises(Stop):
        fit(backend=spec, output_dir=tmp_path, callbacks=[stop_after(1)], **settings)
    resumed = fit(backend=then, output_dir=tmp_path, resume=True, **settings)
    whole = fit(backend="numpy", **settings)
    assert len(resumed.history) == len(whole.history)
    for name in ("train_loss", "val_loss", "test_loss"):
        np.testing.assert_allclose(resumed.history.column(name), whole.history.column(name), rtol=1e-8)
    for name, array in whole.network.named_arrays().items():
        np.testing.assert_allclose(resumed.network.named_arrays()[name], array, rtol=1e-6, atol=1e-9, err_msg=name)


def test_a_run_that_stopped_early_does_not_go_on(tmp_path, digits):
    settings = settings_of("stopped early") | {"data": digits.first(50), "epochs": 9}
    done = fit(output_dir=tmp_path, **settings)
    assert len(done.history) < 9
    before = contents(tmp_path / "checkpoints")
    assert_same(done, fit(output_dir=tmp_path, resume=True, **settings))
    assert contents(tmp_path / "checkpoints") == before


def test_what_happens_in_a_callback_changes_nothing(backend, few):
    """Between two epochs, evaluation, other runs and other random numbers change nothing."""
    settings = settings_of("momentum, steps") | {"data": few.first(40), "epochs": 3, "backend": backend}
    undisturbed = fit(**settings)

    def disturb(record):
        xpnet.evaluate(undisturbed.network, few)
        np.random.random(3)
        if record.epoch == 1:
            fit(DENSE, few.first(7), epochs=1, seed=3, backend=backend, **QUIET)

    assert_same(undisturbed, fit(callbacks=[disturb], **settings))


# Damaged checkpoints ------------------------------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-99] ^= 4
    path.write_bytes(data)


@pytest.fixture
def stopped(tmp_path, digits):
    """A run that was stopped after epoch 2 of 5: its folder, its settings, and the expected result."""
    settings = settings_of("AdamW, all") | {"data": digits.first(50), "patience": 5}
    with pytest.raises(Stop):
        fit(output_dir=tmp_path / "run", callbacks=[stop_after(2)], **settings)
    return tmp_path / "run", settings


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_checkpoint_costs_an_epoch_and_a_warning(stopped, damage):
    folder, settings = stopped
    damage(newest(folder))
    with pytest.warns(UserWarning, match=r"epoch-00002\.safetensors: .*using epoch-00001\.safetensors") as caught:
        resumed = fit(output_dir=folder, resume=True, **settings)
    assert len(caught) == 1
    assert_same(resumed, fit(**settings))
    # The damaged one was made anew on the way, and was not counted among those to keep.
    for path in (folder / "checkpoints").iterdir():
        load_arrays(path)


@pytest.mark.parametrize("resume", [True, False])
def test_where_all_are_damaged_nothing_is_begun_anew(stopped, resume):
    folder, settings = stopped
    for path in (folder / "checkpoints").iterdir():
        cut(path)
    before = contents(folder)
    with pytest.raises(CheckpointError, match=r"no checkpoint can be read: .*Move them away"):
        fit(output_dir=folder, resume=resume, **settings)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays, meta: arrays.pop("params.1.weight"), "params.1.weight is missing"),
        (lambda arrays, meta: arrays.pop("best.params.1.weight"), "best.params.1.weight"),
        (lambda arrays, meta: arrays.pop("state.2.running_mean"), "state.2.running_mean"),
        (lambda arrays, meta: arrays.pop("moments.1.weight.second"), "moments.1.weight.second"),
        (lambda arrays, meta: arrays.update({"params.1.weight": np.zeros(3)}), r"params.1.weight has shape \(3,\)"),
        (lambda arrays, meta: arrays.update(theta=np.zeros(3)), "theta is not part of this network"),
        (
            lambda arrays, meta: arrays.update({"moments.1.weight.first": np.zeros(3)}),
            r"moments.1.weight.first has shape \(3,\)",
        ),
        (lambda arrays, meta: arrays.update({"state.2.running_mean": np.zeros(1)}), r"running_mean has shape \(1,\)"),
        (lambda arrays, meta: meta.pop("history"), "history"),
        (lambda arrays, meta: meta["history"][0].pop("seconds"), "columns"),
        (lambda arrays, meta: meta.update(best={"epoch": 3, "score": 1.0}), "score"),
    ],
)
def test_a_checkpoint_of_another_version_is_refused_by_name(stopped, change, words):
    """Whole, and of the same configuration, but not what this version writes."""
    folder, settings = stopped
    arrays, meta = load_arrays(newest(folder))
    change(arrays, meta["meta"])
    save_arrays(newest(folder), arrays, meta)
    before = contents(folder)
    with pytest.raises(CheckpointError, match=f"output_dir=.*not of this version of xpnet: .*{words}"):
        fit(output_dir=folder, resume=True, **settings)
    assert contents(folder) == before


# Runs that cannot be resumed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimizer": Adam(0.01)}, "optimizer.class was 'AdamW' and is 'Adam'"),
        ({"schedule": Cosine(6, warm_up=1.5)}, "schedule.epochs was 5 and is 6"),
        ({"schedule": None}, "schedule.class was 'Cosine' and is 'Schedule'"),
        ({"patience": 4}, "stopping.patience was 5 and is 4"),
        ({"monitor": "val_loss"}, "stopping.monitor was 'val_accuracy' and is 'val_loss'"),
        ({"loss": xpnet.SquaredError()}, "loss.class was 'SoftmaxCrossEntropy' and is 'SquaredError'"),
        ({"batch_size": 7}, "batch_size was 8 and is 7"),
        ({"validation_fraction": 0.2}, "validation_fraction was 0.3 and is 0.2"),
        ({"sequential": True, "network": DENSE}, "streams was 'Streams' and is 'SequentialStreams'"),
        ({"recipe": "another"}, "recipe was 'custom' and is 'another'"),
    ],
)
def test_each_difference_is_named_and_the_folder_left_alone(stopped, change, words):
    folder, settings = stopped
    before = contents(folder)
    with pytest.raises(ResumeError, match=words):
        fit(output_dir=folder, resume=True, **settings | change)
    assert contents(folder) == before


def test_a_changed_pixel_is_noticed(stopped, digits):
    from dataclasses import replace

    folder, settings = stopped
    images = digits.test_images.copy()
    images[5, 3, 3] ^= 1
    with pytest.raises(ResumeError, match="data_fingerprint was"):
        fit(output_dir=folder, resume=True, **settings | {"data": replace(settings["data"], test_images=images)})


def test_fewer_epochs_than_were_done_are_refused(stopped):
    folder, settings = stopped
    before = contents(folder)
    with pytest.raises(ResumeError, match=r"epochs=2: the run in .* has done 3 already"):
        fit(output_dir=folder, resume=True, **settings | {"epochs": 2})
    assert contents(folder) == before
    assert len(fit(output_dir=folder, resume=True, **settings | {"epochs": 3}).history) == 3


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_without_checkpoints_is_not_overwritten(tmp_path, digits, resume):
    """As `Run.save` leaves it."""
    fit(DENSE, digits.first(30), epochs=1, **QUIET).save(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="holds a run without checkpoints"):
        fit(DENSE, digits.first(30), seed=5, output_dir=tmp_path, resume=resume, **QUIET)
    assert contents(tmp_path) == before


def test_resuming_in_an_empty_folder_begins(tmp_path, digits):
    settings = {"network": DENSE, "data": digits.first(30), "epochs": 2, **QUIET}
    assert_same(fit(output_dir=tmp_path / "new", resume=True, **settings), fit(**settings))


def test_a_second_run_is_refused_while_the_first_goes_on(tmp_path, digits):
    """The folder of the first is not touched, and its end is the same."""
    settings = {"network": DENSE, "data": digits.first(30), "epochs": 3, **QUIET}

    def intrude(record):
        before = contents(tmp_path)
        for resume in (True, False):
            with pytest.raises(xpnet.BusyError, match="another run is writing there"):
                fit(output_dir=tmp_path, resume=resume, **settings)
        assert contents(tmp_path) == before

    assert_same(fit(output_dir=tmp_path, callbacks=[intrude], **settings), fit(**settings))


# Interruptions ------------------------------------------------------------------------------------------------------


def test_a_second_interrupt_breaks_in_at_once_and_nothing_is_lost(stopped):
    folder, settings = stopped

    def impatient(record):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("still here")

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(output_dir=folder, resume=True, callbacks=[impatient], **settings)
    finally:
        signal.signal(signal.SIGINT, before)
    assert_same(fit(output_dir=folder, resume=True, **settings), fit(**settings))


FULL = """
    import resource, sys
    import xpnet

    def fill(record):
        if record.epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))

    try:
        xpnet.train("mlp", dataset="digits", train_samples=60, epochs=4, patience=4, output_dir=sys.argv[1],
                    progress=False, callbacks=[fill])
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a limit of POSIX")
def test_a_disk_that_fills_up_stops_the_run_by_name_and_it_goes_on_later(tmp_path, digits):
    folder = tmp_path / "run"
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(folder)], capture_output=True, text=True, check=True
    )
    assert f"cannot write {folder / 'checkpoints' / 'epoch-00002.safetensors'}: File too large" in out.stdout
    assert out.stderr == ""
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "epoch-00000.safetensors",
        "epoch-00001.safetensors",
    ]
    assert len(xpnet.History.from_csv(folder / "history.csv")) == 2
    settings = {"dataset": digits.first(60), "epochs": 4, "patience": 4, **QUIET}
    assert_same(train("mlp", output_dir=folder, resume=True, **settings), train("mlp", **settings))


# Costs --------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_holds_what_is_needed_and_little_more(tmp_path, digits):
    """Parameters now and then, two moments, the state: four numbers a parameter, and a page of JSON."""
    fit(IMAGES, digits.first(40), epochs=4, output_dir=tmp_path, **QUIET)
    numbers = 4 * IMAGES.size + 2 * sum(v.size for layer in IMAGES.init_state() for v in layer.values())
    files = [path.stat().st_size for path in (tmp_path / "checkpoints").iterdir()]
    assert len(files) == 2
    assert all(4 * numbers < size < 4 * numbers + 8_000 for size in files)


def test_a_copy_of_the_folder_goes_on_elsewhere(stopped, tmp_path):
    folder, settings = stopped
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.rmtree(folder)
    assert_same(fit(output_dir=copy, resume=True, **settings), fit(**settings))
    assert json.loads((copy / "config.json").read_text())["epochs"] == 5


def test_the_lock_of_a_killed_run_does_not_stop_the_next(stopped):
    folder, settings = stopped
    (folder / ".lock").write_text("")
    (folder / "checkpoints" / ".epoch-00003.safetensors.0123.xpnet-tmp").write_bytes(b"half")
    assert_same(fit(output_dir=folder, resume=True, **settings), fit(**settings))
    assert not list(folder.rglob("*.xpnet-tmp"))
    with RunDirectory(folder).lock():
        pass
