"""Everything that is worth knowing of a GPU that is at hand for the first time, in one call of ten minutes.

    python tests/benchmarks/first_run.py --output found

What is here; the tests on CuPy, the graphs against the eager loop among them; every recipe on each library that reaches
the GPU, with how far it agrees with NumPy; and the measurements of `device.py`. Each step has a time limit of its own
and keeps all that it prints in a file of its name. `summary.json` is written after each of them.

Beside the repository it needs pytest, pytest-xdist, pytest-timeout, hypothesis and array-api-strict, and MNIST in the
folder that XPNET_DATA_DIR names. Nothing is downloaded.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import xpnet

ROOT = Path(__file__).parents[2]
GPUS = ("cupy", "torch:cuda", "jax")


def steps(options):
    """Yield the name of each step, its seconds, and its command."""
    python, few = sys.executable, [] if options.samples is None else ["--samples", str(options.samples)]
    quick = [] if options.samples is None else ["--train-samples", str(options.samples)]
    yield "machine", 60, [python, "-m", "xpnet", "backends"]
    how = ["--backends=cupy", "--only-backends", f"--numprocesses={options.processes}", "--dist=worksteal"]
    marks = ["-m", "not slow and not thorough" if options.samples else "not thorough"]
    yield (
        "tests",
        180,
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=8", *how, *marks, *options.tests],
    )
    found = [spec for spec in GPUS if usable(spec)]
    for recipe in ("mlp", "deep", "cnn", "best"):
        names = ",".join(["numpy", *found] if recipe == "mlp" else found)
        command = [python, "-m", "xpnet", "compare", "--recipe", recipe, "--epochs", "3", "--backends", names]
        yield f"compare-{recipe}", 90, [*command, *quick]
    for spec in found[:2]:
        command = [python, str(ROOT / "tests/benchmarks/run.py"), "--backend", spec, "--quick", *few]
        yield (
            f"device-{spec.partition(':')[0]}",
            150,
            [*command, "--limit", "120", "--output", str(options.output / spec.partition(":")[0])],
        )


def usable(spec):
    """Say whether a spec can be opened here, and is on a GPU."""
    try:
        return "cpu" not in str(xpnet.get_backend(spec).device).lower()
    except xpnet.BackendError:
        return False


def run(name, seconds, command, options):
    """Run a step, keep what it prints, and return how it ended."""
    start = time.monotonic()
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "XPNET_OFFLINE": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with (options.output / f"{name}.txt").open("w") as log:
        try:
            how = {"stdout": log, "stderr": subprocess.STDOUT, "timeout": seconds, "cwd": ROOT, "env": environment}
            code = subprocess.run(command, check=False, **how).returncode
        except subprocess.TimeoutExpired:
            code = "time is over"
    tail = (options.output / f"{name}.txt").read_text(errors="replace").splitlines()[-6:]
    print(f"{name}: {code} after {time.monotonic() - start:.0f} s", *tail, sep="\n    ", flush=True)
    return {"step": name, "ended": code, "seconds": round(time.monotonic() - start, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=570, help="seconds; no step begins after that")
    parser.add_argument("--processes", type=int, default=min(os.cpu_count() or 1, 8), help="for the tests")
    parser.add_argument("--samples", type=int, help="only so many training images, to rehearse")
    parser.add_argument("--tests", nargs="*", default=["tests"])
    options = parser.parse_args()
    options.output = options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    end, done = time.monotonic() + options.limit, []
    for name, seconds, command in steps(options):
        left = end - time.monotonic()
        if left > 0:
            done.append(run(name, min(seconds, left), command, options))
            (options.output / "summary.json").write_text(json.dumps(done, indent=2) + "\n")


if __name__ == "__main__":
    main()
