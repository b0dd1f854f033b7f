"""Checks of training data by themselves: scale, layout, classes and order look like a mistake, or do not."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.facts import ENOUGH, SAMPLES, SILENCE, Facts, listed, scale_of, warn


def check_plausible(
    name: str,
    images: NDArray[Any],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    facts: Facts,
    pixel_max: float,
) -> None:
    """Warn if the scale, the layout or the classes of training data look like a mistake."""
    shape = images.shape[1:]
    if mistake := _scale_mistake(images, facts, pixel_max):
        warn(f"{name}: {mistake} {SILENCE}")
    if looks_channels_first(shape):
        warn(f"{name}: samples of shape {shape}: channels first? Give (height, width, channels) {SILENCE}")
    counts = np.bincount(labels, minlength=len(class_names))
    if missing := [class_names[k] for k in np.flatnonzero(counts == 0).tolist()]:
        if len(labels) >= 10 * len(class_names):
            warn(f"{name}: no training images of {listed(missing)}: the network cannot learn to answer them {SILENCE}")
    elif counts.min() < 0.1 * counts.mean() and len(labels) >= 100:
        rare = int(counts.argmin())
        warn(
            f"{name}: {counts[rare]:,} of {len(labels):,} training images are of class {class_names[rare]}: a network "
            f"may never predict it, and still have a high accuracy {SILENCE}"
        )


def looks_channels_first(shape: Sequence[int]) -> bool:
    """Whether a sample shape is likelier (channels, height, width) than (height, width, channels)."""
    if len(shape) != 3 or shape[1] <= 4 or shape[2] <= 4:
        return False
    return shape[0] in (1, 3) or (shape[0] in (2, 4) and shape[1] == shape[2])


def check_input_layout(shape: Sequence[int]) -> None:
    """Warn a user who builds a network for images with channels first, as in torch."""
    builder = sys._getframe(2).f_globals.get("__name__", "")
    if looks_channels_first(shape) and builder.partition(".")[0] != "xpnet":
        height, width = shape[1:]
        warn(
            f"input_shape={tuple(shape)}: channels first? This is {shape[0]} by {height} pixels with {width} channels: "
            f"give {(height, width, shape[0])} {SILENCE}"
        )


def check_order(name: str, labels: NDArray[np.int64]) -> None:
    """Warn if training data are sorted by class, for a run that does not shuffle them."""
    kinds = len(np.unique(labels))
    if kinds > 1 and len(labels) >= 10 * kinds and np.count_nonzero(np.diff(labels)) < 2 * kinds:
        warn(
            f"{name}: the training images are in the order of their classes, and this run does not shuffle them: a "
            f"network forgets the first class while it sees the last. Shuffle them once {SILENCE}"
        )


def _scale_mistake(images: NDArray[Any], facts: Facts, pixel_max: float) -> str:
    """Say what the scale of training images looks like, if it looks like a mistake."""
    low, high = facts.low, scale_of(facts)
    pictures = images.ndim > 2 or _is_square(images.shape[1])
    if facts.kind == "integers":
        if high >= 1 / 8 or len(images) < ENOUGH or high == 0:
            return ""
        brightest = int(images.max())
        return f"pixels up to {brightest}, but pixel_max={pixel_max:g}: give pixel_max={_round_up(brightest)}"
    if pictures and low >= 0 and 1.5 < high < 2**16 and (images[:SAMPLES] == np.floor(images[:SAMPLES])).all():
        return (
            f"floats from 0 to {high:g}, all whole, look like unscaled pixels; floats are taken as they are. Give "
            f"integers, divide by {_round_up(high)}, or use Dataset.from_arrays"
        )
    if len(images) < ENOUGH or low == facts.high:
        return ""
    if facts.deviation > 10 or (pictures and low >= 0 and high > 8):
        return (
            f"floats from {low:g} to {facts.high:g} are taken as they are, and a network learns badly from such large "
            "numbers: divide by the largest, or standardise"
        )
    if pictures and high <= 1 / 16:
        return f"floats from {low:g} to {facts.high:g}: divided twice?"
    return ""


def _is_square(features: int) -> bool:
    """Whether features are probably the pixels of a square picture, of one or three channels."""
    return features >= 64 and any(
        features % channels == 0 and math.isqrt(features // channels) ** 2 == features // channels
        for channels in (1, 3)
    )


def _round_up(high: float) -> int:
    return next((limit for limit in (1, 16, 255, 1023, 4095, 65535) if high <= limit), math.ceil(high))
