"""Untrusted and damaged folders are refused by name, in bounded memory and time."""

import contextlib
import json
import os
import shutil
import tracemalloc
import warnings

import numpy as np
import pytest

import xpnet
from xpnet import CheckpointError, Conv2D, Dense, Flatten, Network, ReLU
from xpnet.runs.checkpoint import RunDirectory, load_arrays, save_arrays
from xpnet.runs.history import COLUMNS, History
from xpnet.runs.run import CONFIG, HISTORY, MODEL, load_config, load_history
from xpnet.runs.untrusted import shown

NETWORK = Network([Conv2D(2, 3), ReLU(), Flatten(), Dense(10)], (8, 8))
CONTROL = "\x1b[2J\x07\r\n\u202e"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "run"
    data = xpnet.load_dataset("digits").first(40)
    xpnet.fit(NETWORK, data, epochs=2, batch_size=10, progress=False, output_dir=folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def refusal(call, *arguments, **settings):
    """Return the error's words: short, printable, and made in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"\w") as caught:
            call(*arguments, **settings)
        assert tracemalloc.get_traced_memory()[1] < 80e6
    finally:
        tracemalloc.stop()
    words = str(caught.value)
    assert len(words) < 5000
    assert words.isprintable()
    return words


def nested(depth):
    return "[" * depth + "]" * depth


def change_config(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


def wide_and_deep():
    """A description whose settings' full names would take half a gigabyte."""
    inner = {str(i): 0 for i in range(10_000)}
    for _ in range(20):
        inner = {"k" * 3000: inner}
    return inner


def padded(pixels):
    """The description of a network of 20 numbers that pads its images by so many pixels."""
    described = Network([Conv2D(2, 3), Flatten()], input_shape=(4, 4, 1)).to_config()
    described["layers"][0]["padding"] = pixels
    return described


@pytest.mark.parametrize(
    "network",
    [
        wide_and_deep(),
        padded(50_000),
        padded(10**12),
        {"x" * 900_000: 1},
        {CONTROL: CONTROL},
        {"layers": [{"class": CONTROL}]},
        {"layers": [{"class": "x" * 900_000}], "input_shape": [3], "pixel_max": 1.0},
        pytest.param(
            {"layers": [{"class": "ReLU"}] * 20_000, "input_shape": [3], "pixel_max": 1.0}, marks=pytest.mark.thorough
        ),
    ],
    ids=["wide and deep", "padded", "huge", "long key", "control keys", "control class", "long class", "many layers"],
)
def test_a_description_of_any_size_and_content_is_refused_shortly(folder, network):
    change_config(folder, network=network)
    refusal(xpnet.load, folder)
    arrays, _ = load_arrays(folder / MODEL)
    save_arrays(folder / MODEL, arrays, {"network": network})
    refusal(xpnet.load, folder)


@pytest.mark.parametrize("depth", [40, 900, 2_000, 9_000, 30_000, 300_000])
@pytest.mark.parametrize("place", ["all", "network", "note"])
def test_nesting_of_any_depth_is_refused(folder, depth, place):
    text = (folder / CONFIG).read_text()
    changed = nested(depth) if place == "all" else text.replace(f'"{place}"', '"old"').rstrip()[:-1]
    (folder / CONFIG).write_text(changed if place == "all" else f'{changed}, "{place}": {nested(depth)}}}')
    assert CONFIG in refusal(load_config, folder)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 5000])
def test_numbers_that_are_none_are_refused(folder, number):
    text = (folder / CONFIG).read_text().replace('"pixel_max": 16.0', f'"pixel_max": {number}')
    assert number in text
    (folder / CONFIG).write_text(text)
    refusal(xpnet.load, folder)


@pytest.mark.parametrize("number", [10**400, -(10**400), True, "1", None, [], 1e308, 0, -1, 5e-324])
@pytest.mark.parametrize("name", ["low", "high", "mean", "deviation", "edge", "stretch", "kind", "sample_shape"])
def test_any_facts_of_images_are_read_or_passed_over(folder, digits, name, number):
    config = json.loads((folder / CONFIG).read_text())
    change_config(folder, images=config["images"] | {name: number})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xpnet.DataWarning)
        network = xpnet.load(folder)
        with contextlib.suppress(xpnet.DataError):  # images of another scale
            assert network.predict(digits.test_images[:30] / 16).shape == (30,)


@pytest.mark.parametrize("name", [CONFIG, HISTORY, MODEL])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "huge"])
def test_what_is_no_ordinary_file_is_refused_at_once(folder, name, kind):
    path = folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        path.touch()
        os.truncate(path, 1 << 40)  # takes no room
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    refusal(load_history if name == HISTORY else xpnet.load, folder)


