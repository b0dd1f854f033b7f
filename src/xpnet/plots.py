"""Every picture that xpnet draws.

Each function takes plain data of the host (NumPy arrays, the records of a run, strings) and returns a matplotlib
`Figure`; `save` writes it. Three things hold for all of them:

- pyplot stays out: no window, no list of open figures, no current one. They work without a screen and in threads.
- matplotlib is imported by the functions, not by the module: a run that draws nothing does not wait for it.
- They look the same whatever style the user has set, on white, in the colours of Okabe and Ito [1]_, which
  colour-blind people can tell apart, and in sizes that can be read when a picture is 700 pixels wide.

References
----------
.. [1] M. Okabe and K. Ito, "Color Universal Design", 2008. https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.files import write_atomically
from xpnet.random import generator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xpnet.training.history import Record

INK, FAINT, RULE = "#1a1a1a", "#666666", "#dddddd"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, BLACK, YELLOW = "#e69f00", "#56b4e9", "#000000", "#f0e442"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK, YELLOW)
"""The colours of things that have no colour of their own, in the order in which they are taken."""

SETS = {
    "train": ("training", BLUE, "o"),
    "val": ("validation", GREEN, "s"),
    "test": ("test", VERMILLION, "^"),
}
"""Each set's name, colour and marker, the same in every picture."""

WIDTH = 7.0
"""Inches. At 700 pixels a point is then 1.4 pixels, and 9 points are 12.5 pixels: as small as text should be."""
DPI = 160
POINTS = 72.0
TITLE, TEXT, SMALL = 12.0, 10.0, 9.0
"""Sizes of type, in points."""


# The curves of a run ----------------------------------------------------------------------------------------------


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
    """
    figure = _figure(title, WIDTH, 3.9)
    panels = figure.subplots(1, 2)
    _draw_curves(figure, panels[0], history, "loss")
    _draw_curves(figure, panels[1], history, "accuracy")
    panels[0].set_title("loss", fontsize=TEXT, loc="left")
    panels[1].set_title("accuracy", fontsize=TEXT, loc="left")
    _legend(figure, panels[0])
    _spread_end_labels(figure)
    return _described(figure, f"{title}. After the last epoch: {_last_values(history)}.")


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
    """
    if not histories:
        raise ValueError("histories={}: there is nothing to draw")
    count = len(histories)
    figure = _figure(title, max(WIDTH, 2.6 * count), 5.6)
    panels = figure.subplots(2, count, sharex=True, sharey="row", squeeze=False)
    for column, (name, history) in enumerate(histories.items()):
        for row, quantity in enumerate(("loss", "accuracy")):
            _draw_curves(figure, panels[row, column], history, quantity)
            panels[row, column].tick_params(labelbottom=True, labelleft=True)
        panels[0, column].set_title(_shorten(name, 30), fontsize=TEXT, parse_math=False)
    for row, quantity in enumerate(("loss", "accuracy")):
        panels[row, 0].set_ylabel(quantity, fontsize=TEXT, color=INK)
        _fit_vertically(panels[row], quantity)
    _legend(figure, *panels[0])
    _spread_end_labels(figure)
    last = "; ".join(f"{name}: {_last_values(history)}" for name, history in histories.items())
    return _described(figure, f"{title}. After the last epoch: {last}.")


def _draw_curves(figure: Figure, ax: Axes, history: Sequence[Record], quantity: str) -> None:
    """Draw one quantity of all sets into a panel."""
    _clean(ax)
    for key, (name, colour, marker) in SETS.items():
        x, y = _measured(history, f"{key}_{quantity}")
        if not len(y):
            continue
        every = max(1, math.ceil(len(y) / 12))
        ax.plot(x, y, color=colour, lw=1.8, marker=marker, ms=5, markevery=every, label=name)
        _end_label(ax, y[-1], colour)
    _epoch_axis(ax, history)
    _fit_vertically([ax], quantity)


def _measured(history: Sequence[Record], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the epochs in which a quantity was measured, and its values, NaN where not finite."""
    if not len(history):
        raise ValueError("history: it is empty, there is no epoch to draw")
    pairs = [(r.epoch, getattr(r, name)) for r in history if getattr(r, name) is not None]
    epochs, values = np.asarray(pairs, dtype=float).reshape(-1, 2).T
    return epochs, np.where(np.isfinite(values), values, np.nan)


def _epoch_axis(ax: Axes, history: Sequence[Record]) -> None:
    from matplotlib.ticker import MaxNLocator

    first, last = history[0].epoch, history[-1].epoch
    margin = max(0.03 * (last - first), 0.2)
    left, right = (first - margin, last + margin) if last > first else (first - 1, last + 1)
    if ax.lines and getattr(ax, "_xpnet_epochs", None):
        old = ax._xpnet_epochs  # type: ignore[attr-defined]
        left, right = min(left, old[0]), max(right, old[1])
    ax.set_xlim(left, right)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    ax.set_xlabel("epoch", fontsize=TEXT, color=INK)
