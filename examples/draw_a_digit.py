"""Train a small network and write a page on which you draw digits: one HTML file that needs no server.

    python examples/draw_a_digit.py --output draw

Then open draw/page.html in a browser. The weights of the site's own page come from this program, on MNIST.
"""

import argparse
import tempfile
from pathlib import Path

import xpnet
from xpnet import Adam, Conv2D, Cosine, Dense, Flatten, MaxPool2D, Network, RandomShift, ReLU
from xpnet.export import export

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--output", type=Path, default=None, help="where the run and the page go")
parser.add_argument("--quick", action="store_true", help="the bundled digits and few epochs")
options = parser.parse_args()
folder = options.output or Path(tempfile.mkdtemp(prefix="xpnet-draw-"))

data = xpnet.load_dataset("digits" if options.quick else None)
epochs = 3 if options.quick else 20
network = Network(
    [
        RandomShift(1 if options.quick else 2),
        *[Conv2D(8, 3, padding="same"), MaxPool2D(2), ReLU()],
        *[Conv2D(16, 3, padding="same"), MaxPool2D(2), ReLU()],
        *[Flatten(), Dense(data.classes)],
    ],
    input_shape=data.sample_shape,
)
print(network.summary())
run = xpnet.fit(
    network,
    data,
    optimizer=Adam(3e-3),
    schedule=Cosine(epochs, warm_up=1.0),
    epochs=epochs,
    batch_size=64,
    validation_fraction=0.1,
    output_dir=folder,
)
print(f"test accuracy {run.evaluation.accuracy:.4f}")
print("page:", export(folder, folder / "page.html"))
