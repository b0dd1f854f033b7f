"""The source of the package's functions and methods, without docstrings."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Sequence


def source_of(module: str, names: Sequence[str]) -> str:
    """Return the source of functions, classes or methods of a module, without their docstrings.

    Parameters
    ----------
    module : str
        The name of the module, such as ``"xpnet.nn.layers"``.
    names : sequence of str
        The names of the objects, such as ``"dense"`` or ``"Dropout.forward"``.

    Raises
    ------
    AttributeError
        If the module has no such name.

    Examples
    --------
    >>> print(source_of("xpnet.nn.losses", ["squared_error_backward"]))
    def squared_error_backward(y: Array, targets: Array) -> Array:
        return 2.0 * (y - targets)
    """
    pieces = []
    for name in names:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        pieces.append(without_docstrings(textwrap.dedent(inspect.getsource(found))))
    return "\n\n\n".join(pieces)


def without_docstrings(code: str) -> str:
    """Remove the docstrings from the source of a function or class, and from its methods.

    Examples
    --------
    >>> print(without_docstrings(inspect.getsource(without_docstrings)).splitlines()[1].strip())
    lines: list[str | None] = [*code.splitlines()]
    """
    lines: list[str | None] = [*code.splitlines()]
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None and node.body[1:]:
            start, stop = node.body[0].lineno - 1, node.body[0].end_lineno or node.body[0].lineno
            lines[start:stop] = [None] * (stop - start)
    text = "\n".join(line for line in lines if line is not None)
    # Remove the empty line that followed a docstring.
    return text.replace(":\n\n", ":\n")
