"""Elementwise functions, which run as one kernel if the library can fuse them.

Launching a kernel costs microseconds however little it does, and each kernel reads and writes whole arrays. So
``theta - rate * first / (sqrt(second) + epsilon)`` is slower as four kernels than as one. A library that compiles whole
loops fuses them itself, and on a CPU fusion gains nothing. The backend of CuPy registers its fuser in `FUSERS`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from .base import Namespace
from .graphs import is_array, leaves, rebuilt

F = TypeVar("F", bound=Callable[..., Any])

FUSERS: dict[Namespace, Callable[[Callable[..., Any], str], Callable[..., Any]]] = {}
"""For each namespace that can fuse: the function that makes a kernel, from a function of arrays that returns a tuple of
arrays, and a name."""


def elementwise(function: F) -> F:
    """Mark a function as elementwise, up to broadcasting.

    Parameters
    ----------
    function : callable
        Its positional arguments are arrays and numbers, or nested tuples, lists and dictionaries of them. Its keyword
        arguments are constants, among them ``xp``. Each new constant or number compiles a new kernel.

    Returns
    -------
    callable
        The same function, which runs as one kernel if the library of ``xp`` can fuse it.

    Examples
    --------
    >>> import numpy as np
    >>> @elementwise
    ... def scaled_relu(x, scale, *, xp):
    ...     return xp.maximum(x, 0.0) * scale
    >>> scaled_relu(np.asarray([-1.0, 2.0]), 10.0, xp=np).tolist()
    [0.0, 20.0]
    """
    kernels: dict[Any, Callable[..., Any]] = {}

    @functools.wraps(function)
    def call(*arrays: Any, **constants: Any) -> Any:
        fuse = FUSERS.get(constants.get("xp")) if FUSERS else None
        if fuse is None:
            return function(*arrays, **constants)
        given = leaves(arrays)
        # Numbers become part of the kernel. As arguments, CuPy would compute with them in as few bits as they fit.
        numbers = [None if is_array(leaf) else leaf for leaf in given]
        key = (*constants.items(), repr(rebuilt(arrays, iter(numbers))))
        if key not in kernels:
            kernels[key] = _kernel(functools.partial(function, **constants), arrays, numbers, function.__name__, fuse)
        return kernels[key](arrays, [leaf for leaf in given if is_array(leaf)])

    return call  # type: ignore[return-value]


def _kernel(
    function: Callable[..., Any], form: Any, numbers: list[Any], name: str, fuse: Callable[..., Any]
) -> Callable[[Any, list[Any]], Any]:
    """Fuse a function of nested arrays; if the library cannot, the function runs unfused."""
    returned: list[Any] = []

    def flat(*given: Any) -> tuple[Any, ...]:
        rest = iter(given)
        result = function(*rebuilt(form, iter([next(rest) if number is None else number for number in numbers])))
        returned[:] = [rebuilt(result, iter([None] * len(leaves(result))))]
        return tuple(leaves(result))

    fused = fuse(flat, name)
    works = True

    def call(arrays: Any, given: list[Any]) -> Any:
        nonlocal works
        if works:
            try:
                outputs = fused(*given)
                return rebuilt(returned[0], iter(outputs))
            except Exception:  # libraries raise many kinds of errors here, and so may the function itself
                works = False
        return function(*arrays)

    return call
