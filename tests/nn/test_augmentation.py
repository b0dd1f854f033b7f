"""Random shifts, by hand and as each other's inverse."""

import numpy as np
import pytest

import xpnet
from xpnet import RandomShift
from xpnet.nn.augmentation import shift_images
from xpnet.nn.layers import Context


def test_shifts_move_images_and_gradients(backend):
    rng = np.random.default_rng(0)
    x, shifts = rng.normal(size=(5, 2, 4, 3)), np.asarray([[1, 0], [-2, 1], [0, -3]], np.int16)
    expected = np.zeros_like(x)
    for r, s, n in np.ndindex(5, 4, 3):
        i, j = r - shifts[n, 0], s - shifts[n, 1]
        if 0 <= i < 5 and 0 <= j < 4:
            expected[r, :, s, n] = x[i, :, j, n]
    np.testing.assert_array_equal(backend.to_numpy(shift_images(backend.asarray(x), backend.asarray(shifts))), expected)
    layer, ctx = RandomShift(3), Context(backend.xp, training=True, noise=backend.asarray(shifts))
    _, cache = layer.forward({}, backend.asarray(x), ctx)
    dy = rng.normal(size=x.shape)
    dx, _ = layer.backward({}, cache, backend.asarray(dy), ctx)
    # The adjoint of a linear map: <shift x, dy> = <x, dx>.
    np.testing.assert_allclose(np.sum(expected * dy), np.sum(x * backend.to_numpy(dx)))
    same, _ = layer.forward({}, backend.asarray(x), ctx._replace(training=False))
    np.testing.assert_array_equal(backend.to_numpy(same), x)


def test_random_shifts_reach_every_distance():
    noise = RandomShift(2).noise(np.random.default_rng(0), (8, 8, 1), 500)
    assert noise.shape == (500, 2)
    assert set(noise.ravel().tolist()) == {-2, -1, 0, 1, 2}


def test_images_smaller_than_the_shifts_are_refused():
    with pytest.raises(xpnet.ShapeError, match="RandomShift"):
        RandomShift(3).output_shape((3, 9, 1))
    assert RandomShift(2).output_shape((3, 9, 1)) == (3, 9, 1)


def test_an_epochs_shifts_are_small_integers_since_they_are_all_moved_at_once():
    assert RandomShift(2).noise(np.random.default_rng(0), (8, 8, 1), 5).dtype == np.int16
