"""The record of a run: one row of numbers for each epoch."""

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


@dataclass(frozen=True)
class Record:
    """The measurements of one epoch.

    Attributes
    ----------
    epoch : int
        From 0 on.
    train_loss, train_accuracy : float
        Over the training samples as they were used: with dropout, while the parameters changed.
    val_loss, val_accuracy, test_loss, test_accuracy : float or None
        After the epoch, on the validation and the test set; ``None`` where not measured.
    seconds : float
        For the training of this epoch, without evaluation.

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
        """Say how good the epoch is by a metric: of two, the greater is the better.

        On a small validation set the accuracy is soon as high as it gets, while the network still learns: of equal
        accuracies the lower loss decides. NaN where the metric was not measured.
        """
        value, loss = getattr(self, metric), getattr(self, f"{metric.partition('_')[0]}_loss")
        value = math.nan if value is None else value
        return -value if metric.endswith("loss") else value, -math.inf if loss is None else -loss

    def finite(self) -> bool:
        """Whether every loss is a finite number."""
        losses = (self.train_loss, self.val_loss, self.test_loss)
        return all(math.isfinite(loss) for loss in losses if loss is not None)


def count_of_epochs(count: int) -> str:
    """Write a number of epochs for people to read."""
    return f"{count} epoch{'' if count == 1 else 's'}"


COLUMNS = tuple(field.name for field in dataclasses.fields(Record))
METRICS = tuple(name for name in COLUMNS if name.endswith(("_loss", "_accuracy")))
_OPTIONAL = tuple(name for name in METRICS if not name.startswith("train_"))


class History(Sequence[Record]):
    """The records of a run, in order.

    Parameters
    ----------
    records : iterable of Record, optional
        To start with.

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
    def __getitem__(self, index: int | slice) -> Record | History:
        """Return an epoch's record, or the history of some epochs."""
        return History(self._records[index]) if isinstance(index, slice) else self._records[index]

    def __iter__(self) -> Iterator[Record]:
        """Go through the records."""
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are the same."""
        return isinstance(other, History) and self._records == other._records

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Say how many epochs there are, and how the last one ended."""
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
        """How long training took, without evaluation."""
        return sum(record.seconds for record in self)

    def appended(self, record: Record) -> History:
        """Return a history with one record more."""
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

        Of equal accuracies the one with the lower loss is the better, as in early stopping; else the earliest.

        Parameters
        ----------
        metric : str
            A column of losses or accuracies, such as ``"val_accuracy"``.

        Raises
        ------
        ValueError
            If there is no such metric, or it was never measured.
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
        """Build a history from what `to_dicts` returned.

        Raises
        ------
        ValueError
            If a row has other columns, or something else than numbers in them.
        """
        return cls([_record(row) for row in rows])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV file with a row for each epoch; what was not measured stays empty.

        Numbers are written so that `from_csv` reads the very same.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.to_dicts():
            writer.writerow(_cell(name, row[name]) for name in COLUMNS)
        write_atomically(path, text.getvalue().encode())

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> History:
        """Read what `to_csv` wrote.

        Raises
        ------
        ValueError
            If the file is something else, naming the line.
        """
        try:
            text = require_path("path", path).read_bytes().decode()
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a history: {error}") from None
        if not rows or tuple(rows[0]) != COLUMNS:
            raise ValueError(f"{path}: not a history: the first line must be {','.join(COLUMNS)}")
        records = []
        for number, row in enumerate(rows[1:], start=2):
            try:
                cells = dict(zip(COLUMNS, row, strict=True))
                records.append(_record({name: _number(name, cell) for name, cell in cells.items()}))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
        return cls(records)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    # NumPy's numbers would be written with their type.
    return str(int(value)) if name == "epoch" else repr(float(value))


def _number(name: str, cell: str) -> float | None:
    if cell == "":
        return None
    try:
        return int(cell) if name == "epoch" else float(cell)
    except ValueError:
        raise ValueError(f"{name}={cell!r}: not a number") from None


def _record(row: Mapping[str, Any]) -> Record:
    if row.keys() != set(COLUMNS):
        raise ValueError(f"columns {', '.join(map(str, row))}: must be {', '.join(COLUMNS)}")
    for name, value in row.items():
        kind = int if name == "epoch" else int | float
        if (value is None and name in _OPTIONAL) or (isinstance(value, kind) and not isinstance(value, bool)):
            continue
        raise ValueError(f"{name}={value!r}: not {'an integer' if name == 'epoch' else 'a number'}")
    return Record(**row)
