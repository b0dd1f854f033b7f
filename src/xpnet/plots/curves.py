"""The curves of runs: loss and accuracy over the epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.plots.canvas import (
    INK,
    POINTS,
    SETS,
    SMALL,
    TEXT,
    WIDTH,
    clean,
    darker,
    described,
    legend_of_sets,
    new_figure,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xpnet.training.history import Record


def training_curves(history: Sequence[Record], *, title: str) -> Figure:
    """Draw loss and accuracy of each set over the epochs.

    Parameters
    ----------
    history : sequence of Record
        At least one epoch. Sets that were not measured are left out.
    title : str
        Should name the recipe, the dataset and the backend.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels; at the right of each stand the last values.

    Raises
    ------
    ValueError
        If there is no epoch.

    Examples
    --------
    >>> from xpnet import Record, plots
    >>> history = [Record(0, 0.9, 0.7, test_loss=0.8, test_accuracy=0.75), Record(1, 0.5, 0.85)]
    >>> plots.alt_text(plots.training_curves(history, title="mlp on digits, numpy"))
    'mlp on digits, numpy. After the last epoch: training loss 0.5000, training accuracy 0.8500.'
    """
    figure = new_figure(title, WIDTH, 3.9)
    panels = figure.subplots(1, 2)
    for ax, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        _draw_sets(ax, history, quantity)
        ax.set_title(quantity, fontsize=TEXT, color=INK, loc="left")
        fit_axes([ax], [history], quantity)
    legend_of_sets(figure, *panels)
    _spread_end_labels(figure)
    return described(figure, f"{title}. After the last epoch: {_last_values(history)}.")


def curves_side_by_side(histories: Mapping[str, Sequence[Record]], *, title: str) -> Figure:
    """Draw the curves of several runs next to each other, on the same scales.

    Parameters
    ----------
    histories : mapping of str to sequence of Record
        What to call each run, and its records.
    title : str
        Should say what is compared.

    Returns
    -------
    matplotlib.figure.Figure
        A column for each run: loss above, accuracy below.

    Raises
    ------
    ValueError
        If there is no run, or one without an epoch.

    Examples
    --------
    >>> from xpnet import Record, plots
    >>> runs = {"tutorial": [Record(0, 0.9, 0.7)], "corrected": [Record(0, 0.6, 0.8)]}
    >>> figure = plots.curves_side_by_side(runs, title="The two slips, before and after")
    >>> [ax.get_title() for ax in figure.axes[:2]]
    ['tutorial', 'corrected']
    """
    if not histories:
        raise ValueError("histories={}: there is nothing to draw")
    runs = list(histories.values())
    figure = new_figure(title, max(WIDTH, 2.6 * len(runs)), 5.6)
    panels = figure.subplots(2, len(runs), squeeze=False)
    for row, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for ax, history in zip(row, runs, strict=True):
            _draw_sets(ax, history, quantity)
        row[0].set_ylabel(quantity, fontsize=TEXT, color=INK)
        fit_axes(row, runs, quantity)
    for ax, name in zip(panels[0], histories, strict=True):
        ax.set_title(shorten(name, 32), fontsize=TEXT, color=INK, parse_math=False)
    legend_of_sets(figure, *panels.flat)
    _spread_end_labels(figure)
    last = "; ".join(f"{name}: {_last_values(history)}" for name, history in histories.items())
    return described(figure, f"{title}. After the last epoch: {last}.")


def _draw_sets(ax: Axes, history: Sequence[Record], quantity: str) -> None:
    """Draw one quantity, loss or accuracy, of all sets into a panel."""
    clean(ax)
    for key, (name, colour, marker) in SETS.items():
        x, y = measured(history, f"{key}_{quantity}")
        if len(y):
            every = math.ceil(len(y) / 12)
            ax.plot(x, y, color=colour, lw=1.8, marker=marker, ms=5, mew=0, markevery=every, label=name)
            _end_label(ax, y[-1], colour)


def measured(history: Sequence[Record], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the epochs in which a quantity was measured, and its values, NaN where not finite."""
    if not len(history):
        raise ValueError("history: it is empty, there is no epoch to draw")
    pairs = [(r.epoch, getattr(r, name)) for r in history if getattr(r, name) is not None]
    epochs, values = np.asarray(pairs, dtype=float).reshape(-1, 2).T
    return epochs, np.where(np.isfinite(values), values, np.nan)


