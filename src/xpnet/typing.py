"""Type aliases that the whole library shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
"""An array of any library that follows the Array API standard."""

Namespace = Any
"""The module of such a library, as returned by `array_api_compat.array_namespace`."""

Shape = tuple[int, ...]

Pair = tuple[int, int]
"""Two integers, down and across."""

Arrays = dict[str, Array]
"""The arrays of one layer by name: its parameters, their gradients, or its state."""

ByLayer = list[Arrays]
"""The arrays of a network, one dictionary per layer."""

HostArray = NDArray[Any]
"""An array on the host, of any dtype."""

Random = np.random.Generator | np.random.RandomState
"""A source of random numbers, on the host: NumPy's, or its legacy generator."""

HostVector = NDArray[np.float64]
"""A number for each step or epoch, on the host."""

HostArrays = dict[str, HostArray]
"""The arrays of one layer, on the host."""
