"""Many ranks: the result of one up to rounding, the same bits on each, and never a hang.

Tests that need MPI run `ranks.py` under ``mpiexec``. The others run ranks as threads that share memory.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import (
    Adam,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPool2D,
    Network,
    RandomShift,
    ReLU,
    SoftmaxCrossEntropy,
    backends,
)
from xpnet.backends import local_spec
from xpnet.nn.trained import to_device, to_host
from xpnet.recipes import RECIPES
from xpnet.runs.checkpoint import RunDirectory
from xpnet.training import distributed
from xpnet.training.batches import move_batches, move_samples
from xpnet.training.distributed import MPIRanks, Ranks, get_ranks
from xpnet.training.step import Step, gradients, reduce_sums

# Of 103 samples 10 are for validation. Batches of 10 leave one of 3, so that of 4 ranks one has nothing to do; the
# tutorial's have one sample.
SETTINGS = {recipe: {"recipe": recipe, "train_samples": 103, "epochs": 2, "seed": 4} for recipe in RECIPES}
for recipe in ("mlp", "deep", "cnn", "best"):
    SETTINGS[recipe]["batch_size"] = 10
SECONDS = 600  # for the ranks of a test, on a busy machine
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


def columns(rows, names=("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy")):
    return np.asarray([[np.nan if row[name] is None else row[name] for name in names] for row in rows])


# Ranks as threads -------------------------------------------------------------------------------------------------


class Together:
    """A substitute for mpi4py's communicator, for threads."""

    def __init__(self, size):
        self.size, self.barrier, self.places = size, threading.Barrier(size), [None] * size
        self.here = threading.local()

    def Get_rank(self):
        return self.here.rank

    def Get_size(self):
        return self.size

    def allgather(self, thing):
        self.places[self.here.rank] = thing
        self.barrier.wait(SECONDS)
        things = list(self.places)
        self.barrier.wait(SECONDS)
        return things

    def bcast(self, thing):
        return self.allgather(thing)[0]

    def allreduce(self, number):
        return sum(self.allgather(number))

    def Allreduce(self, place, buffer):
        total = sum(self.allgather(buffer.copy()))
        buffer[...] = total

    def Dup(self):
        return self

    def Split_type(self, kind):
        return self

    def Abort(self, code):
        self.aborted = code


@pytest.fixture
def pretended(monkeypatch):
    """A substitute for mpi4py.MPI, with one communicator whose size can be set."""
    mpi = types.ModuleType("mpi4py.MPI")
    mpi.IN_PLACE, mpi.COMM_TYPE_SHARED = "in place", "shared"
    mpi.COMM_WORLD = Together(1)
    mpi.COMM_WORLD.here.rank = 0
    mpi.Is_initialized, mpi.Is_finalized = (lambda: True), (lambda: False)
    mpi.Get_library_version = lambda: "Pretended MPI 1.0\n of today"
    package = types.ModuleType("mpi4py")
    package.MPI = mpi
    monkeypatch.setitem(sys.modules, "mpi4py", package)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", mpi)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(distributed, "GRACE", 0.01)
    for name in distributed.LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    distributed._join.cache_clear()
    yield mpi
    distributed._join.cache_clear()


def on_ranks(size, work):
    """Run ``work(ranks)`` on each of some ranks, and return what each returned or raised."""
    comm = Together(size)
    results = [None] * size

    def run(rank):
        comm.here.rank = rank
        try:
            results[rank] = work(MPIRanks(comm, comm))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in threads)
    return results


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 5, 16])
def test_shares_are_even_and_leave_nothing_out(n, size):
    def share(rank):
        ranks = Ranks()
        ranks.rank, ranks.size = rank, size
        return list(range(n))[ranks.share(n)]

    shares = [share(rank) for rank in range(size)]
    assert [sample for part in shares for sample in part] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


IMAGES = Network(
    [
        *[RandomShift(1), Conv2D(3, 3), BatchNorm(), ReLU(), MaxPool2D(2), Flatten()],
        *[Dense(5, bias=False), BatchNorm(), ReLU(), Dropout(0.3), Dense(10)],
    ],
    (8, 8),
)


