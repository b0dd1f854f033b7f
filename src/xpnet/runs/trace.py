"""The inside of one step: the output of each layer for a batch, and the gradients that pass back through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.checks import check_labels
from xpnet.nn.losses import Loss, SoftmaxCrossEntropy
from xpnet.nn.trained import TrainedNetwork, context
from xpnet.parts import require_instance
from xpnet.text import aligned
from xpnet.typing import Array, ByLayer, HostArrays

HEAD = ("layer", "output", "mean", "spread", "dead", "gradient", "of parameters")


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """One layer's output and gradients for a batch, on the host.

    Attributes
    ----------
    name : str
        The layer's number and hyperparameters, such as ``"0: Dense(100)"``.
    output : array, shape (n, features) or (n, height, width, channels)
    parameters : dict of str to array
    gradient : array, the shape of ``output``, optional
        The gradient of the loss, summed over the batch, with respect to the output.
    gradients : dict of str to array
        The gradients with respect to the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.runs.trace import LayerTrace
    >>> layer = LayerTrace("0: ReLU()", np.asarray([[0.0, 2.0], [0.0, 4.0]]), {}, None, {})
    >>> layer.dead, layer.row()
    (0.5, ['0: ReLU()', '(2,)', '1.5', '1.66', '50%', '', ''])
    """

    name: str
    output: NDArray[Any]
    parameters: HostArrays
    gradient: Any
    gradients: HostArrays

    @property
    def dead(self) -> float:
        """The share of units, or channels, that are zero for every image."""
        return float(np.mean(~np.any(self.output, axis=tuple(range(self.output.ndim - 1)))))

    def row(self) -> list[str]:
        """Return the layer's row of the table: mean, standard deviation, dead units, and norms of the gradients."""
        y = self.output
        parts = [self.name, str(y.shape[1:]), f"{y.mean():.3g}", f"{y.std():.3g}", f"{self.dead:.0%}"]
        norms = [[] if self.gradient is None else [self.gradient], list(self.gradients.values())]
        return [*parts, *(f"{_norm(arrays):.3g}" if arrays else "" for arrays in norms)]


@dataclass(frozen=True, eq=False)
class Trace:
    """The outputs and gradients of all layers for a batch, from `TrainedNetwork.trace`.

    Attributes
    ----------
    layers : tuple of LayerTrace
    loss : float, optional
        The loss, summed over the batch.

    Examples
    --------
    >>> import xpnet
    >>> run = xpnet.train("mlp", dataset="digits", epochs=1, progress=False)
    >>> trace = run.network.trace(run.data.test_images[:5])
    >>> trace, [layer.name for layer in trace.layers]
    (Trace(4 layers, 5 images), ['0: Dense(100)', '1: ReLU()', '2: Dropout(0.2)', '3: Dense(10)'])
    """

    layers: tuple[LayerTrace, ...]
    loss: float | None = None

    def __repr__(self) -> str:
        """Return a description in one line."""
        loss = "" if self.loss is None else f", loss {self.loss / len(self.layers[0].output):.4f}"
        return f"Trace({len(self.layers)} layers, {len(self.layers[0].output)} images{loss})"

    def table(self) -> str:
        """Return mean, spread and dead units of each layer's output, and the norms of its gradients, as a table."""
        return aligned([HEAD, *(layer.row() for layer in self.layers)])

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        from xpnet.plots import display

        caption = "The spread is the standard deviation; gradients are given by their norms."
        return display.table(HEAD, [layer.row() for layer in self.layers], caption=caption)

    def plot(self, what: str = "outputs") -> Any:
        """Draw the distribution of each layer's numbers.

        Parameters
        ----------
        what : {"outputs", "gradients", "parameters"}
            Whether to draw the outputs, the gradients with respect to them, or those with respect to the parameters.

        Returns
        -------
        matplotlib.figure.Figure
            See `xpnet.plots.histograms`.
        """
        from xpnet import plots

        if what not in ("outputs", "gradients", "parameters"):
            raise ValueError(f"what={what!r}: must be 'outputs', 'gradients' or 'parameters'")
        if what != "outputs" and self.loss is None:
            raise ValueError(f"what={what!r}: the trace has no gradients: give network.trace the labels too")
        if what == "parameters":
            named = {f"{t.name} {name}": array for t in self.layers for name, array in t.gradients.items()}
            return plots.histograms(named, title="gradients of the parameters")
        if what == "gradients":
            return plots.histograms({t.name: t.gradient for t in self.layers}, title="gradients of the outputs")
        return plots.histograms({t.name: t.output for t in self.layers}, title="outputs")


def trace(
    network: TrainedNetwork, images: Any, labels: Any = None, *, loss: Loss | None = None, seed: int = 0
) -> Trace:
    """Trace a pass; see `TrainedNetwork.trace`."""
    chosen = SoftmaxCrossEntropy() if loss is None else loss
    require_instance("loss", chosen, Loss, "SoftmaxCrossEntropy()")
    host, backend, training = network.host_images(images), network.backend, labels is not None
    classes = network.output_shape[0]
    targets = chosen.targets(check_labels("labels", labels, classes, len(host)), classes) if training else None
    least, layer = network.minimum_batch
    if training and len(host) < least:
        raise ValueError(f"images: {len(host)}, but in training {layer} needs at least {least} samples")
    with backend.session(network.dtype):
        ctx, xp = context(backend, training=training), backend.xp
        noise = network.noise(np.random.default_rng(seed), len(host)) if training else [None] * len(network.layers)
        x = network.prepare(backend.asarray(host), network.dtype, xp)
        outputs, caches = [], []
        for layer, p, s, z in zip(network.layers, network.params, network.state, noise, strict=True):
            x, cache = layer.forward(p, x, ctx.of_layer(None if z is None else backend.asarray(z), s))
            outputs.append(x)
            caches.append(cache)
        value: float | None = None
        by_output: list[Any] = [None] * len(outputs)
        by_layer: ByLayer = [{}] * len(outputs)
        if training:
            total, dy = chosen.value_and_gradient(x, backend.asarray(targets, network.dtype), xp=xp)
            value = float(backend.to_numpy(total))
            for i in range(len(outputs) - 1, -1, -1):
                by_output[i] = dy
                dy, by_layer[i] = network.layers[i].backward(network.params[i], caches[i], dy, ctx.of_layer())

        def moved(arrays: dict[str, Array]) -> HostArrays:
            return {name: backend.to_numpy(array) for name, array in arrays.items()}

        layers = [
            LayerTrace(
                f"{i}: {layer}",
                _batch_first(backend.to_numpy(y)),
                moved(network.params[i]),
                None if dy is None else _batch_first(backend.to_numpy(dy)),
                moved(gradients),
            )
            for i, (layer, y, dy, gradients) in enumerate(
                zip(network.layers, outputs, by_output, by_layer, strict=True)
            )
        ]
    return Trace(tuple(layers), value)


def _batch_first(array: NDArray[Any]) -> NDArray[Any]:
    """Return images, which are (height, channels, width, n) inside the network, as (n, height, width, channels)."""
    return np.transpose(array, (3, 0, 2, 1)) if array.ndim == 4 else array


def _norm(arrays: Sequence[NDArray[Any]]) -> float:
    """Return the square root of the sum of squares over several arrays."""
    return float(np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in arrays)))
