# /// script
# dependencies = ["nox[uv]>=2025.2"]
# ///
"""Sessions: `nox -s quick` while you work, `nox` for every backend and all checks, `nox -s docs` for the site.

`nox -s thorough` runs the tests that take long and rarely fail, on every backend; `nox` leaves them out.

`nox -s "tests(backend='torch')"` tests one backend. `nox --list` shows every session. `.ci/run` runs the sessions that
a change must pass.
"""

import os
import platform
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.reuse_existing_virtualenvs = True

# If uv is installed, it fills an environment in seconds. It does not read pip's variables, and it stops at the first
# index that has a package, while pip takes the best version from any.
nox.options.default_venv_backend = "uv|virtualenv"
os.environ.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
for pips, uvs, between in (
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", " "),
    ("PIP_EXTRA_INDEX_URL", "UV_INDEX", " "),
    ("PIP_FIND_LINKS", "UV_FIND_LINKS", ","),
    ("PIP_CERT", "SSL_CERT_FILE", " "),
):
    if given := os.environ.get(pips):
        os.environ.setdefault(uvs, between.join(given.split()))

PYPROJECT = nox.project.load_toml("pyproject.toml")

WINDOWS, MAC = sys.platform == "win32", sys.platform == "darwin"

# The requirements of each backend. torch is pinned, because on Linux the newest release brings gigabytes of CUDA
# libraries; XPNET_TORCH can name another version, or a build for the CPU. XPNET_CUPY can name a CuPy for an older
# driver, or one that includes the CUDA toolkit.
BACKENDS = {
    "numpy": [],
    "array_api_strict": [],
    "torch": [os.environ.get("XPNET_TORCH", "torch==2.13.0")],
    "jax": ["jax"],
}
if not MAC:  # neither CuPy nor dpnp supports it
    BACKENDS["cupy"] = [os.environ.get("XPNET_CUPY", "cupy-cuda13x")]
if not MAC and platform.machine().lower() in ("x86_64", "amd64"):
    BACKENDS["dpnp"] = ["dpnp", "intel-opencl-rt"]  # the second makes any such CPU a device

# CuPy's session installs and uses this stand-in if it lies beside the repository and there is no GPU.
STAND_IN = Path("../shared/cupy-on-cpu/setup").resolve()

# The specs that a backend's session runs on.
SPECS = {"array_api_strict": "array_api_strict,array_api_strict:device1"}

# The backends whose tests together have to cover the package. Measuring that almost doubles the time of the tests, so
# only `.ci/run` asks for it.
MEASURED = ("numpy", "array_api_strict") if os.environ.get("XPNET_COVERAGE") else ()

# A test takes one core. Each process imports everything anew, so more processes than these gain nothing. In NumPy's
# session some tests wait for a clock, so there is room for one more.
PROCESSES = min(os.cpu_count() or 1, 4)

SPREAD = (f"--numprocesses={PROCESSES}", "--dist=worksteal")

# Tests that take seconds or need an MPI run in other sessions.
FAST = ("-m", "not slow and not thorough and not mpi")

# NumPy's and torch's threads wait for each other on busy cores, so one thread each is fastest for these sizes.
# Python must be allowed to write compiled files, even where that was switched off; see `install`.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONDONTWRITEBYTECODE": ""}


def group(name: str) -> list[str]:
    return nox.project.dependency_groups(PYPROJECT, name)


def install(session: nox.Session, *requirements: str) -> None:
    # Compiling all installed files takes longer than installing them; Python compiles them when they are imported.
    session.install("--no-compile", *requirements)


def coverage_file(session: nox.Session, name: str) -> dict[str, str]:
    # The cache is the only folder that sessions share.
    return {"COVERAGE_FILE": str(Path(session.cache_dir).resolve() / f"coverage.{name}")}


