"""HTML displays of objects in a notebook, made of tables and pictures.

The ``_repr_html_`` of each class calls a function here. Only widths and alignment are styled, so that the result suits
light and dark notebooks.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet import plots
from xpnet.plots import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xpnet.data.datasets import Dataset
    from xpnet.nn.network import Network
    from xpnet.runs.evaluation import Evaluation
    from xpnet.runs.history import History, Record
    from xpnet.runs.run import Run

COLUMNS = {
    "epoch": "epoch",
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "seconds": "seconds",
}
"""The readable names of a record's quantities."""


# Pieces ---------------------------------------------------------------------------------------------------------------


def picture(figure: Figure) -> str:
    """Return a figure as an image with its description."""
    png = base64.b64encode(canvas.render(figure, "png")).decode()
    return canvas.image_tag(png, canvas.alt_text(figure), round(100 * figure.get_figwidth()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, marked: int | None = None, caption: str = "") -> str:
    """Return an HTML table with right-aligned numbers; one row may be in bold."""
    lines = [f"<caption>{html.escape(caption)}</caption>"] if caption else []
    lines.append(_row("th", head))
    for i, row in enumerate(rows):
        lines.append(_row("td", row, "font-weight:bold" if i == marked else ""))
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[str], style: str = "") -> str:
    inside = "".join(f'<{tag} style="text-align:right">{html.escape(cell)}</{tag}>' for cell in cells)
    return f'<tr style="{style}">{inside}</tr>'


def number(name: str, value: float | None) -> str:
    """Return one quantity of a record as text, empty if it was not measured."""
    if value is None:
        return ""
    return str(value) if name == "epoch" else f"{value:.2f}" if name == "seconds" else f"{value:.4f}"


def measured_columns(history: Iterable[Record]) -> list[str]:
    """Return the names of the quantities that were measured in some epoch."""
    records = list(history)
    return [name for name in COLUMNS if any(getattr(record, name) is not None for record in records)]


# Objects --------------------------------------------------------------------------------------------------------------

SHOWN = 30
"""The largest number of epochs shown in full; a longer history shows the first and last ten, and the best."""


def history_html(history: History) -> str:
    """Show the records as a table with the best epoch marked."""
    if not len(history):
        return "<p>No epochs yet.</p>"
    names = measured_columns(history)
    metric = "val_accuracy" if "val_accuracy" in names else "test_accuracy" if "test_accuracy" in names else ""
    best = list(history).index(history.best(metric)) if metric else None
    n = len(history)
    kept = [i for i in range(n) if n <= SHOWN or i < 10 or i >= n - 10 or i == best]
    rows, marked = [], None
    for before, i in zip([-1, *kept], kept, strict=False):
        if i > before + 1:
            rows.append(["…"] * len(names))
        marked = len(rows) if i == best else marked
        rows.append([number(name, getattr(history[i], name)) for name in names])
    caption = f"In bold: the epoch with the highest {COLUMNS[metric]}." if metric else ""
    return table([COLUMNS[name] for name in names], rows, marked=marked, caption=caption)


def run_html(run: Run) -> str:
    """Show title, outcome and curves."""
    record, epochs = run.record, len(run.history)
    shown = ("val_accuracy", "test_accuracy")
    reached = [f"{COLUMNS[n]} {getattr(record, n):.4f}" for n in shown if getattr(record, n) is not None]
    outcome = f"{epochs} epoch{'' if epochs == 1 else 's'} in {run.history.seconds:.1f} s"
    return (
        f"<p><b>{html.escape(run.title)}</b><br>{outcome}; epoch {record.epoch}: {', '.join(reached)}; "
        f"{run.network.size:,} parameters</p>{picture(run.plot())}"
    )


def network_html(network: Network) -> str:
    """Show the diagram and the summary, or only the summary if a layer cannot be drawn."""
    summary = f'<pre style="font-family:monospace">{html.escape(network.summary())}</pre>'
    try:
        return picture(plots.network_diagram(network)) + summary
    except ValueError:
        return summary


