"""Early stopping: to train until the validation set stops getting better, and keep the best weights."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any

from xpnet.parts import Part, Size, one_of
from xpnet.runs.history import Record


@dataclass(frozen=True)
class Best:
    """The best epoch so far.

    Attributes
    ----------
    epoch : int
        Which; -1 before the first.
    value : float
        The monitored quantity then, negated where less is better.
    loss : float
        The validation loss then; infinite where there was none.
    """

    epoch: int = -1
    value: float = -math.inf
    loss: float = math.inf


@dataclass(frozen=True)
class EarlyStopping(Part):
    """When to stop.

    Parameters
    ----------
    patience : int, optional
        Epochs without improvement after which to stop; ``None`` never stops.
    monitor : {"val_accuracy", "val_loss"}
        What is to improve. Never a number of the test set.

    References
    ----------
    Prechelt, *Early stopping - but when?*, 1998: the criterion UP, on the number of epochs.
    """

    patience: Size | None = None
    monitor: Annotated[str, one_of("val_accuracy", "val_loss")] = "val_accuracy"

    def update(self, best: Best, record: Record) -> Best:
        """Return the best epoch, this one included, by `Record.merit`."""
        value, less_loss = record.merit(self.monitor)
        return Best(record.epoch, value, -less_loss) if (value, less_loss) > (best.value, -best.loss) else best

    def should_stop(self, best: Best, epoch: int) -> bool:
        """Whether patience has run out after ``epoch``."""
        return self.patience is not None and best.epoch >= 0 and epoch - best.epoch >= self.patience


def best_to_dict(best: Best) -> dict[str, Any]:
    """Return what JSON can hold: it has no infinity."""
    numbers = dataclasses.asdict(best) if best.epoch >= 0 else {}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def best_from_dict(saved: dict[str, Any]) -> Best:
    """Undo `best_to_dict`."""
    return Best(**saved)
