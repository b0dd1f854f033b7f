"""`fit`: check the arguments, train, and save the results."""

from __future__ import annotations

import datetime
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from xpnet._version import __version__
from xpnet.backends import Backend, check_dtype
from xpnet.data.datasets import Dataset
from xpnet.data.facts import check_alike, check_layout
from xpnet.data.plausible import check_order, looks_channels_first
from xpnet.files import new_directory
from xpnet.host import check_threads, check_workers, kept_memory, thread_limit
from xpnet.nn.losses import Loss, SoftmaxCrossEntropy
from xpnet.nn.network import Network
from xpnet.nn.optimizers import Adam, Optimizer
from xpnet.nn.schedules import Schedule
from xpnet.nn.trained import TrainedNetwork
from xpnet.parts import require_instance, require_path
from xpnet.random import SequentialStreams, Streams, check_seed
from xpnet.recipes import Plan
from xpnet.runs.checkpoint import (
    FREE_TO_CHANGE,
    Checkpoint,
    CheckpointError,
    ResumeError,
    RunDirectory,
    compare_configs,
)
from xpnet.runs.run import CONFIG, HISTORY, MODEL, Run, check_folder_name, draw_pictures, save_config, save_results
from xpnet.training import frozen, report
from xpnet.training.callbacks import Callback, StepWatch, call_all, check_callbacks, epoch_functions, tell_end
from xpnet.training.distributed import Ranks, digest_of, get_ranks
from xpnet.training.loop import Loop, Snapshot
from xpnet.training.pace import Pace
from xpnet.training.step import Step


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
    initial: str | None = None,
    freeze: Sequence[int] = (),
    class_weight: str | Mapping[Any, float] | Sequence[float] | None = None,
    sample_weight: Any = None,
    seed: int = 0,
    sequential: bool = False,
    backend: str | ModuleType | Backend | None = None,
    dtype: str = "float32",
    threads: int | None = None,
    workers: int | None = None,
    output_dir: str | os.PathLike[str] | bool | None = None,
    resume: bool = False,
    progress: bool | None = None,
    callbacks: Sequence[Callback] = (),
    distributed: str | Ranks | None = None,
    recipe: str = "custom",
) -> Run:
    """Train a network.

    Parameters
    ----------
    network : Network
        The network to train. It does not change; the result holds the trained network. For a `TrainedNetwork`, see
        ``initial``.
    data : Dataset
        The images and labels to train and test on.
    loss : Loss, optional
        By default `SoftmaxCrossEntropy`.
    optimizer : Optimizer, optional
        By default ``Adam(1e-3)``.
    schedule : Schedule, optional
        How the learning rate changes; by default it is constant.
    epochs, batch_size : int
        The number of passes through the training samples, and the number of samples per step.
    validation_fraction : float
        The share of the training samples to validate on.
    patience : int, optional
        Stop after this many epochs without improvement on the validation set, and return the best weights.
    monitor : {"val_accuracy", "val_loss"}
        The quantity that has to improve.
    initial : {"drawn", "given"}, optional
        ``"drawn"`` starts from new random weights, ``"given"`` from the network's own weights with a new optimizer
        state. By default new weights are drawn, with a warning if the network has weights already.
    freeze : sequence of int
        The indices of layers that do not learn. Their parameters and running statistics do not change, and they work
        as in evaluation.
    class_weight : "balanced", mapping or sequence, optional
        The weights of the classes, in order or by name; see `Dataset.weighted`.
    sample_weight : array_like, shape (n,), optional
        The weight of each training sample.
    seed : int
        Determines all random numbers.
    sequential : bool
        Draw all random numbers from one legacy generator and do not shuffle, as the NumPy tutorial does.
    backend : str, module or Backend, optional
        See `xpnet.get_backend`.
    dtype : {"float32", "float64"}
        The dtype of parameters and arithmetic.
    threads : int, optional
        The number of threads for linear algebra. By default ``XPNET_THREADS``; if that is not set, one on NumPy, and
        the library's own setting elsewhere. Your own ``OMP_NUM_THREADS`` or ``OPENBLAS_NUM_THREADS`` takes precedence
        over this default.
    workers : int, optional
        The number of threads of this process that compute parts of a batch in parallel, on NumPy and for networks that
        are large enough to gain. By default ``XPNET_WORKERS``; if that is not set, one per processor that this process
        may use. The result is the same to the last bit for any number.
    output_dir : path-like or True, optional
        The folder for checkpoints after each epoch, and for the results at the end. True makes a new folder,
        ``runs/RECIPE-DATASET-TIME``, whose name is in ``Run.folder``. Without it, nothing is written.
    resume : bool
        Continue from the last checkpoint in ``output_dir``. The result is that of a run that was never interrupted.
    progress : bool, optional
        Whether to show progress. By default it is shown in a notebook and on a terminal. True also writes one line per
        epoch to standard error where that is neither, such as a log; False shows nothing.
    callbacks : sequence of callable
        Each is called after every epoch, on every rank, with the epoch's `Record`. A callback with two arguments also
        gets the current network, a `TrainedNetwork` on the same device. A callback may also be an object with a method
        ``on_epoch``, which is called in the same way, or a method ``on_step``, which is called after every step with a
        `xpnet.training.callbacks.StepRecord`; each step then waits for the device. A method ``on_end`` is called with
        the finished `Run`, when its results are saved and before its pictures are drawn. A callback that raises
        `StopTraining` ends the run after the epoch, and the run is saved and returned as usual.
    distributed : {"mpi", "mpi:device"}, optional
        Train on all processes of an MPI job, which share every batch. The result is that of one process. Only the
        first process shows progress and writes files. ``"mpi:device"`` hands GPU arrays to MPI.
    recipe : str
        The name of the run in records and plots.

    Returns
    -------
    Run

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong or does not fit another, before any work.
    DivergedError
        If the loss or a weight becomes NaN or infinite. Files written before that stay.
    KeyboardInterrupt
        After Ctrl-C, when the epoch is done. Every exception that ends the training, this one included, has an
        attribute ``run``: the `Run` up to the last finished epoch, or ``None`` if no epoch was finished.

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
        _start_of(network, initial, data),
        loss=SoftmaxCrossEntropy() if loss is None else loss,
        optimizer=Adam() if optimizer is None else optimizer,
        schedule=Schedule() if schedule is None else schedule,
        epochs=epochs,
        batch_size=batch_size,
        validation_fraction=validation_fraction,
        patience=patience,
        monitor=monitor,
        sequential=sequential,
    )
    streams = (SequentialStreams if sequential else Streams)(check_seed(seed))
    if sequential:
        check_order(data.name, data.train_labels)
    network = frozen.freeze(_fitted(network, data, check_dtype(dtype)), freeze)
    if class_weight is not None or sample_weight is not None:
        data = data.weighted(class_weight, sample_weight)
    step = Step(network, plan.loss, plan.optimizer, opened, dtype, ranks.all_reduce(opened))
    check_surroundings(threads, output_dir, resume, workers)
    callbacks = check_callbacks(callbacks)
    ranks.agree({"output_dir": None if output_dir is None else str(output_dir), "resume": bool(resume)})
    threads = ranks.threads(threads, opened)
    with ExitStack() as stack:
        stack.enter_context(thread_limit(threads))
        stack.enter_context(kept_memory())
        stack.enter_context(opened.session(dtype))
        # The loop checks that the parts fit together, so it comes first: an error must leave no folder behind.
        loop = Loop(step, plan, streams, data, ranks, check_workers(workers) or ranks.processors())
        stack.callback(loop.workers.close)
        directory = _directory(output_dir, ranks, f"{recipe}-{data.name}")
        if directory is not None:
            ranks.from_first(lambda: stack.enter_context(directory.lock()))
        config = describe_run(loop, data, recipe) | {"workers": loop.workers.count, "threads": threads}
        ranks.compare(config, lambda: loop.initial()[0])
        work = _Work(loop, config, data, directory, _first_snapshot(loop, directory, resume, config))
        try:
            return work.complete(callbacks, progress if ranks.first else False)
        except BaseException as error:
            error.run = work.so_far()  # type: ignore[attr-defined]
            raise


def _directory(output_dir: str | os.PathLike[str] | bool | None, ranks: Ranks, name: str) -> RunDirectory | None:
    """Return the folder to write to; make a new one if ``output_dir`` is True."""
    if output_dir is None or output_dir is False:
        return None
    if output_dir is True:
        words = re.sub(r"[^\w.-]+", "-", name)  # a dataset may have any name
        wanted = Path("runs") / f"{words}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
        return RunDirectory(ranks.from_first(lambda: new_directory(wanted)))
    return RunDirectory(require_path("output_dir", output_dir))


def _start_of(network: Network, initial: str | None, data: Dataset) -> Network:
    """Return the network with its weights if training starts from them, else only its description."""
    require_instance("network", network, Network, "Network([Dense(10)], input_shape=(64,))")
    if initial not in (None, "drawn", "given"):
        raise ValueError(f"initial={initial!r}: must be 'drawn' or 'given'")
    trained = isinstance(network, TrainedNetwork)
    if initial == "given":
        if not trained:
            raise ValueError("initial='given': the network has no weights: pass one from xpnet.load, or run.network")
        if isinstance(network, TrainedNetwork) and network.facts is not None and isinstance(data, Dataset):
            check_layout("data", data.sample_shape, network.facts.sample_shape)
            check_alike("data", network.facts, data.train_images, data.pixel_max)
        return network
    if trained and initial is None:
        warnings.warn(
            "network: has weights, but training starts from new ones: pass initial='given' to use its weights, "
            "or initial='drawn' to silence this warning",
            stacklevel=3,
        )
    return Network(network.layers, network.input_shape, network.pixel_max)


def describe_run(loop: Loop, data: Dataset, recipe: str) -> dict[str, Any]:
    """Return everything that determines a run's outcome, in a JSON-serializable form."""
    step, plan = loop.step, loop.plan
    return {
        "recipe": recipe,
        "dataset": data.name,
        "data_fingerprint": data.fingerprint(),
        "images": data.facts.to_config(),
        "class_names": list(data.class_names),
        "train_samples": len(data.train_images),
        "backend": step.backend.spec,
        "device": step.backend.device_name,
        "ranks": loop.ranks.size,
        "versions": {
            "xpnet": __version__,
            "numpy": np.__version__,
            step.backend.spec.partition(":")[0]: step.backend.version,
        },
        "dtype": step.dtype,
        "seed": loop.streams.seed,
        "streams": type(loop.streams).__name__,
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "validation_fraction": plan.validation_fraction,
        "stopping": loop.stopping.to_config(),
        "loss": plan.loss.to_config(),
        "optimizer": plan.optimizer.to_config(),
        "schedule": plan.schedule.to_config(),
        "network": loop.network.to_config(),
        "initial": digest_of(loop.initial()[0]) if isinstance(plan.network, TrainedNetwork) else "drawn",
        "freeze": frozen.frozen_layers(step.network),
        "train_weights": None if data.train_weights is None else digest_of([{"weights": data.train_weights}]),
    }


