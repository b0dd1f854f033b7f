"""Frozen layers: their parameters stay as they are, bit for bit.

To a run, the parameters of a frozen layer are state, like the running means of batch normalization: the forward pass
reads them, checkpoints keep them, and neither gradients nor the optimizer know of them. Nothing else in training has
to tell one layer from another.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xpnet.nn.layers import Context, Layer, Variable
from xpnet.nn.network import Network
from xpnet.typing import Array, Arrays, Shape


@dataclass(frozen=True)
class Frozen(Layer):
    """A layer that does not learn: it works as in evaluation, and its gradient passes through.

    Parameters
    ----------
    layer : Layer
        What it is otherwise.

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
        """Return that of the layer."""
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
        """Pass the gradient back through the layer, and leave that of its parameters."""
        arrays, kept = cache
        return self.layer.backward(arrays, kept, dy, ctx._replace(training=False))[0], {}


def freeze(network: Network, layers: Sequence[int]) -> Network:
    """Return a network whose layers of these indices are frozen, as far as they have parameters.

    Raises
    ------
    TypeError, ValueError
        If they are no indices of layers, or nothing is left to train.

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


def hide(network: Network, params: Sequence[Arrays], state: Sequence[Arrays]) -> tuple[list[Arrays], list[Arrays]]:
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


def show(network: Network, params: Sequence[Arrays], state: Sequence[Arrays]) -> tuple[list[Arrays], list[Arrays]]:
    """Undo `hide`; ``network`` is the one without frozen layers."""
    held = [p | s for p, s in zip(params, state, strict=True)]
    parameters, statistics = (
        [{name: arrays[name] for name in names} for arrays, names in zip(held, declared, strict=True)]
        for declared in (network.parameters, network.statistics)
    )
    return parameters, statistics
