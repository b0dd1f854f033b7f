"""The inside of a network: its first weights, its answer to one image, feature maps, and distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.nn.convolution import to_torch_weight
from xpnet.plots.canvas import (
    MARGIN,
    PIXELS,
    POINTS,
    SMALL,
    WIDTH,
    beside,
    clean,
    described,
    head,
    name_rows,
    new_figure,
    new_sheet,
    now,
    shorten,
    write,
)
from xpnet.plots.pictures import as_pictures, filters, grey_limits, place_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def weights(network: Any, *, title: str, limit: int = 40) -> Figure:
    """Draw the weights of the first layer that has any: its filters, or the weights of each of its units.

    Parameters
    ----------
    network : TrainedNetwork
        A network from `xpnet.fit` or `xpnet.load`.
    title : str
        The title, which should name the recipe and the dataset.
    limit : int
        The largest number of pictures; the largest weights come first.

    Returns
    -------
    matplotlib.figure.Figure
        See `filters`.

    Raises
    ------
    ValueError
        If no layer has weights.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet import plots
    >>> run = xpnet.train("mlp", dataset="digits", epochs=1, progress=False)
    >>> plots.alt_text(plots.weights(run.network, title="mlp on digits", limit=20))
    'mlp on digits. 100 filters of 8×8; the 20 with the largest weights.'
    """
    return filters(weight_pictures(network), title=title, limit=limit)


def weight_pictures(network: Any) -> NDArray[Any]:
    """Return the weights of the first layer that has any, as pictures of shape (n, h, w)."""
    named = network.named_arrays()
    name = next((name for name in named if name.endswith(".weight") and named[name].ndim > 1), None)
    if name is None:
        raise ValueError("network: no layer has weights that could be drawn")
    weight = named[name]
    if weight.ndim == 4:
        filters = to_torch_weight(weight)
        return filters.reshape(-1, *filters.shape[2:])
    # The inputs of a dense layer may be an image that `Flatten` merged in the order height, channels, width.
    shapes = [shape for shape in network.shapes[: int(name.split(".")[1]) + 1] if len(shape) > 1]
    if not shapes:
        return as_pictures(weight.T)
    h, w, c = (*shapes[-1], 1)[:3]
    pictures: NDArray[Any] = weight.T.reshape(-1, h, c, w).mean(axis=2)
    return pictures


def feature_maps(maps: Mapping[str, ArrayLike], *, title: str, limit: int = 16) -> Figure:
    """Draw the outputs of a convolutional network's layers for one image.

    Parameters
    ----------
    maps : mapping of str to array, shape (h, w) or (h, w, channels)
        Each layer's name and its output for the image, in the order of the layers.
    title : str
        The title, which should name the network and the image.
    limit : int
        The largest number of channels to draw for each layer.

    Returns
    -------
    matplotlib.figure.Figure
        Rows of pictures for each layer. Each layer has its own scale, from black for its smallest value to white for
        its largest.

    Raises
    ------
    ValueError
        If there are no maps, or if one has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import plots
    >>> maps = {"input": np.eye(8), "Conv2D(16, 3)": np.random.default_rng(0).normal(size=(6, 6, 16))}
    >>> plots.alt_text(plots.feature_maps(maps, title="cnn on digits"))
    'cnn on digits. What the layers make of one image: input, 1 of 8×8; Conv2D(16, 3), 16 of 6×6.'
    """
    stacks = {name: _stack(name, given) for name, given in maps.items()}
    if not stacks:
        raise ValueError("maps={}: there is nothing to draw")
    columns, line = 8, 1.6 * SMALL
    pitch = (POINTS * WIDTH - 2 * MARGIN) / columns
    sizes = {
        name: (math.ceil(min(len(s), limit) / columns), pitch * s.shape[1] / s.shape[2]) for name, s in stacks.items()
    }
    total = sum(line + rows * height + 4 for rows, height in sizes.values())
    figure, ax, y = new_sheet(title, "", total)
    for name, stack in stacks.items():
        rows, height = sizes[name]
        shown = "" if len(stack) <= limit else f", {limit} of {len(stack)}"
        write(ax, MARGIN, y + line / 2, f"{name}{shown}", ha="left")
        for i, one in enumerate(stack[:limit]):
            corner = MARGIN + i % columns * pitch, y + line + i // columns * height
            place_picture(ax, one, corner, (pitch - 3, height - 3), _limits(stack), "gray")
        y += line + rows * height + 4
    told = "; ".join(f"{name}, {len(s)} of {s.shape[1]}×{s.shape[2]}" for name, s in stacks.items())
    return described(figure, f"{title}. What the layers make of one image: {told}.")


def _stack(name: str, given: ArrayLike) -> NDArray[Any]:
    """Return a layer's output as pictures, shape (channels, h, w)."""
    values = np.asarray(given, dtype=float)
    if values.ndim not in (2, 3) or not values.size:
        raise ValueError(f"maps: {name} has shape {values.shape}; it must be (h, w) or (h, w, channels)")
    return values[None] if values.ndim == 2 else np.moveaxis(values, 2, 0)


