"""The command line: it parses options, calls the functions that you would call in Python, and prints the results.

Results go to standard output, everything else to standard error. With ``--json``, standard output holds one JSON
document and nothing else.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from xpnet import signals
from xpnet._version import __version__
from xpnet.backends import backend_names, list_backends
from xpnet.data.datasets import MNIST_FILES, NAMES, fetch_mnist, load_dataset
from xpnet.data.download import DownloadError
from xpnet.options import (
    PATH,
    Command,
    backend_options,
    choices,
    data_dir_option,
    data_options,
    distributed_option,
    dtype_option,
    examples,
    import_option,
    json_option,
    own_option,
    recipe_option,
    training_options,
)
from xpnet.recipes import RECIPES
from xpnet.runs.checkpoint import RunDirectory
from xpnet.runs.history import count_of_epochs
from xpnet.runs.run import FILES, MODEL, Run, load, load_config, load_history, title_of
from xpnet.runs.untrusted import shown
from xpnet.training.distributed import check_joins, end_job, get_ranks, hold_back
from xpnet.training.train import train


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """A neural network written once, trained on NumPy, CuPy, torch or JAX."""


@cli.command("recipes", epilog=examples("xpnet recipes", "xpnet recipes --import mine.py --json"))
@import_option
@json_option
def recipes_command(as_json: bool) -> None:
    """List the recipes with their defaults."""
    if as_json:
        rows = [{"what": recipe.what, **vars(recipe), "settings": recipe.settings} for recipe in RECIPES.values()]
        print_json({"recipes": [{name: row[name] for name in row if name != "build"} for row in rows]})
        return
    for recipe in RECIPES.values():
        samples = (
            f"the first {recipe.train_samples:,} training images" if recipe.train_samples else "all training images"
        )
        lines = [f"{recipe.what}.", f"{recipe.dtype}, seed {recipe.seed}, {samples}.", _defaults(recipe.settings)]
        click.echo(recipe.name)
        click.echo("\n".join(click.wrap_text(line, 79, "  ", "    ") for line in lines))


def _defaults(settings: dict[str, Any]) -> str:
    """Return the defaults of a recipe's settings in the form of options."""
    options = {f"--{name.replace('_', '-')}": value for name, value in settings.items()}
    lists = {name: ",".join(map(str, value)) for name, value in options.items() if isinstance(value, tuple)}
    words = [f"{name} {value}" for name, value in (options | lists).items() if value is not None]
    if open_ones := [name for name, value in options.items() if value is None]:
        words.append(f"{', '.join(open_ones)}: chosen to suit the data")
    return "; ".join(words)


@cli.command(
    "train",
    short_help="Train a network by a recipe.",
    epilog=examples(
        "xpnet train",
        "xpnet train --recipe cnn --backend cupy --output-dir run",
        "xpnet train --recipe cnn --backend cupy --output-dir run --resume",
        "xpnet train --import mine.py --recipe mine --set depth=3",
    ),
)
@import_option
@recipe_option
@data_options
@backend_options
@training_options
@click.option("--output-dir", type=PATH, help="By default runs/RECIPE-DATASET-TIME/.")
@own_option
@distributed_option
@click.option("--resume", is_flag=True, help="Continue the run in --output-dir.")
@click.option("--progress/--no-progress", default=None, help="Show progress; by default only on a terminal.")
@json_option
def train_command(as_json: bool, output_dir: Path | None, own: dict[str, Any], **settings: Any) -> None:
    """Train a network by a recipe. Options that you omit have the recipe's defaults, which `xpnet recipes` lists.

    The environment variables XPNET_BACKEND, XPNET_DATA_DIR, XPNET_THREADS, XPNET_WORKERS and XPNET_OFFLINE replace
    options.
    """
    check_joins(settings["distributed"])
    ranks = get_ranks(settings.pop("distributed"))
    if output_dir is not None and settings["resume"] and ranks.first and not RunDirectory(output_dir).begun:
        click.echo(f"xpnet: {output_dir} holds no run yet: beginning one", err=True)
    callbacks = [_Result(as_json)] if ranks.first else []
    try:
        run = train(output_dir=output_dir or True, distributed=ranks, callbacks=callbacks, **settings, **own)
    except KeyboardInterrupt as interrupt:
        folder = getattr(getattr(interrupt, "run", None), "folder", None)
        if ranks.first and folder is not None:
            over = (folder / MODEL).exists()
            last, more = "this was the last epoch, and the run is in", "continues after the last epoch"
            _tell(f"{last} {folder}" if over else f"--output-dir {folder} --resume {more}")
        raise
    if ranks.first and not as_json:
        click.echo(f"written to {run.folder}/:\n  " + "\n  ".join(sorted(FILES)))


