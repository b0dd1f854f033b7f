"""JAX, which compiles a whole epoch into one program."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .base import Array, Backend, BackendError, Buffer, Step, brief


class JaxBackend(Backend):
    """JAX, which compiles a whole epoch into one program."""

    library: ClassVar[str] = "jax"
    packages: ClassVar[tuple[str, ...]] = ("jax",)
    install: ClassVar[str] = "pip install jax"

    # One large product is faster than many small ones, by half, and compiles faster.
    convolution: ClassVar[str] = "im2col"

    first_epoch: ClassVar[str] = "the first epoch compiles the program"

    @classmethod
    def open(cls, device: str = "") -> Backend:
        """Open JAX on its default device, or on a platform and number such as ``gpu:0``."""
        jax = importlib.import_module("jax")
        if not hasattr(jax, "enable_x64"):
            raise BackendError(f"JAX {jax.__version__} is too old, xpnet needs 0.8 or newer: pip install -U jax")
        platform, _, number = device.partition(":")
        try:
            found, index = jax.devices(platform or None), int(number or 0)
        except (RuntimeError, ValueError) as error:
            raise BackendError(brief(error)) from None
        if not 0 <= index < len(found):
            raise BackendError(f"there {'is' if len(found) == 1 else 'are'} {len(found)}, counted from 0")
        xp = importlib.import_module("jax.numpy")
        return cls(f"jax:{device}" if device else "jax", xp, found[index])

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the devices of the default platform."""
        jax = importlib.import_module("jax")
        return tuple(f"jax:{device.platform}:{device.id}" for device in jax.devices())

    @classmethod
    def spec_of(cls, device: Any) -> str:
        """Return the spec that selects a device; for an array that is sharded over several, the default."""
        return f"jax:{device.platform}:{device.id}" if hasattr(device, "platform") else "jax"

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host."""
        return np.array(array)

    @contextlib.contextmanager
    def session(self, dtype: str = "float32") -> Iterator[None]:
        """Enable 64-bit numbers for a float64 run; JAX would otherwise silently use float32.

        Products of float32 keep full precision; on a GPU or a TPU, JAX would by default round the factors. Your own
        setting of ``jax_default_matmul_precision`` stays, such as ``JAX_DEFAULT_MATMUL_PRECISION=tensorfloat32``.
        """
        self.refuse_fork("")
        jax = importlib.import_module("jax")
        precision = jax.config.jax_default_matmul_precision or "highest"
        with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision(precision):
            yield

    def compile(self, function: Callable[..., Any], donate: Sequence[int] = ()) -> Callable[..., Any]:
        """Compile with `jax.jit`."""
        compiled: Callable[..., Any] = importlib.import_module("jax").jit(function, donate_argnums=tuple(donate))
        return compiled

    def padded(self, batch: NDArray[Any], most: int) -> NDArray[Any]:
        """Repeat the last row up to a power of two, or ``most``, because JAX keeps a program for each size."""
        missing = min(most, 1 << (len(batch) - 1).bit_length()) - len(batch)
        return np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing > 0 else batch

    def scan(self, step: Step, carry: Any, xs: dict[str, Array]) -> tuple[Any, Array | None]:
        """Run `jax.lax.scan`, one compiled loop."""
        result: tuple[Any, Array | None] = importlib.import_module("jax").lax.scan(step, carry, xs)
        return result

    def stepwise(self) -> Backend:
        """Return a backend that compiles nothing: a compiled program that calls the host may deadlock on a CPU."""
        return StepwiseJaxBackend(self.spec, self.xp, self.device)

    def exchange(self, talk: Callable[[Buffer], None], on_device: bool = False) -> Callable[[Array], Array]:
        """Copy through the host, because JAX arrays are immutable."""
        if on_device:
            raise BackendError("backend='jax': its arrays cannot be changed in place, so they go through the host")
        return super().exchange(talk)

    def synchronize(self) -> None:
        """Wait for a last operation, which suffices because a device works in order."""
        jax = importlib.import_module("jax")
        jax.block_until_ready(jax.device_put(0.0, self.device) + 0.0)


class StepwiseJaxBackend(JaxBackend):
    """JAX without compiled loops, operation by operation, like the other libraries."""

    compile = Backend.compile
    padded = Backend.padded
    scan = Backend.scan
