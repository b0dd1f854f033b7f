"""Comparisons of recipes and backends: their accuracies and times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xpnet.plots.canvas import WIDTH, beside, clean, described, head, name_rows, new_figure, now, shorten
from xpnet.plots.curves import fit_axes, measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xpnet.runs.history import Record


def ladder(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw the test accuracy and the training time of each recipe.

    Parameters
    ----------
    rows : sequence of mapping
        The rows in the order of the ladder, each with ``recipe`` (str), ``seconds`` (more than 0) and
        ``test_accuracy`` (from 0 to 1).
    title : str
        The title, which should name the dataset and the backend.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each recipe, with its test accuracy and its seconds, both on logarithmic axes. The accuracy is drawn
        by its error: the distance from 98% to 99% is that from 80% to 90%, since both halve the mistakes.

    Raises
    ------
    ValueError
        If there are no rows, or if a value is missing or out of range.

    Examples
    --------
    >>> from xpnet import plots
    >>> rows = [
    ...     {"recipe": "tutorial", "seconds": 7.2, "test_accuracy": 0.7954},
    ...     {"recipe": "mlp", "seconds": 28.0, "test_accuracy": 0.9812},
    ... ]
    >>> plots.alt_text(plots.ladder(rows, title="mnist, numpy"))
    'mnist, numpy. Test accuracy: tutorial 0.7954 in 7.2 s; mlp 0.9812 in 28 s.'
    """
    _check_rows(rows, ("recipe", "seconds", "test_accuracy"))
    for row in rows:
        if not 0 < row["seconds"] < math.inf:
            raise ValueError(f"rows: seconds={row['seconds']!r} of {row['recipe']}: must be more than 0")
        if not 0 <= row["test_accuracy"] <= 1:
            raise ValueError(f"rows: test_accuracy={row['test_accuracy']!r} of {row['recipe']}: must be from 0 to 1")
    names = [shorten(str(row["recipe"]), 18) for row in rows]
    seconds = [float(row["seconds"]) for row in rows]
    accuracies = [float(row["test_accuracy"]) for row in rows]
    figure = new_figure(title, WIDTH, 1.5 + 0.33 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    _draw_accuracies(left, accuracies)
    _draw_seconds(right, seconds)
    for ax in (left, right):
        name_rows(ax, names)
        ax.grid(color=now().rule, lw=0.7)
    right.tick_params(labelleft=False)
    reached = zip(names, accuracies, seconds, strict=True)
    told = "; ".join(f"{name} {accuracy:.4f} in {_seconds(s)}" for name, accuracy, s in reached)
    return described(figure, f"{title}. Test accuracy: {told}.")


def _draw_accuracies(ax: Axes, accuracies: Sequence[float]) -> None:
    """Draw a point in each row at the logarithm of its error, on a reversed axis whose ticks are accuracies."""
    from matplotlib.ticker import FuncFormatter

    errors = [1.0 - accuracy for accuracy in accuracies]
    # An error of zero would be infinitely far away; it is drawn as half of the smallest other error.
    least = min((error for error in errors if error > 0), default=0.01)
    _draw_points(ax, [max(error, least / 2) for error in errors], now().blue)
    ax.invert_xaxis()
    ax.xaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{1 - error:.10g}"))
    head(ax, "test accuracy")
    _write_values(ax, [f"{accuracy:.4f}" for accuracy in accuracies])


def _draw_seconds(ax: Axes, seconds: Sequence[float]) -> None:
    """Draw a point in each row at the logarithm of its time."""
    from matplotlib.ticker import FuncFormatter

    _draw_points(ax, seconds, now().orange)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{s:,.0f}" if s >= 1 else f"{s:g}"))
    head(ax, "seconds to train")
    _write_values(ax, [_seconds(value) for value in seconds])


def _draw_points(ax: Axes, values: Sequence[float], colour: str) -> None:
    """Draw a point in each row on a logarithmic axis with at least two ticks."""
    from matplotlib.ticker import LogLocator, NullLocator

    clean(ax)
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.1 * (high - low), 0.5 - (high - low) / 2)
    ax.set_xscale("log")
    ax.set_xlim(10 ** (low - margin), 10 ** (high + margin))
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high - low > 1 else (1.0, 3.0)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.plot(values, range(len(values)), "o", ms=8, mfc=colour, mew=0, ls="none", zorder=3, clip_on=False)


