"""Descriptions: a layer, a loss or an optimizer in what JSON can hold, and the way one would type it.

All of them are dataclasses that hold their hyperparameters and nothing else, so the class and the fields say all.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

from xpnet.nn.layers import Initializer


def to_config(part: Any) -> Any:
    """Describe a dataclass (a layer, a loss, ...) by its class and fields, in what JSON can hold."""
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return list(part) if isinstance(part, tuple) else part
    fields = {f.name: to_config(getattr(part, f.name)) for f in dataclasses.fields(part)}
    return {"class": type(part).__name__, **fields}


def from_config(config: dict[str, Any], base: type) -> Any:
    """Build what `to_config` described: an instance of a subclass of ``base``, which may hold an `Initializer`."""
    cls = _class_of(config.get("class"), base)
    fields = {
        key: from_config(value, base) if isinstance(value, dict) else _tuple_if_list(value)
        for key, value in config.items()
        if key != "class"
    }
    return cls(**fields)


def _class_of(name: Any, base: type) -> type:
    known = [cls for cls in (*_subclasses(base), *_subclasses(Initializer)) if cls.__name__ == name]
    if not known:
        raise ValueError(f"{name!r} is not a known {base.__name__}: import the module that defines it first")
    # A class that was defined anew, as in a notebook, lives on for a while where nobody can reach it.
    reachable = [cls for cls in known if getattr(sys.modules.get(cls.__module__), name, None) is cls]
    if len(reachable) > 1:
        modules = " and ".join(sorted(cls.__module__ for cls in reachable))
        raise ValueError(f"{name!r}: {modules} each define a class of this name: rename one")
    return (reachable or known)[-1]


def describe(part: Any) -> str:
    """Write a layer the way it would be typed, leaving out what is at its default."""
    given = []
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        required = field.default is field.default_factory is dataclasses.MISSING
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if required:
            given.append(repr(value))
        elif value != default:
            given.append(f"{field.name}={describe(value) if dataclasses.is_dataclass(value) else repr(value)}")
    return f"{type(part).__name__}({', '.join(given)})"


def _subclasses(base: type) -> Iterator[type]:
    cls: type
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)


def _tuple_if_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
