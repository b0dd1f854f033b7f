"""The training loop: run epochs of steps, measure them, keep the best weights, and stop in time.

The loop runs on the host. For each epoch it draws the random numbers, moves them to the device with everything else
that the steps need, lets the backend run the steps, and reads the sums back. It reads nothing from the device within
an epoch.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.datasets import Dataset
from xpnet.data.preprocessing import train_validation_split
from xpnet.nn.trained import TrainedNetwork, to_device, to_host
from xpnet.random import Streams
from xpnet.recipes import Plan
from xpnet.runs.checkpoint import Checkpoint, check_arrays
from xpnet.runs.history import History, Record, check_history
from xpnet.training import per_sample
from xpnet.training.batches import evaluation_parts, move_batches, move_samples, split_batches
from xpnet.training.distributed import Ranks
from xpnet.training.frozen import hide, show, thaw
from xpnet.training.pace import Pace
from xpnet.training.step import Moments, Progress, Samples, Step
from xpnet.training.stopping import Best, EarlyStopping, best_from_dict, best_to_dict
from xpnet.training.workers import Workers, count_large, count_shards, threads_start, worth_sharing_evaluation
from xpnet.typing import Array, Arrays, HostArrays, Shape


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run between two epochs.

    Attributes
    ----------
    epoch : int
        The next epoch.
    progress : Progress
        Parameters, the optimizer's state and the layers' state.
    best : Best
        The best epoch so far.
    kept : Progress
        The parameters and the layers' state after the best epoch.
    history : History
    """

    epoch: int
    progress: Progress
    best: Best
    kept: Progress
    history: History


