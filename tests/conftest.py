"""The backend matrix, and shared fixtures."""

import dataclasses
import functools
import os
import re
import signal
from pathlib import Path

import pytest

import xpnet

# Assertions in shared helpers should explain a failure as those in tests do.
pytest.register_assert_rewrite("runs")

# These are programs, not tests, and doctest would import their additional libraries.
collect_ignore = ["benchmarks", "fuzz", "mutants"]

DEFAULT = "numpy,array_api_strict,array_api_strict:device1"


def pytest_addoption(parser):
    parser.addoption("--backends", default=os.environ.get("XPNET_TEST_BACKENDS", DEFAULT), help="with commas")
    parser.addoption("--only-backends", action="store_true", help="leave out tests that need no backend")


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        specs = metafunc.config.getoption("--backends").split(",")
        if "torch" in metafunc.fixturenames:  # compare NumPy with torch too, where it is installed
            specs = list(dict.fromkeys(["numpy", *specs]))
        metafunc.parametrize("backend", [_parameter(spec) for spec in specs], indirect=True)


def _parameter(spec):
    try:
        xpnet.get_backend(spec)
    except xpnet.BackendError as error:
        return pytest.param(spec, marks=pytest.mark.skip(reason=str(error)))
    return pytest.param(spec)


NEEDS_BACKEND = re.compile(r"^ *def \w+\((?:[^)]*\W)?(?:backend|torch)\b|mark\.library", re.MULTILINE)


def pytest_ignore_collect(collection_path, config):
    """With ``--only-backends``, leave out files in which no test would remain: importing them all takes seconds."""
    if config.getoption("--only-backends") and collection_path.match("test_*.py"):
        return not NEEDS_BACKEND.search(collection_path.read_text(encoding="utf-8")) or None
    return None


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by their markers
def pytest_collection_modifyitems(config, items):
    """Add what ``elsewhere`` means; with ``--only-backends``, deselect tests that NumPy's session runs.

    Those marked ``library`` remain.
    """
    for item in items:
        if item.get_closest_marker("elsewhere") and item.callspec.params["backend"] != "numpy":
            item.add_marker("thorough")
    if config.getoption("--only-backends"):
        unneeded = [
            item
            for item in items
            if not {"backend", "torch"} & set(item.fixturenames) and not item.get_closest_marker("library")
        ]
        config.hook.pytest_deselected(items=unneeded)
        items[:] = [item for item in items if item not in unneeded]


def pytest_configure(config):
    config.addinivalue_line("markers", "library: run in the session of every library, though it uses no backend")
    config.addinivalue_line("markers", "mpi: starts ranks with mpiexec")
    config.addinivalue_line("markers", "slow: takes seconds; left out by `nox -s quick`")
    config.addinivalue_line("markers", "thorough: takes long and rarely finds anything; `nox -s thorough` runs it")
    config.addinivalue_line("markers", "elsewhere: thorough on every backend but NumPy, where it compiles for seconds")


@pytest.fixture
def backend(request):
    """A backend in a float64 session; tests name backends without float64 where that matters."""
    opened = xpnet.get_backend(request.param)
    with opened.session("float64"):
        yield opened


@pytest.fixture
def torch():
    """PyTorch, to compare with, in its own session."""
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def digits():
    return xpnet.load_dataset("digits")


@pytest.fixture(scope="session")
def few(digits):
    """Return a few digits, in batches of few sizes, because JAX compiles a program for each."""
    test_images, test_labels = digits.test_images[:101], digits.test_labels[:101]
    return dataclasses.replace(digits.first(203), test_images=test_images, test_labels=test_labels)


@pytest.fixture(scope="session")
def mnist():
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
    folder = Path(os.environ["XPNET_DATA_DIR"]) if os.environ.get("XPNET_DATA_DIR") else beside
    if not (folder / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip("MNIST is not here: name its folder in XPNET_DATA_DIR, or put it in ../shared/data/mnist")
    return xpnet.load_dataset("mnist", data_dir=folder)


@pytest.fixture(scope="session")
def run_on_mnist(mnist):
    """Return a function that trains a recipe on MNIST with its own settings, once per session."""
    return functools.cache(lambda recipe: xpnet.train(recipe, dataset=mnist, backend="numpy", progress=False))


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch):
    """Keep the user's settings and the network out of the tests."""
    for name in ("XPNET_BACKEND", "XPNET_MNIST_URL", "XPNET_THREADS", "XPNET_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XPNET_OFFLINE", "1")


@pytest.fixture
def heeds_interrupts():
    """Enable Ctrl-C, which a shell disables in background jobs and their children, and what `nohup` disables."""
    wanted = {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}
    numbers = {getattr(signal, name): how for name, how in wanted.items() if hasattr(signal, name)}
    before = {number: signal.signal(number, how) for number, how in numbers.items()}
    yield
    for number, how in before.items():
        signal.signal(number, how)
