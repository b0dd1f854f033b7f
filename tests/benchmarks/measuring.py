"""Helpers of the measurements: images, an epoch of xpnet, interleaved timing, and facts about the machine."""

import contextlib
import functools
import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

import xpnet
from xpnet.backends import installed_version
from xpnet.host import processors
from xpnet.recipes import Plan
from xpnet.training.distributed import Ranks
from xpnet.training.loop import Loop
from xpnet.training.step import Step


def images(quick):
    """MNIST, or made-up images of its size."""
    folder = os.environ.get("XPNET_DATA_DIR")
    if folder:
        data = xpnet.load_dataset("mnist", data_dir=folder)
        return data.first(12_000) if quick else data
    return made_up(12_000 if quick else 60_000, 10_000)


def made_up(train, test=10):
    """Random images of MNIST's shape and sparsity."""
    rng = np.random.default_rng(0)
    n = train + test
    pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) * (rng.random((n, 28, 28)) < 0.2)
    labels = rng.integers(0, 10, n)
    return xpnet.Dataset("made up", pixels[:train], labels[:train], pixels[train:], labels[train:])


def launch(count, script, *arguments):
    """Run a script on some MPI ranks, and return the JSON that the first of them prints."""
    command = ["mpiexec", "-n", str(count), sys.executable, script, *map(str, arguments)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout)


def one_blas_thread():
    """Do as `fit` does by default on NumPy, in microseconds: what there is to limit is looked up once."""
    return _controller().limit(limits=1, user_api="blas")


@functools.cache
def _controller():
    return ThreadpoolController()


def loop_of(layers, data, batch, backend, ranks=None, workers=1):
    """The training loop of a network of layers with Adam, as `mlp` trains, on one rank or many."""
    ranks = ranks or Ranks()
    network = xpnet.Network(layers, (784,))
    all_reduce = ranks.all_reduce(backend)
    trainer = Step(network, xpnet.SoftmaxCrossEntropy(), xpnet.Adam(1e-3), backend, "float32", all_reduce)
    plan = Plan(network, epochs=10**6, batch_size=batch)
    return Loop(trainer, plan, xpnet.random.Streams(0), data, ranks, workers)


def our_epoch(data, batch, backend, hidden=(100,)):
    """One training epoch of the mlp with the defaults of `fit`, metrics included, without the evaluation."""
    layers = [layer for units in hidden for layer in (xpnet.Dense(units), xpnet.ReLU(), xpnet.Dropout(0.2))]
    opened = xpnet.get_backend(backend)
    with opened.session("float32"):
        loop = loop_of([*layers, xpnet.Dense(10)], data, batch, opened, workers=processors())
        box = [(loop.start().progress, 0)]

    def epoch():
        alone = one_blas_thread() if opened.spec == "numpy" else contextlib.nullcontext()
        with alone, opened.session("float32"):
            progress, number = box[0]
            progress = loop.train(progress, number)
            opened.to_numpy(progress.loss)
            box[0] = progress, number + 1

    return epoch


def take_turns(functions, repeats):
    """Time functions in turn; return the seconds of each, without the first round."""
    times = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, seconds in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    return [seconds[1:] for seconds in times]


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
