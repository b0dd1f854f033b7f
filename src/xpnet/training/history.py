"""The record of a run: one row of numbers for each epoch."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from xpnet.files import write_atomically


@dataclass(frozen=True)
class Record:
    """What was measured in one epoch.

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
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None = None
    val_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    seconds: float = 0.0

    def finite(self) -> bool:
        """Whether every loss is a finite number."""
        losses = (self.train_loss, self.val_loss, self.test_loss)
        return all(math.isfinite(loss) for loss in losses if loss is not None)


COLUMNS = tuple(field.name for field in dataclasses.fields(Record))


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

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Say how many epochs there are."""
        return f"History({len(self)} epochs)"

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

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the records as dictionaries."""
        return [dataclasses.asdict(record) for record in self]

    @classmethod
    def from_dicts(cls, rows: Sequence[dict[str, Any]]) -> History:
        """Build a history from what `to_dicts` returned."""
        return cls([Record(**row) for row in rows])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV file with a row for each epoch; what was not measured stays empty.

        Numbers are written so that `from_csv` reads the very same.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.to_dicts():
            writer.writerow("" if row[name] is None else repr(row[name]) for name in COLUMNS)
        write_atomically(path, text.getvalue().encode())

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> History:
        """Read what `to_csv` wrote.

        Raises
        ------
        ValueError
            If the file is something else, naming the line.
        """
        rows = list(csv.reader(Path(path).read_text(encoding="utf-8").splitlines()))
        if not rows or tuple(rows[0]) != COLUMNS:
            raise ValueError(f"{path}: not a history: the first line must be {','.join(COLUMNS)}")
        records = []
        for number, row in enumerate(rows[1:], start=2):
            try:
                values = [None if cell == "" else float(cell) for cell in row]
                fields: dict[str, Any] = dict(zip(COLUMNS, values, strict=True))
                records.append(Record(**fields | {"epoch": int(fields["epoch"])}))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
        return cls(records)
