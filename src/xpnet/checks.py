"""Checks of what users give: each names the argument, its value, and what it must be.

Scalars of NumPy's are welcome, but not kept: they would turn float32 arrays into float64, mean nothing to other array
libraries, and not be written as JSON.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np


def require_number(name: str, value: Any) -> float:
    """Refuse what is not a number.

    Raises
    ------
    TypeError
        Naming the argument and its value.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}={value!r}: must be a number, not {type(value).__name__}")
    return float(value)


def require_positive(name: str, value: Any) -> float:
    """Refuse a number that is not finite and above zero.

    Raises
    ------
    TypeError, ValueError
        Naming the argument and its value.
    """
    number = require_number(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name}={value!r}: must be a finite number above 0")
    return number


def require_fraction(name: str, value: Any) -> float:
    """Refuse a number that is not in [0, 1).

    Raises
    ------
    TypeError, ValueError
        Naming the argument and its value.
    """
    number = require_number(name, value)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"{name}={value!r}: must be in [0, 1)")
    return number


def require_integer(name: str, value: Any) -> int:
    """Refuse what is not an integer.

    Raises
    ------
    TypeError
        Naming the argument and its value.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}={value!r}: must be an integer, not {type(value).__name__}")
    return int(value)


def require_size(name: str, value: Any) -> int:
    """Refuse what is not an integer of at least one.

    Raises
    ------
    TypeError, ValueError
        Naming the argument and its value.
    """
    number = require_integer(name, value)
    if number < 1:
        raise ValueError(f"{name}={value!r}: must be at least 1")
    return number


def require_instance(name: str, value: Any, kind: type, example: str) -> None:
    """Refuse what is no instance of a class: most often the class itself, or a name.

    Raises
    ------
    TypeError
        Naming the argument, its value, and an example of what it must be.
    """
    if not isinstance(value, kind):
        shown = repr(value)
        shown = shown if len(shown) <= 200 else f"{shown[:200]}..."
        raise TypeError(f"{name}={shown}: must be an instance of {kind.__name__}, such as {example}")


def require_path(name: str, value: Any) -> Path:
    """Refuse what is no path.

    Raises
    ------
    TypeError
        Naming the argument and its value.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}={value!r}: must be a path, a string or a pathlib.Path")
    return Path(value)


def use_python_numbers(part: Any) -> None:
    """Replace NumPy's scalars among the fields of a new dataclass, and in tuples there, by Python's numbers."""
    for field in dataclasses.fields(part):
        value = getattr(part, field.name, None)  # a field may be set later
        changed = _as_python(value)
        if changed is not value:
            object.__setattr__(part, field.name, changed)


def _as_python(value: Any) -> Any:
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is tuple and any(isinstance(item, np.generic) for item in value):
        return tuple(_as_python(item) for item in value)
    return value