def check_surroundings(threads: int | None, output_dir: Any, resume: bool, workers: int | None = None) -> None:
    """Check the arguments of `fit` that do not depend on the network and the data.

    Raises
    ------
    ValueError, TypeError
        Naming the argument and its value.
    """
    check_threads(threads)
    check_workers(workers)
    named = not (output_dir is None or isinstance(output_dir, bool))
    if named:
        check_folder_name("output_dir", output_dir)
    if resume and not named:
        raise ValueError("resume=True: needs the output_dir of the run to continue")


def _fitted(network: Network, data: Dataset, dtype: str) -> Network:
    """Check that network, dataset and dtype fit together, and give the network the dataset's ``pixel_max``."""
    require_instance("data", data, Dataset, "xpnet.Dataset.from_arrays(images, labels)")
    if looks_channels_first(network.input_shape) and data.sample_shape != network.input_shape:
        raise ValueError(
            f"network: input_shape={network.input_shape} looks like channels first: give (height, width, channels), "
            f"as the images of {data.name} are, {data.sample_shape}"
        )
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
        # Both extremes instead of absolute values, which would need a copy.
        largest = max(-images.min(), images.max()) if images.dtype.kind == "f" else 0
        if float(largest) > float(np.finfo(dtype).max):
            raise ValueError(f"data: the images of {data.name} hold {largest:g}, which is too large for {dtype}")
    if network.size == 0:
        raise ValueError("network: no layer has parameters, so there is nothing to train")
    return Network(network.layers, network.input_shape, data.pixel_max)


