"""A network's diagram."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from xpnet.plots.canvas import MARGIN, POINTS, SMALL, TEXT, WIDTH, described, new_sheet, now, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xpnet.nn.network import Network


class _Stage(NamedTuple):
    """A column of the diagram: its shape, and the layers and the number of parameters written below it."""

    shape: tuple[int, ...]
    names: list[str]
    parameters: int


def network_diagram(network: Network, *, title: str = "The network") -> Figure:
    """Draw a network, with a column of nodes for each vector and a stack of planes for each image.

    Layers that keep the shape and do not mix features (activations, dropout, normalization) are written below the
    column of their input.

    Parameters
    ----------
    network : Network
        The network, with or without weights.
    title : str
        The title, which should name the recipe and the dataset.

    Returns
    -------
    matplotlib.figure.Figure
        The diagram; long networks continue in further rows.

    Raises
    ------
    ValueError
        If your own layer returns samples with more than three axes.

    Examples
    --------
    >>> from xpnet import Dense, Network, ReLU, plots
    >>> net = Network([Dense(100), ReLU(), Dense(10)], input_shape=(64,))
    >>> plots.alt_text(plots.network_diagram(net, title="mlp on digits"))
    'mlp on digits. A network of 7,510 parameters: input: 64; Dense(100) ReLU: 100; Dense(10): 10.'
    """
    stages = _stages(network)
    per_row = math.ceil(len(stages) / math.ceil(len(stages) / 4))
    rows = [stages[i : i + per_row] for i in range(0, len(stages), per_row)]
    width = (POINTS * WIDTH - 2 * MARGIN) / per_row
    texts = [[_stage_text(stage, width) for stage in row] for row in rows]
    heights = [PICTURE + LINE * (1 + max(map(len, row))) + 16 for row in texts]
    figure, ax, y = new_sheet(title, f"{network.size:,} parameters", sum(heights))
    sizes = _picture_sizes(stages)
    for row, lines, height in zip(rows, texts, heights, strict=True):
        centres = [(MARGIN + width * (i + 0.5), y + LINE + 4 + PICTURE / 2) for i in range(len(row))]
        _draw_row(ax, row, centres, sizes, first=row is rows[0], last=row is rows[-1])
        for (x, middle), stage, written in zip(centres, row, lines, strict=True):
            write(ax, x, y + LINE / 2, _size_text(stage.shape), size=TEXT, weight="bold")
            for i, (text, colour) in enumerate(written):
                write(ax, x, middle + PICTURE / 2 + 4 + LINE * (i + 0.5), text, color=colour)
        y += height
    steps = "; ".join(f"{' '.join(s.names)}: {_size_text(s.shape)}" for s in stages)
    return described(figure, f"{title}. A network of {network.size:,} parameters: {steps}.")


PICTURE = 112.0
"""The height of the columns in a network's diagram, in points."""
LINE = 1.3 * SMALL
"""The distance of lines of text, in points."""


def _stages(network: Network) -> list[_Stage]:
    """Sort layers into columns; a new column begins where the shape changes or where a layer mixes features."""
    stages = [_Stage(_checked_shape("input_shape", network.input_shape), ["input"], 0)]
    for layer, output_shape, count in zip(network.layers, network.shapes[1:], network.sizes, strict=True):
        name, shape, last = _short_name(str(layer)), _checked_shape(str(layer), output_shape), stages[-1]
        # A normalization has a scale and a shift per feature; a layer that mixes features has more parameters.
        if shape == last.shape and count <= 2 * shape[-1]:
            stages[-1] = _Stage(shape, [*last.names, name], last.parameters + count)
        else:
            stages.append(_Stage(shape, [name], count))
    return stages


def _short_name(name: str) -> str:
    """Remove keyword arguments from a layer's name: ``Conv2D(16, 3, padding='same')`` becomes ``Conv2D(16, 3)``."""
    return re.sub(r"(, )?\b\w+=.*\)$", ")", name).removesuffix("()")


def _checked_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in shape)
    if not 1 <= len(sizes) <= 3 or min(sizes) < 1:
        raise ValueError(
            f"{name}: its shape is {sizes}; it must be (features,), (height, width) or (height, width, channels)"
        )
    return (*sizes, 1) if len(sizes) == 2 else sizes


def _size_text(shape: tuple[int, ...]) -> str:
    return "×".join(f"{size:,}" for size in shape)


def _stage_text(stage: _Stage, width: float) -> list[tuple[str, str]]:
    """Return the lines below a column, whose width is in points, with their colours."""
    characters = int(width / (0.58 * SMALL))
    lines = [(line, now().ink) for name in stage.names for line in textwrap.wrap(name, characters)]
    if stage.parameters:
        lines += [(line, now().faint) for line in textwrap.wrap(f"{stage.parameters:,} parameters", characters)]
    return lines


def _picture_sizes(stages: Sequence[_Stage]) -> dict[tuple[int, ...], tuple[float, float]]:
    """Return the drawn width and height, in points, of the planes of each shape."""
    shapes = {stage.shape for stage in stages if len(stage.shape) == 3}
    largest = max((max(shape[:2]) for shape in shapes), default=1)
    # Sides are proportional to the root of the size; otherwise a kernel would be invisible in the smallest planes.
    return {
        shape: (
            max(12.0, 58.0 * math.sqrt(shape[1] / largest)),
            max(12.0, 58.0 * math.sqrt(shape[0] / largest)),
        )
        for shape in shapes
    }


