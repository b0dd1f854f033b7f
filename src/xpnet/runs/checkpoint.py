"""Files of arrays, and the folder of a run: writes are atomic, and every read is checked.

Arrays are kept in the safetensors format: names, dtypes, shapes and plain bytes. No file is ever unpickled. Each file
contains a SHA-256 of its contents, so a flipped bit is found when the file is read, not in the results.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backends import DTYPES
from xpnet.files import check_writable_directory, flush_directory, sweep_temporaries, write_atomically
from xpnet.runs.untrusted import parse_json, read_bounded, shown

Arrays = dict[str, NDArray[Any]]

KEPT = 2
"""The number of checkpoints that stay: the newest, and one to fall back on."""

_CHECKSUM = "xpnet.sha256"
_META = "xpnet.meta"
_NAME = re.compile(r"epoch-([0-9]{1,9})\.safetensors")
_MOST = 1 << 36
"""The default limit of a file of arrays, in bytes."""
_MOST_DIFFERENCES = 20


class CheckpointError(ValueError):
    """A file or folder of a run is missing, damaged or invalid; the message names it.

    Examples
    --------
    >>> import xpnet
    >>> try:
    ...     xpnet.load("nowhere")
    ... except xpnet.CheckpointError as error:
    ...     print(error)
    'nowhere' is not the folder of a run: it has no config.json
    """

    def __init__(self, message: str) -> None:
        super().__init__(shown(message, 4000))


class ResumeError(ValueError):
    """A run cannot be resumed with this configuration; the message names the difference.

    Examples
    --------
    >>> import tempfile
    >>> import xpnet
    >>> settings = {"dataset": "digits", "epochs": 1, "progress": False}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = xpnet.train("mlp", output_dir=folder, **settings)
    ...     try:
    ...         xpnet.train("mlp", output_dir=folder, resume=True, seed=7, **settings)
    ...     except xpnet.ResumeError as error:
    ...         print(str(error).partition(". ")[0])
    resume: the run was begun with other settings: seed was 0 and is 7
    """

    def __init__(self, message: str) -> None:
        super().__init__(shown(message, 4000))


class BusyError(ValueError):
    """Another run is writing to the folder.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import xpnet
    >>> from xpnet.runs.checkpoint import RunDirectory
    >>> with tempfile.TemporaryDirectory() as folder, RunDirectory(Path(folder)).lock():
    ...     try:
    ...         xpnet.train("mlp", dataset="digits", output_dir=folder, progress=False)
    ...     except xpnet.BusyError as error:
    ...         print(str(error).partition(": ")[2])
    another run is writing there; choose another folder
    """


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run's state after an epoch.

    Attributes
    ----------
    epoch : int
        The last finished epoch.
    arrays : dict of str to array
        NumPy arrays.
    meta : dict
        Everything else, in a JSON-serializable form.
    """

    epoch: int
    arrays: Arrays
    meta: dict[str, Any]


# Arrays in a file -------------------------------------------------------------------------------------------------


