"""`Dataset`: images and labels for training and testing, checked once, on the host."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.checks import check_classes, check_images, check_labels, check_pixel_max
from xpnet.data.download import DataError
from xpnet.data.facts import Facts, check_alike
from xpnet.data.plausible import check_plausible
from xpnet.data.weights import check_weights, weights_of_classes
from xpnet.parts import require_integer


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels, in a training and a test set, on the host.

    Parameters
    ----------
    name : str
        The name of the dataset in plots and records.
    train_images : array, shape (n, height, width), (n, height, width, channels) or (n, features)
        Integers from 0 to ``pixel_max``, or floats, which are used as they are. Any memory layout and byte order is
        accepted. The dataset keeps C-ordered, native arrays, with integers as uint8, or as int32 if ``pixel_max`` is
        above 255. An array that needs no change is not copied.
    train_labels : array of integers, shape (n,)
        Labels from 0 to ``classes - 1``; kept as int64.
    test_images, test_labels : array
        The same for the test set; only the number of samples may differ.
    classes : int
        The number of classes, at least 2.
    pixel_max : float
        The largest possible pixel, below 2**31.
    class_names : sequence of str, optional
        The names of the classes in tables and plots; by default their numbers.
    train_weights : array, shape (n,), optional
        The weight of each training sample, as `Dataset.weighted` sets it; by default all are equal.

    Raises
    ------
    DataError
        If an array is invalid or does not fit the others, naming it.

    Warns
    -----
    DataWarning
        If the data look like a mistake: unscaled pixels as floats, channels before height and width, missing or rare
        classes. ``warnings.simplefilter("ignore", xpnet.DataWarning)`` silences it.

    See Also
    --------
    Dataset.from_arrays : Also takes labels as names or one-hot rows, frames, and a single set to split.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Dataset
    >>> images = np.zeros((6, 3, 3), dtype=np.uint8)
    >>> data = Dataset("dots", images, [0, 1, 0, 1, 0, 1], images[:2], [0, 1], classes=2)
    >>> data.sample_shape, data.train_labels.dtype.name
    ((3, 3), 'int64')
    """

    name: str
    train_images: NDArray[Any] = field(repr=False)
    train_labels: NDArray[Any] = field(repr=False)
    test_images: NDArray[Any] = field(repr=False)
    test_labels: NDArray[Any] = field(repr=False)
    classes: int = 10
    pixel_max: float = 255.0
    class_names: tuple[str, ...] = field(default=(), repr=False)
    train_weights: NDArray[np.float64] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check every field, and that they fit together."""
        if not isinstance(self.name, str) or not self.name:
            raise DataError(f"name={self.name!r}: must be a string that is not empty")
        object.__setattr__(self, "classes", check_classes(self.classes))
        object.__setattr__(self, "pixel_max", check_pixel_max(self.pixel_max))
        for part in ("train", "test"):
            images = check_images(f"{part}_images", getattr(self, f"{part}_images"), self.pixel_max)
            labels = check_labels(f"{part}_labels", getattr(self, f"{part}_labels"), self.classes, len(images))
            object.__setattr__(self, f"{part}_images", images)
            object.__setattr__(self, f"{part}_labels", labels)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(
                f"test_images: samples of shape {self.test_images.shape[1:]}, "
                f"but the training set's are {self.train_images.shape[1:]}"
            )
        object.__setattr__(self, "class_names", self._names())
        if self.train_weights is not None:
            weights = check_weights("train_weights", self.train_weights, len(self.train_images))
            object.__setattr__(self, "train_weights", weights)
        check_alike("test_images", self.facts, self.test_images, self.pixel_max)
        trained = (self.train_images, self.train_labels, self.class_names)
        check_plausible(self.name, *trained, self.facts, self.pixel_max)

    def _names(self) -> tuple[str, ...]:
        """Return the names of the classes, by default their numbers."""
        names = tuple(str(name) for name in self.class_names) or tuple(str(k) for k in range(self.classes))
        if len(names) != self.classes or len({*names}) != len(names):
            raise DataError(f"class_names: {len(names)} names, {len({*names})} distinct, for {self.classes} classes")
        return names

    @classmethod
    def from_arrays(
        cls,
        *arrays: Any,
        name: str = "mine",
        label: str | None = None,
        classes: int | None = None,
        class_names: Sequence[str] | None = None,
        pixel_max: float | None = None,
        image_shape: tuple[int, ...] | None = None,
        test_fraction: float = 0.2,
    ) -> Dataset:
        """Make a dataset from arrays, pairs of arrays, or objects that hold images and labels.

        Parameters
        ----------
        *arrays
            ``x_train, y_train, x_test, y_test``; or ``(x_train, y_train), (x_test, y_test)``, as Keras loads them, in
            one argument or two; or ``x, y``; or one object that holds images and labels: a scikit-learn bunch, a
            dictionary such as an ``.npz`` file, one or two torchvision datasets, or a pandas frame with a column of
            labels. Arrays may be of any library, or lists of images.
        name : str
            The name of the dataset in plots and records.
        label : str, optional
            The column of labels in a frame; by default "label", "labels", "class", "target", "digit" or "y".
        classes : int, optional
            The number of classes, if the labels are integers that start from 0.
        class_names : sequence of str, optional
            The names of the classes in order. By default they are the distinct labels in ascending order, which may be
            strings or any integers. Booleans, whole floats and one-hot rows are accepted too.
        pixel_max : float, optional
            The largest possible pixel. By default the smallest of 1, 16, 255 and 65,535 that no training pixel
            exceeds. Floats count as pixels if all are whole numbers and some are above 1.
        image_shape : tuple of int, optional
            The shape to give each sample, such as ``(28, 28)``; by default, columns named "pixel..." become a square.
        test_fraction : float
            The share to test with if there is no test set. The choice is random, but always the same.

        Returns
        -------
        Dataset

        Raises
        ------
        DataError
            If the meaning of the data is not clear.

        Examples
        --------
        >>> import numpy as np
        >>> from xpnet import Dataset
        >>> images = np.arange(90.0).reshape(10, 3, 3)
        >>> data = Dataset.from_arrays(images, ["cat", "dog"] * 5, name="pets")
        >>> data.class_names, data.train_images.dtype.name, len(data.train_labels), len(data.test_labels)
        (('cat', 'dog'), 'uint8', 8, 2)
        """
        from xpnet.data.frames import assemble

        how: dict[str, Any] = {
            "label": label,
            "classes": classes,
            "class_names": class_names,
            "pixel_max": pixel_max,
            "image_shape": image_shape,
            "test_fraction": test_fraction,
        }
        return cls(name, **assemble(arrays, **how))

    @functools.cached_property
    def facts(self) -> Facts:
        """A few numbers about the training images, which a run keeps to compare new images with."""
        return replace(Facts.of(self.train_images, self.pixel_max), class_names=self.class_names)

    def __repr__(self) -> str:
        """Return the name, the sizes and the number of classes."""
        shape = "×".join(map(str, self.sample_shape))
        sizes = f"{len(self.train_images):,} training and {len(self.test_images):,} test images of {shape}"
        return f"Dataset({self.name!r}: {sizes}, {self.classes} classes)"

    def _repr_html_(self) -> str:
        """Show sizes, classes and a row of samples in a notebook."""
        from xpnet.plots import display

        return display.dataset_html(self)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return self.train_images.shape[1:]

    def first(self, train_samples: int | None) -> Dataset:
        """Return the dataset with only the first ``train_samples`` training samples; ``None`` keeps all.

        Raises
        ------
        TypeError, ValueError
            If it is not an integer, below 1, or larger than the number of samples.
        """
        if train_samples is None:
            return self
        require_integer("train_samples", train_samples)
        if not 1 <= train_samples <= len(self.train_images):
            raise ValueError(f"train_samples={train_samples}: {self.name} has from 1 to {len(self.train_images)}")
        return replace(
            self,
            train_images=self.train_images[:train_samples],
            train_labels=self.train_labels[:train_samples],
            train_weights=None if self.train_weights is None else self.train_weights[:train_samples],
        )

    def weighted(self, class_weight: Any = None, sample_weight: Any = None) -> Dataset:
        """Return the dataset with weights for its training samples.

        The gradient of each sample is multiplied by its weight. Losses and accuracies are recorded without weights, so
        that you can compare those of the training set and the test set.

        Parameters
        ----------
        class_weight : "balanced", mapping or sequence, optional
            The weight of each class, in order or by name; classes that are not named have a weight of 1. "balanced"
            gives all classes the same sum of weights, and the samples a mean of 1.
        sample_weight : array_like, shape (n,), optional
            The weight of each training sample. It is multiplied by the class weight and by the dataset's own weights.

        Raises
        ------
        DataError
            If weights are not finite, if one is negative, or if all are 0.

        Examples
        --------
        >>> import xpnet
        >>> data = xpnet.load_dataset("digits").weighted({"9": 10})
        >>> data.train_labels[7:11].tolist(), data.train_weights[7:11].tolist()
        ([7, 8, 9, 0], [1.0, 1.0, 10.0, 1.0])
        """
        weights = np.ones(len(self.train_labels)) if self.train_weights is None else self.train_weights
        if class_weight is not None:
            weights = weights * weights_of_classes(class_weight, self.train_labels, self.class_names)
        if sample_weight is not None:
            weights = weights * check_weights("sample_weight", sample_weight, len(self.train_labels))
        return replace(self, train_weights=weights)

    def fingerprint(self) -> str:
        """Return a SHA-256 over all images and labels, by which a resumed run recognizes its data."""
        digest = hashlib.sha256(f"{self.classes} {self.pixel_max}".encode())
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
