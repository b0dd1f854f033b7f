"""Exporting a run to a file, whose suffix determines the format."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from xpnet.export import page
from xpnet.export.onnx import to_onnx
from xpnet.export.plain import ExportError
from xpnet.files import write_atomically
from xpnet.parts import require_path
from xpnet.runs.run import MODEL, load, load_config, load_history, save_model


def export(directory: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Export the network of a run.

    Parameters
    ----------
    directory : path-like
        The run's folder.
    path : path-like
        The file to write: ``.onnx`` for an ONNX model, ``.html`` for a page to draw digits on. An older file of this
        name is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExportError
        If the suffix is unknown, if a library is not installed, or if a layer has no counterpart in the format.
    CheckpointError
        If the folder is not that of a run.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from xpnet.export import ExportError, export
    >>> try:
    ...     export("runs/mlp", "model.txt")
    ... except ExportError as error:
    ...     print(error)
    path='model.txt': must end in .onnx or .html
    >>> export("runs/mlp", "model.onnx")  # doctest: +SKIP
    """
    target = require_path("path", path)
    if target.suffix not in WRITERS:
        raise ExportError(f"path={os.fspath(path)!r}: must end in {' or '.join(WRITERS)}")
    if not target.parent.is_dir():
        raise ExportError(f"path={os.fspath(path)!r}: there is no folder {str(target.parent)!r}")
    WRITERS[target.suffix](require_path("directory", directory), target)
    return target


def facts(directory: Path) -> dict[str, Any]:
    """Return the facts about a run that an exported file contains."""
    config, history = load_config(directory), load_history(directory)
    stopping = config.get("stopping") or {}
    stopped_early = stopping.get("patience") is not None
    record = history.best(stopping["monitor"]) if stopped_early else history[-1]
    return {
        "recipe": config["recipe"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "test_accuracy": record.test_accuracy,
        "trained_on": f"{config['backend']}, {config['dtype']}",
    }


def _write_page(directory: Path, path: Path) -> None:
    network = load(directory, backend="numpy")
    page.check(network)
    known = facts(directory)
    about = (
        f"The network of the recipe {known['recipe']}, {network.size:,} parameters, is right on "
        f"{known['test_accuracy']:.1%} of the test images of {known['dataset']}."
    )
    with tempfile.TemporaryDirectory() as folder:  # an unfinished run has no model file yet
        save_model(Path(folder) / MODEL, network)
        model = (Path(folder) / MODEL).read_bytes()
    write_atomically(path, page.page(model, about).encode())


def _write_onnx(directory: Path, path: Path) -> None:
    to_onnx(load(directory, backend="numpy"), path, metadata=facts(directory))


WRITERS = {".onnx": _write_onnx, ".html": _write_page}
"""The function that writes a run to a file, by the file's suffix."""
