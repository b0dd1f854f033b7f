"""Recipes and backends compared: what they reach, and how long they take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.plots.canvas import (
    BLUE,
    FAINT,
    INK,
    POINTS,
    RULE,
    SERIES,
    SETS,
    SMALL,
    TEXT,
    WIDTH,
    clean,
    described,
    new_figure,
    shorten,
)
from xpnet.plots.curves import fit_axes, measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xpnet.training.history import Record


def ladder(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw what each recipe reaches, and how long it takes.

    Parameters
    ----------
    rows : sequence of mapping
        In the order of the ladder, each with ``recipe`` (str), ``seconds`` (more than 0) and ``test_accuracy``
        (from 0 to 1).
    title : str
        Should name the dataset and the backend.

    Returns
    -------
    matplotlib.figure.Figure
        A labelled point for each recipe, over seconds on a logarithmic axis. The accuracy's axis is spaced by the
        logarithm of the error: from 98% to 99% is as far as from 80% to 90%, for each halves the mistakes.

    Raises
    ------
    ValueError
        If there are no rows, or a value is missing or out of its range.

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
    seconds = [float(row["seconds"]) for row in rows]
    accuracies = [float(row["test_accuracy"]) for row in rows]
    figure = new_figure(title, WIDTH, 4.4)
    ax = figure.subplots()
    clean(ax)
    ax.grid(axis="x", color=RULE, lw=0.7)
    _log_seconds(ax, seconds)
    heights = _within_reach(accuracies)
    _error_spaced(ax, heights, top_is_one=1.0 in accuracies)
    ax.plot(seconds, heights, color="#aaaaaa", lw=1, ls=":", zorder=2)
    ax.plot(seconds, heights, "o", ms=9, mfc=BLUE, mec="white", mew=1, ls="none", zorder=3)
    labels = [f"{row['recipe']} {row['test_accuracy']:.4f}" for row in rows]
    _label_points(figure, ax, list(zip(seconds, heights, strict=True)), labels)
    told = "; ".join(f"{name} in {_seconds(s)}" for name, s in zip(labels, seconds, strict=True))
    return described(figure, f"{title}. Test accuracy: {told}.")


def comparison(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw one recipe on several backends: the curves over each other, the times side by side.

    Parameters
    ----------
    rows : sequence of mapping
        Each with ``backend`` (str), ``history`` (sequence of Record) and ``seconds`` (at least 0).
    title : str
        Should name the recipe and the dataset.

    Returns
    -------
    matplotlib.figure.Figure
        Curves that agree hide each other; so the first is the broadest and those after are ever narrower.

    Raises
    ------
    ValueError
        If there are no rows, or a value is missing or out of its range.

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
    figure = new_figure(title, WIDTH, max(3.6, 2.4 + 0.3 * len(rows)))
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    clean(left)
    for i, run in enumerate(runs):
        x, y = measured(run, f"{key}_accuracy")
        width = 8 - 6.5 * i / max(1, len(rows) - 1)
        marker = "o" if len(y) == 1 else ""
        left.plot(
            x,
            y,
            color=SERIES[i % len(SERIES)],
            lw=width,
            ls="-",
            marker=marker,
            ms=2 * width,
            label=str(rows[i]["backend"]),
            solid_capstyle="round",
        )
    fit_axes([left], runs, "accuracy")
    agreement = _agreement(runs, f"{key}_accuracy")
    left.set_title(f"{SETS[key][0]} accuracy\n{agreement}", fontsize=TEXT, color=INK, loc="left")
    _draw_times(right, rows)
    told = "; ".join(f"{row['backend']} {_seconds(row['seconds'])}" for row in rows)
    return described(figure, f"{title}. {SETS[key][0].capitalize()} accuracy, {agreement}. Times: {told}.")


def _agreement(runs: Sequence[Sequence[Record]], name: str) -> str:
    """Say how far the curves lie apart, in the epochs that all of them have."""
    curves = [dict(zip(*measured(run, name), strict=True)) for run in runs]
    shared = set.intersection(*map(set, curves))
    if len(runs) < 2 or not shared:
        return "a single curve" if len(runs) < 2 else "no epoch in common"
    apart = max(max(c[e] for c in curves) - min(c[e] for c in curves) for e in shared)
    return "the curves are the same" if apart == 0 else f"at most {apart:.2g} apart"


def _draw_times(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw a bar for each backend's seconds, in the colour of its curve."""
    clean(ax)
    ax.grid(False)
    seconds = [float(row["seconds"]) for row in rows]
    colours = [SERIES[i % len(SERIES)] for i in range(len(rows))]
    ax.barh(range(len(rows)), seconds, color=colours, height=0.6)
    for i, value in enumerate(seconds):
        ax.annotate(
            _seconds(value),
            (value, i),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=INK,
        )
    names = [shorten(str(row["backend"]), 18) for row in rows]
    ax.set_yticks(range(len(rows)), names, fontsize=SMALL, color=INK, parse_math=False)
    ax.set(xlim=(0, 1.35 * max(seconds) or 1.0), ylim=(len(rows) - 0.5, -0.5), xticks=[])
    ax.tick_params(length=0)
    ax.spines["bottom"].set_visible(False)
    ax.set_title("training time\n(the colours are those of the curves)", fontsize=TEXT, color=INK, loc="left")