class Loop:
    """The loop over epochs: everything that stays constant, and `advance`, which turns a snapshot into the next.

    Parameters
    ----------
    step : Step
        The training step.
    plan : Plan
        The number of epochs, the batch size, and when to stop.
    streams : Streams
        The source of random numbers.
    data : Dataset
        The images and labels.
    ranks : Ranks, optional
        The processes that train together; by default this process trains alone.
    workers : int
        The largest number of threads of this process that compute at once.
    """

    def __init__(
        self,
        step: Step,
        plan: Plan,
        streams: Streams,
        data: Dataset,
        ranks: Ranks | None = None,
        workers: int = 1,
    ) -> None:
        self.plan, self.streams, self.ranks = plan, streams, ranks or Ranks()
        shards = count_shards(step.network, step.backend, plan.batch_size // self.ranks.size)
        # Shards that meet need a thread each.
        self.shards, workers = (shards, workers) if threads_start() else (1, 1)
        self.facts = data.facts
        large = count_large(step.network, step.backend)
        useful = workers if worth_sharing_evaluation(step.network, step.backend) else max(self.shards, large)
        self.workers = Workers(self.shards, min(workers, useful))
        self.step = dataclasses.replace(
            step,
            look=self.workers.gradients if self.shards > 1 else None,
            each=self.workers.map if large > 1 else map,
        )
        step = self.step
        self.network = thaw(step.network)
        self.backend = step.backend
        self.stopping = EarlyStopping(plan.patience, plan.monitor)
        self.train_index, val_index = train_validation_split(
            len(data.train_images), plan.validation_fraction, streams.seed
        )
        self._check_batches()
        self.train_samples = move_samples(step, data.train_images, data.train_labels, data.classes, data.train_weights)
        self.test_samples = move_samples(step, data.test_images, data.test_labels, data.classes)
        self.evaluated = {
            name: (evaluation_parts(step, index[self.ranks.share(len(index))]), samples)
            for name, index, samples in (
                ("val", val_index, self.train_samples),
                ("test", np.arange(len(data.test_images)), self.test_samples),
            )
            if len(index)
        }
        self.in_blocks = per_sample.works_in_blocks(step, plan.batch_size)
        runner = per_sample.BlockStep.of(step) if self.in_blocks else step
        self.pace: Pace | None = None
        self.watch: Callable[[int, Progress], None] | None = None
        self.run_epoch = self.backend.compile(runner.run_epoch, donate=(0,))
        self.evaluate = self.backend.compile(step.evaluate)

    def _check_batches(self) -> None:
        """Check that every batch is large enough for layers that need several samples."""
        n, size = len(self.train_index), self.plan.batch_size
        smallest = min(size, n % size or size)
        need, layer = self.step.network.minimum_batch
        if smallest < need:
            raise ValueError(
                f"batch_size={size}: {n} training samples leave a batch of {smallest}, but {layer} needs at least "
                f"{need} samples: choose a batch_size that leaves no such batch"
            )

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return math.ceil(len(self.train_index) / self.plan.batch_size)

    def initial(self) -> tuple[list[HostArrays], list[HostArrays]]:
        """Return the initial parameters and state, on the host: those of the plan's network if it has any."""
        if isinstance(self.plan.network, TrainedNetwork):
            return self.plan.network.host_arrays()
        return self.streams.weights(self.network), self.network.init_state()

    def start(self) -> Snapshot:
        """Begin with the initial weights."""
        hidden = hide(self.step.network, *self.initial())
        params, state = (to_device(layers, self.backend, self.step.dtype) for layers in hidden)
        progress = self.step.start(params, state)
        return Snapshot(0, progress, Best(), self.copy(progress), History())

    def copy(self, progress: Progress) -> Progress:
        """Copy parameters and layers' state, because a compiled epoch may overwrite its arguments."""
        xp = self.backend.xp
        copied = {
            name: [{k: xp.asarray(v, copy=True) for k, v in layer.items()} for layer in getattr(progress, name)]
            for name in ("params", "state")
        }
        return progress._replace(**copied)

    def advance(self, snapshot: Snapshot) -> Snapshot:
        """Train for one epoch, measure, and note whether it was the best."""
        epoch = snapshot.epoch
        begin = time.perf_counter()
        progress = self.train(snapshot.progress, epoch)
        n = len(self.train_index)
        loss = float(self.backend.to_numpy(progress.loss)) / n
        accuracy = float(self.backend.to_numpy(progress.correct)) / n
        seconds = time.perf_counter() - begin
        record = Record(epoch, loss, accuracy, **self.measure(progress), seconds=seconds)
        # All ranks use the first rank's record, so that they all make the same decisions.
        record = self.ranks.from_first(lambda: record)
        best = self.stopping.update(snapshot.best, record)
        kept = self.copy(progress) if best.epoch == epoch else snapshot.kept
        return Snapshot(epoch + 1, progress, best, kept, snapshot.history.appended(record))

    def train(self, before: Progress, epoch: int) -> Progress:
        """Run the steps of an epoch."""
        progress = self.step.start(before.params, before.state, before.moments)
        parts = self.epoch_parts(epoch)
        for part in parts if self.pace is None else self.pace.pieces(parts):
            progress = self.run_epoch(progress, move_batches(self.step, part), self.train_samples)
            if self.watch is not None:
                self.watch(epoch, progress)
        return progress

    def measure(self, progress: Progress) -> dict[str, float]:
        """Return loss and accuracy on the validation set, if there is one, and on the test set."""
        measured: dict[str, float] = {}
        for name, (parts, samples) in self.evaluated.items():
            loss, correct, count = self.ranks.add(self._sums(progress, parts, samples))
            measured |= {f"{name}_loss": loss / count, f"{name}_accuracy": correct / count}
        return measured

    def _sums(self, progress: Progress, parts: Sequence[Array], samples: Samples) -> tuple[float, float, int]:
        """Sum the loss and correct answers over samples, and count them; ``parts`` are indices, shape (batches, n)."""
        # Workers share the batches one by one; the sums are the same, to the last bit, as in one loop over all.
        apart = self.backend.threads_compute
        pieces = [[part[i : i + 1, ...] for i in range(part.shape[0])] if apart else [part] for part in parts]

        def evaluate(index: Array) -> tuple[Array, Array]:
            sums: tuple[Array, Array] = self.evaluate(progress.params, progress.state, index, samples)
            return sums

        found = iter(self.workers.map(evaluate, itertools.chain.from_iterable(pieces)))
        totals = [0.0, 0.0]
        for piece in pieces:
            for i, sums in enumerate(zip(*itertools.islice(found, len(piece)), strict=True)):
                totals[i] += float(self.backend.to_numpy(functools.reduce(operator.add, sums)))
        return totals[0], totals[1], sum(index.shape[0] * index.shape[1] for index in parts)

    def epoch_parts(self, epoch: int) -> list[dict[str, NDArray[Any]]]:
        """Draw an epoch's random numbers and cut them, with the optimizer's scalars, into batches."""
        plan, n = self.plan, len(self.train_index)
        order = self.streams.order(epoch, n)
        rows: dict[str, NDArray[Any]] = {"index": self.train_index[order].astype(np.int32)}
        for i, noise in enumerate(self.streams.noise(self.step.network, epoch, n)):
            if noise is not None:
                rows[f"noise.{i}"] = noise
        scalars = self.scalars(epoch)
        if self.in_blocks:
            return split_batches(rows | scalars, per_sample.BLOCK)
        parts = split_batches(rows, plan.batch_size)
        start = 0
        for part in parts:
            stop = start + len(part["index"])
            share = self.ranks.share(part["index"].shape[1])
            part |= {name: values[:, share] for name, values in part.items()}
            part |= {name: values[start:stop] for name, values in scalars.items()}
            start = stop
        return parts

    def scalars(self, epoch: int) -> dict[str, NDArray[np.float64]]:
        """Return the optimizer's scalars for each step of an epoch."""
        t = np.arange(epoch * self.steps, (epoch + 1) * self.steps)
        optimizer = self.step.optimizer
        rates = optimizer.learning_rate * self.plan.schedule.factor(t / self.steps)
        return optimizer.scalars(t + 1, rates)

    def finished(self, snapshot: Snapshot) -> bool:
        """Whether all epochs are done, or patience has run out."""
        return snapshot.epoch >= self.plan.epochs or self.stopping.should_stop(snapshot.best, snapshot.epoch - 1)

    def network_of(self, snapshot: Snapshot) -> TrainedNetwork:
        """Return the network after an epoch."""
        return self._network(snapshot.progress)

    def result(self, snapshot: Snapshot) -> TrainedNetwork:
        """Return the trained network: with the best weights if there is a patience, else with the last."""
        return self._network(snapshot.progress if self.plan.patience is None else snapshot.kept)

    def _network(self, progress: Progress) -> TrainedNetwork:
        """Return a network with copies of the arrays, made on the device."""
        now, how = self.copy(progress), {"backend": self.backend, "dtype": self.step.dtype, "facts": self.facts}
        params, state = show(self.network, now.params, now.state)
        return TrainedNetwork.on_device(self.network, params=params, state=state, **how)

    def not_finite(self, snapshot: Snapshot) -> str | None:
        """Return the name of an array that holds NaN or infinity, if there is one."""
        progress, xp = snapshot.progress, self.backend.xp
        named: Arrays = {}
        layers = zip(progress.params, progress.state, progress.moments, strict=True)
        for i, (params, state, moments) in enumerate(layers):
            moments = {f"{name}.{m}": array for name, arrays in moments.items() for m, array in arrays.items()}
            named |= {f"layers.{i}.{name}": array for name, array in (params | state | moments).items()}

        def finite(array: Array) -> Array:
            return xp.all(xp.isfinite(array))

        # This reads a single number from the device, unless something is wrong.
        if self.backend.to_numpy(functools.reduce(xp.logical_and, map(finite, named.values()))):
            return None
        return next(name for name, array in named.items() if not self.backend.to_numpy(finite(array)))

    # Checkpoints --------------------------------------------------------------------------------------------------

    def checkpoint(self, snapshot: Snapshot, config: dict[str, Any]) -> Checkpoint:
        """Copy a snapshot to the host."""
        arrays: HostArrays = {}
        for prefix, progress in (("", snapshot.progress), ("best.", snapshot.kept)):
            arrays |= _named(f"{prefix}params", to_host(progress.params, self.backend))
            arrays |= _named(f"{prefix}state", to_host(progress.state, self.backend))
        for i, layer in enumerate(snapshot.progress.moments):
            arrays |= _named(f"moments.{i}", to_host(list(layer.values()), self.backend), names=list(layer))
        meta = {
            "config": config,
            "history": snapshot.history.to_dicts(),
            "best": best_to_dict(snapshot.best),
        }
        return Checkpoint(snapshot.epoch - 1, arrays, meta)

    def restore(self, checkpoint: Checkpoint) -> Snapshot:
        """Undo `checkpoint`, after checking that its arrays fit this network and optimizer."""
        arrays, meta, network = checkpoint.arrays, checkpoint.meta, self.step.network
        check_arrays(self._expected(), arrays, f"the checkpoint of epoch {checkpoint.epoch}", (self.step.dtype,))

        def layers(prefix: str, declared: Sequence[Mapping[str, Any]]) -> list[HostArrays]:
            return [{name: arrays[f"{prefix}.{i}.{name}"] for name in layer} for i, layer in enumerate(declared)]

        def move(host: Sequence[HostArrays]) -> list[dict[str, Array]]:
            return to_device(host, self.backend, self.step.dtype)

        moments: Moments = [
            {name: move([{m: arrays[f"moments.{i}.{name}.{m}"] for m in self._moment_names()}])[0] for name in layer}
            for i, layer in enumerate(network.parameters)
        ]
        now, kept = (
            self.step.start(
                move(layers(f"{prefix}params", network.parameters)),
                move(layers(f"{prefix}state", network.statistics)),
                moments,
            )
            for prefix in ("", "best.")
        )
        history = check_history(History.from_dicts(meta["history"]))
        if len(history) != checkpoint.epoch + 1:
            raise ValueError(f"the checkpoint of epoch {checkpoint.epoch} has a history of {len(history)}")
        best = best_from_dict(meta["best"])
        if best != functools.reduce(self.stopping.update, history, Best()):
            raise ValueError(f"the checkpoint of epoch {checkpoint.epoch} names another best epoch than its history")
        return Snapshot(checkpoint.epoch + 1, now, best, kept, history)

    def _expected(self) -> dict[str, Shape]:
        """Return the names and shapes of the arrays of a checkpoint."""
        network = self.step.network
        expected: dict[str, Shape] = {}
        for i, (params, state) in enumerate(zip(network.parameters, network.statistics, strict=True)):
            for prefix in ("", "best."):
                expected |= {f"{prefix}params.{i}.{name}": variable.shape for name, variable in params.items()}
                expected |= {f"{prefix}state.{i}.{name}": variable.shape for name, variable in state.items()}
            for name, variable in params.items():
                expected |= {f"moments.{i}.{name}.{moment}": variable.shape for moment in self._moment_names()}
        return expected

    def _moment_names(self) -> list[str]:
        return list(self.step.optimizer.init(np.zeros(1), xp=np))


def _named(prefix: str, layers: Sequence[HostArrays], names: Sequence[str] | None = None) -> HostArrays:
    """Name arrays by their position, such as ``params.0.weight``."""
    keys = names if names is not None else [str(i) for i in range(len(layers))]
    return {f"{prefix}.{key}.{name}": a for key, layer in zip(keys, layers, strict=True) for name, a in layer.items()}