@pytest.mark.parametrize("what", ["tutorial", pytest.param("images", marks=pytest.mark.elsewhere)])
def test_a_rank_without_samples_adds_nothing(backend, pretended, digits, what):
    """An empty batch goes forward and backward next to a rank with all samples, with batch normalization too."""
    data = digits.first(6)
    tutorial, rng = RECIPES["tutorial"].build(data), np.random.default_rng(3)
    network, loss, chance = {
        "tutorial": (tutorial.network, tutorial.loss, np.random.RandomState(0)),
        "images": (IMAGES, SoftmaxCrossEntropy(), rng),
    }[what]
    rows = {"index": np.arange(6, dtype=np.int32)}
    drawn = network.noise(chance, 6)
    rows |= {f"noise.{i}": noise for i, noise in enumerate(drawn) if noise is not None}
    params, state = network.init(rng), network.init_state()

    def sums(ranks):
        with backend.session("float64"):
            reduce = ranks.all_reduce(backend)
            trainer = Step(network, loss, Adam(), backend, "float64", reduce)
            held = move_samples(trainer, data.train_images, data.train_labels, 10)
            part = {k: v[: 0 if ranks.rank == 1 else 6] for k, v in rows.items()}
            moved = [to_device(layers, backend, "float64") for layers in (params, state)]
            found, after = gradients(trainer, *moved, move_batches(trainer, part), held)
            found = reduce_sums(found, trainer)
            plain = [np.asarray(x) if isinstance(x, float) else backend.to_numpy(x) for x in found[1:]]
            layers = [*to_host(found.gradient, backend), *to_host(after, backend)]
            return plain + [array for layer in layers for array in layer.values()]

    expected = sums(Ranks())
    for ours in on_ranks(2, sums):
        if isinstance(ours, Exception):
            raise ours
        assert len(ours) == len(expected)
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("recipe", RECIPES)
def test_threads_give_the_curves_of_one(pretended, digits, tmp_path, recipe):
    settings = {**SETTINGS[recipe], "dataset": digits, "dtype": "float64", "progress": False}
    one = xpnet.train(**settings)

    def work(ranks):
        return xpnet.train(**settings, distributed=ranks, output_dir=tmp_path / "run")

    runs = on_ranks(3, work)
    for run in runs:
        if isinstance(run, Exception):
            raise run
        np.testing.assert_allclose(columns(run.history.to_dicts()), columns(one.history.to_dicts()), rtol=1e-12)
    assert (one.config["ranks"], runs[1].config["ranks"]) == (1, 3)
    assert len(xpnet.History.from_csv(tmp_path / "run" / "history.csv")) == 2
    # The folder is there already: the first rank finds that out, and all of them raise it.
    assert [str(error).partition(": ")[2][:16] for error in on_ranks(3, work)] == ["holds a run alre"] * 3
    # One process continues where three stopped.
    resumed = xpnet.train(**settings | {"epochs": 2}, output_dir=tmp_path / "run", resume=True)
    assert resumed.history == runs[0].history


def test_weights_frozen_layers_and_steps_are_those_of_one(pretended, few):
    network = xpnet.Network([xpnet.Dense(12), xpnet.BatchNorm(), xpnet.ReLU(), xpnet.Dense(10)], (64,))
    settings = {"batch_size": 29, "epochs": 2, "dtype": "float64", "progress": False}
    first = xpnet.fit(network, few, **settings).network

    class Watch(list):
        def on_step(self, record):
            self.append(record.loss)

    def train(ranks=None):
        watch = Watch()
        how = {"initial": "given", "freeze": [0], "class_weight": [0.5] * 5 + [2.0] * 5, "callbacks": [watch]}
        return xpnet.fit(first, few, distributed=ranks, **how, **settings), watch

    (one, steps), *shared = train(), *on_ranks(3, train)
    for result in shared:
        if isinstance(result, Exception):
            raise result
        run, seen = result
        np.testing.assert_allclose(seen, steps, rtol=1e-9)
        for name, array in one.network.named_arrays().items():
            np.testing.assert_allclose(run.network.named_arrays()[name], array, rtol=1e-9, atol=1e-12, err_msg=name)
        np.testing.assert_array_equal(run.network.params[0]["weight"], first.params[0]["weight"])