def _check_rows(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    if not len(rows):
        raise ValueError("rows: there are none to draw")
    for i, row in enumerate(rows):
        for key in keys:
            if row.get(key) is None:
                raise ValueError(f"rows: number {i} has no {key}; each needs {', '.join(keys)}")


def _seconds(value: float) -> str:
    return f"{value:,.0f} s" if value >= 100 else f"{value:.3g} s"


def _log_seconds(ax: Axes, seconds: Sequence[float]) -> None:
    """Lay out a logarithmic axis on which even times that are close have ticks on both sides."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = math.log10(min(seconds)), math.log10(max(seconds))
    margin = max(0.1 * (high - low), 0.35 - (high - low) / 2)
    ax.set_xscale("log")
    ax.set_xlim(10 ** (low - margin), 10 ** (high + margin))
    steps = (1.0,) if high - low > 2 else (1.0, 2.0, 5.0) if high - low > 0.7 else (1.0, 2.0, 3.0, 4.0, 5.0, 7.0)
    ax.xaxis.set_major_locator(LogLocator(subs=steps))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
    ax.set_xlabel("training time in seconds", fontsize=TEXT, color=INK)


def _within_reach(accuracies: Sequence[float]) -> list[float]:
    """Return where to draw accuracies: 1 would be infinitely far up, so it stands where half the least error does."""
    least = min((1.0 - a for a in accuracies if a < 1), default=0.01)
    return [min(a, 1.0 - least / 2) for a in accuracies]


def _error_spaced(ax: Axes, accuracies: Sequence[float], *, top_is_one: bool) -> None:
    """Lay out an axis of accuracies on which equal steps divide the error by equal factors."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    def forward(y: Any) -> Any:
        return -np.log10(np.maximum(1.0 - np.asarray(y, dtype=float), 1e-9))

    def inverse(z: Any) -> Any:
        return 1.0 - 10.0 ** -np.asarray(z, dtype=float)

    heights = forward(accuracies)
    margin = 0.15 * float(np.ptp(heights)) or 0.15
    low, high = (float(inverse(z)) for z in (heights.min() - margin, heights.max() + margin))
    ax.set_yscale("function", functions=(forward, inverse))
    ax.set_ylim(low, high)
    ticks = [t for t in (0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999) if low < t < high]
    if len(ticks) < 3:
        ticks = [t for t in MaxNLocator(5).tick_values(low, high) if low < t < high]
    top = max(accuracies)
    if top_is_one:
        ticks = [*(t for t in ticks if t < low + 0.9 * (top - low)), top]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: "1" if top_is_one and y == top else f"{y:.10g}"))
    ax.set_ylabel("test accuracy, spaced by its error", fontsize=TEXT, color=INK)