def dataset_html(data: Dataset) -> str:
    """Show the sizes, the number of samples of each class, and a row of samples."""
    counts = [np.bincount(labels, minlength=data.classes) for labels in (data.train_labels, data.test_labels)]
    head = ["class", *class_names(data)]
    rows = [[name, *(f"{n:,}" for n in row)] for name, row in zip(("training", "test"), counts, strict=True)]
    count = min(6, len(data.train_images))
    figure = plots.image_row(data.train_images, data.train_labels, count=count, title=f"some images of {data.name}")
    return f"<p>{html.escape(repr(data))}</p>{table(head, rows)}{picture(figure)}"


def class_names(data: Any) -> list[str]:
    """Return the names of a dataset's classes."""
    names = getattr(data, "class_names", None)
    return [str(k) for k in range(data.classes)] if names is None else [str(name) for name in names]


def evaluation_html(evaluation: Evaluation) -> str:
    """Show the confusion matrix, and precision and recall of each class."""
    names = evaluation.class_names or None
    figure = plots.confusion_matrix(evaluation.confusion, title="Confusion matrix", class_names=names)
    head, *rows = evaluation.rows()
    return picture(figure) + table(head, rows)


# A run that goes on ---------------------------------------------------------------------------------------------------

LAST = 8
"""The number of epochs shown during a run."""


def progress_html(header: str, history: History, done: float, epochs: int, elapsed: float, left: float | None) -> str:
    """Show the progress of a run: its header, a bar, the curves so far, and the last epochs."""
    times = f"{clock(elapsed)} so far" + ("" if left is None or done >= epochs else f", {clock(left)} left")
    bar = f'<progress value="{done:.3f}" max="{epochs}" style="width:16em"></progress>'
    now = f"{len(history)} of {epochs} epochs, {times}"
    shown = [f"<p>{html.escape(header).replace(chr(10), '<br>')}</p>", f"<p>{bar} {now}</p>"]
    if len(history):
        names, last = measured_columns(history), list(history)[-LAST:]
        rows = [[number(name, getattr(record, name)) for name in names] for record in last]
        shown += [accuracy_picture(history), table([COLUMNS[name] for name in names], rows)]
    return "".join(shown)


def clock(seconds: float) -> str:
    """Return a duration as text."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def accuracy_picture(history: History, width: int = 420, height: int = 110) -> str:
    """Draw the accuracies so far as a little SVG, which is cheap enough for frequent updates."""
    sets = [(name, colour, history.column(f"{key}_accuracy")) for key, (name, colour, _) in canvas.now().sets.items()]
    curves = [(name, colour, [(e, v) for e, v in enumerate(values) if v is not None]) for name, colour, values in sets]
    heights = [v for _, _, curve in curves for _, v in curve]
    low, high = min(heights), max(max(heights), min(heights) + 0.01)
    across, up = (width - 120) / max(1, len(history) - 1), (height - 8) / (high - low)
    drawn, said = [], []
    for i, (name, colour, curve) in enumerate(curves):
        if curve:
            points = " ".join(f"{4 + e * across:.1f},{4 + (high - v) * up:.1f}" for e, v in curve)
            drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
            drawn.append(f'<text x="{width - 108}" y="{16 + 18 * i}" fill="{colour}">{name} {curve[-1][1]:.4f}</text>')
            said.append(f"{name} {curve[-1][1]:.4f}")
    words = html.escape(f"Accuracy so far, from {low:.4f} to {high:.4f}; now {', '.join(said)}.")
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    style = 'role="img" style="max-width:100%" font-family="sans-serif" font-size="12"'
    inside = f"<title>{words}</title>{''.join(drawn)}"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{inside}</svg>'
    return canvas.svg_tag(svg, html.unescape(words), width)
