"""Sessions: `nox` runs all that a change must pass, `nox -s "tests(backend='torch')"` one of them."""

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "types", "tests", "coverage", "examples", "docs"]
nox.options.reuse_existing_virtualenvs = True

PYPROJECT = nox.project.load_toml("pyproject.toml")

# What each backend needs beside the package. torch is pinned: on Linux the newest release brings gigabytes of CUDA
# libraries with it, and XPNET_TORCH can name another version, or a build for the CPU.
BACKENDS = {
    "numpy": [],
    "array_api_strict": [],
    "torch": [os.environ.get("XPNET_TORCH", "torch==2.13.0")],
    "jax": ["jax"],
    "cupy": ["cupy-cuda13x"],
}

# The specs that a backend's session runs on.
SPECS = {"array_api_strict": "array_api_strict,array_api_strict:device1"}

# NumPy's and torch's threads wait for each other on busy cores: one thread each is fastest for these sizes.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}


def group(name: str) -> list[str]:
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session
@nox.parametrize("backend", list(BACKENDS))
def tests(session: nox.Session, backend: str) -> None:
    """Run the tests on one backend; in the session of NumPy also those that need no backend."""
    reference = [*group("reference"), *BACKENDS["torch"]] if backend == "torch" else []
    if backend == "numpy":
        reference = group("reference")
    session.install(".", *group("test"), *BACKENDS[backend], *reference)
    measure = backend in ("numpy", "array_api_strict")
    data = Path(session.create_tmp()).resolve() / f".coverage.{backend}"
    session.run(
        "pytest",
        f"--backends={SPECS.get(backend, backend)}",
        *([] if backend == "numpy" else ["--only-backends"]),
        *(["--cov=xpnet", "--cov-report="] if measure else []),
        *session.posargs,
        env=ENVIRONMENT | {"COVERAGE_FILE": str(data)},
    )


@nox.session
def coverage(session: nox.Session) -> None:
    """Add up what the tests on NumPy and array-api-strict have covered."""
    session.install("coverage[toml]")
    parts = sorted(str(path) for path in Path(session.cache_dir).glob("*/tmp/.coverage.*"))
    if not parts:
        session.skip("no test session has left anything to add up")
    session.run(
        "coverage",
        "combine",
        "--keep",
        *parts,
        env={"COVERAGE_FILE": str(Path(session.create_tmp()) / "all")},
    )
    session.run("coverage", "report", env={"COVERAGE_FILE": str(Path(session.create_tmp()) / "all")})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.install(".", *group("types"))
    session.run("mypy")


@nox.session
def examples(session: nox.Session) -> None:
    """Run every example on the bundled digits."""
    session.install(".", *group("examples"))
    for script in sorted(Path("examples").glob("*.py")):
        session.run("python", "-W", "error", str(script), "--quick", env=ENVIRONMENT | {"XPNET_OFFLINE": "1"})


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, executing its notebooks; warnings are errors."""
    session.install(".", *group("docs"))
    target = "docs/_build/html"
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", target, *session.posargs, env=ENVIRONMENT)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure speed against other libraries; `nox -s bench -- --quick` takes two minutes."""
    session.install(".", *group("reference"), *BACKENDS["torch"], *BACKENDS["jax"])
    session.run("python", "tests/benchmarks/run.py", *session.posargs)
