"""The recipes: a ladder from the NumPy tutorial to a convolutional network, with one new idea per rung.

Each rung is a function that returns a `Plan`: a network, and how to train it. ``@recipe`` registers the function under
its name, and `xpnet.train` looks it up. Register your own recipe in the same way.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.datasets import Dataset
from xpnet.nn.activations import ReLU
from xpnet.nn.augmentation import RandomShift
from xpnet.nn.convolution import Conv2D
from xpnet.nn.images import Flatten
from xpnet.nn.initializers import Uniform
from xpnet.nn.layers import Context, Dense, Dropout, Layer
from xpnet.nn.losses import Loss, SoftmaxCrossEntropy, SquaredError
from xpnet.nn.network import Network
from xpnet.nn.normalization import BatchNorm
from xpnet.nn.optimizers import SGD, Adam, Optimizer
from xpnet.nn.pooling import MaxPool2D
from xpnet.nn.schedules import Cosine, Schedule
from xpnet.parts import Fraction, Part, Positive, Size, Sizes, check_arguments, instance_of
from xpnet.random import integers
from xpnet.typing import Array, Arrays, Shape


@dataclass(frozen=True)
class Plan(Part):
    """A network, and how to train it. `xpnet.fit` explains the fields.

    Examples
    --------
    >>> import xpnet
    >>> plan = mlp(xpnet.load_dataset("digits"))
    >>> plan.network.size, plan.batch_size
    (7510, 16)
    """

    network: Network
    loss: Annotated[Loss, instance_of(Loss, "SoftmaxCrossEntropy()")] = SoftmaxCrossEntropy()
    optimizer: Annotated[Optimizer, instance_of(Optimizer, "Adam(1e-3)")] = Adam()
    schedule: Annotated[Schedule, instance_of(Schedule, "Cosine(epochs=10)")] = Schedule()
    epochs: Size = 10
    batch_size: Size = 128
    validation_fraction: Fraction = 0.0
    patience: Size | None = None
    monitor: str = "val_accuracy"
    sequential: bool = False

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        super().__post_init__()
        if self.patience is not None and self.validation_fraction == 0.0:
            raise ValueError(
                f"patience={self.patience}: early stopping needs a validation set, so a validation_fraction above 0"
            )
        if self.schedule.length < self.epochs:
            raise ValueError(
                f"epochs={self.epochs}: the schedule {self.schedule!r} covers only {self.schedule.length:g}"
            )

    def arguments(self) -> dict[str, Any]:
        """Return the plan as keyword arguments of `xpnet.fit`."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclass(frozen=True)
class Recipe:
    """A rung of the ladder, and its defaults.

    Attributes
    ----------
    name : str
    build : callable
        Takes a dataset and settings, and returns a `Plan`.
    seed : int
    dtype : str
    train_samples : int, optional
        The number of training images; ``None`` means all.

    Examples
    --------
    >>> from xpnet.recipes import RECIPES
    >>> RECIPES["corrected"].what, RECIPES["corrected"].settings["epochs"]
    ('The tutorial with true gradients', 100)
    """

    name: str
    build: Callable[..., Plan]
    seed: int = 0
    dtype: str = "float32"
    train_samples: int | None = None

    @property
    def what(self) -> str:
        """The first sentence of its docstring."""
        return (self.build.__doc__ or "").partition(".")[0].strip()

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe's settings with their defaults."""
        parameters = inspect.signature(self.build).parameters.values()
        return {parameter.name: parameter.default for parameter in parameters if parameter.name != "data"}

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check settings by the annotations of the recipe, and return those that are not ``None``.

        Raises
        ------
        ValueError, TypeError
            If the recipe does not use a setting, or a value is wrong.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        for name, value in chosen.items():
            if name not in self.settings:
                takes = ", ".join(self.settings)
                raise ValueError(f"{name}={value!r}: the recipe {self.name!r} does not use it; it takes {takes}")
        return check_arguments(self.build, chosen)


