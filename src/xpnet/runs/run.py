"""The result of training, and the folder that holds it."""

from __future__ import annotations

import functools
import json
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from xpnet.backends import DTYPES, Backend, check_dtype, get_backend
from xpnet.data.datasets import Dataset
from xpnet.data.facts import Facts
from xpnet.files import check_writable_directory, write_atomically
from xpnet.nn.network import Network
from xpnet.nn.trained import TrainedNetwork
from xpnet.parts import require_path
from xpnet.runs.checkpoint import (
    FREE_TO_CHANGE,
    CheckpointError,
    RunDirectory,
    check_arrays,
    config_differences,
    load_arrays,
    save_arrays,
)
from xpnet.runs.evaluation import Evaluation, evaluate
from xpnet.runs.history import History, Record, check_history, count_of_epochs
from xpnet.runs.untrusted import read_json, shown
from xpnet.typing import HostArrays

CONFIG = "config.json"
HISTORY = "history.csv"
MODEL = "model.safetensors"
CURVES = "curves.png"
CONFUSION = "confusion.png"
MISTAKES = "mistakes.png"
AXES = {
    "Dense.weight": ["inputs", "units"],
    "Conv2D.weight": ["kernel_height", "filters", "kernel_width", "channels"],
    "Flatten": ["height", "channels", "width"],
}
"""The order of axes, saved with the weights for programs that use another order."""

FILES = (CONFIG, HISTORY, MODEL, CURVES, CONFUSION, MISTAKES)

NOT_FOLDERS = (".safetensors", ".json", ".csv", ".png", ".svg", ".pdf", ".npz", ".pt", ".pth", ".h5", ".keras", ".onnx")
"""Suffixes of files: a path that ends in one of these is probably not meant as a folder."""