@dataclass(frozen=True)
class _Result:
    """A callback that prints the result, before the pictures are drawn."""

    as_json: bool

    def on_end(self, run: Run) -> None:
        """Print the result as a line, or as a JSON document."""
        c, accuracy = run.config, run.evaluation.accuracy
        if self.as_json:
            assert run.folder is not None
            results = {"config": c, "history": run.history.to_dicts(), "test_accuracy": accuracy}
            files = sorted(str(run.folder / name) for name in FILES)
            print_json(results | {"output_dir": str(run.folder), "files": files})
            return
        click.echo(
            f"{c['recipe']} on {c['dataset']} with {c['backend']} ({c['dtype']}, seed {c['seed']}): "
            f"test accuracy {accuracy:.4f} after {count_of_epochs(len(run.history))}, "
            f"{run.history.seconds:.1f} s of training"
        )


@cli.command(
    "evaluate",
    short_help="Evaluate the network of a run.",
    epilog=examples("xpnet evaluate run", "xpnet evaluate run --backend torch --json"),
)
@import_option
@click.argument("run_dir", type=PATH)
@click.option("--dataset", help=f"{', '.join(NAMES)}; by default the run's own.")
@data_dir_option
@backend_options
@json_option
def evaluate_command(
    run_dir: Path,
    dataset: str | None,
    data_dir: Path | None,
    backend: str | None,
    dtype: str | None,
    as_json: bool,
) -> None:
    """Evaluate the network in RUN_DIR on the test set of its dataset, or of another that you name."""
    from xpnet.runs.evaluation import evaluate
    from xpnet.runs.opened import data_of

    network = load(run_dir, backend=backend, dtype=dtype)
    if dataset is None:
        data = data_of(run_dir, load_config(run_dir), data_dir)
    else:
        data = load_dataset(dataset, data_dir=data_dir)
    result = evaluate(network, data)
    if as_json:
        print_json({"run": str(run_dir), "dataset": data.name, **result.to_dict()})
        return
    click.echo(f"{run_dir} on {data.name}: test accuracy {result.accuracy:.4f}\n{result.table()}")


@cli.command(
    "predict",
    short_help="Predict the classes of images.",
    epilog=examples("xpnet predict run images.npy", "xpnet predict run photo.png --show answers"),
)
@import_option
@click.argument("run_dir", type=PATH)
@click.argument("images", nargs=-1, required=True, type=PATH)
@click.option(
    "--show", type=PATH, help="A folder: draw each photograph there, what the network saw of it, and its answer."
)
@backend_options
@json_option
def predict_command(
    run_dir: Path, images: tuple[Path, ...], show: Path | None, backend: str | None, dtype: str | None, as_json: bool
) -> None:
    """Predict the class of each image in IMAGES with the network in RUN_DIR.

    IMAGES is an .npy or IDX file, or photographs of one digit each. Integers are pixels on the same scale as the
    training images. Floating-point numbers must be scaled already. Photographs are converted to the format of MNIST.
    """
    from xpnet.data.photos import is_picture
    from xpnet.files import check_writable_directory
    from xpnet.runs.opened import load_run

    run = None if show is None else load_run(run_dir, backend=backend, dtype=dtype)
    network = load(run_dir, backend=backend, dtype=dtype) if run is None else run.network
    if all(is_picture(path) for path in images):
        labels = network.predict(list(images)).tolist()
    elif len(images) == 1 and show is None:
        labels = network.predict(read_images(images[0])).tolist()
    else:
        raise ValueError(
            "images: give one .npy or IDX file, or one or several photographs" + (", for --show" if show else "")
        )
    if run is not None and show is not None:
        folder = check_writable_directory(show, "show")
        alike = len({path.stem for path in images}) < len(images)  # from several folders
        for i, path in enumerate(images, start=1):
            run.plot_prediction(path, folder / f"{f'{i}-' if alike else ''}{path.stem}.png")
    names = load_config(run_dir).get("class_names") or range(network.output_shape[0])
    if as_json:
        named = str(images[0]) if len(images) == 1 else [str(path) for path in images]
        answers = {"labels": labels, "names": [str(names[label]) for label in labels]}
        print_json({"run": str(run_dir), "images": named, **answers})
        return
    for label in labels:
        click.echo(shown(names[label]))


def read_images(path: Path) -> Any:
    """Read an .npy or IDX file.

    Raises
    ------
    ValueError
        If the file cannot be read, or has another format.
    """
    from xpnet.data.readers import read_array

    try:
        return read_array(path)
    except (OSError, ValueError, OverflowError) as error:
        raise ValueError(
            f"images={str(path)!r}: cannot be read: {error} (must be an .npy or IDX file, or photographs; see 'Use "
            "your own images' in the documentation)"
        ) from None


