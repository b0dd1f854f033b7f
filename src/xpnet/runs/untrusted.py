"""Files that a stranger may have written: read within bounds, and shown without harm."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

MOST_JSON = 1 << 20
"""Bytes of a configuration: that of a network of a thousand layers has a fifth of these."""

DEEPEST = 32
"""Levels of a configuration: that of a network has five, and parts of your own may hold parts."""


def shown(text: object, most: int = 200) -> str:
    r"""Return text from a file as it may be shown on a terminal: cut, and control characters escaped.

    Examples
    --------
    >>> print(shown("a key\x1b[2J"), shown("x" * 300, 5))
    a key\x1b[2J xxxxx...
    """
    whole = str(text)
    cut = whole if len(whole) <= most else f"{whole[:most]}..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in cut)


def read_bounded(path: str | os.PathLike[str], most: int) -> bytes:
    """Read a regular file of at most so many bytes.

    Raises
    ------
    OSError
        If it is a device, a pipe or larger, or cannot be read.
    """
    # Without the flag, opening a pipe waits for somebody to write to it.
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
    """Parse JSON whose numbers are finite and whose levels are few: what works on it may recurse.

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
    """Read a file of JSON; see `read_bounded` and `parse_json`."""
    return parse_json(read_bounded(path, MOST_JSON))


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _refuse(constant: str) -> Any:
    raise ValueError(f"it holds {constant}")
