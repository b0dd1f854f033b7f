"""Several runs side by side: one recipe on many backends, and many recipes on one backend."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backends import get_backend, list_backends
from xpnet.data.datasets import Dataset, load_dataset
from xpnet.files import check_writable_directory, write_atomically
from xpnet.parts import require_path
from xpnet.recipes import RECIPES
from xpnet.runs.history import METRICS, History
from xpnet.runs.run import Run, title_of
from xpnet.text import aligned
from xpnet.training.train import check_request, train

Row = dict[str, Any]

COMPARISON_FILES = ("compare.json", "compare.png")

LADDER_FILES = ("ladder.json", "ladder.png", "ladder.txt")


def usable_backends() -> list[str]:
    """Return the names of the backends that can be used here."""
    return [info.name for info in list_backends() if info.usable]


def compare(
    specs: Sequence[str],
    *,
    dataset: Any = None,
    data_dir: Any = None,
    output_dir: str | os.PathLike[str] | None = None,
    each: Callable[[Row], Any] | None = None,
    **settings: Any,
) -> list[Row]:
    """Run one recipe with one seed on several backends.

    Parameters
    ----------
    specs : sequence of str
        The backends. Each is compared with the first.
    dataset, data_dir : optional
        See `xpnet.train`.
    output_dir : path-like, optional
        The folder for ``compare.json`` and ``compare.png``. After an interrupt they hold the finished runs.
    each : callable, optional
        Called with each row when its run is done.
    **settings
        The other arguments of `xpnet.train`.

    Returns
    -------
    list of dict
        One row per backend: ``backend``, ``device``, ``recipe``, ``dataset``, ``dtype``, ``seed``, ``epochs``,
        ``test_accuracy``, ``seconds``, ``largest_difference`` between its curves and those of the first backend,
        ``predictions_that_differ`` from the first backend's, and the ``history``.

    Examples
    --------
    >>> from xpnet.survey import compare
    >>> rows = compare(["numpy", "numpy"], dataset="digits", epochs=2, progress=False)
    >>> rows[1]["largest_difference"], rows[1]["predictions_that_differ"]  # The same seed, the same numbers.
    (0.0, 0)
    """
    data = _prepare([settings.get("recipe", "mlp")], specs, dataset, data_dir, output_dir, settings)
    runs: list[Run] = []

    def row(spec: str) -> Row:
        runs[1:] = [train(dataset=data, backend=spec, **settings)]  # keeps only the first run and this one
        first, run = runs[0], runs[-1]
        return {
            "backend": spec,
            "device": run.config["device"],
            "recipe": run.config["recipe"],
            "dataset": run.config["dataset"],
            "dtype": run.config["dtype"],
            "seed": run.config["seed"],
            "epochs": len(run.history),
            "test_accuracy": run.evaluation.accuracy,
            "seconds": run.history.seconds,
            "largest_difference": largest_difference(first, run),
            "predictions_that_differ": int(np.sum(first.evaluation.predictions != run.evaluation.predictions)),
            "history": run.history,
        }

    return _rows(row, specs, each, save_comparison, output_dir)


def largest_difference(a: Run, b: Run) -> float:
    """Return the largest difference between two runs' curves; infinity if one is longer than the other."""
    if len(a.history) != len(b.history):
        return float("inf")
    differences = [
        abs(x - y)
        for name in METRICS
        for x, y in zip(a.history.column(name), b.history.column(name), strict=True)
        if x is not None and y is not None
    ]
    return max(differences, default=0.0)


def ladder(
    recipes: Sequence[str],
    *,
    dataset: Any = None,
    data_dir: Any = None,
    output_dir: str | os.PathLike[str] | None = None,
    each: Callable[[Row], Any] | None = None,
    **settings: Any,
) -> list[Row]:
    """Run recipes in order on one dataset and backend.

    Parameters
    ----------
    recipes : sequence of str
        The names of the recipes.
    dataset, data_dir : optional
        See `xpnet.train`.
    output_dir : path-like, optional
        The folder for ``ladder.json``, ``ladder.txt`` and ``ladder.png``. After an interrupt they hold the finished
        runs.
    each : callable, optional
        Called with each row when its run is done.
    **settings
        The other arguments of `xpnet.train`.

    Returns
    -------
    list of dict
        One row per recipe: ``recipe``, ``what``, ``dataset``, ``backend``, ``parameters``, ``epochs``, ``seconds``,
        ``val_accuracy`` and ``test_accuracy``.

    Examples
    --------
    >>> from xpnet.survey import ladder
    >>> rows = ladder(["mlp", "deep"], dataset="digits", epochs=2, progress=False)
    >>> [(row["recipe"], row["epochs"]) for row in rows]
    [('mlp', 2), ('deep', 2)]
    """
    data = _prepare(recipes, [settings.get("backend")], dataset, data_dir, output_dir, settings)

    def row(recipe: str) -> Row:
        run = train(recipe, dataset=data, **settings)
        return {
            "recipe": recipe,
            "what": RECIPES[recipe].what,
            "dataset": run.config["dataset"],
            "backend": run.config["backend"],
            "parameters": run.network.size,
            "epochs": len(run.history),
            "seconds": run.history.seconds,
            "val_accuracy": run.record.val_accuracy,
            "test_accuracy": run.evaluation.accuracy,
        }

    return _rows(row, recipes, each, save_ladder, output_dir)


