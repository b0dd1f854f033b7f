"""Pooling, against torch and by hand."""

import numpy as np
import pytest

from xpnet import AveragePool2D, MaxPool2D
from xpnet.nn.layers import Context


def batch_last(x):
    return np.ascontiguousarray(np.transpose(x, (2, 1, 3, 0)))


@pytest.mark.parametrize(
    "geometry", [(2, None, 0), (3, 2, 1), ((2, 3), (1, 2), (1, 1)), (2, 3, 0), ((1, 2), None, 0)], ids=str
)
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling_equals_torch_even_with_ties(kind, geometry, torch):
    layer, function = {
        "max": (MaxPool2D, torch.nn.functional.max_pool2d),
        "average": (AveragePool2D, torch.nn.functional.avg_pool2d),
    }[kind]
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(3, 2, 9, 8)))
    tx = torch.tensor(x, requires_grad=True)
    ty = function(tx, *geometry)
    dy = rng.normal(size=ty.shape)
    ty.backward(torch.tensor(dy))
    pool, ctx = layer(*geometry), Context(np, training=True)
    y, cache = pool.forward({}, batch_last(x), ctx)
    dx, _ = pool.backward({}, cache, batch_last(dy), ctx)
    np.testing.assert_allclose(y, batch_last(ty.detach().numpy()), atol=1e-14)
    np.testing.assert_allclose(dx, batch_last(tx.grad.numpy()), atol=1e-14)


def test_a_tie_gives_the_whole_gradient_to_the_first_pixel(backend):
    pool, ctx = MaxPool2D(2), Context(backend.xp, training=True)
    y, cache = pool.forward({}, backend.asarray(np.ones((2, 1, 2, 1))), ctx)
    dx, _ = pool.backward({}, cache, y, ctx)
    assert backend.to_numpy(dx)[:, 0, :, 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_bad_hyperparameters_are_named():
    with pytest.raises(ValueError, match="padding=2: must be at most half of size=2"):
        MaxPool2D(2, padding=2)
    with pytest.raises(TypeError, match=r"padding='same'"):
        AveragePool2D(2, padding="same")