def fit_axes(panels: Iterable[Axes], runs: Sequence[Sequence[Record]], quantity: str) -> None:
    """Give panels the same limits: all epochs of all runs, and all their values."""
    from matplotlib.ticker import MaxNLocator

    first, last = min(run[0].epoch for run in runs), max(run[-1].epoch for run in runs)
    margin = 0.03 * (last - first) or 0.5
    panels = list(panels)
    values = np.asarray([y for ax in panels for line in ax.lines for y in np.asarray(line.get_ydata())])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    if quantity == "loss":
        bottom, top = min(0.0, 1.08 * low), 1.08 * high or 1.0
    else:
        # Curves that hardly move are not blown up until they seem to.
        low = min(low, high - 0.02)
        space = 0.08 * (high - low)
        # No accuracy is above 1: there the axis ends, with room for half a marker.
        bottom, top = low - space, min(high + space, 1.0 + space / 3)
    for ax in panels:
        ax.set(xlim=(first - margin, last + margin), ylim=(bottom, top))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        ax.set_xlabel("epoch", fontsize=TEXT, color=INK)


def _last_values(history: Sequence[Record]) -> str:
    """Say where a run ended, in words."""
    last = history[-1]
    parts = []
    for key, (name, _, _) in SETS.items():
        for quantity in ("loss", "accuracy"):
            value = getattr(last, f"{key}_{quantity}")
            if value is not None:
                parts.append(f"{name} {quantity} {_number(value)}")
    return ", ".join(parts)


def _number(value: float) -> str:
    """Write a loss or an accuracy."""
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e3 else f"{value:.2e}"


def _end_label(ax: Axes, value: float, colour: str) -> None:
    """Write a curve's last value to the right of its panel, at the curve's height or as near as is free."""
    ax.annotate(
        _number(value),
        (1, value),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color=darker(colour),
        fontsize=SMALL,
        annotation_clip=False,
        gid=END_LABEL,
    )


END_LABEL = "end-label"
"""Marks the annotations that `_spread_end_labels` moves."""


def _spread_end_labels(figure: Figure) -> None:
    """Move last values that would be written over each other apart, and no further."""
    figure.draw_without_rendering()  # The heights of the panels are known only once they are laid out.
    for ax in figure.axes:
        labels = [text for text in ax.texts if text.get_gid() == END_LABEL]
        height = ax.get_window_extent().height / figure.dpi * POINTS
        to_fraction = ax.transData + ax.transAxes.inverted()
        wanted = [float(to_fraction.transform((0, label.xy[1]))[1]) for label in labels]  # type: ignore[attr-defined]
        # What is not finite went up and away.
        wanted = [y if math.isfinite(y) else 1.0 for y in wanted]
        for label, y in zip(labels, _apart(wanted, 1.25 * SMALL / height), strict=True):
            label.xycoords = "axes fraction"  # type: ignore[attr-defined]
            label.xy = (1, y)  # type: ignore[attr-defined]


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Return the places nearest to the wanted ones, from 0 to 1, that are a gap apart.

    With the gaps taken out, the places need only be in order: that is isotonic regression, which pooling adjacent
    violators solves. The squares of the shifts have the least sum.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pools: list[list[float]] = []
    for rank, i in enumerate(order):
        pools.append([wanted[i] - rank * gap])
        while len(pools) > 1 and np.mean(pools[-2]) >= np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    places = [float(np.mean(pool)) for pool in pools for _ in pool]
    highest = max(0.0, 1.0 - (len(wanted) - 1) * gap)
    result = [0.0] * len(wanted)
    for rank, i in enumerate(order):
        result[i] = min(max(places[rank], 0.0), highest) + rank * gap
    return result
