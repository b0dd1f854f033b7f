"""Draw the picture that stands in the README: python docs/figures.py

All other pictures of the site are drawn by its pages, when it is built.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnet
from xpnet import plots
from xpnet.plots.canvas import TEXT, clean, described, head, name_axes, new_figure, now

STATIC = Path(__file__).parent / "_static"


def one_seed() -> Figure:
    """Draw what xpnet is about: a network reads digits, and learns alike on every array library."""
    names = [info.name for info in xpnet.list_backends() if info.usable]
    data = xpnet.load_dataset("digits")
    runs = {name: xpnet.train("mlp", dataset=data, backend=name, epochs=20, progress=False) for name in names}
    figure = new_figure("One network, one seed, any array library", 5.6, 2.9)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    _draw_answers(left, data, runs[names[0]].network)
    clean(right)
    for k, (name, run) in enumerate(runs.items()):
        style = {"color": now().series[k], "lw": 9 - 2.4 * k, "label": name, "solid_capstyle": "round"}
        right.plot([100 * record.test_accuracy for record in run.history], **style)
    head(right, "test accuracy in percent")
    name_axes(right, "epoch")
    right.xaxis.get_major_locator().set_params(integer=True)
    right.legend(fontsize=TEXT, frameon=False, loc="lower right", labelcolor=now().ink)
    return described(figure, f"The test accuracy of one network over 20 epochs, the same on {', '.join(names)}.")


def _draw_answers(ax, data, network, rows=3, columns=4):
    """Draw test images, a blank line under each, and on it what the network says."""
    images, labels = data.test_images[: rows * columns], data.test_labels[: rows * columns]
    tiles = np.pad(images, ((0, 0), (1, 5), (2, 2))).astype(float)
    tiles[:, 9:] = np.nan  # The blank line is as transparent as the figure.
    tiles = tiles.reshape(rows, columns, 14, 12)
    ink_on_paper = "gray" if now().paper == "none" else "gray_r"
    ax.imshow(np.concatenate([np.concatenate(list(row), axis=1) for row in tiles]), cmap=ink_on_paper)
    for i, (answer, label) in enumerate(zip(network.predict(images), labels, strict=True)):
        place = 12 * (i % columns) + 5.5, 14 * (i // columns) + 11
        colour = now().right if answer == label else now().wrong
        ax.text(*place, answer, ha="center", va="center", fontsize=TEXT, color=colour)
    head(ax, "images, and answers")
    ax.axis("off")


if __name__ == "__main__":
    for name, ending in (("light", ""), ("dark", "-dark")):
        with plots.style(name):
            figure = one_seed()
        plots.save(figure, STATIC / f"one-seed{ending}.svg")
        if not ending:  # The README's.
            plots.save(figure, STATIC / "one-seed.png")