def test_what_the_first_does_all_get(pretended):
    def work(ranks):
        called = []
        value = ranks.from_first(lambda: called.append(ranks.rank) or "found")
        return value, called, ranks.any(ranks.rank == 2), ranks.any(False), list(ranks.add([ranks.rank, 0.5]))

    assert on_ranks(3, work) == [("found", [rank] * (rank == 0), True, False, [3.0, 1.5]) for rank in range(3)]

    def broken(ranks):
        ranks.once_a_machine(lambda: 1 / 0)

    assert [type(error) for error in on_ranks(3, broken)] == [ZeroDivisionError] * 3
    alone = Ranks()
    assert (alone.first, alone.from_first(lambda: 5), alone.any(True), alone.add([2.0])) == (True, 5, True, [2.0])


def test_a_rank_that_is_about_to_do_something_else_is_named(pretended):
    config = {"seed": 1, "backend": "cupy:0", "network": {"layers": [{"class": "Dense", "units": 10}]}}

    def work(other, weights):
        def compare(ranks):
            ours = other if ranks.rank == 2 else config
            ranks.compare(ours, lambda: [{"weight": np.full(3, weights if ranks.rank == 1 else 1.0)}])

        return on_ranks(3, compare)

    assert work(config | {"backend": "cupy:2"}, 1.0) == [None] * 3
    errors = work(config | {"seed": 2}, 1.0)
    assert ["on rank 2 seed is 2, on rank 0 1" in str(error) for error in errors] == [True] * 3
    errors = work({**config, "network": {"layers": [{"class": "Dense", "units": 9}]}}, 1.0 + 1e-15)
    for words in ("on rank 2 network.layers.0.units is 9, on rank 0 10", "on rank 1 initial_weights is"):
        assert [words in str(error) for error in errors] == [True] * 3


def test_processors_are_shared_out_among_the_ranks_of_a_machine(pretended, monkeypatch):
    for name in distributed.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(distributed, "_processors", lambda: set(range(8)))
    monkeypatch.setattr(distributed, "processors", lambda: 8)
    numpy, strict = xpnet.get_backend("numpy"), xpnet.get_backend("array_api_strict")
    for size, share in ((3, 2), (9, 1)):
        assert on_ranks(size, lambda ranks: ranks.processors()) == [share] * size
        assert on_ranks(size, lambda ranks: ranks.threads(None, strict)) == [share] * size
        assert on_ranks(size, lambda ranks: ranks.threads(None, numpy)) == [1] * size
    assert on_ranks(3, lambda ranks: ranks.threads(5, numpy)) == [5, 5, 5]
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert on_ranks(2, lambda ranks: ranks.threads(None, numpy)) == [None, None]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert (Ranks().threads(None, numpy), Ranks().threads(None, strict), Ranks().processors()) == (1, None, 8)
    monkeypatch.undo()
    assert distributed._processors()


def test_joining(pretended, monkeypatch):
    alone = get_ranks("mpi")
    assert (alone.rank, alone.size, get_ranks("mpi") is alone, get_ranks(alone) is alone) == (0, 1, True, True)
    numpy = alone.open_backend("numpy")
    assert (numpy.spec, alone.all_reduce(numpy), type(get_ranks(None))) == ("numpy", None, Ranks)
    with pytest.raises(ValueError, match=r"distributed='smoke': unknown; there are mpi, mpi:device"):
        get_ranks("smoke")
    distributed._join.cache_clear()
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    with pytest.raises(ValueError, match=r"3 processes were started, .* uses Pretended MPI 1\.0$"):
        get_ranks("mpi")