def _limits(values: NDArray[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1.0)


def prediction(
    seen: ArrayLike,
    probabilities: ArrayLike,
    *,
    title: str,
    photo: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draw one answer of a network: the input image, and the probability of each class.

    Parameters
    ----------
    seen : array, shape (h, w), (h, w, channels) or (features,)
        The network's input, such as 28 by 28 pixels.
    probabilities : array, shape (classes,)
        The network's answer.
    title : str
        The title, which should name the image.
    photo : array, shape (h, w) or (h, w, 3), optional
        The original photograph.
    class_names : sequence of str, optional
        By default ``0``, ``1``, ...

    Returns
    -------
    matplotlib.figure.Figure
        The image and a bar for each class, the most probable one in blue.

    Raises
    ------
    ValueError
        If the probabilities are not those of one image, or do not fit ``class_names``.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import plots
    >>> figure = plots.prediction(np.eye(8), [0.1, 0.85, 0.05], title="mine.png", class_names=["cat", "dog", "cow"])
    >>> plots.alt_text(figure)
    'mine.png. The network sees dog, with probability 0.85; then cat, with 0.10.'
    """
    p = np.asarray(probabilities, dtype=float)
    if p.ndim != 1 or not len(p):
        raise ValueError(f"probabilities: the shape is {p.shape}; it must be (classes,), of one image")
    names = [str(i) for i in range(len(p))] if class_names is None else list(map(str, class_names))
    if len(names) != len(p):
        raise ValueError(f"class_names: there are {len(names)} for {len(p)} classes")
    images = [("photo", photo), ("what it sees", seen)] if photo is not None else [("", seen)]
    figure = new_figure(title, WIDTH, max(2.1, 0.9 + 0.19 * len(p)))
    *panels, bars = figure.subplots(1, len(images) + 1)
    for ax, (name, image) in zip(panels, images, strict=True):
        _show(ax, np.asarray(image))
        head(ax, name)
    draw_answer(bars, p, names)
    head(bars, "its answer")
    order = np.argsort(-p, kind="stable")
    second = f"; then {names[order[1]]}, with {p[order[1]]:.2f}" if len(p) > 1 else ""
    first = f"The network sees {names[order[0]]}, with probability {p[order[0]]:.2f}"
    return described(figure, f"{title}. {first}{second}.")


def _show(ax: Axes, image: NDArray[Any]) -> None:
    """Draw an image without axes."""
    (pixels,) = as_pictures(image[None])
    low, high = grey_limits(pixels)
    ax.imshow(pixels, cmap="gray", vmin=low, vmax=high, **PIXELS)
    ax.axis("off")


def draw_answer(ax: Axes, probabilities: NDArray[Any], names: Sequence[str], *, written: bool = True) -> None:
    """Draw a bar for the probability of each class, the largest in blue."""
    clean(ax)
    best = int(np.argmax(probabilities))
    colours = [now().blue if i == best else now().faint for i in range(len(names))]
    ax.barh(range(len(names)), probabilities, color=colours, height=0.7)
    ax.set(xlim=(0, 1), xticks=[])
    ax.spines["bottom"].set_visible(False)
    name_rows(ax, [shorten(name, 12) for name in names])
    for i, p in enumerate(probabilities if written else []):
        beside(ax, f"{p:.0%}", (float(p), i), "data")


def histograms(values: Mapping[str, ArrayLike], *, title: str) -> Figure:
    """Draw the distribution of each layer's numbers, such as activations or gradients.

    Parameters
    ----------
    values : mapping of str to array
        Each layer's name and numbers, of any shape. Numbers that are not finite are counted, but not drawn.
    title : str
        The title, which should name the numbers and the network.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each layer: a histogram on its own scale with zero marked, the mean, the spread (the standard
        deviation), and the share of exact zeros.

    Raises
    ------
    ValueError
        If there are no layers, or if one has no numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import plots
    >>> x = np.random.default_rng(0).normal(size=(100, 20))
    >>> plots.alt_text(plots.histograms({"Dense(20)": x, "ReLU": np.maximum(x, 0)}, title="activations of mlp"))
    'activations of mlp. Dense(20): mean -0.028, spread 1, 0% zero; ReLU: mean 0.39, spread 0.57, 52% zero.'
    """
    if not values:
        raise ValueError("values={}: there is nothing to draw")
    rows = {name: np.asarray(given, dtype=float).ravel() for name, given in values.items()}
    if empty := [name for name, x in rows.items() if not x.size]:
        raise ValueError(f"values: {empty[0]} has no numbers")
    figure = new_figure(title, WIDTH, 0.7 + 0.62 * len(rows))
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    told = []
    for ax, (name, x) in zip(panels, rows.items(), strict=True):
        told.append(f"{name}: {_draw_histogram(ax, name, x)}")
    return described(figure, f"{title}. {'; '.join(told)}.")


def _draw_histogram(ax: Axes, name: str, x: NDArray[Any]) -> str:
    """Draw one row, and return its facts in words."""
    finite = x[np.isfinite(x)]
    clean(ax)
    ax.grid(False)
    ax.spines["left"].set_visible(False)
    ax.set_yticks([0.5], [shorten(name, 22)], fontsize=SMALL, color=now().ink, parse_math=False)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", length=2)
    ax.locator_params(axis="x", nbins=4)
    if len(finite):
        heights, edges = np.histogram(finite, bins=50)
        # The square root keeps a spike at zero from flattening all the rest.
        ax.stairs(np.sqrt(heights / max(heights.max(), 1)), edges, fill=True, color=now().blue)
        ax.axvline(0, color=now().faint, lw=0.8, ls=":")
    facts = _facts(x, finite)
    ax.set_ylim(0, 1.05)
    beside(ax, "\n".join(facts), (1, 0.5))
    return ", ".join(facts)


def _facts(x: NDArray[Any], finite: NDArray[Any]) -> list[str]:
    """Return the mean, the spread, the share of zeros, and the number of values that are not finite, in words."""
    facts = [f"mean {finite.mean():.2g}", f"spread {finite.std():.2g}"] if len(finite) else []
    facts.append(f"{np.mean(x == 0):.0%} zero")
    if len(finite) < len(x):
        facts.append(f"{len(x) - len(finite):,} not finite")
    return facts
