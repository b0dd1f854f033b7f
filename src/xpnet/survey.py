"""Several runs side by side: one recipe on many backends, and many recipes on one backend."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backends import get_backend, list_backends
from xpnet.data.datasets import load_dataset
from xpnet.files import check_writable_directory, write_atomically
from xpnet.recipes import RECIPES
from xpnet.runs.history import METRICS, History
from xpnet.runs.run import Run, title_of
from xpnet.training.train import check_arguments, train

Row = dict[str, Any]


def usable_backends() -> list[str]:
    """Return the names of the backends that can be used here."""
    return [info.name for info in list_backends() if info.usable]


def check_survey(recipes: Sequence[str], specs: Sequence[str | None], settings: Mapping[str, Any]) -> None:
    """Check the arguments of several runs, before any work.

    Parameters
    ----------
    recipes, specs : sequence of str
        The recipes and the backends.
    settings : mapping
        The arguments of `xpnet.train` that all runs share.

    Raises
    ------
    ValueError, TypeError
        Naming the argument and its value.
    """
    for name in ("output_dir", "resume"):
        if settings.get(name):
            raise ValueError(f"{name}={settings[name]!r}: several runs cannot share a folder; train them one by one")
    for recipe in recipes:
        check_arguments(recipe, settings)
    for spec in specs:
        get_backend(spec)


def compare(
    specs: Sequence[str],
    *,
    dataset: Any = None,
    data_dir: Any = None,
    each: Callable[[Row], Any] | None = None,
    **settings: Any,
) -> list[Row]:
    """Run one recipe with one seed on several backends.

    Parameters
    ----------
    specs : sequence of str
        The backends. Each is compared with the first.
    dataset, data_dir, **settings
        See `xpnet.train`.
    each : callable, optional
        Called with each row when its run is done.

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
    check_survey([settings.get("recipe", "mlp")], specs, settings)
    data = load_dataset(dataset, data_dir=data_dir)
    rows: list[Row] = []
    first: Run | None = None
    for spec in specs:
        run = train(dataset=data, backend=spec, **settings)
        first = first or run
        rows.append(
            {
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
        )
        if each is not None:
            each(rows[-1])
    return rows


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
    each: Callable[[Row], Any] | None = None,
    **settings: Any,
) -> list[Row]:
    """Run recipes in order on one dataset and backend.

    Parameters
    ----------
    recipes : sequence of str
        The names of the recipes.
    dataset, data_dir, **settings
        See `xpnet.train`.
    each : callable, optional
        Called with each row when its run is done.

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
    check_survey(recipes, [settings.get("backend")], settings)
    data = load_dataset(dataset, data_dir=data_dir)
    rows: list[Row] = []
    for recipe in recipes:
        run = train(recipe, dataset=data, **settings)
        rows.append(
            {
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
        )
        if each is not None:
            each(rows[-1])
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
    return f"{title_of(first | {'backend': None})}\n{_table([head, *body])}"


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
    return f"{rows[0]['dataset']} on {rows[0]['backend']}\n{_table([head, *body])}"


def save_comparison(rows: Sequence[Row], directory: Path) -> list[Path]:
    """Write ``compare.json`` and ``compare.png``."""
    from xpnet import plots

    first = rows[0]
    figure = plots.comparison(rows, title=title_of(first | {"backend": None}))
    return _save(rows, directory, "compare", figure)


def save_ladder(rows: Sequence[Row], directory: Path) -> list[Path]:
    """Write ``ladder.json``, ``ladder.txt`` and ``ladder.png``."""
    from xpnet import plots

    figure = plots.ladder(rows, title=title_of(rows[0] | {"recipe": "The ladder"}))
    written = _save(rows, directory, "ladder", figure)
    text = Path(directory) / "ladder.txt"
    write_atomically(text, (ladder_table(rows) + "\n").encode())
    return [*written, text]


def plain(rows: Sequence[Row]) -> list[Row]:
    """Return rows in a JSON-serializable form."""
    return [{key: _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, History):
        return value.to_dicts()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _save(rows: Sequence[Row], directory: Path, name: str, figure: Any) -> list[Path]:
    from xpnet import plots

    folder = check_writable_directory(directory)
    table, picture = folder / f"{name}.json", folder / f"{name}.png"
    write_atomically(table, (json.dumps(plain(rows), indent=2) + "\n").encode())
    plots.save(figure, picture)
    return [table, picture]


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
