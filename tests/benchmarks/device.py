"""Measure a backend on its device over batch sizes, against torch and JAX there, and against NumPy.

    nox -s bench -- --backend cupy

An epoch of `mlp` in batches of 32 to 16,384: ours on the backend, ours on NumPy, torch in eager mode, torch with the
step captured as a CUDA graph, and JAX, where each is at hand. Beside the times: where the device overtakes NumPy, the
arithmetic a second against that of one large product on the same backend, and the kernels that a step launches.
"""

import importlib.util
import json
import os
import statistics

import numpy as np
import peers
from measuring import our_epoch, take_turns

import xpnet
from xpnet.host import kept_memory, thread_limit

BATCHES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
WEIGHTS = (784 * 100, 100 * 10)


def measure(spec, threads, about, data, repeats, where):
    """Measure and print what the top of this file tells of, and write it to the folder ``where`` if there is one."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes most of a GPU's memory
    backend = xpnet.get_backend(spec)
    print(f"{backend.spec} {backend.version} on {backend.device_name}")
    with thread_limit(threads), kept_memory():
        found = rows(data, backend.spec, repeats)
        product = large_product(backend)
        kernels = launches(our_epoch(data, 1024, backend.spec), -(-len(data.train_images) // 1024))
    least = overtakes(found, backend.spec)
    print(f"faster than NumPy from batches of {least} on; a large product does {product / 1e9:.0f} GFLOP/s")
    print(f"kernels a step: {'not counted without a GPU' if kernels is None else f'{kernels:.1f}'}")
    if where:
        where.mkdir(parents=True, exist_ok=True)
        about = about | {"backend": backend.spec, "version": backend.version, "device": backend.device_name}
        document = {"machine": about, "dataset": data.name, "rows": found, "large_product": product, "kernels": kernels}
        (where / "device.json").write_text(json.dumps(document, indent=2) + "\n")
        draw(found, backend.spec, where / "device.png")


def rows(data, spec, repeats):
    """Return a row for each size of batch, and print it."""
    found = []
    for batch in BATCHES:
        if batch > len(data.train_images):
            break
        functions = contestants(data, spec, batch)
        times = take_turns(list(functions.values()), repeats)
        medians = {name: statistics.median(seconds) for name, seconds in zip(functions, times, strict=True)}
        rate = arithmetic(len(data.train_images)) / medians[f"xpnet on {spec}"]
        found.append({"batch": batch, "seconds": medians, "flops": rate})
        print(
            f"batch {batch:>6}  {rate / 1e9:8.1f} GFLOP/s",
            *(f"{k} {1e3 * v:.1f} ms" for k, v in medians.items()),
            sep="  ",
        )
    return found


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
    """Count the kernels that a step launches, of whichever library, with torch's profiler; None without a GPU."""
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
