"""The record of a run: one row of numbers per epoch."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, overload

from xpnet.files import write_atomically
from xpnet.parts import require_path
from xpnet.runs.untrusted import read_bounded, shown

_MOST_EPOCHS = 100_000
_MOST_BYTES = 100 * _MOST_EPOCHS


@dataclass(frozen=True)
class Record:
    """The measurements of one epoch.

    Attributes
    ----------
    epoch : int
        The number of the epoch, from 0.
    train_loss, train_accuracy : float
        Averages over the training samples during the epoch: with dropout, and while the parameters changed.
    val_loss, val_accuracy, test_loss, test_accuracy : float or None
        Averages over the validation and the test set after the epoch; ``None`` if not measured.
    seconds : float
        The training time of this epoch, without evaluation.

    Examples
    --------
    >>> from xpnet import Record
    >>> record = Record(epoch=3, train_loss=0.25, train_accuracy=0.9)
    >>> record.finite(), record.test_accuracy is None
    (True, True)
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None = None
    val_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    seconds: float = 0.0

    def merit(self, metric: str) -> tuple[float, float]:
        """Return a value that ranks epochs by a metric; the greater, the better.

        On a small validation set the accuracy soon stops rising while the network still learns, so among equal
        accuracies the lower loss wins. The value is NaN if the metric was not measured.
        """
        value, loss = getattr(self, metric), getattr(self, f"{metric.partition('_')[0]}_loss")
        value = math.nan if value is None else value
        return -value if metric.endswith("loss") else value, -math.inf if loss is None else -loss

    def finite(self) -> bool:
        """Whether every loss is a finite number."""
        losses = (self.train_loss, self.val_loss, self.test_loss)
        return all(math.isfinite(loss) for loss in losses if loss is not None)


def count_of_epochs(count: int) -> str:
    """Return a number of epochs in words."""
    return f"{count} epoch{'' if count == 1 else 's'}"


COLUMNS = tuple(field.name for field in dataclasses.fields(Record))
METRICS = tuple(name for name in COLUMNS if name.endswith(("_loss", "_accuracy")))
_OPTIONAL = tuple(name for name in METRICS if not name.startswith("train_"))


