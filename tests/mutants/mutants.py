"""Mutants: change one thing in a module, run the module's tests, and list the changes that no test notices.

    python tests/mutants/mutants.py nn/convolution.py tests/nn/test_convolution.py tests/nn/test_functions.py

Each mutant is a copy of the package in which one operator, bound, constant, default, condition, returned value or call
differs. ``--from`` and ``--to`` choose some of them by number, ``--list`` only lists them. A mutant that runs for ten
times as long as the tests do on the unchanged package counts as noticed.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "xpnet"

OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Add,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.USub: ast.UAdd,
}


def changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    """Yield what to change in a node: the field, and its new value."""
    for name in ("op", "ops"):
        held = getattr(node, name, None)
        if type(held) in OPERATORS:
            yield name, OPERATORS[type(held)]()
        elif isinstance(held, list) and type(held[0]) in OPERATORS:
            yield name, [OPERATORS[type(held[0])](), *held[1:]]
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield "value", not node.value
        elif isinstance(node.value, int | float):
            yield "value", node.value + 1
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield "test", ast.UnaryOp(ast.Not(), node.test)
    elif _gives_value(node):
        yield "value", ast.Constant(None)


def _gives_value(node: ast.AST) -> bool:
    """Whether a node returns a value, calls for an effect, or passes a variable by name."""
    return (
        (isinstance(node, ast.Return) and node.value is not None)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
        or (isinstance(node, ast.keyword) and node.arg is not None and isinstance(node.value, ast.Name))
    )


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Yield each mutant of a module: what was changed, with its line, and the new source."""
    tree = ast.parse(source)
    nodes = [node for node in ast.walk(tree) if not _is_annotation(node, tree)]
    for node in nodes:
        for field, value in changes(node):
            before = getattr(node, field)
            was = ast.unparse(node)
            setattr(node, field, value)
            changed = ast.unparse(ast.fix_missing_locations(tree))
            told = f"line {getattr(node, 'lineno', '?')}: {was}  ->  {ast.unparse(node)}"
            yield told.replace("\n", " ")[:200], changed
            setattr(node, field, before)


def _is_annotation(node: ast.AST, tree: ast.Module) -> bool:
    """Whether a node is part of an annotation, which nothing executes."""
    if not hasattr(tree, "annotations"):
        held = [
            getattr(n, name) for n in ast.walk(tree) for name in ("annotation", "returns") if getattr(n, name, None)
        ]
        tree.annotations = {id(inner) for annotation in held for inner in ast.walk(annotation)}
    return id(node) in tree.annotations


def notices(source: str, module: str, tests: list[str], seconds: float | None) -> bool:
    """Whether the tests fail on a package whose module has this source."""
    with tempfile.TemporaryDirectory() as folder:
        package = shutil.copytree(PACKAGE, Path(folder) / "xpnet", ignore=shutil.ignore_patterns("__pycache__"))
        (package / module).write_text(source)
        command = ["pytest", "-x", "-q", "-p", "no:cacheprovider", "--backends=numpy", "--hypothesis-seed=0", *tests]
        settings = os.environ | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                [sys.executable, "-m", *command], cwd=ROOT, env=settings, capture_output=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return True
        return done.returncode != 0


def main() -> None:
    """Run the mutants of a module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("module", help="below src/xpnet, such as nn/convolution.py")
    parser.add_argument("tests", nargs="*")
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--to", dest="last", type=int)
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    source = (PACKAGE / given.module).read_text()
    found = list(enumerate(mutants(source)))[given.first : given.last]
    if given.list or not given.tests:
        print("\n".join(f"{number} {told}" for number, (told, _) in found))
        return
    start = time.monotonic()
    if notices(source, given.module, given.tests, None):
        sys.exit("the tests fail on the unchanged package")
    seconds = 60 + 10 * (time.monotonic() - start)
    left = 0
    for number, (told, changed) in found:
        noticed = notices(changed, given.module, given.tests, seconds)
        left += not noticed
        print(f"{number} {'noticed' if noticed else 'NOT noticed'}: {told}", flush=True)
    print(f"{len(found)} mutants of {given.module}: {len(found) - left} noticed, {left} not")


if __name__ == "__main__":
    main()
