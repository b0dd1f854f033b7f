"""The inside of a step."""

import numpy as np
import pytest

import xpnet
from xpnet import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, Network, ReLU, SquaredError, fit
from xpnet.nn.gradcheck import numerical_gradient
from xpnet.nn.layers import Context
from xpnet.training.batches import move_batches, move_samples
from xpnet.training.step import Step, gradients

NETWORK = Network([Conv2D(3, 3), BatchNorm(), ReLU(), MaxPool2D(2), Flatten(), Dense(5), ReLU(), Dense(10)], (8, 8))
SETTINGS = {"epochs": 1, "batch_size": 29, "progress": False, "dtype": "float64"}


@pytest.fixture(scope="module")
def trained(few):
    return fit(NETWORK, few, **SETTINGS).network


@pytest.mark.elsewhere
def test_a_trace_has_the_gradients_of_the_step(backend, trained, few):
    network, images, labels = trained.to(backend), few.test_images[:7], few.test_labels[:7]
    trace = network.trace(images, backend.asarray(labels), loss=SquaredError())
    step = Step(network, SquaredError(), xpnet.Adam(), backend, "float64")
    samples = move_samples(step, images, labels, 10)
    batch = move_batches(step, {"index": np.arange(7, dtype=np.int32)})
    sums, _ = gradients(step, network.params, network.state, batch, samples)
    assert trace.loss == pytest.approx(float(backend.to_numpy(sums.loss)), rel=1e-12)
    for layer, expected, params in zip(trace.layers, sums.gradient, network.params, strict=True):
        assert layer.gradients.keys() == layer.parameters.keys() == params.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(layer.gradients[name], backend.to_numpy(array), rtol=1e-9, atol=1e-12)


def test_the_gradient_of_an_output_is_that_of_what_comes_after_it(trained, few):
    """By central differences over the rest of the network."""
    images, labels, loss = few.test_images[:2], few.test_labels[:2], xpnet.SoftmaxCrossEntropy()
    trace = trained.trace(images, labels)
    for i in (4, 5, 6):
        tail = Network(trained.layers[i + 1 :], trained.shapes[i + 1])

        def rest(x, tail=tail, first=i + 1):
            y, _ = tail.forward(trained.params[first:], [{}] * len(tail.layers), x, Context(np))
            return float(loss.value(y, loss.targets(labels, 10), xp=np))

        expected = numerical_gradient(rest, trace.layers[i].output)
        np.testing.assert_allclose(trace.layers[i].gradient, expected, rtol=1e-6, atol=1e-8)
    for layer, shape in zip(trace.layers, trained.shapes[1:], strict=True):
        assert layer.output.shape == layer.gradient.shape == (2, *shape)


def test_without_labels_it_is_a_pass_of_evaluation(trained, few):
    trace = trained.trace(few.test_images[:3])
    np.testing.assert_allclose(trace.layers[-1].output, trained.logits(few.test_images[:3]), rtol=1e-12)
    assert trace.loss is None
    assert all(layer.gradient is None and not layer.gradients for layer in trace.layers)
    for one, other in zip(trained.layer_outputs(few.test_images[:3]), trace.layers, strict=True):
        np.testing.assert_array_equal(one, other.output)


def test_dropout_drops_by_the_seed(few):
    network = fit(Network([Dense(40), Dropout(0.5), Dense(10)], (64,)), few, **SETTINGS).network
    images, labels = few.test_images[:30], few.test_labels[:30]
    dropped = [network.trace(images, labels, seed=seed).layers[1].output for seed in (1, 1, 2)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert not np.array_equal(dropped[0], dropped[2])
    assert 0.4 < np.mean(dropped[0] == 0.0) < 0.6


def test_the_table_counts_dead_units_and_writes_norms(few):
    host = [{"weight": np.zeros((64, 4)), "bias": np.asarray([-1.0, 2.0, -3.0, 4.0])}, {}, {"weight": np.ones((4, 10))}]
    network = xpnet.TrainedNetwork(
        Network([Dense(4), ReLU(), Dense(10, bias=False)], (64,), 16.0), host, [{}] * 3, xpnet.get_backend("numpy")
    )
    trace = network.trace(few.test_images[:2], few.test_labels[:2])
    assert [layer.dead for layer in trace.layers] == [0.0, 0.5, 0.0]
    # The logits are equal, so that the gradient is 0.1 for each class, and -0.9 for the right one.
    norm = np.sqrt(2 * (9 * 0.1**2 + 0.9**2))
    lines = trace.table().splitlines()
    assert lines[0].split() == ["layer", "output", "mean", "spread", "dead", "gradient", "of", "parameters"]
    assert lines[2].split()[:6] == ["1:", "ReLU()", "(4,)", "1.5", "1.66", "50%"]
    assert lines[3].split()[-2] == f"{norm:.3g}"
    assert repr(trace) == "Trace(3 layers, 2 images, loss 2.3026)"
    assert trace._repr_html_().count("<tr") == 4


def test_it_draws_histograms_of_each_kind(trained, few):
    trace = trained.trace(few.test_images[:20], few.test_labels[:20])
    assert len(trace.plot().axes) == len(trace.plot("gradients").axes) == 8
    assert [axes.get_yticklabels()[0].get_text() for axes in trace.plot("parameters").axes] == [
        "0: Conv2D(3, 3) weight",
        "0: Conv2D(3, 3) bias",
        "1: BatchNorm(0.1) gam…",
        "1: BatchNorm(0.1) beta",
        "5: Dense(5) weight",
        "5: Dense(5) bias",
        "7: Dense(10) weight",
        "7: Dense(10) bias",
    ]
    with pytest.raises(ValueError, match=r"^what='weights': must be 'outputs', 'gradients' or 'parameters'"):
        trace.plot("weights")
    with pytest.raises(ValueError, match=r"^what='gradients': the trace has no gradients"):
        trained.trace(few.test_images[:3]).plot("gradients")


def test_what_does_not_fit_is_refused(trained, few):
    images = few.test_images[:3]
    with pytest.raises(ValueError, match=r"^labels: 2 labels for 3 images"):
        trained.trace(images, [1, 2])
    with pytest.raises(ValueError, match=r"^labels: from 1 to 10; must be from 0 to 9"):
        trained.trace(images, [1, 2, 10])
    with pytest.raises(TypeError, match=r"^loss='mse': must be an instance of Loss"):
        trained.trace(images, [1, 2, 3], loss="mse")
    dense = fit(Network([Dense(4), BatchNorm(), Dense(10)], (64,)), few, **SETTINGS).network
    with pytest.raises(ValueError, match=r"^images: 1, but in training BatchNorm\(0.1\) needs at least 2 samples"):
        dense.trace(images[:1], [1])