def quick_jax(session: nox.Session) -> dict[str, str]:
    """Make JAX compile quickly, because its tests mostly compile: cache all programs, optimize none."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(Path(session.cache_dir).resolve() / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }


def opencl(session: nox.Session) -> dict[str, str]:
    """Name the OpenCL device that was installed with dpnp, if any, because the system does not know it."""
    runtime = "intelocl64.dll" if WINDOWS else "libintelocl.so"
    found = sorted(Path(session.virtualenv.location).resolve().rglob(runtime))
    return {"OCL_ICD_FILENAMES": str(found[0])} if found else {}


def tests_on_the_stand_in(session: nox.Session) -> None:
    """Run the tests with CuPy on the CPU, on a CUDA driver in host memory.

    They run on the second of two devices that cannot access each other's memory, so a kernel that runs on the first one
    by mistake fails. The first run compiles about 200 kernels, which takes minutes; later runs reuse them.
    """
    install(session, ".", "pip", *group("test"), "cupy-cuda13x==14.2.0")  # the stand-in's installer uses pip
    place = Path(session.virtualenv.location).resolve()
    if not (place / "bin" / "cupy-on-cpu").is_file():
        session.run(str(STAND_IN), str(place), external=True)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cupy-on-cpu"
    stand_in = {"CUPY_ON_CPU_CACHE": str(cache), "FAKE_CUDA_DEVICES": "2"}
    how = ("-m", "not thorough", "--backends=cupy:1", "--only-backends", *SPREAD)
    session.run("cupy-on-cpu", "pytest", *how, *(session.posargs or ["tests"]), env=ENVIRONMENT | stand_in)


@nox.session
@nox.parametrize("backend", list(BACKENDS))
def tests(session: nox.Session, backend: str) -> None:
    """Run the tests on one backend; NumPy's session also runs the tests that need no backend, and the doctests."""
    if backend == "cupy" and STAND_IN.is_file() and not shutil.which("nvidia-smi"):
        tests_on_the_stand_in(session)
        return
    # The tests without a backend compare with scikit-learn and onnxruntime.
    reference = [*group("reference"), *group("onnx"), *group("arrays")] if backend == "numpy" else []
    keras = group("keras") if backend in ("torch", "jax") else []
    install(session, ".", *group("test"), *BACKENDS[backend], *reference, *keras)
    # A single session need not cover everything; the session `coverage` checks the sum. A few tests say nothing of it.
    whole = backend in MEASURED and not session.posargs
    measured = ["--cov=xpnet", "--cov-report=", "--cov-fail-under=0"] if whole else []
    session.run(
        "pytest",
        "-m",
        "not thorough",
        f"--backends={SPECS.get(backend, backend)}",
        f"--numprocesses={PROCESSES + (backend == 'numpy')}",
        "--dist=worksteal",
        *(["--doctest-modules"] if backend == "numpy" else ["--only-backends"]),
        *measured,
        *(session.posargs or (["tests", "--pyargs", "xpnet"] if backend == "numpy" else [])),
        env=ENVIRONMENT | coverage_file(session, backend) | quick_jax(session) | opencl(session),
    )


@nox.session(default=False)
def quick(session: nox.Session) -> None:
    """Run the fast tests on NumPy and array-api-strict, in a minute or two."""
    install(session, "-e", ".", *group("test"), *group("reference"))
    where = session.posargs or ["tests"]
    session.run("pytest", *FAST, "--backends=numpy,array_api_strict", *SPREAD, *where, env=ENVIRONMENT)


@nox.session(default=False, venv_backend="none")
def thorough(session: nox.Session) -> None:
    """Run, on every backend, the tests that take long and rarely find anything, which the other sessions leave out."""
    # In the environments of those sessions. Tests of one group share trained networks, so they stay in one process.
    for backend in BACKENDS:
        session.notify(f"tests(backend='{backend}')", ["-m", "thorough and not mpi", "--dist=loadgroup", "tests"])
    if not WINDOWS:
        session.notify("mpi", ["-m", "mpi and thorough", "tests/training/test_distributed.py"])


@nox.session(default=False, python="3.11")
def lowest(session: nox.Session) -> None:
    """Run fast tests on the oldest Python and the lowest declared versions of all packages except torch.

    The oldest torch comes with gigabytes of CUDA libraries.
    """
    extras = PYPROJECT["project"]["optional-dependencies"]
    optional = [requirement for name in ("jax", "onnx", "keras", "tune", "mpi") for requirement in extras[name]]
    declared = [*PYPROJECT["project"]["dependencies"], *optional, *group("test"), *group("reference"), *group("onnx")]
    install(session, ".", *(requirement.replace(">=", "==") for requirement in declared))
    # Old versions warn about changes in newer versions of their own dependencies.
    how = (*FAST, "-W", "ignore::DeprecationWarning", *SPREAD)
    rooms = ("backends", "data", "export", "nn", "plots", "runs", "training", "test_cli.py", "test_sklearn.py")
    where = session.posargs or [f"tests/{room}" for room in rooms]
    session.run("pytest", *how, "--backends=numpy", *where, env=ENVIRONMENT)
    few = session.posargs or ["tests/backends", "tests/nn/test_network.py", "tests/training/test_step.py"]
    # There also what takes long `elsewhere`.
    others = ("-m", "not slow and not mpi", "--backends=array_api_strict,jax", "--only-backends")
    session.run("pytest", *how, *others, *few, env=ENVIRONMENT | quick_jax(session))