@cli.command("backends", short_help="List the backends and their devices.", epilog=examples("xpnet backends"))
@json_option
def backends_command(as_json: bool) -> None:
    """List the backends with versions and devices, or the reason why one cannot be used."""
    found = list_backends()
    if as_json:
        rows = [
            {
                "name": info.name,
                "version": info.version,
                "usable": info.usable,
                "devices": list(info.devices),
                "reason": info.reason,
            }
            for info in found
        ]
        print_json({"backends": rows})
        return
    for info in found:
        state = f"devices: {', '.join(info.devices)}" if info.usable else f"not usable: {info.reason}"
        click.echo(click.wrap_text(state, 79, f"{info.name:<17} {info.version or '-':<14} ", " " * 33))


@cli.command("fetch", epilog=examples("xpnet fetch --data-dir mnist"))
@click.option("--data-dir", type=PATH, help="The folder for the files.")
@json_option
def fetch_command(data_dir: Path | None, as_json: bool) -> None:
    """Download MNIST and verify it."""
    folder = fetch_mnist(data_dir)
    if as_json:
        print_json({"folder": str(folder), "files": {k: v[1] for k, v in MNIST_FILES.items()}})
        return
    click.echo(f"MNIST is complete and verified in {folder}")


@cli.command(
    "compare",
    short_help="Run one recipe on several backends.",
    epilog=examples("xpnet compare --backends numpy,torch --dtype float64"),
)
@import_option
@recipe_option
@data_options
@click.option(
    "--backends",
    "specs",
    shell_complete=choices(backend_names),
    help="Names separated by commas; by default all that are usable.",
)
@dtype_option
@training_options
@click.option("--output-dir", type=PATH, help="Where to save the table and the figure.")
@json_option
def compare_command(specs: str | None, output_dir: Path | None, as_json: bool, **settings: Any) -> None:
    """Run one recipe with one seed on several backends, and compare their results and times."""
    from xpnet import survey

    names = _names(specs) or survey.usable_backends()
    how = (survey.compare, survey.comparison_table, survey.COMPARISON_FILES)
    _run_survey(*how, names, settings, output_dir, as_json)


@cli.command(
    "ladder",
    short_help="Run the recipes in order.",
    epilog=examples("xpnet ladder --dataset digits --output-dir ladder"),
)
@import_option
@data_options
@backend_options
@click.option("--recipes", shell_complete=choices(lambda: RECIPES), help="Names separated by commas; by default all.")
@click.option("--seed", type=int, help="The seed of all random numbers; by default each recipe's own.")
@click.option("--epochs", type=int, help="For every recipe, instead of its own.")
@click.option("--threads", type=int, help="Threads for linear algebra; by default 1 on NumPy.")
@click.option("--workers", type=int, help="Threads that share each batch, on NumPy; by default all cores.")
@click.option("--output-dir", type=PATH, help="Where to save the table and the figure.")
@json_option
def ladder_command(recipes: str | None, output_dir: Path | None, as_json: bool, **settings: Any) -> None:
    """Run the recipes in order, and compare their accuracies and times."""
    from xpnet import survey

    names = _names(recipes) or list(RECIPES)
    _run_survey(survey.ladder, survey.ladder_table, survey.LADDER_FILES, names, settings, output_dir, as_json)


@cli.command("plot", short_help="Draw the curves of a run.", epilog=examples("xpnet plot run curves.svg"))
@click.argument("run_dir", type=PATH)
@click.argument("picture", type=PATH)
@json_option
def plot_command(run_dir: Path, picture: Path, as_json: bool) -> None:
    """Draw the curves of the run in RUN_DIR to PICTURE, whose suffix determines the format."""
    from xpnet import plots

    config = load_config(run_dir)
    figure = plots.training_curves(load_history(run_dir), title=title_of(config))
    if not picture.parent.is_dir():
        raise ValueError(f"picture={str(picture)!r}: there is no folder {str(picture.parent)!r}")
    plots.save(figure, picture)
    if as_json:
        print_json({"run": str(run_dir), "picture": str(picture)})
        return
    click.echo(f"written: {picture}")


@cli.command(
    "export",
    short_help="Export the network of a run to other programs.",
    epilog=examples("xpnet export run model.onnx"),
)
@import_option
@click.argument("run_dir", type=PATH)
@click.argument("file", type=PATH)
@json_option
def export_command(run_dir: Path, file: Path, as_json: bool) -> None:
    """Export the network in RUN_DIR to FILE, whose suffix determines the format.

    An .onnx file is a model for inference engines such as onnxruntime. An .html file is a page to draw digits on.
    """
    from xpnet.export import export

    path = export(run_dir, file)
    if as_json:
        print_json({"run": str(run_dir), "file": str(path)})
        return
    click.echo(f"written: {path}")


