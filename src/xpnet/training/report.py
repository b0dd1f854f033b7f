"""Progress, as a user sees it while a network trains: the header, the lines, the bar, and Ctrl-C."""

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


def header(config: dict[str, Any], size: int) -> str:
    """Say in two lines what is about to be trained, on what, and where."""
    workers = f", {config['workers']} workers" if config.get("workers", 1) > 1 else ""
    return (
        f"recipe {config['recipe']}, {size:,} parameters, dataset {config['dataset']} "
        f"({config['train_samples']:,} training images)\n"
        f"backend {config['backend']} on {config['device']}{workers}, {config['dtype']}, seed {config['seed']}"
    )


def line(record: Record) -> str:
    """Write an epoch's record on one line, leaving out what was not measured."""
    parts = [f"epoch {record.epoch:>3}"]
    for part, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        loss, accuracy = getattr(record, f"{part}_loss"), getattr(record, f"{part}_accuracy")
        if loss is not None and accuracy is not None:
            parts.append(f"{name}: loss {loss:.4f} accuracy {accuracy:.4f}")
    return "   ".join([*parts, f"{record.seconds:.2f} s"])


def _say(text: str) -> None:
    """Print on standard error, if there is one: a terminal that is gone, or a full disk, is no reason to stop."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


class Reporter:
    """Shows nothing; its subclasses show how a run goes. A context manager, since there is something to tidy up.

    Parameters
    ----------
    config : dict
        The run's configuration.
    size : int
        The number of parameters.
    epochs : int
        The number of epochs.
    """

    watches = False
    """Whether it shows how far an epoch is."""

    def __init__(self, config: dict[str, Any], size: int, epochs: int) -> None:
        self.header = header(config, size)
        self.epochs = epochs

    def __enter__(self) -> Reporter:
        """Begin."""
        return self

    def start(self, history: History) -> None:
        """Go on from the epochs that a resumed run has done."""

    def moved(self, share: float) -> None:
        """Show which share of the running epoch is done."""

    def epoch(self, record: Record) -> None:
        """Show that an epoch is done."""

    def __exit__(self, *error: object) -> None:
        """Tidy up."""


class LogReporter(Reporter):
    """A header and a line an epoch on standard error: for logs, where nothing can be overwritten."""

    def __enter__(self) -> Reporter:
        """Write the header."""
        _say(self.header)
        return self

    def epoch(self, record: Record) -> None:
        """Write an epoch's line."""
        _say(line(record))


class TerminalReporter(Reporter):
    """A line an epoch on a terminal, and below them a bar that moves, with the time that is left."""

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
        """Count the time that is left from here."""
        self.bar.initial = len(history)
        self._show(len(history))

    def moved(self, share: float) -> None:
        """Move the bar within an epoch."""
        self._show(int(self.bar.n) + share)

    def epoch(self, record: Record) -> None:
        """Write an epoch's line and move the bar."""
        self.bar.write(line(record), file=sys.stderr)
        self._show(record.epoch + 1)

    def _show(self, done: float) -> None:
        self.bar.n = done
        self.bar.set_description(self._name(done), refresh=False)
        self.bar.refresh()

    def _name(self, done: float) -> str:
        return f"epoch {min(int(done) + 1, self.epochs)} of {self.epochs}"

    def __exit__(self, *error: object) -> None:
        """Clear the bar away."""
        self.bar.close()


class NotebookReporter(Reporter):
    """One output of a notebook, which is written anew as the run goes on: a bar, a curve, and the last epochs."""

    watches = True
    PAUSE = 0.3
    """Seconds between two updates, at the least: a browser cannot show more, and they take time."""

    def __enter__(self) -> Reporter:
        """Make the output."""
        from IPython.display import HTML, display

        self.html: Callable[[str], Any] = HTML
        self.history, self.began, self.first, self.last = History(), time.monotonic(), 0, -math.inf
        self.handle: Any = display(HTML(self._state(0.0)), display_id=True)
        return self

    def start(self, history: History) -> None:
        """Show the epochs that are done already."""
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
        """Show how it ended."""
        self.last = -math.inf
        self._show(0.0)


def reporter_for(wanted: bool | None, config: dict[str, Any], size: int, epochs: int) -> Reporter:
    """Return the reporter for where this runs.

    Parameters
    ----------
    wanted : bool or None
        False shows nothing, None shows it in a notebook or on a terminal, and True in a log too.
    config, size, epochs
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
    return kind(config, size, epochs)


def in_notebook() -> bool:
    """Whether this runs in the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def interrupt_after(tell: bool = True) -> Iterator[Callable[[], bool]]:
    """Hold a first Ctrl-C back until the ``with`` block is done, so that an epoch and its checkpoint are whole.

    A second one breaks in at once.

    Parameters
    ----------
    tell : bool
        Whether to say so.

    Yields
    ------
    callable
        Says whether there was one.
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

    if not callable(before):  # Somebody ignores the signal, or handles it outside Python: so be it.
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: received
    finally:
        if signal.getsignal(signal.SIGINT) is note:  # else somebody has set another in the meantime
            signal.signal(signal.SIGINT, before)
