"""A run that version 0.1.0 has written still opens; its checkpoints are refused by name.

The folder ``of-0.1`` was written by `fit` of that version on the digits, with every kind of layer that has parameters
or state; ``logits.npy`` holds what its network answered to the first 20 test images.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

import xpnet

FOLDER = Path(__file__).with_name("of-0.1")


def test_a_finished_run_of_an_earlier_version_predicts_the_same(backend, digits):
    with backend.session("float32"):
        network = xpnet.load(FOLDER, backend=backend)
        logits = network.logits(digits.test_images[:20])
    np.testing.assert_allclose(logits, np.load(FOLDER / "logits.npy"), rtol=1e-5, atol=1e-5)
    assert network.size == 249
    history = xpnet.History.from_csv(FOLDER / "history.csv")
    # The best epoch's weights, which were kept.
    accuracy = xpnet.evaluate(network, digits).accuracy
    assert accuracy == pytest.approx(history.best("val_accuracy").test_accuracy, abs=2e-3)


@pytest.mark.filterwarnings("ignore:resume. linear algebra used")  # it does elsewhere
def test_a_checkpoint_of_an_earlier_version_is_refused_by_name(tmp_path, digits):
    folder = shutil.copytree(FOLDER, tmp_path / "run")
    network = xpnet.load(folder)
    settings = {
        "optimizer": xpnet.Adam(1e-2),
        "schedule": xpnet.Cosine(4),
        "epochs": 4,
        "batch_size": 50,
        "validation_fraction": 0.1,
        "patience": 2,
        "seed": 5,
    }
    description = xpnet.Network(network.layers, network.input_shape)
    with pytest.raises(xpnet.CheckpointError, match=r"output_dir=.*its checkpoints are not of this version of xpnet"):
        xpnet.fit(description, digits, **settings, output_dir=folder, resume=True, recipe="small", progress=False)
