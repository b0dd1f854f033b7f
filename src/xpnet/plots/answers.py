"""A network's correct and wrong answers: the confusion matrix and the misclassified images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.plots.canvas import (
    PIXELS,
    POINTS,
    SMALL,
    TEXT,
    TITLE,
    WIDTH,
    colour_map,
    described,
    luminance,
    name_axes,
    new_figure,
    new_sheet,
    now,
    shorten,
    write,
)
from xpnet.plots.pictures import as_pictures, gallery, grey_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def confusion_matrix(matrix: ArrayLike, *, title: str, class_names: Sequence[str] | None = None) -> Figure:
    """Draw how many samples of each class were predicted as each class.

    Parameters
    ----------
    matrix : array of integers, shape (classes, classes)
        Counts, with a row for each true class and a column for each predicted class.
    title : str
        The title, which should name the recipe, the dataset and the backend.
    class_names : sequence of str, optional
        By default ``0``, ``1``, ...

    Returns
    -------
    matplotlib.figure.Figure
        The counts, each on a blue that deepens with its share of the row. If there are too many classes to read the
        counts, a line says so instead.

    Raises
    ------
    ValueError
        If the matrix is not square, if it does not hold counts, or if the number of names is wrong.

    Examples
    --------
    >>> from xpnet import plots
    >>> plots.alt_text(plots.confusion_matrix([[8, 2], [1, 9]], title="mlp on coins", class_names=["heads", "tails"]))
    'mlp on coins. Confusion matrix of 2 classes: 17 of 20 right, accuracy 0.8500.'
    """
    counts = _checked_counts(matrix)
    k = len(counts)
    names = [str(i) for i in range(k)] if class_names is None else list(map(str, class_names))
    if len(names) != k:
        raise ValueError(f"class_names: there are {len(names)} for {k} classes")
    total, right = int(counts.sum()), int(np.trace(counts))
    accuracy = f"{right:,} of {total:,} right, accuracy {right / max(total, 1):.4f}"
    side = min(WIDTH - 0.9, max(2.6, 0.8 * k))
    cell = POINTS * side / k
    size = min(TEXT, 0.95 * cell / (0.64 * len(str(counts.max()))), cell / 1.6)
    figure = new_figure(title, side + 0.9, side + 1.5)
    ax = figure.subplots()
    note = "" if size >= 5 else "\ntoo many classes to write the counts"
    ax.set_title(f"{accuracy}{note}", fontsize=TEXT, color=now().ink)
    _draw_shares(figure, ax, counts)
    if not note:
        _write_counts(ax, counts, size)
    _name_classes(ax, [shorten(name, 16) for name in names], cell)
    return described(figure, f"{title}. Confusion matrix of {k} classes: {accuracy}.")


def _checked_counts(matrix: ArrayLike) -> NDArray[Any]:
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ValueError(f"matrix: its shape is {counts.shape}; it must be (classes, classes)")
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ValueError("matrix: must hold counts, integers from 0 on")
    return counts


def _shares(counts: NDArray[Any]) -> NDArray[Any]:
    """Divide each row by its sum; a class without samples has a row of zeros."""
    shares: NDArray[Any] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _draw_shares(figure: Figure, ax: Axes, counts: NDArray[Any]) -> None:
    """Draw each cell in the colour of its share, and a colour bar below."""
    from matplotlib.colors import PowerNorm

    # Confusions are a few percent of a row; the square root makes them stand out from the paper.
    picture = ax.imshow(_shares(counts), cmap=colour_map(now().shares), norm=PowerNorm(0.5, 0, 1), **PIXELS)
    ax.grid(False)
    bar = figure.colorbar(picture, ax=ax, location="bottom", pad=0.02, aspect=40, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.set_xticklabels(["0", "1%", "5%", "20%", "50%", "100%"])
    bar.ax.tick_params(labelsize=SMALL, colors=now().ink, length=2)
    bar.ax.minorticks_off()
    bar.set_label("share of the true class", fontsize=SMALL, color=now().ink)
    bar.outline.set_visible(False)


def _write_counts(ax: Axes, counts: NDArray[Any], size: float) -> None:
    """Write the counts, dark or white in contrast to the cell, and zeros faintly."""
    (picture,) = ax.images
    colours = picture.to_rgba(_shares(counts))
    for (row, column), count in np.ndenumerate(counts):
        dark = luminance(colours[row, column]) < 0.18
        colour = ("white" if dark else "#1a1a1a") if count else now().faint
        weight = "bold" if row == column else "normal"
        write(ax, column, row, str(count), size=size, color=colour, weight=weight)


def _name_classes(ax: Axes, names: Sequence[str], cell: float) -> None:
    """Write the classes along both axes, slanted if they are wider than a cell, given in points."""
    every = math.ceil(1.2 * SMALL / cell)  # With very many classes there is only room for some of the names.
    named = range(0, len(names), every)
    slanted = max(map(len, names)) * 0.62 * SMALL > cell * every
    ax.set_xticks(named, names[::every], parse_math=False)
    ax.set_yticks(named, names[::every], parse_math=False)
    ax.tick_params(length=0, labelsize=SMALL, colors=now().ink)
    if slanted:
        for label in ax.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    name_axes(ax, "predicted", "true")
    for spine in ax.spines.values():
        spine.set_color(now().rule)


def mistakes(
    images: ArrayLike,
    true_labels: ArrayLike,
    predicted_labels: ArrayLike,
    *,
    title: str,
    limit: int = 24,
    probabilities: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draw misclassified images with their predicted and true labels.

    Parameters
    ----------
    images : array, shape (n, h, w), (n, h, w, channels) or (n, features)
        All classified images, correct or not. Features are drawn as a square if they fill one.
    true_labels, predicted_labels : array, shape (n,)
        The labels of the images, and the predictions.
    title : str
        The title, which should name the recipe, the dataset and the backend.
    limit : int
        The largest number of images to draw.
    probabilities : array, shape (n,) or (n, classes), optional
        The probability of the predicted label, or of all classes. They are written beside the predictions, and the
        network's surest mistakes come first. Without them, the mistakes come in the order of the images.

    Returns
    -------
    matplotlib.figure.Figure
        A gallery; if there are no mistakes, a sheet that says so.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, if there are no images, or if the limit is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import plots
    >>> images = np.random.default_rng(0).random((4, 8, 8))
    >>> plots.alt_text(plots.mistakes(images, [3, 1, 4, 1], [3, 7, 4, 1], title="mlp on digits"))
    'mlp on digits. 1 of 4 images misclassified (25.00%).'
    """
    pictures = as_pictures(images)
    true, predicted = np.asarray(true_labels), np.asarray(predicted_labels)
    n = len(pictures)
    for name, labels in (("true_labels", true), ("predicted_labels", predicted)):
        if labels.shape != (n,):
            raise ValueError(f"{name}: its shape is {labels.shape}; {n} images need ({n},)")
    if limit < 1:
        raise ValueError(f"limit={limit}: must be at least 1")
    wrong = np.flatnonzero(true != predicted)
    certainty = None if probabilities is None else _certainty(probabilities, predicted)
    if certainty is not None:
        wrong = wrong[np.argsort(-certainty[wrong], kind="stable")]
    note = _mistakes_note(n, len(wrong), limit, certainty is not None)
    shown = wrong[:limit]

    def named(label: Any) -> str:
        return str(label) if class_names is None else shorten(str(class_names[label]), 10)

    sure = ["" if certainty is None else f" ({certainty[i]:.0%})" for i in shown]
    captions = [
        [(f"predicted {named(predicted[i])}{s}", now().wrong), (f"true {named(true[i])}", now().ink)]
        for i, s in zip(shown, sure, strict=True)
    ]
    if len(wrong):
        figure = gallery(pictures[shown], captions, title=title, note=note, limits=grey_limits(pictures))
    else:
        figure, ax, top = new_sheet(title, note, 70)
        write(ax, POINTS * WIDTH / 2, top + 35, "No mistakes", size=2 * TITLE, color=now().right)
    return described(figure, f"{title}. {note}.")


def _mistakes_note(n: int, wrong: int, limit: int, sorted_by_certainty: bool) -> str:
    if not wrong:
        return f"all {n:,} images are classified right"
    note = f"{wrong:,} of {n:,} images misclassified ({wrong / n:.2%})"
    if sorted_by_certainty:
        return f"{note}; {'all' if wrong <= limit else f'the {limit} surest'}, the surest first"
    return note if wrong <= limit else f"{note}; the first {limit}"


def _certainty(probabilities: ArrayLike, predicted: NDArray[Any]) -> NDArray[Any]:
    """Return the probability of each prediction."""
    p, n = np.asarray(probabilities, dtype=float), len(predicted)
    if p.ndim == 2 and len(p) == n and predicted.dtype.kind in "iu":
        if predicted.min() < 0 or predicted.max() >= p.shape[1]:
            raise ValueError(f"probabilities: of {p.shape[1]} classes, but a label is beyond")
        p = p[np.arange(n), predicted]
    if p.shape != (n,):
        raise ValueError(f"probabilities: the shape is {p.shape}; it must be ({n},) or ({n}, classes)")
    return p
