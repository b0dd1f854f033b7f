"""The layer functions alone, on arrays of every installed library, without any setup."""

import argparse
import importlib

import numpy as np

from xpnet.nn.activations import relu, relu_backward
from xpnet.nn.layers import dense, dense_backward
from xpnet.nn.losses import softmax

argparse.ArgumentParser(description=__doc__).parse_known_args()

HOST = {
    "x": np.asarray([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], dtype=np.float32),
    "weight": np.asarray([[0.1, -0.3], [0.2, 0.4], [-0.5, 0.6]], dtype=np.float32),
    "bias": np.asarray([0.05, -0.05], dtype=np.float32),
}

for library in ("numpy", "array_api_strict", "torch", "jax.numpy", "cupy"):
    try:
        xp = importlib.import_module(library)
        x, weight, bias = (xp.asarray(array) for array in HOST.values())
    except Exception as error:
        print(f"{library:<17} left out: {type(error).__name__}: {str(error).splitlines()[0]}")
        continue
    y = relu(dense(x, weight, bias))
    dx, dweight, dbias = dense_backward(x, weight, relu_backward(y, xp.ones_like(y)))
    print(f"{library:<17} {type(y).__module__}.{type(y).__name__}: y {tuple(y.shape)}, dx {tuple(dx.shape)},")
    print(f"{'':<17} softmax {softmax(y)}")
