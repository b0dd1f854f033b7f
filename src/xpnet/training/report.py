"""What a user sees and does while a network trains: the header, the lines, the bar, and Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from xpnet.runs.history import Record


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


class Reporter:
    """Shows the progress of a run on standard error, if that is a terminal and the user wants it.

    Parameters
    ----------
    wanted : bool
        Whether to show anything.
    config : dict
        The run's configuration.
    size : int
        The number of parameters.
    epochs : int
        The number of epochs.
    """

    def __init__(self, wanted: bool, config: dict[str, Any], size: int, epochs: int) -> None:
        self.shown = wanted and sys.stderr.isatty()
        self.config, self.size, self.epochs = config, size, epochs
        self.bar: Any = None

    def __enter__(self) -> Reporter:
        """Print the header and start the bar."""
        if self.shown:
            from tqdm import tqdm

            tqdm.write(header(self.config, self.size), file=sys.stderr)
            self.bar = tqdm(total=self.epochs, unit="epoch", leave=False, file=sys.stderr)
        return self

    def epoch(self, record: Record) -> None:
        """Print an epoch's line and move the bar."""
        if self.bar is not None:
            self.bar.n = record.epoch + 1
            self.bar.write(line(record), file=sys.stderr)
            self.bar.refresh()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Clear the bar away."""
        if self.bar is not None:
            self.bar.close()


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
            print("\nxpnet: finishing this epoch; press Ctrl-C again to stop at once", file=sys.stderr)

    if not callable(before):  # Somebody ignores the signal, or handles it outside Python: so be it.
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: received
    finally:
        signal.signal(signal.SIGINT, before)
