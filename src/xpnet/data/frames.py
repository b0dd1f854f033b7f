"""Datasets from objects in memory: pairs, bunches, dictionaries, frames, single arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.arrays import to_host
from xpnet.data.download import DataError
from xpnet.data.facts import SILENCE, warn
from xpnet.data.labels import name_classes, plain_labels
from xpnet.data.preprocessing import train_validation_split

LABEL_COLUMNS = ("label", "labels", "class", "target", "digit", "y")

COUNTERS = ("id", "imageid", "image_id", "index", "unnamed: 0")
"""Names of columns that number the rows, and are no pixels."""

FOUR = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("X_train", "y_train", "X_test", "y_test"),
)
TWO = (("images", "target"), ("images", "labels"), ("data", "target"), ("x", "y"), ("X", "y"), ("image", "label"))
"""The names of four arrays, or of two, in dictionaries and bunches."""


def assemble(
    arrays: Sequence[Any],
    *,
    label: str | None = None,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    pixel_max: float | None = None,
    image_shape: tuple[int, ...] | None = None,
    test_fraction: float = 0.2,
) -> dict[str, Any]:
    """Return the arguments of `Dataset`; `Dataset.from_arrays` explains the accepted forms."""
    _check_arguments(class_names, image_shape, test_fraction)
    parts = _unpack(arrays, label)
    names = ("train_images", "train_labels", "test_images", "test_labels") if len(parts) == 4 else ("images", "labels")
    hosts = [
        _images(name, part, image_shape) if name.endswith("images") else plain_labels(name, part)
        for name, part in zip(names, parts, strict=True)
    ]
    for images, labels, name in zip(hosts[::2], hosts[1::2], names[1::2], strict=True):
        if len(images) != len(labels):
            raise DataError(f"{name}: {len(labels)} labels for {len(images)} images")
    if not len(hosts[0]):
        raise DataError(f"{names[0]}: there are none")
    if len(hosts) == 2:
        train, test = split(len(hosts[0]), test_fraction)
        hosts = [hosts[0][train], hosts[1][train], hosts[0][test], hosts[1][test]]
    brightest = pixel_max
    if brightest is None:
        brightest = _pixel_max(hosts[0])
    pixels = [_as_pixels(host, brightest, pixel_max is None and _whole(hosts[0])) for host in hosts[::2]]
    train_labels, test_labels, known = name_classes(hosts[1], hosts[3], classes, class_names)
    return {
        "train_images": pixels[0],
        "train_labels": train_labels,
        "test_images": pixels[1],
        "test_labels": test_labels,
        "classes": len(known),
        "pixel_max": brightest,
        "class_names": known,
    }


def _check_arguments(class_names: Any, image_shape: Any, test_fraction: Any) -> None:
    """Check those arguments that other errors would name badly."""
    if isinstance(class_names, str):
        raise DataError(f"class_names={class_names!r}: must be a list of names, such as ['cat', 'dog']")
    if image_shape is not None:
        sizes = image_shape if isinstance(image_shape, list | tuple) else ()
        if not sizes or not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
            raise DataError(f"image_shape={image_shape!r}: must be a tuple of positive integers, such as (28, 28)")
    if isinstance(test_fraction, bool) or not isinstance(test_fraction, int | float | np.number):
        raise DataError(f"test_fraction={test_fraction!r}: must be a number, not {type(test_fraction).__name__}")


def suspect_counter(where: str, pixels: Sequence[str], remedy: str) -> None:
    """Warn if a column that is taken as a pixel probably numbers the rows."""
    if counters := [name for name in pixels if name.lower() in COUNTERS]:
        warn(f"{where}: column {counters[0]!r} is taken as a pixel: does it number the rows? {remedy} {SILENCE}")


def split(n: int, test_fraction: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the training samples, in random order, and of the test samples; always the same."""
    try:
        train, test = train_validation_split(n, test_fraction, seed=0)
    except ValueError as error:
        raise DataError(
            str(error).replace("validation_fraction", "test_fraction").replace("validate", "test")
        ) from None
    if not len(test):
        raise DataError("test_fraction=0: a dataset needs something to test with")
    return np.random.default_rng(0).permutation(train), test


