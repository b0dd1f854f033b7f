"""A network with weights, ready to predict."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backends import Backend, backend_of, check_dtype, get_backend
from xpnet.data.checks import check_input, check_labels
from xpnet.data.facts import Facts, check_alike, check_layout
from xpnet.data.labels import plain_labels
from xpnet.data.photos import are_photos, images_of
from xpnet.nn.layers import Context, ShapeError, Variable
from xpnet.nn.losses import Loss, softmax
from xpnet.nn.network import Network
from xpnet.typing import Array, ByLayer, HostArray, HostArrays, Shape

if TYPE_CHECKING:
    from xpnet.runs.trace import Trace

EVALUATION_BATCH = 500
"""Samples per evaluation batch: enough for large products, few enough to stay in a processor's cache."""

MOST_ACTIVATIONS = 1 << 28
"""The largest output of a layer for one evaluation batch: 1 GiB in float32."""


class TrainedNetwork(Network):
    """A network with its weights on a backend, from `xpnet.fit` or `xpnet.load`.

    Parameters
    ----------
    network : Network
        The network's description.
    params, state : sequence of dict of str to array
        The host arrays of each layer, which are copied to the backend.
    backend : Backend
        The backend that they are copied to.
    dtype : {"float32", "float64"}
        The dtype of parameters and arithmetic.

    Attributes
    ----------
    params, state : list of dict of str to array
        The arrays on the backend.
    backend : Backend
    dtype : str

    Raises
    ------
    ShapeError
        If ``params`` or ``state`` differ from the arrays that the layers declare.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Dense, Network, TrainedNetwork, get_backend
    >>> net = Network([Dense(3)], input_shape=(4,))
    >>> params = [{"weight": np.ones((4, 3)), "bias": np.asarray([0.0, 1.0, 0.0])}]
    >>> TrainedNetwork(net, params, [{}], get_backend("numpy")).predict(np.ones((2, 4)))
    array([1, 1])
    """

    params: ByLayer
    state: ByLayer
    backend: Backend
    dtype: str
    facts: Facts | None = None

    def __init__(
        self,
        network: Network,
        params: Sequence[HostArrays],
        state: Sequence[HostArrays],
        backend: Backend,
        dtype: str = "float32",
        facts: Facts | None = None,
    ) -> None:
        super().__init__(network.layers, network.input_shape, network.pixel_max)
        _check_shapes("params", params, self.parameters)
        _check_shapes("state", state, self.statistics)
        with backend.session(dtype):
            self.__dict__.update(params=to_device(params, backend, dtype), state=to_device(state, backend, dtype))
        self.__dict__.update(backend=backend, dtype=dtype, facts=facts)

    @classmethod
    def on_device(cls, network: Network, **attributes: Any) -> TrainedNetwork:
        """Return a network with all its attributes, whose arrays are already on the backend, without a copy."""
        trained = cls.__new__(cls)
        trained.__dict__.update(vars(network), **attributes)
        return trained

    def to(self, backend: str | ModuleType | Backend, dtype: str | None = None) -> TrainedNetwork:
        """Return this network on another backend.

        Parameters
        ----------
        backend : str, module or Backend
            See `xpnet.get_backend`.
        dtype : {"float32", "float64"}, optional
            By default the network's own dtype.

        Examples
        --------
        >>> import xpnet
        >>> run = xpnet.train("mlp", dataset="digits", epochs=1, progress=False)
        >>> run.network.to("numpy", dtype="float64").logits(run.data.test_images[:3]).dtype.name
        'float64'
        """
        chosen = self.dtype if dtype is None else check_dtype(dtype)
        return TrainedNetwork(self, *self.host_arrays(), get_backend(backend), chosen, self.facts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as host arrays, so that a copy holds only the backend's name, and no array of its library."""
        network = Network(self.layers, self.input_shape, self.pixel_max)
        return TrainedNetwork, (network, *self.host_arrays(), self.backend, self.dtype, self.facts)

    # Its arrays ---------------------------------------------------------------------------------------------------

    def host_arrays(self) -> tuple[list[HostArrays], list[HostArrays]]:
        """Return parameters and state on the host."""
        with self.backend.session(self.dtype):
            return to_host(self.params, self.backend), to_host(self.state, self.backend)

    def named_arrays(self) -> HostArrays:
        """Return parameters and state as host arrays with names such as ``layers.0.weight``."""
        pairs = enumerate(zip(*self.host_arrays(), strict=True))
        return {f"layers.{i}.{name}": array for i, (p, s) in pairs for name, array in (p | s).items()}

    @classmethod
    def from_named(cls, network: Network, named: HostArrays, backend: Backend, *how: Any) -> TrainedNetwork:
        """Give a network the arrays that `named_arrays` returned; all must be present."""
        params, state = (
            [{name: named[f"layers.{i}.{name}"] for name in layer} for i, layer in enumerate(declared)]
            for declared in (network.parameters, network.statistics)
        )
        return cls(network, params, state, backend, *how)

    # Predictions --------------------------------------------------------------------------------------------------

    def logits(self, images: Any) -> Any:
        """Return the network's raw outputs for images.

        Parameters
        ----------
        images : array_like, shape (n, ...)
            An array of any library on any device, in any memory layout and byte order, read-only or not. It is moved
            to the network's backend. Integers of any size are pixels from 0 to ``pixel_max``, by which they are
            divided. Floating-point images of any precision that NumPy has must be scaled already, and are rounded to
            the network's dtype. ``n`` may be 0. A single image needs no batch axis, and a list of images is accepted
            too. A path, a Pillow image of another size, or a list of these are photographs of digits, which
            `xpnet.data.prepare_digit` prepares.

        Returns
        -------
        array, shape (n, classes)
            An array of the library and on the device of ``images``, in the network's dtype.

        Raises
        ------
        ShapeError
            If the samples do not fit ``input_shape``: they must have as many values, in one row or in the same
            arrangement apart from axes of length 1.
        TypeError
            If the images are not real numbers.
        ValueError
            If the network has no weights, or if the images hold integers outside 0 to ``pixel_max``, NaN, infinity, or
            numbers too large for the network's dtype.
        """
        return backend_of(images).asarray(self._logits(self.host_images(images)))

    def _logits(self, host: HostArray) -> HostArray:
        """Return the logits of images from `host_images`, on the host."""
        outputs = [np.empty((0, *self.output_shape), self.dtype)]
        # A network with very large activations takes fewer samples at once.
        at_once = max(1, min(EVALUATION_BATCH, MOST_ACTIVATIONS // max(map(math.prod, self.shapes))))
        with self.backend.session(self.dtype):
            for start in range(0, len(host), at_once):
                part = host[start : start + at_once]
                batch = self.backend.asarray(self.backend.padded(part, at_once))
                outputs.append(self.backend.to_numpy(self._outputs(self.params, self.state, batch))[: len(part)])
        return np.concatenate(outputs)

    def host_images(self, images: Any) -> HostArray:
        """Check images as described in `logits`, compare them with the training images, and return them on the host."""
        if are_photos(images, self.input_shape):
            images = images_of(images, self.input_shape, self.pixel_max)
        host = check_input("images", images, self.pixel_max, self.dtype)
        if not self.takes(host.shape[1:]) and self.takes(host.shape):  # one image, without the axis of a batch
            host = host[None]
        if host.ndim < 2 or not self.takes(host.shape[1:]):
            raise ShapeError(
                f"images of shape {host.shape}: this network takes (n, ...) with {math.prod(self.input_shape)} numbers "
                f"a sample, arranged as {self.input_shape}"
            )
        if self.facts is not None:
            check_layout("images", host.shape[1:], self.facts.sample_shape)
            check_alike("images", self.facts, host, self.pixel_max)
        return host

    @functools.cached_property
    def _outputs(self) -> Callable[[ByLayer, ByLayer, Array], Array]:
        """Return the function that computes `logits` on the device, compiled if the library can compile."""
        ctx = context(self.backend)

        def outputs(params: ByLayer, state: ByLayer, images: Array) -> Array:
            return self.forward(params, state, self.prepare(images, self.dtype, ctx.xp), ctx)[0]

        return self.backend.compile(outputs)

    def predict(self, images: Any) -> Any:
        """Return the most probable class of each image.

        Parameters
        ----------
        images : array_like, shape (n, ...)
            See `logits`.

        Returns
        -------
        array of integers, shape (n,)
            An array of the library and on the device of ``images``.

        Raises
        ------
        ShapeError, TypeError, ValueError
            See `logits`.
        """
        return backend_of(images).asarray(np.argmax(self._logits(self.host_images(images)), axis=1))

    def predict_proba(self, images: Any) -> Any:
        """Return the softmax of `logits`: probabilities if cross-entropy was the training loss."""
        return backend_of(images).asarray(softmax(self._logits(self.host_images(images))))

    def score(self, images: Any, labels: Any) -> float:
        """Return the accuracy: the share of images whose most probable class is their label."""
        host = self.host_images(images)
        expected = check_labels("labels", plain_labels("labels", labels), self.output_shape[0], len(host))
        return float(np.mean(np.argmax(self._logits(host), axis=1) == expected))

    def layer_outputs(self, images: Any) -> list[HostArray]:
        """Return the output of each layer for images, on the host.

        Parameters
        ----------
        images : array_like, shape (n, ...)
            See `logits`. All pass through the network in one batch.

        Returns
        -------
        list of array, shape (n, features) or (n, height, width, channels)
            One for each layer, in the network's dtype.

        Raises
        ------
        ShapeError, TypeError, ValueError
            See `logits`.

        Examples
        --------
        >>> import xpnet
        >>> run = xpnet.train("mlp", dataset="digits", epochs=1, progress=False)
        >>> [output.shape for output in run.network.layer_outputs(run.data.test_images[:3])]
        [(3, 100), (3, 100), (3, 100), (3, 10)]
        """
        return [layer.output for layer in self.trace(images).layers]

    def trace(self, images: Any, labels: Any = None, *, loss: Loss | None = None, seed: int = 0) -> Trace:
        """Trace one pass: return the outputs of all layers and, with labels, the gradients of the loss.

        Parameters
        ----------
        images : array_like, shape (n, ...)
            See `logits`.
        labels : array of integers, shape (n,), optional
            With labels, the pass is a training step without the update: batch normalization uses the batch, and
            dropout drops units. Without labels, it is an evaluation pass.
        loss : Loss, optional
            By default `SoftmaxCrossEntropy`.
        seed : int
            The seed of the step's random numbers, such as those of dropout.

        Returns
        -------
        Trace
            The output of each layer, its parameters, and the gradients with respect to both, on the host. A trace can
            be shown as a table, and drawn as histograms.

        Examples
        --------
        >>> import xpnet
        >>> run = xpnet.train("mlp", dataset="digits", epochs=1, hidden_sizes=(5,), progress=False)
        >>> trace = run.network.trace(run.data.test_images[:20], run.data.test_labels[:20])
        >>> [layer.gradient.shape for layer in trace.layers], trace.layers[0].gradients["weight"].shape
        ([(20, 5), (20, 5), (20, 5), (20, 10)], (64, 5))
        >>> trace.table().splitlines()[0].split()[:5]
        ['layer', 'output', 'mean', 'spread', 'dead']
        """
        from xpnet.runs.trace import trace

        return trace(self, images, labels, loss=loss, seed=seed)

    # For other programs -------------------------------------------------------------------------------------------

    def to_onnx(self, path: str | os.PathLike[str], *, sample_shape: Shape | None = None) -> None:
        """Write an ONNX model; see `xpnet.export.to_onnx`."""
        from xpnet.export import to_onnx

        to_onnx(self, path, sample_shape=sample_shape)

    def to_torch(self) -> Any:
        """Return a ``torch.nn.Sequential``; see `xpnet.export.to_torch`."""
        from xpnet.export import to_torch

        return to_torch(self)

    def to_keras(self) -> Any:
        """Return a ``keras.Model``; see `xpnet.export.to_keras`."""
        from xpnet.export import to_keras

        return to_keras(self)


class NoWeightsError(AttributeError, ValueError):
    """A network without weights was asked to predict."""


ELSEWHERE = {
    "fit": "xpnet.fit(network, data)",
    "compile": "the arguments of xpnet.fit(network, data)",
    "evaluate": "xpnet.evaluate(network, data), or score(images, labels)",
    "state_dict": "named_arrays()",
    "get_weights": "named_arrays()",
    "save": "run.save(folder)",
}
"""Methods of other libraries' networks, and their counterparts in xpnet."""


def missing(network: Network, name: str) -> AttributeError:
    """Return the error for an attribute that a network does not have, with a hint if there is a counterpart."""
    if hasattr(TrainedNetwork, name):
        return NoWeightsError("this network has no weights yet: train it with xpnet.fit, or load one with xpnet.load")
    hint = f": see {ELSEWHERE[name]}" if name in ELSEWHERE else ""
    return AttributeError(f"{type(network).__name__!r} object has no attribute {name!r}{hint}")


def context(backend: Backend, *, training: bool = False, all_reduce: Any = None) -> Context:
    """Return the context of a pass on a backend."""
    how = (backend.convolution, backend.product_limit)
    return Context(backend.xp, training, all_reduce=all_reduce, convolution=how)


def to_device(layers: Sequence[HostArrays], backend: Backend, dtype: str) -> ByLayer:
    """Copy the arrays of each layer from the host to a backend."""
    return [{name: backend.asarray(array, dtype) for name, array in layer.items()} for layer in layers]


def to_host(layers: ByLayer, backend: Backend) -> list[HostArrays]:
    """Copy the arrays of each layer from a backend to the host."""
    return [{name: backend.to_numpy(array) for name, array in layer.items()} for layer in layers]


def _check_shapes(name: str, given: Sequence[HostArrays], declared: Sequence[Mapping[str, Variable]]) -> None:
    shapes = [{key: np.shape(array) for key, array in layer.items()} for layer in given]
    expected = [{key: variable.shape for key, variable in layer.items()} for layer in declared]
    if shapes != expected:
        raise ShapeError(f"{name} of shapes {shapes}: the layers of this network declare {expected}")
