"""The network: a list of layers, run forward to predict and backward to learn.

A `Network` is a description: layers and the shape of a sample. Its parameters are a list with one dictionary of
arrays per layer, and its methods take them as an argument. `xpnet.fit` and `xpnet.load` give you a `TrainedNetwork`,
which holds parameters and predicts.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.data.plausible import check_input_layout
from xpnet.data.preprocessing import scale
from xpnet.nn.images import check_numbers
from xpnet.nn.layers import Context, Layer, ShapeError, Variable, draw
from xpnet.parts import require_positive
from xpnet.text import aligned
from xpnet.typing import Array, ByLayer, HostArray, HostArrays, Namespace, Random, Shape


@dataclass(frozen=True, eq=False, repr=False)
class Network:
    """A neural network: layers in a row.

    Parameters
    ----------
    layers : sequence of Layer
        The layers, from the input to the output.
    input_shape : tuple of int
        The shape of one sample: ``(features,)``, ``(height, width)`` or ``(height, width, channels)``.
    pixel_max : float
        The divisor for integer images. Floating-point images are used as they are.

    Raises
    ------
    ShapeError
        If a layer cannot work on the output of the one before it.

    Examples
    --------
    >>> from xpnet import Dense, Network, ReLU
    >>> Network([Dense(100), ReLU(), Dense(10)], input_shape=(784,)).size
    79510
    """

    layers: tuple[Layer, ...]
    input_shape: Shape
    pixel_max: float = 255.0

    def __init__(self, layers: Sequence[Layer], input_shape: Shape, pixel_max: float = 255.0) -> None:
        if not isinstance(layers, Iterable):
            raise TypeError(f"layers={layers!r}: must be a list of layers, such as [Dense(10)]")
        self.__dict__.update(layers=tuple(layers), input_shape=_sample_shape(input_shape))
        self.__dict__.update(pixel_max=float(require_positive("pixel_max", pixel_max)))
        if not self.layers:
            raise ValueError("layers=[]: a network needs at least one layer")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers: {layer!r} is not a Layer (a class must be called, as in ReLU())")
        # Every layer checks its input shape here, so layers that do not fit are an error at once.
        if len(self.shapes[1]) == 3:
            check_input_layout(self.input_shape)

    def __repr__(self) -> str:
        """Write the layers as one would type them."""
        return f"{type(self).__name__}([{', '.join(map(str, self.layers))}], input_shape={self.input_shape})"

    def _repr_html_(self) -> str:
        """Show the diagram and the summary in a notebook."""
        from xpnet.plots import display

        return display.network_html(self)

    def __getattr__(self, name: str) -> Any:
        """Raise an error that names the counterpart of a missing attribute, if there is one."""
        from xpnet.nn.trained import missing

        raise missing(self, name)

    # Its shape ----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of a sample before the first layer and after each layer."""
        shapes = [check_numbers("input_shape", self.input_shape)]
        for i, layer in enumerate(self.layers):
            try:
                shapes.append(check_numbers(layer, layer.output_shape(shapes[-1])))
            except ShapeError as error:
                raise ShapeError(f"layer {i}: {error}") from None
        return tuple(shapes)

    def takes(self, sample_shape: Shape) -> bool:
        """Whether samples of a shape fit ``input_shape``: in one row, or arranged alike but for axes of length 1."""
        long = [size for size in sample_shape if size != 1]
        arranged = len(self.input_shape) == 1 or len(long) <= 1 or long == [n for n in self.input_shape if n != 1]
        return arranged and math.prod(sample_shape) == math.prod(self.input_shape)

    @property
    def output_shape(self) -> Shape:
        """The shape of one output."""
        return self.shapes[-1]

    @functools.cached_property
    def parameters(self) -> tuple[dict[str, Variable], ...]:
        """The arrays that each layer learns, as declared."""
        return tuple(layer.parameters(shape) for layer, shape in zip(self.layers, self.shapes, strict=False))

    @functools.cached_property
    def statistics(self) -> tuple[dict[str, Variable], ...]:
        """The arrays that each layer updates without a gradient, as declared."""
        return tuple(layer.statistics(shape) for layer, shape in zip(self.layers, self.shapes, strict=False))

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of parameters of each layer."""
        return tuple(sum(math.prod(v.shape) for v in declared.values()) for declared in self.parameters)

    @functools.cached_property
    def size(self) -> int:
        """The number of parameters."""
        return sum(self.sizes)

    @functools.cached_property
    def first_learner(self) -> int:
        """The index of the first layer with parameters; no layer before it needs a gradient."""
        return next((i for i, declared in enumerate(self.parameters) if declared), len(self.layers))

    @property
    def minimum_batch(self) -> tuple[int, Layer]:
        """The smallest number of samples that a training batch needs, and the layer that needs so many."""
        needs = [(layer.minimum_batch(shape), layer) for layer, shape in zip(self.layers, self.shapes, strict=False)]
        return max(needs, key=lambda need: need[0])

    def summary(self) -> str:
        """Return a table of the layers: output shapes and numbers of parameters.

        Examples
        --------
        >>> from xpnet import Dense, Network
        >>> print(Network([Dense(3)], input_shape=(4,)).summary())
        layer     output  parameters
        input       (4,)           0
        Dense(3)    (3,)          15
        total                     15
        """
        rows = [("layer", "output", "parameters"), ("input", str(self.input_shape), "0")]
        for layer, shape, size in zip(self.layers, self.shapes[1:], self.sizes, strict=True):
            rows.append((str(layer), str(shape), f"{size:,}"))
        rows.append(("total", "", f"{self.size:,}"))
        return aligned(rows)

    # What it starts with ------------------------------------------------------------------------------------------

    def init(self, rng: Random) -> list[HostArrays]:
        """Draw the parameters on the host, layer after layer.

        Parameters
        ----------
        rng : numpy.random.Generator or numpy.random.RandomState
            The source of random numbers.

        Returns
        -------
        list of dict of str to array of float64
            One dictionary per layer, empty for layers without parameters.
        """
        return [layer.init(rng, shape) for layer, shape in zip(self.layers, self.shapes, strict=False)]

    def init_state(self) -> list[HostArrays]:
        """Return the state of each layer before training; it uses no random numbers."""
        rng = np.random.default_rng(0)
        return [draw(declared, rng) for declared in self.statistics]

    def noise(self, rng: Random, n: int) -> list[HostArray | None]:
        """Draw the random numbers that each layer needs for ``n`` samples of training, on the host."""
        return [layer.noise(rng, shape, n) for layer, shape in zip(self.layers, self.shapes, strict=False)]

    # Forward and backward -----------------------------------------------------------------------------------------

    def arrange(self, images: Array, xp: Namespace) -> Array:
        """Lay a batch out for the first layer.

        Parameters
        ----------
        images : array, shape (n, ...)
            Each sample has as many numbers as ``input_shape``.
        xp : module
            The array namespace.

        Returns
        -------
        array
            ``(n, features)`` for dense layers, ``(height, channels, width, n)`` for images.
        """
        x = xp.reshape(images, (images.shape[0], *self.input_shape))
        if len(self.input_shape) == 1:
            return x
        h, w, c = self.input_shape
        # Merging the last two axes copies the array into the new memory order while its numbers are still small
        # integers. A mere transposed view would slow down every later product: elementwise functions keep its order.
        batch_last = xp.reshape(xp.permute_dims(x, (1, 3, 2, 0)), (h, c, -1))
        return xp.reshape(batch_last, (h, c, w, images.shape[0]))

    def prepare(self, images: Array, dtype: str, xp: Namespace) -> Array:
        """Arrange a batch and scale integer pixels to [0, 1], in ``dtype``."""
        x = self.arrange(images, xp)
        if xp.isdtype(x.dtype, "real floating"):
            return xp.astype(x, getattr(xp, dtype), copy=False)
        return scale(x, self.pixel_max, dtype, xp=xp)

    def forward(
        self, params: ByLayer, state: ByLayer, x: Array, ctx: Context, noise: Sequence[Array | None] | None = None
    ) -> tuple[Array, list[Any]]:
        """Run a batch through all layers.

        Parameters
        ----------
        params, state : sequence of dict of str to array
            The parameters and the state of each layer.
        x : array
            The batch, from `prepare`.
        ctx : Context
            The settings for all layers, such as the namespace and whether this is training.
        noise : sequence of array or None, optional
            The random numbers that each layer needs in training.

        Returns
        -------
        y : array, shape (n, ...)
            The output.
        caches : list
            The cache of each layer, for `backward`.
        """
        drawn = noise or [None] * len(self.layers)
        caches = []
        for layer, p, s, z in zip(self.layers, params, state, drawn, strict=True):
            x, cache = layer.forward(p, x, ctx if z is None and not s else ctx.of_layer(z, s))
            caches.append(cache)
        return x, caches

    def backward(
        self, params: ByLayer, caches: Sequence[Any], dy: Array, ctx: Context, *, input_gradient: bool = False
    ) -> tuple[Array | None, ByLayer]:
        """Pass the gradient of the output back through all layers: the chain rule, last layer first.

        Parameters
        ----------
        params : sequence of dict of str to array
            The parameters, as for `forward`.
        caches : sequence
            The caches from `forward`.
        dy : array
            The gradient of the output.
        ctx : Context
            As for `forward`.
        input_gradient : bool
            Whether to compute the gradient of the input too. Training does not need it.

        Returns
        -------
        dx : array or None
            The gradient of the input.
        gradients : list of dict of str to array
            The gradients of the parameters of each layer, summed over the batch.
        """
        gradients: ByLayer = [{} for _ in self.layers]
        last = 0 if input_gradient else self.first_learner
        for i in range(len(self.layers) - 1, last - 1, -1):
            wanted = ctx if input_gradient or i > last else ctx.of_layer(input_gradient=False)
            dy, gradients[i] = self.layers[i].backward(params[i], caches[i], dy, wanted)
        return dy if input_gradient else None, gradients

    def next_state(self, state: ByLayer, caches: Sequence[Any], ctx: Context) -> ByLayer:
        """Return the state of each layer after a training pass."""
        return [layer.next_state(s, cache, ctx) for layer, s, cache in zip(self.layers, state, caches, strict=True)]

    # Its description ----------------------------------------------------------------------------------------------

    def to_config(self) -> dict[str, Any]:
        """Return a JSON-serializable description for `from_config`."""
        layers = [layer.to_config() for layer in self.layers]
        return {"layers": layers, "input_shape": list(self.input_shape), "pixel_max": self.pixel_max}

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Network:
        """Build the network that `to_config` described.

        Raises
        ------
        ValueError
            If a layer's class is unknown: import the module that defines it first.
        """
        layers = [Layer.from_config(layer) for layer in config["layers"]]
        return Network(layers, tuple(config["input_shape"]), config["pixel_max"])


def _sample_shape(shape: Any) -> Shape:
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise TypeError(f"input_shape={shape!r}: must be a tuple of integers, such as (784,)") from None
    if not 1 <= len(sizes) <= 3 or any(size < 1 for size in sizes):
        raise ShapeError(f"input_shape={shape!r}: must be (features,), (height, width) or (height, width, channels)")
    return (*sizes, 1) if len(sizes) == 2 else sizes