@cli.command(
    "notebooks", short_help="Write the pages of the course as notebooks.", epilog=examples("xpnet notebooks course")
)
@click.argument("folder", type=PATH)
@json_option
def notebooks_command(folder: Path, as_json: bool) -> None:
    """Write every page of the documentation that has code into FOLDER, as a Jupyter notebook.

    No connection is needed. Notebooks of the same names are replaced.
    """
    from xpnet.course import write_notebooks

    written = write_notebooks(folder)
    if as_json:
        print_json({"folder": str(folder), "notebooks": [str(path) for path in written]})
        return
    click.echo(f"written: {len(written)} notebooks in {folder}")


@cli.command(
    "exercises",
    short_help="Write the exercises, or check them.",
    epilog=examples("xpnet exercises work", "xpnet exercises work --check"),
)
@click.argument("folder", type=PATH)
@click.option("--check", is_flag=True, help="Run the files in FOLDER and report which of them are right.")
@json_option
def exercises_command(folder: Path, check: bool, as_json: bool) -> None:
    """Write a Python file for each exercise into FOLDER, or check your solutions.

    Files that already exist stay. With --check, the exit code is 1 until all of them are right.
    """
    from xpnet.course.exercises import check_exercises, report, write_exercises

    if not check:
        written = write_exercises(folder)
        if as_json:
            print_json({"folder": str(folder), "written": [str(path) for path in written]})
            return
        click.echo(f"written: {len(written)} exercises in {folder}")
        return
    results = check_exercises(folder)
    if as_json:
        print_json({"folder": str(folder), "results": [result._asdict() for result in results]})
    else:
        click.echo(report(results))
    if not all(result.right for result in results):
        sys.exit(1)


def _run_survey(
    run: Command,
    table: Command,
    files: Sequence[str],
    names: list[str],
    settings: dict[str, Any],
    output_dir: Path | None,
    as_json: bool,
) -> None:
    """Make the runs of a survey, and show those that are done, whatever ends it."""
    from xpnet import survey

    rows: list[Any] = []
    try:
        run(names, each=rows.append, output_dir=output_dir, **settings)
    finally:
        written = [str(output_dir / name) for name in files if (output_dir / name).exists()] if output_dir else []
        if rows and as_json:
            print_json({"rows": survey.plain(rows), "complete": len(rows) == len(names), "files": written})
        elif rows:
            click.echo("\n".join([table(rows), *(f"written: {path}" for path in written)]))


def _names(given: str | None) -> list[str]:
    """Split names at commas."""
    return [name.strip() for name in given.split(",")] if given else []


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def main(args: list[str] | None = None) -> int:
    """Run a command and return the exit code: 0 success, 1 error, 2 bad usage or input, 128 + n after signal n."""
    warnings.showwarning = _show_warning
    try:
        cli.main(args, prog_name="xpnet", standalone_mode=False)
        if sys.stdout is not None:  # None if it was closed before the program started
            sys.stdout.flush()
    except click.ClickException as error:
        message, context = error.format_message(), getattr(error, "ctx", None)
        if "\n" not in message:  # a message with several lines is the help itself
            message = f"xpnet: {message} (see '{context.command_path if context else 'xpnet'} --help')"
        click.echo(message, err=True)
        return 2
    except (click.Abort, KeyboardInterrupt) as error:
        number = getattr(error.__cause__ or error, "number", signal.SIGINT)
        return _failed(signals.STOPPED[number], 128 + number)
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. The rest of the buffer must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DownloadError, OSError, ArithmeticError, MemoryError) as error:
        return _failed(str(error) or "not enough memory", 1)
    except (ValueError, TypeError) as error:
        # The library raises these for a user's mistake, and its message says everything.
        return _failed(error, 2)
    return 0


def _failed(why: object, code: int) -> int:
    hold_back()
    _tell(why)
    return code


def _tell(why: object) -> None:
    with contextlib.suppress(OSError):  # a terminal that is gone
        click.echo(f"xpnet: {why}", err=True)


def _show_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    _tell(message)


def entry() -> None:
    """Run the program ``xpnet``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for characters that the locale cannot encode
    warnings.filterwarnings("default", category=UserWarning)  # PYTHONWARNINGS=error is meant for other programs
    signals.heed()
    code = main()
    signals.ignore()
    end_job(code, joins=sys.argv[1:2] == ["train"])
    sys.exit(code)