def test_an_mpi_that_takes_no_gpu_arrays_is_refused(pretended, monkeypatch):
    monkeypatch.setattr(distributed, "cuda_aware", lambda mpi: False)
    with pytest.raises(ValueError, match=r"Pretended MPI 1\.0 cannot take the arrays of a GPU"):
        get_ranks("mpi:device")
    monkeypatch.setattr(distributed, "cuda_aware", lambda mpi: True)
    assert get_ranks("mpi:device").on_device


def test_cuda_awareness_is_what_the_library_says(monkeypatch):
    for library, answer in (
        (types.SimpleNamespace(), False),
        (types.SimpleNamespace(MPIX_Query_cuda_support=lambda: 0), False),
        (types.SimpleNamespace(MPIX_Query_cuda_support=lambda: 1), True),
    ):
        monkeypatch.setattr(distributed.ctypes, "CDLL", lambda path, library=library: library)
        assert distributed.cuda_aware(types.SimpleNamespace(__file__="mpi.so")) is answer


def test_without_mpi_the_error_says_what_to_install(monkeypatch):
    distributed._join.cache_clear()
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    with pytest.raises(ValueError, match="pip install mpi4py"):
        xpnet.train(dataset="digits", distributed="mpi")

    def no_library(name):
        raise RuntimeError("cannot load MPI library\nlibmpi.so.12: no such file")

    monkeypatch.setattr(distributed.importlib, "import_module", no_library)
    with pytest.raises(ValueError, match=r"no MPI \(cannot load MPI library\): load the one of your cluster, or pip"):
        get_ranks("mpi")


def test_a_rank_that_fails_ends_the_job(pretended, monkeypatch, capsys):
    get_ranks("mpi")
    world = pretended.COMM_WORLD
    distributed.end_job(1)
    assert not hasattr(world, "aborted")  # alone, a process ends by itself
    world.size = 2
    distributed.end_job(0)
    assert not hasattr(world, "aborted")
    world.here.rank = 1
    for error, code in ((ValueError("no more of this"), 1), (KeyboardInterrupt(), 130)):
        sys.excepthook(type(error), error, None)
        assert world.aborted == code
    assert "no more of this" in capsys.readouterr().err
    monkeypatch.setattr("xpnet.cli.main", lambda: 2)
    for name in ("heed", "ignore"):  # this process keeps its own
        monkeypatch.setattr(f"xpnet.signals.{name}", lambda: None)
    with pytest.raises(SystemExit):
        xpnet.cli.entry()
    assert world.aborted == 2


def test_exchanging_leaves_the_array_as_it_was(backend):
    def double(buffer):
        buffer *= 2.0

    array = backend.asarray(np.asarray([1.0, 2.0, 3.0]))
    doubled = backend.exchange(double)(array)
    assert (backend.to_numpy(array).tolist(), backend.to_numpy(doubled).tolist()) == ([1, 2, 3], [2, 4, 6])
    if backend.library == "jax":
        with pytest.raises(xpnet.BackendError, match="go through the host"):
            backend.exchange(double, on_device=True)
        return
    directly = backend.exchange(double, on_device=True)
    assert backend.to_numpy(directly(array)).tolist() == [2, 4, 6]
    assert backend.to_numpy(array).tolist() == [1, 2, 3]


@pytest.mark.elsewhere
def test_steps_one_by_one_are_the_same_steps(backend, few):
    """A library that compiles an epoch can also run it step by step."""
    stepwise = backend.stepwise()
    assert (stepwise.spec, stepwise.stepwise().spec) == (backend.spec, backend.spec)
    net = Network([Dense(7), BatchNorm(), Dense(10)], (64,))
    runs = [
        xpnet.fit(net, few.first(20), epochs=1, batch_size=10, dtype="float64", backend=b, progress=False)
        for b in (backend, stepwise)
    ]
    np.testing.assert_allclose(*(columns(run.history.to_dicts()) for run in runs), rtol=1e-9)