@pytest.mark.parametrize("kind", ["pipe", "device", "huge"])
def test_checkpoints_that_are_no_ordinary_files_are_passed_over(folder, kind, digits):
    newest = max((folder / "checkpoints").iterdir())
    newest.unlink()
    if kind == "pipe":
        os.mkfifo(newest)
    elif kind == "device":
        newest.symlink_to("/dev/zero")
    else:
        newest.touch()
        os.truncate(newest, 1 << 40)
    with pytest.warns(UserWarning, match="using epoch-00000.safetensors instead"):
        checkpoint = RunDirectory(folder).latest_checkpoint()
    assert checkpoint.epoch == 0


def test_names_among_checkpoints_that_are_no_numbers_are_left_alone(folder):
    for digits in ("9" * 200, "٣", "1" * 10):
        (folder / "checkpoints" / f"epoch-{digits}.safetensors").touch()
    assert RunDirectory(folder).latest_checkpoint().epoch == 1


HEADER = ",".join(COLUMNS)


@pytest.mark.parametrize(
    "rows",
    [
        (f"{i},0,0,,,,,0" for i in range(1_000_000)),
        ("0," * 3_000_000,),
        ("," * 7,) * 500_000,
        ("0,nan,0,,,,,0",),
        ("0,inf,0,,,,,0",),
        ("0,0,0,,,,,nan",),
        ("1,0,0,,,,,0",),
        ("0,0,0,,,,,0", "0,0,0,,,,,0"),
        ("0,0,0,,,,,0", "2,0,0,,,,,0"),
        ("-1,0,0,,,,,0",),
        (f"{CONTROL.strip()},0,0,,,,,0",),
        (f"0,{'9' * 5000},0,,,,,0",),
    ],
)
def test_histories_that_no_run_writes_are_refused(folder, rows):
    (folder / HISTORY).write_text("\n".join([HEADER, *rows]), newline="")
    assert str(folder) in refusal(load_history, folder)


def test_nothing_in_a_title_reaches_a_terminal(folder):
    change_config(folder, recipe=CONTROL, dataset="x" * 10_000)
    title = xpnet.runs.run.title_of(load_config(folder))
    assert title.isprintable()
    assert len(title) < 500
    assert shown(CONTROL) == r"\x1b[2J\x07\r\n\u202e"


@pytest.mark.parametrize("names", [["a"] * 3, 5, [1] * 10, {"a": 1}, [["a"]] * 10, [None] * 10])
def test_names_of_classes_that_are_none_are_refused(folder, names):
    change_config(folder, class_names=names)
    with pytest.raises(CheckpointError, match="class_names"):
        xpnet.load(folder)


def test_no_name_of_a_class_reaches_a_terminal(folder, tmp_path, capsys):
    from xpnet.cli import main

    change_config(folder, class_names=[f"{CONTROL}{k}" for k in range(10)])
    np.save(tmp_path / "images.npy", xpnet.load_dataset("digits").test_images[:2])
    assert main(["predict", str(folder), str(tmp_path / "images.npy")]) == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


# A checkpoint whose checksum is right, and whose values are not ----------------------------------------------------


def resume(folder):
    data = xpnet.load_dataset("digits").first(40)
    return xpnet.fit(NETWORK, data, epochs=3, batch_size=10, progress=False, output_dir=folder, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda a, m: a.pop("params.0.weight"),
        lambda a, m: a.update(extra=np.zeros(3)),
        lambda a, m: a.update({CONTROL: np.zeros(3)}),
        lambda a, m: a.update({f"{'x' * 10_000}{i}": np.zeros(1) for i in range(50)}),
        lambda a, m: a.update({"params.3.bias": np.zeros(10)}),  # float64
        lambda a, m: a.update({"params.3.bias": np.zeros(9, "f4")}),
        lambda a, m: a.update({"params.3.bias": np.zeros(10, "i4")}),
        lambda a, m: a.update({"params.3.bias": np.full(10, np.inf, "f4")}),
        lambda a, m: a.update({"moments.3.bias.first": np.full(10, np.nan, "f4")}),
        lambda a, m: m["history"].pop(),
        lambda a, m: m["history"].append(m["history"][-1]),
        lambda a, m: m["history"].reverse(),
        lambda a, m: m["history"][0].update(train_loss="0"),
        lambda a, m: m["history"][0].update(epoch=True),
        lambda a, m: m["history"][0].update({CONTROL: 1}),
        lambda a, m: m.update(history={}),
        lambda a, m: m.update(best={"epoch": 7}),
        lambda a, m: m.update(best={"epoch": "0"}),
        lambda a, m: m.update(best=[]),
        lambda a, m: m.update(config=3),
        lambda a, m: m.pop("config"),
    ],
)
def test_each_value_of_a_checkpoint_is_checked(folder, change):
    newest = max((folder / "checkpoints").iterdir())
    arrays, saved = load_arrays(newest)
    change(arrays, saved["meta"])
    save_arrays(newest, arrays, saved)
    refusal(resume, folder)


