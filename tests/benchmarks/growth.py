"""Measure how an epoch's time and memory grow with the batch, the width, the number of samples and the depth.

    OMP_NUM_THREADS=1 python tests/benchmarks/growth.py --output DIR

The network is that of `mlp`, on NumPy, with random images of MNIST's size; one thing is varied at a time. Beside the
time stands the work: the multiplications of an epoch's matrix products, and those of the optimizer's updates. Nothing
should grow faster than the work. Writes everything as JSON and as a picture.
"""

import argparse
import itertools
import json
import statistics
import tracemalloc
from pathlib import Path

from measuring import machine, made_up, our_epoch, take_turns

from xpnet.host import kept_memory

VARIED = {
    "batch": (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
    "width": (25, 50, 100, 200, 400, 800, 1600),
    "samples": (1_875, 3_750, 7_500, 15_000, 30_000, 60_000),
    "depth": (1, 2, 3, 4, 6, 8),
}
USUAL = {"batch": 128, "width": 100, "samples": 15_000, "depth": 1}
LABELS = {
    "batch": "samples a batch",
    "width": "units in the hidden layer",
    "samples": "training samples",
    "depth": "hidden layers of 100 units",
}
UPDATE = 12
"""Multiplications and additions of an Adam step for each parameter, about."""


def work(batch, width, samples, depth):
    """Count the multiplications of an epoch: three products a layer, but two in the first; and the updates."""
    sizes = [784, *[width] * depth, 10]
    weights = [a * b for a, b in itertools.pairwise(sizes)]
    return samples * (3 * sum(weights) - weights[0]) + UPDATE * sum(weights) * -(-samples // batch)


def measure(batch, width, samples, depth, repeats=5):
    """Return the median seconds of an epoch, and the most bytes that it holds beside what was there before it."""
    epoch = our_epoch(made_up(samples), batch, "numpy", (width,) * depth)
    (seconds,) = take_turns([epoch], repeats)
    tracemalloc.start()
    epoch()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return statistics.median(seconds), peak


def rows():
    for what, values in VARIED.items():
        for value in values:
            sizes = USUAL | {what: value}
            seconds, peak = measure(**sizes)
            row = {"varied": what, "value": value, "seconds": seconds, "bytes": peak, "work": work(**sizes)}
            print(
                f"{what:8} {value:>6}  {1e3 * seconds:9.1f} ms  {peak / 1e6:7.1f} MB  {row['work'] / 1e9:7.2f} G",
                flush=True,
            )
            yield row


def draw(rows, where):
    from matplotlib.figure import Figure

    from xpnet import plots

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots(2, len(VARIED), sharex="col", sharey="row")
    for column, what in enumerate(VARIED):
        chosen = [row for row in rows if row["varied"] == what]
        x = [row["value"] for row in chosen]
        top, bottom = axes[:, column]
        top.loglog(x, [1e3 * row["seconds"] for row in chosen], "o-", color="#0072B2", label="time")
        # The line of work passes through the last time; where it lies below the others, small sizes cost more per item.
        scale = 1e3 * chosen[-1]["seconds"] / chosen[-1]["work"]
        top.loglog(x, [scale * row["work"] for row in chosen], "--", color="#555555", label="the work, to scale")
        bottom.loglog(x, [row["bytes"] / 1e6 for row in chosen], "s-", color="#D55E00")
        bottom.set_xlabel(LABELS[what])
        bottom.set_xticks(x, [f"{value:,}" for value in x], rotation=90, fontsize=8)
        bottom.minorticks_off()
    axes[0, 0].set_ylabel("ms an epoch")
    axes[1, 0].set_ylabel("MB beside data and weights")
    axes[0, 0].legend(fontsize=8)
    plots.save(figure, where)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    where = parser.parse_args().output
    where.mkdir(parents=True, exist_ok=True)
    with kept_memory():
        measured = list(rows())
    document = {"machine": machine(), "usual": USUAL, "rows": measured}
    (where / "growth.json").write_text(json.dumps(document, indent=2) + "\n")
    draw(measured, where / "growth.png")


if __name__ == "__main__":
    main()
