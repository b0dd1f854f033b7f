"""Work for the processes of an MPI job: ``mpiexec -n 3 python ranks.py TASK FOLDER [JSON]``.

Each rank writes its results to its own file, for a test to compare.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

import xpnet
from runs import rows
from xpnet import recipes
from xpnet.training import train


def save(run, path):
    np.savez(path, **run.network.named_arrays())
    path.with_suffix(".json").write_text(json.dumps(rows(run.history)))


def rank():
    from mpi4py import MPI

    return MPI.COMM_WORLD.rank


def curves(folder, works):
    """Train by recipes, one after the other."""
    for name, settings in works.items():
        run = xpnet.train(**settings, dataset="digits", progress=False, distributed="mpi")
        save(run, folder / f"{name}-{rank()}.npz")


def long(folder, settings):
    """Write the process's number, so that a test can kill it, and train for long."""
    (folder / f"pid-{rank()}").write_text(str(os.getpid()))
    run = xpnet.train(**settings, dataset="digits", progress=False, distributed="mpi", output_dir=folder / "run")
    save(run, folder / f"end-{rank()}.npz")


def differ(folder, settings):
    """Let one rank have other settings."""
    xpnet.train(**settings[min(rank(), len(settings) - 1)], progress=False, distributed="mpi")


def fail(folder, where):
    """Let one rank raise: before the training, while the others go ahead; or in the middle of it."""

    def callback(record):
        if (where, record.epoch, rank()) == ("callback", 1, 1):
            raise RuntimeError("rank 1 has no memory left")

    def no_network(data, *, epochs):
        raise RuntimeError("rank 1 has no network")

    if where == "settings" and rank() == 1:
        xpnet.train("mlp", epochs=-1, distributed="mpi")
    if where == "start" and rank() == 1:
        recipes.RECIPES["mlp"] = recipes.Recipe("mlp", no_network)
    xpnet.train("mlp", dataset="digits", epochs=5, progress=False, distributed="mpi", callbacks=[callback])


def once(folder, settings):
    """Leave a file for each process that loads the data."""
    load = train.load_dataset

    def counted(*args, **more):
        (folder / f"loaded-{os.getpid()}").touch()
        return load(*args, **more)

    train.load_dataset = counted
    xpnet.train("mlp", dataset="digits", epochs=1, progress=False, distributed="mpi")


if __name__ == "__main__":
    task, folder, *more = sys.argv[1:]
    globals()[task](Path(folder), json.loads(more[0]) if more else None)
