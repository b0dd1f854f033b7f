"""What all pictures share: colours, sizes, empty figures and sheets, and the way into a file."""

from __future__ import annotations

import io
import os
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.checks import require_path
from xpnet.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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

PIXELS: dict[str, Any] = {"origin": "upper", "aspect": "equal", "interpolation": "nearest"}
"""How images are drawn: the first row on top, each pixel a square, none blurred."""

WIDTH = 7.0
"""Inches. At 700 pixels a point is then 1.4 pixels, and 9 points are 12.5 pixels: as small as text should be."""
DPI = 160
POINTS = 72.0
TITLE, TEXT, SMALL = 12.0, 10.0, 9.0
"""Sizes of type, in points."""


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file, which is whole or not there at any time.

    Where the format has room for them, it holds the figure's title and its description in words (`alt_text`).

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        From any function of this module, or your own.
    path : path-like
        Its ending decides the format: ``.png``, ``.svg``, ``.pdf``, ...

    Raises
    ------
    ValueError
        If matplotlib writes no such format.
    OSError
        If the file cannot be written; an old one is as it was.

    Examples
    --------
    >>> from xpnet import Record, plots
    >>> figure = plots.training_curves([Record(0, 0.9, 0.7)], title="mlp on digits")
    >>> plots.save(figure, "curves.png")  # doctest: +SKIP
    """
    kind = require_path("path", path).suffix[1:].lower()
    known = figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise ValueError(f"path={os.fspath(path)!r}: its ending must be one of {', '.join(sorted(known))}")
    title = " ".join(figure.get_suptitle().split())
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Title": title, "Description": alt_text(figure)},
        # No dates: the same figure gives the same file.
        "svg": {"Title": title, "Description": alt_text(figure), "Date": None},
        "pdf": {"Title": title, "Subject": alt_text(figure), "CreationDate": None},
    }
    buffer = io.BytesIO()
    figure.savefig(
        buffer,
        format=kind,
        dpi=DPI,
        facecolor="white",
        transparent=False,
        metadata=metadata.get(kind),
    )
    write_atomically(path, buffer.getvalue())


def alt_text(figure: Figure) -> str:
    """Return a figure's description in words, for those who cannot see it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        From any function of this module.

    Returns
    -------
    str
        Empty for other figures.

    Examples
    --------
    >>> from xpnet import plots
    >>> plots.alt_text(plots.confusion_matrix([[8, 2], [1, 9]], title="mlp on coins"))
    'mlp on coins. Confusion matrix of 2 classes: 17 of 20 right, accuracy 0.8500.'
    """
    return str(figure.get_label() or "")


def new_figure(title: str, width: float, height: float) -> Figure:
    """Return an empty figure of so many inches, whose panels make room for each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")
    figure.suptitle(_wrapped(title, width), fontsize=TITLE, color=INK, parse_math=False)
    return figure


MARGIN = 12.0
"""Points, at the sides of a sheet."""


def new_sheet(title: str, note: str, height: float) -> tuple[Figure, Axes, float]:
    """Return a figure measured in points from its top left corner, and where below its title one can draw.

    Galleries and diagrams are drawn on it, at places that are known without trying.
    """
    from matplotlib.figure import Figure

    heading = _wrapped(title, WIDTH)
    top = 8 + 1.3 * TITLE * (heading.count("\n") + 1)
    below = top + (1.7 * TEXT if note else 0) + 6
    total = below + height + 6
    figure = Figure(figsize=(WIDTH, total / POINTS), dpi=100, facecolor="white")
    figure.suptitle(heading, fontsize=TITLE, color=INK, parse_math=False, y=1 - 8 / total, va="top")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, POINTS * WIDTH), ylim=(total, 0), autoscale_on=False)
    ax.axis("off")
    if note:
        write(ax, POINTS * WIDTH / 2, top + 0.8 * TEXT, note, size=TEXT, color=FAINT)
    return figure, ax, below


def write(ax: Axes, x: float, y: float, text: str, *, size: float = SMALL, color: str = INK, **how: Any) -> None:
    """Write plain text on a sheet: a dollar sign begins no formula."""
    placed = {"ha": "center", "va": "center"} | how
    ax.text(x, y, text, fontsize=size, color=color, parse_math=False, **placed)


def _wrapped(title: str, width: float) -> str:
    """Break a title into lines that fit a figure of so many inches."""
    return "\n".join(textwrap.wrap(title, int(width * POINTS / (0.62 * TITLE)))) or " "


def shorten(text: str, most: int) -> str:
    """Cut a text that has more than so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def clean(ax: Axes) -> None:
    """Leave of a panel's furniture what helps to read it."""
    ax.set_facecolor("white")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(labelsize=SMALL, colors=INK)
    ax.grid(axis="y", color=RULE, lw=0.7)
    ax.set_axisbelow(True)


def legend_of_sets(figure: Figure, *panels: Axes) -> None:
    """Name each set once, below the panels."""
    lines = {str(line.get_label()): line for ax in panels for line in ax.lines}
    ordered = [name for name, _, _ in SETS.values() if name in lines]
    if not ordered:
        return
    figure.legend(
        [lines[name] for name in ordered],
        ordered,
        loc="outside lower center",
        ncols=len(ordered),
        frameon=False,
        fontsize=TEXT,
        labelcolor=INK,
    )


def darker(colour: str) -> str:
    """Return a colour dark enough for text on white."""
    from matplotlib.colors import to_hex, to_rgb

    r, g, b = to_rgb(colour)
    return to_hex((0.75 * r, 0.75 * g, 0.75 * b))


def luminance(rgba: NDArray[Any]) -> float:
    """Return how bright a colour is, from 0 to 1, as WCAG 2 defines it: https://www.w3.org/TR/WCAG21/"""
    c = np.asarray(rgba[:3], dtype=float)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def described(figure: Figure, words: str) -> Figure:
    """Return the figure, which now knows what `alt_text` says of it."""
    figure.set_label(words)
    return figure
