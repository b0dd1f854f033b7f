"""Untrusted files: bounded reads, and safe display of their text."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

MOST_JSON = 1 << 20
"""The largest configuration in bytes; a network of a thousand layers needs a fifth of this."""

DEEPEST = 32
"""The deepest nesting of a configuration; a network needs five levels, and your own parts may hold more parts."""


def shown(text: object, most: int = 200) -> str:
    r"""Return text from a file in a form that is safe on a terminal: cut, with control characters escaped.

    Examples
    --------
    >>> print(shown("a key\x1b[2J"), shown("x" * 300, 5))
    a key\x1b[2J xxxxx...
    """
    whole = str(text)
    cut = whole if len(whole) <= most else f"{whole[:most]}..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in cut)


def read_bounded(path: str | os.PathLike[str], most: int) -> bytes:
    """Read a regular file of at most ``most`` bytes.

    Raises
    ------
    OSError
        If it is a device, a pipe or larger, or if it cannot be read.
    """
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        if found.st_size > most:
            raise OSError(errno.EFBIG, f"{found.st_size:,} bytes, where at most {most:,} are expected", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(found.st_size)
    finally:
        os.close(descriptor)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON with finite numbers and limited nesting, so that recursive code can work on it.

    Raises
    ------
    ValueError
    """
    try:
        parsed = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [parsed]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _inside(value)]
    if level:
        raise ValueError("it is nested too deeply")
    return parsed


def read_json(path: Path) -> Any:
    """Read a JSON file; see `read_bounded` and `parse_json`."""
    return parse_json(read_bounded(path, MOST_JSON))


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _refuse(constant: str) -> Any:
    raise ValueError(f"it holds {constant}")
