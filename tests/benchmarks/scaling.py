"""Measure how training on MPI ranks scales, fit a model to it, and draw that out to more ranks than there are here.

    OMP_NUM_THREADS=1 python tests/benchmarks/scaling.py --output DIR

Starts itself under mpiexec on 1, 2 and 4 ranks. Prints a table, and writes everything as JSON and as a picture. Up to
as many ranks as there are processors the times are those of a machine that does nothing else; beyond, ranks take
turns on a processor, and the figures only show that it works.

The model of a step on p ranks, for a batch of B samples and sums of m bytes:

    draw B + fixed + sample B / p + (2 log2(p) latency + 2 (p - 1) / p m / bandwidth) + messages 2 log2(p) latency

Drawing the permutation and the noise is done by every rank for the whole batch; `fixed` is what a step costs however
few its samples, such as the optimizer's update; then the samples of the share; then the all-reduce, as in Thakur,
Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH", 2005: a reduce-scatter and an
all-gather; and the short messages of batch normalization, three a layer.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
from measuring import launch, loop_of, machine, made_up

import xpnet
from xpnet.backends import installed_version
from xpnet.host import kept_memory
from xpnet.training.distributed import MPIRanks, get_ranks

NETWORKS = {
    "mlp": ([xpnet.Dense(100), xpnet.ReLU(), xpnet.Dropout(0.2), xpnet.Dense(10)], 0),
    "deep": (
        [
            *[xpnet.Dense(512, bias=False), xpnet.BatchNorm(), xpnet.ReLU(), xpnet.Dropout(0.3)],
            *[xpnet.Dense(512, bias=False), xpnet.BatchNorm(), xpnet.ReLU(), xpnet.Dropout(0.3)],
            *[xpnet.Dense(256, bias=False), xpnet.BatchNorm(), xpnet.ReLU(), xpnet.Dropout(0.3)],
            xpnet.Dense(10),
        ],
        3,
    ),
}
BATCHES = (16, 64, 128, 256, 512, 1024)
WIDTHS = (10, 30, 100, 300, 1000, 3000)
COUNTS = (1, 2, 4)


class TimedRanks(MPIRanks):
    """Ranks that note how long they talk, and wait for each other."""

    seconds = 0.0

    def _add_in_place(self, buffer):
        start = time.perf_counter()
        super()._add_in_place(buffer)
        self.seconds += time.perf_counter() - start


def steps(ranks, layers, batch, seconds=0.3):
    """Time training steps: the slowest rank, in the epoch in which it was fastest, in seconds a step."""
    data = made_up(max(2 * batch, 1024))
    loop = loop_of(layers, data, batch, ranks.open_backend("numpy"), ranks)
    progress, rows, epoch, begin = loop.start().progress, [], 0, None
    with kept_memory():
        while begin is None or epoch < 4 or not ranks.any(time.perf_counter() - begin > seconds):
            ranks.comm.Barrier()
            ranks.seconds = 0.0
            start = time.perf_counter()
            progress = loop.train(progress, epoch)
            whole, talk = time.perf_counter() - start, ranks.seconds
            start = time.perf_counter()
            loop.epoch_parts(epoch + 1)
            draw = time.perf_counter() - start
            rows.append(ranks.comm.allgather((whole, talk, draw)))
            begin, epoch = begin or time.perf_counter(), epoch + 1
    times = np.asarray(rows[1:]) / loop.steps
    # Other programs can only make an epoch longer.
    best = np.argmin(times[:, :, 0].max(axis=1))
    whole, talk, draw = times[best, :, 0].max(), times[best, :, 1].mean(), times[:, :, 2].max(axis=1).min()
    return {"batch": batch, "parameters": loop.step.network.size, "step": whole, "all_reduce": talk, "draw": draw}


def messages(ranks):
    """Time the all-reduce of float32 buffers by itself, in seconds."""
    rows = []
    for exponent in range(2, 24):
        buffer, times = np.ones(2**exponent // 4 or 1, np.float32), []
        for _ in range(max(8, min(400, 2**24 // 2**exponent))):
            ranks.comm.Barrier()
            start = time.perf_counter()
            ranks._add_in_place(buffer)
            times.append(time.perf_counter() - start)
            buffer[...] = 1.0
        rows.append({"bytes": buffer.nbytes, "seconds": statistics.median(times)})
    return rows


def work():
    """The work of each rank."""
    joined = get_ranks("mpi")
    ranks = TimedRanks(joined.comm, joined.machine)
    found = {"steps": {}, "messages": messages(ranks) if ranks.size > 1 else [], "widths": []}
    for name, (layers, _) in NETWORKS.items():
        # More ranks than processors say nothing about speed.
        wanted = BATCHES if ranks.size <= (os.cpu_count() or 1) else (128, 128 * ranks.size)
        found["steps"][name] = [steps(ranks, layers, batch) for batch in wanted]
    if ranks.size == 2:
        for width in WIDTHS:
            layers = [xpnet.Dense(width), xpnet.ReLU(), xpnet.Dropout(0.2), xpnet.Dense(10)]
            found["widths"].append(steps(ranks, layers, 128))
    if ranks.first:
        from mpi4py import MPI

        print(json.dumps(found | {"mpi": " ".join(MPI.Get_library_version().splitlines()[0].split())}))


# The model --------------------------------------------------------------------------------------------------------


def fit_messages(rows):
    """Fit latency and bandwidth to the all-reduce on two ranks, each measurement weighted by its own size."""
    size, seconds = (np.asarray([row[name] for row in rows], float) for name in ("bytes", "seconds"))
    design = np.stack([2.0 * np.ones_like(size), size], axis=1) / seconds[:, None]
    latency, per_byte = np.linalg.lstsq(design, np.ones_like(size), rcond=None)[0]
    return float(latency), float(1.0 / per_byte)


def fit_steps(rows):
    """Fit what a step costs on one rank: by itself, a sample, and a sample's draws."""
    batch, step, draw = (np.asarray([row[name] for row in rows]) for name in ("batch", "step", "draw"))
    rest = step - draw
    design = np.stack([np.ones(len(batch)), batch], axis=1) / rest[:, None]
    fixed, sample = np.linalg.lstsq(design, np.ones(len(batch)), rcond=None)[0]
    return {"fixed": float(fixed), "sample": float(sample), "draw": float(np.median(draw / batch))}


