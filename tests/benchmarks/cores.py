"""What the cores of this machine give: workers or ranks against one, the defaults against other settings, and torch.

Starts itself under mpiexec to measure ranks.
"""

import contextlib
import dataclasses
import importlib.util
import json
import statistics
import subprocess
import sys
import time

import peers
from measuring import images, launch

import xpnet
from xpnet.host import kept_memory, processors, thread_limit
from xpnet.recipes import RECIPES
from xpnet.training.distributed import Ranks, get_ranks
from xpnet.training.loop import Loop
from xpnet.training.step import Step

RECIPE_ROWS = (("deep", 6400, 1.5), ("cnn", 3200, 1.6), ("best", 960, 1.6))
"""A recipe, the number of samples of a short epoch, and the target of workers on all cores against one."""


def recipe_epoch(recipe, data, workers, ranks=None):
    """An epoch of training of a recipe, without the evaluation, by so many workers with one thread each."""
    ranks = ranks or Ranks()
    plan = RECIPES[recipe].build(data)
    # As for all of MNIST: fewer samples are given smaller batches.
    plan = dataclasses.replace(plan, batch_size=64, validation_fraction=0.0, patience=None)
    numpy = xpnet.get_backend("numpy")
    network = xpnet.Network(plan.network.layers, plan.network.input_shape, data.pixel_max)
    step = Step(network, plan.loss, plan.optimizer, numpy, "float32", ranks.all_reduce(numpy))
    loop = Loop(step, plan, xpnet.random.Streams(0), data, ranks, workers)
    box = [loop.start().progress]

    def epoch():
        with thread_limit(1):
            box[0] = loop.train(box[0], 0)

    return epoch


def worker_rows(row, data, repeats):
    """All cores against one, for each recipe that gains."""
    rows, every = [], processors()
    for recipe, samples, target in RECIPE_ROWS:
        functions = [recipe_epoch(recipe, data.first(samples), workers) for workers in (every, 1)]
        rows += row(f"{recipe}, {every} workers", ["numpy", "1 worker"], functions, repeats, {"1 worker": target})
    return rows


def rank_rows(ratios, repeats):
    """As many MPI ranks as cores against one: each is a process, with a Python lock of its own."""
    if not importlib.util.find_spec("mpi4py"):
        print("ranks: not measured, because mpi4py is not installed")
        return []
    rows, every = [], processors()
    for recipe, samples, _ in RECIPE_ROWS:
        turns = [[launch(count, __file__, recipe, samples) for count in (every, 1)] for _ in range(repeats)]
        name = f"{recipe}, {every} MPI ranks"
        rows += ratios(name, ["numpy", "1 worker"], list(zip(*turns, strict=True)))
    return rows


def work(recipe, samples):
    """Print the seconds that an epoch of a recipe takes on these ranks."""
    ranks, times = get_ranks("mpi"), []
    epoch = recipe_epoch(recipe, images(quick=True).first(samples), 1, ranks)
    with kept_memory():
        for _ in range(4):
            start = time.perf_counter()
            epoch()
            times.append(time.perf_counter() - start)
    if ranks.first:
        print(json.dumps(statistics.median(times[1:])))  # the first allocates memory


def default_rows(row, data, repeats):
    """`mlp` by default: against two threads of the linear algebra when idle, and one beside other programs."""
    rows, small = [], data.first(12_000)

    def training(batch, epochs, **settings):
        return lambda: xpnet.train("mlp", dataset=small, batch_size=batch, epochs=epochs, progress=False, **settings)

    for batch, epochs in ((32, 1), (128, 2), (1024, 4)):
        functions = [training(batch, epochs), training(batch, epochs, threads=2, workers=1)]
        name = f"mlp by default, batch {batch}, idle"
        rows += row(name, ["numpy", "2 BLAS threads"], functions, repeats, {"2 BLAS threads": 0.9})
    with busy():
        functions = [training(128, 2), training(128, 2, threads=1, workers=1)]
        name = "mlp by default, batch 128, busy"
        # Turns beside other programs vary: there are four times as many of them.
        rows += row(name, ["numpy", "1 thread"], functions, 4 * repeats, {"1 thread": 0.9})
    return rows


@contextlib.contextmanager
def busy():
    """Keep two cores busy with something else."""
    command = ["sha256sum", "/dev/zero"]
    others = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def accuracy_rows(ratios, data, wanted=0.99):
    """Seconds of training until `cnn`'s layers are right for 99% of the test set, against torch, both by default."""

    def ours():
        def enough(record):
            if record.test_accuracy >= wanted:
                raise xpnet.StopTraining

        xpnet.train("cnn", dataset=data, validation_fraction=0.0, callbacks=[enough], progress=False)

    theirs, times = peers.torch_until(RECIPES["cnn"].build(data), data, wanted), []
    for function in (ours, theirs):
        start = time.perf_counter()
        function()
        times.append([time.perf_counter() - start])
    return ratios("cnn to 99% of the test set", ["numpy", "torch"], times, {"torch": 1.4})


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]))
