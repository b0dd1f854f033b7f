"""`Dataset`: images and labels to train on and to test with, checked once, on the host."""

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
from xpnet.data.facts import Facts, check_alike, check_plausible
from xpnet.parts import require_integer


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels, in a training and a test set, on the host.

    Parameters
    ----------
    name : str
        What plots and records call it.
    train_images : array, shape (n, height, width), (n, height, width, channels) or (n, features)
        Integers from 0 to ``pixel_max``; or floats, which are taken as they are. On the host, in any memory layout
        and byte order: they are kept C-ordered and native, integers as uint8 or, where ``pixel_max`` is above 255,
        as int32. What needs no change is not copied.
    train_labels : array of integers, shape (n,)
        From 0 to ``classes - 1``; kept as int64.
    test_images, test_labels : array
        Likewise; only the number of samples may differ.
    classes : int
        The number of classes, at least 2.
    pixel_max : float
        The brightest pixel there may be, below 2**31.
    class_names : sequence of str, optional
        What tables and plots call the classes; by default their numbers.

    Raises
    ------
    DataError
        If they do not fit together, naming what does not.

    Warns
    -----
    DataWarning
        Of what is very unlikely: pixels as floats that nobody has scaled, channels before height and width, classes
        that are missing or rare. ``warnings.simplefilter("ignore", xpnet.DataWarning)`` silences it.

    See Also
    --------
    Dataset.from_arrays : takes labels as names or one-hot rows, frames, and a training set alone.

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

    def __post_init__(self) -> None:
        """Check that all fits together."""
        if not isinstance(self.name, str) or not self.name:
            raise DataError(f"name={self.name!r}: must be a word to call the dataset by")
        object.__setattr__(self, "classes", check_classes(self.classes))
        object.__setattr__(self, "pixel_max", check_pixel_max(self.pixel_max))
        for part in ("train", "test"):
            images = check_images(f"{part}_images", getattr(self, f"{part}_images"), self.pixel_max)
            labels = check_labels(f"{part}_labels", getattr(self, f"{part}_labels"), self.classes)
            if len(images) != len(labels):
                raise DataError(f"{part}_labels: {len(labels)} labels for {len(images)} images")
            object.__setattr__(self, f"{part}_images", images)
            object.__setattr__(self, f"{part}_labels", labels)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(
                f"test_images: samples of shape {self.test_images.shape[1:]}, "
                f"but the training set's are {self.train_images.shape[1:]}"
            )
        object.__setattr__(self, "class_names", self._names())
        check_alike("test_images", self.facts, self.test_images, self.pixel_max)
        check_plausible(self.name, self.train_images, self.train_labels, self.class_names)

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
        """Make a dataset of what people have.

        Parameters
        ----------
        *arrays
            ``x_train, y_train, x_test, y_test``; or ``(x_train, y_train), (x_test, y_test)``, as Keras loads them, in
            one argument or two; or ``x, y``; or one thing that holds images and labels: a bunch of scikit-learn's, a
            dictionary such as an ``.npz`` file, a dataset of torchvision's (or two), a pandas frame with a column of
            labels. Arrays may be of any library, and lists of images.
        name : str
            What plots and records call it.
        label : str, optional
            The column of labels in a frame; by default "label", "class", "target" or "digit".
        classes : int, optional
            How many classes there are, if the labels are integers that start from 0.
        class_names : sequence of str, optional
            Their names in order; by default the distinct labels in ascending order, which may be strings, or integers
            from anywhere. Booleans, whole floats and one-hot rows are taken too.
        pixel_max : float, optional
            The brightest pixel there may be; by default the least of 1, 16, 255 and 65,535 that all training pixels
            respect. Floats that are whole numbers, and above 1 somewhere, are taken for pixels.
        image_shape : tuple of int, optional
            What to reshape each sample to, such as ``(28, 28)``; by default, columns named "pixel..." become a square.
        test_fraction : float
            The share to test with where there is no test set: chosen at random, always the same.

        Returns
        -------
        Dataset

        Raises
        ------
        DataError
            If it is not clear what is meant.

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
        """What the training images are like, in a few numbers: a run keeps them and compares."""
        return Facts.of(self.train_images, self.pixel_max)

    def __repr__(self) -> str:
        """Say what it is and how large."""
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
        """Return the dataset with only the first so many training samples; ``None`` keeps all.

        Raises
        ------
        TypeError, ValueError
            If it is not an integer, or larger than the number of samples.
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
        )

    def fingerprint(self) -> str:
        """Return a SHA-256 over all images and labels, by which a resumed run knows its data."""
        digest = hashlib.sha256(f"{self.classes} {self.pixel_max}".encode())
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
