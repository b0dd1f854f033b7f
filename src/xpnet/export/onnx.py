"""Exporting a trained network as an ONNX model, the format that inference engines read.

The graph is built node by node. It casts and scales the pixels, which come as bytes, and has one node per layer.
Filters have ONNX's order ``(filters, channels, height, width)``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet._version import __version__
from xpnet.export.plain import CHANNELS_FIRST, ExportError, PlainLayer, image_shape, library, plain_layers
from xpnet.files import write_atomically
from xpnet.nn.activations import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from xpnet.nn.convolution import Conv2D, to_torch_weight
from xpnet.nn.images import Flatten
from xpnet.nn.layers import Dense, Layer
from xpnet.nn.network import Network
from xpnet.nn.normalization import BatchNorm
from xpnet.nn.pooling import AveragePool2D, MaxPool2D
from xpnet.typing import Shape

OPSET = 20
"""The first operator set with `Gelu`; onnxruntime supports it since version 1.17."""

IR_VERSION = 9
"""The version of the file format that belongs to this operator set."""

ACTIVATIONS: dict[type[Layer], str] = {ReLU: "Relu", Tanh: "Tanh", Sigmoid: "Sigmoid"}
"""The operators of the activations that have no settings."""


def to_onnx(
    network: Network,
    path: str | os.PathLike[str],
    *,
    sample_shape: Shape | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a network to an ONNX file.

    Parameters
    ----------
    network : Network
        A network with weights, on any backend.
    path : path-like
        The file, whose name ends in ``.onnx``.
    sample_shape : tuple of int, optional
        The shape of one image, if the network does not determine it. By default, a network that begins with a dense
        layer reads square images.
    metadata : mapping, optional
        Facts to store in the file, such as the recipe.

    Raises
    ------
    ExportError
        If onnx is not installed, or if a layer has no counterpart in ONNX.
    ValueError
        If the network has no weights.
    OSError
        If the file cannot be written; an older file of this name stays.

    Notes
    -----
    The model has one input, ``images``, of shape ``(n, height, width)``, or ``(n, height, width, channels)`` with more
    than one channel, for any ``n``. It holds pixels from 0 to `pixel_max`, as bytes, or as larger integers if bytes are
    too small. The output, ``logits``, is float32 of shape ``(n, classes)``.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet.export import ExportError, to_onnx
    >>> run = xpnet.train("mlp", dataset="digits", epochs=1, progress=False)
    >>> try:
    ...     to_onnx(run.network, "model.onnx", sample_shape=(8, 9))
    ... except ExportError as error:
    ...     print(error)
    sample_shape=(8, 9): this network takes samples of (64,)
    >>> to_onnx(run.network, "model.onnx")  # doctest: +SKIP
    """
    if not os.fspath(path).endswith(".onnx"):
        raise ExportError(f"path={os.fspath(path)!r}: must end in .onnx")
    write_atomically(path, onnx_model(network, sample_shape, metadata or {}).SerializeToString())


def onnx_model(network: Network, sample_shape: Shape | None, metadata: Mapping[str, Any]) -> Any:
    """Return the model that `to_onnx` writes, as an ``onnx.ModelProto``."""
    network.named_arrays()  # Missing weights are reported before a missing library.
    shape, pixels = image_shape(network, sample_shape), _pixel_dtype(network.pixel_max)
    helper = library("onnx", "pip install 'xpnet[onnx]'").helper
    graph = Graph(helper)
    _add_input(graph, network, shape, pixels)
    for layer in plain_layers(network, CHANNELS_FIRST):
        _add_layer(graph, layer)
    graph.nodes[-1].output[0] = "logits"
    model = helper.make_model(
        graph=helper.make_graph(
            graph.nodes,
            "xpnet",
            [helper.make_tensor_value_info("images", helper.np_dtype_to_tensor_dtype(pixels), ["n", *shape])],
            [helper.make_tensor_value_info("logits", 1, ["n", *network.output_shape])],
            graph.arrays,
            doc_string=network.summary(),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="xpnet",
        producer_version=__version__,
    )
    helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    return model


class Graph:
    """A graph that grows node by node, where each node takes the output of the previous one."""

    def __init__(self, helper: Any) -> None:
        self.helper = helper
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def add(self, operator: str, name: str, arrays: Mapping[str, NDArray[Any]] | None = None, **settings: Any) -> None:
        """Add a node with ``arrays`` as further inputs."""
        before = self.nodes[-1].output[0] if self.nodes else "images"
        names = [f"{name}.{key}" for key in arrays or {}]
        for full, array in zip(names, (arrays or {}).values(), strict=True):
            dtype = self.helper.np_dtype_to_tensor_dtype(array.dtype)
            data = np.ascontiguousarray(array).tobytes()
            self.arrays.append(self.helper.make_tensor(full, dtype, array.shape, data, raw=True))
        node = f"{name}.{operator}"
        self.nodes.append(self.helper.make_node(operator, [before, *names], [f"{node}.output"], node, **settings))


def _pixel_dtype(pixel_max: float) -> np.dtype[Any]:
    """Return the smallest integer dtype that holds all pixels."""
    return np.dtype(np.uint8 if pixel_max <= 255 else np.uint16 if pixel_max <= 65535 else np.int32)


def _add_input(graph: Graph, network: Network, shape: Shape, pixels: np.dtype[Any]) -> None:
    """Convert pixels to the input of the first layer: (n, features), or (n, channels, height, width)."""
    graph.add("Cast", "input", to=1)
    graph.add("Mul", "input", {"scale": np.asarray(1.0 / network.pixel_max, np.float32)})
    if len(network.input_shape) == 3:
        height, width, channels = network.input_shape
        graph.add("Reshape", "input", {"shape": np.asarray([-1, height, width, channels])})
        graph.add("Transpose", "input", perm=[0, 3, 1, 2])
    elif len(shape) > 1:
        graph.add("Flatten", "input")


def _add_layer(graph: Graph, plain: PlainLayer) -> None:
    """Add the node of a layer."""
    kind, layer, name, arrays = plain.kind, plain.layer, plain.name, plain.arrays
    if kind is Dense:
        graph.add("Gemm", name, {key: arrays[key] for key in ("weight", "bias") if key in arrays})
    elif kind is Conv2D:
        kernel, stride, padding = layer.geometry
        filters = {"weight": to_torch_weight(arrays["weight"])} | {key: arrays[key] for key in arrays if key == "bias"}
        graph.add("Conv", name, filters, kernel_shape=kernel, strides=stride, pads=padding * 2)
    elif kind is BatchNorm:
        inputs = {key: arrays[key] for key in ("gamma", "beta", "running_mean", "running_variance")}
        graph.add("BatchNormalization", name, inputs, epsilon=layer.epsilon)
    elif kind is MaxPool2D:
        size, stride, padding = layer.geometry
        graph.add("MaxPool", name, kernel_shape=size, strides=stride, pads=padding * 2)
    elif kind is AveragePool2D:
        size, stride, padding = layer.geometry
        graph.add("AveragePool", name, kernel_shape=size, strides=stride, pads=padding * 2, count_include_pad=1)
    elif kind is Flatten:
        graph.add("Flatten", name)
    elif kind is LeakyReLU:
        graph.add("LeakyRelu", name, alpha=layer.slope)
    elif kind is GELU:
        graph.add("Gelu", name, approximate="tanh")
    else:
        graph.add(ACTIVATIONS[kind], name)
