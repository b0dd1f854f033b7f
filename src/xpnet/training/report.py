"""Progress on screen while a network trains (a header, lines and a bar), and Ctrl-C."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from xpnet.runs.history import History, Record


def header(config: dict[str, Any], size: int, note: str = "") -> str:
    """Return lines that describe the run (network, data and device), with a note if any, and the lines to come."""
    workers = f", {config['workers']} workers" if config.get("workers", 1) > 1 else ""
    return (
        f"recipe {config['recipe']}, {size:,} parameters, dataset {config['dataset']} "
        f"({config['train_samples']:,} training images)\n"
        f"backend {config['backend']} on {config['device']}{workers}, {config['dtype']}, seed {config['seed']}"
        + (f"\n{note}" if note else "")
        + "\neach epoch: loss and accuracy on the training, validation and test images"
    )


def line(record: Record) -> str:
    """Return an epoch's record as one line of 80 columns, without quantities that were not measured."""
    parts = [f"epoch {record.epoch:>3}"]
    for name in ("train", "val", "test"):
        loss, accuracy = getattr(record, f"{name}_loss"), getattr(record, f"{name}_accuracy")
        if loss is not None and accuracy is not None:
            parts.append(f"{name} {loss:.4f} {accuracy:7.2%}")
    return "  ".join([*parts, f"{record.seconds:.2f} s"])


def _say(text: str) -> None:
    """Print on standard error, if possible: a closed terminal or a full disk must not stop training."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


class Reporter:
    """Shows nothing; its subclasses show progress. It is a context manager, because a progress bar needs closing.

    Parameters
    ----------
    config : dict
        The run's configuration.
    size : int
        The number of parameters.
    epochs : int
        The number of epochs.
    note : str
        A note about the first epoch, or empty.
    """

    watches = False
    """Whether the reporter shows progress within an epoch."""

    def __init__(self, config: dict[str, Any], size: int, epochs: int, note: str = "") -> None:
        self.header = header(config, size, note)
        self.epochs = epochs

    def __enter__(self) -> Reporter:
        """Begin."""
        return self

    def start(self, history: History) -> None:
        """Continue after the epochs that a resumed run has done."""

    def moved(self, share: float) -> None:
        """Show the finished share of the current epoch."""

    def epoch(self, record: Record) -> None:
        """Show a finished epoch."""

    def __exit__(self, *error: object) -> None:
        """Clean up."""


class LogReporter(Reporter):
    """A header and one line per epoch on standard error, for logs, where nothing can be overwritten."""

    def __enter__(self) -> Reporter:
        """Write the header."""
        _say(self.header)
        return self

    def epoch(self, record: Record) -> None:
        """Write the epoch's line."""
        _say(line(record))


class TerminalReporter(Reporter):
    """One line per epoch on a terminal, and below them a progress bar with the remaining time."""

    watches = True

    def __enter__(self) -> Reporter:
        """Write the header and start the bar."""
        from tqdm import tqdm

        form = "{desc}{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
        tqdm.write(self.header, file=sys.stderr)
        how: dict[str, Any] = {"bar_format": form, "leave": False, "file": sys.stderr, "dynamic_ncols": True}
        self.bar = tqdm(total=self.epochs, desc=self._name(0), **how)
        return self

    def start(self, history: History) -> None:
        """Estimate the remaining time from here on."""
        self.bar.initial = len(history)
        self._show(len(history))

    def moved(self, share: float) -> None:
        """Move the bar within an epoch."""
        self._show(int(self.bar.n) + share)

    def epoch(self, record: Record) -> None:
        """Write the epoch's line and move the bar."""
        self._move(record.epoch + 1)
        self.bar.write(line(record), file=sys.stderr)  # which draws the bar, too

    def _show(self, done: float) -> None:
        self._move(done)
        self.bar.refresh()

    def _move(self, done: float) -> None:
        self.bar.n = done
        self.bar.set_description(self._name(done), refresh=False)

    def _name(self, done: float) -> str:
        return f"epoch {min(int(done) + 1, self.epochs)} of {self.epochs}"

    def __exit__(self, *error: object) -> None:
        """Remove the bar."""
        self.bar.close()


class NotebookReporter(Reporter):
    """One notebook output, updated during the run: a bar, a curve, and the last epochs."""

    watches = True
    PAUSE = 0.3
    """Minimum number of seconds between two updates: they take time, and a browser cannot show more."""

    def __enter__(self) -> Reporter:
        """Display the output."""
        from IPython.display import HTML, display

        self.html: Callable[[str], Any] = HTML
        self.history, self.began, self.first, self.last = History(), time.monotonic(), 0, -math.inf
        self.handle: Any = display(HTML(self._state(0.0)), display_id=True)
        return self

    def start(self, history: History) -> None:
        """Show the epochs that are already done."""
        self.history, self.first = history, len(history)

    def moved(self, share: float) -> None:
        """Move the bar within an epoch."""
        self._show(share)

    def epoch(self, record: Record) -> None:
        """Add an epoch."""
        self.history = self.history.appended(record)
        self._show(0.0)

    def _show(self, share: float) -> None:
        if time.monotonic() >= self.last + self.PAUSE:
            self.handle.update(self.html(self._state(share)))
            self.last = time.monotonic()

    def _state(self, share: float) -> str:
        from xpnet.plots import display

        done, elapsed = len(self.history) + share, time.monotonic() - self.began
        here = done - self.first
        left = elapsed / here * (self.epochs - done) if here else None
        return display.progress_html(self.header, self.history, done, self.epochs, elapsed, left)

    def __exit__(self, *error: object) -> None:
        """Show the final state."""
        self.last = -math.inf
        self._show(0.0)


def reporter_for(wanted: bool | None, config: dict[str, Any], size: int, epochs: int, note: str = "") -> Reporter:
    """Return the reporter that suits a notebook, a terminal or a log.

    Parameters
    ----------
    wanted : bool or None
        False shows nothing; None shows progress in a notebook or on a terminal; True shows it in a log too.
    config, size, epochs, note : dict, int, int, str
        See `Reporter`.
    """
    kind = Reporter
    if wanted is not False:
        if in_notebook():
            kind = NotebookReporter
        elif sys.stderr is not None and sys.stderr.isatty():
            kind = TerminalReporter
        elif wanted:
            kind = LogReporter
    return kind(config, size, epochs, note)


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def interrupt_after(tell: bool = True) -> Iterator[Callable[[], bool]]:
    """Delay a first Ctrl-C until the ``with`` block is done, so that an epoch and its checkpoint are complete.

    A second Ctrl-C interrupts at once.

    Parameters
    ----------
    tell : bool
        Whether to print a message.

    Yields
    ------
    callable
        Returns whether Ctrl-C was pressed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.getsignal(signal.SIGINT)
    received = False

    def note(number: int, frame: Any) -> None:
        nonlocal received
        received = True
        signal.signal(signal.SIGINT, before)
        if tell:
            _say("\nxpnet: finishing this epoch; press Ctrl-C again to stop at once")

    if not callable(before):  # The signal is ignored or handled outside Python; leave that as it is.
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: received
    finally:
        if signal.getsignal(signal.SIGINT) is note:  # otherwise another handler has been set meanwhile
            signal.signal(signal.SIGINT, before)
