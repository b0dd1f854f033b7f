"""Measure xpnet against other libraries: ratios of runs that take turns, so that a busy machine slows all alike.

    nox -s bench                 everything, on MNIST if XPNET_DATA_DIR names it, else on made-up images of its size
    nox -s bench -- --quick      in about two minutes
    nox -s bench -- --backend cupy   one backend on its device, over sizes of batches: see `device.py`

Prints a table, and with --output DIR writes it as JSON and as a picture. It never fails because a machine is slow.
"""

import argparse
import functools
import json
import resource
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

import cores
import device
import numpy as np
import peers
from measuring import images, machine, one_blas_thread, our_epoch, take_turns

import xpnet
from xpnet.host import kept_memory, processors, thread_limit
from xpnet.nn.trained import to_device
from xpnet.training.batches import move_samples
from xpnet.training.step import Step
from xpnet.training.workers import Workers, count_shards

LENET = [
    *[xpnet.Conv2D(8, 5), xpnet.MaxPool2D(2), xpnet.ReLU()],
    *[xpnet.Conv2D(16, 5), xpnet.MaxPool2D(2), xpnet.ReLU()],
    *[xpnet.Flatten(), xpnet.Dense(64), xpnet.ReLU(), xpnet.Dense(10)],
]


def our_step(layers, data, batch):
    """One step of a network of images as `fit` takes it by default, plain SGD, the batch always the same."""
    network = xpnet.Network(layers, (28, 28))
    backend = xpnet.get_backend("numpy")
    shards = count_shards(network, backend, batch)
    look = Workers(shards, min(processors(), shards)).gradients if shards > 1 else None
    trainer = Step(network, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.01), backend, "float32", look=look)
    rng = np.random.default_rng(0)
    params, state = (to_device(layers, backend, "float32") for layers in (network.init(rng), network.init_state()))
    box = [trainer.start(params, state)]
    held = move_samples(trainer, data.train_images[:batch], data.train_labels[:batch], 10)
    inputs = {"index": np.arange(batch, dtype=np.int32), "rate": np.asarray(0.01, np.float32)}
    for i, noise in enumerate(network.noise(rng, batch)):
        if noise is not None:
            inputs[f"noise.{i}"] = noise

    def step():
        with one_blas_thread():
            box[0] = trainer.take(box[0], inputs, held)

    return step


def row(work, names, functions, repeats, target=None):
    """Measure the first function against each of the others."""
    return ratios_of(work, names, take_turns(functions, repeats), target)


def ratios_of(work, names, times, target=None):
    """Compare the times of the first with those of each of the others."""
    ours, *others = times
    rows = []
    for name, seconds in zip(names[1:], others, strict=True):
        ratios = [b / a for a, b in zip(ours, seconds, strict=True)]
        quarters = (
            statistics.quantiles(ratios, n=4) if len(ratios) > 1 else 3 * ratios
        )  # the extremes are due to other programs
        rows.append(
            {
                "work": work,
                "ours": names[0],
                "against": name,
                "our_ms": 1e3 * statistics.median(ours),
                "their_ms": 1e3 * statistics.median(seconds),
                "ratio": statistics.median(ratios),
                "lowest": quarters[0],
                "highest": quarters[2],
                "target": (target or {}).get(name),
                "date": date.today().isoformat(),
            }
        )
        print(show(rows[-1]), flush=True)
    return rows


def show(r):
    spread = f"({r['lowest']:.2f} to {r['highest']:.2f})"
    target = f"target {r['target']}" if r["target"] else ""
    return (
        f"{r['work']:<28} {r['ours']:<8} {r['our_ms']:>9.2f} ms   {r['against']:<18} {r['their_ms']:>9.2f} ms   "
        f"{r['ratio']:>5.2f}x {spread:<18} {target}"
    )


def tutorial_rows(data, repeats):
    small = data.first(1000)
    x, x_test = (a.reshape(len(a), -1) / 255.0 for a in (small.train_images, small.test_images))
    notebook = peers.notebook_epoch(x, small.train_labels, x_test, small.test_labels)
    epochs = 20  # a run has to be set up once, however long it is

    def ours():
        xpnet.train("tutorial", dataset=small, epochs=epochs, progress=False)

    def theirs():
        for _ in range(epochs):
            notebook()

    return row(f"tutorial, {epochs} epochs", ["numpy", "the notebook"], [ours, theirs], repeats, {"the notebook": 7.0})


MLP_TARGETS = {
    32: {"torch": 2.5, "scikit-learn": 2.0, "JAX": 1.0, "NumPy by hand": 1.0},
    128: {"torch": 2.0, "scikit-learn": 1.6, "JAX": 1.1, "NumPy by hand": 1.0},
    1024: {"torch": 1.8, "scikit-learn": 1.5, "JAX": 1.2, "NumPy by hand": 1.0, "its products alone": 0.67},
}