def _draw_row(
    ax: Axes,
    row: Sequence[_Stage],
    centres: Sequence[tuple[float, float]],
    sizes: Mapping[tuple[int, ...], tuple[float, float]],
    *,
    first: bool,
    last: bool,
) -> None:
    """Draw one row of columns, their connections, and arrows from the previous row and to the next."""
    for i, (stage, (x, y)) in enumerate(zip(row, centres, strict=True)):
        is_output = last and i == len(row) - 1
        colour = now().sky if first and i == 0 else now().orange if is_output else now().purple
        if len(stage.shape) == 3:
            _draw_planes(ax, _planes(x, y, stage.shape, sizes), colour)
        else:
            _draw_nodes(ax, x, _node_heights(y, stage.shape[0]), stage.shape[0], colour, numbered=is_output)
    for (a, (x0, y0)), (b, (x1, y1)) in itertools.pairwise(zip(row, centres, strict=True)):
        if len(a.shape) == len(b.shape) == 3:
            _connect_planes(ax, _planes(x0, y0, a.shape, sizes)[-1], _planes(x1, y1, b.shape, sizes)[-1])
            continue
        starts, ends = _ports(x0, y0, a, sizes), _ports(x1, y1, b, sizes)
        if len(a.shape) == 3:  # Two lines from the corners show that the whole image is unrolled into the vector.
            lines = [(starts[0], ends[0]), (starts[1], ends[-1])]
        else:
            lines = list(itertools.product(starts, ends))
        for line in lines:
            ax.plot(*zip(*line, strict=True), color=now().faint, lw=0.5, alpha=0.45, ls="-", zorder=1)
    (x, y), (x_last, _) = centres[0], centres[-1]
    if not first:
        _arrow(ax, 1, x - 40, y)
    if not last:
        _arrow(ax, x_last + 40, POINTS * WIDTH - 1, y)


def _arrow(ax: Axes, x0: float, x1: float, y: float) -> None:
    """Draw an arrow from a row's end, or to its start, across the margin."""
    arrow = {"arrowstyle": "->", "color": now().faint, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    if x1 - x0 > 40:
        x0, x1 = (x0, x0 + 40) if x0 > POINTS * WIDTH / 2 else (x1 - 40, x1)
    ax.annotate("", (x1, y), (x0, y), arrowprops=arrow)


def _node_heights(y: float, n: int) -> list[float]:
    """Return the vertical positions of a column's nodes: all of them, or the first and last four of more than ten."""
    slots = min(n, 10)
    spacing = min(PICTURE / slots, 20.0)
    heights = [y + (i - (slots - 1) / 2) * spacing for i in range(slots)]
    return heights if n <= 10 else heights[:4] + heights[-4:]


def _draw_nodes(ax: Axes, x: float, heights: Sequence[float], n: int, colour: str, *, numbered: bool) -> None:
    """Draw a vector as a column of nodes, with dots for omitted ones."""
    if n > 10:
        middle = (heights[0] + heights[-1]) / 2
        ax.plot([x] * 3, [middle - 5, middle, middle + 5], "o", ms=1.8, color=now().ink, zorder=3)
    ax.plot([x] * len(heights), heights, "o", ms=8.5, mfc=colour, mec=now().ink, mew=0.7, ls="none", zorder=3)
    if numbered and n <= 10:
        for i, height in enumerate(heights):
            write(ax, x + 9, height, str(i), ha="left")


Box = tuple[float, float, float, float]
Sizes = Mapping[tuple[int, ...], tuple[float, float]]


def _planes(x: float, y: float, shape: tuple[int, ...], sizes: Sizes) -> list[Box]:
    """Return left, top, width and height of an image's planes, at most four, from back to front."""
    width, height = sizes[shape]
    count = min(shape[2], 4)
    shifts = [4.0 * ((count - 1) / 2 - i) for i in range(count)]
    return [(x - width / 2 + shift, y - height / 2 - shift, width, height) for shift in shifts]


def _draw_planes(ax: Axes, planes: Sequence[Box], colour: str) -> None:
    """Draw an image as a stack of planes."""
    from matplotlib.patches import Rectangle

    for left, top, width, height in planes:
        ax.add_patch(Rectangle((left, top), width, height, fc=colour, ec=now().ink, lw=0.7, zorder=2))


def _connect_planes(ax: Axes, source: Box, target: Box) -> None:
    """Draw the square of an image that a kernel covers, and lines to the resulting value."""
    from matplotlib.patches import Rectangle

    (left, top, width, height), (x, y, w, h) = source, target
    corner, end = (left + 0.55 * width, top + 0.2 * height), (x + 0.25 * w, y + 0.35 * h)
    ax.add_patch(Rectangle(corner, width / 3, height / 3, fc="white", ec=now().ink, lw=0.7, alpha=0.85, zorder=3))
    for start in ((corner[0] + width / 3, corner[1]), (corner[0] + width / 3, corner[1] + height / 3)):
        ax.plot(*zip(start, end, strict=True), color=now().ink, lw=0.6, ls="-", zorder=4)
    ax.plot(*end, "s", ms=3, mfc="white", mec=now().ink, mew=0.6, zorder=5)


def _ports(x: float, y: float, stage: _Stage, sizes: Sizes) -> list[tuple[float, float]]:
    """Return the end points of lines: the nodes of a vector, or the outer corners of an image's stack."""
    if len(stage.shape) == 1:
        return [(x, height) for height in _node_heights(y, stage.shape[0])]
    planes = _planes(x, y, stage.shape, sizes)
    (left, top, width, _), (front, bottom, _, height) = planes[0], planes[-1]
    return [(left + width, top), (front + width, bottom + height)]
