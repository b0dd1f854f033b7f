"""With NumPy, array-api-compat and array-api-extra alone, and where no thread can start, as in a browser's Python."""

import os
import subprocess
import sys

import pytest

HIDDEN = "matplotlib pooch requests tqdm click filelock platformdirs threadpoolctl safetensors PIL IPython".split()

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
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE + code], capture_output=True, text=True, env=os.environ | environment
    )
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


def test_the_default_dataset_is_the_digits_then():
    code = """
import warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    data = xpnet.load_dataset()
print(data.name, len(said))
"""
    assert run_alone(code, XPNET_OFFLINE="1", XPNET_DATA_DIR="") == "digits 1"
    assert run_alone(code, XPNET_OFFLINE="", XPNET_DATA_DIR="", XPNET_MNIST_URL="http://127.0.0.1:9/") == "digits 1"