RECIPES: dict[str, Recipe] = {}


def recipe(**defaults: Any) -> Callable[[Callable[..., Plan]], Callable[..., Plan]]:
    """Register a function as a recipe, under its own name.

    Parameters
    ----------
    **defaults
        The recipe's ``seed``, ``dtype`` and ``train_samples``; see `Recipe`.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet.recipes import RECIPES, Plan, recipe
    >>> @recipe(seed=3)
    ... def linear(data, *, epochs=2):
    ...     '''A single dense layer.'''
    ...     return Plan(xpnet.Network([xpnet.Dense(data.classes)], data.sample_shape[:1]), epochs=epochs)
    >>> RECIPES.pop("linear").what
    'A single dense layer'
    """

    def enter(build: Callable[..., Plan]) -> Callable[..., Plan]:
        name = build.__name__
        RECIPES[name] = Recipe(name, build, **defaults)
        return build

    return enter


def find_recipe(name: str) -> Recipe:
    """Look a recipe up by its name.

    Raises
    ------
    ValueError
        If there is none of this name; the message lists all recipes.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise ValueError(f"recipe={name!r}: unknown; there are {', '.join(RECIPES)}")
    return RECIPES[name]


# The two bugs of the tutorial -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CoinDropout(Dropout):
    """Dropout with a rate of one half, drawn as the tutorial draws it."""

    rate: Fraction = 0.5

    def __post_init__(self) -> None:
        """Check that the rate is one half."""
        super().__post_init__()
        if self.rate != 0.5:
            raise ValueError(f"rate={self.rate!r}: a coin drops half of the units, rate=0.5; take Dropout")

    def noise(self, rng: Any, input_shape: Shape, n: int) -> NDArray[Any] | None:
        """Draw 0 or 1 for each unit."""
        return integers(rng, 0, 2, (n, *input_shape)).astype(np.uint8)


@dataclass(frozen=True)
class TutorialReLU(ReLU):
    """ReLU with the tutorial's first bug: it takes the derivative to be 1 where the *output* is at least 0.

    The output of ReLU is never below 0, so no gradient is ever masked.
    """

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Return the gradient unchanged."""
        return dy, {}


