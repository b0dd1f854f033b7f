"""The structure of the package: imports between rooms, names of libraries, lengths of signatures."""

import ast
import inspect
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import xpnet
from xpnet import Layer
from xpnet.nn.layers import Context

SRC = Path(xpnet.__file__).parent

# From the top down: a room imports from those after it, and from its own.
FLOORS = [
    ["cli"],
    ["options", "sklearn"],
    ["survey"],
    ["training"],
    ["recipes", "runs"],
    ["nn", "data"],
    ["parts", "random", "files"],
    ["backends", "host", "signals", "text", "typing"],
]

# Rooms that others import only inside functions, when they are used.
ASIDE = {"plots", "export"}

LIBRARIES = ("cupy", "torch", "jax", "dpnp", "array_api_strict")


def modules():
    return sorted(SRC.rglob("*.py"))


def room_of(name):
    return name.split(".")[1] if name.startswith("xpnet.") else ""


def imports_at_the_top(path):
    """Name the modules of xpnet that a module imports when it is imported, not inside functions."""
    tree = ast.parse(path.read_text())
    guarded = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    for node in tree.body:
        if node in guarded:
            continue
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("xpnet"):
            yield from ([f"xpnet.{alias.name}" for alias in node.names] if node.module == "xpnet" else [node.module])
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("xpnet"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_a_room_imports_only_from_its_own_floor_and_below(path):
    parts = path.relative_to(SRC).with_suffix("").parts
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    if parts[0] not in floor:
        return
    for name in imports_at_the_top(path):
        room = room_of(name)
        if room in (parts[0], "_version") or not room:
            continue
        assert room not in ASIDE, f"{name} is imported when it is used"
        assert floor[room] >= floor[parts[0]], f"{parts} imports {name}"


def test_modules_import_each_other_in_no_circle():
    names = {".".join(("xpnet", *p.relative_to(SRC).with_suffix("").parts)): p for p in modules()}
    graph = {name: [n for n in imports_at_the_top(path) if n in names] for name, path in names.items()}
    done = set()

    def visit(name, above):
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for below in graph[name]:
                visit(below, [*above, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_recipes_need_nothing_of_training():
    code = "import sys, types; p = types.ModuleType('xpnet'); p.__path__ = [sys.argv[1]]; sys.modules['xpnet'] = p\n"
    code += "import xpnet.recipes; print([m for m in sys.modules if m.startswith(('xpnet.training', 'xpnet.runs'))])"
    done = subprocess.run([sys.executable, "-c", code, str(SRC)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_libraries_are_named_in_backends_only(path):
    """Code must not name libraries; docstrings may, and so may export, which targets them."""
    if path.relative_to(SRC).parts[0] in ("backends", "export"):
        return
    named = re.compile(rf"\b({'|'.join(LIBRARIES)})\b|is_\w+_(array|namespace)")
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            names = [module, *(alias.name for alias in node.names)]
            assert not [n for n in names if n.partition(".")[0] in LIBRARIES], ast.unparse(node)
        if isinstance(node, ast.If | ast.IfExp):
            assert not named.search(ast.unparse(node.test)), f"{path}: branches on a library: {ast.unparse(node.test)}"


def lines_of_code(path):
    """Count the lines with code on them, without blank lines, comments and docstrings."""
    source = path.read_text()
    strings = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr) and type(node.value) is ast.Constant
    ]
    documented = {line for node in strings for line in range(node.lineno, node.end_lineno + 1)}
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in blank]
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - documented)


def test_the_network_and_its_training_step_can_be_read_in_an_hour():
    network = sorted((SRC / "nn").glob("*.py"))
    assert sum(map(lines_of_code, [*network, SRC / "training" / "step.py"])) <= 1350
    assert max(len(path.read_text().splitlines()) for path in network) <= 400


def layer_classes(base=Layer):
    for cls in base.__subclasses__():
        yield cls
        yield from layer_classes(cls)


@pytest.mark.parametrize("cls", [Layer, *layer_classes()], ids=lambda cls: cls.__name__)
def test_a_layers_contract_is_two_short_signatures(cls):
    assert list(inspect.signature(cls.forward).parameters) == ["self", "params", "x", "ctx"]
    assert list(inspect.signature(cls.backward).parameters) == ["self", "params", "cache", "dy", "ctx"]


def test_what_a_layer_may_ask_about():
    asked = ("xp", "training", "noise", "state", "input_gradient", "all_reduce", "convolution")
    assert Context._fields == asked
