"""The unchanged forward pass, traced by an array library that computes nothing: it keeps to the standard."""

import numpy as np
import pytest

import xpnet

ndonnx = pytest.importorskip("ndonnx")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def constants(layers):
    return [{name: ndonnx.asarray(array) for name, array in layer.items()} for layer in layers]


def traced(network, images, path):
    symbols = ndonnx.argument(shape=images.shape, dtype=ndonnx.uint8)
    x = network.prepare(symbols, "float32", ndonnx)
    params, state = constants(network.params), constants(network.state)
    logits, _ = network.forward(params, state, x, xpnet.Context(ndonnx))
    onnx.save(ndonnx.build({"images": symbols}, {"logits": logits}), path)
    return onnxruntime.InferenceSession(path).run(None, {"images": images})[0]


@pytest.mark.thorough
def test_every_recipe_is_traced(trained, tmp_path):
    images = trained.data.test_images[:5]
    theirs = traced(trained.network, images, tmp_path / "traced.onnx")
    np.testing.assert_allclose(theirs, trained.network.logits(images), rtol=0, atol=1e-4)


def test_every_layer_is_traced(every_layer, colours, tmp_path):
    theirs = traced(every_layer, colours.test_images, tmp_path / "traced.onnx")
    np.testing.assert_allclose(theirs, every_layer.logits(colours.test_images), rtol=0, atol=1e-4)
