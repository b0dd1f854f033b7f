"""The training loop: epochs of steps, measured, kept and stopped in time.

The loop runs on the host. For each epoch it draws the randomness, moves it to the device with everything else that
the steps need, lets the backend run them, and reads the sums back: once an epoch, and at no other time.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet._version import __version__
from xpnet.backends import Backend, check_dtype
from xpnet.checks import require_instance, require_path, require_size, use_python_numbers
from xpnet.data.datasets import Dataset
from xpnet.data.preprocessing import train_validation_split
from xpnet.host import check_threads, kept_memory, thread_limit
from xpnet.nn.description import describe, to_config
from xpnet.nn.losses import Loss, SoftmaxCrossEntropy
from xpnet.nn.network import Network
from xpnet.nn.optimizers import Adam, Optimizer, Schedule
from xpnet.random import SequentialStreams, Streams, check_seed
from xpnet.training import per_sample, report
from xpnet.training.checkpoint import (
    FREE_TO_CHANGE,
    Checkpoint,
    CheckpointError,
    ResumeError,
    RunDirectory,
    compare_configs,
)
from xpnet.training.distributed import Ranks, get_ranks
from xpnet.training.history import History, Record
from xpnet.training.run import HISTORY, MODEL, Run, save_config
from xpnet.training.step import (
    Progress,
    Trainer,
    device_data,
    evaluate_samples,
    evaluation_parts,
    move_batches,
    split_batches,
)
from xpnet.training.stopping import Best, EarlyStopping, best_from_dict, best_to_dict

Callback = Callable[[Record], None]


class DivergedError(ArithmeticError):
    """The loss became NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnet
    >>> with np.errstate(all="ignore"):
    ...     try:
    ...         xpnet.train("mlp", dataset="digits", learning_rate=1e30, progress=False)
    ...     except xpnet.DivergedError as error:
    ...         print(str(error).partition(" (")[0])
    epoch 0: the loss is no longer finite
    """


@dataclass(frozen=True)
class Plan:
    """How to train: what `fit` was told, checked.

    Attributes
    ----------
    epochs, batch_size : int
    schedule : Schedule
    validation_fraction : float
    stopping : EarlyStopping
    streams : Streams
        Where the randomness comes from.
    """

    epochs: int
    batch_size: int
    schedule: Schedule
    validation_fraction: float
    stopping: EarlyStopping
    streams: Streams

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        use_python_numbers(self)
        require_size("epochs", self.epochs)
        require_size("batch_size", self.batch_size)
        require_instance("schedule", self.schedule, Schedule, "Cosine(epochs=10)")
        if self.stopping.patience is not None and self.validation_fraction == 0.0:
            raise ValueError(
                f"patience={self.stopping.patience}: early stopping needs a validation set, "
                "so a validation_fraction above 0"
            )
        if self.schedule.length < self.epochs:
            raise ValueError(
                f"epochs={self.epochs}: the schedule {self.schedule!r} covers only {self.schedule.length:g}"
            )


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run between two epochs.

    Attributes
    ----------
    epoch : int
        The next one.
    progress : Progress
        Parameters, the optimizer's state and the layers'.
    best : Best
        The best epoch so far.
    kept : Progress
        The parameters and the layers' state as they were then.
    history : History
    """

    epoch: int
    progress: Progress
    best: Best
    kept: Progress
    history: History


