"""The curves of runs: loss and accuracy over the epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.plots.canvas import SMALL, TEXT, WIDTH, clean, described, head, name_axes, new_figure, now, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xpnet.runs.history import Record


def training_curves(history: Sequence[Record], *, title: str) -> Figure:
    """Draw loss and accuracy of each set over the epochs.

    Parameters
    ----------
    history : sequence of Record
        The records of at least one epoch. Sets that were not measured are left out.
    title : str
        The title, which should name the recipe, the dataset and the backend.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels, whose legends hold the last values.

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
    figure = new_figure(title, WIDTH, 3.1)
    for ax, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        _draw_sets(ax, history, quantity)
        head(ax, quantity)
        fit_axes([ax], [history], quantity)
    return described(figure, f"{title}. After the last epoch: {_last_values(history)}.")


def curves_side_by_side(histories: Mapping[str, Sequence[Record]], *, title: str) -> Figure:
    """Draw the curves of several runs next to each other, on the same scales.

    Parameters
    ----------
    histories : mapping of str to sequence of Record
        The name of each run, and its records.
    title : str
        The title, which should say what is compared.

    Returns
    -------
    matplotlib.figure.Figure
        One column per run, with the loss above the accuracy.

    Raises
    ------
    ValueError
        If there is no run, or if one has no epochs.

    Examples
    --------
    >>> from xpnet import Record, plots
    >>> runs = {"tutorial": [Record(0, 0.9, 0.7)], "corrected": [Record(0, 0.6, 0.8)]}
    >>> figure = plots.curves_side_by_side(runs, title="The two bugs, before and after")
    >>> [ax.get_title() for ax in figure.axes[:2]]
    ['tutorial', 'corrected']
    """
    if not histories:
        raise ValueError("histories={}: there is nothing to draw")
    runs = list(histories.values())
    figure = new_figure(title, max(WIDTH, 2.4 * len(runs)), 5.0)
    panels = figure.subplots(2, len(runs), squeeze=False)
    for row, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for ax, history in zip(row, runs, strict=True):
            _draw_sets(ax, history, quantity)
        fit_axes(row, runs, quantity)
        row[0].set_ylabel(quantity, fontsize=TEXT, color=now().ink)
    for ax, name in zip(panels[0], histories, strict=True):
        ax.set_title(shorten(name, 32), fontsize=TEXT, color=now().ink, parse_math=False)
        ax.set_xlabel("")
    last = "; ".join(f"{name}: {_last_values(history)}" for name, history in histories.items())
    return described(figure, f"{title}. After the last epoch: {last}.")


def _draw_sets(ax: Axes, history: Sequence[Record], quantity: str) -> None:
    """Draw the loss or the accuracy of all sets into a panel, with the last values in its legend."""
    clean(ax)
    names = []
    for key, (name, colour, marker) in now().sets.items():
        x, y = measured(history, f"{key}_{quantity}")
        if len(y):
            every = math.ceil(len(y) / 12)
            ax.plot(x, y, color=colour, lw=1.8, marker=marker, ms=5, mew=0, markevery=every, label=name)
            names.append(f"{name} {_number(y[-1])}")
    if names:
        # Losses fall and accuracies rise, which leaves a corner free.
        corner: Any = "upper right" if quantity == "loss" else "lower right"
        ax.legend(ax.lines, names, fontsize=SMALL, labelcolor=now().ink, loc=corner, **LEGEND)


LEGEND: dict[str, Any] = {"frameon": False, "handlelength": 1.2, "handletextpad": 0.5, "borderaxespad": 0.2}


def measured(history: Sequence[Record], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the epochs in which a quantity was measured, and its values, with NaN for those that are not finite."""
    if not len(history):
        raise ValueError("history: it is empty, there is no epoch to draw")
    pairs = [(r.epoch, getattr(r, name)) for r in history if getattr(r, name) is not None]
    epochs, values = np.asarray(pairs, dtype=float).reshape(-1, 2).T
    return epochs, np.where(np.isfinite(values), values, np.nan)


def fit_axes(panels: Iterable[Axes], runs: Sequence[Sequence[Record]], quantity: str) -> None:
    """Give panels the same limits, which include all epochs and values of all runs."""
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
        # Do not magnify curves that hardly change.
        low = min(low, high - 0.02)
        space = 0.08 * (high - low)
        # No accuracy exceeds 1, so the axis ends there, with room for half a marker.
        bottom, top = low - space, min(high + space, 1.0 + space / 3)
    for ax in panels:
        ax.set(xlim=(first - margin, last + margin), ylim=(bottom, top))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        name_axes(ax, "epoch")


def _last_values(history: Sequence[Record]) -> str:
    """Return the last values of a run in words."""
    last = history[-1]
    parts = []
    for key, (name, _, _) in now().sets.items():
        for quantity in ("loss", "accuracy"):
            value = getattr(last, f"{key}_{quantity}")
            if value is not None:
                parts.append(f"{name} {quantity} {_number(value)}")
    return ", ".join(parts)


def _number(value: float) -> str:
    """Return a loss or an accuracy as text."""
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e3 else f"{value:.2e}"
