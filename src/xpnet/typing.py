"""Type aliases that the whole library shares."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = Any
"""An array of any library that follows the Array API standard."""

Namespace = Any
"""The module of such a library, as returned by `array_api_compat.array_namespace`."""

Shape = tuple[int, ...]

Arrays = dict[str, Array]
"""The arrays of one layer by name: its parameters, their gradients, or its state."""

HostArrays = dict[str, NDArray[Any]]
"""The same as NumPy arrays."""
