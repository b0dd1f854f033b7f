"""Random numbers, drawn on the host.

The Array API standard has no random numbers, and the generators of the libraries differ. NumPy therefore draws the
weights, shuffles and dropout masks, each from its own generator, which is keyed by the seed, the purpose and the epoch.
This has three advantages. The same seed gives every backend the same numbers. Each purpose draws independently of the
others. A run that resumes at epoch 7 draws the numbers of epoch 7, with no state to restore.

No global generator is read or seeded.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xpnet.parts import require_integer


def generator(seed: int, purpose: str, epoch: int = 0) -> np.random.Generator:
    """Return the generator for one purpose in one epoch.

    Parameters
    ----------
    seed : int
        The seed of the run, at least 0.
    purpose : str
        The use of the numbers, such as ``"shuffle"``.
    epoch : int
        The epoch, at least 0.

    Returns
    -------
    numpy.random.Generator

    Examples
    --------
    >>> generator(1, "shuffle", 0).permutation(5).tolist() == generator(1, "shuffle", 0).permutation(5).tolist()
    True
    """
    check_seed(seed)
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), epoch])


def check_seed(seed: int) -> int:
    """Check that a seed is valid, and return it.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer from 0 to 2**32 - 1, the range of NumPy's legacy generator.
    """
    number = require_integer("seed", seed)
    if not 0 <= number < 2**32:
        raise ValueError(f"seed={seed!r}: must be from 0 to 2**32 - 1")
    return number


def integers(rng: Any, low: int, high: int, size: tuple[int, ...], dtype: Any = int) -> NDArray[Any]:
    """Draw integers from ``low`` to ``high - 1``, from a `numpy.random.Generator` or from the legacy `RandomState`.

    Examples
    --------
    >>> for rng in (np.random.default_rng(0), np.random.RandomState(0)):
    ...     print(integers(rng, 0, 10, (4,)))
    [8 6 5 2]
    [5 0 3 3]
    """
    draw = rng.randint if isinstance(rng, np.random.RandomState) else rng.integers
    return np.asarray(draw(low, high, size=size, dtype=dtype))


def sixteen_bits(rng: Any, size: tuple[int, ...]) -> NDArray[np.uint16]:
    """Draw integers from 0 to 65,535, four per 64 random bits, in half the time of drawing them one by one.

    Examples
    --------
    >>> sixteen_bits(np.random.default_rng(0), (2, 3))
    array([[33375, 55746, 60367],
           [41743, 55073, 33497]], dtype=uint16)
    """
    count = math.prod(size)
    drawn = integers(rng, 0, 2**64, (-(-count // 4),), np.uint64)
    # Little-endian order gives the same numbers on every machine.
    return drawn.astype("<u8", copy=False).view("<u2")[:count].reshape(size).astype(np.uint16, copy=False)


class Drawing(Protocol):
    """The methods by which a network draws random numbers; see `xpnet.Network`."""

    def init(self, rng: Any) -> Any:
        """Draw the initial parameters."""

    def noise(self, rng: Any, n: int) -> Any:
        """Draw the noise of ``n`` samples."""


@dataclass(frozen=True)
class Streams:
    """The random numbers of a run, from keyed generators.

    Attributes
    ----------
    seed : int
        The seed of the run.

    Examples
    --------
    >>> Streams(1).order(0, 4).tolist() == Streams(1).order(0, 4).tolist(), sorted(Streams(1).order(3, 4).tolist())
    (True, [0, 1, 2, 3])
    """

    seed: int

    def weights(self, network: Drawing) -> Any:
        """Draw the initial parameters of a network."""
        return network.init(generator(self.seed, "weights"))

    def order(self, epoch: int, n: int) -> NDArray[np.int64]:
        """Draw the order in which an epoch visits its ``n`` samples."""
        return generator(self.seed, "shuffle", epoch).permutation(n)

    def noise(self, network: Drawing, epoch: int, n: int) -> Any:
        """Draw an epoch's noise, one row per sample."""
        return network.noise(generator(self.seed, "noise", epoch), n)


class SequentialStreams(Streams):
    """One legacy generator that draws everything in order: first the weights, then the noise of each epoch.

    The NumPy tutorial draws in this way, so its results need the same. Samples are visited in their own order. To find
    an epoch's place in the stream, all earlier numbers are drawn again, unless the previous call drew the epoch before,
    because the generator is kept.

    Examples
    --------
    >>> SequentialStreams(1).order(0, 4).tolist()
    [0, 1, 2, 3]
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        object.__setattr__(self, "_next", None)

    def weights(self, network: Drawing) -> Any:
        """Draw the initial parameters of a network."""
        return network.init(np.random.RandomState(self.seed))

    def order(self, epoch: int, n: int) -> NDArray[np.int64]:
        """Return the samples in their own order."""
        return np.arange(n)

    def noise(self, network: Drawing, epoch: int, n: int) -> Any:
        """Draw an epoch's noise from its place in the stream."""
        rng = self._at(network, epoch, n)
        drawn = network.noise(rng, n)
        object.__setattr__(self, "_next", (network, epoch + 1, n, rng))
        return drawn

    def _at(self, network: Drawing, epoch: int, n: int) -> np.random.RandomState:
        place = getattr(self, "_next", None)
        if place is not None and place[:3] == (network, epoch, n):
            return place[3]  # type: ignore[no-any-return]
        rng = np.random.RandomState(self.seed)
        network.init(rng)
        for _ in range(epoch):
            network.noise(rng, n)
        return rng
