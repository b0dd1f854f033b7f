"""Keras: the model answers like xpnet, on each library that Keras runs on, and after saving.

Keras chooses its library at import, so each library has its own process.
"""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

import xpnet
from xpnet import Dense, Network
from xpnet.export import ExportError, to_keras

pytestmark = pytest.mark.library

ANSWER = """
import sys

import numpy as np

import xpnet
from xpnet.export import to_keras

import keras

for folder in sys.argv[1:]:
    network = xpnet.load(folder, backend="numpy")
    images = np.load(f"{folder}/images.npy")
    x = images.reshape(len(images), *network.input_shape) / np.float32(network.pixel_max)
    model = to_keras(network)
    model.save(f"{folder}/model.keras")
    again = keras.saving.load_model(f"{folder}/model.keras")
    np.save(f"{folder}/answers.npy", [model.predict(x, verbose=0), again.predict(x, verbose=0)])
print(keras.backend.backend())
"""


@pytest.fixture(scope="module")
def folders(run_of_every_layer, digits, tmp_path_factory):
    """Return folders of runs with images beside them, and the answers to these."""
    runs = {"every": run_of_every_layer}
    for recipe in ("mlp", "deep", "cnn", "best"):
        runs[recipe] = xpnet.train(recipe, dataset=digits.first(100), epochs=1, progress=False)
    expected = {}
    for name, run in runs.items():
        folder = tmp_path_factory.mktemp(name)
        run.save(folder)
        images = run.data.test_images[:50]
        np.save(folder / "images.npy", images)
        expected[folder] = run.network.logits(images)
    return expected


@pytest.fixture
def library(request):
    """Skip before `folders` trains anything."""
    for needed in ("keras", request.param):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    return request.param


@pytest.mark.parametrize(
    "library", ["torch", pytest.param("jax", marks=pytest.mark.thorough), "tensorflow"], indirect=True
)
def test_answers_are_alike(library, folders):
    if library == "jax":  # which compiles for longer than the others: no layer is missing in these two
        folders = {folder: folders[folder] for folder in folders if folder.name.startswith(("every", "best"))}
    environment = os.environ | {"KERAS_BACKEND": library, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", ANSWER, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [library]
    for folder, ours in folders.items():
        for theirs in np.load(folder / "answers.npy"):
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4, err_msg=folder.name)


def test_bad_input_is_one_line(digits, monkeypatch):
    net = Network([Dense(10)], input_shape=(64,))
    with pytest.raises(ValueError, match="no weights yet"):
        to_keras(net)
    run = xpnet.fit(net, digits.first(20), epochs=1, progress=False)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ExportError, match=r"pip install 'xpnet\[keras\]'.*KERAS_BACKEND"):
        to_keras(run.network)
