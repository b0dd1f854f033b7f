"""Exporting a trained network as a Keras 3 model, which runs on JAX, PyTorch and TensorFlow."""

from __future__ import annotations

from typing import Any

from xpnet.export.plain import CHANNELS_LAST, PlainLayer, library, plain_layers
from xpnet.nn.activations import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from xpnet.nn.convolution import Conv2D
from xpnet.nn.images import Flatten
from xpnet.nn.layers import Dense, Layer
from xpnet.nn.network import Network
from xpnet.nn.normalization import BatchNorm
from xpnet.nn.pooling import AveragePool2D, MaxPool2D
from xpnet.typing import Pair

ACTIVATIONS: dict[type[Layer], str] = {ReLU: "relu", Tanh: "tanh", Sigmoid: "sigmoid"}
"""Keras's names of the activations that have no settings."""

HOW = (
    "pip install 'xpnet[keras]', and one of jax, torch and tensorflow; the environment variable KERAS_BACKEND must "
    "name the one that is there"
)

LOWEST = -3.4e38
"""The padding of images before max pooling: lower than every pixel."""


def to_keras(network: Network) -> Any:
    """Return a network as a Keras model.

    Parameters
    ----------
    network : Network
        A network with weights, on any backend.

    Returns
    -------
    keras.Model
        A float32 model with only Keras's own layers and operations, so that a file from ``model.save("model.keras")``
        does not need xpnet. It takes images as ``(n, height, width, channels)``, or ``(n, features)`` if the network
        begins with a dense layer. Divide the pixels by ``pixel_max`` first. It returns logits.

    Raises
    ------
    ExportError
        If Keras or its backend is not installed, or if a layer has no counterpart in Keras.
    ValueError
        If the network has no weights.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet.export import to_keras
    >>> network = xpnet.Network([xpnet.Dense(10)], input_shape=(64,))
    >>> try:
    ...     to_keras(network)
    ... except ValueError as error:
    ...     print(error)
    this network has no weights yet: train it with xpnet.fit, or load one with xpnet.load
    >>> run = xpnet.fit(network, xpnet.load_dataset("digits"), epochs=1, progress=False)
    >>> to_keras(run.network).output_shape  # doctest: +SKIP
    (None, 10)
    """
    network.named_arrays()  # Missing weights are reported before a missing library.
    keras = library("keras", HOW)
    x = images = keras.Input(network.input_shape, dtype="float32", name="images")
    weights = []
    for plain in plain_layers(network, CHANNELS_LAST):
        layer, x = _apply(keras, plain, x)
        weights.append((layer, _keras_arrays(plain)))
    model = keras.Model(images, x, name="xpnet")
    for layer, arrays in weights:
        layer.set_weights(arrays)
    return model


def _apply(keras: Any, plain: PlainLayer, x: Any) -> tuple[Any, Any]:
    """Return the Keras layer for a layer, and its output for ``x``."""
    kind, layer, layers = plain.kind, plain.layer, keras.layers
    # Names must not contain a dot. The explicit dtype and data format override the user's global settings.
    how = {"name": f"{plain.name.replace('.', '_')}_{kind.__name__}", "dtype": "float32"}
    image = how | {"data_format": "channels_last"}
    made: Any
    if kind is Dense:
        made = layers.Dense(layer.units, use_bias=layer.bias, **how)
    elif kind is Conv2D:
        kernel, stride, padding = layer.geometry
        x = _pad(keras, x, padding, 0.0)
        made = layers.Conv2D(layer.filters, kernel, stride, use_bias=layer.bias, **image)
    elif kind is BatchNorm:
        # Keras's momentum is the share of the old statistics, xpnet's is that of the batch.
        made = layers.BatchNormalization(momentum=1.0 - layer.momentum, epsilon=layer.epsilon, **how)
    elif kind in (MaxPool2D, AveragePool2D):
        size, stride, padding = layer.geometry
        x = _pad(keras, x, padding, LOWEST if kind is MaxPool2D else 0.0)
        pool = layers.MaxPooling2D if kind is MaxPool2D else layers.AveragePooling2D
        made = pool(size, stride, **image)
    elif kind is Flatten:
        made = layers.Flatten(**image)
    elif kind is LeakyReLU:
        made = layers.LeakyReLU(negative_slope=layer.slope, **how)
    elif kind is GELU:
        return layers.Identity(**how), keras.ops.gelu(x, approximate=True)
    else:
        made = layers.Activation(ACTIVATIONS[kind], **how)
    return made, made(x)


def _pad(keras: Any, x: Any, padding: Pair, value: float) -> Any:
    """Pad images as xpnet does, because Keras's own padding is uneven with a stride."""
    if padding == (0, 0):
        return x
    down, across = padding
    return keras.ops.pad(x, ((0, 0), (down, down), (across, across), (0, 0)), constant_values=value)


def _keras_arrays(plain: PlainLayer) -> list[Any]:
    """Return the arrays of a layer, with arrays and axes in Keras's order."""
    arrays = plain.arrays
    if plain.kind is BatchNorm:
        return [arrays[name] for name in ("gamma", "beta", "running_mean", "running_variance")]
    if plain.kind not in (Dense, Conv2D):
        return []
    weight = arrays["weight"]
    if plain.kind is Conv2D:
        weight = weight.transpose(0, 2, 3, 1)  # (kernel_height, kernel_width, channels, filters)
    return [weight, arrays["bias"]] if "bias" in arrays else [weight]
