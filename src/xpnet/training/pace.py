"""Pacing: a short epoch runs whole, and a long one in pieces, so that a progress bar can move in between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from xpnet.backends import Backend

Part = dict[str, NDArray[Any]]

SHORT = 1.0
"""Seconds. A shorter epoch stays whole."""
PIECE = 0.25
"""Target length of a piece, in seconds."""


class Pace:
    """Cuts the steps of an epoch into pieces, so that you can see how far it is.

    The steps and their order stay the same; only control returns in between. In the first epoch the pieces double in
    length until one takes about ``PIECE`` seconds. Later epochs use the time per step of the epoch before. A library
    that compiles would compile anew for every length, so its first epoch stays whole, and its pieces have equal lengths
    where possible.

    Parameters
    ----------
    backend : Backend
        The backend, which is synchronized after each piece.
    moved : callable
        Called with the finished share of the epoch, after each piece but the last.
    single : bool
        Whether every piece is one step, for callbacks that see each.
    """

    def __init__(self, backend: Backend, moved: Callable[[float], None], single: bool = False) -> None:
        self.backend, self.moved, self.single = backend, moved, single
        # The class is asked, because an instance's method may be wrapped.
        self.compiles = type(backend).compile is not Backend.compile
        self.per_step: float | None = None

    def pieces(self, parts: Sequence[Part]) -> Iterator[Part]:
        """Yield the batches of an epoch piece by piece, and report the finished share after each."""
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
        """Return a function of the part's length and the steps and seconds so far: the length of the next piece."""
        if self.single:
            return lambda length, done, seconds: 1
        if self.per_step is None and not self.compiles:
            return lambda length, done, seconds: max(1, done if seconds < PIECE else math.ceil(PIECE * done / seconds))
        if self.per_step is None or self.per_step * total < SHORT:
            return lambda length, done, seconds: length
        wanted = max(1, round(PIECE / self.per_step))
        return lambda length, done, seconds: _even(length, wanted)


def _steps(part: Part) -> int:
    return len(part["index"])


def _even(length: int, wanted: int) -> int:
    """Return the size nearest to ``wanted`` that divides a length evenly, or ``wanted`` if none is near."""
    fitting = [size for size in range(max(1, wanted // 2), 2 * wanted + 1) if length % size == 0]
    return min(fitting, key=lambda size: abs(size - wanted), default=wanted)
