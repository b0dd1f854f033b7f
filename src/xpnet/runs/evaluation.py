"""Evaluation of a network on the host: the confusion matrix, and the measures that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.datasets import Dataset
from xpnet.data.facts import check_names
from xpnet.nn.trained import TrainedNetwork
from xpnet.parts import require_instance
from xpnet.text import aligned


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The results of a network on a set of samples.

    Attributes
    ----------
    predictions : array of integers, shape (n,)
        The predicted classes.
    confusion : array of integers, shape (classes, classes)
        The number of samples of each class (row) that were predicted as each class (column).
    class_names : tuple of str
        The names of the classes; if empty, their numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Evaluation
    >>> result = Evaluation(np.asarray([0, 1, 1]), np.asarray([[1, 1], [0, 1]]))
    >>> print(result.table())
    class  samples  precision  recall
        0        2     1.0000  0.5000
        1        1     0.5000  1.0000
    """

    predictions: NDArray[np.int64]
    confusion: NDArray[np.int64]
    class_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return the number of samples and the accuracy."""
        return f"Evaluation({int(self.confusion.sum()):,} samples, accuracy {self.accuracy:.4f})"

    def _repr_html_(self) -> str:
        """Show the confusion matrix and the table in a notebook."""
        from xpnet.plots import display

        return display.evaluation_html(self)

    @property
    def accuracy(self) -> float:
        """The share of samples that were predicted correctly."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def precision(self) -> NDArray[np.float64]:
        """The share of correct predictions of each class; NaN for a class that was never predicted."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """The share of each class's samples that were predicted correctly; NaN for a class without samples."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=1))

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers in a JSON-serializable form, with NaN as None."""
        return {
            "samples": int(self.confusion.sum()),
            "accuracy": self.accuracy,
            "precision": [None if np.isnan(x) else float(x) for x in self.precision],
            "recall": [None if np.isnan(x) else float(x) for x in self.recall],
            "confusion": self.confusion.tolist(),
        }

    def table(self) -> str:
        """Return precision and recall of each class as a table."""
        return aligned(self.rows(), left=0)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return the cells of the table, the head first."""
        names = self.class_names or [str(k) for k in range(len(self.confusion))]
        numbers = zip(names, self.confusion.sum(axis=1), self.precision, self.recall, strict=True)
        return [
            ("class", "samples", "precision", "recall"),
            *((name, str(n), f"{p:.4f}", f"{r:.4f}") for name, n, p, r in numbers),
        ]


def confusion_matrix(labels: NDArray[Any], predictions: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count how often each class was predicted as each class.

    Parameters
    ----------
    labels, predictions : array of integers, shape (n,)
        Class numbers from 0 to ``classes - 1``.
    classes : int
        The number of classes.

    Returns
    -------
    array, shape (classes, classes)
        A row for each label, and a column for each prediction.

    Raises
    ------
    ValueError
        If the two have different lengths, or a number is not a class.

    Examples
    --------
    >>> import numpy as np
    >>> confusion_matrix(np.asarray([0, 0, 1]), np.asarray([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.shape != labels.shape or values.ndim != 1:
            raise ValueError(f"{name}: shape {values.shape}; labels and predictions must both be (n,)")
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"{name}: from {values.min()} to {values.max()}; must be from 0 to {classes - 1}")
    pairs = labels.astype(np.int64) * classes + predictions.astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def evaluate(network: TrainedNetwork, data: Dataset) -> Evaluation:
    """Evaluate a network with weights on the test set of a dataset.

    Parameters
    ----------
    network : TrainedNetwork
        A network from `xpnet.fit` or `xpnet.load`.
    data : Dataset
        The dataset whose test set is used.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError, TypeError
        If the network has no weights, or does not fit the images or the number of classes.

    Examples
    --------
    >>> import xpnet
    >>> run = xpnet.train("mlp", dataset="digits", epochs=3, progress=False)
    >>> result = xpnet.evaluate(run.network, run.data)
    >>> result.confusion.shape, result.accuracy == run.history[-1].test_accuracy
    ((10, 10), True)
    """
    require_instance("network", network, TrainedNetwork, "run.network")
    require_instance("data", data, Dataset, "xpnet.load_dataset('digits')")
    if network.output_shape != (data.classes,):
        raise ValueError(
            f"data: {data.name} has {data.classes} classes, but the network's output is {network.output_shape}"
        )
    if network.facts is not None:
        check_names("data", network.facts.class_names, data.class_names)
    images = data.test_images
    if images.dtype.kind in "ui" and data.pixel_max != network.pixel_max:
        images = images / np.asarray(data.pixel_max, network.dtype)  # scaled by the dataset's own largest pixel
    predictions = network.predict(images)
    confusion = confusion_matrix(data.test_labels, predictions, data.classes)
    return Evaluation(predictions, confusion, data.class_names)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return ratio
