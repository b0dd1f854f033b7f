"""Exporting a trained network as a plain PyTorch model."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.export.plain import CHANNELS_FIRST, PlainLayer, library, plain_layers
from xpnet.nn.activations import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from xpnet.nn.convolution import Conv2D, to_torch_weight
from xpnet.nn.images import Flatten
from xpnet.nn.layers import Dense, Layer
from xpnet.nn.network import Network
from xpnet.nn.normalization import BatchNorm
from xpnet.nn.pooling import AveragePool2D, MaxPool2D
from xpnet.typing import HostArrays

ACTIVATIONS: dict[type[Layer], str] = {ReLU: "ReLU", Tanh: "Tanh", Sigmoid: "Sigmoid"}
"""The modules of the activations that have no settings."""

NAMES = {"gamma": "weight", "beta": "bias", "running_variance": "running_var"}
"""Torch's names of the arrays of batch normalization that differ from xpnet's."""


def to_torch(network: Network) -> Any:
    """Return a network as a ``torch.nn.Sequential``.

    Parameters
    ----------
    network : Network
        A network with weights, on any backend.

    Returns
    -------
    torch.nn.Sequential
        A float32 model on the CPU, in evaluation mode, with only torch's own modules. It takes images as
        ``(n, channels, height, width)``, or ``(n, features)`` if the network begins with a dense layer. Divide the
        pixels by ``pixel_max`` first. It returns logits.

    Raises
    ------
    ExportError
        If torch is not installed, or a layer has no counterpart there.
    ValueError
        If the network has no weights.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet.export import to_torch
    >>> network = xpnet.Network([xpnet.Dense(10)], input_shape=(64,))
    >>> try:
    ...     to_torch(network)
    ... except ValueError as error:
    ...     print(error)
    this network has no weights yet: train it with xpnet.fit, or load one with xpnet.load
    >>> run = xpnet.fit(network, xpnet.load_dataset("digits"), epochs=1, progress=False)
    >>> to_torch(run.network)  # doctest: +SKIP
    Sequential(
      (0): Linear(in_features=64, out_features=10, bias=True)
    )
    """
    network.named_arrays()  # Missing weights are reported before a missing library.
    torch = library("torch", "pip install 'xpnet[torch]'")
    modules = []
    for plain in plain_layers(network, CHANNELS_FIRST):
        module = _module(torch.nn, plain)
        arrays = {name: torch.from_numpy(np.array(a, order="C")) for name, a in _torch_arrays(plain).items()}
        # The module's own state also holds a counter of batches, which is irrelevant here.
        module.load_state_dict(module.state_dict() | arrays)
        modules.append(module)
    return torch.nn.Sequential(*modules).eval()


def _module(nn: Any, plain: PlainLayer) -> Any:
    """Return the module for a layer, without its weights."""
    kind, layer, shape = plain.kind, plain.layer, plain.input_shape
    if kind is Dense:
        return nn.Linear(shape[0], layer.units, bias=layer.bias)
    if kind is Conv2D:
        kernel, stride, padding = layer.geometry
        return nn.Conv2d(shape[2], layer.filters, kernel, stride, padding, bias=layer.bias)
    if kind is BatchNorm:
        norm = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
        return norm(shape[-1], eps=layer.epsilon, momentum=layer.momentum)
    if kind is MaxPool2D:
        return nn.MaxPool2d(*layer.geometry)
    if kind is AveragePool2D:
        return nn.AvgPool2d(*layer.geometry)
    if kind is Flatten:
        return nn.Flatten()
    if kind is LeakyReLU:
        return nn.LeakyReLU(layer.slope)
    if kind is GELU:
        return nn.GELU(approximate="tanh")
    return getattr(nn, ACTIVATIONS[kind])()


def _torch_arrays(plain: PlainLayer) -> HostArrays:
    """Return the arrays of a layer under torch's names and in torch's order of axes."""
    arrays = {NAMES.get(name, name): array for name, array in plain.arrays.items()}
    if plain.kind is Dense:
        arrays["weight"] = arrays["weight"].T
    if plain.kind is Conv2D:
        arrays["weight"] = to_torch_weight(arrays["weight"])
    return arrays
