"""The common part of all exporters: layers with their arrays in another program's order.

Other programs order arrays differently. xpnet keeps images as ``(height, channels, width, n)``, so `Flatten` visits
them row by row, and within a row channel by channel. PyTorch and ONNX visit them channel by channel, then row by row;
Keras visits them row by row, then pixel by pixel. A dense layer after `Flatten` therefore needs its rows in another
order, or the network gives wrong answers without an error.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.nn.activations import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from xpnet.nn.augmentation import RandomShift
from xpnet.nn.convolution import Conv2D
from xpnet.nn.images import Flatten
from xpnet.nn.layers import Dense, Dropout, Layer
from xpnet.nn.network import Network
from xpnet.nn.normalization import BatchNorm
from xpnet.nn.pooling import AveragePool2D, MaxPool2D
from xpnet.typing import HostArrays, Shape

KINDS = (
    *(Dense, Conv2D, BatchNorm, MaxPool2D, AveragePool2D, Flatten),
    *(ReLU, LeakyReLU, Tanh, Sigmoid, GELU, Dropout, RandomShift),
)
"""The layers that can be exported."""

ONLY_IN_TRAINING = (Dropout, RandomShift)
"""Layers that do nothing when a network predicts."""

CHANNELS_FIRST, CHANNELS_LAST = (1, 0, 2), (0, 2, 1)
"""The axes (height, channels, width) in the order of PyTorch and ONNX, and in the order of Keras."""


class ExportError(ValueError):
    """A network cannot be exported; the message says why and what to do.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet.export import ExportError, to_onnx
    >>> run = xpnet.train("mlp", dataset="digits", epochs=1, progress=False)
    >>> try:
    ...     to_onnx(run.network, "model.txt")
    ... except ExportError as error:
    ...     print(error)
    path='model.txt': must end in .onnx
    """


@dataclass(frozen=True)
class PlainLayer:
    """A layer that takes part in predictions, with its arrays.

    Attributes
    ----------
    name : str
        The layer's position in the network, such as ``layers.3``.
    kind : type
        The xpnet layer that has the same forward pass.
    layer : Layer
        The hyperparameters.
    input_shape : tuple of int
        The shape of an input sample.
    arrays : dict of str to array
        Parameters and state as float32. Axes are in xpnet's order, features in that of the other program.
    """

    name: str
    kind: type[Layer]
    layer: Any
    input_shape: Shape
    arrays: HostArrays


def plain_layers(network: Network, axes: tuple[int, int, int]) -> Iterator[PlainLayer]:
    """Yield the layers that take part in predictions.

    Parameters
    ----------
    network : Network
        A network with weights.
    axes : tuple of int
        `CHANNELS_FIRST` or `CHANNELS_LAST`: the order in which the other program's `Flatten` merges axes.

    Raises
    ------
    ExportError
        If a layer has no counterpart in other programs, or if the outputs would come in another order.
    """
    named, order = network.named_arrays(), None
    if len(network.output_shape) != 1:
        raise ExportError(f"a network whose outputs are images, {network.output_shape}: put Flatten() at its end")
    for i, (layer, shape) in enumerate(zip(network.layers, network.shapes, strict=False)):
        kind = _kind_of(i, layer)
        if kind in ONLY_IN_TRAINING:
            continue
        arrays = _arrays_of(named, f"layers.{i}.", order)
        if kind is Flatten and len(shape) == 3:
            order = _flat_order(shape, axes)
        elif kind is Dense:
            order = None
        yield PlainLayer(f"layers.{i}", kind, layer, shape, arrays)
    if order is not None and np.any(order != np.arange(order.size)):
        raise ExportError("no Dense layer follows Flatten(): the outputs would come in another order; add Dense(10)")


def _kind_of(i: int, layer: Layer) -> type[Layer]:
    """Return the xpnet layer with the same forward pass; a subclass may differ in its backward pass."""
    cls = type(layer)
    for kind in KINDS:
        same = (getattr(cls, name, None) is getattr(kind, name, None) for name in ("forward", "apply", "output_shape"))
        if issubclass(cls, kind) and all(same):
            return kind
    raise ExportError(
        f"layer {i}, {cls.__name__}: has no counterpart in other programs; trace the forward pass instead, "
        "as 'Use it elsewhere' in the documentation shows"
    )


def _flat_order(shape: Shape, axes: tuple[int, int, int]) -> NDArray[np.int64]:
    """Return the index in xpnet's `Flatten` of each feature of the other program's."""
    height, width, channels = shape
    places = np.arange(height * channels * width).reshape(height, channels, width)
    return np.ravel(places.transpose(axes))


def _arrays_of(named: HostArrays, prefix: str, order: NDArray[np.int64] | None) -> HostArrays:
    """Return the arrays of a layer, with the features of the first axis in the other program's order."""
    arrays = {
        name.removeprefix(prefix): np.asarray(value, dtype=np.float32)
        for name, value in named.items()
        if name.startswith(prefix)
    }
    if order is None:
        return arrays
    # A bias has one number per output, and the outputs keep their order.
    return {name: value if name == "bias" else value[order] for name, value in arrays.items()}


def image_shape(network: Network, sample_shape: Shape | None = None) -> Shape:
    """Return the shape of the images that a network takes.

    A network of dense layers only determines the number of features. If that is a square number, its images are assumed
    to be squares with one channel, unless ``sample_shape`` is given.

    Raises
    ------
    ExportError
        If the network does not take samples of ``sample_shape``.

    Examples
    --------
    >>> from xpnet import Dense, Flatten, Network
    >>> image_shape(Network([Dense(10)], input_shape=(784,)))
    (28, 28)
    >>> image_shape(Network([Flatten()], input_shape=(4, 5, 1)))
    (4, 5)
    """
    if sample_shape is not None:
        if not network.takes(tuple(sample_shape)):
            raise ExportError(f"sample_shape={sample_shape!r}: this network takes samples of {network.input_shape}")
        return tuple(sample_shape)
    shape = network.input_shape
    if len(shape) == 1:
        side = round(shape[0] ** 0.5)
        return (side, side) if side > 1 and side * side == shape[0] else shape
    return shape[:2] if shape[2] == 1 else shape


def library(name: str, how: str) -> Any:
    """Import the library of another program.

    Raises
    ------
    ExportError
        If it cannot be imported; ``how`` says what to do.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(f"{name} cannot be imported ({error}): {how}") from None