def test_each_rank_of_a_machine_gets_a_device_of_its_own(monkeypatch):
    class Numbered(backends.Backend):
        library = "numpy"

        @classmethod
        def devices(cls):
            return ("many:cpu", "many:gpu:0", "many:gpu:1", "many:gpu:2")

    monkeypatch.setitem(backends.BACKENDS, "many", Numbered)
    assert [local_spec("many:gpu", number) for number in (0, 2, 4)] == ["many:gpu:0", "many:gpu:2", "many:gpu:1"]
    for spec in ("many", "many:cpu", "many:gpu:1", "nonsense", np, None):
        assert local_spec(spec, 2) is spec
    monkeypatch.setenv("XPNET_BACKEND", "many:gpu")
    assert local_spec(None, 1) == "many:gpu:1"


# Ranks of MPI -----------------------------------------------------------------------------------------------------

MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
PROGRAM = Path(__file__).with_name("ranks.py")
# Open MPI starts neither as root nor more ranks than processors unless it is told to; MPICH does not look at these.
ALLOWED = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def needs_mpi(test):
    absent = MPIEXEC is None or importlib.util.find_spec("mpi4py") is None
    return pytest.mark.mpi(pytest.mark.skipif(absent, reason="no MPI here: pip install mpi4py mpich")(test))


def command(size, *args):
    return [MPIEXEC, "-n", str(size), sys.executable, *map(str, args)]


def environment(**more):
    return os.environ | ALLOWED | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", **more}


def mpi_run(size, *args, **more):
    """Run a program on some ranks to its end, which must come in time."""
    return subprocess.run(
        command(size, *args), capture_output=True, text=True, timeout=SECONDS, env=environment(**more), check=False
    )


def task(name, size, folder, work, **more):
    return mpi_run(size, PROGRAM, name, folder, json.dumps(work), **more)


def arrays(path):
    with np.load(path) as file:
        return dict(file)


def assert_identical(paths):
    first, *others = map(arrays, paths)
    for other in others:
        for name, array in first.items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)
    assert len({path.with_suffix(".json").read_text() for path in paths}) == 1


@pytest.fixture(scope="module")
def singles():
    """Every recipe in both dtypes, in this process alone."""
    return {
        f"{recipe}-{dtype}": xpnet.train(**SETTINGS[recipe], dtype=dtype, dataset="digits", progress=False)
        for recipe in RECIPES
        for dtype in TOLERANCE
    }


@needs_mpi
@pytest.mark.parametrize("size", [1, 2, 3, pytest.param(4, marks=pytest.mark.thorough)])
def test_any_number_of_ranks_gives_the_curves_of_one(tmp_path, singles, size):
    works = {
        f"{recipe}-{dtype}": SETTINGS[recipe] | {"dtype": dtype, "backend": "numpy"}
        for recipe in RECIPES
        for dtype in TOLERANCE
    }
    result = task("curves", size, tmp_path, works)
    assert result.returncode == 0, result.stderr
    for name, single in singles.items():
        rows = json.loads((tmp_path / f"{name}-0.json").read_text())
        np.testing.assert_allclose(
            columns(rows),
            columns(single.history.to_dicts()),
            rtol=0.0 if size == 1 else TOLERANCE[name.rpartition("-")[2]],
            err_msg=name,
        )
        assert_identical([tmp_path / f"{name}-{rank}.npz" for rank in range(size)])


@needs_mpi
def test_ranks_may_have_workers(tmp_path):
    """In batches of 512 each rank cuts its half into three shards, and batch normalization looks at all six."""
    settings = {"recipe": "best", "epochs": 2, "batch_size": 512, "dtype": "float64"}
    works = {"two": settings | {"workers": 2}, "three": settings | {"workers": 3}}
    result = task("curves", 2, tmp_path, works)
    assert result.returncode == 0, result.stderr
    one = xpnet.train(**settings, workers=2, dataset="digits", progress=False)
    assert one.config["workers"] == 2
    rows = json.loads((tmp_path / "two-0.json").read_text())
    np.testing.assert_allclose(columns(rows), columns(one.history.to_dicts()), rtol=1e-9)
    assert_identical([tmp_path / f"{name}-{rank}.npz" for name in works for rank in range(2)])


