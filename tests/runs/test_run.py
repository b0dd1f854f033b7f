"""The folder of a finished run: it opens again, and damaged files are refused by name."""

import json
import os
import re
import shutil
import sys
import tracemalloc
import types
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xpnet
from xpnet import BatchNorm, CheckpointError, Conv2D, Dense, Dropout, Flatten, HeUniform, Network, ReLU
from xpnet.runs.checkpoint import load_arrays, save_arrays
from xpnet.runs.run import CONFIG, HISTORY, MODEL, load_config, load_history

# The time of file operations varies.
on_disk = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

NETWORK = Network([Conv2D(2, 3), BatchNorm(), ReLU(), Flatten(), Dropout(0.3), Dense(10)], (8, 8))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small run in a folder that the tests do not touch."""
    folder = tmp_path_factory.mktemp("saved")
    data = xpnet.load_dataset("digits").first(40)
    xpnet.fit(NETWORK, data, epochs=1, batch_size=10, progress=False).save(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it to damage."""
    return shutil.copytree(saved, tmp_path / "run")


def assert_refused(folder, *words):
    with pytest.raises(CheckpointError) as caught:
        xpnet.load(folder)
    for word in (str(folder), *words):
        assert word in str(caught.value)
    return str(caught.value)


def change_config(folder, change):
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


def write_model(folder, change_arrays=None, change_network=None):
    """Write changed weights with a correct checksum."""
    arrays, meta = load_arrays(folder / MODEL)
    if change_arrays:
        change_arrays(arrays)
    if change_network:
        change_network(meta["network"])
        change_config(folder, lambda config: config.update(network=meta["network"]))
    save_arrays(folder / MODEL, arrays, meta)


# Undamaged folders open ---------------------------------------------------------------------------------------------


def test_what_was_saved_opens_with_the_very_weights(saved, digits):
    network = xpnet.load(saved)
    arrays, _ = load_arrays(saved / MODEL)
    assert network.layers == NETWORK.layers
    assert network.pixel_max == 16.0
    ours = network.named_arrays()
    assert ours.keys() == arrays.keys()
    assert all(np.array_equal(ours[name], arrays[name]) for name in arrays)
    assert network.predict(digits.test_images[:3]).shape == (3,)


