"""Losses, against central differences and torch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet import Loss, SoftmaxCrossEntropy, SquaredError
from xpnet.nn.gradcheck import numerical_gradient, relative_error
from xpnet.nn.losses import softmax, softmax_cross_entropy, squared_error

LOSSES = [SquaredError(), SoftmaxCrossEntropy(), SoftmaxCrossEntropy(label_smoothing=0.2)]


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 5), classes=st.integers(2, 6), seed=st.integers(0, 99))
def test_gradient_is_central_difference(loss, n, classes, seed):
    rng = np.random.default_rng(seed)
    y, targets = rng.normal(size=(n, classes)), loss.targets(rng.integers(0, classes, n), classes)
    numerical = numerical_gradient(lambda v: float(loss.value(v, targets, xp=np)), y)
    value, gradient = loss.value_and_gradient(y, targets, xp=np)
    assert value == loss.value(y, targets, xp=np)
    np.testing.assert_array_equal(gradient, loss.gradient(y, targets, xp=np))
    assert relative_error(gradient, numerical) < 1e-7


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torch(smoothing, torch):
    rng = np.random.default_rng(0)
    z, labels = 5.0 * rng.normal(size=(7, 4)), rng.integers(0, 4, 7)
    loss = SoftmaxCrossEntropy(smoothing)
    value, gradient = loss.value_and_gradient(z, loss.targets(labels, 4), xp=np)
    tz = torch.tensor(z, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(tz, torch.tensor(labels), reduction="sum", label_smoothing=smoothing)
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-12)
    np.testing.assert_allclose(gradient, tz.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_is_the_same_on_every_backend(backend, loss):
    rng = np.random.default_rng(0)
    y, targets = rng.normal(size=(5, 3)), loss.targets(rng.integers(0, 3, 5), 3)
    value, dy = loss.value_and_gradient(backend.asarray(y), backend.asarray(targets), xp=backend.xp)
    expected, gradient = loss.value_and_gradient(y, targets, xp=np)
    np.testing.assert_allclose(float(backend.to_numpy(value)), expected, rtol=1e-12)
    np.testing.assert_allclose(backend.to_numpy(dy), gradient, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_any_size_neither_overflow_nor_give_nan(dtype):
    z = np.asarray([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [3e4, 3e4, 3e4]], dtype)
    loss = SoftmaxCrossEntropy()
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, gradient = loss.value_and_gradient(z, loss.targets(np.asarray([1, 0, 2]), 3).astype(dtype), xp=np)
        p = softmax(z)
    np.testing.assert_allclose(value, 2e4 + 2.0 * np.log(3.0), rtol=1e-6)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_a_label_out_of_range_is_an_error_and_smoothing_is_checked():
    for labels, words in (([0, 3], "from 0 to 3"), ([-1, 2], "from -1 to 2")):
        with pytest.raises(ValueError, match=f"^labels: {words}; must be from 0 to 2"):
            SquaredError().targets(np.asarray(labels), 3)
    assert SquaredError().targets(np.asarray([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert SquaredError().targets(np.asarray([], int), 3).shape == (0, 3)
    for smoothing, error in ((1.0, ValueError), (-0.1, ValueError), (float("nan"), ValueError), ("a", TypeError)):
        with pytest.raises(error, match=f"^label_smoothing={smoothing!r}: must be"):
            SoftmaxCrossEntropy(smoothing)
    assert SoftmaxCrossEntropy() == SoftmaxCrossEntropy(0.0)
    np.testing.assert_allclose(SoftmaxCrossEntropy(0.9).targets(np.asarray([1]), 3), [[0.3, 0.4, 0.3]])


def test_known_values():
    assert squared_error(np.asarray([[1.0, 2.0]]), np.asarray([[0.0, 4.0]])) == 5.0
    np.testing.assert_allclose(softmax_cross_entropy(np.zeros((2, 10)), np.eye(10)[[3, 4]]), 2.0 * np.log(10.0))


def test_the_base_asks_to_be_filled_in():
    with pytest.raises(NotImplementedError):
        Loss().value(np.zeros((1, 2)), np.zeros((1, 2)), xp=np)
    with pytest.raises(NotImplementedError):
        Loss().gradient(np.zeros((1, 2)), np.zeros((1, 2)), xp=np)
