"""PyTorch: the plain model answers like xpnet."""

import sys

import numpy as np
import pytest

from xpnet import Dense, Network
from xpnet.export import ExportError, to_torch


def answers(torch, network, images):
    """Run the model as its documentation says."""
    x = images.reshape(len(images), *network.input_shape) / np.float32(network.pixel_max)
    if x.ndim == 4:
        x = x.transpose(0, 3, 1, 2)
    model = to_torch(network)
    assert not model.training
    with torch.no_grad():
        return model(torch.tensor(np.ascontiguousarray(x), dtype=torch.float32)).numpy()


def test_every_recipe_answers_alike(torch, trained):
    images = trained.data.test_images
    ours, theirs = trained.network.logits(images), answers(torch, trained.network, images)
    assert theirs.shape == ours.shape == (797, 10)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)


def test_every_layer_answers_alike(torch, every_layer, colours):
    ours, theirs = every_layer.logits(colours.test_images), answers(torch, every_layer, colours.test_images)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)


def test_the_model_is_of_torchs_own_modules(torch, every_layer):
    model = to_torch(every_layer)
    assert type(model) is torch.nn.Sequential
    assert all(type(module).__module__.startswith("torch.nn.") for module in model)
    names = [type(module).__name__ for module in model]
    assert names[:5] == ["Conv2d", "BatchNorm2d", "LeakyReLU", "MaxPool2d", "Conv2d"]


def test_the_model_has_weights_of_its_own(torch, trained):
    model = to_torch(trained.network)
    before = trained.network.named_arrays()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    after = trained.network.named_arrays()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_bad_input_is_one_line(trained, monkeypatch):
    with pytest.raises(ValueError, match="no weights yet"):
        to_torch(Network([Dense(10)], input_shape=(64,)))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ExportError, match=r"pip install 'xpnet\[torch\]'"):
        to_torch(trained.network)