def _first_snapshot(loop: Loop, directory: RunDirectory | None, resume: bool, config: dict[str, Any]) -> Snapshot:
    """Start from the beginning, or from the last checkpoint."""
    if directory is None:
        return loop.start()
    checkpoint = loop.ranks.from_first(lambda: _last_checkpoint(directory, resume, config))
    try:
        snapshot = loop.start() if checkpoint is None else loop.restore(checkpoint)
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"output_dir={str(directory.path)!r}: its checkpoints are not of this version of xpnet: {error}"
        ) from None
    if loop.ranks.first:
        save_config(directory.path, config)
    return snapshot


def _last_checkpoint(directory: RunDirectory, resume: bool, config: dict[str, Any]) -> Checkpoint | None:
    """Return the checkpoint to resume from, if there is one."""
    where = f"output_dir={str(directory.path)!r}"
    checkpoint = directory.latest_checkpoint()
    if checkpoint is None:
        if (directory.path / MODEL).exists():
            raise ValueError(
                f"{where}: holds a run without checkpoints, which cannot be resumed: choose another folder"
            )
        return None
    if not resume:
        raise ValueError(
            f"{where}: holds a run already: continue it with resume=True (--resume), or choose another folder"
        )
    begun = checkpoint.meta.get("config")
    if not isinstance(begun, dict):
        raise CheckpointError(f"{where}: the checkpoint of epoch {checkpoint.epoch} does not say of which run it is")
    saved = {
        "initial": "drawn",
        "freeze": [],
        "train_weights": None,
        "class_names": config["class_names"],
        **begun,
    }  # the only choices of version 0.1
    compare_configs(saved, config, FREE_TO_CHANGE)
    if saved.get("threads") != config["threads"]:
        warnings.warn(
            f"resume: linear algebra used threads={saved.get('threads')}, and now uses {config['threads']}: the "
            "last bits may differ from those of a run that was never interrupted",
            stacklevel=2,
        )
    done = checkpoint.epoch + 1
    if done > config["epochs"]:
        raise ResumeError(f"epochs={config['epochs']}: the run in {str(directory.path)!r} has done {done} already")
    return checkpoint


