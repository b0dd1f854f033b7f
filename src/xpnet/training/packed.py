"""Parameters end to end in one array, for devices where a call costs microseconds whatever its size.

A packed list of parameters is a list with one dictionary with one array. `xpnet.training.step.update` accepts this form
like any other, and so updates a whole network with the calls for one array. On a CPU packing gains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xpnet.nn.layers import Variable
from xpnet.typing import Array, Arrays, ByLayer, Namespace

Progress = Any
"""`xpnet.training.step.Progress`, which needs this module."""


class Packing:
    """The positions of the layers' arrays in one vector.

    Parameters
    ----------
    declared : sequence of dict of str to Variable
        The declarations of each layer: ``network.parameters``.
    xp : module
        The array namespace.
    packed : bool
        Whether `pack` and `unpack` do anything.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Dense, Network
    >>> packing = Packing(Network([Dense(2)], input_shape=(3,)).parameters, np, packed=True)
    >>> packed = packing.pack([{"weight": np.ones((3, 2)), "bias": np.zeros(2)}])
    >>> packed[0]["packed"].tolist(), packing.unpack(packed)[0]["weight"].shape
    ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], (3, 2))
    """

    def __init__(self, declared: Sequence[Mapping[str, Variable]], xp: Namespace, *, packed: bool) -> None:
        self.declared, self.xp, self.packed = declared, xp, packed

    def join(self, layers: ByLayer) -> Array:
        """Return one vector of all arrays, in the order of their declarations."""
        pairs = zip(layers, self.declared, strict=True)
        pieces = [self.xp.reshape(layer[name], (-1,)) for layer, names in pairs for name in names]
        return pieces[0] if len(pieces) == 1 else self.xp.concat(pieces)

    def split(self, vector: Array) -> ByLayer:
        """Undo `join`; the arrays are views of the vector if the library has views."""
        layers: ByLayer = []
        stop = 0
        for declared in self.declared:
            layer: Arrays = {}
            for name, variable in declared.items():
                start, stop = stop, stop + math.prod(variable.shape)
                layer[name] = self.xp.reshape(vector[start:stop], variable.shape)
            layers.append(layer)
        return layers

    def pack(self, layers: ByLayer) -> ByLayer:
        """Return the arrays of all layers as a list with one dictionary with one array."""
        return [{"packed": self.join(layers)}] if self.packed else layers

    def unpack(self, packed: ByLayer) -> ByLayer:
        """Undo `pack`."""
        return self.split(packed[0]["packed"]) if self.packed else packed

    def pack_progress(self, progress: Progress) -> Progress:
        """Pack the parameters and the optimizer's state, which has one dictionary per array of parameters."""
        if not self.packed:
            return progress
        names = next(iter(array for layer in progress.moments for array in layer.values()))
        moments = {name: self.join(_pick(progress.moments, name)) for name in names}
        return progress._replace(params=self.pack(progress.params), moments=[{"packed": moments}])

    def unpack_progress(self, progress: Progress) -> Progress:
        """Undo `pack_progress`."""
        if not self.packed:
            return progress
        apart = {name: self.split(vector) for name, vector in progress.moments[0]["packed"].items()}
        moments = [
            {array: {name: layers[i][array] for name, layers in apart.items()} for array in declared}
            for i, declared in enumerate(self.declared)
        ]
        return progress._replace(params=self.unpack(progress.params), moments=moments)


def _pick(moments: Sequence[Mapping[str, Arrays]], name: str) -> ByLayer:
    return [{array: held[name] for array, held in layer.items()} for layer in moments]