def _label_points(figure: Figure, ax: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str]) -> None:
    """Write a label near each point, where it covers no other label and no point, and stays in the panel."""
    figure.draw_without_rendering()  # Where things are is known only once they are laid out.
    per_pixel = POINTS / figure.dpi
    places = np.asarray(ax.transData.transform(points)) * per_pixel
    frame = np.asarray(ax.get_window_extent().extents) * per_pixel
    taken = [np.concatenate([place - 6, place + 6]) for place in places]
    lines = [places]
    for place, label, point in zip(places, labels, points, strict=True):
        measured_text = ax.text(*point, label, fontsize=TEXT, parse_math=False)
        extent = measured_text.get_window_extent()
        measured_text.remove()
        half = np.array([extent.width, extent.height]) * per_pixel / 2 + 2
        offset = _best_offset(place, half, taken, frame, lines)
        taken.append(np.concatenate([place + offset - half, place + offset + half]))
        far = _is_far(offset, half)
        if far:
            lines.append(np.array([place, place + offset]))
        ax.annotate(
            label,
            point,
            xytext=(float(offset[0]), float(offset[1])),
            textcoords="offset points",
            fontsize=TEXT,
            color=INK,
            ha="center",
            va="center",
            parse_math=False,
            zorder=4,
            bbox={"fc": "white", "ec": "none", "pad": 0.5, "alpha": 0.8},
            arrowprops={"arrowstyle": "-", "color": FAINT, "lw": 0.7, "shrinkB": 6} if far else None,
        )


def _best_offset(
    place: NDArray[Any],
    half: NDArray[Any],
    taken: Sequence[NDArray[Any]],
    frame: NDArray[Any],
    lines: Sequence[NDArray[Any]],
) -> NDArray[Any]:
    """Return where from its point a label of a given half width and height stands best; the nearest, among equals."""
    offsets = list(_offsets(half))
    costs = [_cost(place, offset, half, taken, frame, lines) + 0.1 * i for i, offset in enumerate(offsets)]
    return offsets[int(np.argmin(costs))]


def _offsets(half: NDArray[Any]) -> Iterable[NDArray[Any]]:
    """Yield places for a label of a given half width and height, from near to far, in points from its point."""
    for distance in (6.0, 18.0, 32.0, 48.0, 70.0, 100.0):
        for across, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            diagonal = 0.7 if across and up else 1.0
            yield np.array([across, up]) * (half + distance * diagonal)


def _is_far(offset: NDArray[Any], half: NDArray[Any]) -> bool:
    """Say whether a label needs a line to its point."""
    return bool(np.hypot(*np.maximum(np.abs(offset) - half, 0)) > 14)


def _cost(
    place: NDArray[Any],
    offset: NDArray[Any],
    half: NDArray[Any],
    taken: Sequence[NDArray[Any]],
    frame: NDArray[Any],
    lines: Sequence[NDArray[Any]],
) -> float:
    """Say how bad a place for a label is.

    Worst is to cover a label or a point, then to stand out of the frame, then to have a line across another label;
    least, to stand on a line.
    """
    from matplotlib.path import Path
    from matplotlib.transforms import Bbox

    low, high = place + offset - half, place + offset + half
    covered = sum(bool(np.all(low < t[2:]) and np.all(t[:2] < high)) for t in taken)
    outside = bool(np.any(low < frame[:2]) or np.any(high > frame[2:]))
    box = Bbox([low, high])
    on_lines = sum(len(line) > 1 and Path(line).intersects_bbox(box, filled=False) for line in lines)
    crossed = 0
    if _is_far(offset, half):
        leader = Path([place + 0.2 * offset, place + offset])
        others = (t for t in taken if not np.allclose((t[:2] + t[2:]) / 2, place))
        crossed = sum(leader.intersects_bbox(Bbox([t[:2], t[2:]]), filled=False) for t in others)
    return 1000.0 * covered + 500.0 * outside + 50.0 * crossed + 0.3 * on_lines