def _without_warnings() -> np.errstate:
    """Silence NumPy's overflow warnings, since `DivergedError` follows; a user's stricter settings stay."""
    now = np.geterr()
    return np.errstate(
        under="ignore",
        over="ignore" if now["over"] == "warn" else None,
        invalid="ignore" if now["invalid"] == "warn" else None,
    )


@dataclass
class _Work:
    """A run in progress; ``snapshot`` is always that of the last finished epoch, however the run ends."""

    loop: Loop
    config: dict[str, Any]
    data: Dataset
    directory: RunDirectory | None
    snapshot: Snapshot

    def complete(self, callbacks: Sequence[Callback], progress: bool | None) -> Run:
        """Train, save the results, and return the run."""
        loop, backend = self.loop, self.loop.backend
        size, epochs = loop.step.network.size, loop.plan.epochs
        reporter = report.reporter_for(progress, self.config, size, epochs, backend.first_epoch)
        watch = StepWatch(loop, callbacks)
        if reporter.watches or watch.functions:
            loop.watch = watch if watch.functions else None
            loop.pace = Pace(backend, reporter.moved, single=bool(watch.functions))
        with reporter:
            reporter.start(self.snapshot.history)
            stopped = self._train([reporter.epoch, *epoch_functions([*callbacks, watch])])
        if stopped and not loop.finished(self.snapshot):
            raise KeyboardInterrupt
        run = self._run()
        self._finish(run, callbacks)
        if stopped:  # in the last epoch: the run is complete, but the user wants nothing after it
            raise KeyboardInterrupt
        return run

    def so_far(self) -> Run | None:
        """Return the run after the last finished epoch, if there is one and its arrays still exist."""
        if not self.snapshot.history:
            return None
        try:
            return self._run()
        except Exception:  # an interrupted compiled epoch has consumed the arrays
            return None

    def _run(self) -> Run:
        folder = None if self.directory is None else self.directory.path
        return Run(self.loop.result(self.snapshot), self.snapshot.history, self.config, self.data, folder)

    def _train(self, functions: Sequence[Callable[..., object]]) -> bool:
        """Run the remaining epochs, and return whether the user has stopped training."""
        loop, stopped = self.loop, False
        while not (stopped or loop.finished(self.snapshot)):
            with report.interrupt_after(loop.ranks.first) as interrupted:
                with _without_warnings():
                    snapshot = loop.advance(self.snapshot)
                _check_finite(loop, snapshot)
                self.snapshot = snapshot
                self._save_epoch()
                ended = call_all(functions, loop, snapshot)
            stopped = loop.ranks.any(interrupted())
            if loop.ranks.any(ended):
                break
        return stopped

    def _save_epoch(self) -> None:
        if self.directory is not None and self.loop.ranks.first:
            self.directory.save_checkpoint(self.loop.checkpoint(self.snapshot, self.config))
            self._keep_config(self.directory.path)
            self.snapshot.history.to_csv(self.directory.path / HISTORY)

    def _finish(self, run: Run, callbacks: Sequence[Callback]) -> None:
        """Save the results, tell the callbacks, and draw the pictures last, since they are what may best be missing."""
        folder = run.folder if self.loop.ranks.first else None
        if folder is not None:
            self._keep_config(folder)
            save_results(folder, run)
        try:
            tell_end(callbacks, run)
        finally:
            if folder is not None:
                draw_pictures(folder, run)

    def _keep_config(self, folder: Path) -> None:
        """Write the configuration again if it was deleted since the run began."""
        if not (folder / CONFIG).exists():
            folder.mkdir(parents=True, exist_ok=True)
            save_config(folder, self.config)


def _check_finite(loop: Loop, snapshot: Snapshot) -> None:
    """Raise `DivergedError` if the loss or a weight is not finite."""
    record, rate = snapshot.history[-1], loop.step.optimizer.learning_rate
    if not record.finite():
        raise DivergedError(
            f"epoch {record.epoch}: the loss is no longer finite (train_loss={record.train_loss}) with "
            f"learning_rate={rate}: try a smaller one"
        )
    if bad := loop.not_finite(snapshot):
        raise DivergedError(
            f"epoch {record.epoch}: {bad} is no longer finite: the images may hold very large numbers, or try "
            f"a smaller learning_rate than {rate}"
        )
