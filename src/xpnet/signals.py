"""Signals that end the program ``xpnet``: Ctrl-C, SIGTERM and SIGHUP.

From the first import on, each signal ends the program in an orderly way, with one line and the exit code that a shell
expects; therefore `xpnet` imports this module before all others. A program that imports xpnet as a library keeps its
own signal handlers.
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
"""The messages for SIGINT, SIGTERM and SIGHUP."""


class Stopped(KeyboardInterrupt):
    """A signal that ends the program arrived."""

    number: int


def heed() -> list[signal.Signals]:
    """Raise `Stopped` at the first signal, and only then, so that a burst of signals does not disturb the cleanup."""
    begun = 0.0

    def again(number: int, frame: Any) -> None:
        if time.monotonic() > begun + 2:  # a library swallowed the first
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
    """Ignore the signals, so that the interpreter finishes undisturbed."""
    _handle(signal.SIG_IGN)


def end_at_once() -> list[signal.Signals]:
    """End the process at the first signal, as long as there is nothing to lose."""

    def end(number: int, frame: Any) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"\nxpnet: {STOPPED[number]}\n".encode())
        os._exit(128 + number)

    return _handle(end)


def _handle(handler: Any) -> list[signal.Signals]:
    """Set a handler for each signal, unless it is ignored, as SIGHUP is under nohup, or has a user's own handler."""
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
