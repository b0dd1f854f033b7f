"""One training step, as two pure functions; and an epoch, which is many of them.

`gradients` looks at a batch and returns sums: of the gradient, of the loss, of right answers, and how many samples
there were. `update` turns them into new parameters. Between the two a distributed run adds up the sums of all its
ranks; nothing else in the step knows whether there is one rank or a thousand.

Nothing here reads a number back from the device, and shapes never depend on data, so a backend may compile a whole
epoch into one program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backends import Backend
from xpnet.checks import require_instance
from xpnet.nn.layers import Array, Context, Namespace, State
from xpnet.nn.losses import Loss
from xpnet.nn.network import EVALUATION_BATCH, Network
from xpnet.nn.optimizers import Optimizer

Batch = dict[str, Array]


class DeviceData(NamedTuple):
    """A set of samples on the device, moved there once.

    Attributes
    ----------
    images : array, shape (n, features)
        As they came: pixels stay small integers, and are scaled batch by batch.
    labels : array of integers, shape (n,)
    targets : array, shape (n, classes)
        What the loss compares with.
    """

    images: Array
    labels: Array
    targets: Array


class Progress(NamedTuple):
    """All that training changes.

    Attributes
    ----------
    theta : array, shape (size,), or tuple of arrays
        The parameters: one vector, or its arrays apart while a backend works on them so.
    moments : dict of str to array or tuple of arrays
        The optimizer's state, in the form of ``theta``.
    state : list of dict
        The layers' state.
    loss, correct : array, shape ()
        Summed over the samples of this epoch so far.
    """

    theta: Array
    moments: dict[str, Array]
    state: list[State]
    loss: Array
    correct: Array


class Sums(NamedTuple):
    """What `gradients` returns: sums over a batch, and their number."""

    gradient: Array
    loss: Array
    correct: Array
    count: Any


@dataclass(frozen=True)
class Trainer:
    """What stays the same from step to step.

    Attributes
    ----------
    network : Network
    loss : Loss
    optimizer : Optimizer
    backend : Backend
    dtype : str
    all_reduce : callable, optional
        Sums an array over the ranks of a distributed run.
    """

    network: Network
    loss: Loss
    optimizer: Optimizer
    backend: Backend
    dtype: str
    all_reduce: Callable[[Array], Array] | None = None

    def __post_init__(self) -> None:
        """Check what a user may have given."""
        require_instance("loss", self.loss, Loss, "SoftmaxCrossEntropy()")
        require_instance("optimizer", self.optimizer, Optimizer, "Adam(1e-3)")

    @property
    def float_dtype(self) -> Any:
        """The dtype as the library has it."""
        return getattr(self.backend.xp, self.dtype)

    def context(self, training: bool) -> Context:
        """Return what layers may know about a pass."""
        return Context(self.backend.xp, training, self.all_reduce if training else None)

    def start(self, theta: Array, moments: dict[str, Array], state: list[State]) -> Progress:
        """Return the progress at the start of an epoch."""
        zero = self.backend.asarray(0.0, self.dtype)
        return Progress(theta, moments, state, zero, self.backend.asarray(0.0, self.dtype))

    def run_epoch(self, progress: Progress, batches: Batch, data: DeviceData) -> Progress:
        """Take a step for each batch; the arrays of ``batches`` have one leading axis more than `step` wants."""

        def step(progress: Progress, batch: Batch) -> tuple[Progress, None]:
            return self.step(progress, batch, data), None

        if not self.backend.arrays_apart:
            result: Progress = self.backend.scan(step, progress, batches)[0]
            return result
        apart = self.reshaped(progress, self.network.split)
        return self.reshaped(self.backend.scan(step, apart, batches)[0], self.network.join)

    def reshaped(self, progress: Progress, change: Callable[[Any, Namespace], Any]) -> Progress:
        """Split or join all that has the form of the parameters."""
        xp = self.backend.xp
        moments = {name: change(moment, xp) for name, moment in progress.moments.items()}
        return progress._replace(theta=change(progress.theta, xp), moments=moments)

    def step(self, progress: Progress, batch: Batch, data: DeviceData) -> Progress:
        """Take one step: look at a batch, add up over the ranks, update."""
        sums, state = gradients(self, progress.theta, progress.state, batch, data)
        sums = reduce_sums(sums, self.all_reduce, self.backend.xp)
        theta, moments = update(self, progress.theta, progress.moments, sums, batch)
        return Progress(theta, moments, state, progress.loss + sums.loss, progress.correct + sums.correct)

    def evaluate(self, theta: Array, state: list[State], index: Array, data: DeviceData) -> tuple[Array, Array]:
        """Sum the loss and the right answers over batches of samples, shape (batches, n), without training."""
        xp = self.backend.xp
        ctx = self.context(training=False)
        params = self.network.unflatten(theta, xp)

        def add(totals: tuple[Array, Array], batch: Batch) -> tuple[tuple[Array, Array], None]:
            x, labels, targets = take_batch(self, batch["index"], data)
            y, _ = self.network.forward(params, state, x, ctx)
            loss, _ = self.loss.forward(y, targets, xp=xp)
            return (totals[0] + loss, totals[1] + count_correct(y, labels, xp)), None

        # Two arrays, not one twice: a compiled loop may give their memory away.
        zero = functools.partial(xp.zeros, (), dtype=self.float_dtype, device=self.backend.device)
        zeros = (zero(), zero())
        totals: tuple[Array, Array] = self.backend.scan(add, zeros, {"index": index})[0]
        return totals


def gradients(
    trainer: Trainer, theta: Array, state: list[State], batch: Batch, data: DeviceData
) -> tuple[Sums, list[State]]:
    """Run a batch forwards and backwards.

    Parameters
    ----------
    trainer : Trainer
        The network and the loss.
    theta : array, shape (size,), or tuple of arrays
        The parameters.
    state : list of dict
        The layers' state.
    batch : dict of str to array
        ``"index"``, shape (n,): which samples; ``"noise.3"`` and the like: the chance that layer 3 needs.
    data : DeviceData
        What the index points into.

    Returns
    -------
    sums : Sums
        Over the batch.
    state : list of dict
        The layers' state after it.
    """
    network, xp, ctx = trainer.network, trainer.backend.xp, trainer.context(training=True)
    x, labels, targets = take_batch(trainer, batch["index"], data)
    params = network.unflatten(theta, xp)
    noise = [batch.get(f"noise.{i}") for i in range(len(params))]
    y, caches = network.forward(params, state, x, ctx, noise)
    loss, cache = trainer.loss.forward(y, targets, xp=xp)
    by_layer, _ = network.backward(params, caches, trainer.loss.backward(cache, xp=xp), ctx)
    gradient = network.flatten(by_layer, xp, apart=isinstance(theta, tuple))
    sums = Sums(gradient, loss, count_correct(y, labels, xp), float(labels.shape[0]))
    return sums, network.next_state(state, caches, ctx)


def update(
    trainer: Trainer, theta: Array, moments: dict[str, Array], sums: Sums, batch: Batch
) -> tuple[Array, dict[str, Array]]:
    """Turn the sums over a batch into new parameters and a new state of the optimizer.

    Parameters
    ----------
    trainer : Trainer
        The optimizer.
    theta : array, shape (size,), or tuple of arrays
        The parameters.
    moments : dict of str to array or tuple of arrays
        The optimizer's state, in the form of ``theta``.
    sums : Sums
        Over the whole batch, on however many ranks it was.
    batch : dict of str to array
        The optimizer's numbers for this step, such as ``"rate"``.

    Returns
    -------
    theta, moments
    """

    def change(theta: Array, moments: dict[str, Array], gradient: Array) -> tuple[Array, dict[str, Array]]:
        mean = gradient * (1.0 / sums.count)
        return trainer.optimizer.update(theta, moments, mean, batch, xp=trainer.backend.xp)

    if not isinstance(theta, tuple):
        return change(theta, moments, sums.gradient)
    pairs = zip(theta, sums.gradient, strict=True)
    changed = [change(t, {k: m[i] for k, m in moments.items()}, g) for i, (t, g) in enumerate(pairs)]
    return tuple(t for t, _ in changed), {k: tuple(m[k] for _, m in changed) for k in moments}


def reduce_sums(sums: Sums, all_reduce: Callable[[Array], Array] | None, xp: Namespace) -> Sums:
    """Add up the sums of all ranks, in one flat buffer: one message a step, whatever the network."""
    if all_reduce is None:
        return sums
    count = xp.full_like(sums.loss, sums.count)
    tail = xp.stack([sums.loss, sums.correct, count])
    total = all_reduce(xp.concat([sums.gradient, tail]))
    return Sums(total[:-3], total[-3, ...], total[-2, ...], total[-1, ...])


def take_batch(trainer: Trainer, index: Array, data: DeviceData) -> tuple[Array, Array, Array]:
    """Fetch samples: images arranged and scaled, labels, targets."""
    xp = trainer.backend.xp
    x = trainer.network.prepare(xp.take(data.images, index, axis=0), trainer.float_dtype, xp)
    return x, xp.take(data.labels, index, axis=0), xp.take(data.targets, index, axis=0)


def count_correct(y: Array, labels: Array, xp: Namespace) -> Array:
    """Count the rows whose largest output is the label's, in the dtype of ``y`` so that sums may share a buffer."""
    return xp.sum(xp.astype(xp.argmax(y, axis=1) == labels, y.dtype))


