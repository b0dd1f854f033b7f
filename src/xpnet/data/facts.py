"""A few numbers about images, by which a network notices images that are unlike its training images.

All numbers are as the network sees them: integers divided by ``pixel_max``, floats unchanged.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.download import DataError

SAMPLES = 2000
"""About this many images, evenly spread over the set, are used for statistics; the range is that of all images."""

ENOUGH = 20
"""Fewer images than this may have any mean."""

SILENCE = "(to silence: warnings.simplefilter('ignore', xpnet.DataWarning))"


class DataWarning(UserWarning):
    """Data look like a common mistake, which the message names.

    Examples
    --------
    >>> import warnings
    >>> import xpnet
    >>> warnings.simplefilter("ignore", xpnet.DataWarning)
    """


@dataclass(frozen=True)
class Facts:
    """A few numbers about a set of images.

    Attributes
    ----------
    kind : {"integers", "floats"}
    low, high, mean, deviation : float
        Minimum, maximum, mean and standard deviation of the values.
    edge : float
        The mean over the outermost pixels of the images.
    sample_shape : tuple of int
    stretch : float
        The vertical extent of the drawings in the images, divided by the horizontal extent.
    class_names : tuple of str
        What the classes are called, if that is known.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.facts import Facts
    >>> facts = Facts.of(np.asarray([[[0, 255], [255, 0]]], dtype=np.uint8), 255.0)
    >>> facts.kind, facts.low, facts.high, facts.mean, facts.deviation
    ('integers', 0.0, 1.0, 0.5, 0.5)
    """

    kind: str
    low: float
    high: float
    mean: float
    deviation: float
    edge: float
    sample_shape: tuple[int, ...]
    stretch: float = 1.0
    class_names: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, images: NDArray[Any], pixel_max: float) -> Facts:
        """Compute the facts of at least one image, shape (n, ...)."""
        integers = images.dtype.kind in "ui"
        scale = pixel_max if integers else 1.0
        few = images[:: max(1, len(images) // SAMPLES)]
        edge = few
        if images.ndim >= 3 and min(images.shape[1:3]) > 2:
            inner = np.ones(images.shape[1:3], dtype=np.bool_)
            inner[1:-1, 1:-1] = False
            edge = few[:, inner]
        with np.errstate(all="ignore"):  # other checks refuse values such as 1e300, with a clear error
            numbers = (images.min(), images.max(), few.mean(dtype=np.float64), few.std(dtype=np.float64), edge.mean())
        finite = (float(np.nan_to_num(float(number))) for number in numbers)  # JSON has no infinity
        low, high, mean, deviation, border = (float(f"{number / scale:.6g}") for number in finite)
        kind = "integers" if integers else "floats"
        return cls(kind, low, high, mean, deviation, border, tuple(images.shape[1:]), _stretch(few, edge))

    def to_config(self) -> dict[str, Any]:
        """Return a JSON-serializable form, without the names of the classes."""
        config = asdict(self) | {"sample_shape": list(self.sample_shape)}
        del config["class_names"]  # a run's configuration has them already
        return config

    @classmethod
    def from_config(cls, config: Any, class_names: Sequence[str] | None = None) -> Facts | None:
        """Undo `to_config`; return None for anything else, such as the record of an earlier version."""
        if not isinstance(config, Mapping) or config.get("kind") not in ("integers", "floats"):
            return None
        low, high, mean, deviation, edge = (
            _finite(config.get(name)) for name in ("low", "high", "mean", "deviation", "edge")
        )
        shape = config.get("sample_shape")
        if low is None or high is None or mean is None or deviation is None or edge is None:
            return None
        if not isinstance(shape, list) or not all(isinstance(size, int) and size > 0 for size in shape):
            return None
        stretch = _finite(config.get("stretch"))  # missing in the records of earlier versions
        positive = stretch if stretch is not None and stretch > 0 else 1.0
        return cls(config["kind"], low, high, mean, deviation, edge, tuple(shape), positive, tuple(class_names or ()))


def check_alike(argument: str, trained: Facts, images: NDArray[Any], pixel_max: float) -> None:
    """Compare images with the training images of a network.

    Raises
    ------
    DataError
        If one set has integers and the other floats, and their scales differ; one of them must be a mistake.

    Warns
    -----
    DataWarning
        If the images look like a mistake; the message names the likeliest one.
    """
    if images.size == 0:
        return
    facts = Facts.of(images, pixel_max)
    if facts.low == facts.high:  # blank images allow no comparison
        return
    ratio = scale_of(facts) / scale_of(trained) if scale_of(trained) > 0 else 1.0
    signed = trained.low < -0.05 * scale_of(trained)
    far = ratio > 8 or (ratio < 1 / 8 and facts.kind == "integers")
    if facts.kind != trained.kind and (far or (signed and facts.low >= 0)):
        raise DataError(
            f"{argument}: {_words(facts)}, but the training images are {_words(trained)}: scale both alike. Integers "
            "are divided by pixel_max, floats are taken as they are"
        )
    guess = _guess(facts, trained, ratio, len(images))
    if guess:
        warn(f"{argument}: {guess} They are {_words(facts)}, and the training images {_words(trained)} {SILENCE}")


def check_layout(argument: str, shape: Sequence[int], trained: Sequence[int]) -> None:
    """Compare the axes of samples with those of the training samples.

    Axes of length 1 are ignored, and a sample may be in one row.

    Raises
    ------
    DataError
        If the samples are arranged in another way.
    """
    long, wanted = ([size for size in sizes if size != 1] for sizes in (shape, trained))
    if len(long) <= 1 or len(wanted) <= 1 or long == wanted:
        return
    guess = " (channels first?)" if sorted(long) == sorted(wanted) and len(long) == 3 else ""
    raise DataError(
        f"{argument}: samples of shape {tuple(shape)}, but the network was trained on {tuple(trained)}{guess}"
    )


def check_names(argument: str, trained: Sequence[str], names: Sequence[str]) -> None:
    """Compare the names of a dataset's classes with those of the training data, unless one has only numbers.

    Raises
    ------
    DataError
        If the same names are in another order.

    Warns
    -----
    DataWarning
        If the names are others.
    """
    numbers = [str(k) for k in range(len(names))]
    worded = [not all(name.isdecimal() for name in each) for each in (trained, names)]
    if (
        not trained
        or list(trained) == list(names)
        or (worded[0] != worded[1] and numbers in (list(trained), list(names)))
    ):
        return
    told = f"classes {listed(names)}, but the network was trained on {listed(trained)}"
    if sorted(trained) == sorted(names):
        raise DataError(f"{argument}: {told}: give class_names in the order of the training data")
    warn(f"{argument}: {told} {SILENCE}")


def listed(names: Sequence[str]) -> str:
    """Return the first names, separated by commas."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def warn(message: str) -> None:
    """Warn about data, and point to the line that called xpnet."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (
        "xpnet",
        "dataclasses",
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, DataWarning, stacklevel=level)


def _guess(facts: Facts, trained: Facts, ratio: float, n: int) -> str:
    """Return the likeliest mistake as a question, or an empty string."""
    span = trained.high - trained.low
    signed = trained.low < -0.1 * span
    if span <= 0:
        return ""
    if ratio > 8:
        return "not divided by the brightest pixel?"
    if ratio < 1 / 8 and facts.low >= 0:
        return "divided twice?"
    if trained.low >= 0 and facts.low < -0.1 * span:
        return "standardised, unlike the training images?"
    if signed and facts.low >= 0 and n >= ENOUGH:
        return "not standardised, unlike the training images?"
    if _rescaled(facts, trained, ratio, n):
        return "scaled by another number than the training images?"
    if n >= ENOUGH and _turned(facts.stretch, trained.stretch):
        return "transposed, or turned by 90 degrees?"
    return "inverted?" if _inverted(facts, trained) else ""


def _rescaled(facts: Facts, trained: Facts, ratio: float, n: int) -> bool:
    """Whether images leave the range of the training images, or use only the lower part of a range that ends at 1."""
    span = trained.high - trained.low
    if trained.low >= 0:
        bounded = 0.95 < trained.high <= 1
        return bounded and (ratio > 1.5 or (ratio < 0.6 and n >= ENOUGH))
    if n < ENOUGH or len(trained.sample_shape) < 2:  # features in one row may have any tails
        return False
    wider = facts.high > trained.high + 0.5 * span and facts.deviation > 1.6 * trained.deviation
    return wider or facts.low < trained.low - 0.15 * span


def _inverted(facts: Facts, trained: Facts) -> bool:
    """Whether mean and edge of images are nearer to those of the inverted training images, which are clearly others."""
    for ours, theirs in ((facts.mean, trained.mean), (facts.edge, trained.edge)):
        inverse = trained.low + trained.high - theirs
        if abs(ours - inverse) >= abs(ours - theirs) or abs(inverse - theirs) <= 0.3 * (trained.high - trained.low):
            return False
    return True


def _finite(value: Any) -> float | None:
    """Return a value from a file as a float if it is a finite number, else None."""
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _stretch(images: NDArray[Any], edge: NDArray[Any]) -> float:
    """Return the mean vertical extent of the drawings in images, divided by the horizontal extent.

    A drawing is everything that differs from the edge. Digits and letters are taller than wide, so the ratio reveals
    transposed images. Mirrored ones differ too little from others.
    """
    if images.ndim < 3 or len(images) < ENOUGH:
        return 1.0
    with np.errstate(all="ignore"):
        drawn = np.abs(images[:: max(1, len(images) // 500)].astype(np.float64) - edge.mean())
        drawn = drawn.reshape(*drawn.shape[:3], -1).sum(axis=3)
        drawn = drawn[drawn.sum(axis=(1, 2)) > 0]
        if not len(drawn):
            return 1.0
        reach = []
        for axis in (2, 1):
            profile = drawn.sum(axis=axis) / drawn.sum(axis=(1, 2))[:, None]
            place = np.arange(profile.shape[1])
            centre = (profile * place).sum(axis=1, keepdims=True)
            reach.append(np.sqrt((profile * (place - centre) ** 2).sum(axis=1)).mean())
        ratio = float(reach[0] / reach[1])
    return float(f"{ratio:.4g}") if 0 < ratio < math.inf else 1.0


def _turned(stretch: float, trained: float) -> bool:
    """Whether images are wide and the training images are tall, or the other way round."""
    ours, theirs = math.log(stretch), math.log(trained)
    return abs(theirs) > 0.2 and ours * math.copysign(1.0, theirs) < -0.4 * abs(theirs)


def scale_of(facts: Facts) -> float:
    """Return the largest absolute value."""
    return max(abs(facts.low), abs(facts.high))


def _words(facts: Facts) -> str:
    return f"{facts.kind} that a network sees from {facts.low:g} to {facts.high:g}, mean {facts.mean:.3g}"
