"""The recipes: a ladder from the NumPy tutorial to a convolutional network, one idea a rung.

Each rung is a function that returns a network and how to train it. `train` looks one up, lets the user change what
the recipe names, and hands it to `xpnet.fit`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backends import Backend, check_dtype
from xpnet.checks import require_fraction, require_positive, require_size
from xpnet.data.datasets import Dataset, load_dataset
from xpnet.nn.activations import ReLU
from xpnet.nn.augmentation import RandomShift
from xpnet.nn.convolution import Conv2D
from xpnet.nn.layers import (
    Array,
    Context,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Namespace,
    Params,
    Shape,
    Uniform,
)
from xpnet.nn.losses import SquaredError
from xpnet.nn.network import Network
from xpnet.nn.normalization import BatchNorm
from xpnet.nn.optimizers import SGD, Adam, Cosine
from xpnet.nn.pooling import MaxPool2D
from xpnet.random import check_seed, integers
from xpnet.training.distributed import Ranks, get_ranks
from xpnet.training.loop import Callback, check_callbacks, check_surroundings, fit
from xpnet.training.run import Run


@dataclass(frozen=True)
class Recipe:
    """A network, and how to train it.

    Attributes
    ----------
    network : Network
    settings : dict
        Keyword arguments for `xpnet.fit`.

    Examples
    --------
    >>> import xpnet
    >>> recipe = mlp(xpnet.load_dataset("digits"))
    >>> recipe.network.size, recipe.settings["batch_size"]
    (7510, 16)
    """

    network: Network
    settings: dict[str, Any]


# The two slips of the tutorial ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CoinDropout(Dropout):
    """Dropout by the toss of a coin, drawn the way the tutorial draws it."""

    rate: float = 0.5

    def __post_init__(self) -> None:
        """Check the rate: a coin has two sides."""
        super().__post_init__()
        if self.rate != 0.5:
            raise ValueError(f"rate={self.rate!r}: a coin drops half of the units, rate=0.5; take Dropout")

    def noise(self, rng: Any, input_shape: Shape, n: int) -> NDArray[Any] | None:
        """Draw 0 or 1 for each unit."""
        return integers(rng, 0, 2, (n, *input_shape)).astype(np.uint8)


@dataclass(frozen=True)
class TutorialReLU(ReLU):
    """ReLU with the tutorial's first slip: it takes the derivative to be 1 where the *output* is at least 0.

    The output of ReLU is never below 0, so no gradient is ever held back.
    """

    def gradient(self, kept: Array, dy: Array, xp: Namespace) -> Array:
        """Let every gradient through."""
        return dy


@dataclass(frozen=True)
class TutorialDropout(CoinDropout):
    """Dropout with the tutorial's second slip: units that are kept count double forwards, but not backwards."""

    def backward(
        self, params: Params, cache: Any, dy: Array, ctx: Context, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        """Drop, but do not scale."""
        return ctx.xp.astype(cache, dy.dtype) * dy, {}


def tutorial(
    data: Dataset,
    *,
    epochs: int = 100,
    learning_rate: float = 0.005,
    hidden_sizes: tuple[int, ...] = (100,),
) -> Recipe:
    """The NumPy tutorial, to the digit: one hidden layer, a step after every image, squared error, two slips.

    Examples
    --------
    >>> import xpnet
    >>> recipe = tutorial(xpnet.load_dataset("digits"))
    >>> print(recipe.network.summary())
    layer                                          output  parameters
    input                                           (64,)           0
    Dense(100, bias=False, init_weight=Uniform())  (100,)       6,400
    TutorialReLU()                                 (100,)           0
    TutorialDropout()                              (100,)           0
    Dense(10, bias=False, init_weight=Uniform())    (10,)       1,000
    total                                                       7,400
    """
    return _as_in_the_tutorial(data, TutorialReLU(), TutorialDropout(), epochs, learning_rate, hidden_sizes)


def corrected(
    data: Dataset,
    *,
    epochs: int = 100,
    learning_rate: float = 0.005,
    hidden_sizes: tuple[int, ...] = (100,),
) -> Recipe:
    """The tutorial with true gradients.

    Examples
    --------
    >>> import xpnet
    >>> recipe = corrected(xpnet.load_dataset("digits"))
    >>> print(recipe.network.summary())
    layer                                          output  parameters
    input                                           (64,)           0
    Dense(100, bias=False, init_weight=Uniform())  (100,)       6,400
    ReLU()                                         (100,)           0
    CoinDropout()                                  (100,)           0
    Dense(10, bias=False, init_weight=Uniform())    (10,)       1,000
    total                                                       7,400
    """
    return _as_in_the_tutorial(data, ReLU(), CoinDropout(), epochs, learning_rate, hidden_sizes)


def _as_in_the_tutorial(
    data: Dataset,
    activation: Layer,
    dropout: Layer,
    epochs: int,
    learning_rate: float,
    hidden_sizes: tuple[int, ...],
) -> Recipe:
    layers: list[Layer] = []
    for size in hidden_sizes:
        layers += [Dense(size, bias=False, init_weight=Uniform(0.1)), activation, dropout]
    layers += [Dense(data.classes, bias=False, init_weight=Uniform(0.1))]
    settings = {
        "loss": SquaredError(),
        # The tutorial steps along y - t. The gradient of (y - t)^2 is twice that, so half the rate is its step.
        "optimizer": SGD(learning_rate / 2.0),
        "epochs": epochs,
        "batch_size": 1,
        "sequential": True,
    }
    return Recipe(_dense_network(layers, data), settings)


# The ladder -------------------------------------------------------------------------------------------------------


def mlp(
    data: Dataset,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float = 3e-3,
    hidden_sizes: tuple[int, ...] = (100,),
    validation_fraction: float = 0.1,
    patience: int | None = None,
) -> Recipe:
    """The same network with biases, softmax and cross-entropy, mini-batches and Adam, stopped on a validation set.

    Examples
    --------
    >>> import xpnet
    >>> recipe = mlp(xpnet.load_dataset("digits"), hidden_sizes=(50, 20))
    >>> print(recipe.network.summary())
    layer              output  parameters
    input               (64,)           0
    Dense(50)           (50,)       3,250
    ReLU()              (50,)           0
    Dropout(rate=0.2)   (50,)           0
    Dense(20)           (20,)       1,020
    ReLU()              (20,)           0
    Dropout(rate=0.2)   (20,)           0
    Dense(10)           (10,)         210
    total                           4,480
    """
    layers: list[Layer] = []
    for size in hidden_sizes:
        layers += [Dense(size), ReLU(), Dropout(0.2)]
    settings = _annealed(
        data, epochs or _epochs(data, 30), batch_size or _batch_size(data, 128), learning_rate, validation_fraction
    )
    if patience is None and validation_fraction:
        patience = _epochs(data, 10)
    settings["patience"] = patience
    return Recipe(_dense_network([*layers, Dense(data.classes)], data), settings)


def deep(
    data: Dataset,
    *,
    epochs: int = 30,
    batch_size: int | None = None,
    learning_rate: float = 2e-3,
    hidden_sizes: tuple[int, ...] = (512, 512, 256),
    validation_fraction: float = 0.1,
) -> Recipe:
    """More and wider hidden layers, with batch normalization and more dropout.

    Examples
    --------
    >>> import xpnet
    >>> recipe = deep(xpnet.load_dataset("digits"))
    >>> [type(layer).__name__ for layer in recipe.network.layers[:4]]
    ['Dense', 'BatchNorm', 'ReLU', 'Dropout']
    """
    layers: list[Layer] = []
    for size in hidden_sizes:
        layers += [Dense(size, bias=False), BatchNorm(), ReLU(), Dropout(0.3)]
    settings = _annealed(data, epochs, batch_size, learning_rate, validation_fraction)
    return Recipe(_dense_network([*layers, Dense(data.classes)], data), settings)


def cnn(
    data: Dataset,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float = 2e-3,
    validation_fraction: float = 0.1,
) -> Recipe:
    """Two convolutions with pooling, which know that neighbouring pixels belong together.

    Examples
    --------
    >>> import xpnet
    >>> recipe = cnn(xpnet.load_dataset("digits"))
    >>> recipe.network.input_shape, [type(layer).__name__ for layer in recipe.network.layers[:3]]
    ((8, 8, 1), ['Conv2D', 'MaxPool2D', 'ReLU'])
    """
    layers: list[Layer] = [
        *[Conv2D(16, 3, padding="same"), MaxPool2D(2), ReLU()],
        *[Conv2D(32, 3, padding="same"), MaxPool2D(2), ReLU()],
        *[Flatten(), Dropout(0.3), Dense(128), ReLU(), Dropout(0.3), Dense(data.classes)],
    ]
    settings = _annealed(data, epochs or _epochs(data, 15), batch_size, learning_rate, validation_fraction)
    return Recipe(_image_network(layers, data), settings)


def best(
    data: Dataset,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float = 3e-3,
    validation_fraction: float = 0.1,
) -> Recipe:
    """More convolutions, each with batch normalization, on images that are shifted at random.

    Examples
    --------
    >>> import xpnet
    >>> recipe = best(xpnet.load_dataset("digits"))
    >>> type(recipe.network.layers[0]).__name__, type(recipe.settings["schedule"]).__name__
    ('RandomShift', 'Cosine')
    """
    layers: list[Layer] = [RandomShift(2 if min(data.sample_shape[:2]) >= 16 else 1)]
    for filters in (16, 32):
        layers += [Conv2D(filters, 3, padding="same", bias=False), BatchNorm(), ReLU()]
        # ReLU after the pool works on a quarter of the pixels, with the same result: the maximum is kept by both.
        layers += [Conv2D(filters, 3, padding="same", bias=False), BatchNorm(), MaxPool2D(2), ReLU()]
    layers += [Flatten(), Dropout(0.2), Dense(128, bias=False), BatchNorm(), ReLU(), Dropout(0.2)]
    settings = _annealed(data, epochs or _epochs(data, 12), batch_size, learning_rate, validation_fraction)
    return Recipe(_image_network([*layers, Dense(data.classes)], data), settings)


def _annealed(
    data: Dataset,
    epochs: int,
    batch_size: int | None,
    learning_rate: float,
    validation_fraction: float,
) -> dict[str, Any]:
    """Train with a learning rate that rises for a moment and then falls to zero."""
    return {
        "optimizer": Adam(learning_rate),
        "schedule": Cosine(epochs, warm_up=min(1.0, epochs / 2.0)),
        "epochs": epochs,
        "batch_size": batch_size or _batch_size(data),
        "validation_fraction": validation_fraction,
    }


def _epochs(data: Dataset, usual: int) -> int:
    """Go through a small dataset more often: it is the number of steps that counts."""
    return usual if len(data.train_images) >= 10_000 else 3 * usual


def _batch_size(data: Dataset, usual: int = 64) -> int:
    """Choose batches that leave some fifty steps an epoch, even on a small dataset."""
    return usual if len(data.train_images) >= 10_000 else 16


RECIPES: dict[str, Callable[..., Recipe]] = {
    "tutorial": tutorial,
    "corrected": corrected,
    "mlp": mlp,
    "deep": deep,
    "cnn": cnn,
    "best": best,
}

SEEDS = {"tutorial": 1, "corrected": 1}
"""The seed that a recipe takes by default, where it is not 0: the tutorial's is 1."""

DTYPES = {"tutorial": "float64", "corrected": "float64"}
"""The dtype that a recipe takes by default, where it is not float32."""

TRAIN_SAMPLES = {"tutorial": 1000, "corrected": 1000}
"""How many images a recipe trains on by default, where it is not all of them."""


def train(
    recipe: str = "mlp",
    *,
    dataset: str | Dataset | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    backend: str | ModuleType | Backend | None = None,
    dtype: str | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    hidden_sizes: Sequence[int] | None = None,
    train_samples: int | None = None,
    validation_fraction: float | None = None,
    patience: int | None = None,
    threads: int | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    distributed: str | Ranks | None = None,
) -> Run:
    """Train a network by a recipe.

    Parameters
    ----------
    recipe : str
        A rung of the ladder: ``"tutorial"``, ``"corrected"``, ``"mlp"``, ``"deep"``, ``"cnn"`` or ``"best"``.
    dataset : {"digits", "mnist"} or Dataset, optional
        By default MNIST from the cache or the network, else the bundled digits, with a warning.
    data_dir : path-like, optional
        Where the files of MNIST are or go; by default ``XPNET_DATA_DIR``, else the user's cache.
    backend : str, module or Backend, optional
        ``"numpy"``, ``"cupy"``, ``"torch:cuda"``, ...; by default ``XPNET_BACKEND``, else ``"numpy"``.
    dtype : {"float32", "float64"}, optional
    seed : int, optional
    epochs, batch_size : int, optional
    learning_rate : float, optional
    hidden_sizes : sequence of int, optional
        Units of each hidden layer.
    train_samples : int, optional
        Take only the first so many training images.
    validation_fraction : float, optional
    patience : int, optional
        All of these: what the recipe says, when ``None``. One that a recipe does not use is an error.
    threads : int, optional
        See `xpnet.fit`, as for all that follow.
    output_dir : path-like, optional
    resume : bool
    progress : bool
    callbacks : sequence of callable
    distributed : {"mpi", "mpi:device"}, optional

    Returns
    -------
    Run

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, before any work.

    Examples
    --------
    >>> import xpnet
    >>> run = xpnet.train("mlp", dataset="digits", epochs=5, progress=False)
    >>> run.history[-1].test_accuracy > 0.8
    True
    """
    # First of all, so that a rank that finds an error can end the job.
    ranks = get_ranks(distributed)
    callbacks = check_callbacks(callbacks)
    given = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "hidden_sizes": hidden_sizes,
        "validation_fraction": validation_fraction,
        "patience": patience,
        "train_samples": train_samples,
        "dtype": dtype,
        "seed": seed,
        "threads": threads,
        "output_dir": output_dir,
        "resume": resume,
    }
    # All that can be refused without the data is refused before it is looked for: that may be a download.
    chosen = check_arguments(recipe, given)
    opened = ranks.open_backend(backend)
    dtype = dtype or DTYPES.get(recipe, "float32")
    seed = SEEDS.get(recipe, 0) if seed is None else seed
    data = ranks.once_a_machine(lambda: load_dataset(dataset, data_dir=data_dir))
    if train_samples is None and recipe in TRAIN_SAMPLES:
        train_samples = min(TRAIN_SAMPLES[recipe], len(data.train_images))
    data = data.first(train_samples)
    prepared = RECIPES[recipe](data, **chosen)
    return fit(
        prepared.network,
        data,
        **prepared.settings,
        seed=seed,
        backend=opened,
        dtype=dtype,
        threads=threads,
        output_dir=output_dir,
        resume=resume,
        progress=progress,
        callbacks=callbacks,
        distributed=ranks,
        recipe=recipe,
    )


