"""Parts: the checked, describable dataclasses that make up a run, and the checks themselves.

Layers, initializers, losses, optimizers and schedules hold only their hyperparameters. Each is a frozen dataclass that
derives from `Part`, and its annotations are its checks::

    @dataclass(frozen=True)
    class Dropout(Layer):
        rate: Fraction = 0.5

The error of each check names the argument, its value, and the values that are allowed. NumPy scalars are accepted, but
converted to Python numbers: they would turn float32 arrays into float64, mean nothing to other array libraries, and not
be JSON-serializable.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import numpy as np

from xpnet.typing import Pair

T = TypeVar("T")

Check = Callable[[str, Any], Any]
"""Takes the name of an argument and its value; returns the value to keep, or raises an error that names both."""


# Checks of single values --------------------------------------------------------------------------------------------


def require_number(name: str, value: Any) -> float:
    """Check that value is a real number.

    Raises
    ------
    TypeError
        Naming the argument and its value.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}={value!r}: must be a number, not {type(value).__name__}")
    number: float = as_python(value)
    return number


def require_positive(name: str, value: Any) -> float:
    """Check that value is a finite number above zero; raise as `require_number` does, or ValueError."""
    return _require(name, require_number(name, value), lambda v: 0 < v < math.inf, "must be a finite number above 0")


def require_non_negative(name: str, value: Any) -> float:
    """Check that value is a finite number of at least zero."""
    number = require_number(name, value)
    return _require(name, number, lambda v: 0 <= v < math.inf, "must be a finite number of at least 0")


def require_fraction(name: str, value: Any) -> float:
    """Check that value is in [0, 1)."""
    return _require(name, require_number(name, value), lambda v: 0.0 <= v < 1.0, "must be in [0, 1)")


def require_share(name: str, value: Any) -> float:
    """Check that value is in (0, 1]."""
    return _require(name, require_number(name, value), lambda v: 0.0 < v <= 1.0, "must be in (0, 1]")


def require_integer(name: str, value: Any) -> int:
    """Check that value is an integer; raise TypeError, naming the argument and its value."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}={value!r}: must be an integer, not {type(value).__name__}")
    return int(value)


def require_size(name: str, value: Any) -> int:
    """Check that value is an integer of at least one."""
    return _require(name, require_integer(name, value), lambda v: v >= 1, "must be at least 1")


def require_sizes(name: str, value: Any) -> tuple[int, ...]:
    """Check that value is a sequence of at least one size."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name}={value!r}: must be a list of integers, such as (100,)")
    if not value:
        raise ValueError(f"{name}=(): must name at least one layer")
    return tuple(require_size(name, size) for size in value)


def require_flag(name: str, value: Any) -> bool:
    """Check that value is True or False, so that ``Dense(784, 100)`` is an error instead of a layer with a bias."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r}: must be True or False, not {type(value).__name__}")
    return bool(value)


def require_instance(name: str, value: Any, kind: type, example: str) -> None:
    """Check that value is an instance of a class. The usual mistakes are to pass the class itself, or its name.

    Raises
    ------
    TypeError
        Naming the argument, its value, and an example of a correct value.
    """
    if not isinstance(value, kind):
        shown = " ".join(repr(value).split())
        shown = shown if len(shown) <= 200 else f"{shown[:200]}..."
        raise TypeError(f"{name}={shown}: must be an instance of {kind.__name__}, such as {example}")


def require_path(name: str, value: Any) -> Path:
    """Check that value is a path, and return it with ``~`` expanded as in a shell.

    Raises
    ------
    TypeError, ValueError
        Naming the argument and its value.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(text := os.fspath(value), str):
        raise TypeError(f"{name}={value!r}: must be a path, a string or a pathlib.Path")
    if not text or "\0" in text:
        raise ValueError(f"{name}={value!r}: is not the name of a file or folder; the current folder is '.'")
    if re.match(r"[A-Za-z][\w+.-]+:/", text):
        raise ValueError(f"{name}={value!r}: must be a path on this machine, not an address")
    return Path(os.path.expanduser(text))  # where nobody has such a home, the name stays as it is


