"""With NumPy, array-api-compat and array-api-extra alone, and where no thread can start, as in a browser's Python."""

import os
import subprocess
import sys

import pytest

HIDDEN = [
    "matplotlib",
    "certifi",
    "tqdm",
    "click",
    "filelock",
    "platformdirs",
    "threadpoolctl",
    "safetensors",
    "PIL",
    "IPython",
]

ALONE = f"""
import sys
import threading


class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HIDDEN}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


def refuse(self):
    raise RuntimeError("can't start new thread")


sys.meta_path.insert(0, Hide())
threading.Thread.start = refuse

import xpnet

"""


def run_alone(code, **environment):
    command = [sys.executable, "-W", "error", "-c", ALONE + code]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("recipe", ["corrected", "mlp", "best"])
def test_training_on_the_digits_needs_no_more(recipe):
    code = f"""
run = xpnet.train({recipe!r}, dataset="digits", epochs=2)
images = run.data.test_images[:3]
print(run.network.predict(images).shape, run.network.predict_proba(images).shape, run.history[-1].test_accuracy > 0.5)
"""
    assert run_alone(code) == "(3,) (3, 10) True"


def test_a_network_of_ones_own_and_gradients_need_no_more():
    code = """
net = xpnet.Network([xpnet.Dense(20), xpnet.ReLU(), xpnet.Dense(10)], input_shape=(64,))
data = xpnet.load_dataset("digits").first(60)
run = xpnet.fit(net, data, epochs=1)
print(len(run.history), len(net.summary().splitlines()))
"""
    assert run_alone(code) == "1 6"


@pytest.mark.parametrize("offline", ["1", "0"])
def test_without_a_name_there_are_the_digits(offline, tmp_path):
    code = """
import warnings

import xpnet.data.download

xpnet.data.download.MIRRORS = ()
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    data = xpnet.load_dataset()
run = xpnet.train("corrected", dataset=data, epochs=1)
print(data.name, len(run.history), len(warned), "using the bundled digits" in str(warned[0].message))
"""
    mirror = "http://127.0.0.1:9/"  # the port of "discard", at which nobody answers
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "XPNET_DATA_DIR": ""}
    assert run_alone(code, XPNET_OFFLINE=offline, XPNET_MNIST_URL=mirror, **home) == "digits 1 1 True"
    assert not list(tmp_path.iterdir())
