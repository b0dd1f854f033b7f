"""Gradient checks: is a derivative that was worked out by hand the derivative of the function?

A central difference needs only the function's values: ``df/dx[i] = (f(x + h e_i) - f(x - h e_i)) / 2h``, up to an error
of order ``h^2``. It is slow and inexact, but it does not use the chain rule, so it is an independent check.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from xpnet.backends import Backend, get_backend
from xpnet.data.checks import check_labels
from xpnet.nn.losses import Loss
from xpnet.nn.network import Network
from xpnet.nn.trained import TrainedNetwork, context, to_host
from xpnet.parts import require_instance
from xpnet.typing import HostArray


def numerical_gradient(function: Callable[[HostArray], float], x: HostArray, step: float = 1e-6) -> HostArray:
    """Estimate the gradient of a function of an array by central differences.

    Parameters
    ----------
    function : callable
        Takes an array shaped like ``x`` and returns a number.
    x : array of float64
        The point at which to estimate the gradient.
    step : float
        Half the distance between the two evaluations; 1e-6 balances rounding against curvature in float64.

    Returns
    -------
    array of float64, the shape of ``x``

    Examples
    --------
    >>> import numpy as np
    >>> numerical_gradient(lambda x: float(np.sum(x**2)), np.asarray([1.0, -3.0])).round(6)
    array([ 2., -6.])
    """
    gradient, moved = np.empty(x.shape), np.array(x, dtype=np.float64)
    for i in np.ndindex(x.shape):
        moved[i] = x[i] + step
        above = function(moved)
        moved[i] = x[i] - step
        gradient[i] = (above - function(moved)) / (2.0 * step)
        moved[i] = x[i]
    return gradient


def relative_error(a: HostArray, b: HostArray, least: float = 0.0) -> float:
    """Return ``|a - b| / max(|a|, |b|, least)`` in the largest norm: 0 for equal arrays, at most 2.

    Examples
    --------
    >>> import numpy as np
    >>> relative_error(np.asarray([1.0, 2.0]), np.asarray([1.0, 2.5]))
    0.2
    """
    scale = max(np.max(np.abs(a), initial=0.0), np.max(np.abs(b), initial=0.0), least)
    return float(np.max(np.abs(a - b), initial=0.0) / scale) if scale else 0.0


def check_gradients(
    network: Network,
    loss: Loss,
    images: HostArray,
    labels: HostArray,
    *,
    backend: str | Backend | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Compare a network's gradients with central differences, in float64.

    Parameters
    ----------
    network : Network
        The network to check, with newly drawn parameters.
    loss : Loss
        The loss of its outputs.
    images, labels : array
        A small batch, on the host.
    backend : str or Backend, optional
        Where to compute the gradients.
    seed : int
        The seed of parameters and noise.

    Returns
    -------
    dict of str to float
        The `relative_error` of each array of parameters, such as ``"layers.0.weight"``. It is below about 1e-6 for a
        correct gradient, unless a kink, such as that of ReLU, lies within the step.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import Dense, Network, SquaredError
    >>> net = Network([Dense(2)], input_shape=(3,))
    >>> errors = check_gradients(net, SquaredError(), np.asarray([[0.1, 0.2, 0.3]]), np.asarray([1]))
    >>> max(errors.values()) < 1e-6
    True
    """
    require_instance("network", network, Network, "Network([Dense(10)], input_shape=(64,))")
    require_instance("loss", loss, Loss, "SoftmaxCrossEntropy()")
    if network.size == 0:
        raise ValueError("network: no layer has parameters, so there are no gradients to check")
    rng, opened = np.random.default_rng(seed), get_backend(backend)
    drawn = network.init(rng)
    trained = TrainedNetwork(network, drawn, network.init_state(), opened, "float64")
    images, classes = trained.host_images(images), network.output_shape[0]
    labels = check_labels("labels", labels, classes, len(images))
    params, state, xp, ctx = trained.params, trained.state, opened.xp, context(opened, training=True)
    with opened.session("float64"):
        noise = [None if z is None else opened.asarray(z) for z in network.noise(rng, len(images))]
        x = network.prepare(opened.asarray(images), "float64", xp)
        targets = opened.asarray(loss.targets(labels, classes), "float64")
        y, caches = network.forward(params, state, x, ctx, noise)
        _, by_layer = network.backward(params, caches, loss.gradient(y, targets, xp=xp), ctx)
        analytic = to_host(by_layer, opened)

        def loss_with(i: int, name: str, array: HostArray) -> float:
            changed = [*params]
            changed[i] = {**params[i], name: opened.asarray(array, "float64")}
            y, _ = network.forward(changed, state, x, ctx, noise)
            return float(loss.value(y, targets, xp=xp))

        # A true gradient may be zero, as for a bias before batch normalization; rounding must not be an error there.
        least = 1e-3 * max(float(np.max(np.abs(g), initial=0.0)) for layer in analytic for g in layer.values())
        errors = {}
        for i, layer in enumerate(drawn):
            for name, array in layer.items():
                numerical = numerical_gradient(functools.partial(loss_with, i, name), array)
                errors[f"layers.{i}.{name}"] = relative_error(analytic[i][name], numerical, least)
    return errors