RECIPE_SETTINGS = ("epochs", "batch_size", "learning_rate", "hidden_sizes", "validation_fraction", "patience")
"""The arguments of `train` that are a recipe's: where one takes them, it has a default for them."""


def check_arguments(recipe: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check what can be checked of the arguments of `train` without the data and the backend.

    Parameters
    ----------
    recipe : str
        The recipe.
    given : mapping of str to object
        Arguments of `train` by name; ``None`` is what the recipe says.

    Returns
    -------
    dict of str to object
        The recipe's own settings among them, without those that are ``None``.

    Raises
    ------
    ValueError, TypeError
        Naming the argument and its value.
    """
    chosen = check_settings(recipe, **{name: given.get(name) for name in RECIPE_SETTINGS})
    if given.get("dtype") is not None:
        check_dtype(given["dtype"])
    if given.get("seed") is not None:
        check_seed(given["seed"])
    if given.get("train_samples") is not None:
        require_size("train_samples", given["train_samples"])
    check_surroundings(given.get("threads"), given.get("output_dir"), given.get("resume", False))
    return chosen


def check_settings(recipe: str, **settings: Any) -> dict[str, Any]:
    """Check what can be checked of a recipe's settings without the data, and return those that are not ``None``.

    Raises
    ------
    ValueError, TypeError
        If there is no such recipe, it does not use a setting, or a value is wrong.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise ValueError(f"recipe={recipe!r}: unknown; there are {', '.join(RECIPES)}")
    known = [name for name in inspect.signature(RECIPES[recipe]).parameters if name != "data"]
    for name in given:
        if name not in known:
            raise ValueError(
                f"{name}={given[name]!r}: the recipe {recipe!r} does not use it; it takes {', '.join(known)}"
            )
    for name in ("epochs", "batch_size", "patience"):
        if name in given:
            require_size(name, given[name])
    if "validation_fraction" in given:
        require_fraction("validation_fraction", given["validation_fraction"])
    if "learning_rate" in given:
        require_positive("learning_rate", given["learning_rate"])
    if "hidden_sizes" in given:
        given["hidden_sizes"] = _sizes(given["hidden_sizes"])
    return given


def _sizes(sizes: Any) -> tuple[int, ...]:
    if isinstance(sizes, str) or not isinstance(sizes, Sequence):
        raise TypeError(f"hidden_sizes={sizes!r}: must be a list of integers, such as (100,)")
    for size in sizes:
        require_size("hidden_sizes", size)
    if not sizes:
        raise ValueError("hidden_sizes=(): must name at least one layer")
    return tuple(sizes)


def _dense_network(layers: list[Layer], data: Dataset) -> Network:
    return Network(layers, (int(np.prod(data.sample_shape)),), data.pixel_max)


def _image_network(layers: list[Layer], data: Dataset) -> Network:
    if len(data.sample_shape) < 2:
        raise ValueError(
            f"dataset: {data.name} has samples of shape {data.sample_shape}; this recipe needs images, "
            "(height, width) or (height, width, channels)"
        )
    return Network(layers, data.sample_shape, data.pixel_max)
