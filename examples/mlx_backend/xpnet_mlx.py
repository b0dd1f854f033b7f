"""Apple's MLX as a backend of xpnet.

MLX has most functions of the Array API standard, but some lack an argument, and it
computes nothing until a value is needed. This class makes up for both.
"""

import importlib
import types

import numpy as np

from xpnet.backends import Backend, BackendError

LACKING = {
    "arange": "device",
    "asarray": "device",
    "full": "device",
    "zeros": "device",
    "full_like": "device",
    "zeros_like": "device",
    "astype": "copy",
}
"""Functions that lack an argument of the standard."""


class MlxBackend(Backend):
    """MLX on its GPU where there is one, or on the CPU."""

    library = "mlx"
    packages = ("mlx",)
    install = "pip install mlx (on a Mac) or 'mlx[cpu]'"

    @classmethod
    def open(cls, device=""):
        """Open MLX on ``cpu`` or ``gpu``."""
        mx = importlib.import_module("mlx.core")
        if device not in ("", "cpu", "gpu"):
            raise BackendError("there are mlx:cpu, mlx:gpu")
        xp = types.ModuleType("mlx")
        xp.__dict__.update(vars(mx))
        for name, argument in LACKING.items():
            setattr(xp, name, _without(argument, getattr(mx, name)))
        chosen = mx.Device(getattr(mx, device)) if device else mx.default_device()
        return cls(f"mlx:{device}" if device else "mlx", xp, chosen)

    @classmethod
    def of(cls, array):
        """Return the default backend, because an MLX array has no device."""
        return cls.open()

    def asarray(self, host, dtype=None):
        """Copy a host array in its own dtype: MLX's ``asarray`` turns float64 into float32."""
        host = np.array(host, dtype=dtype)
        return self.xp.array(host, dtype=getattr(self.xp, host.dtype.name))

    def session(self, dtype="float32"):
        """Compute on this device."""
        return self.xp.stream(self.device)

    def scan(self, step, carry, xs):
        """Compute each step before the next; otherwise the epoch would become one expression."""

        def computed(carry, slices):
            result = step(carry, slices)
            self.xp.eval(result)
            return result

        return super().scan(computed, carry, xs)


def _without(argument, function):
    def tolerant(*args, **options):
        options.pop(argument, None)
        return function(*args, **options)

    return tolerant