class Loop:
    """The loop over epochs: what stays the same in it, and `advance`, which makes a snapshot of the one before.

    Parameters
    ----------
    trainer : Trainer
    plan : Plan
    data : Dataset
    ranks : Ranks, optional
        The processes that train together; by default this one is alone.
    """

    def __init__(self, trainer: Trainer, plan: Plan, data: Dataset, ranks: Ranks | None = None) -> None:
        self.trainer, self.plan, self.backend, self.ranks = trainer, plan, trainer.backend, ranks or Ranks()
        self.train_index, val_index = train_validation_split(
            len(data.train_images), plan.validation_fraction, plan.streams.seed
        )
        self._check_batches()
        self.train_data = device_data(trainer, data.train_images, data.train_labels, data.classes)
        self.test_data = device_data(trainer, data.test_images, data.test_labels, data.classes)
        evaluated = {"val": (val_index, self.train_data), "test": (np.arange(len(data.test_images)), self.test_data)}
        self.evaluated = {
            name: (evaluation_parts(trainer, index[self.ranks.share(len(index))]), held)
            for name, (index, held) in evaluated.items()
            if len(index)
        }
        self.in_blocks = per_sample.works_in_blocks(trainer, plan.batch_size)
        runner = per_sample.BlockTrainer.of(trainer) if self.in_blocks else trainer
        self.run_epoch = self.backend.compile(runner.run_epoch, donate=(0,))
        self.evaluate = self.backend.compile(trainer.evaluate)

    def _check_batches(self) -> None:
        """Refuse a batch that is too small for a layer that looks at the whole batch."""
        n, size = len(self.train_index), self.plan.batch_size
        smallest = min(size, n % size or size)
        need, layer = self.trainer.network.minimum_batch
        if smallest < need:
            raise ValueError(
                f"batch_size={size}: {n} training samples leave a batch of {smallest}, but {describe(layer)} needs at "
                f"least {need} samples: choose a batch_size that leaves no such rest"
            )

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return math.ceil(len(self.train_index) / self.plan.batch_size)

    def start(self) -> Snapshot:
        """Draw the initial weights."""
        theta, state = self.plan.streams.weights(self.trainer.network)
        return self.snapshot_of({"theta": theta}, state, {}, 0, Best(), History())

    def snapshot_of(
        self,
        arrays: dict[str, Any],
        state: list[Any],
        moments: dict[str, Any],
        epoch: int,
        best: Best,
        history: History,
    ) -> Snapshot:
        """Move a run's state to the device."""
        move = self.backend.asarray
        dtype = self.trainer.dtype
        theta = move(arrays["theta"], dtype)
        first = self.trainer.optimizer.init(theta, xp=self.backend.xp)
        moved = {name: move(moments[name], dtype) if moments else zero for name, zero in first.items()}
        states = [{name: move(value, dtype) for name, value in layer.items()} for layer in state]
        progress = self.trainer.start(theta, moved, states)
        return Snapshot(epoch, progress, best, self.copy(progress), history)

    def copy(self, progress: Progress) -> Progress:
        """Copy parameters and layers' state: a compiled epoch may overwrite what it is given."""
        xp = self.backend.xp
        return progress._replace(
            theta=xp.asarray(progress.theta, copy=True),
            state=[{k: xp.asarray(v, copy=True) for k, v in layer.items()} for layer in progress.state],
        )

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
        # One record for all: what follows from it, all ranks must do.
        record = self.ranks.from_first(lambda: record)
        best = self.plan.stopping.update(snapshot.best, record)
        kept = self.copy(progress) if best.epoch == epoch else snapshot.kept
        return Snapshot(epoch + 1, progress, best, kept, snapshot.history.appended(record))

    def train(self, before: Progress, epoch: int) -> Progress:
        """Run the steps of an epoch."""
        progress = self.trainer.start(before.theta, before.moments, before.state)
        for part in self.epoch_parts(epoch):
            progress = self.run_epoch(progress, move_batches(self.trainer, part), self.train_data)
        return progress

    def measure(self, progress: Progress) -> dict[str, float]:
        """Return loss and accuracy on the validation set, if there is one, and on the test set."""
        measured: dict[str, float] = {}
        for name, (parts, data) in self.evaluated.items():
            sums = evaluate_samples(self.trainer, self.evaluate, progress.theta, progress.state, parts, data)
            loss, correct, count = self.ranks.add(sums)
            measured |= {f"{name}_loss": loss / count, f"{name}_accuracy": correct / count}
        return measured

    def epoch_parts(self, epoch: int) -> list[dict[str, NDArray[Any]]]:
        """Draw an epoch's randomness and cut it, with the optimizer's numbers, into batches."""
        plan, n = self.plan, len(self.train_index)
        order = plan.streams.order(epoch, n)
        rows: dict[str, NDArray[Any]] = {"index": self.train_index[order].astype(np.int32)}
        for i, noise in enumerate(plan.streams.noise(self.trainer.network, epoch, n)):
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
        """Return the optimizer's numbers for each step of an epoch."""
        t = np.arange(epoch * self.steps, (epoch + 1) * self.steps)
        optimizer = self.trainer.optimizer
        rates = optimizer.learning_rate * self.plan.schedule.factor(t / self.steps)
        return optimizer.scalars(t + 1, rates)

    def finished(self, snapshot: Snapshot) -> bool:
        """Whether all epochs are done, or patience has run out."""
        return snapshot.epoch >= self.plan.epochs or self.plan.stopping.should_stop(snapshot.best, snapshot.epoch - 1)

    def result(self, snapshot: Snapshot) -> Network:
        """Return the network with its weights: the best ones if training was to stop on them, else the last."""
        chosen = snapshot.progress if self.plan.stopping.patience is None else snapshot.kept
        state = [{k: self.backend.to_numpy(v) for k, v in layer.items()} for layer in chosen.state]
        theta = self.backend.to_numpy(chosen.theta)
        return self.trainer.network.bind(theta, state, self.backend, self.trainer.dtype)

    # Checkpoints --------------------------------------------------------------------------------------------------

    def checkpoint(self, snapshot: Snapshot, config: dict[str, Any]) -> Checkpoint:
        """Bring a snapshot to the host."""
        host = self.backend.to_numpy
        arrays = {"theta": host(snapshot.progress.theta), "best.theta": host(snapshot.kept.theta)}
        arrays |= {f"moments.{k}": host(v) for k, v in snapshot.progress.moments.items()}
        for prefix, progress in (("state", snapshot.progress), ("best.state", snapshot.kept)):
            for i, layer in enumerate(progress.state):
                arrays |= {f"{prefix}.{i}.{k}": host(v) for k, v in layer.items()}
        meta = {
            "config": config,
            "history": snapshot.history.to_dicts(),
            "best": best_to_dict(snapshot.best),
        }
        return Checkpoint(snapshot.epoch - 1, arrays, meta)

    def restore(self, checkpoint: Checkpoint) -> Snapshot:
        """Undo `checkpoint`."""
        arrays, meta = checkpoint.arrays, checkpoint.meta
        layers = self.trainer.network.init_state()
        shapes = {f"state.{i}.{k}": v.shape for i, layer in enumerate(layers) for k, v in layer.items()}
        for name, array in arrays.items():
            expected = shapes.get(name.removeprefix("best."), (self.trainer.network.size,))
            if array.shape != expected:
                raise ValueError(f"{name} has shape {array.shape} instead of {expected}")
        moments = {k.removeprefix("moments."): v for k, v in arrays.items() if k.startswith("moments.")}

        def state(prefix: str) -> list[dict[str, Any]]:
            return [{k: arrays[f"{prefix}.{i}.{k}"] for k in layer} for i, layer in enumerate(layers)]

        history = History.from_dicts(meta["history"])
        best = best_from_dict(meta["best"])
        place = (checkpoint.epoch + 1, best, history)
        now = self.snapshot_of(arrays, state("state"), moments, *place)
        kept = self.snapshot_of({"theta": arrays["best.theta"]}, state("best.state"), {}, *place)
        return Snapshot(now.epoch, now.progress, best, kept.progress, history)