def test_weights_open_in_the_other_dtype(saved, digits):
    logits = xpnet.load(saved).logits(digits.test_images[:5])
    double = xpnet.load(saved, dtype="float64").logits(digits.test_images[:5])
    assert (logits.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(logits, double, rtol=1e-4, atol=1e-5)


def test_pictures_and_the_history_are_not_needed(folder):
    for path in folder.iterdir():
        if path.name not in (CONFIG, MODEL):
            path.write_bytes(b"damaged")
    xpnet.load(folder)
    with pytest.raises(CheckpointError, match=r"the history cannot be read: .*history\.csv: not a history"):
        load_history(folder)
    (folder / HISTORY).unlink()
    with pytest.raises(CheckpointError, match="the history cannot be read"):
        load_history(folder)


def test_an_initializer_of_ones_own_may_draw_as_it_likes(tmp_path, digits):
    """Loading finds it by its name and with its fields; it asks for shapes only, but by way of the initializer."""

    @dataclass(frozen=True)
    class Gaussian(xpnet.Initializer):
        deviation: float = 1.0

        def __call__(self, rng, shape, fan_in, fan_out):
            return self.deviation * rng.standard_normal(shape)

    net = Network([Dense(10, init_weight=Gaussian(0.02))], (64,))
    run = xpnet.fit(net, digits.first(30), epochs=1, progress=False)
    run.save(tmp_path)
    again = xpnet.load(tmp_path)
    assert again.layers == net.layers
    np.testing.assert_array_equal(again.logits(digits.test_images), run.network.logits(digits.test_images))


@pytest.mark.slow
def test_a_run_is_not_saved_over_the_checkpoints_of_another(tmp_path, digits):
    settings = {"data": digits.first(30), "epochs": 1, "progress": False}
    xpnet.fit(Network([Dense(10)], (64,)), output_dir=tmp_path, **settings)
    other = xpnet.fit(Network([Dense(7), Dense(10)], (64,)), **settings)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match="holds the checkpoints of another run: choose another folder"):
        other.save(tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    run = xpnet.fit(Network([Dense(10)], (64,)), output_dir=tmp_path, resume=True, **settings)
    run.config["note"] = "mine"
    for checkpoint in (tmp_path / "checkpoints").iterdir():
        checkpoint.write_bytes(b"damaged")
    run.save(tmp_path)


def test_a_run_is_one_line_to_look_at(digits):
    run = xpnet.fit(Network([Dense(10)], (64,)), digits.first(30), epochs=1, progress=False)
    assert re.fullmatch(r"Run\(.* on digits, numpy, float32, seed 0: 1 epoch, test accuracy 0\.\d{4}\)", repr(run))
    assert len(repr(digits)) < 100
    assert len(repr(run.network)) < 400
    with pytest.raises(TypeError, match=r"^network=Run\(.*: must be an instance of TrainedNetwork"):
        xpnet.evaluate(run, digits)


def test_two_classes_of_one_name_are_not_mixed_up(tmp_path, digits, monkeypatch):
    xpnet.fit(Network([Dense(10)], (64,)), digits.first(30), epochs=1, progress=False).save(tmp_path)

    notebook = types.ModuleType("notebook_of_a_pupil")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    exec("import xpnet\nclass Dense(xpnet.Layer): pass", vars(notebook))
    notebook.Dense.__module__ = notebook.__name__
    theirs = notebook.Dense
    assert_refused(tmp_path, "'Dense': notebook_of_a_pupil and xpnet.nn.layers each define a class", "rename one")
    exec("class Dense(xpnet.Dropout): pass", vars(notebook))  # anew, and of another kind
    notebook.Dense.__module__ = notebook.__name__
    assert_refused(tmp_path, "each define a class")
    del notebook.Dense  # renamed
    assert xpnet.load(tmp_path).size == 650
    assert theirs.__name__ == "Dense", "it is alive, but out of reach"


def test_of_a_class_that_was_defined_anew_the_last_counts(monkeypatch):
    notebook = types.ModuleType("another_notebook")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    for base in ("Dropout", "Layer", "Dropout"):
        exec(f"import xpnet\nclass Mine(xpnet.{base}): pass", vars(notebook))
        notebook.Mine.__module__ = notebook.__name__
        network = Network([Dense(3), notebook.Mine()], (4,))
        assert type(Network.from_config(network.to_config()).layers[1]) is notebook.Mine


# Damaged folders are refused ----------------------------------------------------------------------------------------


def test_a_folder_that_is_no_run_is_named(tmp_path):
    assert_refused(tmp_path, "not the folder of a run: it has no config.json")
    assert_refused(tmp_path / "missing", "not the folder of a run")
    for other in (3, None):
        with pytest.raises(TypeError, match=f"^directory={other}: must be a path"):
            xpnet.load(other)
    (tmp_path / "file").write_text("mine")
    assert_refused(tmp_path / "file", "is a file: give the folder of the run that it is in")


def test_a_run_that_is_not_finished_is_named(folder):
    (folder / MODEL).unlink()
    assert_refused(folder, "the run is not finished, it has no model.safetensors")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("not JSON", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("9" * 9_000, "cannot be read"),
        ("\xff", "cannot be read"),
        ("[1]", "not the configuration of a run"),
        ("{}", "not the configuration of a run: recipe is None"),
        ('{"recipe": 3}', "not the configuration of a run: recipe is 3"),
        ('{"recipe": "mlp"}', "not the configuration of a run: dataset is None"),
        ('{"recipe": "mlp", "dataset": "digits"}', "not the configuration of a run: dtype is None"),
        (
            '{"recipe": "mlp", "dataset": "digits", "dtype": "float32", "network": []}',
            "not the configuration of a run: network is []",
        ),
    ],
)
def test_a_damaged_configuration_is_refused(folder, text, words):
    (folder / CONFIG).write_bytes(text.encode("latin-1"))
    assert_refused(folder, CONFIG, words)
    with pytest.raises(CheckpointError, match=CONFIG):
        load_config(folder)


