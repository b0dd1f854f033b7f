"""`train`: run a recipe of the ladder, with the user's changes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from xpnet.backends import Backend, check_dtype
from xpnet.data.datasets import Dataset, load_dataset
from xpnet.parts import require_size
from xpnet.random import check_seed
from xpnet.recipes import Recipe, find_recipe
from xpnet.runs.run import Run
from xpnet.training.callbacks import Callback, check_callbacks
from xpnet.training.distributed import Ranks, get_ranks
from xpnet.training.fit import check_surroundings, fit


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
    class_weight: str | Mapping[Any, float] | Sequence[float] | None = None,
    threads: int | None = None,
    workers: int | None = None,
    output_dir: str | os.PathLike[str] | bool | None = None,
    resume: bool = False,
    progress: bool | None = None,
    callbacks: Sequence[Callback] = (),
    distributed: str | Ranks | None = None,
    **settings: Any,
) -> Run:
    """Train a network by a recipe.

    Parameters
    ----------
    recipe : str
        A rung of the ladder: ``"tutorial"``, ``"corrected"``, ``"mlp"``, ``"deep"``, ``"cnn"`` or ``"best"``.
    dataset : {"digits", "mnist"} or Dataset, optional
        By default MNIST, from the cache or downloaded; if neither works, the bundled digits, with a warning.
    data_dir : path-like, optional
        The folder of the MNIST files; by default ``XPNET_DATA_DIR``, else the user's cache.
    backend : str, module or Backend, optional
        ``"numpy"``, ``"cupy"``, ``"torch:cuda"``, ...; by default ``XPNET_BACKEND``, else ``"numpy"``.
    dtype : {"float32", "float64"}, optional
        The dtype of parameters and arithmetic.
    seed : int, optional
        Determines every random number: the initial weights, the order of the images, dropout.
    epochs : int, optional
        The number of passes through the training images.
    batch_size : int, optional
        Images per step.
    learning_rate : float, optional
        The factor of the gradient in a step, before the schedule.
    hidden_sizes : sequence of int, optional
        The number of units in each hidden layer.
    train_samples : int, optional
        Use only this many training images, the first ones.
    validation_fraction : float, optional
        The share of the training images to hold out for validation.
    patience : int, optional
        Stop after this many epochs without improvement on the validation set. The recipe gives the value of this
        argument, and of those from ``dtype`` to here, when it is ``None``. An argument that the recipe does not use is
        an error.
    class_weight : "balanced", mapping or sequence, optional
        The weights of the classes, in order or by name; see `Dataset.weighted`.
    threads : int, optional
        The number of threads for linear algebra on the host; see `xpnet.fit`.
    workers : int, optional
        The number of threads that compute parts of a batch in parallel, on NumPy; see `xpnet.fit`.
    output_dir : path-like or True, optional
        The folder for checkpoints after each epoch, and for the run at the end. True makes a new folder; see
        `xpnet.fit`. Without it, nothing is written.
    resume : bool
        Continue the run in ``output_dir`` from its last checkpoint.
    progress : bool, optional
        Whether to show progress; see `xpnet.fit`.
    callbacks : sequence of callable
        Each is called with the `xpnet.Record` of every epoch; see `xpnet.fit`.
    distributed : {"mpi", "mpi:device"}, optional
        Train on all processes that ``mpiexec`` has started; see `xpnet.fit`.
    **settings
        Further settings of your own recipe.

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
    # The ranks come first, so that a rank that finds an error can end the job.
    ranks = get_ranks(distributed)
    callbacks = check_callbacks(callbacks)
    settings |= {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "hidden_sizes": hidden_sizes,
        "validation_fraction": validation_fraction,
        "patience": patience,
    }
    surroundings: dict[str, Any] = {"threads": threads, "workers": workers, "output_dir": output_dir, "resume": resume}
    # Every check that needs no data comes before loading it, which may be a download.
    found, chosen = check_request(
        recipe, settings | surroundings | {"train_samples": train_samples, "dtype": dtype, "seed": seed}
    )
    opened = ranks.open_backend(backend)
    data = ranks.once_a_machine(lambda: load_dataset(dataset, data_dir=data_dir))
    if train_samples is None and found.train_samples is not None:
        train_samples = min(found.train_samples, len(data.train_images))
    data = data.first(train_samples)
    plan = found.build(data, **chosen)
    return fit(
        data=data,
        **plan.arguments(),
        class_weight=class_weight,
        seed=found.seed if seed is None else seed,
        backend=opened,
        dtype=dtype or found.dtype,
        **surroundings,
        progress=progress,
        callbacks=callbacks,
        distributed=ranks,
        recipe=recipe,
    )


SURROUNDINGS = ("train_samples", "dtype", "seed", "threads", "workers", "output_dir", "resume")
"""Arguments of `train` that are not settings of a recipe, and that can be checked without data and backend."""


def check_request(recipe: str, given: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """Check those arguments of `train` that can be checked without data and backend.

    Parameters
    ----------
    recipe : str
        The recipe.
    given : mapping of str to object
        Arguments of `train` by name; ``None`` stands for the recipe's value.

    Returns
    -------
    Recipe
        The recipe.
    dict of str to object
        The recipe's settings among the arguments, without those that are ``None``.

    Raises
    ------
    ValueError, TypeError
        Naming the argument and its value.
    """
    found = find_recipe(recipe)
    outside = ("backend", "dataset", "data_dir", "progress", "callbacks", "class_weight", "distributed", "recipe")
    other = (*outside, *SURROUNDINGS)
    chosen = found.check({name: value for name, value in given.items() if name not in other})
    if given.get("dtype") is not None:
        check_dtype(given["dtype"])
    if given.get("seed") is not None:
        check_seed(given["seed"])
    if given.get("train_samples") is not None:
        require_size("train_samples", given["train_samples"])
    check_surroundings(given.get("threads"), given.get("output_dir"), given.get("resume", False), given.get("workers"))
    return found, chosen
