"""Early stopping: train until the validation results stop improving, and keep the best weights."""

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
        The number of the epoch; -1 before the first.
    value : float
        The monitored quantity after that epoch, negated if less is better.
    loss : float
        The validation loss after that epoch; infinite if it was not measured.
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
        The number of epochs without improvement after which to stop; ``None`` never stops.
    monitor : {"val_accuracy", "val_loss"}
        The quantity to improve. The test set has no say.

    References
    ----------
    Prechelt, *Early stopping - but when?*, 1998: the criterion UP, on the number of epochs.
    """

    patience: Size | None = None
    monitor: Annotated[str, one_of("val_accuracy", "val_loss")] = "val_accuracy"

    def update(self, best: Best, record: Record) -> Best:
        """Return the best epoch so far by `Record.merit`, including this one."""
        value, less_loss = record.merit(self.monitor)
        return Best(record.epoch, value, -less_loss) if (value, less_loss) > (best.value, -best.loss) else best

    def should_stop(self, best: Best, epoch: int) -> bool:
        """Whether patience has run out after ``epoch``."""
        return self.patience is not None and best.epoch >= 0 and epoch - best.epoch >= self.patience


def best_to_dict(best: Best) -> dict[str, Any]:
    """Return a JSON-serializable form, without infinity."""
    numbers = dataclasses.asdict(best) if best.epoch >= 0 else {}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def best_from_dict(saved: dict[str, Any]) -> Best:
    """Undo `best_to_dict`."""
    return Best(**saved)
