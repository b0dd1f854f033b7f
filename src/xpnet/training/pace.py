"""How an epoch is handed over: whole where it is short, in pieces where somebody waits for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from xpnet.backends import Backend

Part = dict[str, NDArray[Any]]

SHORT = 1.0
"""Seconds: an epoch below that stays whole."""
PIECE = 0.25
"""Seconds that a piece should take."""


class Pace:
    """Cuts the steps of an epoch into pieces, so that one can see how far it is.

    The steps stay the same, in the same order: the pieces only give control back in between. The first epoch begins
    with pieces that double until one takes long enough to be worth it; those after go by how long the last one took.
    A library that compiles would compile every new length: its first epoch stays whole, and its pieces are of one
    length where that can be.

    Parameters
    ----------
    backend : Backend
        It is waited for after each piece.
    moved : callable
        Is given the share of the epoch that is done, after each piece but the last.
    """

    def __init__(self, backend: Backend, moved: Callable[[float], None]) -> None:
        self.backend, self.moved = backend, moved
        # As its class says: an instance may have been wrapped.
        self.compiles = type(backend).compile is not Backend.compile
        self.per_step: float | None = None

    def pieces(self, parts: Sequence[Part]) -> Iterator[Part]:
        """Yield what there is to do, piece by piece, and tell after each how much is done."""
        total = sum(map(_steps, parts))
        cut = self._cut(total)
        done, begin = 0, time.perf_counter()
        for part in parts:
            start = 0
            while start < _steps(part):
                size = cut(_steps(part), done, time.perf_counter() - begin)
                piece = {name: values[start : start + size] for name, values in part.items()}
                yield piece
                start, done = start + size, done + _steps(piece)
                if done < total:
                    self.backend.synchronize()
                    self.moved(done / total)
        self.backend.synchronize()
        self.per_step = (time.perf_counter() - begin) / total

    def _cut(self, total: int) -> Callable[[int, int, float], int]:
        """Return what says how long the next piece is, from the part's length and the steps and seconds so far."""
        if self.per_step is None and not self.compiles:
            return lambda length, done, seconds: max(1, done if seconds < PIECE else math.ceil(PIECE * done / seconds))
        if self.per_step is None or self.per_step * total < SHORT:
            return lambda length, done, seconds: length
        wanted = max(1, round(PIECE / self.per_step))
        return lambda length, done, seconds: _even(length, wanted)


def _steps(part: Part) -> int:
    return len(part["index"])


def _even(length: int, wanted: int) -> int:
    """Return a size near the wanted one that divides a length without a rest, or the wanted one."""
    fitting = [size for size in range(max(1, wanted // 2), 2 * wanted + 1) if length % size == 0]
    return min(fitting, key=lambda size: abs(size - wanted), default=wanted)
