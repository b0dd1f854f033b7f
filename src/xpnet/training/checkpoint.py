"""Files of arrays, and the folder of a run: what is written survives, what is read is checked.

Arrays are kept in the safetensors format: names, dtypes, shapes and plain bytes. No file is ever unpickled. Each
carries a SHA-256 over its contents, so a flipped bit is found when the file is read and not in the results.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.files import check_writable_directory, sweep_temporaries, write_atomically

Arrays = dict[str, NDArray[Any]]

KEPT = 2
"""How many checkpoints stay: the newest, and one to fall back on."""

_CHECKSUM = "xpnet.sha256"
_META = "xpnet.meta"
_NAME = re.compile(r"epoch-(\d+)\.safetensors")


class CheckpointError(ValueError):
    """A file of arrays is damaged, or not what it should be; the message names it."""


class ResumeError(ValueError):
    """A run cannot be resumed with this configuration; the message names the difference."""


class BusyError(ValueError):
    """Another run is writing to the folder."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run's state after an epoch.

    Attributes
    ----------
    epoch : int
        The last epoch that was finished.
    arrays : dict of str to array
        On the host.
    meta : dict
        All else, in what JSON can hold.
    """

    epoch: int
    arrays: Arrays
    meta: dict[str, Any]


# Arrays in a file -------------------------------------------------------------------------------------------------


def save_arrays(path: str | os.PathLike[str], arrays: Arrays, meta: Mapping[str, Any]) -> None:
    """Write arrays and a description to a safetensors file, whole or not at all.

    Parameters
    ----------
    path : path-like
        The file.
    arrays : dict of str to array
        Of any memory layout.
    meta : mapping
        In what JSON can hold.

    Raises
    ------
    OSError
        If the file cannot be written; an older one under its name stays.
    """
    from safetensors.numpy import save

    # safetensors writes the memory of a transposed or strided array as if it were in order.
    ordered = {name: _in_order(array) for name, array in arrays.items()}
    text = json.dumps(meta, sort_keys=True)
    data = save(ordered, {_META: text, _CHECKSUM: _checksum(ordered, text)})
    write_atomically(path, data)


def load_arrays(path: str | os.PathLike[str]) -> tuple[Arrays, dict[str, Any]]:
    """Read what `save_arrays` wrote, and check it.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    arrays : dict of str to array
    meta : dict

    Raises
    ------
    CheckpointError
        If the file is damaged, or was written by something else.
    OSError
        If it cannot be read.
    """
    from safetensors import SafetensorError, deserialize
    from safetensors.numpy import load

    data = Path(path).read_bytes()
    try:
        header = _header(data)
        # Looked at first, since only the reader of bytes refuses a header that points outside the file.
        deserialize(data)  # type: ignore[no-untyped-call]
        arrays = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from None
    described = header.get("__metadata__")
    if not isinstance(described, dict) or not {_META, _CHECKSUM} <= described.keys():
        raise CheckpointError(f"{path}: not written by xpnet, it has no checksum")
    if _checksum(arrays, described[_META]) != described[_CHECKSUM]:
        raise CheckpointError(f"{path}: damaged: its checksum does not match its contents")
    meta = json.loads(described[_META])
    return arrays, meta


def check_arrays(expected: Mapping[str, tuple[int, ...]], arrays: Arrays, name: str) -> None:
    """See that arrays are those of a network, all of them and no others.

    Raises
    ------
    CheckpointError
        Naming what is missing, too many, or of another shape or dtype.
    """
    problems = [f"{key} is missing" for key in expected if key not in arrays]
    problems += [f"{key} is not part of this network" for key in arrays if key not in expected]
    for key in expected.keys() & arrays.keys():
        if arrays[key].shape != expected[key]:
            problems.append(f"{key} has shape {arrays[key].shape} instead of {expected[key]}")
        elif arrays[key].dtype not in (np.float32, np.float64):
            problems.append(f"{key} is {arrays[key].dtype} instead of float32 or float64")
        elif not np.isfinite(arrays[key]).all():
            problems.append(f"{key} holds NaN or infinity")
    if problems:
        raise CheckpointError(f"{name}: the weights do not fit the network: {'; '.join(sorted(problems))}")


def _in_order(array: NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(array)
    # ascontiguousarray would give an array without axes one.
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError("it ends before its header does")
    header = json.loads(data[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    return header


def _checksum(arrays: Arrays, text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


# The folder of a run ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunDirectory:
    """The folder that a run writes to.

    Parameters
    ----------
    path : Path
        The folder.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.path / "checkpoints"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out for the time of a ``with`` block.

        The system lets go of the lock when the process ends, however it ends.

        Raises
        ------
        ValueError
            If the folder cannot be written to.
        BusyError
            If another run holds the lock.
        """
        from filelock import FileLock, Timeout

        check_writable_directory(self.path)
        try:
            with FileLock(self.path / ".lock", timeout=0):
                sweep_temporaries(self.path)
                yield
        except Timeout:
            raise BusyError(
                f"output_dir={str(self.path)!r}: another run is writing there; choose another folder"
            ) from None

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then drop all but the last `KEPT`."""
        check_writable_directory(self.checkpoints)
        path = self.checkpoints / f"epoch-{checkpoint.epoch:05d}.safetensors"
        save_arrays(path, checkpoint.arrays, checkpoint.meta)
        sweep_temporaries(self.checkpoints)
        for _, old in self._saved()[KEPT:]:
            old.unlink(missing_ok=True)

    def clear_checkpoints(self) -> None:
        """Drop the checkpoints of an earlier run that is not resumed."""
        for _, path in self._saved():
            path.unlink(missing_ok=True)

    def latest_checkpoint(self) -> Checkpoint | None:
        """Read the newest checkpoint that is whole.

        Returns
        -------
        Checkpoint or None
            ``None`` when there is not one file.

        Raises
        ------
        CheckpointError
            If there are files, but each is damaged.
        """
        causes = []
        for epoch, path in self._saved():
            try:
                arrays, meta = load_arrays(path)
            except (CheckpointError, OSError) as error:
                causes.append(str(error))
                continue
            if causes:
                warnings.warn(f"{causes[0]}: resuming from {path.name} instead", stacklevel=3)
            return Checkpoint(epoch, arrays, meta)
        if causes:
            raise CheckpointError("no checkpoint can be read: " + "; ".join(causes))
        return None

    def _saved(self) -> list[tuple[int, Path]]:
        found = [(_NAME.fullmatch(path.name), path) for path in self.checkpoints.glob("epoch-*")]
        return sorted(((int(m[1]), path) for m, path in found if m), reverse=True)


def compare_configs(saved: Mapping[str, Any], current: Mapping[str, Any], free: set[str]) -> None:
    """See that a run is resumed as it was begun.

    Parameters
    ----------
    saved, current : mapping
        The configurations, of nested mappings.
    free : set of str
        Names at the top level that may differ.

    Raises
    ------
    ResumeError
        Naming each difference.
    """
    before, now = _flat(saved), _flat(current)
    differences = [
        f"{name} was {before.get(name, 'not there')!r} and is {now.get(name, 'not there')!r}"
        for name in sorted(before.keys() | now.keys())
        if name.partition(".")[0] not in free and before.get(name) != now.get(name)
    ]
    if differences:
        raise ResumeError(
            f"resume: the run was begun with other settings: {'; '.join(differences)}. "
            "Resume with the settings that it was begun with, or choose another output_dir."
        )


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
