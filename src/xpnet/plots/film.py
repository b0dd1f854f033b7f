"""A film of training: weights and answers of a network after each epoch, in one animated file."""

from __future__ import annotations

import base64
import html
import io
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.files import write_atomically
from xpnet.parts import require_path
from xpnet.plots.canvas import PIXELS, WIDTH, colour_map, described, head, new_figure, now, render, shorten, svg_tag
from xpnet.plots.inside import draw_answer, weight_pictures
from xpnet.plots.pictures import as_pictures, grey_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xpnet.runs.history import Record

DIGITS, FILTERS, SAMPLES = 3, 16, 1000
"""The numbers of images whose outputs a film shows, of filters, and of images in the confusion matrix."""


class Frame(NamedTuple):
    """One epoch of a film, on the host."""

    epoch: int
    weights: NDArray[Any]
    """Pictures of the first layer's weights, shape (n, h, w)."""
    outputs: NDArray[Any]
    """The class probabilities of a few images, shape (images, classes)."""
    confusion: NDArray[Any]
    """Counts of labels (rows) and predictions (columns), shape (classes, classes)."""

    @property
    def accuracy(self) -> float:
        """The share of correct predictions."""
        return float(np.trace(self.confusion) / self.confusion.sum())


class Film:
    """A callback for `xpnet.fit` that records a network after each epoch, and shows the records as a film.

    Parameters
    ----------
    data : Dataset
        The data of the run. The film shows the outputs for the first three images of its test set, and the confusion
        matrix of the first 1,000.
    title : str
        The title, which should name the recipe, the dataset and the backend.

    Attributes
    ----------
    frames : list of Frame
        One frame per recorded epoch.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet import plots
    >>> data = xpnet.load_dataset("digits")
    >>> film = plots.Film(data, title="mlp on digits")
    >>> run = xpnet.train("mlp", dataset=data, epochs=3, callbacks=[film], progress=False)
    >>> film.save("film.svg")  # doctest: +SKIP
    >>> len(film.frames)
    3
    """

    def __init__(self, data: Any, *, title: str) -> None:
        self.images, self.labels = data.test_images[:SAMPLES], data.test_labels[:SAMPLES]
        self.classes, self.title = data.classes, title
        self.frames: list[Frame] = []
        self._chosen: NDArray[np.intp] | None = None

    def __call__(self, record: Record, network: Any) -> None:
        """Record the epoch that has just been trained."""
        self.add(record.epoch, network)

    def add(self, epoch: int, network: Any) -> None:
        """Record a network with weights after an epoch."""
        pictures = weight_pictures(network)
        if self._chosen is None:  # The whole film shows the same filters.
            self._chosen = np.linspace(0, len(pictures) - 1, min(FILTERS, len(pictures))).astype(int)
        probabilities = network.predict_proba(self.images)
        pairs = self.labels.astype(int) * self.classes + np.argmax(probabilities, axis=1)
        confusion = np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)
        self.frames.append(Frame(epoch, pictures[self._chosen], probabilities[:DIGITS], confusion))

    def __repr__(self) -> str:
        """Return a description of the film."""
        if not self.frames:
            return f"Film({self.title}: no frames)"
        first, last = self.frames[0], self.frames[-1]
        return (
            f"{self.title}. A film of {len(self.frames)} frames, from epoch {first.epoch} to {last.epoch}: "
            f"the accuracy on {len(self.labels):,} test images goes from {first.accuracy:.4f} to {last.accuracy:.4f}."
        )

    def _repr_html_(self) -> str:
        """Play the film in a notebook."""
        return svg_tag(self.to_svg(), repr(self), round(100 * WIDTH)) if self.frames else repr(self)

    # Frames -------------------------------------------------------------------------------------------------------

    def figure(self, index: int = -1) -> Figure:
        """Draw one frame.

        Parameters
        ----------
        index : int
            The index in `frames`; by default that of the last frame.

        Returns
        -------
        matplotlib.figure.Figure
            The weights and the confusion matrix on the left, and a few images with the network's answers on the right.
        """
        frame = self._require_frames()[index]
        figure = new_figure(self.title, WIDTH, 4.9)
        grid = figure.add_gridspec(2 * DIGITS, 3, width_ratios=(2.2, 0.8, 1.4))
        half = DIGITS
        self._draw_weights(figure.add_subplot(grid[:half, 0]), frame)
        self._draw_confusion(figure.add_subplot(grid[half:, 0]), frame)
        names = [str(k) for k in range(self.classes)]
        images = as_pictures(self.images[:DIGITS])
        for i, output in enumerate(frame.outputs):
            rows = slice(2 * i, 2 * i + 2)
            ax, bars = figure.add_subplot(grid[rows, 1]), figure.add_subplot(grid[rows, 2])
            low, high = grey_limits(images)
            ax.imshow(images[i], cmap="gray", vmin=low, vmax=high, **PIXELS)
            ax.axis("off")
            draw_answer(bars, output, names, written=False)
            _thin_rows(bars, self.classes)
        words = f"{self.title}. Epoch {frame.epoch}: accuracy {frame.accuracy:.4f} on {len(self.labels):,} test images."
        return described(figure, words)

    def _draw_weights(self, ax: Axes, frame: Frame) -> None:
        """Draw the filters as one mosaic, with the same scale in every frame."""
        n, h, w = frame.weights.shape
        columns = int(np.ceil(np.sqrt(n)))
        rows = -(-n // columns)
        tiles = np.full((rows * columns, h + 1, w + 1), np.nan)
        tiles[:n, :h, :w] = frame.weights
        mosaic = tiles.reshape(rows, columns, h + 1, w + 1).swapaxes(1, 2).reshape(rows * (h + 1), -1)
        largest = max(float(np.abs(f.weights).max()) for f in self.frames) or 1.0
        ax.imshow(mosaic, cmap=colour_map(now().signs), vmin=-largest, vmax=largest, **PIXELS)
        ax.axis("off")
        head(ax, f"epoch {frame.epoch}: weights")

    def _draw_confusion(self, ax: Axes, frame: Frame) -> None:
        """Draw the confusion matrix without numbers."""
        from matplotlib.colors import PowerNorm

        shares = frame.confusion / np.maximum(frame.confusion.sum(axis=1, keepdims=True), 1)
        ax.imshow(shares, cmap=colour_map(now().shares), norm=PowerNorm(0.5, 0, 1), **PIXELS)
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_color(now().rule)
        head(ax, f"accuracy {frame.accuracy:.4f}")

    def _require_frames(self) -> list[Frame]:
        if not self.frames:
            raise ValueError("the film has no frames: add one after each epoch")
        return self.frames

    # Files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, seconds: float = 0.5) -> None:
        """Write the film to an animated image.

        Parameters
        ----------
        path : path-like
            The file, whose name ends in ``.svg`` or ``.gif``.
        seconds : float
            The duration of a frame. The last frame lasts four times as long.

        Raises
        ------
        ValueError
            If the film has no frames, or if the suffix is another.
        """
        kind = require_path("path", path).suffix.lower()
        if kind not in (".svg", ".gif"):
            raise ValueError(f"path={os.fspath(path)!r}: its ending must be .svg or .gif")
        write_atomically(path, self.to_svg(seconds).encode() if kind == ".svg" else self.to_gif(seconds))

    def to_svg(self, seconds: float = 0.5) -> str:
        """Return the film as an SVG with a CSS animation.

        Where animations are unwanted or unsupported, it shows the last frame.
        """
        pictures = [_small(self.figure(i)) for i in range(len(self._require_frames()))]
        width, height = (round(100 * inches) for inches in self.figure().get_size_inches())
        length = seconds * (len(pictures) + 3)
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}" width="{width}"'
                ' style="max-width:100%;height:auto">',
                f"<title>{html.escape(self.title)}</title><desc>{html.escape(repr(self))}</desc>",
                f"<style>{_animation(seconds, length)}</style>",
                *(
                    f'<image class="xpnet-frame" style="animation-delay:{i * seconds - length:g}s" width="{width}" '
                    f'height="{height}" href="data:image/png;base64,{base64.b64encode(picture).decode()}"/>'
                    for i, picture in enumerate(pictures)
                ),
                "</svg>\n",
            ]
        )

    def to_gif(self, seconds: float = 0.5) -> bytes:
        """Return the film as a GIF that plays in a loop."""
        from PIL import Image

        paper = "white" if now().paper != "none" else "#14181e"
        frames = []
        for i in range(len(self._require_frames())):
            with Image.open(io.BytesIO(render(self.figure(i), "png"))) as image:
                drawn = image.convert("RGBA")
            below = Image.new("RGBA", drawn.size, paper)
            below.alpha_composite(drawn)
            frames.append(below.convert("RGB").quantize(128))
        buffer = io.BytesIO()
        durations = [int(1000 * seconds)] * (len(frames) - 1) + [int(4000 * seconds)]
        how: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": 0}
        frames[0].save(buffer, "GIF", comment=repr(self).encode(), **how)
        return buffer.getvalue()