# An unfinished run opens -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [None, 5])
def test_a_run_that_was_stopped_opens_with_the_weights_it_would_have_returned(tmp_path, digits, patience):
    settings = {"batch_size": 10, "progress": False, "patience": patience, "seed": 3}
    settings |= {"validation_fraction": 0.3} if patience else {}

    def interrupt(record):
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        xpnet.fit(NETWORK, digits.first(40), epochs=9, output_dir=tmp_path, callbacks=[interrupt], **settings)
    whole = xpnet.fit(NETWORK, digits.first(40), epochs=3, **settings)
    with pytest.warns(UserWarning, match=r"not finished: these are .* weights of 3 epochs") as warned:
        loaded = xpnet.load(tmp_path)
    assert len(warned) == 1
    expected = whole.network.named_arrays()
    for network in (loaded, caught.value.run.network):
        found = network.named_arrays()
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert len(caught.value.run.history) == 3


def test_any_end_of_a_run_in_memory_carries_the_run_so_far(digits):
    def fail(record):
        if record.epoch == 1:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine") as caught:
        xpnet.fit(NETWORK, digits.first(40), epochs=9, progress=False, callbacks=[fail])
    assert len(caught.value.run.history) == 2
    assert caught.value.run.network.predict(digits.test_images[:3]).shape == (3,)


# Results come before pictures --------------------------------------------------------------------------------------


def test_a_picture_that_cannot_be_drawn_costs_a_warning(tmp_path, digits, monkeypatch):
    def fail(*arguments, **settings):
        raise ValueError("no backend\x1b[2J of this name")

    monkeypatch.setattr(xpnet.plots, "training_curves", fail)
    with pytest.warns(UserWarning, match=r"curves\.png: not drawn: no backend\\x1b\[2J of this name"):
        run = xpnet.fit(NETWORK, digits.first(40), epochs=1, progress=False, output_dir=tmp_path)
    assert run.history[-1].epoch == 0
    assert (tmp_path / "confusion.png").exists()
    assert not (tmp_path / "curves.png").exists()
    xpnet.load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "net.PT", "run.json", "a.onnx"])
def test_the_name_of_a_file_is_not_made_a_folder(tmp_path, digits, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"epochs": 1, "progress": False}
    run = xpnet.fit(NETWORK, digits.first(40), **settings)
    with pytest.raises(ValueError, match=r"^directory='.*': is the name of a file"):
        run.save(name)
    with pytest.raises(ValueError, match=r"^output_dir='.*': is the name of a file"):
        xpnet.fit(NETWORK, digits.first(40), output_dir=name, **settings)
    assert not list(tmp_path.iterdir())
    run.save("mlp-0.1")


# Numbers that are no longer finite ---------------------------------------------------------------------------------


def test_a_network_that_is_not_finite_is_never_returned(digits):
    """The loss may be finite while a statistic of batch normalization is not."""
    images = {part: getattr(digits, part)[:60].astype("f4") * 1e19 for part in ("train_images", "test_images")}
    labels = {part: getattr(digits, part)[:60] for part in ("train_labels", "test_labels")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = xpnet.Dataset("bright", **images, **labels)
        net = Network([xpnet.Conv2D(2, 3), xpnet.BatchNorm(), Flatten(), Dense(10)], (8, 8))
        with np.errstate(all="ignore"), pytest.raises(xpnet.DivergedError, match="no longer finite"):
            xpnet.fit(net, data, epochs=2, progress=False)


def test_a_history_of_many_epochs_is_read(tmp_path):
    history = History([xpnet.Record(i, 0.1, 0.9) for i in range(3000)])
    history.to_csv(tmp_path / "history.csv")
    assert History.from_csv(tmp_path / "history.csv") == history


def test_a_refusal_survives_the_way_between_processes():
    import pickle

    assert str(pickle.loads(pickle.dumps(CheckpointError("a\x1b")))) == "a\\x1b"
