"""The parts that all pictures share: colours, sizes, empty figures and sheets, and the way into a file."""

from __future__ import annotations

import contextlib
import html
import io
import os
import textwrap
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.files import write_atomically
from xpnet.parts import require_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Style:
    """The colours of pictures: text and lines, the paper, and what has a meaning of its own."""

    paper: str = "white"
    ink: str = "#1a1a1a"
    faint: str = "#666666"
    rule: str = "#dddddd"
    blue: str = "#0072b2"
    vermillion: str = "#d55e00"
    green: str = "#009e73"
    purple: str = "#cc79a7"
    orange: str = "#e69f00"
    sky: str = "#56b4e9"
    right: str = "#007656"
    """Of text about what is right, and `wrong` about what is wrong: darker than the others, on white."""
    wrong: str = "#a04600"
    shares: tuple[str, ...] = ("#f7fbff", "#6baed6", "#08306b")
    """From none to all."""
    signs: tuple[str, ...] = ("#b2182b", "#f4a582", "#ffffff", "#92c5de", "#2166ac")
    """From negative to positive, with zero in the middle."""

    @property
    def series(self) -> tuple[str, ...]:
        """The colours of things that have none of their own, in the order in which they are taken."""
        return (self.blue, self.vermillion, self.green, self.purple, self.orange, self.sky, self.faint, self.ink)

    @property
    def sets(self) -> dict[str, tuple[str, str, str]]:
        """Each set's name, colour and marker, the same in every picture."""
        return {
            "train": ("training", self.blue, "o"),
            "val": ("validation", self.green, "s"),
            "test": ("test", self.vermillion, "^"),
        }


STYLES = {
    "light": Style(),
    "dark": Style(
        paper="none",
        ink="#e6e6e6",
        faint="#a3a9b0",
        rule="#3c434b",
        blue="#56b4e9",
        vermillion="#ff8f4a",
        green="#2cc79c",
        purple="#e69ac6",
        orange="#f0b429",
        sky="#8fd0ff",
        right="#2cc79c",
        wrong="#ff8f4a",
        shares=("#1c2733", "#2f6f9f", "#8fd0ff"),
        signs=("#ff8f4a", "#8a4a24", "#181d23", "#27618a", "#8fd0ff"),
    ),
}
_style: ContextVar[Style] = ContextVar("style", default=STYLES["light"])


def now() -> Style:
    """Return the colours to draw with."""
    return _style.get()


@contextlib.contextmanager
def style(name: str) -> Iterator[None]:
    """Draw the figures of a ``with`` block in other colours.

    Parameters
    ----------
    name : {"light", "dark"}
        ``"light"`` draws on white, and is the default. ``"dark"`` draws in light colours on nothing, for a page with a
        dark background: the figures are transparent.

    Raises
    ------
    ValueError
        If there is no such style.

    Examples
    --------
    >>> from xpnet import Record, plots
    >>> with plots.style("dark"):
    ...     figure = plots.training_curves([Record(0, 0.9, 0.7)], title="mlp on digits")
    >>> plots.save(figure, "curves-dark.svg")  # doctest: +SKIP
    """
    if name not in STYLES:
        raise ValueError(f"name={name!r}: must be one of {', '.join(STYLES)}")
    token = _style.set(STYLES[name])
    try:
        yield
    finally:
        _style.reset(token)


PIXELS: dict[str, Any] = {"origin": "upper", "aspect": "equal", "interpolation": "nearest"}
"""How images are drawn: the first row on top, each pixel a square, none blurred."""

WIDTH = 5.2
"""Inches. On a phone, 390 pixels wide, a point is then 1.04 pixels: 9 points are as small as text should be."""
DPI = 160
POINTS = 72.0
TITLE, TEXT, SMALL = 12.0, 10.0, 9.0
"""Sizes of type, in points."""
MARGIN = 12.0
"""Points, at the sides of a sheet."""


