"""Draw the picture that stands in the README: python docs/figures.py

All other pictures of the site are drawn by its pages, when it is built.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnet
from xpnet import plots
from xpnet.plots.canvas import BLUE, INK, SERIES, TEXT, VERMILLION, WIDTH, clean, described, new_figure

STATIC = Path(__file__).parent / "_static"


def one_seed() -> Figure:
    """Draw what xpnet is about: a network reads digits, and learns alike on every array library."""
    names = [info.name for info in xpnet.list_backends() if info.usable]
    data = xpnet.load_dataset("digits")
    runs = {name: xpnet.train("mlp", dataset=data, backend=name, epochs=20, progress=False) for name in names}
    figure = new_figure("One network, one seed, any array library", WIDTH, 3.1)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    _draw_answers(left, data, runs[names[0]].network)
    clean(right)
    for k, (name, run) in enumerate(runs.items()):
        style = {"color": SERIES[k], "lw": 9 - 2.4 * k, "label": name, "solid_capstyle": "round"}
        right.plot([100 * record.test_accuracy for record in run.history], **style)
    right.set_title("test accuracy in percent", fontsize=TEXT, color=INK)
    right.set_xlabel("epoch", fontsize=TEXT, color=INK)
    right.xaxis.get_major_locator().set_params(integer=True)
    right.legend(fontsize=TEXT, frameon=False, loc="lower right", labelcolor=INK)
    return described(figure, f"The test accuracy of one network over 20 epochs, the same on {', '.join(names)}.")


def _draw_answers(ax, data, network, rows=3, columns=4):
    """Draw test images, a blank line under each, and on it what the network says."""
    images, labels = data.test_images[: rows * columns], data.test_labels[: rows * columns]
    tiles = np.pad(images, ((0, 0), (1, 5), (2, 2))).reshape(rows, columns, 14, 12)
    ax.imshow(np.concatenate([np.concatenate(list(row), axis=1) for row in tiles]), cmap="gray_r")
    for i, (answer, label) in enumerate(zip(network.predict(images), labels, strict=True)):
        place = 12 * (i % columns) + 5.5, 14 * (i // columns) + 11
        ax.text(*place, answer, ha="center", va="center", fontsize=TEXT, color=BLUE if answer == label else VERMILLION)
    ax.set_title("test images, and its answers", fontsize=TEXT, color=INK)
    ax.axis("off")


if __name__ == "__main__":
    plots.save(one_seed(), STATIC / "one-seed.png")