def _write_values(ax: Axes, values: Sequence[str]) -> None:
    """Write a value at the right end of each row."""
    for i, value in enumerate(values):
        beside(ax, value, (1, i))


def comparison(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw one recipe on several backends, with the curves in one panel and the times in another.

    Parameters
    ----------
    rows : sequence of mapping
        One row per backend, with ``backend`` (str), ``history`` (sequence of Record) and ``seconds`` (at least 0).
    title : str
        The title, which should name the recipe and the dataset.

    Returns
    -------
    matplotlib.figure.Figure
        The curves and the times. Equal curves would hide each other, so each is drawn narrower than the one before.

    Raises
    ------
    ValueError
        If there are no rows, or if a value is missing or out of range.

    Examples
    --------
    >>> from xpnet import Record, plots
    >>> history = [Record(0, 0.9, 0.7), Record(1, 0.5, 0.85)]
    >>> rows = [{"backend": name, "history": history, "seconds": 1.5} for name in ("numpy", "torch")]
    >>> plots.alt_text(plots.comparison(rows, title="mlp on digits"))
    'mlp on digits. Training accuracy, the curves are the same. Times: numpy 1.5 s; torch 1.5 s.'
    """
    _check_rows(rows, ("backend", "history", "seconds"))
    for row in rows:
        if not 0 <= row["seconds"] < math.inf:
            raise ValueError(f"rows: seconds={row['seconds']!r} of {row['backend']}: must be 0 or more")
    runs = [row["history"] for row in rows]
    key = next(
        (s for s in ("test", "val") if all(len(measured(r, f"{s}_accuracy")[1]) for r in runs)),
        "train",
    )
    colours = [now().series[i % len(now().series)] for i in range(len(rows))]
    figure = new_figure(title, WIDTH, max(2.9, 1.7 + 0.3 * len(rows)))
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    clean(left)
    for i, run in enumerate(runs):
        x, y = measured(run, f"{key}_accuracy")
        width = 8 - 6.5 * i / max(1, len(rows) - 1)
        how = {"lw": width, "ls": "-", "marker": "o" if len(y) == 1 else "", "ms": 2 * width}
        left.plot(x, y, color=colours[i], label=str(rows[i]["backend"]), solid_capstyle="round", **how)
    fit_axes([left], runs, "accuracy")
    name, agreement = now().sets[key][0], _agreement(runs, f"{key}_accuracy")
    head(left, f"{name} accuracy\n{agreement}")
    _draw_times(right, rows, colours)
    told = "; ".join(f"{row['backend']} {_seconds(row['seconds'])}" for row in rows)
    return described(figure, f"{title}. {name.capitalize()} accuracy, {agreement}. Times: {told}.")


def _agreement(runs: Sequence[Sequence[Record]], name: str) -> str:
    """Return the largest distance of the curves, over their common epochs, in words."""
    curves = [dict(zip(*measured(run, name), strict=True)) for run in runs]
    shared = set.intersection(*map(set, curves))
    if len(runs) < 2 or not shared:
        return "a single curve" if len(runs) < 2 else "no epoch in common"
    apart = max(max(c[e] for c in curves) - min(c[e] for c in curves) for e in shared)
    return "the curves are the same" if apart == 0 else f"at most {apart:.2g} apart"


def _draw_times(ax: Axes, rows: Sequence[Mapping[str, Any]], colours: Sequence[str]) -> None:
    """Draw a bar for each backend's seconds, in the colour of its curve."""
    clean(ax)
    seconds = [float(row["seconds"]) for row in rows]
    ax.barh(range(len(rows)), seconds, color=colours, height=0.6)
    ax.set(xlim=(0, max(seconds) or 1.0), xticks=[])
    name_rows(ax, [shorten(str(row["backend"]), 18) for row in rows])
    ax.spines["bottom"].set_visible(False)
    head(ax, "seconds to train\n(in its curve's colour)")
    _write_values(ax, [_seconds(value) for value in seconds])


def _check_rows(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    if not len(rows):
        raise ValueError("rows: there are none to draw")
    for i, row in enumerate(rows):
        for key in keys:
            if row.get(key) is None:
                raise ValueError(f"rows: number {i} has no {key}; each needs {', '.join(keys)}")


def _seconds(value: float) -> str:
    return f"{value:,.0f} s" if value >= 100 else f"{value:.3g} s"
