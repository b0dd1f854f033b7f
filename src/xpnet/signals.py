"""The signals that end the program ``xpnet``: Ctrl-C, SIGTERM and SIGHUP.

Each ends it in order, with one line and the exit code that a shell expects, from the first import on: `xpnet` imports
this module before all others. Where xpnet is imported as a library, no signal is touched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

STOPPED = {2: "interrupted", 15: "terminated", 1: "hung up"}
"""What SIGINT, SIGTERM and SIGHUP do to a program."""


class Stopped(KeyboardInterrupt):
    """A signal arrived that ends the program."""

    number: int


def heed() -> list[signal.Signals]:
    """Raise `Stopped` at the first of the signals, once: a burst of them does not disturb the end that it began."""
    begun = 0.0

    def again(number: int, frame: Any) -> None:
        if time.monotonic() > begun + 2:  # the first was lost in a library
            os._exit(128 + number)

    def stop(number: int, frame: Any) -> None:
        nonlocal begun
        begun = time.monotonic()
        _handle(again)
        stopped = Stopped()
        stopped.number = number
        raise stopped

    return _handle(stop)


def ignore() -> None:
    """Let the interpreter finish undisturbed."""
    _handle(signal.SIG_IGN)


def end_at_once() -> list[signal.Signals]:
    """End the process at the first of the signals, while there is nothing yet that could be lost."""

    def end(number: int, frame: Any) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"\nxpnet: {STOPPED[number]}\n".encode())
        os._exit(128 + number)

    return _handle(end)


def _handle(handler: Any) -> list[signal.Signals]:
    """Set a handler for those of the signals that are not ignored, as SIGHUP is under nohup, and not a user's own."""
    usual = (signal.SIG_DFL, signal.default_int_handler)
    handled = []
    for each in signal.Signals:
        before = signal.getsignal(each) if each in STOPPED else signal.SIG_IGN
        if before in usual or getattr(before, "__module__", None) == __name__:
            signal.signal(each, handler)
            handled.append(each)
    return handled


def _is_program() -> bool:
    """Whether this process is ``xpnet`` or ``python -m xpnet``."""
    name = Path(getattr(sys, "argv", [""])[0]).name.lower()
    return name in ("xpnet", "xpnet.exe") or (name == "-m" and sys.orig_argv[1:3] == ["-m", "xpnet"])


if _is_program():
    end_at_once()
