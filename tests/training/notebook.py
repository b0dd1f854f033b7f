"""The procedure of the NumPy tutorial in plain loops, with which the recipe `tutorial` must agree.

Written from the description of the procedure (its order of draws, its two slips, its error), not from xpnet: loops over
single images, and nothing of the library is used.
"""

import numpy as np


def train(x, labels, x_test, labels_test, *, seed, hidden, rate, epochs):
    """Return one row per epoch: training error, training hits, test error, test hits."""
    rng = np.random.RandomState(seed)
    classes = 10
    w1 = 0.2 * rng.random((x.shape[1], hidden)) - 0.1
    w2 = 0.2 * rng.random((hidden, classes)) - 0.1
    wanted, wanted_test = np.eye(classes)[labels], np.eye(classes)[labels_test]
    rows = []
    for _ in range(epochs):
        error, hits = 0.0, 0
        for k in range(len(x)):
            pixels = x[k]
            h = np.dot(pixels, w1)
            h = (h >= 0) * h
            mask = rng.randint(0, 2, size=h.shape)
            h = h * mask * 2
            out = np.dot(h, w2)
            error += np.sum((wanted[k] - out) ** 2)
            hits += int(np.argmax(out) == labels[k])
            d_out = wanted[k] - out
            d_h = np.dot(w2, d_out) * (h >= 0) * mask
            w1 += rate * np.outer(pixels, d_h)
            w2 += rate * np.outer(h, d_out)
        h = np.dot(x_test, w1)
        out = np.dot((h >= 0) * h, w2)
        test_error = np.mean(np.sum((wanted_test - out) ** 2, axis=1))
        test_hits = int(np.sum(np.argmax(out, axis=1) == labels_test))
        rows.append((error / len(x), hits, test_error, test_hits))
    return np.asarray(rows)
