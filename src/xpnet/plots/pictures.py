"""Images and learned filters, one by one or in a gallery."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.plots.canvas import (
    MARGIN,
    PIXELS,
    POINTS,
    SMALL,
    WIDTH,
    colour_map,
    described,
    name_axes,
    new_figure,
    new_sheet,
    now,
    shorten,
    write,
)
from xpnet.random import generator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


def image(image: ArrayLike, label: object = None, *, title: str | None = None) -> Figure:
    """Draw one image with axes for rows and columns, and a scale of pixel values.

    Parameters
    ----------
    image : array, shape (h, w), (h, w, channels) or (features,)
        The pixels.
    label : int or str, optional
        The image's label.
    title : str, optional
        The title, such as the dataset's name.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the image has another number of axes, or no pixels.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet import plots
    >>> data = xpnet.load_dataset("digits")
    >>> plots.alt_text(plots.image(data.train_images[0], data.train_labels[0], title="digits"))
    'digits, label 0: 8 by 8 pixels.'
    """
    pixels = as_pictures(np.asarray(image)[None])
    low, high = grey_limits(pixels)
    caption = "" if label is None else f"label {label}"
    heading = ", ".join(part for part in (title, caption) if part) or "an image"
    _, h, w = pixels.shape[:3]
    figure = new_figure(heading, 4.6, min(7.0, max(1.8, 0.9 + (3.1 if pixels.ndim == 3 else 3.9) * h / w)))
    ax = figure.subplots()
    shown = ax.imshow(pixels[0], cmap="gray", vmin=low, vmax=high, **PIXELS)
    ax.grid(False)
    ax.tick_params(labelsize=SMALL, colors=now().ink)
    name_axes(ax, "column", "row")
    if pixels.ndim == 3:
        bar = figure.colorbar(shown, ax=ax, aspect=25)
        bar.ax.tick_params(labelsize=SMALL, colors=now().ink)
        bar.set_label("pixel value", fontsize=SMALL, color=now().ink)
    return described(figure, f"{heading}: {pixels.shape[1]} by {pixels.shape[2]} pixels.")


def image_row(
    images: ArrayLike,
    labels: ArrayLike,
    *,
    count: int = 6,
    seed: int = 0,
    title: str = "random images",
) -> Figure:
    """Draw a row of randomly chosen images with their labels.

    Parameters
    ----------
    images : array, shape (n, h, w), (n, h, w, channels) or (n, features)
        The images to choose from.
    labels : array, shape (n,)
        The labels of the images.
    count : int
        The number of images to draw; more than 8 continue in further rows.
    seed : int
        The same seed chooses the same images.
    title : str
        The title, which should name the dataset.

    Returns
    -------
    matplotlib.figure.Figure
        The images, each with its label and its index.

    Raises
    ------
    ValueError
        If there are fewer images than ``count``, or not as many labels as images.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet import plots
    >>> data = xpnet.load_dataset("digits")
    >>> figure = plots.image_row(data.train_images, data.train_labels, count=5, seed=1, title="digits")
    >>> len(figure.axes[0].images)
    5
    """
    pictures, names = as_pictures(images), np.asarray(labels)
    n = len(pictures)
    if names.shape != (n,):
        raise ValueError(f"labels: its shape is {names.shape}; {n} images need ({n},)")
    if not 1 <= count <= n:
        raise ValueError(f"count={count}: must be from 1 to the number of images, {n}")
    chosen = generator(seed, "pictures").choice(n, count, replace=False)
    captions = [[(f"label {names[i]}", now().ink), (f"image {i}", now().faint)] for i in chosen]
    figure = gallery(pictures[chosen], captions, title=title, most=min(count, 8), limits=grey_limits(pictures))
    shown = ", ".join(str(names[i]) for i in chosen)
    return described(figure, f"{title}: images with the labels {shown}.")


def filters(weights: ArrayLike, *, title: str, limit: int = 100) -> Figure:
    """Draw weights as pictures: the filters of a convolution, or the weights of each unit of a dense layer.

    Parameters
    ----------
    weights : array, shape (n, h, w)
        The filters; for a dense layer on images, ``weight.T.reshape(-1, h, w)``.
    title : str
        The title, which should name the layer, the recipe and the dataset.
    limit : int
        The largest number of filters to draw; if there are more, those with the largest weights are drawn.

    Returns
    -------
    matplotlib.figure.Figure
        The filters on one scale, where blue is positive, red negative and white zero.

    Raises
    ------
    ValueError
        If the shape is another, if a weight is not finite, or if the limit is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import plots
    >>> weight = np.random.default_rng(0).normal(size=(64, 20))  # Of Dense(20) on images of 8 by 8.
    >>> plots.alt_text(plots.filters(weight.T.reshape(-1, 8, 8), title="first layer"))
    'first layer. 20 filters of 8×8.'
    """
    w = np.asarray(weights, dtype=float)
    if w.ndim != 3 or not w.size:
        raise ValueError(f"weights: its shape is {w.shape}; it must be (filters, height, width)")
    if not np.isfinite(w).all():
        raise ValueError("weights: some are not finite")
    if limit < 1:
        raise ValueError(f"limit={limit}: must be at least 1")
    note = f"{len(w):,} filters of {w.shape[1]}×{w.shape[2]}"
    if len(w) > limit:
        note += f"; the {limit} with the largest weights"
        w = w[np.argsort(-np.sum(w**2, axis=(1, 2)), kind="stable")[:limit]]
    largest = float(np.abs(w).max()) or 1.0
    figure = gallery(
        w,
        [],
        title=title,
        note=note,
        columns=_columns(len(w)),
        limits=(-largest, largest),
        cmap=colour_map(now().signs),
        bar="weight",
    )
    return described(figure, f"{title}. {note}.")


def as_pictures(images: ArrayLike) -> NDArray[Any]:
    """Convert images to shape (n, h, w) in shades of grey, or (n, h, w, 3) in colours from 0 to 1."""
    x = np.asarray(images)
    if x.dtype.kind not in "biuf":
        raise ValueError(f"images: must hold numbers, not {x.dtype}")
    if not 2 <= x.ndim <= 4 or not x.size:
        raise ValueError(
            f"images: the shape is {x.shape}; it must be (n, h, w), (n, h, w, channels) or (n, features), and not empty"
        )
    if x.ndim == 2:
        side = math.isqrt(x.shape[1])
        return x.reshape(len(x), side, side) if side * side == x.shape[1] else x[:, None, :]
    if x.ndim == 3:
        return x
    if x.shape[3] == 3:
        low, high = grey_limits(x)
        return np.clip((x - low) / (high - low), 0, 1)
    return x[..., 0] if x.shape[3] == 1 else x.mean(axis=3)


def grey_limits(images: NDArray[Any]) -> tuple[float, float]:
    """Return the values to draw as black and as white: the smallest value, but at most zero, and the largest."""
    low, high = min(0.0, float(np.min(images))), float(np.max(images))
    return (low, high) if high > low else (low, low + 1.0)


def gallery(
    pictures: NDArray[Any],
    captions: Sequence[Sequence[tuple[str, str]]],
    *,
    title: str,
    limits: tuple[float, float],
    note: str = "",
    columns: int | None = None,
    most: int = 6,
    cmap: str | Colormap = "gray",
    bar: str = "",
) -> Figure:
    """Lay pictures out on a sheet, row by row, with lines of coloured text below each."""
    gap, lines = 6.0, max(map(len, captions), default=0)
    width = POINTS * WIDTH - 2 * MARGIN
    if columns is None:
        longest = max((len(text) for caption in captions for text, _ in caption), default=1)
        columns = max(2, min(most, int(width / (0.54 * SMALL * longest + gap))))
    if len(pictures) < columns and not captions:
        columns = max(1, len(pictures))
    pitch = min(width / columns, 120.0)
    side = min(pitch - gap, 88.0 if captions else pitch)
    # A picture keeps its proportions, unless it would become very thin.
    h, w = pictures.shape[1:3]
    size = (side * max(min(1.0, w / h), 0.2), side * max(min(1.0, h / w), 0.2))
    height = size[1] + 1.3 * SMALL * lines + (1.5 * gap if lines else gap)
    rows = math.ceil(len(pictures) / columns)
    figure, ax, top = new_sheet(title, note, rows * height + (30 if bar else 0))
    for i, picture in enumerate(pictures):
        in_row = min(columns, len(pictures) - i // columns * columns) if rows == 1 else columns
        x = MARGIN + width / 2 + (i % columns - in_row / 2 + 0.5) * pitch
        y = top + i // columns * height
        place_picture(ax, picture, (x - size[0] / 2, y), size, limits, cmap)
        for line, (text, colour) in enumerate(captions[i] if captions else ()):
            write(
                ax,
                x,
                y + size[1] + 3 + 1.3 * SMALL * line,
                shorten(text, max(6, int(pitch / (0.54 * SMALL)))),
                color=colour,
                va="top",
            )
    if bar:
        _colour_bar(figure, ax, bar)
    return figure


def _columns(count: int) -> int:
    """Return the number of pictures per row that gives a wide sheet and, if possible, a full last row."""
    ideal = math.sqrt(2.5 * count)
    return min(range(4, 9), key=lambda columns: abs(columns - ideal) + 2.0 * (count % columns > 0))


def place_picture(
    ax: Axes,
    picture: NDArray[Any],
    corner: tuple[float, float],
    size: tuple[float, float],
    limits: tuple[float, float],
    cmap: str | Colormap,
) -> None:
    """Draw a picture with a thin frame into a box, given by its top left corner and size."""
    from matplotlib.patches import Rectangle

    (left, top), (width, height) = corner, size
    ax.imshow(
        picture,
        cmap=cmap,
        vmin=limits[0],
        vmax=limits[1],
        extent=(left, left + width, top + height, top),
        **PIXELS | {"aspect": "auto"},
    )
    ax.add_patch(Rectangle(corner, width, height, fill=False, ec=now().faint, lw=0.6))


def _colour_bar(figure: Figure, ax: Axes, label: str) -> None:
    """Draw the scale of a gallery's pictures at the bottom of the sheet."""
    height = POINTS * figure.get_figheight()
    scale = figure.add_axes((0.3, 22 / height, 0.4, 7 / height))
    bar = figure.colorbar(ax.images[0], cax=scale, orientation="horizontal")
    bar.ax.tick_params(labelsize=SMALL, colors=now().ink)
    low, high = ax.images[0].get_clim()
    bar.set_ticks([low, 0, high], labels=[f"{low:.2g}", "0", f"{high:.2g}"])
    bar.ax.set_ylabel(label, fontsize=SMALL, color=now().ink, rotation=0, ha="right", va="center")