# Into a file ----------------------------------------------------------------------------------------------------------


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file, which is whole or not there at any time.

    Where the format has room for them, it holds the figure's title and its description in words (`alt_text`): an SVG
    in its ``<title>`` and ``<desc>``, which screen readers read.

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
    >>> plots.save(figure, "curves.svg")  # doctest: +SKIP
    """
    kind = require_path("path", path).suffix[1:].lower()
    known = figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise ValueError(f"path={os.fspath(path)!r}: its ending must be one of {', '.join(sorted(known))}")
    write_atomically(path, render(figure, kind))


def render(figure: Figure, kind: str) -> bytes:
    """Return a figure as a file of some kind, ``"png"`` or ``"svg"``: the same bytes for the same figure."""
    import matplotlib

    title, words = " ".join(figure.get_suptitle().split()), alt_text(figure)
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Title": title, "Description": words},
        # No dates, and no random names.
        "svg": {"Title": title, "Description": words, "Date": None},
        "pdf": {"Title": title, "Subject": words, "CreationDate": None},
    }
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "xpnet"}):
        figure.savefig(buffer, format=kind, dpi=DPI, facecolor="auto", metadata=metadata.get(kind))
    if kind != "svg":
        return buffer.getvalue()
    described_too = f"</title>\n <desc>{html.escape(words, quote=False)}</desc>"
    text = buffer.getvalue().decode().replace("</title>", described_too, 1)
    return text.replace("<svg ", '<svg role="img" ', 1).encode()


def image_tag(png: str, words: str, width: int) -> str:
    """Return the HTML of a PNG in base 64, with its description."""
    return f'<img src="data:image/png;base64,{png}" alt="{html.escape(words)}" width="{width}" style="max-width:100%">'


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


def described(figure: Figure, words: str) -> Figure:
    """Return the figure, which now knows what `alt_text` says of it."""
    figure.set_label(words)
    return figure


# Empty figures --------------------------------------------------------------------------------------------------------


def new_figure(title: str, width: float, height: float) -> Figure:
    """Return an empty figure of so many inches, whose panels make room for each other."""
    from xpnet.plots.figure import XPFigure

    figure = XPFigure(figsize=(width, height), dpi=100, layout="constrained", facecolor=now().paper)
    figure.suptitle(_wrapped(title, width), fontsize=TITLE, color=now().ink, parse_math=False)
    return figure


def new_sheet(title: str, note: str, height: float) -> tuple[Figure, Axes, float]:
    """Return a figure measured in points from its top left corner, and where below its title one can draw.

    Galleries and diagrams are drawn on it, at places that are known without trying.
    """
    from xpnet.plots.figure import XPFigure

    heading, notes = _wrapped(title, WIDTH), textwrap.wrap(note, int(WIDTH * POINTS / (0.55 * TEXT)))
    top = 8 + 1.3 * TITLE * (heading.count("\n") + 1)
    below = top + 1.4 * TEXT * len(notes) + 8
    total = below + height + 6
    figure = XPFigure(figsize=(WIDTH, total / POINTS), dpi=100, facecolor=now().paper)
    figure.suptitle(heading, fontsize=TITLE, color=now().ink, parse_math=False, y=1 - 8 / total, va="top")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, POINTS * WIDTH), ylim=(total, 0), autoscale_on=False)
    ax.axis("off")
    if notes:
        write(ax, POINTS * WIDTH / 2, top + 2, "\n".join(notes), size=TEXT, color=now().faint, va="top")
    return figure, ax, below


def write(ax: Axes, x: float, y: float, text: str, *, size: float = SMALL, color: str = "", **how: Any) -> None:
    """Write plain text on a sheet: a dollar sign begins no formula."""
    placed = {"ha": "center", "va": "center"} | how
    ax.text(x, y, text, fontsize=size, color=color or now().ink, parse_math=False, **placed)


def _wrapped(title: str, width: float) -> str:
    """Break a title into lines that fit a figure of so many inches."""
    return "\n".join(textwrap.wrap(title, int(width * POINTS / (0.62 * TITLE)))) or " "


def shorten(text: str, most: int) -> str:
    """Cut a text that has more than so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def clean(ax: Axes) -> None:
    """Leave of a panel's furniture what helps to read it."""
    colours = now()
    ax.set_facecolor("none")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(colours.faint)
    ax.tick_params(labelsize=SMALL, colors=colours.ink)
    ax.grid(axis="y", color=colours.rule, lw=0.7)
    ax.set_axisbelow(True)


def head(ax: Axes, text: str) -> None:
    """Write what a panel shows above its left edge."""
    ax.set_title(text, fontsize=TEXT, color=now().ink, loc="left", parse_math=False)


def name_axes(ax: Axes, x: str = "", y: str = "") -> None:
    """Name a panel's axes."""
    ax.set_xlabel(x, fontsize=TEXT, color=now().ink)
    ax.set_ylabel(y, fontsize=TEXT, color=now().ink)


def name_rows(ax: Axes, names: list[str]) -> None:
    """Give a panel a row for each name, the first on top; the axis itself is not drawn."""
    ax.set_yticks(range(len(names)), names, fontsize=SMALL, color=now().ink, parse_math=False)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(False)
    ax.spines["left"].set_visible(False)


def beside(ax: Axes, text: str, place: tuple[float, float], across: str = "axes fraction") -> None:
    """Write to the right of a place in a panel: its height in data, and how far across in `across`."""
    coords: Any = (across, "data")
    how: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
    ax.annotate(text, place, xycoords=coords, fontsize=SMALL, color=now().ink, parse_math=False, **how)


def colour_map(stops: tuple[str, ...]) -> Colormap:
    """Return the colour map that goes evenly through some colours."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("xpnet", stops)


def luminance(rgba: NDArray[Any]) -> float:
    """Return how bright a colour is, from 0 to 1, as WCAG 2 defines it: https://www.w3.org/TR/WCAG21/"""
    c = np.asarray(rgba[:3], dtype=float)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