# From the host to the device --------------------------------------------------------------------------------------


def device_data(trainer: Trainer, images: NDArray[Any], labels: NDArray[Any], classes: int) -> DeviceData:
    """Move a set of samples to the device."""
    backend = trainer.backend
    flat = images.reshape(len(images), -1)
    return DeviceData(
        backend.asarray(flat if flat.dtype.kind in "ui" else flat.astype(trainer.dtype)),
        backend.asarray(labels, "int32"),
        backend.asarray(trainer.loss.targets(labels, classes), trainer.dtype),
    )


def split_batches(arrays: dict[str, NDArray[Any]], batch_size: int) -> list[dict[str, NDArray[Any]]]:
    """Cut arrays of one row a sample into batches.

    Parameters
    ----------
    arrays : dict of str to array, shape (n, ...)
        Index and noise of an epoch.
    batch_size : int
        Rows a batch.

    Returns
    -------
    list of dict of str to array, shape (batches, rows, ...)
        The full batches, and then the last, short one, as far as there are such: inside each dictionary every
        batch is of one size, as compiled loops need it.
    """
    (n,) = {len(array) for array in arrays.values()}
    full = n - n % batch_size
    parts = []
    if full:
        parts.append({k: a[:full].reshape(full // batch_size, batch_size, *a.shape[1:]) for k, a in arrays.items()})
    if full < n:
        parts.append({k: a[None, full:] for k, a in arrays.items()})
    return parts


def move_batches(trainer: Trainer, part: dict[str, NDArray[Any]]) -> Batch:
    """Move what `split_batches` returned to the device: floats in the trainer's dtype, integers as they are."""
    return {
        name: trainer.backend.asarray(array, trainer.dtype if array.dtype.kind == "f" else None)
        for name, array in part.items()
    }


def evaluate_samples(
    trainer: Trainer,
    evaluate: Callable[..., tuple[Array, Array]],
    theta: Array,
    state: list[State],
    parts: Sequence[Array],
    data: DeviceData,
) -> tuple[float, float, int]:
    """Sum loss and right answers over samples, and count them: ``parts`` of indices, each of shape (batches, n)."""
    loss = correct = 0.0
    count = 0
    for index in parts:
        totals = evaluate(theta, state, index, data)
        loss += float(trainer.backend.to_numpy(totals[0]))
        correct += float(trainer.backend.to_numpy(totals[1]))
        count += index.shape[0] * index.shape[1]
    return loss, correct, count


def evaluation_parts(trainer: Trainer, index: NDArray[np.int64]) -> list[Array]:
    """Cut the indices of samples to evaluate into batches, on the device."""
    parts = split_batches({"index": index.astype(np.int32)}, EVALUATION_BATCH)
    return [trainer.backend.asarray(part["index"]) for part in parts]
