"""Helpers for tests of whole runs: a run that stops by accident, and a comparison of two runs."""

import numpy as np
import pytest


class Stop(Exception):
    """Raised by a callback in place of an accident."""


def stop_after(epoch):
    def callback(record):
        if record.epoch == epoch:
            raise Stop

    return callback


def elsewhere_but(names, *kept):
    """Mark each name except those kept: libraries other than NumPy run it in `nox -s thorough`."""
    return [name if name in kept else pytest.param(name, marks=pytest.mark.elsewhere) for name in names]


def assert_same(a, b):
    ours, theirs = a.network.named_arrays(), b.network.named_arrays()
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert rows(a.history) == rows(b.history)


def flat(layers, backend):
    """Return the arrays of all layers on the host, end to end."""
    arrays = [np.ravel(backend.to_numpy(array)) for layer in layers for array in layer.values()]
    return np.concatenate(arrays) if arrays else np.empty(0)


def rows(history):
    """Return all of a history that the same seed repeats: not the time."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history.to_dicts()]
