"""Measure a backend on its device over batch sizes, against torch and JAX there, and against NumPy.

    nox -s bench -- --backend cupy

First an epoch of `mlp`, `deep`, `cnn` and `best` as the recipes are, kernel by kernel and as the backend compiles them.
Then an epoch of `mlp` in batches of 32 to 16,384: ours on the backend, ours on NumPy, torch in eager mode, torch with
the step captured as a CUDA graph, and JAX, where each is at hand. Beside the times: where the device overtakes NumPy,
the arithmetic a second against that of one large product on the same backend, and the kernels that a step launches.

Everything is written as soon as it is measured, and nothing new is begun after ``--limit`` seconds.
"""

import contextlib
import importlib.util
import json
import os
import statistics
import time

import numpy as np
import peers
from measuring import our_epoch, take_turns

import xpnet
from xpnet.host import kept_memory, thread_limit

BATCHES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
WEIGHTS = (784 * 100, 100 * 10)


RECIPES = {"mlp": 128, "deep": 64, "cnn": 64, "best": 64}
"""Each with the size of its batches."""


def measure(spec, threads, about, data, repeats, where, limit=float("inf")):
    """Measure and print what the top of this file tells of, and write it to the folder ``where`` if there is one."""
    end = time.monotonic() + limit
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes most of a GPU's memory
    backend = xpnet.get_backend(spec)
    print(f"{backend.spec} {backend.version} on {backend.device_name}")
    about = about | {"backend": backend.spec, "version": backend.version, "device": backend.device_name}
    document = {"machine": about, "dataset": data.name, "recipes": [], "rows": []}

    def keep(**more):
        document.update(more)
        if where:
            where.mkdir(parents=True, exist_ok=True)
            (where / "device.json").write_text(json.dumps(document, indent=2) + "\n")

    with thread_limit(threads), kept_memory():
        for row in recipe_rows(data, backend, repeats, end):
            keep(recipes=[*document["recipes"], row])
        if time.monotonic() < end:
            keep(large_product=large_product(backend))
            print(f"a large product: {document['large_product'] / 1e9:.0f} GFLOP/s")
        for row in rows(data, backend.spec, repeats, end):
            keep(rows=[*document["rows"], row])
            if where:
                draw(document["rows"], backend.spec, where / "device.png")
    if document["rows"]:
        print(f"faster than NumPy from batches of {overtakes(document['rows'], backend.spec)} on")
    if time.monotonic() >= end:
        print(f"stopped after {limit:g} seconds; what is there is complete")


def recipe_rows(data, backend, repeats, end):
    """Yield and print, for each recipe and way to run it, the seconds of an epoch after those that compile."""
    for recipe, batch in RECIPES.items():
        for way, one in {"compiled": backend, "stepwise": backend.stepwise()}.items():
            if time.monotonic() >= end or (way == "stepwise" and one is backend):
                break
            records = []
            settings = {"epochs": 2 + repeats, "batch_size": batch, "progress": False, "validation_fraction": 0.0}
            late = Late(end)
            with contextlib.suppress(TimeoutError):
                xpnet.train(recipe, dataset=data, backend=one, callbacks=[records.append, late], **settings)
            seconds = [record.seconds for record in records]
            steps = -(-len(data.train_images) // batch)
            row = {"recipe": recipe, "way": way, "batch": batch, "steps": steps, "first": seconds[:2]}
            # The first epoch compiles kernels, the second records graphs.
            row["seconds"] = statistics.median(seconds[2:]) if seconds[2:] else None
            if way == "stepwise" and recipe == "mlp" and time.monotonic() < end:
                row["kernels"] = launches(our_epoch(data, batch, one), steps)
            first = " and ".join(f"{s:.3f}" for s in row["first"])
            later = f"{1e6 * row['seconds'] / steps:.0f} us a step" if row["seconds"] else "no time for more"
            print(f"{recipe:<5} {way:<8} first epochs {first} s, then {later}", flush=True)
            yield row


class Late:
    """Ends a run after an epoch when the time is over."""

    def __init__(self, end):
        self.end = end

    def __call__(self, record):
        if time.monotonic() >= self.end:
            raise TimeoutError


def rows(data, spec, repeats, end=float("inf")):
    """Yield a row for each size of batch, and print it."""
    for batch in BATCHES:
        if batch > len(data.train_images) or time.monotonic() >= end:
            break
        functions = contestants(data, spec, batch)
        times = take_turns(list(functions.values()), repeats)
        medians = {name: statistics.median(seconds) for name, seconds in zip(functions, times, strict=True)}
        rate = arithmetic(len(data.train_images)) / medians[f"xpnet on {spec}"]
        print(
            f"batch {batch:>6}  {rate / 1e9:8.1f} GFLOP/s",
            *(f"{k} {1e3 * v:.1f} ms" for k, v in medians.items()),
            sep="  ",
            flush=True,
        )
        yield {"batch": batch, "seconds": medians, "flops": rate}


def contestants(data, spec, batch):
    """Return what runs an epoch in each library that is here, by name."""
    functions = {f"xpnet on {spec}": our_epoch(data, batch, spec)}
    if spec != "numpy":
        functions["xpnet on numpy"] = our_epoch(data, batch, "numpy")
    x, y = data.train_images, data.train_labels
    if importlib.util.find_spec("torch"):
        import torch

        on_gpu = torch.cuda.is_available()
        functions["torch"] = peers.torch_mlp_epoch(x, y, batch, device="cuda" if on_gpu else "cpu")
        if on_gpu:
            functions["torch, CUDA graph"] = peers.torch_graph_mlp_epoch(x, y, batch)
    if importlib.util.find_spec("jax"):
        import jax

        functions[f"JAX on {jax.default_backend()}"] = peers.jax_mlp_epoch(x, y, batch)
    return functions


def arithmetic(samples):
    """Count the operations of an epoch's products: two for each weight and product, the first layer's one less."""
    return 2 * samples * (3 * sum(WEIGHTS) - WEIGHTS[0])


def overtakes(found, spec):
    """Return the least batch from which on the backend is faster than NumPy, or None."""
    least = None
    for row in reversed(found):
        if row["seconds"][f"xpnet on {spec}"] >= row["seconds"].get("xpnet on numpy", np.inf):
            break
        least = row["batch"]
    return least


def large_product(backend, n=4096, repeats=7):
    """Return the operations a second of one product of two square matrices in float32."""
    rng = np.random.default_rng(0)
    with backend.session("float32"):
        a, b = (backend.asarray(rng.random((n, n)), "float32") for _ in range(2))

        def product():
            _ = a @ b
            backend.synchronize()

        (seconds,) = take_turns([product], repeats)
    return 2 * n**3 / statistics.median(seconds)


def launches(epoch, steps):
    """Count the kernels that a step of any library launches, with torch's profiler; None without a GPU."""
    if not importlib.util.find_spec("torch"):
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    epoch()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        epoch()
    on_gpu = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum(not event.name.startswith(("Memcpy", "Memset")) for event in on_gpu) / steps


def draw(found, spec, where):
    """Draw time against the batch, a line for each library."""
    from matplotlib.figure import Figure

    from xpnet import plots

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    for name in found[0]["seconds"]:
        axis.loglog([r["batch"] for r in found], [1e3 * r["seconds"][name] for r in found], "o-", label=name)
    axis.set(xlabel="samples a batch", ylabel="ms an epoch", title=f"An epoch of mlp: {spec}")
    batches = [r["batch"] for r in found]
    axis.set_xticks(batches, [f"{batch:,}" for batch in batches], rotation=45)
    axis.minorticks_off()
    axis.legend()
    plots.save(figure, where)