def predict(cost, latency, bandwidth, parameters, norms, batch, ranks):
    """Predict the seconds of a step."""
    rounds = np.log2(ranks)
    size = 4.0 * (parameters + 3)
    talk = 2.0 * rounds * latency * (1 + 3 * norms) + 2.0 * (ranks - 1) / ranks * size / bandwidth
    return cost["draw"] * batch + cost["fixed"] + cost["sample"] * batch / ranks + talk


def draw(document, where):
    from matplotlib.figure import Figure

    from xpnet import plots

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    rows, (latency, bandwidth) = document["ranks"]["2"]["messages"], document["network"].values()
    size = np.asarray([row["bytes"] for row in rows])
    left.loglog(size, [1e6 * row["seconds"] for row in rows], "o", color="#0072B2", label="measured, 2 ranks")
    left.loglog(size, 1e6 * (2 * latency + size / bandwidth), color="black", label="model")
    left.set(title="One all-reduce", xlabel="bytes", ylabel="microseconds")
    left.legend()
    rows = document["ranks"]["2"]["widths"]
    share = [100 * row["all_reduce"] / row["step"] for row in rows]
    middle.semilogx([row["parameters"] for row in rows], share, "o-", color="#0072B2")
    middle.set(title="Share of the all-reduce in a step", xlabel="parameters", ylabel="percent, measured on 2 ranks")
    middle.set_ylim(0, None)
    counts = 2.0 ** np.arange(11)
    for name, color in (("mlp", "#0072B2"), ("deep", "#D55E00")):
        model = document["model"][name]
        for batch, style in ((1024, "-"), (65536, "--")):
            one = predict(**model, batch=batch, ranks=1.0, latency=latency, bandwidth=bandwidth)
            many = predict(**model, batch=batch, ranks=counts, latency=latency, bandwidth=bandwidth)
            right.loglog(counts, one / many, style, color=color, label=f"{name}, batch {batch:,}, projected")
        measured = [
            [row["step"] for row in document["ranks"][n]["steps"][name] if row["batch"] == 1024] for n in ("1", "2")
        ]
        right.loglog([1, 2], [1, measured[0][0] / measured[1][0]], "o", color=color, label=f"{name}, measured")
    right.loglog(counts, counts, ":", color="black", label="ideal")
    right.set(title="The same batch on more ranks", xlabel="ranks", ylabel="times as fast")
    right.legend(fontsize=7)
    plots.save(figure, where)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    if options.rank:
        work()
        return
    about = machine() | {"threads": os.environ.get("OMP_NUM_THREADS"), "mpi4py": installed_version(["mpi4py"])}
    found = {str(count): launch(count, __file__, "--rank") for count in COUNTS}
    latency, bandwidth = fit_messages(found["2"]["messages"])
    document = {"machine": about, "ranks": found, "network": {"latency": latency, "bandwidth": bandwidth}, "model": {}}
    print(json.dumps(about), found["1"]["mpi"], sep="\n")
    print(f"latency {1e6 * latency:.2f} us a message, bandwidth {bandwidth / 1e9:.2f} GB/s")
    for name, (_, norms) in NETWORKS.items():
        rows = found["1"]["steps"][name]
        cost = fit_steps(rows)
        document["model"][name] = {"cost": cost, "parameters": rows[0]["parameters"], "norms": norms}
        print(name, {key: f"{1e6 * value:.2f} us" for key, value in cost.items()})
        for count in COUNTS:
            for row in found[str(count)]["steps"][name]:
                model = document["model"][name] | {"latency": latency, "bandwidth": bandwidth}
                guess = predict(**model, batch=row["batch"], ranks=float(count))
                print(
                    f"{name:<5} {count} ranks, batch {row['batch']:>5}: {1e6 * row['step']:>9.0f} us a step "
                    f"(model {1e6 * guess:>9.0f}), all-reduce {100 * row['all_reduce'] / row['step']:>3.0f}%"
                )
    for row in found["2"]["widths"]:
        print(
            f"2 ranks, batch 128, {row['parameters']:>9,} parameters: {1e6 * row['step']:>8.0f} us a step, "
            f"all-reduce {100 * row['all_reduce'] / row['step']:.0f}%"
        )
    for name, model in document["model"].items():
        for batch in (1024, 65536):
            times = {
                p: predict(**model, batch=batch, ranks=float(p), latency=latency, bandwidth=bandwidth)
                for p in (1, 4, 16, 64, 256, 1024)
            }
            print(name, f"batch {batch}, projected:", {p: f"{times[1] / t:.1f}x" for p, t in times.items()})
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "scaling.json").write_text(json.dumps(document, indent=2) + "\n")
        draw(document, options.output / "scaling.png")


if __name__ == "__main__":
    main()
