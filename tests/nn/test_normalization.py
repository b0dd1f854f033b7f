"""Batch normalization, against central differences, torch, and the same batch on two ranks."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet import BatchNorm
from xpnet.nn.gradcheck import numerical_gradient, relative_error
from xpnet.nn.layers import Context, draw
from xpnet.nn.normalization import batch_norm, batch_norm_backward, normalize, normalize_backward

SHAPES = st.one_of(
    st.tuples(st.integers(2, 5), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 4), st.integers(1, 3)),
)


def channels_of(x):
    return x.shape[1]


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_gradient_goes_through_the_statistics(shape, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    gamma, beta = rng.normal(size=shape[1]), rng.normal(size=shape[1])
    _, cache, _ = batch_norm(x, gamma, beta, 1e-2)
    dx, dgamma, dbeta = batch_norm_backward(cache, dy)
    for analytic, at, function in (
        (dx, x, lambda v: batch_norm(v, gamma, beta, 1e-2)[0]),
        (dgamma, gamma, lambda v: batch_norm(x, v, beta, 1e-2)[0]),
        (dbeta, beta, lambda v: batch_norm(x, gamma, v, 1e-2)[0]),
    ):
        numerical = numerical_gradient(lambda v, f=function: float(np.sum(f(v) * dy)), at, 1e-5)
        np.testing.assert_allclose(analytic, numerical, atol=1e-7 * max(1.0, np.abs(numerical).max()))


@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_gradient_in_evaluation(shape, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    gamma, beta, mean = rng.normal(size=(3, shape[1]))
    variance = rng.uniform(0.5, 2.0, shape[1])
    _, cache = normalize(x, gamma, beta, mean, variance)
    dx, dgamma, _ = normalize_backward(cache, dy)
    for analytic, at, function in (
        (dx, x, lambda v: normalize(v, gamma, beta, mean, variance)[0]),
        (dgamma, gamma, lambda v: normalize(x, v, beta, mean, variance)[0]),
    ):
        assert relative_error(analytic, numerical_gradient(lambda v, f=function: float(np.sum(f(v) * dy)), at)) < 1e-6


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5, 2)], ids=str)
def test_layer_equals_torch_in_training_and_evaluation(backend, shape, torch):
    rng = np.random.default_rng(0)
    layer = BatchNorm()
    theirs = (torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)(4, dtype=torch.float64)
    to_torch = (lambda a: a) if len(shape) == 2 else (lambda a: np.ascontiguousarray(np.transpose(a, (3, 1, 0, 2))))
    state = draw(layer.statistics(shape[1:] if len(shape) == 2 else (3, 5, 4)), rng)
    params = {"gamma": rng.normal(size=4), "beta": rng.normal(size=4)}
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(params["gamma"]))
        theirs.bias.copy_(torch.tensor(params["beta"]))
    params, state = ({k: backend.asarray(v) for k, v in d.items()} for d in (params, state))
    for training in (True, True, False):
        theirs.train(training)
        x, dy = 3.0 + 2.0 * rng.normal(size=shape), rng.normal(size=shape)
        with torch.enable_grad():
            tx = torch.tensor(to_torch(x), requires_grad=True)
            theirs.zero_grad()
            ty = theirs(tx)
            ty.backward(torch.tensor(to_torch(dy)))
        ctx = Context(backend.xp, training, state=state)
        y, cache = layer.forward(params, backend.asarray(x), ctx)
        dx, grads = layer.backward(params, cache, backend.asarray(dy), ctx)
        if training:
            state = layer.next_state(state, cache, ctx)
        close = {"rtol": 1e-10, "atol": 1e-12}
        np.testing.assert_allclose(to_torch(backend.to_numpy(y)), ty.detach().numpy(), **close)
        np.testing.assert_allclose(to_torch(backend.to_numpy(dx)), tx.grad.numpy(), **close)
        np.testing.assert_allclose(backend.to_numpy(grads["gamma"]), theirs.weight.grad.numpy(), **close)
        np.testing.assert_allclose(backend.to_numpy(grads["beta"]), theirs.bias.grad.numpy(), **close)
        np.testing.assert_allclose(backend.to_numpy(state["running_mean"]), theirs.running_mean.numpy(), **close)
        np.testing.assert_allclose(backend.to_numpy(state["running_variance"]), theirs.running_var.numpy(), **close)


def test_normalizes_on_every_backend(backend):
    x = 5.0 + 3.0 * np.random.default_rng(0).normal(size=(4, 3, 6, 2))
    y, _, statistics = batch_norm(backend.asarray(x), backend.asarray(np.ones(3)), backend.asarray(np.zeros(3)))
    y = backend.to_numpy(y)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0.0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(0, 2, 3)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(backend.to_numpy(statistics.variance), x.var(axis=(0, 2, 3)))


def test_a_constant_batch_gives_no_nan():
    x = np.full((4, 3), 7.0)
    with np.errstate(all="raise"):
        y, cache, _ = batch_norm(x, np.ones(3), np.zeros(3))
        dx, _, _ = batch_norm_backward(cache, np.ones((4, 3)))
    assert y.tolist() == np.zeros((4, 3)).tolist()
    np.testing.assert_allclose(dx, 0.0, atol=1e-12)


def test_a_large_mean_does_not_spoil_the_variance():
    x = (1e4 + np.random.default_rng(0).normal(size=(500, 1))).astype(np.float32)
    _, _, statistics = batch_norm(x, np.ones(1, np.float32), np.zeros(1, np.float32))
    np.testing.assert_allclose(statistics.variance, x.astype(np.float64).var(), rtol=1e-3)


def two_ranks(work):
    """Run ``work(rank, all_reduce)`` in two threads that add their arrays up."""
    barrier, slots, results = threading.Barrier(2), [None, None], [None, None]

    def rank(i):
        def all_reduce(array):
            slots[i] = array
            barrier.wait()
            total = slots[0] + slots[1]
            barrier.wait()
            return total

        results[i] = work(i, all_reduce)

    threads = [threading.Thread(target=rank, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_two_ranks_with_unequal_shares_give_the_whole_batch():
    rng = np.random.default_rng(0)
    x, dy, gamma, beta = rng.normal(size=(7, 4)), rng.normal(size=(7, 4)), rng.normal(size=4), rng.normal(size=4)
    y, cache, statistics = batch_norm(x, gamma, beta)
    dx, dgamma, dbeta = batch_norm_backward(cache, dy)
    shares = [slice(0, 2), slice(2, 7)]

    def work(i, all_reduce):
        part, kept, whole = batch_norm(x[shares[i]], gamma, beta, all_reduce=all_reduce)
        return part, whole, batch_norm_backward(kept, dy[shares[i]], all_reduce=all_reduce)

    results = two_ranks(work)
    np.testing.assert_allclose(np.concatenate([part for part, _, _ in results]), y, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.concatenate([grads[0] for _, _, grads in results]), dx, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(sum(grads[1] for _, _, grads in results), dgamma, rtol=1e-12)
    np.testing.assert_allclose(sum(grads[2] for _, _, grads in results), dbeta, rtol=1e-12)
    for _, whole, _ in results:
        np.testing.assert_allclose(whole.variance, statistics.variance, rtol=1e-12)


def test_the_layer_adds_up_over_ranks_in_training_only():
    rng = np.random.default_rng(0)
    layer, x, dy = BatchNorm(), rng.normal(size=(7, 3)), rng.normal(size=(7, 3))
    params, state = {"gamma": rng.normal(size=3), "beta": rng.normal(size=3)}, draw(layer.statistics((3,)), rng)
    whole = Context(np, training=True)
    y, cache = layer.forward(params, x, whole)
    dx, gradients = layer.backward(params, cache, dy, whole)
    after = layer.next_state(state, cache, whole)

    def work(i, all_reduce):
        share, ctx = (slice(0, 3), slice(3, 7))[i], Context(np, True, all_reduce=all_reduce)
        part, kept = layer.forward(params, x[share], ctx)
        return part, *layer.backward(params, kept, dy[share], ctx), layer.next_state(state, kept, ctx)

    parts, inputs, shares, states = zip(*two_ranks(work), strict=True)
    np.testing.assert_allclose(np.concatenate(parts), y, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.concatenate(inputs), dx, rtol=1e-10, atol=1e-13)
    for name in gradients:
        np.testing.assert_allclose(sum(share[name] for share in shares), gradients[name], rtol=1e-12)
    for name in after:
        for one in states:
            np.testing.assert_allclose(one[name], after[name], rtol=1e-12)


def test_epsilon_is_by_default_a_hundred_thousandth():
    """Told by a variance as small."""
    x = 3e-3 * np.random.default_rng(0).normal(size=(5, 2))
    one, zero = np.ones(2), np.zeros(2)
    expected = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
    np.testing.assert_allclose(batch_norm(x, one, zero)[0], expected, rtol=1e-10)
    np.testing.assert_allclose(normalize(x, one, zero, x.mean(axis=0), x.var(axis=0))[0], expected, rtol=1e-10)
    assert BatchNorm() == BatchNorm(momentum=0.1, epsilon=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: BatchNorm(momentum=0.0), ValueError, "^momentum=0"),
        (lambda: BatchNorm(momentum=1.5), ValueError, "^momentum=1.5"),
        (lambda: BatchNorm(momentum=float("nan")), ValueError, "^momentum=nan"),
        (lambda: BatchNorm(momentum="a"), TypeError, "^momentum='a': must be a number"),
        (lambda: BatchNorm(epsilon=-1.0), ValueError, "^epsilon=-1"),
        (lambda: BatchNorm(epsilon=0.0), ValueError, "^epsilon=0"),
        (lambda: BatchNorm(epsilon=None), TypeError, "^epsilon=None: must be a number"),
    ],
)
def test_bad_hyperparameters_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_momentum_of_one_forgets_all_but_the_last_batch():
    layer, x = BatchNorm(momentum=1.0), np.random.default_rng(0).normal(size=(6, 3))
    rng = np.random.default_rng(0)
    params, state = layer.init(rng, (3,)), draw(layer.statistics((3,)), rng)
    _, cache = layer.forward(params, x, Context(np, training=True))
    after = layer.next_state(state, cache, Context(np, training=True))
    np.testing.assert_allclose(after["running_mean"], x.mean(axis=0))
    np.testing.assert_allclose(after["running_variance"], x.var(axis=0, ddof=1))


def test_how_many_samples_a_batch_needs():
    """A variance needs two values: two samples of features, or one image of two pixels."""
    assert BatchNorm().minimum_batch((7,)) == 2
    assert BatchNorm().minimum_batch((1, 1, 7)) == 2
    assert BatchNorm().minimum_batch((1, 2, 7)) == 1