@needs_mpi
@pytest.mark.elsewhere
def test_every_backend_joins_in(backend, tmp_path):
    settings = {"recipe": "mlp", "epochs": 1, "train_samples": 31, "batch_size": 7, "dtype": "float64"}
    result = task("curves", 2, tmp_path, {"run": settings | {"backend": backend.spec}})
    assert result.returncode == 0, result.stderr
    one = xpnet.train(**settings, backend="numpy", dataset="digits", progress=False)
    rows = json.loads((tmp_path / "run-1.json").read_text())
    np.testing.assert_allclose(columns(rows), columns(one.history.to_dicts()), rtol=1e-10)
    assert_identical([tmp_path / f"run-{rank}.npz" for rank in range(2)])


LONG = {"recipe": "deep", "epochs": 9, "train_samples": 103, "batch_size": 10, "dtype": "float64"}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The folder of a long run to which nothing happened."""
    folder = tmp_path_factory.mktemp("quiet")
    result = task("long", 3, folder, LONG)
    assert result.returncode == 0, result.stderr
    return folder


@needs_mpi
@pytest.mark.parametrize("victim", [0, 2])
@pytest.mark.thorough
def test_a_killed_rank_ends_the_job_and_a_restart_ends_where_no_accident_does(tmp_path, quiet, victim):
    killed = tmp_path
    process = subprocess.Popen(
        command(3, PROGRAM, "long", killed, json.dumps(LONG)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    deadline = time.monotonic() + SECONDS
    while not (killed / "run" / "history.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(int((killed / f"pid-{victim}").read_text()), signal.SIGKILL)
    begin = time.monotonic()
    try:
        assert process.wait(SECONDS) != 0
    finally:
        process.kill()
    assert time.monotonic() - begin < 300
    assert not (killed / "end-0.npz").exists(), "the run was over before the rank was killed"

    result = task("long", 3, killed, LONG | {"resume": True})
    assert result.returncode == 0, result.stderr
    ends = [folder / f"end-{rank}.npz" for folder in (killed, quiet) for rank in range(3)]
    assert_identical(ends)
    one = xpnet.train(**LONG, dataset="digits", progress=False)
    rows = json.loads(ends[0].with_suffix(".json").read_text())
    np.testing.assert_allclose(columns(rows), columns(one.history.to_dicts()), rtol=1e-12)


@needs_mpi
@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("settings", "ValueError: epochs=-1"),
        ("start", "RuntimeError: rank 1 has no network"),
        ("callback", "RuntimeError: rank 1 has no memory left"),
    ],
)
def test_a_rank_that_raises_ends_the_job(tmp_path, where, words):
    begin = time.monotonic()
    result = task("fail", 3, tmp_path, where)
    assert result.returncode != 0
    assert words in result.stderr
    assert time.monotonic() - begin < 300


@needs_mpi
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 0.5}, "on rank 1 optimizer.learning_rate is 0.5, on rank 0 0.003"),
        ({"seed": 9}, "on rank 1 initial_weights is"),
        ({"train_samples": 59}, "on rank 1 data_fingerprint is"),
    ],
    ids=str,
)
def test_ranks_that_differ_do_not_start(tmp_path, change, words):
    settings = {"recipe": "mlp", "dataset": "digits", "train_samples": 60, "epochs": 2}
    result = task("differ", 3, tmp_path, [settings, settings | change, settings])
    assert result.returncode != 0
    assert words in result.stderr
    assert "rank 2" not in result.stderr.partition("the ranks do not have the same settings")[2].partition("Start")[0]


@needs_mpi
def test_the_data_are_loaded_once_a_machine(tmp_path):
    result = task("once", 3, tmp_path, {})
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("loaded-*"))) == 1


@needs_mpi
def test_on_the_command_line_only_the_first_rank_prints_and_writes(tmp_path):
    args = ["-m", "xpnet", "train", "--dataset", "digits", "--train-samples", "50", "--epochs", "2"]
    args += ["--distributed", "mpi", "--output-dir", str(tmp_path / "r")]
    result = mpi_run(3, *args, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert (document["config"]["ranks"], len(document["history"])) == (3, 2)
    assert (tmp_path / "r" / "model.safetensors").is_file()
    assert not (tmp_path / "r" / ".lock").exists()
    again = mpi_run(3, *args)
    assert again.returncode != 0
    assert again.stderr.count("holds a run already") == 1
    assert again.stdout == ""


@needs_mpi
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--distributed", "mpi", "--epochs", "x"], "'x' is not a valid integer"),
        (["--distributed", "mpi", "--nonsense"], "No such option '--nonsense'"),
        (["--distributed", "mpi", "--hidden-sizes", "0"], "hidden_sizes=0"),
        ([], "was not told to join the others: add --distributed mpi"),
        (["--distributed", "mpi", "--output-dir", "other"], "on rank {odd} output_dir is "),
        (["--distributed", "mpi", "--resume"], "on rank {odd} resume is True"),
    ],
    ids=lambda value: value[-1] if value else "alone" if isinstance(value, list) else "",
)
@pytest.mark.parametrize("odd", [0, 1])
def test_a_rank_that_is_started_otherwise_leaves_no_other_waiting(tmp_path, options, words, odd):
    """Without an end by the rank itself, the others would wait for it until this test's time is over."""
    train = ["-m", "xpnet", "train", "--dataset", "digits", "--epochs", "2", "--output-dir", str(tmp_path / "run")]
    ranks = [["-n", "1", sys.executable, *train, "--distributed", "mpi"] for _ in range(2)]
    ranks[odd] = ["-n", "1", sys.executable, *train, *options]
    started = [MPIEXEC, *ranks[0], ":", *ranks[1]]
    result = subprocess.run(started, capture_output=True, text=True, timeout=SECONDS, env=environment(), cwd=tmp_path)
    assert result.returncode != 0
    if odd == 0:  # the first rank's setting is what the others are compared with
        words = words.replace("is True", "is False")
    assert words.format(odd=1) in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()