def mlp_rows(batch, data, repeats):
    x, y = data.train_images, data.train_labels
    names = ["numpy", "torch", "scikit-learn", "JAX", "NumPy by hand", "its products alone"]
    functions = [
        our_epoch(data, batch, "numpy"),
        peers.torch_mlp_epoch(x, y, batch),
        peers.sklearn_mlp_epoch(x, y, batch),
        peers.jax_mlp_epoch(x, y, batch),
        peers.numpy_mlp_epoch(x, y, batch),
        peers.matrix_products_epoch(len(x), batch),
    ]
    rows = row(f"mlp epoch, batch {batch}", names, functions, repeats, MLP_TARGETS[batch])
    for spec, peer, theirs, least in (("jax", "JAX", functions[3], 1.2), ("torch", "torch", functions[1], 1.0)):
        ours = our_epoch(data, batch, spec)
        rows += row(f"mlp epoch, batch {batch}", [spec, peer], [ours, theirs], repeats, {peer: least})
    return rows


def convolution_rows(data, repeats):
    best = [layer for layer in xpnet.recipes.best(data).network.layers if type(layer).__name__ != "RandomShift"]
    rows = []
    for name, layers, target in (("LeNet-like step", LENET, 2.0), ("step of best's layers", best, 1.4)):
        for batch in (32, 128):
            theirs = peers.torch_network_step(layers, data.train_images[:batch], data.train_labels[:batch])
            functions = [our_step(layers, data, batch), theirs]
            rows += row(f"{name}, batch {batch}", ["numpy", "torch"], functions, 5 * repeats, {"torch": target})
    return rows


def import_row(repeats):
    def run(code):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    ours, theirs = take_turns([run("import xpnet"), run("import numpy")], 2 * repeats)
    more = 1e3 * statistics.median(a - b for a, b in zip(ours, theirs, strict=True))
    print(f"import xpnet takes {more:.0f} ms more than import numpy (target: at most 150)")
    return more


def draw(rows, where):
    from matplotlib.figure import Figure

    from xpnet import plots

    figure = Figure(figsize=(9, 0.32 * len(rows) + 1.2), layout="constrained")
    axis = figure.subplots()
    names = [f"{r['work']}: {r['ours']} against {r['against']}" for r in rows]
    ratios = np.asarray([r["ratio"] for r in rows])
    low = ratios - [r["lowest"] for r in rows]
    high = np.asarray([r["highest"] for r in rows]) - ratios
    axis.barh(names, ratios, xerr=[np.maximum(low, 0), np.maximum(high, 0)], color="#0072B2", ecolor="#555555")
    axis.axvline(1.0, color="black")
    for i, r in enumerate(rows):
        if r["target"]:
            axis.plot([r["target"]], [i], "|", color="#D55E00", markersize=14, markeredgewidth=3)
    axis.invert_yaxis()
    axis.set(xlabel="times as fast (bars: median and middle half; marks: the target)")
    plots.save(figure, where)


ROWS = {
    "tutorial": tutorial_rows,
    **{f"mlp-{batch}": functools.partial(mlp_rows, batch) for batch in MLP_TARGETS},
    "convolution": convolution_rows,
    "workers": lambda data, repeats: cores.worker_rows(row, data, repeats),
    "ranks": lambda data, repeats: cores.rank_rows(ratios_of, repeats),
    "defaults": lambda data, repeats: cores.default_rows(row, data, repeats),
    "accuracy": lambda data, repeats: cores.accuracy_rows(ratios_of, data) if repeats > 3 else [],
}


def kept(path, rows):
    """Return the rows of an earlier measurement that are not among these, each with its date."""
    earlier = json.loads(path.read_text()) if path.is_file() else {"rows": []}
    earlier = [{"date": earlier["machine"]["date"], **r} for r in earlier["rows"]]
    now = {(r["work"], r["ours"], r["against"]) for r in rows}
    return [r for r in earlier if (r["work"], r["ours"], r["against"]) not in now]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--backend", help="measure this one on its device, such as cupy or torch:cuda")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds, with --backend")
    parser.add_argument("--samples", type=int, help="of the training images only so many, to rehearse")
    parser.add_argument("--rows", default=",".join(ROWS), help="some of them, with commas; others in the output stay")
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    about = machine() | {"threads": options.threads}
    print(json.dumps(about))
    data = images(options.quick).first(options.samples)
    repeats = 3 if options.quick else 7
    if options.backend:
        device.measure(options.backend, options.threads, about, data, repeats, options.output, options.limit)
        return
    # As `xpnet.fit` does; the others profit from it too.
    with thread_limit(options.threads), kept_memory():
        if options.threads:
            import torch

            torch.set_num_threads(options.threads)
        rows = [found for name in options.rows.split(",") for found in ROWS[name](data, repeats)]
    more = import_row(repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of all this: {peak:.0f} MB")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        rows = [*kept(options.output / "benchmarks.json", rows), *rows]
        document = {"machine": about, "dataset": data.name, "rows": rows, "import_ms": more}
        (options.output / "benchmarks.json").write_text(json.dumps(document, indent=2) + "\n")
        draw(rows, options.output / "benchmarks.png")


if __name__ == "__main__":
    main()
