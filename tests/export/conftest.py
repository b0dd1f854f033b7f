"""Networks to export: one with every layer, and every recipe, trained briefly."""

import numpy as np
import pytest

import xpnet
from xpnet import (
    GELU,
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool2D,
    Network,
    RandomShift,
    ReLU,
    Sigmoid,
    Tanh,
)
from xpnet.recipes import RECIPES


@pytest.fixture(scope="session")
def colours():
    """Return images of unequal sides and two channels, whose pixels go to 100."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 101, (60, 13, 11, 2), dtype=np.uint8)
    labels = rng.integers(0, 3, 60)
    return xpnet.Dataset("noise", images[:40], labels[:40], images[40:], labels[40:], classes=3, pixel_max=100)


@pytest.fixture(scope="session")
def run_of_every_layer(colours):
    """Return a trained network of every layer, with features between Flatten and the first Dense layer."""
    layers = [
        *[RandomShift(1), Conv2D(4, (3, 2), stride=(1, 2), padding=(2, 1)), BatchNorm(), LeakyReLU(0.2)],
        *[MaxPool2D(3, stride=2, padding=1), Conv2D(5, 3, padding="same", bias=False), GELU(), Dropout(0.3)],
        *[AveragePool2D((3, 2), stride=(2, 1), padding=1), Conv2D(3, 1), Tanh()],
        *[Flatten(), BatchNorm(), Sigmoid(), Dropout(0.1), Dense(12), ReLU(), Dense(12, bias=False), Flatten()],
        *[BatchNorm(), ReLU(), Dense(3)],
    ]
    net = Network(layers, input_shape=(13, 11, 2), pixel_max=100)
    return xpnet.fit(net, colours, epochs=3, batch_size=10, progress=False)


@pytest.fixture(scope="session")
def every_layer(run_of_every_layer):
    return run_of_every_layer.network


@pytest.fixture(scope="session", params=list(RECIPES))
def trained(request, digits):
    """Return a run of every recipe on the digits."""
    return xpnet.train(request.param, dataset=digits.first(200), epochs=1, progress=False)


@pytest.fixture(scope="session", params=list(RECIPES))
def trained_on_mnist(request, mnist):
    """Return a run of every recipe on a few images of MNIST."""
    return xpnet.train(request.param, dataset=mnist.first(600), train_samples=600, epochs=1, progress=False)
