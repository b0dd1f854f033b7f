"""Options that several commands share, with their parsing and completion."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from xpnet.backends import BACKENDS, DTYPES, backend_names
from xpnet.data.datasets import NAMES
from xpnet.parts import require_path
from xpnet.recipes import RECIPES
from xpnet.training.distributed import NAMES as DISTRIBUTED

Command = Callable[..., Any]
Option = Callable[[Command], Command]


class PathType(click.Path):
    """A path that the shell completes, and that `xpnet.parts.require_path` checks."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Check the path and return it."""
        return require_path(param.name if param and param.name else "path", value)


PATH = PathType()


def options(*decorators: Option) -> Option:
    """Combine several options into one decorator."""

    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


def choices(names: Callable[[], Iterable[str]]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return the completion of a name, or of the last of several names separated by commas."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last)]

    return complete


def examples(*lines: str) -> str:
    """Format the examples below a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def import_modules(ctx: click.Context, param: click.Parameter, modules: Iterable[str]) -> None:
    """Import the modules that ``--import`` names."""
    for name in modules:
        import_module(name)


def import_module(name: str) -> None:
    """Import a user's module by its name, including modules in the current folder, or by the path of its file.

    Raises
    ------
    ValueError
        If the import fails for any reason.
    """
    path = require_path("import", name)
    is_file = path.suffix == ".py"
    sys.path.insert(0, str(path.resolve().parent) if is_file else os.getcwd())
    try:
        importlib.import_module(path.stem if is_file else name)
    except Exception as error:
        raise ValueError(f"import={name!r}: cannot be imported: {type(error).__name__}: {error}") from None
    finally:
        del sys.path[0]


def read_settings(ctx: click.Context, param: click.Parameter, given: Iterable[str]) -> dict[str, Any]:
    """Parse ``NAME=VALUE``; a value that is not JSON is a word."""
    settings = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r}: must be a name and a value, such as depth=3")
        try:
            settings[name] = json.loads(value)
        except ValueError:  # a word without quotes
            settings[name] = value
    return settings


def read_sizes(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Parse integers separated by commas."""
    if value is None:
        return None
    try:
        return tuple(int(size) for size in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r}: must be integers with commas between them, such as 100,50") from None


recipe_option: Option = click.option(
    "--recipe",
    default="mlp",
    show_default=True,
    shell_complete=choices(lambda: RECIPES),
    help=f"{', '.join(RECIPES)}: see `xpnet recipes`.",
)
import_option: Option = click.option(
    "--import",
    "modules",
    metavar="MODULE",
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=import_modules,
    help="Import your own module first, for its layers and recipes.",
)
data_dir_option: Option = click.option("--data-dir", type=PATH, help="The folder of the MNIST files.")
data_options: Option = options(
    click.option(
        "--dataset",
        shell_complete=choices(lambda: NAMES),
        help=f"{', '.join(NAMES)}; by default MNIST, or digits if MNIST is not available.",
    ),
    data_dir_option,
)
dtype_option: Option = click.option("--dtype", shell_complete=choices(lambda: DTYPES), help=f"{' or '.join(DTYPES)}.")
backend_options: Option = options(
    click.option(
        "--backend",
        shell_complete=choices(backend_names),
        help=f"{', '.join(BACKENDS)}, one that a package adds, or a device, such as cupy:1.",
    ),
    dtype_option,
)
training_options: Option = options(
    click.option("--seed", type=int, help="The seed of all random numbers."),
    click.option("--epochs", type=int, help="Passes through the training images."),
    click.option("--batch-size", type=int, help="Images per step."),
    click.option("--learning-rate", type=float, help="The factor of the gradient in a step."),
    click.option("--hidden-sizes", callback=read_sizes, help="Units in each hidden layer, such as 100,50."),
    click.option("--train-samples", type=int, help="Use only this many training images, the first ones."),
    click.option("--validation-fraction", type=float, help="Share of the training images to validate on."),
    click.option("--patience", type=int, help="Epochs without improvement after which to stop."),
    click.option("--threads", type=int, help="Threads for linear algebra; by default 1 on NumPy."),
    click.option("--workers", type=int, help="Threads that share each batch, on NumPy; by default all cores."),
)
json_option: Option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
own_option: Option = click.option(
    "--set", "own", metavar="NAME=VALUE", multiple=True, callback=read_settings, help="A setting of your own recipe."
)
distributed_option: Option = click.option(
    "--distributed",
    shell_complete=choices(lambda: DISTRIBUTED),
    help=f"{' or '.join(DISTRIBUTED)}: train on all processes that mpiexec has started.",
)
