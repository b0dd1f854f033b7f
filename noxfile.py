"""Sessions: `nox` passes the tests and checks, `nox -s "tests(backend='torch')"` one of them, `nox -s docs` the site.

A change must pass the first and the last: see `.ci/run`.
"""

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "types", "tests", "mpi", "coverage", "examples"]
nox.options.reuse_existing_virtualenvs = True

PYPROJECT = nox.project.load_toml("pyproject.toml")

# What each backend needs beside the package. torch is pinned: on Linux the newest release brings gigabytes of CUDA
# libraries with it, and XPNET_TORCH can name another version, or a build for the CPU. XPNET_CUPY likewise names the
# CuPy for an older driver, or one that brings the CUDA toolkit along.
BACKENDS = {
    "numpy": [],
    "array_api_strict": [],
    "torch": [os.environ.get("XPNET_TORCH", "torch==2.13.0")],
    "jax": ["jax"],
    "cupy": [os.environ.get("XPNET_CUPY", "cupy-cuda13x")],
}

# The specs that a backend's session runs on.
SPECS = {"array_api_strict": "array_api_strict,array_api_strict:device1"}

# The backends whose tests together have to cover the package.
MEASURED = ("numpy", "array_api_strict")

# A test takes one core. Each process imports everything anew, so that more of them than these gain nothing. In NumPy's
# session some tests wait for a clock: there is room for one more.
PROCESSES = min(os.cpu_count() or 1, 4)

# NumPy's and torch's threads wait for each other on busy cores: one thread each is fastest for these sizes.
# Python keeps what it has compiled, wherever that was switched off: see `install`.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONDONTWRITEBYTECODE": ""}


def group(name: str) -> list[str]:
    return nox.project.dependency_groups(PYPROJECT, name)


def install(session: nox.Session, *requirements: str) -> None:
    # To compile all that is installed takes longer than to install it; Python compiles what is imported.
    session.install("--no-compile", *requirements)


def coverage_file(session: nox.Session, name: str) -> dict[str, str]:
    # The cache is the one folder that sessions share.
    return {"COVERAGE_FILE": str(Path(session.cache_dir).resolve() / f"coverage.{name}")}


def quick_jax(session: nox.Session) -> dict[str, str]:
    """Make JAX compile quickly, which is what its tests do most of the time: it keeps all programs, and tunes none."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(Path(session.cache_dir).resolve() / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }


@nox.session
@nox.parametrize("backend", list(BACKENDS))
def tests(session: nox.Session, backend: str) -> None:
    """Run the tests on one backend; in NumPy's session also those that need no backend, and the doctests."""
    # The session that also runs the tests without a backend compares with scikit-learn and onnxruntime.
    reference = [*group("reference"), *group("onnx")] if backend == "numpy" else []
    keras = group("keras") if backend in ("torch", "jax") else []
    install(session, ".", *group("test"), *BACKENDS[backend], *reference, *keras)
    session.run(
        "pytest",
        f"--backends={SPECS.get(backend, backend)}",
        f"--numprocesses={PROCESSES + (backend == 'numpy')}",
        "--dist=worksteal",
        *(["--doctest-modules"] if backend == "numpy" else ["--only-backends"]),
        # One session alone need not cover everything: the session `coverage` judges the sum.
        *(["--cov=xpnet", "--cov-report=", "--cov-fail-under=0"] if backend in MEASURED else []),
        *(session.posargs or (["tests", "--pyargs", "xpnet"] if backend == "numpy" else [])),
        env=ENVIRONMENT | coverage_file(session, backend) | quick_jax(session),
    )


@nox.session
def mpi(session: nox.Session) -> None:
    """Train on several ranks of MPI: on NumPy, with everything that may happen to a rank, and on each other library."""
    install(session, ".", *group("test"), *group("mpi"), *BACKENDS["torch"], *BACKENDS["jax"])
    where = session.posargs or ["tests/training/test_distributed.py"]
    session.run("pytest", "--backends=numpy,array_api_strict,torch,jax", "-m", "mpi", *where, env=ENVIRONMENT)


@nox.session
def coverage(session: nox.Session) -> None:
    """Add up what the tests on NumPy and array-api-strict have covered."""
    install(session, "coverage")
    total = coverage_file(session, "total")
    parts = [coverage_file(session, backend)["COVERAGE_FILE"] for backend in MEASURED]
    if missing := [part for part in parts if not Path(part).is_file()]:
        session.error(f"run the tests on {' and '.join(MEASURED)} first: there is no {', no '.join(missing)}")
    session.run("coverage", "combine", "--keep", *parts, env=total)
    session.run("coverage", "report", env=total)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    install(session, *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    install(session, ".", *group("types"))
    session.run("mypy")


@nox.session
def examples(session: nox.Session) -> None:
    """Run every example on the bundled digits."""
    install(session, ".", *group("examples"))
    for script in sorted(Path("examples").glob("*.py")):
        session.run("python", "-W", "error", str(script), "--quick", env=ENVIRONMENT | {"XPNET_OFFLINE": "1"})


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, executing its notebooks; warnings are errors."""
    # The pages show what each library says.
    install(session, ".", *group("docs"), *group("onnx"), *group("keras"), *BACKENDS["torch"], *BACKENDS["jax"])
    target = "docs/_build/html"
    how = ("-W", "--keep-going", "--jobs", "auto", "-b", "html")
    session.run("sphinx-build", *how, "docs", target, *session.posargs, env=ENVIRONMENT)
    session.run("python", "docs/check.py", target)


@nox.session(default=False)
def notebooks(session: nox.Session) -> None:
    """Write every page as a notebook out of the installed package, and run each of them from top to bottom."""
    install(session, ".", *group("docs"), *group("onnx"), *group("keras"), *BACKENDS["torch"], *BACKENDS["jax"])
    folder = Path(session.create_tmp())
    session.run("xpnet", "notebooks", str(folder))
    found = sorted(str(path) for path in folder.rglob("*.ipynb") if not session.posargs or path.stem in session.posargs)
    session.run("jupyter", "execute", "--timeout=300", *found, env=ENVIRONMENT | {"XPNET_OFFLINE": "1"})


@nox.session(default=False)
def tensorflow(session: nox.Session) -> None:
    """Run an exported Keras model on TensorFlow, whose packages are large."""
    install(session, ".", *group("test"), *group("keras"), "tensorflow-cpu")
    session.run("pytest", "tests/export/test_keras.py", "-k", "tensorflow", *session.posargs, env=ENVIRONMENT)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure speed against other libraries; `nox -s bench -- --quick` takes two minutes."""
    peers = {"torch", "jax"} | {name for name in BACKENDS if any(name in word for word in session.posargs)}
    install(session, ".", *group("reference"), *(package for name in sorted(peers) for package in BACKENDS[name]))
    session.run("python", "tests/benchmarks/run.py", *session.posargs)
