"""One training step as two pure functions, and an epoch as a loop of steps.

`gradients` runs a batch and returns sums over it: the gradients, the loss, the correct answers, and the number of
samples. `update` turns these sums into new parameters. Between the two, a distributed run adds up the sums of all its
ranks. The rest of the step is the same for one rank or a thousand.

Nothing here reads a number back from the device, and shapes never depend on data, so a backend may compile a whole
epoch into one program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from xpnet.backends import Backend, elementwise
from xpnet.nn.layers import Context
from xpnet.nn.losses import Loss
from xpnet.nn.network import Network
from xpnet.nn.optimizers import Optimizer, Update
from xpnet.nn.trained import context
from xpnet.training.packed import Packing
from xpnet.typing import Array, Arrays, ByLayer, Namespace

Batch = dict[str, Array]

Moments = list[dict[str, Arrays]]
"""An optimizer's state: arrays of the parameter's shape, for each parameter of each layer."""


class Samples(NamedTuple):
    """A set of samples on the device, moved there once.

    Attributes
    ----------
    images : array, shape (n, features)
        The images, unscaled: pixels stay small integers, and are scaled batch by batch.
    labels : array of integers, shape (n,)
    targets : array, shape (n, classes)
        The targets of the loss.
    weights : array, shape (n, 1), optional
        The weight of each sample.
    """

    images: Array
    labels: Array
    targets: Array
    weights: Array | None = None


class Progress(NamedTuple):
    """Everything that training changes.

    Attributes
    ----------
    params : list of dict of str to array
        The parameters of each layer.
    moments : list of dict of str to dict of str to array
        The optimizer's state.
    state : list of dict of str to array
        The layers' state.
    loss, correct : array, shape ()
        Sums over the samples of this epoch so far.
    """

    params: ByLayer
    moments: Moments
    state: ByLayer
    loss: Array
    correct: Array


class Sums(NamedTuple):
    """Sums over a batch, and the number of its samples: the result of `gradients`."""

    gradient: ByLayer
    loss: Array
    correct: Array
    count: Any


@dataclass(frozen=True)
class Step:
    """Everything that stays the same from step to step.

    Attributes
    ----------
    network : Network
    loss : Loss
    optimizer : Optimizer
    backend : Backend
    dtype : str
    all_reduce : callable, optional
        Sums an array over the ranks of a distributed run.
    look : callable, optional
        A function to call instead of `gradients`, with the same arguments and results; see `xpnet.training.workers`.
    each : callable
        Calls a function on each item, like `map`, sequentially or in parallel.
    """

    network: Network
    loss: Loss
    optimizer: Optimizer
    backend: Backend
    dtype: str
    all_reduce: Callable[[Array], Array] | None = None
    look: Callable[..., tuple[Sums, ByLayer]] | None = None
    each: Callable[..., Iterable[Any]] = map

    @functools.cached_property
    def packing(self) -> Packing:
        """The packing of parameters, used for messages between ranks, and for all of a step on launch-bound devices."""
        return Packing(self.network.parameters, self.backend.xp, packed=self.backend.launch_bound)

    @functools.cached_property
    def change(self) -> Callable[..., Update]:
        """The optimizer's update by the mean gradient: the batch's sum times ``share``, one over its sample count."""

        def change(
            theta: Array, moments: Arrays, gradient: Array, share: Any, scalars: Arrays, *, xp: Namespace
        ) -> Update:
            return self.optimizer.update(theta, moments, gradient * share, scalars, xp=xp)

        return elementwise(change)

    @functools.cached_property
    def context(self) -> Context:
        """The context of a training pass."""
        return context(self.backend, training=True, all_reduce=self.all_reduce)

    def start(self, params: ByLayer, state: ByLayer, moments: Moments | None = None) -> Progress:
        """Return the progress at the start of an epoch; without ``moments``, of the first."""
        if moments is None:
            init = functools.partial(self.optimizer.init, xp=self.backend.xp)
            moments = [{name: init(theta) for name, theta in layer.items()} for layer in params]
        # Two separate arrays, because a compiled loop may reuse the memory of either.
        zeros = (self.backend.asarray(0.0, self.dtype), self.backend.asarray(0.0, self.dtype))
        return Progress(params, moments, state, *zeros)

    def run_epoch(self, progress: Progress, batches: Batch, samples: Samples) -> Progress:
        """Take a step per batch; the arrays of ``batches`` have one leading axis more than those of `gradients`."""

        def take(progress: Progress, batch: Batch) -> tuple[Progress, None]:
            return self.take(progress, batch, samples), None

        packing = self.packing
        packed = packing.pack_progress(progress)
        done: Progress = packing.unpack_progress(self.backend.scan(take, packed, batches)[0])
        return done

    def take(self, progress: Progress, batch: Batch, samples: Samples) -> Progress:
        """Take one step: compute the gradients, add them up over the ranks, update."""
        look, packing = self.look or gradients, self.packing
        sums, state = look(self, packing.unpack(progress.params), progress.state, batch, samples)
        sums = reduce_sums(sums, self)
        sums = sums._replace(gradient=packing.pack(sums.gradient))
        params, moments = update(self, progress.params, progress.moments, sums, batch)
        return Progress(params, moments, state, progress.loss + sums.loss, progress.correct + sums.correct)

    def evaluate(self, params: ByLayer, state: ByLayer, index: Array, samples: Samples) -> tuple[Array, Array]:
        """Sum the loss and the correct answers over batches of samples, shape (batches, n), without training."""
        xp, ctx = self.backend.xp, context(self.backend)

        def add(totals: tuple[Array, Array], batch: Batch) -> tuple[tuple[Array, Array], None]:
            x, labels, targets = take_batch(self, batch["index"], samples)
            y, _ = self.network.forward(params, state, x, ctx)
            loss = self.loss.value(y, targets, xp=xp)
            return (totals[0] + loss, totals[1] + count_correct(y, labels, xp)), None

        # Allocated on the device, because a recorded loop cannot copy from the host.
        zeros = (xp.zeros_like(samples.targets[0, 0]), xp.zeros_like(samples.targets[0, 0]))
        totals: tuple[Array, Array] = self.backend.scan(add, zeros, {"index": index})[0]
        return totals


def gradients(step: Step, params: ByLayer, state: ByLayer, batch: Batch, samples: Samples) -> tuple[Sums, ByLayer]:
    """Run a batch forward and backward.

    Parameters
    ----------
    step : Step
        The network and the loss.
    params, state : list of dict of str to array
        The parameters and the state of each layer.
    batch : dict of str to array
        ``"index"``, shape (n,), holds the batch's positions in ``samples``. ``"noise.3"`` and the like hold the random
        numbers of layer 3.
    samples : Samples
        All training samples.

    Returns
    -------
    sums : Sums
        The sums over the batch.
    state : list of dict of str to array
        The layers' state after the batch.
    """
    network, xp, ctx = step.network, step.backend.xp, step.context
    x, labels, targets = take_batch(step, batch["index"], samples)
    noise = [batch.get(f"noise.{i}") for i in range(len(params))]
    y, caches = network.forward(params, state, x, ctx, noise)
    loss, dy = step.loss.value_and_gradient(y, targets, xp=xp)
    if samples.weights is not None:
        dy = dy * xp.take(samples.weights, batch["index"], axis=0)
    _, by_layer = network.backward(params, caches, dy, ctx)
    sums = Sums(by_layer, loss, count_correct(y, labels, xp), float(labels.shape[0]))
    return sums, network.next_state(state, caches, ctx)


def update(step: Step, params: ByLayer, moments: Moments, sums: Sums, scalars: Arrays) -> tuple[ByLayer, Moments]:
    """Turn the sums over a batch into new parameters and a new state of the optimizer.

    Parameters
    ----------
    step : Step
        The optimizer.
    params : list of dict of str to array
        The parameters of each layer.
    moments : list of dict of str to dict of str to array
        The optimizer's state.
    sums : Sums
        The sums over the whole batch, on all ranks.
    scalars : mapping of str to array
        The optimizer's scalars for this step, such as ``"rate"``.

    Returns
    -------
    params, moments
    """
    share, xp = 1.0 / sums.count, step.backend.xp
    numbers = {name: value for name, value in scalars.items() if not getattr(value, "shape", ())}
    new_params: ByLayer = [{} for _ in params]
    new_moments: Moments = [{} for _ in params]
    places = [(i, name) for i, layer in enumerate(params) for name in layer]

    def change(place: tuple[int, str]) -> Update:
        i, name = place
        return step.change(params[i][name], moments[i][name], sums.gradient[i][name], share, numbers, xp=xp)

    for (i, name), changed in zip(places, step.each(change, places), strict=True):
        new_params[i][name], new_moments[i][name] = changed
    return new_params, new_moments


def reduce_sums(sums: Sums, step: Step) -> Sums:
    """Add up the sums of all ranks in one flat buffer, so that every network needs one message per step."""
    if step.all_reduce is None:
        return sums
    xp = step.backend.xp
    tail = xp.stack([sums.loss, sums.correct, xp.full_like(sums.loss, sums.count)])
    total = step.all_reduce(xp.concat([step.packing.join(sums.gradient), tail]))
    return Sums(step.packing.split(total[:-3]), total[-3, ...], total[-2, ...], total[-1, ...])


def take_batch(step: Step, index: Array, samples: Samples) -> tuple[Array, Array, Array]:
    """Return the images of a batch, arranged and scaled, with their labels and targets."""
    xp = step.backend.xp
    x = step.network.prepare(xp.take(samples.images, index, axis=0), step.dtype, xp)
    return x, xp.take(samples.labels, index, axis=0), xp.take(samples.targets, index, axis=0)


def count_correct(y: Array, labels: Array, xp: Namespace) -> Array:
    """Count the rows whose largest output is the label's, in the dtype of ``y``, so that sums can share a buffer."""
    return xp.sum(_agree(xp.argmax(y, axis=1), labels, dtype=y.dtype, xp=xp))


@elementwise
def _agree(found: Array, labels: Array, *, dtype: Any, xp: Namespace) -> Array:
    return xp.astype(found == labels, dtype)