def _prepare(
    recipes: Sequence[str],
    specs: Sequence[str | None],
    dataset: Any,
    data_dir: Any,
    output_dir: str | os.PathLike[str] | None,
    settings: Mapping[str, Any],
) -> Dataset:
    """Check the arguments of all runs before the first, and load the data that they share."""
    if settings.get("resume"):
        raise ValueError("resume=True: several runs cannot go on in one folder; train them one by one")
    for recipe in recipes:
        check_request(recipe, settings)
    for spec in specs:
        get_backend(spec)
    data = load_dataset(dataset, data_dir=data_dir)
    data.first(settings.get("train_samples"))  # too many are an error before the first run
    if output_dir is not None:
        check_writable_directory(output_dir)
    return data


def _rows(
    make: Callable[[str], Row],
    names: Sequence[str],
    each: Callable[[Row], Any] | None,
    save: Callable[[Sequence[Row], Any], Any],
    output_dir: str | os.PathLike[str] | None,
) -> list[Row]:
    """Make the rows one by one, and save the finished ones, however this ends."""
    rows: list[Row] = []
    try:
        for name in names:
            rows.append(make(name))
            if each is not None:
                each(rows[-1])
    finally:
        if rows and output_dir is not None:
            save(rows, output_dir)
    return rows


def comparison_table(rows: Sequence[Row]) -> str:
    """Return the rows of `compare` as a table that fits a terminal."""
    head = ("backend", "device", "accuracy", "curves differ", "other answers", "seconds")
    body = [
        (
            row["backend"],
            row["device"],
            f"{row['test_accuracy']:.4f}",
            f"{row['largest_difference']:.1e}",
            str(row["predictions_that_differ"]),
            f"{row['seconds']:.2f}",
        )
        for row in rows
    ]
    first = rows[0]
    return f"{title_of(first | {'backend': None})}\n{aligned([head, *body], left=2)}"


def ladder_table(rows: Sequence[Row]) -> str:
    """Return the rows of `ladder` as a table that fits a terminal."""
    head = ("recipe", "parameters", "epochs", "seconds", "validation", "test")
    body = [
        (
            row["recipe"],
            f"{row['parameters']:,}",
            str(row["epochs"]),
            f"{row['seconds']:.1f}",
            "" if row["val_accuracy"] is None else f"{row['val_accuracy']:.4f}",
            f"{row['test_accuracy']:.4f}",
        )
        for row in rows
    ]
    return f"{rows[0]['dataset']} on {rows[0]['backend']}\n{aligned([head, *body])}"


def save_comparison(rows: Sequence[Row], directory: str | os.PathLike[str]) -> list[Path]:
    """Write ``compare.json`` and ``compare.png``."""
    from xpnet import plots

    first = rows[0]
    figure = plots.comparison(rows, title=title_of(first | {"backend": None}))
    return _save(rows, directory, "compare", figure)


def save_ladder(rows: Sequence[Row], directory: str | os.PathLike[str]) -> list[Path]:
    """Write ``ladder.json``, ``ladder.txt`` and ``ladder.png``."""
    from xpnet import plots

    figure = plots.ladder(rows, title=title_of(rows[0] | {"recipe": "The ladder"}))
    written = _save(rows, directory, "ladder", figure)
    text = require_path("directory", directory) / "ladder.txt"
    write_atomically(text, (ladder_table(rows) + "\n").encode())
    return [*written, text]


def plain(rows: Sequence[Row]) -> list[Row]:
    """Return rows in a JSON-serializable form."""
    return [{key: _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, History):
        return value.to_dicts()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _save(rows: Sequence[Row], directory: str | os.PathLike[str], name: str, figure: Any) -> list[Path]:
    from xpnet import plots

    folder = check_writable_directory(directory)
    table, picture = folder / f"{name}.json", folder / f"{name}.png"
    write_atomically(table, (json.dumps(plain(rows), indent=2) + "\n").encode())
    plots.save(figure, picture)
    return [table, picture]