def test_a_configuration_that_cannot_be_opened_is_refused(folder):
    (folder / CONFIG).unlink()
    (folder / CONFIG).mkdir()
    assert_refused(folder, CONFIG, "cannot be read")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: n["layers"][0].update(filters=3), "layers.0.filters was 2 and is 3"),
        (lambda n: n["layers"][5].update(units=10**12), "layers.5.units was 10 and is 1000000000000"),
        (lambda n: n["layers"][2].update({"class": "Tanh"}), "layers.2.class was 'ReLU' and is 'Tanh'"),
        (lambda n: n["layers"][2].update({"class": "os.system"}), "layers.2.class"),
        (lambda n: n["layers"].pop(), "layers.5.class was 'Dense' and is not there"),
        (lambda n: n.update(pixel_max=255.0), "pixel_max was 16.0 and is 255.0"),
        (lambda n: n.update(input_shape=[64]), "input_shape was [8, 8, 1] and is [64]"),
        (lambda n: n.clear(), "layers.0.class was 'Conv2D' and is not there"),
    ],
)
def test_a_configuration_of_another_network_is_refused_by_name(folder, change, words):
    """Even where the shapes of all weights are the same."""
    change_config(folder, lambda config: change(config["network"]))
    assert_refused(folder, f"not of the network in {MODEL}", words)


