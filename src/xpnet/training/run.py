"""What training returns, and how it is kept in a folder."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from xpnet.backends import Backend, check_dtype, get_backend
from xpnet.data.datasets import Dataset
from xpnet.files import check_writable_directory, write_atomically
from xpnet.nn.network import Network
from xpnet.training.checkpoint import CheckpointError, check_arrays, load_arrays, save_arrays
from xpnet.training.evaluation import Evaluation, evaluate
from xpnet.training.history import History

CONFIG = "config.json"
HISTORY = "history.csv"
MODEL = "model.safetensors"
CURVES = "curves.png"
CONFUSION = "confusion.png"
MISTAKES = "mistakes.png"


@dataclass(frozen=True, eq=False)
class Run:
    """A finished training run.

    Attributes
    ----------
    network : Network
        With the weights that were learnt: the best ones, where there was a validation set and patience.
    history : History
        A record of each epoch.
    config : dict
        All that decided the outcome: recipe, dataset, backend, seed, hyperparameters.
    data : Dataset
        What it was trained on.

    Examples
    --------
    >>> import xpnet
    >>> run = xpnet.train("mlp", dataset="digits", epochs=2, progress=False)
    >>> run.title, len(run.history), run.config["optimizer"]["class"]
    ('mlp on digits, numpy, float32, seed 0', 2, 'Adam')
    """

    network: Network
    history: History
    config: dict[str, Any]
    data: Dataset

    @functools.cached_property
    def evaluation(self) -> Evaluation:
        """How the network does on the test set."""
        return evaluate(self.network, self.data)

    @property
    def title(self) -> str:
        """One line for plots: what was trained, on what, where."""
        c = self.config
        return f"{c['recipe']} on {c['dataset']}, {c['backend']}, {c['dtype']}, seed {c['seed']}"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw loss and accuracy over the epochs.

        Parameters
        ----------
        path : path-like, optional
            Where to write the picture; its ending decides the format.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from xpnet import plots

        figure = plots.training_curves(self.history, title=self.title)
        if path is not None:
            plots.save(figure, path)
        return figure

    def save(self, directory: str | os.PathLike[str]) -> list[Path]:
        """Write the run to a folder: configuration, history, weights and pictures.

        Parameters
        ----------
        directory : path-like
            Made if it is not there. Files of an earlier run are replaced one by one, each whole.

        Returns
        -------
        list of Path
            What was written.
        """
        from xpnet import plots

        folder = check_writable_directory(directory, "directory")
        save_config(folder, self.config)
        self.history.to_csv(folder / HISTORY)
        save_arrays(folder / MODEL, self.network.named_arrays(), {"network": self.network.to_config()})
        self.plot(folder / CURVES)
        shown = self.evaluation
        plots.save(plots.confusion_matrix(shown.confusion, title=self.title), folder / CONFUSION)
        plots.save(
            plots.mistakes(self.data.test_images, self.data.test_labels, shown.predictions, title=self.title),
            folder / MISTAKES,
        )
        return [folder / name for name in (CONFIG, HISTORY, MODEL, CURVES, CONFUSION, MISTAKES)]


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
    path = Path(directory) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{str(directory)!r} is not the folder of a run: it has no {CONFIG}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    if not isinstance(config, dict) or "network" not in config:
        raise CheckpointError(f"{path}: not the configuration of a run")
    return config


def load(
    directory: str | os.PathLike[str],
    *,
    backend: str | ModuleType | Backend | None = None,
    dtype: str | None = None,
) -> Network:
    """Load the network of a run, on any backend, whichever it was trained on.

    Parameters
    ----------
    directory : path-like
        What `Run.save` or ``output_dir`` wrote.
    backend : str, module or Backend, optional
        See `xpnet.get_backend`.
    dtype : {"float32", "float64"}, optional
        By default that of the run.

    Returns
    -------
    Network
        With its weights.

    Raises
    ------
    CheckpointError
        If the folder is not that of a run, or its weights are damaged or do not fit.

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
    path = Path(directory) / MODEL
    if not path.is_file():
        raise CheckpointError(f"{str(directory)!r}: the run is not finished, it has no {MODEL}")
    try:
        network = Network.from_config(config["network"])
        chosen = check_dtype(dtype or config["dtype"])
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{Path(directory) / CONFIG}: not the configuration of a run: {error}") from None
    arrays, _ = load_arrays(path)
    check_arrays(network.expected_arrays(), arrays, str(path))
    return network.bind_named(arrays, opened, chosen)