@dataclass(frozen=True)
class TutorialDropout(CoinDropout):
    """Dropout with the tutorial's second bug: only the forward pass doubles the kept units."""

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Mask the gradient without scaling it."""
        return (dy if cache is None else ctx.xp.astype(cache, dy.dtype, copy=False) * dy), {}


@recipe(seed=1, dtype="float64", train_samples=1000)
def tutorial(
    data: Dataset,
    *,
    epochs: Size = 100,
    learning_rate: Positive = 0.005,
    hidden_sizes: Sizes = (100,),
) -> Plan:
    """The NumPy tutorial, to the digit: one hidden layer, a step after every image, squared error, two bugs.

    Examples
    --------
    >>> import xpnet
    >>> plan = tutorial(xpnet.load_dataset("digits"))
    >>> print(plan.network.summary())
    layer                                             output  parameters
    input                                              (64,)           0
    Dense(100, bias=False, init_weight=Uniform(0.1))  (100,)       6,400
    TutorialReLU()                                    (100,)           0
    TutorialDropout(0.5)                              (100,)           0
    Dense(10, bias=False, init_weight=Uniform(0.1))    (10,)       1,000
    total                                                          7,400
    """
    return _as_in_the_tutorial(data, TutorialReLU(), TutorialDropout(), epochs, learning_rate, hidden_sizes)


@recipe(seed=1, dtype="float64", train_samples=1000)
def corrected(
    data: Dataset,
    *,
    epochs: Size = 100,
    learning_rate: Positive = 0.005,
    hidden_sizes: Sizes = (100,),
) -> Plan:
    """The tutorial with true gradients.

    Examples
    --------
    >>> import xpnet
    >>> plan = corrected(xpnet.load_dataset("digits"))
    >>> print(plan.network.summary())
    layer                                             output  parameters
    input                                              (64,)           0
    Dense(100, bias=False, init_weight=Uniform(0.1))  (100,)       6,400
    ReLU()                                            (100,)           0
    CoinDropout(0.5)                                  (100,)           0
    Dense(10, bias=False, init_weight=Uniform(0.1))    (10,)       1,000
    total                                                          7,400
    """
    return _as_in_the_tutorial(data, ReLU(), CoinDropout(), epochs, learning_rate, hidden_sizes)


def _as_in_the_tutorial(
    data: Dataset,
    activation: Layer,
    dropout: Layer,
    epochs: int,
    learning_rate: float,
    hidden_sizes: tuple[int, ...],
) -> Plan:
    layers: list[Layer] = []
    for size in hidden_sizes:
        layers += [Dense(size, bias=False, init_weight=Uniform(0.1)), activation, dropout]
    layers += [Dense(data.classes, bias=False, init_weight=Uniform(0.1))]
    return Plan(
        _dense_network(layers, data),
        loss=SquaredError(),
        # The tutorial steps along y - t. The gradient of (y - t)^2 is twice that, so half the rate gives its step.
        optimizer=SGD(learning_rate / 2.0),
        epochs=epochs,
        batch_size=1,
        sequential=True,
    )


# The ladder -------------------------------------------------------------------------------------------------------


@recipe()
def mlp(
    data: Dataset,
    *,
    epochs: Size | None = None,
    batch_size: Size | None = None,
    learning_rate: Positive = 3e-3,
    hidden_sizes: Sizes = (100,),
    validation_fraction: Fraction = 0.1,
    patience: Size | None = None,
) -> Plan:
    """The same network with biases, softmax and cross-entropy, mini-batches and Adam, stopped on a validation set.

    Examples
    --------
    >>> import xpnet
    >>> plan = mlp(xpnet.load_dataset("digits"), hidden_sizes=(50, 20))
    >>> print(plan.network.summary())
    layer         output  parameters
    input          (64,)           0
    Dense(50)      (50,)       3,250
    ReLU()         (50,)           0
    Dropout(0.2)   (50,)           0
    Dense(20)      (20,)       1,020
    ReLU()         (20,)           0
    Dropout(0.2)   (20,)           0
    Dense(10)      (10,)         210
    total                      4,480
    """
    layers: list[Layer] = []
    for size in hidden_sizes:
        layers += [Dense(size), ReLU(), Dropout(0.2)]
    if patience is None and validation_fraction:
        patience = _epochs(data, 10)
    return _annealed(
        _dense_network([*layers, Dense(data.classes)], data),
        epochs or _epochs(data, 30),
        batch_size or _batch_size(data, 128),
        learning_rate,
        validation_fraction,
        patience,
    )


@recipe()
def deep(
    data: Dataset,
    *,
    epochs: Size = 30,
    batch_size: Size | None = None,
    learning_rate: Positive = 2e-3,
    hidden_sizes: Sizes = (512, 512, 256),
    validation_fraction: Fraction = 0.1,
) -> Plan:
    """More and wider hidden layers, with batch normalization and more dropout.

    Examples
    --------
    >>> import xpnet
    >>> plan = deep(xpnet.load_dataset("digits"))
    >>> [type(layer).__name__ for layer in plan.network.layers[:4]]
    ['Dense', 'BatchNorm', 'ReLU', 'Dropout']
    """
    layers: list[Layer] = []
    for size in hidden_sizes:
        layers += [Dense(size, bias=False), BatchNorm(), ReLU(), Dropout(0.3)]
    network = _dense_network([*layers, Dense(data.classes)], data)
    return _annealed(network, epochs, batch_size or _batch_size(data), learning_rate, validation_fraction)


@recipe()
def cnn(
    data: Dataset,
    *,
    epochs: Size | None = None,
    batch_size: Size | None = None,
    learning_rate: Positive = 2e-3,
    validation_fraction: Fraction = 0.1,
) -> Plan:
    """Two convolutions with pooling, which use that neighbouring pixels belong together.

    Examples
    --------
    >>> import xpnet
    >>> plan = cnn(xpnet.load_dataset("digits"))
    >>> plan.network.input_shape, [type(layer).__name__ for layer in plan.network.layers[:3]]
    ((8, 8, 1), ['Conv2D', 'MaxPool2D', 'ReLU'])
    """
    layers: list[Layer] = [
        *[Conv2D(16, 3, padding="same"), MaxPool2D(2), ReLU()],
        *[Conv2D(32, 3, padding="same"), MaxPool2D(2), ReLU()],
        *[Flatten(), Dropout(0.3), Dense(128), ReLU(), Dropout(0.3), Dense(data.classes)],
    ]
    epochs, batch_size = epochs or _epochs(data, 15), batch_size or _batch_size(data)
    return _annealed(_image_network(layers, data), epochs, batch_size, learning_rate, validation_fraction)


@recipe()
def best(
    data: Dataset,
    *,
    epochs: Size | None = None,
    batch_size: Size | None = None,
    learning_rate: Positive = 3e-3,
    validation_fraction: Fraction = 0.1,
) -> Plan:
    """More convolutions, each with batch normalization, on images that are shifted at random.

    Examples
    --------
    >>> import xpnet
    >>> plan = best(xpnet.load_dataset("digits"))
    >>> type(plan.network.layers[0]).__name__, type(plan.schedule).__name__
    ('RandomShift', 'Cosine')
    """
    layers: list[Layer] = [RandomShift(2 if min(data.sample_shape[:2]) >= 16 else 1)]
    for filters in (16, 32):
        layers += [Conv2D(filters, 3, padding="same", bias=False), BatchNorm(), ReLU()]
        # ReLU gives the same result after pooling, since both preserve maxima, on a quarter of the pixels.
        layers += [Conv2D(filters, 3, padding="same", bias=False), BatchNorm(), MaxPool2D(2), ReLU()]
    layers += [Flatten(), Dropout(0.2), Dense(128, bias=False), BatchNorm(), ReLU(), Dropout(0.2)]
    network = _image_network([*layers, Dense(data.classes)], data)
    epochs, batch_size = epochs or _epochs(data, 12), batch_size or _batch_size(data)
    return _annealed(network, epochs, batch_size, learning_rate, validation_fraction)


def _annealed(
    network: Network,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    validation_fraction: float,
    patience: int | None = None,
) -> Plan:
    """Return a plan whose learning rate warms up briefly and then falls to zero."""
    return Plan(
        network,
        optimizer=Adam(learning_rate),
        schedule=Cosine(epochs, warm_up=min(1.0, epochs / 2.0)),
        epochs=epochs,
        batch_size=batch_size,
        validation_fraction=validation_fraction,
        patience=patience,
    )


def _epochs(data: Dataset, usual: int) -> int:
    """Return more epochs for a small dataset, because the number of steps matters."""
    return usual if len(data.train_images) >= 10_000 else 3 * usual


def _batch_size(data: Dataset, usual: int = 64) -> int:
    """Return a batch size that leaves about fifty steps per epoch even on a small dataset."""
    return usual if len(data.train_images) >= 10_000 else 16


def _dense_network(layers: list[Layer], data: Dataset) -> Network:
    return Network(layers, (int(np.prod(data.sample_shape)),), data.pixel_max)


def _image_network(layers: list[Layer], data: Dataset) -> Network:
    if len(data.sample_shape) < 2:
        raise ValueError(
            f"dataset: {data.name} has samples of shape {data.sample_shape}; this recipe needs images, "
            "(height, width) or (height, width, channels)"
        )
    return Network(layers, data.sample_shape, data.pixel_max)
