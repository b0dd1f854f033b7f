"""Measure xpnet against other libraries: ratios of runs that take turns, so that a busy machine slows all alike.

    nox -s bench                 everything, on MNIST if XPNET_DATA_DIR names it, else on made-up images of its size
    nox -s bench -- --quick      in about two minutes
    nox -s bench -- --backend cupy   one backend on its device, over sizes of batches: see `device.py`

Prints a table, and with --output DIR writes it as JSON and as a picture. It never fails because a machine is slow.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import device
import numpy as np
import peers

import xpnet
from xpnet.backends import installed_version, kept_memory, thread_limit
from xpnet.training.loop import Loop, Plan
from xpnet.training.step import Trainer, device_data
from xpnet.training.stopping import EarlyStopping

LENET = [
    *[xpnet.Conv2D(8, 5), xpnet.MaxPool2D(2), xpnet.ReLU()],
    *[xpnet.Conv2D(16, 5), xpnet.MaxPool2D(2), xpnet.ReLU()],
    *[xpnet.Flatten(), xpnet.Dense(64), xpnet.ReLU(), xpnet.Dense(10)],
]


def images(quick):
    """MNIST, or random images of its size and sparsity."""
    folder = os.environ.get("XPNET_DATA_DIR")
    if folder:
        data = xpnet.load_dataset("mnist", data_dir=folder)
        return data.first(12_000) if quick else data
    rng = np.random.default_rng(0)
    n = 12_000 if quick else 60_000
    pixels = rng.integers(0, 256, (n + 10_000, 28, 28)) * (rng.random((n + 10_000, 28, 28)) < 0.2)
    labels = rng.integers(0, 10, n + 10_000)
    pixels = pixels.astype(np.uint8)
    return xpnet.Dataset("made up", pixels[:n], labels[:n], pixels[n:], labels[n:])


def our_epoch(data, batch, backend, hidden=(100,)):
    """One training epoch of the mlp, metrics included, without the evaluation."""
    layers = [layer for units in hidden for layer in (xpnet.Dense(units), xpnet.ReLU(), xpnet.Dropout(0.2))]
    network = xpnet.Network([*layers, xpnet.Dense(10)], (784,))
    opened = xpnet.get_backend(backend)
    trainer = Trainer(network, xpnet.SoftmaxCrossEntropy(), xpnet.Adam(1e-3), opened, "float32")
    plan = Plan(10**6, batch, xpnet.Schedule(), 0.0, EarlyStopping(), xpnet.random.Streams(0))
    with opened.session("float32"):
        loop = Loop(trainer, plan, data)
        box = [(loop.start().progress, 0)]

    def epoch():
        with opened.session("float32"):
            progress, number = box[0]
            progress = loop.train(progress, number)
            opened.to_numpy(progress.loss)
            box[0] = progress, number + 1

    return epoch


def our_step(layers, data, batch):
    """One step of a network of images, plain SGD, the batch always the same."""
    network = xpnet.Network(layers, (28, 28))
    backend = xpnet.get_backend("numpy")
    trainer = Trainer(network, xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.01), backend, "float32")
    rng = np.random.default_rng(0)
    theta, state = network.init(rng)
    state = [{name: value.astype(np.float32) for name, value in layer.items()} for layer in state]
    box = [trainer.start(theta.astype(np.float32), {}, state)]
    held = device_data(trainer, data.train_images[:batch], data.train_labels[:batch], 10)
    inputs = {"index": np.arange(batch, dtype=np.int32), "rate": np.asarray(0.01, np.float32)}
    for i, noise in enumerate(network.noise(rng, batch)):
        if noise is not None:
            inputs[f"noise.{i}"] = noise

    def step():
        box[0] = trainer.step(box[0], inputs, held)

    return step


def take_turns(functions, repeats):
    """Time functions in turn; return the seconds of each, without the first round."""
    times = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, seconds in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    return [seconds[1:] for seconds in times]


def row(work, names, functions, repeats, target=None):
    """Measure the first function against each of the others."""
    ours, *others = take_turns(functions, repeats)
    rows = []
    for name, seconds in zip(names[1:], others, strict=True):
        ratios = [b / a for a, b in zip(ours, seconds, strict=True)]
        quarters = statistics.quantiles(ratios, n=4)  # the extremes tell of other programs
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


def mlp_rows(data, repeats):
    rows = []
    targets = {
        32: {"torch": 2.5, "scikit-learn": 2.0, "JAX": 1.0, "NumPy by hand": 1.0},
        128: {"torch": 2.0, "scikit-learn": 1.6, "JAX": 1.1, "NumPy by hand": 1.0},
        1024: {"torch": 1.8, "scikit-learn": 1.5, "JAX": 1.2, "NumPy by hand": 1.0, "its products alone": 0.67},
    }
    x, y = data.train_images, data.train_labels
    for batch, target in targets.items():
        names = ["numpy", "torch", "scikit-learn", "JAX", "NumPy by hand", "its products alone"]
        functions = [
            our_epoch(data, batch, "numpy"),
            peers.torch_mlp_epoch(x, y, batch),
            peers.sklearn_mlp_epoch(x, y, batch),
            peers.jax_mlp_epoch(x, y, batch),
            peers.numpy_mlp_epoch(x, y, batch),
            peers.matrix_products_epoch(len(x), batch),
        ]
        rows += row(f"mlp epoch, batch {batch}", names, functions, repeats, target)
        for spec, peer, theirs, least in (("jax", "JAX", functions[3], 1.2), ("torch", "torch", functions[1], 1.0)):
            ours = our_epoch(data, batch, spec)
            rows += row(f"mlp epoch, batch {batch}", [spec, peer], [ours, theirs], repeats, {peer: least})
    return rows


def convolution_rows(data, repeats):
    best = [
        layer for layer in xpnet.training.recipes.best(data).network.layers if type(layer).__name__ != "RandomShift"
    ]
    rows = []
    for name, layers, target in (("LeNet-like step", LENET, 1.5), ("step of best's layers", best, 1.0)):
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


def machine():
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "date": date.today().isoformat(),
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: installed_version([name]) for name in ("numpy", "torch", "jax", "scikit-learn")},
    }


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


def on_device(options, about, data, repeats):
    backend = xpnet.get_backend(options.backend)
    print(f"{backend.spec} {backend.version} on {backend.device_name}")
    with thread_limit(options.threads), kept_memory():
        rows = device.rows(data, backend.spec, repeats, our_epoch, take_turns)
        product = device.large_product(backend, take_turns)
        kernels = device.launches(our_epoch(data, 1024, backend.spec), -(-len(data.train_images) // 1024))
    least = device.overtakes(rows, backend.spec)
    print(f"faster than NumPy from batches of {least} on; a large product does {product / 1e9:.0f} GFLOP/s")
    print(f"kernels a step: {'not counted without a GPU' if kernels is None else f'{kernels:.1f}'}")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        about |= {"backend": backend.spec, "version": backend.version, "device": backend.device_name}
        document = {"machine": about, "dataset": data.name, "rows": rows, "large_product": product, "kernels": kernels}
        (options.output / "device.json").write_text(json.dumps(document, indent=2) + "\n")
        device.draw(rows, backend.spec, options.output / "device.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--backend", help="measure this one on its device, such as cupy or torch:cuda")
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    about = machine() | {"threads": options.threads}
    print(json.dumps(about))
    data = images(options.quick)
    repeats = 3 if options.quick else 7
    if options.backend:
        on_device(options, about, data, repeats)
        return
    # As `xpnet.fit` does; the others profit from it too.
    with thread_limit(options.threads), kept_memory():
        if options.threads:
            import torch

            torch.set_num_threads(options.threads)
        rows = [*tutorial_rows(data, repeats), *mlp_rows(data, repeats), *convolution_rows(data, repeats)]
    more = import_row(repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of all this: {peak:.0f} MB")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        document = {"machine": about, "dataset": data.name, "rows": rows, "import_ms": more}
        (options.output / "benchmarks.json").write_text(json.dumps(document, indent=2) + "\n")
        draw(rows, options.output / "benchmarks.png")


if __name__ == "__main__":
    main()
