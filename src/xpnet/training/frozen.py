"""Frozen layers, whose parameters do not change by a bit.

Training treats the parameters of a frozen layer as state, like the running means of batch normalization. The forward
pass reads them and checkpoints contain them, but they have no gradients, and the optimizer does not see them. No other
part of training needs to know which layers are frozen.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xpnet.nn.layers import Context, Layer, Variable
from xpnet.nn.network import Network
from xpnet.typing import Array, Arrays, ByLayer, Shape


@dataclass(frozen=True)
class Frozen(Layer):
    """A layer that does not learn: it works as in evaluation, and its gradient passes through.

    Parameters
    ----------
    layer : Layer
        The layer to freeze.

    Examples
    --------
    >>> from xpnet import Dense
    >>> from xpnet.training.frozen import Frozen
    >>> layer = Frozen(Dense(3))
    >>> layer.parameters((4,)), sorted(layer.statistics((4,)))
    ({}, ['bias', 'weight'])
    """

    layer: Layer

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the output shape of the layer."""
        return self.layer.output_shape(input_shape)

    def statistics(self, input_shape: Shape) -> dict[str, Variable]:
        """Declare all arrays of the layer."""
        return self.layer.parameters(input_shape) | self.layer.statistics(input_shape)

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply the layer as in evaluation."""
        assert ctx.state is not None
        y, cache = self.layer.forward(ctx.state, x, ctx._replace(training=False))
        return y, (ctx.state, cache)

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Pass the gradient back through the layer, without the gradients of its parameters."""
        arrays, kept = cache
        return self.layer.backward(arrays, kept, dy, ctx._replace(training=False))[0], {}


def freeze(network: Network, layers: Sequence[int]) -> Network:
    """Return a network in which the layers of these indices are frozen, if they have parameters.

    Raises
    ------
    TypeError, ValueError
        If an index is invalid, or if no layer is left to train.

    Examples
    --------
    >>> from xpnet import Dense, Network
    >>> from xpnet.training.frozen import freeze
    >>> freeze(Network([Dense(5), Dense(2)], input_shape=(4,)), [0]).size
    12
    """
    count = len(network.layers)
    try:
        indices = {operator.index(i) for i in layers}
    except TypeError:
        raise TypeError(f"freeze={layers!r}: must be a list of the indices of layers, such as [0, 1]") from None
    if wrong := sorted(i for i in indices if not -count <= i < count):
        raise ValueError(f"freeze={layers!r}: there is no layer {wrong[0]}; they go from 0 to {count - 1}")
    chosen = {i % count for i in indices}
    kept = [
        Frozen(layer) if i in chosen and declared else layer
        for i, (layer, declared) in enumerate(zip(network.layers, network.parameters, strict=True))
    ]
    frozen = Network(kept, network.input_shape, network.pixel_max)
    if network.size and not frozen.size:
        raise ValueError(f"freeze={layers!r}: no other layer has parameters, so there is nothing to train")
    return frozen


def frozen_layers(network: Network) -> list[int]:
    """Return the indices of the frozen layers."""
    return [i for i, layer in enumerate(network.layers) if isinstance(layer, Frozen)]


def hide(network: Network, params: ByLayer, state: ByLayer) -> tuple[ByLayer, ByLayer]:
    """Turn the parameters of the frozen layers into state."""
    pairs = list(zip(network.layers, params, state, strict=True))
    return (
        [{} if isinstance(layer, Frozen) else p for layer, p, _ in pairs],
        [p | s if isinstance(layer, Frozen) else s for layer, p, s in pairs],
    )


def thaw(network: Network) -> Network:
    """Undo `freeze`."""
    layers = [layer.layer if isinstance(layer, Frozen) else layer for layer in network.layers]
    return Network(layers, network.input_shape, network.pixel_max)


def show(network: Network, params: ByLayer, state: ByLayer) -> tuple[ByLayer, ByLayer]:
    """Undo `hide`; ``network`` is the one without frozen layers."""
    held = [p | s for p, s in zip(params, state, strict=True)]
    parameters, statistics = (
        [{name: arrays[name] for name in names} for arrays, names in zip(held, declared, strict=True)]
        for declared in (network.parameters, network.statistics)
    )
    return parameters, statistics
