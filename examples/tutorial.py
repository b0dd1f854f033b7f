"""The steps of the NumPy tutorial on one page: load, look, preprocess, build, train, evaluate, plot.

    python examples/tutorial.py                        # MNIST, or the bundled digits if it is not available
    python examples/tutorial.py --backend cupy         # the same on a GPU

`xpnet.train("tutorial")` does all of this and gives the notebook's own numbers. This example uses the parts one by one.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import xpnet
from xpnet import SGD, Dense, Dropout, Network, ReLU, SquaredError, Uniform, plots
from xpnet.data import one_hot, scale

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, jax, ...")
parser.add_argument("--output", type=Path, default=None, help="where the pictures go")
parser.add_argument("--quick", action="store_true", help="the bundled digits and few epochs")
options = parser.parse_args()
pictures = options.output or Path(tempfile.mkdtemp(prefix="xpnet-tutorial-"))
pictures.mkdir(parents=True, exist_ok=True)

# 1. Load the data: images of handwritten digits, and the digits that they show.
data = xpnet.load_dataset("digits" if options.quick else None).first(1000)
print(f"{data.name}: {data.train_images.shape} to train, {data.test_images.shape} to test")

# 2. Look at it.
plots.save(plots.image(data.train_images[0], data.train_labels[0]), pictures / "one.png")
plots.save(plots.image_row(data.train_images, data.train_labels, count=5, seed=3), pictures / "some.png")

# 3. Preprocess: pixels from 0 to 1, labels as one-hot rows. Training does this itself, batch by batch.
print("pixels:", np.unique(scale(data.train_images, data.pixel_max))[[0, -1]])
print("label", data.train_labels[0], "becomes", one_hot(data.train_labels[:1], data.classes)[0])

# 4. Build the network: one hidden layer, weights uniform in [-0.1, 0.1), half of the hidden units dropped.
pixels = data.train_images[0].size
network = Network(
    [
        Dense(100, bias=False, init_weight=Uniform(0.1)),
        ReLU(),
        Dropout(0.5),
        Dense(data.classes, bias=False, init_weight=Uniform(0.1)),
    ],
    input_shape=(pixels,),
)
print(network.summary())

# 5. Train it: a step after every image.
run = xpnet.fit(
    network,
    data,
    loss=SquaredError(),
    optimizer=SGD(learning_rate=0.0025),
    epochs=5 if options.quick else 100,
    batch_size=1,
    seed=1,
    dtype="float64",
    backend=options.backend,
)

# 6. Evaluate it.
print(f"test accuracy on {run.config['backend']}: {run.evaluation.accuracy:.4f}")
print(run.evaluation.table())

# 7. Plot.
run.plot(pictures / "curves.png")
plots.save(plots.confusion_matrix(run.evaluation.confusion, title=run.title), pictures / "confusion.png")
print("pictures in", pictures)
