"""Moving data from the host to the device: samples once, batches epoch by epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.nn.losses import SoftmaxCrossEntropy
from xpnet.nn.trained import EVALUATION_BATCH
from xpnet.training.step import Batch, Samples, Step
from xpnet.typing import Array


def move_samples(
    step: Step, images: NDArray[Any], labels: NDArray[Any], classes: int, weights: NDArray[Any] | None = None
) -> Samples:
    """Move a set of samples to the device."""
    backend = step.backend
    flat = images.reshape(len(images), -1)
    targets = step.loss.targets(labels, classes)
    if isinstance(step.loss, SoftmaxCrossEntropy) and not np.allclose(sums := np.sum(targets, axis=1), 1.0, atol=1e-6):
        raise ValueError(
            f"loss: the targets of a sample sum to {sums[np.argmax(np.abs(sums - 1.0))]:.6g}; the gradient p - t of "
            "cross-entropy holds for targets that sum to 1. To weight classes or samples, see xpnet.Dataset.weighted"
        )
    return Samples(
        backend.asarray(flat if flat.dtype.kind in "ui" else flat.astype(step.dtype)),
        backend.asarray(labels, "int32"),
        backend.asarray(targets, step.dtype),
        None if weights is None else backend.asarray(weights[:, None], step.dtype),
    )


def split_batches(arrays: dict[str, NDArray[Any]], batch_size: int) -> list[dict[str, NDArray[Any]]]:
    """Cut arrays with one row per sample into batches.

    Parameters
    ----------
    arrays : dict of str to array, shape (n, ...)
        Index and noise of an epoch.
    batch_size : int
        Rows per batch.

    Returns
    -------
    list of dict of str to array, shape (batches, rows, ...)
        The full batches, if any, and then the last, shorter batch, if any. All batches inside one dictionary have the
        same size, as compiled loops need.
    """
    (n,) = {len(array) for array in arrays.values()}
    full = n - n % batch_size
    parts = []
    if full:
        parts.append({k: a[:full].reshape(full // batch_size, batch_size, *a.shape[1:]) for k, a in arrays.items()})
    if full < n:
        parts.append({k: a[None, full:] for k, a in arrays.items()})
    return parts


def move_batches(step: Step, part: dict[str, NDArray[Any]]) -> Batch:
    """Move one part from `split_batches` to the device: floats in the step's dtype, integers in their own."""
    return {
        name: step.backend.asarray(array, step.dtype if array.dtype.kind == "f" else None)
        for name, array in part.items()
    }


def evaluation_parts(step: Step, index: NDArray[np.int64]) -> list[Array]:
    """Cut the indices of samples to evaluate into batches, on the device."""
    parts = split_batches({"index": index.astype(np.int32)}, EVALUATION_BATCH)
    return [step.backend.asarray(part["index"]) for part in parts]
