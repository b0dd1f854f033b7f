"""Batch normalization: every feature gets mean 0 and variance 1 within the batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from array_api_compat import array_namespace

from xpnet.backends import elementwise
from xpnet.nn.initializers import Constant
from xpnet.nn.layers import Context, Layer, Variable
from xpnet.parts import Positive, Share
from xpnet.typing import Array, Arrays, Namespace, Shape


class Statistics(NamedTuple):
    """Mean and variance of each channel, shape (channels,), and the number of values behind them."""

    mean: Array
    variance: Array
    count: Any


def batch_norm(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-5, *, all_reduce: Any = None, xp: Namespace = None
) -> tuple[Array, tuple[Any, ...], Statistics]:
    """Normalize a batch by its own mean and variance: ``y = gamma (x - mean) / sqrt(variance + epsilon) + beta``.

    Parameters
    ----------
    x : array, shape (n, features) or (height, channels, width, n)
        The batch. Each channel of images is normalized over all pixels of all images.
    gamma, beta : array, shape (channels,)
        The learned scale and shift.
    epsilon : float
        Prevents a division by zero where a feature is constant.
    all_reduce : callable, optional
        Sums an array over the ranks of a distributed run, so that the statistics are those of all ranks' batches.
    xp : module, optional
        The array namespace; by default that of ``x``.

    Returns
    -------
    y : array, the shape of ``x``
    cache : tuple
        For `batch_norm_backward`.
    statistics : Statistics
        The statistics of the batch; the variance is the mean squared deviation, not the unbiased estimate.

    References
    ----------
    Ioffe and Szegedy, *Batch normalization: accelerating deep network training by reducing internal covariate
    shift*, 2015, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache, statistics = batch_norm(np.asarray([[1.0], [3.0]]), np.asarray([2.0]), np.asarray([10.0]))
    >>> y.round(3).tolist(), statistics.mean.tolist(), statistics.variance.tolist()
    ([[8.0], [12.0]], [2.0], [1.0])
    """
    xp = xp or array_namespace(x)
    channels = by_channel(x, xp)
    total = _sum_rows(xp.sum(channels, axis=2), xp)
    count: Any = float(channels.shape[0] * channels.shape[2])
    if all_reduce is not None:
        sums = all_reduce(xp.concat([total, xp.full_like(total[:1], count)]))
        total, count = sums[:-1], sums[-1, ...]
    mean = total / count
    centred = channels - mean[None, :, None]
    # A second pass squares the centred values: E[x^2] - E[x]^2 would lose all digits to a large mean.
    squares = _sum_rows(xp.vecdot(centred, centred), xp)
    if all_reduce is not None:
        squares = all_reduce(squares)
    variance, scale, factor = _scales(squares, count, gamma, epsilon, xp=xp)
    y = _scaled(centred, factor[None, :, None], beta[None, :, None], xp=xp)
    return like(y, x, xp), (centred, scale, gamma, count), Statistics(mean, variance, count)


@elementwise
def _scales(squares: Array, count: Any, gamma: Array, epsilon: float, *, xp: Namespace) -> tuple[Array, Array, Array]:
    variance = squares / count
    scale = 1.0 / xp.sqrt(variance + epsilon)
    return variance, scale, gamma * scale


@elementwise
def _scaled(centred: Array, factor: Array, beta: Array, *, xp: Namespace) -> Array:
    y = centred * factor
    y += beta
    return y


def batch_norm_backward(
    cache: tuple[Any, ...], dy: Array, *, all_reduce: Any = None, xp: Namespace = None
) -> tuple[Array, Array, Array]:
    """Pass a gradient back through `batch_norm`, and through the statistics of the batch.

    With ``x^ = (x - mean) / sqrt(variance + epsilon)`` over ``m`` values per channel:
    ``dx = gamma / sqrt(variance + epsilon) (dy - sum(dy) / m - x^ sum(dy x^) / m)``. The first sum comes from the
    mean's dependence on ``x``, the second from the variance's.

    Parameters
    ----------
    cache : tuple
        The cache from `batch_norm`.
    dy : array
        The gradient of the output.
    all_reduce : callable, optional
        As for `batch_norm`.
    xp : module, optional
        The array namespace; by default that of ``dy``.

    Returns
    -------
    dx : array, the shape of ``dy``
    dgamma, dbeta : array, shape (channels,)
        Sums over this rank's samples.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.asarray([[1.0], [3.0], [8.0]])
    >>> _, cache, _ = batch_norm(x, np.asarray([1.0]), np.asarray([0.0]))
    >>> dx, dgamma, dbeta = batch_norm_backward(cache, np.asarray([[1.0], [0.0], [2.0]]))
    >>> bool(abs(np.sum(dx)) < 1e-12), dbeta.tolist()  # To add a constant to x changes nothing, so dx sums to 0.
    (True, [3.0])
    """
    xp = xp or array_namespace(dy)
    centred, scale, gamma, count = cache
    channels = by_channel(dy, xp)
    dbeta = _sum_rows(xp.sum(channels, axis=2), xp)
    dgamma = scale * _sum_rows(xp.vecdot(channels, centred), xp)
    totals = (dgamma, dbeta)
    if all_reduce is not None:
        sums = xp.reshape(all_reduce(xp.concat(totals)), (2, -1))
        totals = (sums[0, ...], sums[1, ...])
    each_channel = (array[None, :, None] for array in (*totals, scale, gamma))
    return like(_corrected(channels, centred, count, *each_channel, xp=xp), dy, xp), dgamma, dbeta


@elementwise
def _corrected(
    dy: Array, centred: Array, count: Any, dgamma: Array, dbeta: Array, scale: Array, gamma: Array, *, xp: Namespace
) -> Array:
    correction = centred * (scale * (dgamma / count))
    correction += dbeta / count
    dx = dy - correction
    dx *= gamma * scale
    return dx


def _sum_rows(sums: Array, xp: Namespace) -> Array:
    """Add up the sums of rows, (rows, channels). Dense layers have one row, which is already the sum."""
    return sums[0, ...] if sums.shape[0] == 1 else xp.sum(sums, axis=0)


def normalize(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float = 1e-5, *, xp: Namespace = None
) -> tuple[Array, tuple[Any, ...]]:
    """Normalize by a given mean and variance, as in evaluation: one scale and one shift per channel.

    Parameters
    ----------
    x : array
        See `batch_norm`.
    gamma, beta : array, shape (channels,)
        The learned scale and shift.
    mean, variance : array, shape (channels,)
        The statistics to normalize by, such as running means.
    epsilon : float
        See `batch_norm`.
    xp : module, optional
        The array namespace; by default that of ``x``.

    Returns
    -------
    y : array, the shape of ``x``
    cache : tuple
        For `normalize_backward`.
    """
    xp = xp or array_namespace(x)
    scale = 1.0 / xp.sqrt(variance + epsilon)
    centred = by_channel(x, xp) - mean[None, :, None]
    y = _scaled(centred, (gamma * scale)[None, :, None], beta[None, :, None], xp=xp)
    return like(y, x, xp), (centred, scale, gamma)


def normalize_backward(cache: tuple[Any, ...], dy: Array, *, xp: Namespace = None) -> tuple[Array, Array, Array]:
    """Pass a gradient back through `normalize`, where the statistics are constants."""
    xp = xp or array_namespace(dy)
    centred, scale, gamma = cache
    channels = by_channel(dy, xp)
    dbeta = _sum_rows(xp.sum(channels, axis=2), xp)
    dgamma = scale * _sum_rows(xp.vecdot(channels, centred), xp)
    return like(channels * (gamma * scale)[None, :, None], dy, xp), dgamma, dbeta


def by_channel(x: Array, xp: Namespace) -> Array:
    """View a batch as (rows, channels, values), so that sums run over the first and last axis for dense layers too."""
    if len(x.shape) == 2:
        return x.T[None, :, :]
    h, c, w, n = x.shape
    return xp.reshape(x, (h, c, w * n))


def like(channels: Array, x: Array, xp: Namespace) -> Array:
    """Undo `by_channel`."""
    return channels[0, :, :].T if len(x.shape) == 2 else xp.reshape(channels, x.shape)


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Normalize each feature, or each channel of images, by the batch in training and by running means afterwards.

    Parameters
    ----------
    momentum : float
        The share of a batch in the running statistics, in (0, 1].
    epsilon : float
        Prevents a division by zero where a feature is constant.

    Examples
    --------
    >>> layer = BatchNorm()
    >>> sorted(layer.parameters((8, 8, 3))), sorted(layer.statistics((8, 8, 3)))
    (['beta', 'gamma'], ['running_mean', 'running_variance'])
    """

    momentum: Share = 0.1
    epsilon: Positive = 1e-5

    def minimum_batch(self, input_shape: Shape) -> int:
        """Return 2 where a sample has one value per channel, since one value has no variance; otherwise 1."""
        return 2 if math.prod(input_shape[:-1]) == 1 else 1

    def parameters(self, input_shape: Shape) -> dict[str, Variable]:
        """Declare ``gamma`` and ``beta``, (channels,), which start at 1 and 0 and so change nothing."""
        shape = (input_shape[-1],)
        return {"gamma": Variable(shape, Constant(1.0)), "beta": Variable(shape)}

    def statistics(self, input_shape: Shape) -> dict[str, Variable]:
        """Declare the running statistics, (channels,), which start as those of a standard normal distribution."""
        shape = (input_shape[-1],)
        return {"running_mean": Variable(shape), "running_variance": Variable(shape, Constant(1.0))}

    def forward(self, params: Arrays, x: Array, ctx: Context) -> tuple[Array, Any]:
        """Apply `batch_norm` in training, `normalize` with the running statistics in evaluation."""
        gamma, beta = params["gamma"], params["beta"]
        if ctx.training:
            y, cache, statistics = batch_norm(x, gamma, beta, self.epsilon, all_reduce=ctx.all_reduce, xp=ctx.xp)
            return y, (cache, statistics)
        assert ctx.state is not None
        mean, variance = ctx.state["running_mean"], ctx.state["running_variance"]
        y, fixed = normalize(x, gamma, beta, mean, variance, self.epsilon, xp=ctx.xp)
        return y, (fixed, None)

    def backward(self, params: Arrays, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, Arrays]:
        """Apply the backward function of whichever `forward` applied."""
        kept, statistics = cache
        if statistics is None:
            dx, dgamma, dbeta = normalize_backward(kept, dy, xp=ctx.xp)
        else:
            dx, dgamma, dbeta = batch_norm_backward(kept, dy, all_reduce=ctx.all_reduce, xp=ctx.xp)
        return dx, {"gamma": dgamma, "beta": dbeta}

    def next_state(self, state: Arrays, cache: Any, ctx: Context) -> Arrays:
        """Move the running statistics towards those of the batch, with the unbiased variance."""
        _, (mean, variance, count) = cache
        return _moved(state, mean, variance, count / (count - 1.0), self.momentum, xp=ctx.xp)


@elementwise
def _moved(state: Arrays, mean: Array, variance: Array, unbiased: Any, share: float, *, xp: Namespace) -> Arrays:
    return {
        "running_mean": (1.0 - share) * state["running_mean"] + share * mean,
        "running_variance": (1.0 - share) * state["running_variance"] + share * (variance * unbiased),
    }
