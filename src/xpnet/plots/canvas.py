"""The parts that all pictures share: colours, sizes, empty figures and sheets, and writing to a file."""

from __future__ import annotations

import base64
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
    """The colours of pictures: paper, text, lines, and colours with a fixed meaning."""

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
    """The colour of text about correct answers, as `wrong` is of wrong ones; on white, both are darker for contrast."""
    wrong: str = "#a04600"
    shares: tuple[str, ...] = ("#f7fbff", "#6baed6", "#08306b")
    """From none to all."""
    signs: tuple[str, ...] = ("#b2182b", "#f4a582", "#ffffff", "#92c5de", "#2166ac")
    """From negative to positive, with zero in the middle."""

    @property
    def series(self) -> tuple[str, ...]:
        """The colours of series without a fixed colour, in order of use."""
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
    """Return the current style."""
    return _style.get()


@contextlib.contextmanager
def style(name: str) -> Iterator[None]:
    """Draw the figures of a ``with`` block in another style.

    Parameters
    ----------
    name : {"light", "dark"}
        ``"light"`` draws on white, and is the default. ``"dark"`` draws in light colours without a background, for a
        dark page.

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
"""Options that draw images with the first row on top, square pixels and no blurring."""

WIDTH = 5.2
"""Inches. On a phone of 390 pixels a point is then 1.04 pixels, so text should have at least 9 points."""
DPI = 160
POINTS = 72.0
TITLE, TEXT, SMALL = 12.0, 10.0, 9.0
"""Font sizes, in points."""
MARGIN = 12.0
"""The margin at the sides of a sheet, in points."""


# Into a file ----------------------------------------------------------------------------------------------------------


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file, atomically.

    PNG, SVG and PDF files contain the figure's title and its description in words (`alt_text`). An SVG holds them in
    ``<title>`` and ``<desc>``, which screen readers read.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        A figure from any function of this package, or your own.
    path : path-like
        The file, whose suffix determines the format: ``.png``, ``.svg``, ``.pdf``, ...

    Raises
    ------
    ValueError
        If matplotlib does not support the format.
    OSError
        If the file cannot be written; an old one does not change.

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
    """Return a figure as the bytes of a file, such as ``"png"`` or ``"svg"``; always the same for the same figure."""
    import matplotlib

    title, words = " ".join(figure.get_suptitle().split()), alt_text(figure)
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Title": title, "Description": words},
        # Without dates and random names, the same figure gives the same bytes.
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


def image_tag(data: str, words: str, width: int, kind: str = "png") -> str:
    """Return the HTML of a base64-encoded picture with its description.

    A notebook that is opened without being run shows pictures in such tags only: it strips ``<svg>``.
    """
    source = f"data:image/{kind};base64,{data}"
    return f'<img src="{source}" alt="{html.escape(words)}" width="{width}" style="max-width:100%">'


def svg_tag(svg: str, words: str, width: int) -> str:
    """Return the HTML of an SVG with its description."""
    return image_tag(base64.b64encode(svg.encode()).decode(), words, width, "svg+xml")


def alt_text(figure: Figure) -> str:
    """Return a figure's description in words, for those who cannot see it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        A figure from any function of this package.

    Returns
    -------
    str
        The description; empty for other figures.

    Examples
    --------
    >>> from xpnet import plots
    >>> plots.alt_text(plots.confusion_matrix([[8, 2], [1, 9]], title="mlp on coins"))
    'mlp on coins. Confusion matrix of 2 classes: 17 of 20 right, accuracy 0.8500.'
    """
    return str(figure.get_label() or "")


def described(figure: Figure, words: str) -> Figure:
    """Set the description that `alt_text` returns, and return the figure."""
    figure.set_label(words)
    return figure


# Empty figures --------------------------------------------------------------------------------------------------------


def new_figure(title: str, width: float, height: float) -> Figure:
    """Return an empty figure, with its size in inches, whose panels make room for each other."""
    from xpnet.plots.figure import XPFigure

    figure = XPFigure(figsize=(width, height), dpi=100, layout="constrained", facecolor=now().paper)
    figure.suptitle(_wrapped(title, width), fontsize=TITLE, color=now().ink, parse_math=False)
    return figure


def new_sheet(title: str, note: str, height: float) -> tuple[Figure, Axes, float]:
    """Return a figure in coordinates of points from its top left corner, and the first free position below its title.

    Galleries and diagrams are drawn on it at fixed positions.
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
    """Write plain text on a sheet, where a dollar sign does not begin a formula."""
    placed = {"ha": "center", "va": "center"} | how
    ax.text(x, y, text, fontsize=size, color=color or now().ink, parse_math=False, **placed)


def _wrapped(title: str, width: float) -> str:
    """Break a title into lines that fit a figure's width in inches."""
    return "\n".join(textwrap.wrap(title, int(width * POINTS / (0.62 * TITLE)))) or " "


def shorten(text: str, most: int) -> str:
    """Cut a text to at most ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def clean(ax: Axes) -> None:
    """Remove spines and ticks that do not help to read a panel."""
    colours = now()
    ax.set_facecolor("none")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(colours.faint)
    ax.tick_params(labelsize=SMALL, colors=colours.ink)
    ax.grid(axis="y", color=colours.rule, lw=0.7)
    ax.set_axisbelow(True)


def head(ax: Axes, text: str) -> None:
    """Write a panel's title above its left edge."""
    ax.set_title(text, fontsize=TEXT, color=now().ink, loc="left", parse_math=False)


def name_axes(ax: Axes, x: str = "", y: str = "") -> None:
    """Name a panel's axes."""
    ax.set_xlabel(x, fontsize=TEXT, color=now().ink)
    ax.set_ylabel(y, fontsize=TEXT, color=now().ink)


def name_rows(ax: Axes, names: list[str]) -> None:
    """Give a panel one row per name, the first on top, without drawing the axis."""
    ax.set_yticks(range(len(names)), names, fontsize=SMALL, color=now().ink, parse_math=False)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(False)
    ax.spines["left"].set_visible(False)


def beside(ax: Axes, text: str, place: tuple[float, float], across: str = "axes fraction") -> None:
    """Write to the right of a position in a panel; its vertical coordinate is in data, its horizontal in ``across``."""
    coords: Any = (across, "data")
    how: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
    ax.annotate(text, place, xycoords=coords, fontsize=SMALL, color=now().ink, parse_math=False, **how)


def colour_map(stops: tuple[str, ...]) -> Colormap:
    """Return the colour map that passes evenly through some colours."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("xpnet", stops)


def luminance(rgba: NDArray[Any]) -> float:
    """Return the relative luminance of a colour, from 0 to 1, as defined by WCAG 2: https://www.w3.org/TR/WCAG21/"""
    c = np.asarray(rgba[:3], dtype=float)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