def save_arrays(path: str | os.PathLike[str], arrays: Arrays, meta: Mapping[str, Any]) -> None:
    """Write arrays and a description to a safetensors file, atomically.

    Parameters
    ----------
    path : path-like
        The file.
    arrays : dict of str to array
        Arrays of any memory layout and byte order, with dtypes that safetensors supports.
    meta : mapping
        The description, in a JSON-serializable form.

    Raises
    ------
    TypeError
        If the format does not support a dtype.
    OSError
        If the file cannot be written; an older file of this name stays.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save

    # safetensors writes the memory of a transposed or strided array as if it were contiguous.
    ordered = {name: _in_order(array) for name, array in arrays.items()}
    text = json.dumps(meta, sort_keys=True)
    try:
        data = save(ordered, {_META: text, _CHECKSUM: _checksum(ordered, text)})
    except SafetensorError as error:
        dtypes = ", ".join(f"{name}: {array.dtype}" for name, array in ordered.items())
        raise TypeError(f"{path}: safetensors cannot hold these arrays ({dtypes}): {error}") from None
    write_atomically(path, data)


def load_arrays(path: str | os.PathLike[str], most: int = _MOST) -> tuple[Arrays, dict[str, Any]]:
    """Read and check a file that `save_arrays` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    most : int
        The largest size accepted, in bytes.

    Returns
    -------
    arrays : dict of str to array
    meta : dict

    Raises
    ------
    CheckpointError
        If the file is damaged, or was written by another program.
    OSError
        If the file cannot be read.
    """
    from safetensors import SafetensorError

    data = read_bounded(path, most)
    try:
        return _decode(data)
    except KeyError as error:
        raise CheckpointError(f"{path}: holds numbers of dtype {error}, which NumPy does not have") from None
    except (SafetensorError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a whole file of arrays: {error}") from None


def check_arrays(
    expected: Mapping[str, tuple[int, ...]], arrays: Arrays, name: str, dtypes: tuple[str, ...] = DTYPES
) -> None:
    """Check that arrays are exactly those of a network.

    Raises
    ------
    CheckpointError
        Naming arrays that are missing, unknown, not finite, or of another shape or dtype.
    """
    problems = [f"{key} is missing" for key in expected if key not in arrays]
    problems += [f"{shown(key)} is not part of this network" for key in arrays if key not in expected]
    for key in expected.keys() & arrays.keys():
        if arrays[key].shape != expected[key]:
            problems.append(f"{key} has shape {arrays[key].shape} instead of {expected[key]}")
        elif arrays[key].dtype.name not in dtypes:
            problems.append(f"{key} is {arrays[key].dtype} instead of {' or '.join(dtypes)}")
        elif not np.isfinite(arrays[key]).all():
            problems.append(f"{key} holds NaN or infinity")
    if problems:
        told = sorted(problems)[:_MOST_DIFFERENCES]
        raise CheckpointError(f"{name}: the weights do not fit the network: {'; '.join(told)}")


def _in_order(array: NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(array)
    # ascontiguousarray would add an axis to an array without axes.
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)


def _decode(data: bytes) -> tuple[Arrays, dict[str, Any]]:
    """Decode a file's bytes; damage may raise many kinds of exceptions."""
    from safetensors.numpy import load

    # safetensors' `load` does not return the metadata.
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError("it ends before its header does")
    header = parse_json(data[8 : 8 + length])
    arrays = load(data)
    described = header.get("__metadata__") or {}
    if not {_META, _CHECKSUM} <= described.keys():
        raise ValueError("it has no checksum, so xpnet did not write it")
    if _checksum(arrays, described[_META]) != described[_CHECKSUM]:
        raise ValueError("its checksum does not match its contents")
    meta = parse_json(described[_META])
    if not isinstance(meta, dict):
        raise ValueError("its description is not a table")
    return arrays, meta


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
        """The subfolder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def begun(self) -> bool:
        """Whether a run has written to the folder."""
        return self.checkpoints.is_dir() or (self.path / "model.safetensors").exists()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of the folder inside a ``with`` block.

        The system releases the lock when the process ends, however it ends.

        Raises
        ------
        ValueError
            If the folder or its subfolder of checkpoints is not writable.
        BusyError
            If another run holds the lock.
        """
        from filelock import FileLock, Timeout

        file = self.path / ".lock"
        held = FileLock(file, timeout=0, fallback_to_soft=False)
        # Nothing is written before the lock is held, not even a probe: the run that holds it would remove that.
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(InterruptedError):
                held.acquire()
            if not held.is_locked:
                held.acquire()
        except Timeout:
            raise BusyError(
                f"output_dir={str(self.path)!r}: another run is writing there; choose another folder"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise ValueError(f"output_dir={str(self.path)!r}: not a writable folder: {error}") from None
            warnings.warn(
                f"{self.path}: its file system has no locks: see to it that no other run writes there", stacklevel=3
            )
        try:
            check_writable_directory(self.checkpoints)
            sweep_temporaries(self.path)
            sweep_temporaries(self.checkpoints)
            flush_directory(self.path)  # the subfolder's name must be as durable as the checkpoints
            yield
        finally:
            with contextlib.suppress(OSError):
                self.checkpoints.rmdir()  # only if nothing came of the run
            # Unlink before the release: a process that opened the file earlier finds it unlinked, and does not use it
            # as the lock. filelock itself must not unlink it again, since by then it may be another run's: see the
            # version in pyproject.toml. Windows cannot remove an open file, so there filelock removes it.
            with contextlib.suppress(OSError):
                file.unlink()
            held.release()

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the last `KEPT`.

        Raises
        ------
        OSError
            If it cannot be written; the earlier ones stay.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        # Sweep before writing, because the remains of an interrupted write take space.
        sweep_temporaries(self.checkpoints)
        path = self.checkpoints / f"epoch-{checkpoint.epoch:05d}.safetensors"
        save_arrays(path, checkpoint.arrays, {"epoch": checkpoint.epoch, "meta": checkpoint.meta})
        saved = self._saved()
        # A file of a later epoch was damaged and skipped. If it counted, it would displace a good one.
        kept = [old for epoch, old in saved if epoch <= checkpoint.epoch][:KEPT]
        for _, old in saved:
            if old not in kept:
                old.unlink(missing_ok=True)

    def latest_checkpoint(self, most: int = _MOST) -> Checkpoint | None:
        """Read the newest undamaged checkpoint.

        Parameters
        ----------
        most : int
            The largest size accepted, in bytes.

        Returns
        -------
        Checkpoint or None
            ``None`` if there is no file.

        Raises
        ------
        CheckpointError
            If there are files, but each is damaged.

        Warns
        -----
        UserWarning
            Naming newer files that are damaged.
        """
        causes = []
        for epoch, path in self._saved():
            try:
                checkpoint = _load_checkpoint(path, epoch, most)
            except (CheckpointError, OSError) as error:
                causes.append(shown(error))
                continue
            if causes:
                warnings.warn(f"{'; '.join(causes)}: using {path.name} instead", stacklevel=2)
            return checkpoint
        if causes:
            raise CheckpointError(
                f"no checkpoint can be read: {'; '.join(causes)}. "
                "Move them away to begin anew, or choose another folder."
            )
        return None

    def _saved(self) -> list[tuple[int, Path]]:
        found = [(_NAME.fullmatch(path.name), path) for path in self.checkpoints.glob("epoch-*")]
        return sorted(((int(m[1]), path) for m, path in found if m), reverse=True)


_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def _load_checkpoint(path: Path, epoch: int, most: int) -> Checkpoint:
    arrays, saved = load_arrays(path, most)
    if saved.get("epoch") != epoch or not isinstance(saved.get("meta"), dict):
        raise CheckpointError(f"{path}: not the checkpoint of epoch {epoch} that its name promises")
    return Checkpoint(epoch, arrays, saved["meta"])


# The configuration of a run ---------------------------------------------------------------------------------------


FREE_TO_CHANGE = {"epochs", "backend", "device", "ranks", "versions", "workers", "threads", "images"}
"""The settings that may differ when a run is resumed, to train for longer or on another machine."""


def compare_configs(saved: Mapping[str, Any], current: Mapping[str, Any], free: Set[str]) -> None:
    """Check that a run is resumed with the settings that it started with.

    Parameters
    ----------
    saved, current : mapping
        The configurations, as nested mappings.
    free : set of str
        Names at the top level that may differ.

    Raises
    ------
    ResumeError
        Naming each difference.
    """
    found = [f"{name} was {old} and is {new}" for name, old, new in config_differences(saved, current, free)]
    if found:
        raise ResumeError(
            f"resume: the run was begun with other settings: {'; '.join(found)}. "
            "Resume with the settings that it was begun with, or choose another output_dir."
        )


def config_differences(
    one: Mapping[str, Any], other: Mapping[str, Any], free: Set[str] = frozenset()
) -> list[tuple[str, str, str]]:
    """Return the differences of two configurations: the setting, its value in the first, its value in the second.

    At most 20 differences are returned.
    """
    # Both go through JSON, as the saved one did, because JSON turns tuples into lists.
    a, b = (json.loads(json.dumps({k: v for k, v in c.items() if k not in free})) for c in (one, other))
    return sorted(itertools.islice(_differences(a, b, ""), _MOST_DIFFERENCES))


_ABSENT = object()


def _differences(a: Any, b: Any, name: str) -> Iterator[tuple[str, str, str]]:
    """Yield each difference with its path, such as ``network.layers.0.units``."""
    inside_a, inside_b = _settings(a), _settings(b)
    left, right = _ABSENT if inside_a else a, _ABSENT if inside_b else b
    if left != right:
        yield name, _value(left), _value(right)
    # Plain settings come before nested ones.
    for key in sorted(inside_a | inside_b, key=lambda key: bool(_settings(inside_a.get(key) or inside_b.get(key)))):
        yield from _differences(
            inside_a.get(key, _ABSENT), inside_b.get(key, _ABSENT), f"{name}.{shown(key)}" if name else shown(key)
        )


def _settings(value: Any) -> dict[str, Any]:
    """Return the settings in a dictionary or a list of dictionaries; an empty dictionary for anything else."""
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return {str(i): part for i, part in enumerate(value)}
    return value if isinstance(value, dict) else {}


def _value(value: Any) -> str:
    return "not there" if value is _ABSENT else shown(repr(value))
