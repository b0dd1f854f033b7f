"""Parameters end to end in one array, for devices where a call costs microseconds whatever its size.

A packed list of parameters is a list with one dictionary with one array: the form that `xpnet.training.step.update`
takes anyway, so that it updates all of a network with the calls of one array. On a CPU nothing is gained by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from xpnet.nn.layers import Variable
from xpnet.typing import Array, Arrays, Namespace


class Packing:
    """How the arrays that the layers declare lie in one.

    Parameters
    ----------
    declared : sequence of dict of str to Variable
        What each layer declares: ``network.parameters``.
    xp : module
        The array namespace.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Dense, Network
    >>> packing = Packing(Network([Dense(2)], input_shape=(3,)).parameters, np)
    >>> packed = packing.pack([{"weight": np.ones((3, 2)), "bias": np.zeros(2)}])
    >>> packed[0]["packed"].tolist(), packing.unpack(packed)[0]["weight"].shape
    ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], (3, 2))
    """

    def __init__(self, declared: Sequence[Mapping[str, Variable]], xp: Namespace) -> None:
        self.declared, self.xp = declared, xp

    def join(self, layers: Sequence[Arrays]) -> Array:
        """Return one vector of all arrays, in the order in which they are declared."""
        pairs = zip(layers, self.declared, strict=True)
        pieces = [self.xp.reshape(layer[name], (-1,)) for layer, names in pairs for name in names]
        return pieces[0] if len(pieces) == 1 else self.xp.concat(pieces)

    def split(self, vector: Array) -> list[Arrays]:
        """Undo `join`: views of the vector, where the library has views."""
        layers: list[Arrays] = []
        stop = 0
        for declared in self.declared:
            layer: Arrays = {}
            for name, variable in declared.items():
                start, stop = stop, stop + math.prod(variable.shape)
                layer[name] = self.xp.reshape(vector[start:stop], variable.shape)
            layers.append(layer)
        return layers

    def pack(self, layers: Sequence[Arrays]) -> list[Arrays]:
        """Return the arrays of all layers as a list with one dictionary with one array."""
        return [{"packed": self.join(layers)}]

    def unpack(self, packed: Sequence[Arrays]) -> list[Arrays]:
        """Undo `pack`."""
        return self.split(packed[0]["packed"])

    def pack_moments(self, moments: Sequence[Mapping[str, Arrays]]) -> list[dict[str, Arrays]]:
        """Pack an optimizer's state, which has a dictionary for each array of parameters."""
        names = next(iter(array for layer in moments for array in layer.values()))
        return [{"packed": {name: self.join(_pick(moments, name)) for name in names}}]

    def unpack_moments(self, packed: Sequence[Mapping[str, Arrays]]) -> list[dict[str, Arrays]]:
        """Undo `pack_moments`."""
        apart = {name: self.split(vector) for name, vector in packed[0]["packed"].items()}
        return [
            {array: {name: layers[i][array] for name, layers in apart.items()} for array in declared}
            for i, declared in enumerate(self.declared)
        ]


def _pick(moments: Sequence[Mapping[str, Arrays]], name: str) -> list[Arrays]:
    return [{array: held[name] for array, held in layer.items()} for layer in moments]