@nox.session(default=not WINDOWS)  # mpich does not support it
def mpi(session: nox.Session) -> None:
    """Train on several MPI ranks: on NumPy, with everything that may happen to a rank, and on the other libraries."""
    install(session, ".", *group("test"), *group("mpi"), *BACKENDS["torch"], *BACKENDS["jax"])
    where = session.posargs or ["tests/training/test_distributed.py"]
    session.run(
        "pytest",
        "--backends=numpy,array_api_strict,torch,jax",
        "-m",
        "mpi and not thorough",
        *SPREAD,
        *where,
        env=ENVIRONMENT,
    )


@nox.session(default=bool(MEASURED))
def coverage(session: nox.Session) -> None:
    """Add up the coverage of the tests on NumPy and array-api-strict, which they measure if XPNET_COVERAGE is set."""
    if not MEASURED:
        session.error("set XPNET_COVERAGE=1, and run the tests on numpy and array_api_strict first")
    install(session, "coverage")
    total = coverage_file(session, "total")
    parts = [coverage_file(session, backend)["COVERAGE_FILE"] for backend in MEASURED]
    if missing := [part for part in parts if not Path(part).is_file()]:
        session.error(f"run the tests on {' and '.join(MEASURED)} first: there is no {', no '.join(missing)}")
    session.run("coverage", "combine", "--keep", *parts, env=total)
    session.run("coverage", "report", env=total)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and spelling."""
    install(session, *group("lint"))
    session.run("codespell")
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


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the site, executing its notebooks; warnings are errors."""
    # The pages show the output of each library.
    install(
        session,
        ".",
        *group("docs"),
        *group("reference"),
        *group("onnx"),
        *group("keras"),
        *BACKENDS["torch"],
        *BACKENDS["jax"],
    )
    target = "docs/_build/html"
    how = ("-W", "--keep-going", "--jobs", "auto", "-b", "html")
    session.run("sphinx-build", *how, "docs", target, *session.posargs, env=ENVIRONMENT)
    session.run("python", "docs/check.py", target)


@nox.session(default=False)
def notebooks(session: nox.Session) -> None:
    """Write every page as a notebook from the installed package, and run each of them from top to bottom."""
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
def package(session: nox.Session) -> None:
    """Build the published files, check them, and run tests of what is in them from the unpacked source archive."""
    install(session, "uv", *group("package"), *group("test"), *group("reference"))
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--installer", "uv")
    (wheel,), (archive,) = Path("dist").glob("*.whl"), Path("dist").glob("*.tar.gz")
    session.run("twine", "check", "--strict", str(wheel), str(archive))
    session.run("check-wheel-contents", str(wheel))
    session.run("check-manifest")
    session.run("validate-pyproject", "pyproject.toml")
    session.run("cffconvert", "--validate", "--infile", "docs/CITATION.cff")
    session.run("zizmor", "--offline", ".github")
    install(session, "--force-reinstall", str(wheel))
    session.run("python", "-m", "tarfile", "--extract", str(archive), session.create_tmp())
    with session.chdir(Path(session.create_tmp()) / archive.name.removesuffix(".tar.gz")):
        rooms = ("tests/test_public.py", "tests/test_house.py", "tests/test_cli.py", "tests/data")
        session.run("pytest", *FAST, "--backends=numpy", *SPREAD, *(session.posargs or rooms), env=ENVIRONMENT)


@nox.session(default=False)
def links(session: nox.Session) -> None:
    """Follow the site's links to other sites; needs the internet."""
    install(session, ".", *group("docs"), *group("reference"))
    session.run("sphinx-build", "-b", "linkcheck", "-D", "nb_execution_mode=off", "docs", "docs/_build/links")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure speed against other libraries; `nox -s bench -- --quick` takes two minutes."""
    peers = {"torch", "jax"} | {name for name in BACKENDS if any(name in word for word in session.posargs)}
    groups = [*group("reference"), *group("mpi")]
    install(session, ".", *groups, *(package for name in sorted(peers) for package in BACKENDS[name]))
    session.run("python", "tests/benchmarks/run.py", *session.posargs)


if __name__ == "__main__":
    nox.main()