def one_of(*choices: str) -> Check:
    """Return the check that a value is one of some strings."""

    def check(name: str, value: Any) -> Any:
        return _require(name, value, lambda v: v in choices, f"must be one of {', '.join(choices)}")

    return check


def instance_of(kind: type, example: str) -> Check:
    """Return the check that a value is an instance of a class."""

    def check(name: str, value: Any) -> Any:
        require_instance(name, value, kind, example)
        return value

    return check


def in_range(low: float, high: float, message: str) -> Check:
    """Return the check that a number is between two others, both included."""

    def check(name: str, value: Any) -> Any:
        return _require(name, require_number(name, value), lambda v: low <= v <= high, message)

    return check


def require_pair(least: int, word: str | None = None) -> Check:
    """Return the check that a value is an integer or a pair of integers, at least ``least``; or ``word``."""

    def check(name: str, value: Any) -> Any:
        if isinstance(value, str) and word is not None:
            if value != word:
                raise ValueError(f"{name}={value!r}: must be an integer, a pair of integers, or {word!r}")
            return value
        pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
        if len(pair) != 2 or any(isinstance(v, bool) or not isinstance(v, int | np.integer) for v in pair):
            raise TypeError(f"{name}={value!r}: must be an integer or a pair of integers")
        if min(pair) < least:
            raise ValueError(f"{name}={value!r}: must be at least {least}")
        return pair if isinstance(value, list) else value

    return check


def as_pair(value: Any) -> Pair:
    """Return an integer as a pair of equal numbers, and a pair unchanged."""
    down, across = value if isinstance(value, tuple | list) else (value, value)
    return down, across


def _require(name: str, value: T, holds: Callable[[T], bool], message: str) -> T:
    if not holds(value):
        raise ValueError(f"{name}={value!r}: {message}")
    return value


Number = Annotated[float, require_number]
Positive = Annotated[float, require_positive]
NonNegative = Annotated[float, require_non_negative]
Fraction = Annotated[float, require_fraction]
"""In [0, 1)."""
Share = Annotated[float, require_share]
"""In (0, 1]."""
Size = Annotated[int, require_size]
Sizes = Annotated[tuple[int, ...], require_sizes]
PairOfSizes = Annotated[int | Pair, require_pair(1)]
Padding = Annotated[int | Pair, require_pair(0)]
PaddingOrSame = Annotated[int | Pair | str, require_pair(0, "same")]


# Checks by annotation -----------------------------------------------------------------------------------------------