_HEADER = 4 << 20
"""The space for the description in a file of weights, in bytes."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished training run.

    Attributes
    ----------
    network : TrainedNetwork
        The network with the learned weights: the best ones if there was a patience, else the last.
    history : History
        One record per epoch.
    config : dict
        Everything that determined the outcome: recipe, dataset, backend, seed, hyperparameters.
    data : Dataset
        The data of the run.
    folder : Path, optional
        The folder that training wrote to, or that the run was opened from.

    Examples
    --------
    >>> import xpnet
    >>> run = xpnet.train("mlp", dataset="digits", epochs=2, progress=False)
    >>> run.title, len(run.history), run.config["optimizer"]["class"]
    ('mlp on digits, numpy, float32, seed 0', 2, 'Adam')
    """

    network: TrainedNetwork
    history: History
    config: dict[str, Any]
    data: Dataset
    folder: Path | None = None

    def __repr__(self) -> str:
        """Return the title and the outcome in one line."""
        return f"Run({self.title}: {count_of_epochs(len(self.history))}, test accuracy {self.record.test_accuracy:.4f})"

    @functools.cached_property
    def evaluation(self) -> Evaluation:
        """The network's evaluation on the test set."""
        return evaluate(self.network, self.data)

    @property
    def record(self) -> Record:
        """The record of the epoch whose weights the network has."""
        stopping = self.config["stopping"]
        return self.history[-1] if stopping["patience"] is None else self.history.best(stopping["monitor"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """What tables and plots call the classes."""
        return tuple(self.config.get("class_names") or self.data.class_names)

    @property
    def title(self) -> str:
        """The title for plots: recipe, dataset, backend, dtype and seed."""
        return title_of(self.config)

    def _repr_html_(self) -> str:
        """Show title, outcome and curves in a notebook."""
        from xpnet.plots import display

        return display.run_html(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw loss and accuracy over the epochs.

        Parameters
        ----------
        path : path-like, optional
            The file to write; its suffix determines the format.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from xpnet import plots

        return _saved(plots.training_curves(self.history, title=self.title), path)

    def plot_confusion(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the confusion matrix of the test set; see `plot`."""
        from xpnet import plots

        how: dict[str, Any] = {"title": self.title, "class_names": self.class_names}
        return _saved(plots.confusion_matrix(self.evaluation.confusion, **how), path)

    def plot_mistakes(self, path: str | os.PathLike[str] | None = None, *, limit: int = 24) -> Any:
        """Draw misclassified test images, at most ``limit``; see `plot`."""
        from xpnet import plots

        images, labels, answers = self.data.test_images, self.data.test_labels, self.evaluation.predictions
        how: dict[str, Any] = {"title": self.title, "class_names": self.class_names}
        return _saved(plots.mistakes(images, labels, answers, limit=limit, **how), path)

    def plot_weights(self, path: str | os.PathLike[str] | None = None, *, limit: int = 40) -> Any:
        """Draw the filters of the first layer, or the weights of its units, at most ``limit``; see `plot`."""
        from xpnet import plots

        return _saved(plots.weights(self.network, title=self.title, limit=limit), path)

    def plot_prediction(
        self, image: int | str | os.PathLike[str] = 0, path: str | os.PathLike[str] | None = None
    ) -> Any:
        """Draw one image and the network's probability of each class; see `plot`.

        Parameters
        ----------
        image : int or path-like
            The index of a test image. Or a photograph of a digit, which is drawn too, beside what the network saw of
            it: see `xpnet.data.prepare_digit`.
        path : path-like, optional
            The file to write.
        """
        from xpnet import plots
        from xpnet.data.photos import images_of, load_image

        photo = None
        if isinstance(image, str | os.PathLike):
            photo, title = load_image(image), f"{Path(image).name}: {self.title}"
            seen = images_of(image, self.network.input_shape, self.network.pixel_max)[0]
        else:
            seen, label = self.data.test_images[image], self.class_names[self.data.test_labels[image]]
            title = f"{self.title}: test image {image}, label {label}"
        answer = self.network.predict_proba(seen[None])[0]
        drawn = plots.prediction(seen, answer, title=title, photo=photo, class_names=self.class_names)
        return _saved(drawn, path)

    def plot_feature_maps(self, index: int = 0, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the outputs of a convolutional network's layers for one test image; see `plot`.

        Raises
        ------
        ValueError
            If no layer returns images.
        """
        from xpnet import plots

        image = self.data.test_images[index]
        outputs = zip(self.network.layers, self.network.layer_outputs(image[None]), strict=True)
        maps = {f"{i}: {layer}": output[0] for i, (layer, output) in enumerate(outputs) if output.ndim == 4}
        if not maps:
            raise ValueError("network: no layer returns images, so there are no feature maps")
        return _saved(plots.feature_maps({"input": image} | maps, title=f"{self.title}: test image {index}"), path)

    def save(self, directory: str | os.PathLike[str]) -> list[Path]:
        """Write the run to a folder: configuration, history, weights and pictures.

        Parameters
        ----------
        directory : path-like
            The folder, which is created if necessary. Files of an earlier run are replaced one by one, atomically.

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        ValueError
            If the folder is not writable, or if it holds the checkpoints of another run.
        """
        check_folder_name("directory", directory)
        folder = check_writable_directory(directory, "directory")
        if self._is_another(folder):
            raise ValueError(
                f"directory={str(directory)!r}: holds the checkpoints of another run: choose another folder"
            )
        save_results(folder, self)
        draw_pictures(folder, self)
        return [folder / name for name in FILES if (folder / name).exists()]

    def _is_another(self, folder: Path) -> bool:
        """Whether a folder holds checkpoints of another run."""
        checkpoints = RunDirectory(folder).checkpoints
        if not checkpoints.is_dir() or not any(checkpoints.iterdir()):
            return False
        try:
            saved = load_config(folder)
        except CheckpointError:
            return True
        ours = json.loads(json.dumps(self.config))
        return any(value != ours.get(name) for name, value in saved.items() if name not in FREE_TO_CHANGE)


def check_folder_name(argument: str, value: str | os.PathLike[str]) -> None:
    """Check that a path names a folder, as far as its suffix tells.

    Raises
    ------
    ValueError
        Naming the argument.
    """
    path = require_path(argument, value)
    if path.suffix.lower() in NOT_FOLDERS and not path.is_dir():
        raise ValueError(
            f"{argument}={str(value)!r}: is the name of a file, and a run is kept in a folder: such as "
            f"{str(path.with_suffix(''))!r}, whose {MODEL} holds the weights"
        )


def _saved(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    """Return a figure, and write it to a file if there is a path."""
    from xpnet import plots

    if path is not None:
        plots.save(figure, path)
    return figure


def title_of(config: Mapping[str, Any]) -> str:
    """Return the title of one or several runs: recipe, dataset, and if given, backend, dtype and seed."""
    told = [f"{shown(config['recipe'])} on {shown(config['dataset'])}", config.get("backend"), config.get("dtype")]
    seed = config.get("seed")
    return ", ".join([shown(part) for part in told if part] + ([] if seed is None else [f"seed {seed}"]))


def save_results(folder: Path, run: Run) -> None:
    """Write a run's configuration, history and weights."""
    save_config(folder, run.config)
    run.history.to_csv(folder / HISTORY)
    save_model(folder / MODEL, run.network)


def draw_pictures(folder: Path, run: Run) -> None:
    """Draw a run's pictures. Its results are saved by now, so a picture that fails is only worth a warning."""
    for draw, name in ((run.plot, CURVES), (run.plot_confusion, CONFUSION), (run.plot_mistakes, MISTAKES)):
        try:
            draw(folder / name)
        except Exception as error:
            warnings.warn(f"{folder / name}: not drawn: {shown(error)}", stacklevel=3)


def save_model(path: Path, network: TrainedNetwork) -> None:
    """Write a network's arrays with its description."""
    save_arrays(path, network.named_arrays(), {"network": network.to_config(), "axes": AXES})


def save_config(folder: Path, config: dict[str, Any]) -> None:
    """Write a run's configuration."""
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def load_config(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the configuration of a run's folder.

    Raises
    ------
    CheckpointError
        If the folder is not that of a run.
    """
    path = require_path("directory", directory) / CONFIG
    try:
        config = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        if path.parent.is_file():
            raise CheckpointError(f"{str(directory)!r} is a file: give the folder of the run that it is in") from None
        raise CheckpointError(f"{str(directory)!r} is not the folder of a run: it has no {CONFIG}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: not the configuration of a run")
    wanted = {"recipe": str, "dataset": str, "dtype": str, "network": dict, "backend": str, "seed": int}
    for name, kind in wanted.items():
        if not isinstance(config.get(name), kind):
            raise CheckpointError(f"{path}: not the configuration of a run: {name} is {shown(repr(config.get(name)))}")
    if config["dtype"] not in DTYPES:
        raise CheckpointError(f"{path}: not the configuration of a run: dtype is {config['dtype']!r}")
    names = config.get("class_names") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path}: not the configuration of a run: class_names is {shown(repr(names))}")
    return config


def load_history(directory: str | os.PathLike[str]) -> History:
    """Read the history of a run's folder.

    Raises
    ------
    CheckpointError
        If the folder is not that of a run, or the history is damaged.
    """
    try:
        return check_history(History.from_csv(require_path("directory", directory) / HISTORY))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(directory)!r}: the history cannot be read: {error}") from None


def load(
    directory: str | os.PathLike[str],
    *,
    backend: str | ModuleType | Backend | None = None,
    dtype: str | None = None,
) -> TrainedNetwork:
    """Load the network of a run on any backend, whichever it was trained on.

    Parameters
    ----------
    directory : path-like
        A folder that `Run.save` or ``output_dir`` wrote. If the run is not finished, its last checkpoint is used, with
        a warning.
    backend : str, module or Backend, optional
        See `xpnet.get_backend`.
    dtype : {"float32", "float64"}, optional
        By default the dtype of the run.

    Returns
    -------
    TrainedNetwork

    Raises
    ------
    CheckpointError
        If the folder is not that of a run, or if its weights are damaged or do not fit.

    Examples
    --------
    >>> import tempfile
    >>> import xpnet
    >>> run = xpnet.train("mlp", dataset="digits", epochs=1, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = run.save(folder)
    ...     network = xpnet.load(folder)
    >>> images = run.data.test_images
    >>> bool((network.predict(images) == run.network.predict(images)).all())
    True
    """
    opened = get_backend(backend)
    config = load_config(directory)
    path = require_path("directory", directory) / MODEL
    chosen = check_dtype(dtype or config["dtype"])
    most = _most_bytes(config["network"])
    if os.path.lexists(path) or not RunDirectory(path.parent).checkpoints.is_dir():
        arrays, described = _finished(path, config["network"], most)
    else:
        arrays, path = _unfinished(path.parent, config, most)
        described = config["network"]
    network, expected = _described(described, path)
    check_arrays(expected, arrays, str(path))
    names = config.get("class_names")
    if names and network.output_shape != (len(names),):
        raise CheckpointError(f"{path}: {len(names)} class_names, for an output of shape {network.output_shape}")
    for name, array in arrays.items():
        if array.size and float(np.max(np.abs(array))) > float(np.finfo(chosen).max):
            raise CheckpointError(f"{path}: {name} holds numbers too large for {chosen}: use dtype='float64'")
    facts = Facts.from_config(config.get("images"), names)
    return TrainedNetwork.from_named(network, arrays, opened, chosen, facts)


def _most_bytes(described: Mapping[str, Any]) -> int:
    """Return the largest plausible size of a network's weights in bytes; an invalid description gets the minimum."""
    try:
        network = Network.from_config(described)
        state = sum(math.prod(v.shape) for declared in network.statistics for v in declared.values())
        return min(8 * (network.size + state), 1 << 36) + _HEADER
    except Exception:
        return _HEADER


def _finished(path: Path, configured: dict[str, Any], most: int) -> tuple[HostArrays, dict[str, Any]]:
    """Read the weights of a finished run, and the description of its network."""
    if not os.path.lexists(path):
        raise CheckpointError(f"{str(path.parent)!r}: the run is not finished, it has no {MODEL}")
    try:
        arrays, meta = load_arrays(path, most)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    # The file of weights contains the network's description, which its checksum covers.
    described = meta.get("network")
    if not isinstance(described, dict):
        raise CheckpointError(f"{path}: does not say of which network these weights are")
    if others := [f"{name} was {a} and is {b}" for name, a, b in config_differences(described, configured)]:
        raise CheckpointError(f"{path.with_name(CONFIG)}: not of the network in {MODEL}: {'; '.join(others)}")
    return arrays, described


def _unfinished(folder: Path, config: dict[str, Any], most: int) -> tuple[HostArrays, Path]:
    """Read the weights that an unfinished run would have returned after its last checkpoint."""
    directory = RunDirectory(folder)
    # Room for the parameters, the best ones, an optimizer's state of a few times that size, and the history.
    checkpoint = directory.latest_checkpoint(8 * most + (32 << 20))
    if checkpoint is None:
        raise CheckpointError(f"{str(folder)!r}: the run is not finished, it has no {MODEL}")
    stopping = config.get("stopping")
    best = isinstance(stopping, dict) and stopping.get("patience") is not None
    warnings.warn(
        f"{shown(folder)}: the run is not finished: these are {'the best' if best else 'its'} weights of "
        f"{count_of_epochs(checkpoint.epoch + 1)}",
        stacklevel=3,
    )
    prefix = "best." if best else ""
    arrays = {}
    for name, array in checkpoint.arrays.items():
        for kind in ("params", "state"):
            if name.startswith(f"{prefix}{kind}."):
                arrays["layers" + name.removeprefix(f"{prefix}{kind}")] = array
    return arrays, directory.checkpoints


def _described(config: dict[str, Any], path: Path) -> tuple[Network, dict[str, tuple[int, ...]]]:
    """Return the network of a description and the shapes of its arrays, without allocating any."""
    try:
        network = Network.from_config(config)
        expected = {
            f"layers.{i}.{name}": variable.shape
            for i, pair in enumerate(zip(network.parameters, network.statistics, strict=True))
            for declared in pair
            for name, variable in declared.items()
        }
        return network, expected
    # Errors in a description raise many kinds of exceptions.
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        what = error.args[0] if error.args else type(error).__name__
        raise CheckpointError(f"{path}: describes no network that these weights fit: {shown(what)}") from None
