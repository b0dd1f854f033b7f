"""Conversion of labels to class numbers and class names.

Integers, strings, booleans, whole floats and one-hot rows are clear. Ambiguous labels are an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.arrays import MEND, check_none_missing, to_host
from xpnet.data.download import DataError
from xpnet.data.facts import SILENCE, warn

MISSING = ("-1", "nan", "none", "null", "<na>", "n/a")
"""Names of classes that more probably stand for samples without a label."""

MAX_CLASSES = 10_000
"""More distinct labels than this are an error: they are probably numbers to predict, not classes."""


def plain_labels(argument: str, labels: Any) -> NDArray[Any]:
    """Return labels of shape (n,), integers or strings.

    Raises
    ------
    DataError
        If the label of a sample is not clear.

    Examples
    --------
    >>> from xpnet.data.labels import plain_labels
    >>> plain_labels("labels", [[0.0, 1.0], [1.0, 0.0]]).tolist()
    [1, 0]
    """
    array = to_host(argument, labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "buif":
        ones = array == 1
        if not ((ones | (array == 0)).all() and (ones.sum(axis=1) == 1).all()):
            raise DataError(
                f"{argument}: shape {array.shape}: rows that are not one-hot (a single 1, else 0). "
                "Probabilities are not labels: pass numpy.argmax(labels, axis=1) if that is what you mean"
            )
        return np.asarray(np.argmax(array, axis=1))
    if array.ndim != 1:
        raise DataError(f"{argument}: shape {array.shape}; must be (n,), a label for each image, or one-hot rows")
    if array.dtype.kind == "f":
        check_none_missing(argument, array)
        if not (np.isfinite(array).all() and (array == np.floor(array)).all()):
            raise DataError(f"{argument}: floats that are not whole numbers; a label is the number or name of a class")
        return array.astype(np.int64)
    if array.dtype.kind == "S":
        array = np.asarray([label.decode("utf-8", "replace") for label in array.tolist()], dtype=np.str_)
    if array.dtype.kind == "U" and (empty := int((np.char.strip(array) == "").sum())):
        raise DataError(f"{argument}: {empty:,} of {array.size:,} are empty: {MEND}")
    if array.dtype.kind == "b":
        return np.where(array, "True", "False")
    if array.dtype.kind not in "uiU":
        raise DataError(f"{argument}: {array.dtype} values; a label is the number or name of a class")
    return array


def name_classes(
    train: NDArray[Any], test: NDArray[Any], classes: int | None = None, names: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Number the classes.

    Parameters
    ----------
    train, test : array, shape (n,)
        Labels from `plain_labels`.
    classes : int, optional
        The number of classes, if integer labels are already class numbers.
    names : sequence of str, optional
        The names of the classes in order. String labels must be among them; integer labels are positions in them.

    Returns
    -------
    train, test : array of int64
        Class numbers from 0.
    names : tuple of str

    Notes
    -----
    Without ``classes`` and ``names``, the distinct labels are the classes. Integers and strings of digits come first,
    ordered by value, then other strings in alphabetical order.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.labels import name_classes
    >>> name_classes(np.asarray(["cat", "dog", "cat"]), np.asarray(["dog"]))
    (array([0, 1, 0]), array([1]), ('cat', 'dog'))
    """
    if train.dtype.kind != test.dtype.kind and "U" in (train.dtype.kind, test.dtype.kind):
        raise DataError(f"test_labels: {test.dtype.name} values, but the training labels are {train.dtype.name}")
    if train.dtype.kind != "U" and (classes is not None or names is not None):
        known = tuple(names) if names is not None else tuple(str(k) for k in range(classes or 0))
        return _in_range("train", train, len(known)), _in_range("test", test, len(known)), known
    present = sorted({*train.tolist(), *test.tolist()}, key=_order)
    if len(present) > MAX_CLASSES:
        raise DataError(
            f"train_labels: {len(present):,} distinct labels; classes are few. Numbers to predict are not classes"
        )
    if names is None:
        _suspect(present)
    known = tuple(str(label) for label in present) if names is None else tuple(names)
    if unknown := [label for label in present if str(label) not in known]:
        raise DataError(f"train_labels: {unknown[0]!r} is not among class_names: {', '.join(known)[:200]}")
    if classes is not None and classes != len(known):
        raise DataError(f"classes={classes}: but {len(known)} names among the labels")
    numbers = {name: number for number, name in enumerate(known)}
    each = (np.asarray([numbers[str(label)] for label in labels.tolist()], np.int64) for labels in (train, test))
    return *each, known  # type: ignore[return-value]


def _suspect(present: Sequence[Any]) -> None:
    """Refuse fewer than two classes, and warn if one looks like a mark for samples without a label.

    ``-1`` and ``1`` alone are two classes.
    """
    marks = [str(label) for label in present if str(label).lower() in MISSING]
    if marks and len(present) > 2:
        warn(f"train_labels: {marks[0]!r} is taken as the name of a class: are its samples without a label? {SILENCE}")
    if len(present) < 2:
        only = f"all are {present[0]!r}" if present else "there are none"
        raise DataError(f"train_labels: {only}; a classifier needs two classes, or class_names= of all that there are")


def _order(label: Any) -> tuple[bool, int, str]:
    """Return the sort key that puts numbers, by value, before words, in alphabetical order."""
    text = str(label)
    number = isinstance(label, int) or (text.isascii() and text.isdecimal())
    return not number, int(text) if number else 0, text


def _in_range(part: str, labels: NDArray[Any], classes: int) -> NDArray[np.int64]:
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(
            f"{part}_labels: from {labels.min()} to {labels.max()}; must be from 0 to {classes - 1} (classes={classes})"
        )
    return labels.astype(np.int64)