def fit(
    network: Network,
    data: Dataset,
    *,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    schedule: Schedule | None = None,
    epochs: int = 10,
    batch_size: int = 128,
    validation_fraction: float = 0.0,
    patience: int | None = None,
    monitor: str = "val_accuracy",
    seed: int = 0,
    sequential: bool = False,
    backend: str | ModuleType | Backend | None = None,
    dtype: str = "float32",
    threads: int | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    distributed: str | Ranks | None = None,
    recipe: str = "custom",
) -> Run:
    """Train a network.

    Parameters
    ----------
    network : Network
        What to train. It is left as it is, and new weights are drawn even if it has some; the trained one is in the
        result.
    data : Dataset
        What to train and test on.
    loss : Loss, optional
        By default `SoftmaxCrossEntropy`.
    optimizer : Optimizer, optional
        By default ``Adam(1e-3)``.
    schedule : Schedule, optional
        How the learning rate changes; by default not at all.
    epochs, batch_size : int
        How often to go through the training samples, and how many a step takes.
    validation_fraction : float
        The share of the training samples to validate on.
    patience : int, optional
        Stop after so many epochs without improvement on the validation set, and return the best weights.
    monitor : {"val_accuracy", "val_loss"}
        What has to improve.
    seed : int
        Decides all randomness.
    sequential : bool
        Draw all randomness from one legacy generator and do not shuffle, as the NumPy tutorial does.
    backend : str, module or Backend, optional
        See `xpnet.get_backend`.
    dtype : {"float32", "float64"}
        Of parameters and arithmetic.
    threads : int, optional
        For the linear algebra; by default ``XPNET_THREADS``, else as the libraries are set.
    output_dir : path-like, optional
        Where to write checkpoints after each epoch, and the results at the end. Nothing is written without it.
    resume : bool
        Go on from the last checkpoint in ``output_dir``, to the result of a run that was never interrupted.
    progress : bool
        Show what goes on, if standard error is a terminal.
    callbacks : sequence of callable
        Each is called with the `Record` of every epoch, on every rank if there are several.
    distributed : {"mpi", "mpi:device"}, optional
        Train on all processes of an MPI job, which share every batch: the result is that of one process. Only the
        first shows progress and writes. ``"mpi:device"`` hands MPI the arrays of a GPU.
    recipe : str
        What records and plots call the run.

    Returns
    -------
    Run

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong or does not fit another, before any work.
    DivergedError
        If the loss becomes NaN or infinite. What was written until then stays.

    Examples
    --------
    >>> from xpnet import Dense, Network, fit, load_dataset
    >>> net = Network([Dense(10)], input_shape=(64,))
    >>> run = fit(net, load_dataset("digits"), epochs=10, batch_size=8, progress=False)
    >>> run.history[-1].test_accuracy > 0.8
    True
    """
    ranks = get_ranks(distributed)
    opened = ranks.open_backend(backend)
    plan = Plan(
        epochs,
        batch_size,
        Schedule() if schedule is None else schedule,
        validation_fraction,
        EarlyStopping(patience, monitor),
        (SequentialStreams if sequential else Streams)(check_seed(seed)),
    )
    network = _fitted(network, data, check_dtype(dtype))
    trainer = Trainer(
        network,
        SoftmaxCrossEntropy() if loss is None else loss,
        Adam() if optimizer is None else optimizer,
        opened,
        dtype,
        ranks.all_reduce(opened),
    )
    check_surroundings(threads, output_dir, resume)
    callbacks = check_callbacks(callbacks)
    directory = None if output_dir is None else RunDirectory(Path(output_dir))
    with ExitStack() as stack:
        stack.enter_context(thread_limit(ranks.threads(threads)))
        stack.enter_context(kept_memory())
        stack.enter_context(opened.session(dtype))
        # Before the folder: where the parts do not fit together, none is made.
        loop = Loop(trainer, plan, data, ranks)
        if directory is not None:
            ranks.from_first(lambda: stack.enter_context(directory.lock()))
        config = describe_run(loop, data, recipe)
        ranks.compare(config, lambda: plan.streams.weights(network)[0])
        snapshot = _first_snapshot(loop, directory, resume, config)
        reporter = stack.enter_context(report.Reporter(progress and ranks.first, config, network.size, epochs))
        snapshot, stopped = _run_epochs(loop, snapshot, directory, config, [reporter.epoch, *callbacks])
        if stopped and not loop.finished(snapshot):
            raise KeyboardInterrupt
        run = Run(loop.result(snapshot), snapshot.history, config, data)
        if directory is not None and ranks.first:
            run.save(directory.path)
    if stopped:  # in the last epoch: the run is whole, but what comes after it is not wanted
        raise KeyboardInterrupt
    return run


