"""The network: a list of layers, run forwards to predict and backwards to learn.

A `Network` is a description: layers and the shape of a sample. Its parameters are one flat vector ``theta``, which
goes in as an argument like everything else; a network that `xpnet.fit` returns or `xpnet.load` reads has them
*bound*, and can `predict`.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backends import Backend, backend_of
from xpnet.checks import require_positive
from xpnet.nn import losses
from xpnet.nn.description import describe, from_config, to_config
from xpnet.nn.layers import (
    Array,
    Context,
    HostArrays,
    Layer,
    Namespace,
    Params,
    Shape,
    ShapeError,
    State,
)

EVALUATION_BATCH = 500
"""Samples that are evaluated at once: many enough for large products, few enough to stay in a processor's cache."""


@dataclass(frozen=True)
class Slot:
    """Where an array of parameters sits in ``theta``."""

    layer: int
    name: str
    shape: Shape
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Weights:
    """What a network has learnt, on a device.

    Attributes
    ----------
    theta : array, shape (size,)
        The parameters.
    state : list of dict
        The state of each layer.
    backend : Backend
        Where they are.
    dtype : str
        Their dtype.
    """

    theta: Array = field(repr=False)
    state: list[State] = field(repr=False)
    backend: Backend
    dtype: str


@dataclass(frozen=True, eq=False)
class Network:
    """A neural network: layers in a row.

    Parameters
    ----------
    layers : sequence of Layer
        From the input to the output.
    input_shape : tuple of int
        The shape of one sample: ``(features,)``, ``(height, width)`` or ``(height, width, channels)``.
    pixel_max : float
        What integer images are divided by. Floating-point images are taken as they are.
    weights : Weights, optional
        Bound parameters.

    Raises
    ------
    ShapeError
        If a layer cannot work on what the one before it returns.

    Examples
    --------
    >>> from xpnet import Dense, Network, ReLU
    >>> Network([Dense(100), ReLU(), Dense(10)], input_shape=(784,)).size
    79510
    """

    layers: tuple[Layer, ...]
    input_shape: Shape
    pixel_max: float = 255.0
    weights: Weights | None = None

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Shape,
        pixel_max: float = 255.0,
        weights: Weights | None = None,
    ) -> None:
        if not isinstance(layers, Iterable):
            raise TypeError(f"layers={layers!r}: must be a list of layers, such as [Dense(10)]")
        object.__setattr__(self, "layers", tuple(layers))
        object.__setattr__(self, "input_shape", _sample_shape(input_shape))
        require_positive("pixel_max", pixel_max)
        object.__setattr__(self, "pixel_max", float(pixel_max))
        object.__setattr__(self, "weights", weights)
        if not self.layers:
            raise ValueError("layers=[]: a network needs at least one layer")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers: {layer!r} is not a Layer (a class must be called, as in ReLU())")
        _ = self.shapes  # Every layer checks what it is given, so a network that does not fit never exists.

    # Its shape ----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of a sample before the first layer, and after each."""
        shapes = [self.input_shape]
        for i, layer in enumerate(self.layers):
            try:
                shapes.append(layer.output_shape(shapes[-1]))
            except ShapeError as error:
                raise ShapeError(f"layer {i}: {error}") from None
        return tuple(shapes)

    def takes(self, sample_shape: Shape) -> bool:
        """Whether samples of a shape are arranged as ``input_shape``, axes of length 1 aside, or in one row."""
        long = [size for size in sample_shape if size != 1]
        arranged = len(self.input_shape) == 1 or len(long) <= 1 or long == [n for n in self.input_shape if n != 1]
        return arranged and math.prod(sample_shape) == math.prod(self.input_shape)

    @property
    def output_shape(self) -> Shape:
        """The shape of one output."""
        return self.shapes[-1]

    @functools.cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Where each array of parameters sits in ``theta``."""
        slots: list[Slot] = []
        stop = 0
        for i, (params, _) in enumerate(self._initial(np.random.default_rng(0))):
            for name, value in params.items():
                start, stop = stop, stop + value.size
                slots.append(Slot(i, name, value.shape, start, stop))
        return tuple(slots)

    @property
    def size(self) -> int:
        """The number of parameters."""
        return self.slots[-1].stop if self.slots else 0

    @functools.cached_property
    def first_learner(self) -> int:
        """The index of the first layer with parameters: gradients are not needed before it."""
        return self.slots[0].layer if self.slots else len(self.layers)

    @property
    def minimum_batch(self) -> tuple[int, Layer]:
        """The least number of samples that a training batch needs, and the layer that needs as many."""
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
        for i, layer in enumerate(self.layers):
            count = sum(slot.stop - slot.start for slot in self.slots if slot.layer == i)
            rows.append((describe(layer), str(self.shapes[i + 1]), f"{count:,}"))
        rows.append(("total", "", f"{self.size:,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)

    # Parameters ---------------------------------------------------------------------------------------------------

    def _initial(self, rng: Any) -> Iterator[tuple[HostArrays, HostArrays]]:
        for layer, shape in zip(self.layers, self.shapes, strict=False):
            yield layer.init(rng, shape)

    def init(self, rng: Any) -> tuple[NDArray[np.float64], list[HostArrays]]:
        """Draw the parameters on the host, layer after layer.

        Parameters
        ----------
        rng : numpy.random.Generator or numpy.random.RandomState
            What to draw from.

        Returns
        -------
        theta : array of float64, shape (size,)
        state : list of dict of str to array
            One dictionary a layer, empty for most.
        """
        drawn = list(self._initial(rng))
        pieces = [np.ravel(value) for params, _ in drawn for value in params.values()]
        theta = np.concatenate(pieces) if pieces else np.empty(0)
        return theta, [state for _, state in drawn]

    def init_state(self) -> list[HostArrays]:
        """Return the state of each layer as it is before training: it does not depend on what is drawn."""
        return self.init(np.random.default_rng(0))[1]

    def noise(self, rng: Any, n: int) -> list[NDArray[Any] | None]:
        """Draw on the host, layer after layer, what each needs of chance for ``n`` samples of training."""
        return [layer.noise(rng, shape, n) for layer, shape in zip(self.layers, self.shapes, strict=False)]

    def split(self, theta: Array, xp: Namespace) -> tuple[Array, ...]:
        """Return the arrays that ``theta`` is made of, as views of it where the library has views."""
        return tuple(xp.reshape(theta[slot.start : slot.stop], slot.shape) for slot in self.slots)

    def join(self, arrays: Sequence[Array], xp: Namespace) -> Array:
        """Undo `split`."""
        pieces = [xp.reshape(array, (-1,)) for array in arrays]
        return pieces[0] if len(pieces) == 1 else xp.concat(pieces)

    def unflatten(self, theta: Array | tuple[Array, ...], xp: Namespace) -> list[Params]:
        """Return the parameters of each layer, given one vector or what `split` makes of it."""
        params: list[Params] = [{} for _ in self.layers]
        arrays = theta if isinstance(theta, tuple) else self.split(theta, xp)
        for slot, array in zip(self.slots, arrays, strict=True):
            params[slot.layer][slot.name] = array
        return params

    def flatten(self, params: Sequence[Params], xp: Namespace, *, apart: bool = False) -> Array | tuple[Array, ...]:
        """Undo `unflatten`: return one vector, or its arrays ``apart``."""
        arrays = tuple(params[slot.layer][slot.name] for slot in self.slots)
        return arrays if apart else self.join(arrays, xp)

    # Forwards and backwards ---------------------------------------------------------------------------------------

    def arrange(self, images: Array, xp: Namespace) -> Array:
        """Lay a batch out as the first layer wants it.

        Parameters
        ----------
        images : array, shape (n, ...)
            As many numbers a sample as ``input_shape`` has.
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
        # Merging the last two axes lays the array out anew, batch last, while its numbers are still small integers;
        # a mere transposition would be carried on by elementwise functions and slow every later product down.
        batch_last = xp.reshape(xp.permute_dims(x, (1, 3, 2, 0)), (h, c, -1))
        return xp.reshape(batch_last, (h, c, w, images.shape[0]))

    def prepare(self, images: Array, dtype: Any, xp: Namespace) -> Array:
        """Arrange a batch and scale integer pixels to [0, 1], in ``dtype``."""
        x = self.arrange(images, xp)
        if xp.isdtype(x.dtype, "real floating"):
            return xp.astype(x, dtype, copy=False)
        x = xp.astype(x, dtype)
        x *= 1.0 / self.pixel_max
        return x

    def forward(
        self,
        params: Sequence[Params],
        state: Sequence[State],
        x: Array,
        ctx: Context,
        noise: Sequence[Array | None] | None = None,
    ) -> tuple[Array, list[Any]]:
        """Run a batch through all layers.

        Parameters
        ----------
        params : sequence of dict of str to array
            The parameters of each layer, from `unflatten`.
        state : sequence of dict
            The state of each layer.
        x : array
            From `prepare`.
        ctx : Context
            The namespace, and whether this is training.
        noise : sequence of array or None, optional
            The chance that each layer needs in training.

        Returns
        -------
        y : array, shape (n, ...)
            The output.
        caches : list
            What `backward` needs of each layer.
        """
        drawn = noise or [None] * len(self.layers)
        caches = []
        for layer, p, s, z in zip(self.layers, params, state, drawn, strict=True):
            x, cache = layer.forward(p, x, ctx, state=s, noise=z)
            caches.append(cache)
        return x, caches

    def backward(
        self,
        params: Sequence[Params],
        caches: Sequence[Any],
        dy: Array,
        ctx: Context,
        *,
        input_gradient: bool = False,
    ) -> tuple[list[Params], Array | None]:
        """Pass the gradient of the output back through all layers: the chain rule, last layer first.

        Parameters
        ----------
        params : sequence of dict of str to array
            The parameters, as for `forward`.
        caches : sequence
            From `forward`.
        dy : array
            The gradient of the output.
        ctx : Context
            As for `forward`.
        input_gradient : bool
            Whether the gradient of the input is wanted too. Training does without.

        Returns
        -------
        gradients : list of dict of str to array
            The gradients of the parameters of each layer, summed over the batch.
        dx : array or None
            The gradient of the input.
        """
        gradients: list[Params] = [{} for _ in self.layers]
        last = 0 if input_gradient else self.first_learner
        for i in range(len(self.layers) - 1, last - 1, -1):
            dy, gradients[i] = self.layers[i].backward(
                params[i], caches[i], dy, ctx, input_gradient=input_gradient or i > last
            )
        return gradients, dy if input_gradient else None

    def next_state(self, state: Sequence[State], caches: Sequence[Any], ctx: Context) -> list[State]:
        """Return the state of each layer after a training pass."""
        return [layer.next_state(s, cache, ctx) for layer, s, cache in zip(self.layers, state, caches, strict=True)]

    # With its weights ---------------------------------------------------------------------------------------------

    def bind(
        self,
        theta: NDArray[Any],
        state: Sequence[HostArrays],
        backend: Backend,
        dtype: str = "float32",
    ) -> Network:
        """Return this network with parameters, copied from the host to a backend.

        Raises
        ------
        ShapeError
            If there are more or fewer than it has.
        """
        if np.shape(theta) != (self.size,) or len(state) != len(self.layers):
            raise ShapeError(
                f"theta of shape {np.shape(theta)} with the state of {len(state)} layers: this network has "
                f"{self.size} parameters and {len(self.layers)} layers"
            )
        with backend.session(dtype):
            weights = Weights(
                backend.asarray(theta, dtype),
                [{k: backend.asarray(v, dtype) for k, v in layer.items()} for layer in state],
                backend,
                dtype,
            )
        return Network(self.layers, self.input_shape, self.pixel_max, weights)

    def bound(self) -> Weights:
        """Return the weights, or raise a clear error when there are none."""
        if self.weights is None:
            raise ValueError("this network has no weights yet: train it with xpnet.fit, or load one with xpnet.load")
        return self.weights

    def named_arrays(self) -> HostArrays:
        """Return parameters and state as host arrays with names such as ``layers.0.weight``."""
        weights = self.bound()
        with weights.backend.session(weights.dtype):
            theta = weights.backend.to_numpy(weights.theta)
            named = {f"layers.{s.layer}.{s.name}": theta[s.start : s.stop].reshape(s.shape) for s in self.slots}
            for i, state in enumerate(weights.state):
                for name, value in state.items():
                    named[f"layers.{i}.{name}"] = weights.backend.to_numpy(value)
        return named

    def expected_arrays(self, rng: Any = None) -> dict[str, Shape]:
        """Return the names and shapes that `named_arrays` would give; ``rng`` is drawn from to find them out."""
        drawn = enumerate(self._initial(rng or np.random.default_rng(0)))
        return {f"layers.{i}.{k}": v.shape for i, pair in drawn for arrays in pair for k, v in arrays.items()}

    def bind_named(self, named: HostArrays, backend: Backend, dtype: str = "float32") -> Network:
        """Return this network with the arrays that `named_arrays` gave, which must be complete."""
        pieces = [np.ravel(named[f"layers.{s.layer}.{s.name}"]) for s in self.slots]
        state = self.init_state()
        filled = [{name: named[f"layers.{i}.{name}"] for name in layer} for i, layer in enumerate(state)]
        return self.bind(np.concatenate(pieces) if pieces else np.empty(0), filled, backend, dtype)

    def logits(self, images: Any) -> NDArray[Any]:
        """Return the network's raw outputs for images.

        Parameters
        ----------
        images : array_like, shape (n, ...)
            Of any library, on any of its devices, in any memory layout and byte order, read-only or not; moved to
            the network's backend. Integers of any size are pixels, from 0 to ``pixel_max``, by which they are
            divided. Floating-point images of any precision that NumPy has must be scaled already; they are rounded
            to the network's dtype. There may be none, ``n = 0``.

        Returns
        -------
        array, shape (n, classes)
            On the host, in the network's dtype.

        Raises
        ------
        ShapeError
            If they have another number of values a sample, or are arranged in another way than ``input_shape``, axes
            of length 1 and samples in one row aside.
        TypeError
            If they are not real numbers.
        ValueError
            If the network has no weights; or the images hold integers that are no pixels, NaN, infinity, or numbers
            too large for the network's dtype.
        """
        weights = self.bound()
        backend = weights.backend
        host = backend_of(images).to_numpy(images) if hasattr(images, "shape") else images
        host = self.check_images(host, weights.dtype)
        outputs = [np.empty((0, *self.output_shape), weights.dtype)]
        with backend.session(weights.dtype):
            for start in range(0, host.shape[0], EVALUATION_BATCH):
                batch = backend.asarray(host[start : start + EVALUATION_BATCH])
                outputs.append(backend.to_numpy(self._outputs(weights.theta, weights.state, batch)))
        return np.concatenate(outputs)

    @functools.cached_property
    def _outputs(self) -> Callable[[Array, list[State], Array], Array]:
        """What `logits` does on the device, compiled where the library can."""
        backend, xp = self.bound().backend, self.bound().backend.xp
        dtype = getattr(xp, self.bound().dtype)

        def outputs(theta: Array, state: list[State], images: Array) -> Array:
            params = self.unflatten(theta, xp)
            return self.forward(params, state, self.prepare(images, dtype, xp), Context(xp))[0]

        return backend.compile(outputs)

    def predict(self, images: Any) -> Any:
        """Return the most probable class of each image.

        Parameters
        ----------
        images : array_like, shape (n, ...)
            See `logits`.

        Returns
        -------
        array of integers, shape (n,)
            Of the library and on the device that ``images`` came from.

        Raises
        ------
        ShapeError, TypeError, ValueError
            See `logits`.
        """
        caller = backend_of(images)
        return caller.asarray(np.argmax(self.logits(images), axis=1))

    def predict_proba(self, images: Any) -> NDArray[Any]:
        """Return the softmax of the outputs, on the host: probabilities, if cross-entropy was the loss in training."""
        return np.asarray(losses.softmax(self.logits(images)))

    def check_images(self, images: Any, dtype: str) -> NDArray[Any]:
        """Return images on the host if this network can take them, floats in ``dtype``; see `logits`."""
        host = np.asarray(images)
        if host.dtype.kind not in "uif":
            raise TypeError(f"images: must be real numbers, not {host.dtype}")
        if host.ndim < 2 or not self.takes(host.shape[1:]):
            raise ShapeError(
                f"images of shape {host.shape}: this network takes (n, ...) with {math.prod(self.input_shape)} numbers "
                f"a sample, arranged as {self.input_shape}"
            )
        if host.dtype.kind == "f":
            # Rounded here, since not every library has every precision that NumPy has.
            with np.errstate(over="ignore"):
                host = host.astype(dtype, copy=False)
            if not np.isfinite(host).all():
                raise ValueError(f"images: hold NaN, infinity, or numbers too large for {dtype}")
        elif host.size and (host.min() < 0 or host.max() > self.pixel_max):
            raise ValueError(
                f"images: integers from {host.min()} to {host.max()}; as pixels of this network they must be from 0 "
                f"to {self.pixel_max:g}. Images that are scaled already must be floating-point numbers."
            )
        return host

    # Its description ----------------------------------------------------------------------------------------------

    def to_config(self) -> dict[str, Any]:
        """Return a description that JSON can hold, for `from_config`."""
        return {
            "layers": [to_config(layer) for layer in self.layers],
            "input_shape": list(self.input_shape),
            "pixel_max": self.pixel_max,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Network:
        """Build the network that `to_config` described.

        Raises
        ------
        ValueError
            If a layer is of a class that is not known: import the module that defines it first.
        """
        layers = [from_config(layer, Layer) for layer in config["layers"]]
        return cls(layers, tuple(config["input_shape"]), config["pixel_max"])


def _sample_shape(shape: Any) -> Shape:
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise TypeError(f"input_shape={shape!r}: must be a tuple of integers, such as (784,)") from None
    if not 1 <= len(sizes) <= 3 or any(size < 1 for size in sizes):
        raise ShapeError(f"input_shape={shape!r}: must be (features,), (height, width) or (height, width, channels)")
    return (*sizes, 1) if len(sizes) == 2 else sizes
