"""Callbacks: the user's functions and objects that observe a run, and may end it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from xpnet.runs.history import Record
from xpnet.runs.run import Run
from xpnet.training.loop import Loop, Snapshot
from xpnet.training.per_sample import BLOCK
from xpnet.training.step import Progress

Callback = Any
"""A function that takes a `Record`, or a `Record` and a `TrainedNetwork`; or an object with a method ``on_epoch`` that
takes the same, a method ``on_step`` that takes a `StepRecord`, a method ``on_end`` that takes a `Run`, or several."""


METHODS = ("on_epoch", "on_step", "on_end")


class StopTraining(Exception):
    """Raise this in a callback to end a run after the current epoch.

    Examples
    --------
    >>> import xpnet
    >>> def good_enough(record):
    ...     if record.test_accuracy > 0.7:
    ...         raise xpnet.StopTraining
    >>> run = xpnet.train("mlp", dataset="digits", epochs=50, callbacks=[good_enough], progress=False)
    >>> len(run.history) < 50, run.history[-1].test_accuracy > 0.7
    (True, True)
    """


class StepRecord(NamedTuple):
    """The measurements of one step, for ``on_step`` of a callback.

    Attributes
    ----------
    epoch, step : int
        The numbers of the epoch, and of the step within it, from 0.
    steps : int
        The number of steps in an epoch.
    loss, accuracy : float
        Means over the samples of this step's batch, before the update.

    Examples
    --------
    >>> import xpnet
    >>> class Watch:
    ...     def on_step(self, record):
    ...         if record.step % 20 == 0:
    ...             print(f"{record.step:>2} of {record.steps}: loss {record.loss:.1f}")
    >>> run = xpnet.train("mlp", dataset="digits", epochs=1, callbacks=[Watch()], progress=False)
     0 of 57: loss 2.9
    20 of 57: loss 2.2
    40 of 57: loss 1.4
    """

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float


def check_callbacks(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    """Check that every callback can be called, before an epoch has been trained, and return them.

    Raises
    ------
    TypeError
        Naming a callback that cannot.
    """
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks={callbacks!r}: must be a list of functions, such as [print]")
    listed = tuple(callbacks)
    for callback in listed:
        methods = [name for name in METHODS if callable(getattr(callback, name, None))]
        if methods and isinstance(callback, type):
            raise TypeError(f"callbacks: {callback.__name__} is a class: give an object of it, {callback.__name__}()")
        if not methods and not callable(callback):
            raise TypeError(f"callbacks: {callback!r} is not a function, and has no method {' or '.join(METHODS)}")
    return listed


def epoch_functions(callbacks: Sequence[Callback]) -> list[Callable[..., object]]:
    """Return the functions to call after each epoch."""
    methods = [getattr(callback, "on_epoch", callback) for callback in callbacks]
    return [method for method in methods if callable(method)]


def tell_end(callbacks: Sequence[Callback], run: Run) -> None:
    """Call the ``on_end`` methods of callbacks."""
    for callback in callbacks:
        if callable(method := getattr(callback, "on_end", None)):
            method(run)


def call_all(functions: Sequence[Callable[..., object]], loop: Loop, snapshot: Snapshot) -> bool:
    """Call each function with one or two arguments, and return whether one of them ends the run."""
    ended = False
    for function in functions:
        try:
            if takes_network(function):
                function(snapshot.history[-1], loop.network_of(snapshot))
            else:
                function(snapshot.history[-1])
        except StopTraining:
            ended = True
    return ended


def takes_network(function: Callable[..., object]) -> bool:
    """Whether a function has exactly two positional arguments without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # functions written in C have no signature
        return False
    wanted = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(wanted) == 2


class StepWatch:
    """Calls the ``on_step`` methods of callbacks; `Loop` calls it after each step.

    Parameters
    ----------
    loop : Loop
        The loop whose steps are watched.
    callbacks : sequence
        The callbacks; those without the method are ignored.

    Attributes
    ----------
    functions : list of callable
    ended : bool
        Whether one of them has ended the run. The epoch is still finished, but no function is called any more.
    """

    def __init__(self, loop: Loop, callbacks: Sequence[Callback]) -> None:
        found = [getattr(callback, "on_step", None) for callback in callbacks]
        self.functions = [function for function in found if callable(function)]
        self.batch = BLOCK if loop.in_blocks else loop.plan.batch_size
        self.loop, self.ended = loop, False
        self.epoch, self.step, self.loss, self.correct = -1, 0, 0.0, 0.0

    def on_epoch(self, record: Record) -> None:
        """End the run if one of the functions has raised `StopTraining`."""
        if self.ended:
            raise StopTraining

    def __call__(self, epoch: int, progress: Progress) -> None:
        """Compute the step's means from the epoch's sums before and after it, and call the functions."""
        if epoch != self.epoch:
            self.epoch, self.step, self.loss, self.correct = epoch, 0, 0.0, 0.0
        loss, correct = (float(self.loop.backend.to_numpy(value)) for value in (progress.loss, progress.correct))
        n = len(self.loop.train_index)
        count = min(self.batch, n - self.step * self.batch)
        means = (loss - self.loss) / count, (correct - self.correct) / count
        record = StepRecord(epoch, self.step, -(-n // self.batch), *means)
        self.step, self.loss, self.correct = self.step + 1, loss, correct
        for function in [] if self.ended else self.functions:
            try:
                function(record)
            except StopTraining:
                self.ended = True