def _unpack(arrays: Sequence[Any], label: str | None) -> list[Any]:
    """Return images and labels, or four arrays: training images and labels, test images and labels."""
    if len(arrays) == 1 and isinstance(arrays[0], list | tuple) and len(arrays[0]) in (2, 4):
        arrays = arrays[0]
    if len(arrays) == 1:
        return _members(arrays[0], label)
    if len(arrays) == 2 and all(_holds_both(pair) for pair in arrays):
        return [part for pair in arrays for part in (pair if isinstance(pair, list | tuple) else _members(pair, label))]
    if len(arrays) in (2, 4):
        return list(arrays)
    raise DataError(
        f"{len(arrays)} arrays: give x_train, y_train, x_test, y_test; or (x_train, y_train), (x_test, y_test); or x, y"
    )


def _holds_both(value: Any) -> bool:
    """Whether a value holds images and labels: a pair, or an object with both."""
    if isinstance(value, list | tuple):
        return len(value) == 2 and all(hasattr(part, "shape") or isinstance(part, list) for part in value)
    return hasattr(value, "data") and (hasattr(value, "targets") or hasattr(value, "target"))


def _members(value: Any, label: str | None) -> list[Any]:
    """Return the arrays of one object: a frame, a bunch, a dictionary or a torchvision dataset."""
    if hasattr(value, "columns") and hasattr(value, "drop"):
        names = [str(column) for column in value.columns]
        wanted = [label] if label is not None else [name for name in LABEL_COLUMNS if name in names]
        if not wanted or wanted[0] not in names:
            raise DataError(
                f"frame: no column of labels {label or ''}; name it with label=, of {', '.join(names)[:200]}"
            )
        column = value.columns[names.index(wanted[0])]
        suspect_counter("frame", [name for name in names if name != wanted[0]], "Drop it")
        return [value.drop(columns=[column]), value[column]]
    keys = set(value.keys()) if hasattr(value, "keys") else set()
    for held in (*FOUR, *TWO):
        if keys.issuperset(held):
            return [value[name] for name in held]
    for images, labels in (("data", "targets"), ("images", "target"), ("data", "target")):
        if hasattr(value, images) and hasattr(value, labels):
            return [getattr(value, images), getattr(value, labels)]
    known = "; ".join(", ".join(names) for names in (FOUR[0], *TWO[:4]))
    found = f" It has {', '.join(map(str, sorted(map(str, keys))))[:200]}." if keys else ""
    raise DataError(f"{type(value).__name__}: holds no images and labels under known names ({known}).{found}")


def _images(name: str, images: Any, image_shape: tuple[int, ...] | None) -> NDArray[Any]:
    columns = [str(column) for column in getattr(images, "columns", ())]
    array = to_host(name, images)
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if image_shape is not None:
        if array.ndim < 2 or math.prod(image_shape) != math.prod(array.shape[1:]):
            raise DataError(f"image_shape={image_shape}: {name} have samples of shape {array.shape[1:]}")
        return array.reshape(len(array), *image_shape)
    side = math.isqrt(len(columns))
    if columns and side * side == len(columns) and all(column.startswith("pixel") for column in columns):
        return array.reshape(len(array), side, side)
    return array


def _whole(images: NDArray[Any]) -> bool:
    """Whether floats are pixels: whole numbers of at least 0, some of them above 1."""
    if images.dtype.kind != "f" or images.size == 0 or not np.isfinite(images).all():
        return False
    return bool(images.min() >= 0 and 1 < images.max() <= 65535 and (images == np.floor(images)).all())


def _pixel_max(images: NDArray[Any]) -> float:
    """Return the smallest usual limit that no pixel exceeds."""
    if images.size == 0 or images.dtype.kind not in "uif" or (images.dtype.kind == "f" and not _whole(images)):
        return 255.0 if images.dtype.kind != "f" else 1.0
    high = float(images.max())
    return next((limit for limit in (1.0, 16.0, 255.0, 65535.0) if high <= limit), high)


def _as_pixels(images: NDArray[Any], pixel_max: float, whole: bool) -> NDArray[Any]:
    """Turn whole floats into integers."""
    if whole and images.dtype.kind == "f" and _whole(images):
        return images.astype(np.uint8 if pixel_max <= 255 else np.int32)
    return images