def describe_run(loop: Loop, data: Dataset, recipe: str) -> dict[str, Any]:
    """Return all that decides a run's outcome, in what JSON can hold."""
    trainer, plan = loop.trainer, loop.plan
    return {
        "recipe": recipe,
        "dataset": data.name,
        "data_fingerprint": data.fingerprint(),
        "train_samples": len(data.train_images),
        "backend": trainer.backend.spec,
        "device": trainer.backend.device_name,
        "ranks": loop.ranks.size,
        "versions": {
            "xpnet": __version__,
            "numpy": np.__version__,
            trainer.backend.spec.partition(":")[0]: trainer.backend.version,
        },
        "dtype": trainer.dtype,
        "seed": plan.streams.seed,
        "streams": type(plan.streams).__name__,
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "validation_fraction": plan.validation_fraction,
        "stopping": to_config(plan.stopping),
        "loss": to_config(trainer.loss),
        "optimizer": to_config(trainer.optimizer),
        "schedule": to_config(plan.schedule),
        "network": trainer.network.to_config(),
    }


def check_surroundings(threads: int | None, output_dir: str | os.PathLike[str] | None, resume: bool) -> None:
    """Check those arguments of `fit` that have nothing to do with the network and the data.

    Raises
    ------
    ValueError, TypeError
        Naming the argument and its value.
    """
    check_threads(threads)
    if output_dir is not None:
        require_path("output_dir", output_dir)
    if resume and output_dir is None:
        raise ValueError("resume=True: needs the output_dir of the run to go on with")


