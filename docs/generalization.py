"""Measure what the page "Does it generalize?" shows of MNIST: python docs/generalization.py FOLDER_OF_MNIST

Trains one network on 50 to 54,000 images, plainly, with dropout, and with weight decay, and writes the accuracies on
training and validation images to _static/generalization.json. The test images are not looked at.
"""

import dataclasses
import datetime
import json
import math
import sys
from pathlib import Path

import numpy as np

import xpnet
from xpnet import AdamW, Dense, Dropout, Network, ReLU, fit

SIZES = (50, 150, 500, 1500, 5000, 15000, 54000)
STEPS = 6000
"""About the same number of steps for every size, in whole epochs, so that none is trained more than another."""


def accuracy(network, images, labels):
    return float(np.mean(network.predict(images) == labels))


def measured(data, n, rate, decay, seed):
    """Train on the first `n` images; return the accuracy on them and on the last 6,000 training images."""
    held_images, held_labels = data.train_images[54000:], data.train_labels[54000:]
    few = dataclasses.replace(data.first(n), test_images=held_images[:10], test_labels=held_labels[:10])
    dropout = [Dropout(rate)] if rate else []
    network = Network([Dense(300), ReLU(), *dropout, Dense(10)], input_shape=(784,))
    batch = min(n, 100)
    run = fit(
        network,
        few,
        optimizer=AdamW(1e-3, weight_decay=decay),
        epochs=round(STEPS / math.ceil(n / batch)),  # The last batch of an epoch may be smaller.
        batch_size=batch,
        seed=seed,
        progress=False,
    )
    trained = accuracy(run.network, few.train_images, few.train_labels)
    return trained, accuracy(run.network, held_images, held_labels)


def main(folder):
    data = xpnet.load_dataset("mnist", data_dir=folder)
    rows = []
    for name, rate, decay in (("plain", 0.0, 0.0), ("dropout 0.5", 0.5, 0.0), ("weight decay 1", 0.0, 1.0)):
        for n in SIZES:
            results = [measured(data, n, rate, decay, seed) for seed in (0, 1, 2)]
            train, validation = np.mean(results, axis=0)
            rows.append({"variant": name, "images": n, "train": round(train, 4), "validation": round(validation, 4)})
            print(rows[-1], flush=True)
    document = {
        "date": datetime.date.today().isoformat(),
        "numpy": np.__version__,
        "seeds": 3,
        "steps": STEPS,
        "rows": rows,
    }
    path = Path(__file__).parent / "_static" / "generalization.json"
    path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