def check_value(hint: Any, name: str, value: Any, example: Any = None) -> Any:
    """Check a value by its annotation.

    Parameters
    ----------
    hint : object
        ``Annotated[..., check]``, a subclass of `Part`, ``bool``, or one of these ``| None``. Any other annotation
        accepts every value.
    name : str
        The argument's name, for messages.
    value : object
        The argument's value.
    example : object, optional
        An example of a `Part`, for messages.

    Returns
    -------
    object
        The value to keep.
    """
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hints = [arm for arm in typing.get_args(hint) if arm is not types.NoneType]
        if value is None or len(hints) > 1:
            return as_python(value)
        (hint,) = hints
    for check in getattr(hint, "__metadata__", ()):
        if callable(check):
            value = check(name, value)
    if hint is bool:
        return require_flag(name, value)
    if isinstance(hint, type) and issubclass(hint, Part):
        require_instance(name, value, hint, str(example))
    return as_python(value)


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check keyword arguments by the annotations of the function that will take them."""
    hints = annotations_of(function)
    return {name: check_value(hints.get(name), name, value) for name, value in given.items()}


def annotations_of(owner: Any) -> dict[str, Any]:
    """Return the annotations of a class or function, each evaluated; one that cannot be evaluated checks nothing."""
    module = vars(sys.modules.get(owner.__module__, typing))
    hints: dict[str, Any] = {}
    for name, hint in inspect.get_annotations(owner).items():
        try:
            hints[name] = eval(hint, module) if isinstance(hint, str) else hint
        except NameError:  # such as a class inside a function
            hints[name] = None
    return hints


def as_python(value: Any) -> Any:
    """Replace NumPy scalars, alone or in a tuple, by Python numbers."""
    if isinstance(value, np.generic):
        # `float` handles every floating type; `item` of a long double would return a NumPy scalar again.
        return float(value) if isinstance(value, np.floating) else value.item()
    if type(value) is tuple and any(isinstance(item, np.generic) for item in value):
        return tuple(as_python(item) for item in value)
    return value


# The base -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Part:
    """The base of all components of a run.

    Decorate a subclass with ``@dataclass(frozen=True)``, and annotate its fields with the checks of this module.
    `to_config` returns a JSON-serializable description, `from_config` builds the part from it, and ``str`` writes the
    part as you would type it.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from xpnet.parts import Fraction, Part
    >>> @dataclass(frozen=True)
    ... class Fade(Part):
    ...     rate: Fraction = 0.5
    >>> str(Fade(0.25)), Fade(0.25).to_config()
    ('Fade(0.25)', {'class': 'Fade', 'rate': 0.25})
    >>> Fade(1.5)
    Traceback (most recent call last):
    ValueError: rate=1.5: must be in [0, 1)
    """

    def __post_init__(self) -> None:
        """Check every field by its annotation. A subclass adds checks that involve several fields."""
        kind: Any = type(self)
        hints = _hints(kind)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kept = check_value(hints.get(field.name), field.name, value, _default(field))
            if kept is not value:
                object.__setattr__(self, field.name, kept)

    def __str__(self) -> str:
        """Return the class and its hyperparameters: the first, required ones, and those not at their default."""
        given = []
        for i, field in enumerate(dataclasses.fields(self)):
            value = getattr(self, field.name)
            shown = str(value) if isinstance(value, Part) else repr(value)
            required = field.default is field.default_factory is dataclasses.MISSING
            if required or (i == 0 and not field.kw_only):
                given.append(shown)
            elif value != _default(field):
                given.append(f"{field.name}={shown}")
        return f"{type(self).__name__}({', '.join(given)})"

    def to_config(self) -> dict[str, Any]:
        """Return a JSON-serializable description: the class and its fields."""
        fields = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {"class": type(self).__name__, **fields}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the part that `to_config` described, an instance of this class or of a subclass.

        Raises
        ------
        ValueError
            If the class is unknown: import the module that defines it first.
        """
        kind = class_of(config.get("class"), cls)
        fields = {name: _built(value) for name, value in config.items() if name != "class"}
        built: Self = kind(**fields)
        return built


def class_of(name: Any, base: type) -> type:
    """Return the class of this name: the base or one of its subclasses."""
    known = [cls for cls in (base, *_subclasses(base)) if cls.__name__ == name]
    if not known:
        raise ValueError(f"{name!r} is not a known {base.__name__}: import the module that defines it first")
    # When a class is redefined, as in a notebook, the old one lives on for a while, but its module no longer names it.
    reachable = [cls for cls in known if getattr(sys.modules.get(cls.__module__), name, None) is cls]
    if len(reachable) > 1:
        modules = " and ".join(sorted(cls.__module__ for cls in reachable))
        raise ValueError(f"{name!r}: {modules} each define a class of this name: rename one")
    return (reachable or known)[-1]


def _subclasses(base: type) -> Iterator[type]:
    cls: type
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)


@functools.lru_cache(maxsize=256)
def _hints(cls: Any) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        hints |= annotations_of(base)
    return hints


def _default(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return value.to_config()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _built(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Part.from_config(value)
    return tuple(value) if isinstance(value, list) else value