class History(Sequence[Record]):
    """The records of a run, in order.

    Parameters
    ----------
    records : iterable of Record, optional
        The first records.

    Examples
    --------
    >>> history = History([Record(0, 0.5, 0.8), Record(1, 0.25, 0.9)])
    >>> history[-1].train_accuracy, history.column("train_loss")
    (0.9, [0.5, 0.25])
    """

    def __init__(self, records: Sequence[Record] = ()) -> None:
        self._records = tuple(records)

    def __len__(self) -> int:
        """Return the number of epochs."""
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    @overload
    def __getitem__(self, index: str) -> list[float | None]: ...
    def __getitem__(self, index: int | slice | str) -> Record | History | list[float | None]:
        """Return an epoch's record, the history of some epochs, or a `column` by its name."""
        if isinstance(index, str):
            return self.column(index)
        return History(self._records[index]) if isinstance(index, slice) else self._records[index]

    def __iter__(self) -> Iterator[Record]:
        """Iterate over the records."""
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are the same."""
        return isinstance(other, History) and self._records == other._records

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the number of epochs and the last results."""
        if not self:
            return "History(0 epochs)"
        last = [f"{name} {value:.4g}" for name in METRICS if (value := getattr(self[-1], name)) is not None]
        return f"History({count_of_epochs(len(self))}, the last: {', '.join(last)})"

    def _repr_html_(self) -> str:
        """Show a table in a notebook."""
        from xpnet.plots import display

        return display.history_html(self)

    @property
    def seconds(self) -> float:
        """The training time, without evaluation."""
        return sum(record.seconds for record in self)

    def appended(self, record: Record) -> History:
        """Return a history with one more record."""
        return History((*self._records, record))

    def column(self, name: str) -> list[float | None]:
        """Return one quantity of all epochs.

        Raises
        ------
        ValueError
            If there is no such column.
        """
        if name not in COLUMNS:
            raise ValueError(f"column {name!r}: unknown; there are {', '.join(COLUMNS)}")
        return [getattr(record, name) for record in self]

    def best(self, metric: str) -> Record:
        """Return the epoch with the highest accuracy or the lowest loss.

        Among equal accuracies the lower loss wins, as in early stopping, and then the earlier epoch.

        Parameters
        ----------
        metric : str
            A column of losses or accuracies, such as ``"val_accuracy"``.

        Raises
        ------
        ValueError
            If there is no such metric, or if it was never measured.
        """
        if metric not in METRICS:
            raise ValueError(f"metric {metric!r}: unknown; there are {', '.join(METRICS)}")
        measured = [record for record in self if not math.isnan(record.merit(metric)[0])]
        if not measured:
            raise ValueError(f"metric {metric!r}: no epoch has measured it")
        return max(measured, key=lambda record: record.merit(metric))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the records as dictionaries."""
        return [dataclasses.asdict(record) for record in self]

    @classmethod
    def from_dicts(cls, rows: Sequence[dict[str, Any]]) -> History:
        """Build a history from the dictionaries of `to_dicts`.

        Raises
        ------
        ValueError
            If a row has other columns, or if a value is not a number.
        """
        return cls([_record(row) for row in rows])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV file with one row per epoch; values that were not measured stay empty.

        `from_csv` reads exactly the same numbers.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.to_dicts():
            writer.writerow(_cell(name, row[name]) for name in COLUMNS)
        write_atomically(path, text.getvalue().encode())

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> History:
        """Read a file that `to_csv` wrote.

        Raises
        ------
        ValueError
            If the file is not a history, naming the line.
        """
        try:
            text = read_bounded(require_path("path", path), _MOST_BYTES).decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not a history: {error}") from None
        # Read row by row, so that the first bad row stops the reading.
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        records: list[Record] = []
        number = 1
        try:
            if tuple(next(rows, ())) != COLUMNS:
                raise ValueError(f"{path}: not a history: the first line must be {','.join(COLUMNS)}")
            for number, row in enumerate(rows, start=2):
                if number > _MOST_EPOCHS + 1:
                    raise ValueError(f"more than {_MOST_EPOCHS:,} epochs")
                cells = dict(zip(COLUMNS, row, strict=True))
                records.append(_record({name: _number(name, cell) for name, cell in cells.items()}))
        except csv.Error as error:
            raise ValueError(f"{path}: not a history: {error}") from None
        except ValueError as error:
            raise (error if number == 1 else ValueError(f"{path}, line {number}: {error}")) from None
        return cls(records)


def check_history(history: History) -> History:
    """Check that epochs run from 0 without a gap and that all numbers are finite, and return the history.

    Raises
    ------
    ValueError
        Naming the epoch.
    """
    for epoch, record in enumerate(history):
        if record.epoch != epoch:
            raise ValueError(f"epoch {shown(record.epoch)} is in the place of epoch {epoch}")
        for name in (*METRICS, "seconds"):
            value = getattr(record, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"epoch {epoch}: {name} is {value}")
    return history


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    # The `repr` of a NumPy number would contain its type.
    return str(int(value)) if name == "epoch" else repr(float(value))


def _number(name: str, cell: str) -> float | None:
    if cell == "":
        return None
    try:
        return int(cell) if name == "epoch" else float(cell)
    except ValueError:
        raise ValueError(f"{name}={shown(repr(cell))}: not a number") from None


def _record(row: Mapping[str, Any]) -> Record:
    if row.keys() != set(COLUMNS):
        raise ValueError(f"columns {shown(', '.join(map(str, row)))}: must be {', '.join(COLUMNS)}")
    for name, value in row.items():
        kind = int if name == "epoch" else int | float
        if (value is None and name in _OPTIONAL) or (isinstance(value, kind) and not isinstance(value, bool)):
            continue
        raise ValueError(f"{name}={shown(repr(value))}: not {'an integer' if name == 'epoch' else 'a number'}")
    return Record(**row)
