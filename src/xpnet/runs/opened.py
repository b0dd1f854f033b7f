"""Opening a run's folder as a `Run`."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from xpnet.backends import Backend
from xpnet.data.datasets import NAMES, Dataset, load_dataset
from xpnet.parts import require_path
from xpnet.runs.run import Run, load, load_config, load_history


class OpenedRun(Run):
    """A run opened from a folder; its data are loaded when they are needed."""

    def __init__(self, folder: str | os.PathLike[str], data: Dataset | None, data_dir: Any, **how: Any) -> None:
        config = load_config(folder)
        if data is not None:
            check_same_data(folder, config, data)
        network, history = load(folder, **how), load_history(folder)
        self.__dict__.update(network=network, history=history, config=config, folder=require_path("directory", folder))
        self.__dict__.update(_given=data, _data_dir=data_dir)

    @functools.cached_property
    def data(self) -> Dataset:
        """The data that the run was trained on."""
        given: Dataset | None = self.__dict__["_given"]
        return given or data_of(self.folder or "", self.config, self.__dict__["_data_dir"])


def load_run(
    directory: str | os.PathLike[str],
    *,
    data: Dataset | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    backend: str | ModuleType | Backend | None = None,
    dtype: str | None = None,
) -> Run:
    """Open the folder of a run as a `Run`, with history, configuration, plots and evaluation.

    Parameters
    ----------
    directory : path-like
        A folder that `Run.save` or ``output_dir`` wrote. An unfinished run opens with a warning, in its state after
        the last epoch.
    data : Dataset, optional
        The data that the run was trained on, for evaluation and the plots that need it. By default, one of xpnet's own
        datasets is loaded by its name when it is needed.
    data_dir : path-like, optional
        The folder of the MNIST files.
    backend, dtype : optional
        See `xpnet.load`.

    Returns
    -------
    Run

    Raises
    ------
    CheckpointError
        If the folder is not that of a run, or if it is damaged.
    ValueError
        If the run was trained on other data than ``data``.

    Examples
    --------
    >>> import tempfile
    >>> import xpnet
    >>> run = xpnet.train("mlp", dataset="digits", epochs=2, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = run.save(folder)
    ...     again = xpnet.load_run(folder)
    >>> again.history == run.history, again.evaluation.accuracy == run.evaluation.accuracy
    (True, True)
    """
    return OpenedRun(directory, data, data_dir, backend=backend, dtype=dtype)


def data_of(directory: str | os.PathLike[str], config: Mapping[str, Any], data_dir: Any = None) -> Dataset:
    """Load the data that a run was trained on, if it is one of xpnet's own datasets.

    Raises
    ------
    ValueError
        If it is not, or if the name now refers to other data.
    """
    name = config["dataset"]
    if name not in NAMES:
        raise ValueError(
            f"{directory}: was trained on {name!r}, which is none of {', '.join(NAMES)}: name one by --dataset, "
            "or in Python give it as data="
        )
    data = load_dataset(name, data_dir=data_dir)
    check_same_data(directory, config, data)
    return data


def check_same_data(directory: str | os.PathLike[str], config: Mapping[str, Any], data: Dataset) -> None:
    """Check that a run was trained on a dataset.

    Raises
    ------
    ValueError
        If it was trained on other data.
    """
    used, wanted = config.get("train_samples"), config.get("data_fingerprint")
    if not isinstance(used, int) or not isinstance(wanted, str):
        return
    if not 1 <= used <= len(data.train_images) or data.first(used).fingerprint() != wanted:
        raise ValueError(
            f"{directory}: was trained on other data of the same name, {data.name!r}; to test on these anyway, "
            f"give --dataset {data.name}, or call xpnet.evaluate"
        )