def check_callbacks(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    """Return the callbacks if all of them can be called: none shall fail when an epoch has been trained.

    Raises
    ------
    TypeError
        Naming what cannot.
    """
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks={callbacks!r}: must be a list of functions, such as [print]")
    listed = tuple(callbacks)
    for callback in listed:
        if not callable(callback):
            raise TypeError(f"callbacks: {callback!r} is no function; each is called with a Record")
    return listed


def _fitted(network: Network, data: Dataset, dtype: str) -> Network:
    """Check that a network, a dataset and a dtype fit, and tell the network how bright pixels are."""
    require_instance("network", network, Network, "Network([Dense(10)], input_shape=(64,))")
    require_instance("data", data, Dataset, "xpnet.load_dataset('digits')")
    if not network.takes(data.sample_shape):
        raise ValueError(
            f"network: takes samples of shape {network.input_shape}, but the images of {data.name} "
            f"have shape {data.sample_shape}"
        )
    if network.output_shape != (data.classes,):
        raise ValueError(
            f"network: its output has shape {network.output_shape}, but {data.name} has {data.classes} classes: "
            f"end it with Dense({data.classes})"
        )
    for images in (data.train_images, data.test_images):
        # Both ends: the absolute values would be a copy.
        largest = max(-images.min(), images.max()) if images.dtype.kind == "f" else 0
        if float(largest) > float(np.finfo(dtype).max):
            raise ValueError(f"data: the images of {data.name} hold {largest:g}, which is too large for {dtype}")
    if network.size == 0:
        raise ValueError("network: no layer has parameters, so there is nothing to train")
    return Network(network.layers, network.input_shape, data.pixel_max)


def _first_snapshot(loop: Loop, directory: RunDirectory | None, resume: bool, config: dict[str, Any]) -> Snapshot:
    """Start anew, or from the last checkpoint."""
    if directory is None:
        return loop.start()
    checkpoint = loop.ranks.from_first(lambda: _last_checkpoint(directory, resume, config))
    try:
        snapshot = loop.start() if checkpoint is None else loop.restore(checkpoint)
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"output_dir={str(directory.path)!r}: its checkpoints are not of this version of xpnet: {error!r}"
        ) from None
    if loop.ranks.first:
        save_config(directory.path, config)
    return snapshot


def _last_checkpoint(directory: RunDirectory, resume: bool, config: dict[str, Any]) -> Checkpoint | None:
    """Find what to go on from, if anything."""
    where = f"output_dir={str(directory.path)!r}"
    checkpoint = directory.latest_checkpoint()
    if checkpoint is None:
        if (directory.path / MODEL).exists():
            raise ValueError(f"{where}: holds a run without checkpoints, which cannot go on: choose another folder")
        return None
    if not resume:
        raise ValueError(
            f"{where}: holds a run already: go on with it by resume=True (--resume), or choose another folder"
        )
    compare_configs(checkpoint.meta.get("config", {}), config, FREE_TO_CHANGE)
    done = checkpoint.epoch + 1
    if done > config["epochs"]:
        raise ResumeError(f"epochs={config['epochs']}: the run in {str(directory.path)!r} has done {done} already")
    return checkpoint


def _without_warnings() -> np.errstate:
    """Keep NumPy from warning of numbers that grow too large, since an error follows; what else a user set stays."""
    now = np.geterr()
    return np.errstate(
        over="ignore" if now["over"] == "warn" else None, invalid="ignore" if now["invalid"] == "warn" else None
    )


def _run_epochs(
    loop: Loop,
    snapshot: Snapshot,
    directory: RunDirectory | None,
    config: dict[str, Any],
    callbacks: Sequence[Callback],
) -> tuple[Snapshot, bool]:
    """Go through the epochs that are left; after each, keep what it gave. Say whether the user has stopped it."""
    stopped = False
    while not (stopped or loop.finished(snapshot)):
        with report.interrupt_after(loop.ranks.first) as interrupted:
            with _without_warnings():
                snapshot = loop.advance(snapshot)
            record = snapshot.history[-1]
            if not record.finite():
                rate = loop.trainer.optimizer.learning_rate
                raise DivergedError(
                    f"epoch {record.epoch}: the loss is no longer finite (train_loss={record.train_loss}) with "
                    f"learning_rate={rate}: try a smaller one"
                )
            if directory is not None and loop.ranks.first:
                directory.save_checkpoint(loop.checkpoint(snapshot, config))
                snapshot.history.to_csv(directory.path / HISTORY)
            for callback in callbacks:
                callback(record)
        stopped = loop.ranks.any(interrupted())
    return snapshot, stopped