@needs_mpi
def test_after_ctrl_c_the_run_can_be_resumed(tmp_path):
    args = ["-m", "xpnet", "train", "--recipe", "tutorial", "--dataset", "digits", "--epochs", "5000"]
    args += ["--train-samples", "100", "--distributed", "mpi", "--output-dir", str(tmp_path / "r")]
    process = subprocess.Popen(
        command(2, *args), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()
    )
    deadline = time.monotonic() + SECONDS
    while not (tmp_path / "r" / "history.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode != 0
    # MPICH passes the signal on to the ranks; Open MPI ends them.
    assert err.count("finishing this epoch") <= 1
    assert err.count("xpnet: interrupted") <= 1
    done = len(xpnet.History.from_csv(tmp_path / "r" / "history.csv"))
    # mpiexec does not wait for the last of its processes to be gone.
    lock = RunDirectory(tmp_path / "r").lock
    while time.monotonic() < deadline:
        with contextlib.suppress(xpnet.BusyError), lock():
            break
        time.sleep(0.05)
    resumed = xpnet.train(
        "tutorial",
        dataset="digits",
        train_samples=100,
        epochs=done + 1,
        output_dir=tmp_path / "r",
        resume=True,
        progress=False,
    )
    assert len(resumed.history) == done + 1


@needs_mpi
def test_mpi_is_not_imported_unless_asked_for():
    code = (
        "import sys, xpnet; xpnet.train('mlp', dataset='digits', train_samples=30, epochs=1, progress=False);"
        "print([name for name in sys.modules if name.startswith('mpi4py')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=SECONDS).strip() == "[]"


@needs_mpi
def test_an_mpi_of_processors_only_says_so():
    """The packages on PyPI are not built with CUDA."""
    args = ["-m", "xpnet", "train", "--dataset", "digits", "--distributed", "mpi:device"]
    library = subprocess.check_output(
        [sys.executable, "-c", "from mpi4py import MPI; print(MPI.Get_library_version())"], text=True, timeout=SECONDS
    )
    result = mpi_run(2, *args)
    if "MPICH" not in library:
        pytest.skip("whether this MPI was built with CUDA is not known")
    assert result.returncode != 0
    assert result.stderr.count("cannot take the arrays of a GPU") == 1