@pytest.mark.slow
def test_the_weights_of_another_recipe_are_refused_by_name(folder, tmp_path, digits):
    other = xpnet.train("corrected", dataset=digits, train_samples=20, epochs=1, progress=False)
    other.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / MODEL, folder / MODEL)
    assert_refused(folder, "layers.0.class was 'Dense' and is 'Conv2D'")
    # Its gradients differ from those of `tutorial`, not its shapes.
    shutil.copy(tmp_path / "other" / MODEL, tmp_path / "corrected")
    xpnet.train("tutorial", dataset=digits, train_samples=20, epochs=1, progress=False).save(tmp_path / "other")
    shutil.copy(tmp_path / "corrected", tmp_path / "other" / MODEL)
    assert_refused(tmp_path / "other", "layers.1.class was 'ReLU' and is 'TutorialReLU'")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("layers.5.bias"), "layers.5.bias is missing"),
        (lambda a: a.pop("layers.1.running_mean"), "layers.1.running_mean is missing"),
        (lambda a: a.update({"layers.6.weight": np.zeros(3)}), "layers.6.weight is not part of this network"),
        (lambda a: a.update({"layers.5.bias": np.zeros(9, np.float32)}), "layers.5.bias has shape (9,) instead of"),
        (lambda a: a.update({"layers.5.bias": np.zeros(10, np.int32)}), "layers.5.bias is int32 instead of"),
        (lambda a: a.update({"layers.5.bias": np.zeros(10, np.float16)}), "layers.5.bias is float16 instead of"),
        (lambda a: a.update({"layers.5.bias": np.full(10, np.nan)}), "layers.5.bias holds NaN or infinity"),
        (lambda a: a.update({"layers.5.bias": np.full(10, 1e39)}), "layers.5.bias holds numbers too large for float32"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(folder, change, words):
    write_model(folder, change)
    assert_refused(folder, MODEL, words)


def test_large_weights_open_where_they_have_room(folder):
    write_model(folder, lambda a: a.update({"layers.5.bias": np.full(10, 1e39)}))
    assert xpnet.load(folder, dtype="float64").named_arrays()["layers.5.bias"][0] == 1e39


def test_weights_that_do_not_say_whose_they_are_are_refused(folder):
    arrays, _ = load_arrays(folder / MODEL)
    for meta in ({}, {"network": None}):
        save_arrays(folder / MODEL, arrays, meta)
        assert_refused(folder, MODEL, "does not say of which network")


# Malicious files: the checksum is correct, the contents are not -------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: n["layers"][5].update(units=10**12), "1000000000000"),
        (lambda n: n["layers"][5].update(units=10**30), "numbers a sample"),
        (lambda n: n["layers"][0].update(filters=10**9), "numbers a sample"),
        (lambda n: n.update(input_shape=[10**15]), "numbers a sample"),
        (lambda n: n.update(input_shape=[10**9], layers=[n["layers"][1]]), "numbers a sample"),
        (lambda n: n["layers"][5].update(units=-1), "units=-1"),
        (lambda n: n["layers"][5].update(units="10"), "units='10'"),
        (lambda n: n["layers"][5].update(init_weight={"class": "ReLU"}), "init_weight=ReLU"),
        (lambda n: n["layers"][5].update(init_weight={"class": "Nonsense"}), "'Nonsense' is not a known"),
        (lambda n: n["layers"][5].update(init_weight=None), "init_weight=None"),
        (lambda n: n["layers"][5].update(nonsense=1), "nonsense"),
        (lambda n: n["layers"][2].update({"class": "Nonsense"}), "'Nonsense' is not a known Layer"),
        (lambda n: n["layers"][2].update({"class": ["ReLU"]}), "is not a known Layer"),
        (lambda n: n["layers"].insert(0, "ReLU"), "attribute"),
        (lambda n: n.update(layers=[]), "at least one layer"),
        (lambda n: n.update(layers=3), "iterable"),
        (lambda n: n.pop("layers"), "layers"),
        (lambda n: n.update(pixel_max=0.0), "pixel_max=0.0"),
        (lambda n: n.update(pixel_max="white"), "pixel_max"),
        (lambda n: n.update(input_shape=None), "iterable"),
        (lambda n: n["layers"][0].update(kernel=99), "fit"),
        (lambda n: n["layers"][0].update(stride=0), "stride=0"),
    ],
)
def test_a_description_of_no_network_is_refused_even_with_the_right_checksum(folder, change, words):
    write_model(folder, change_network=change)
    tracemalloc.start()
    try:
        assert_refused(folder, MODEL, words)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths_of(value, path=()):
    """Name every place in a tree of dictionaries and lists."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    yield path
    for key, inner in pairs:
        yield from paths_of(inner, (*path, key))


def network_or_refusal(folder):
    """Load it, or return None if it is refused as it should be."""
    try:
        return xpnet.load(folder)
    except CheckpointError as error:
        refusal = str(error)
    assert str(folder) in refusal
    return None


@on_disk
@given(st.data())
def test_no_description_brings_forth_another_error(saved, tmp_path_factory, data):
    folder = shutil.copytree(saved, tmp_path_factory.mktemp("described") / "run")

    def change(network):
        *above, last = data.draw(st.sampled_from([path for path in paths_of(network) if path]))
        for key in above:
            network = network[key]
        network[last] = data.draw(json_values | st.sampled_from([2, 10**6, 10**12, 2**63, 2**70, 1e308]))

    write_model(folder, change_network=change)
    network = network_or_refusal(folder)
    # It may be another network that these weights fit, such as one of another rate of dropout.
    assert network is None or network.size == NETWORK.size


@on_disk
@given(st.sampled_from([CONFIG, MODEL]), st.data())
def test_no_bytes_bring_forth_another_error(saved, tmp_path_factory, name, data):
    folder = shutil.copytree(saved, tmp_path_factory.mktemp("bytes") / "run")
    whole = (saved / name).read_bytes()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 9)) | st.just(len(whole)))
    (folder / name).write_bytes(whole[:begin] + data.draw(st.binary(max_size=9)) + whole[end:])
    network = network_or_refusal(folder)
    if network is None:
        return
    # Settings outside the network, such as the seed, may change unnoticed; the network may not.
    theirs = xpnet.load(saved)
    assert network.layers == theirs.layers
    for key, array in theirs.named_arrays().items():
        np.testing.assert_array_equal(network.named_arrays()[key], array)


# Saving -------------------------------------------------------------------------------------------------------------


def contents(folder):
    """Return the contents of each file; for weights only the numbers, since safetensors orders its header randomly."""
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    return whole | {MODEL: {name: array.tolist() for name, array in load_arrays(folder / MODEL)[0].items()}}


@pytest.mark.thorough
def test_a_failing_save_leaves_every_file_whole(folder, digits, monkeypatch):
    """Whichever call fails, each file is the old one or the new one."""
    run = xpnet.fit(Network([Dense(10, init_weight=HeUniform())], (64,)), digits.first(30), epochs=1, progress=False)
    run.save(folder.with_name("new"))
    versions = [contents(folder), contents(folder.with_name("new"))]
    replace, left = os.replace, [0]

    def fail(*arguments):
        if not left[0]:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        replace(*arguments)

    monkeypatch.setattr(os, "replace", fail)
    # Configuration, history and weights, then three pictures, which are no reason to fail.
    for step in range(6):
        left[0] = step
        words = rf"cannot write .*{folder.name}.*: No space left on device"
        with pytest.raises(OSError, match=words) if step < 3 else pytest.warns(UserWarning, match=words):
            run.save(folder)
        found = contents(folder)
        assert found.keys() == versions[0].keys()
        assert all(found[name] in (versions[0][name], versions[1][name]) for name in found)


def test_the_model_file_names_the_axes(digits, tmp_path):
    run = xpnet.train("mlp", dataset=digits.first(20), epochs=1, progress=False)
    run.save(tmp_path)
    _, meta = load_arrays(tmp_path / "model.safetensors")
    assert meta["axes"]["Dense.weight"] == ["inputs", "units"]
    assert meta["axes"]["Flatten"] == ["height", "channels", "width"]