def _thin_rows(ax: Axes, classes: int) -> None:
    """Name only the first, the middle and the last row, for lack of room."""
    shown = [0, classes // 2, classes - 1] if classes > 4 else list(range(classes))
    ax.set_yticks(shown, [shorten(str(k), 4) for k in shown])


def _animation(seconds: float, length: float) -> str:
    """Return the style sheet that shows the frames one after the other, the last one for longer."""
    part, last = (100 * x / length for x in (seconds, 4 * seconds))
    frame = ".xpnet-frame"
    return (
        f"{frame}{{opacity:0;animation:xpnet-film {length:g}s steps(1,end) infinite}}"
        f"{frame}:last-of-type{{opacity:1;animation-name:xpnet-end}}"
        f"@keyframes xpnet-film{{0%{{opacity:1}}{part:.3f}%{{opacity:0}}}}"
        f"@keyframes xpnet-end{{0%{{opacity:1}}{last:.3f}%{{opacity:0}}}}"
        f"@media (prefers-reduced-motion:reduce){{{frame}{{animation:none}}}}"
    )


def _small(figure: Figure) -> bytes:
    """Return a figure as a PNG with few colours, which takes a quarter of the space."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(render(figure, "png"))) as image:
        image.convert("RGBA").quantize(96, method=Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
