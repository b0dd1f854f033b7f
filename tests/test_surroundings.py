"""A program's surroundings: signals, environment variables, missing streams, threads, NumPy's error state."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import xpnet
from xpnet import Conv2D, Dense, Flatten, Network, ShapeError
from xpnet.host import thread_limit

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and streams of POSIX")

SECONDS = 600  # for what takes one: so long waits a machine that is busy
TRAIN = ["train", "--dataset", "digits", "--recipe", "cnn", "--output-dir", "run", "--progress"]


def start(folder, *arguments, **settings):
    command = [sys.executable, "-m", "xpnet", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **settings,
    )


def train_until_first_epoch(folder):
    process = start(folder, *TRAIN, "--epochs", "500")
    deadline = time.monotonic() + SECONDS
    while not list(folder.glob("run/checkpoints/epoch-*.safetensors")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.slow
@pytest.mark.usefixtures("heeds_interrupts")
@pytest.mark.parametrize(("number", "code", "word"), [(15, 143, "terminated"), (1, 129, "hung up")])
def test_a_signal_ends_a_run_in_order_and_it_goes_on(tmp_path, number, code, word):
    process = train_until_first_epoch(tmp_path)
    process.send_signal(number)
    _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == code
    assert told.split("\n")[-4:] == [
        "xpnet: --output-dir run --resume continues after the last epoch",
        "",
        f"xpnet: {word}",
        "",
    ]
    assert "Traceback" not in told
    with pytest.warns(UserWarning, match="not finished"):
        xpnet.load(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.usefixtures("heeds_interrupts")
def test_a_burst_of_ctrl_c_is_one_interrupt(tmp_path):
    process = train_until_first_epoch(tmp_path)
    for _ in range(8):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert told.endswith("xpnet: interrupted\n")


INTERRUPT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, *rest):
        if name == os.environ["INTERRUPTED"]:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.meta_path.insert(0, Finder())
"""


def interrupted_at_import(folder, module, number, *arguments):
    """Run the program, which gets a signal when it imports a module."""
    (folder / "sitecustomize.py").write_text(INTERRUPT)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    settings = os.environ | {"PYTHONPATH": path, "INTERRUPTED": module, "SIGNAL": str(int(number))}
    process = start(folder, *arguments, env=settings)
    out, told = process.communicate(timeout=SECONDS)
    return process.returncode, out, told


@pytest.mark.thorough
@pytest.mark.usefixtures("heeds_interrupts")
@pytest.mark.parametrize("module", ["numpy", "numpy.linalg", "xpnet.nn.losses", "click", "xpnet.cli"])
@pytest.mark.parametrize(("number", "word"), [(2, "interrupted"), (15, "terminated")])
def test_a_signal_during_imports_is_one_line(tmp_path, module, number, word):
    assert interrupted_at_import(tmp_path, module, number, "recipes") == (128 + number, "", f"\nxpnet: {word}\n")


@pytest.mark.thorough
@pytest.mark.usefixtures("heeds_interrupts")
@pytest.mark.parametrize("module", ["matplotlib", "matplotlib.backends.backend_agg", "safetensors.numpy", "tqdm"])
def test_a_signal_while_results_are_written_is_one_line_and_nothing_is_lost(tmp_path, module):
    arguments = [*TRAIN, "--epochs", "2", "--recipe", "mlp"]
    code, out, told = interrupted_at_import(tmp_path, module, signal.SIGINT, *arguments)
    assert "Traceback" not in told
    if code == 0:
        assert module == "tqdm"  # which is not imported where there is no terminal
    else:
        assert code == 130
        assert ("test accuracy" in out) == module.startswith("matplotlib")  # which comes after the result
        assert told.endswith("xpnet: interrupted\n")
    if module.startswith("matplotlib"):
        assert "this was the last epoch, and the run is in run" in told
        xpnet.load(tmp_path / "run")
    process = start(tmp_path, *arguments, "--resume")
    _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, told
    xpnet.load(tmp_path / "run")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "variables",
    [
        {"MPLBACKEND": "nonsense"},
        {"OMP_NUM_THREADS": "abc", "PMI_SIZE": "abc"},
        {"PYTHONWARNINGS": "error::UserWarning"},
        {"LC_ALL": "nonsense", "PYTHONIOENCODING": "ascii"},
        {"HOME": "/nowhere", "TMPDIR": "/nowhere", "MPLCONFIGDIR": "/nowhere"},
        {"TERM": "", "COLUMNS": "abc", "NO_COLOR": "1"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_variables_of_other_programs_cost_no_run(tmp_path, variables):
    process = start(tmp_path, *TRAIN[:5], "--epochs", "1", "--output-dir", "rün", env=os.environ | variables)
    out, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, told
    assert "test accuracy" in out
    assert "Traceback" not in told
    xpnet.load(tmp_path / "rün")


@pytest.mark.thorough
@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-", "2>/dev/full"])
def test_missing_streams_cost_no_run(tmp_path, closed):
    command = f'exec "$0" -m xpnet {" ".join(TRAIN)} --epochs 1 {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable], cwd=tmp_path, capture_output=True, timeout=SECONDS)
    assert b"Traceback" not in done.stderr
    xpnet.load(tmp_path / "run")


def test_numpys_error_state_is_no_reason_to_fail_and_stays(digits):
    with np.errstate(all="raise"):
        before = np.geterr()
        run = xpnet.train("deep", dataset=digits.first(60), epochs=1, progress=False)
        run.network.predict(digits.test_images[:5])
        assert np.geterr() == before


def test_threads_are_as_they_were_whatever_the_order_in_which_runs_end():
    before = limits()
    entered, leave = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def work(i):
        with thread_limit(i + 1):
            entered[i].set()
            leave[i].wait(SECONDS)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for i in range(2):
        threads[i].start()
        entered[i].wait(SECONDS)
    for i in range(2):  # the first to begin ends first
        leave[i].set()
        threads[i].join()
    assert limits() == before
    with thread_limit(1):
        with thread_limit(2):
            pass
        assert set(limits()) <= {1}
    assert limits() == before


@pytest.mark.parametrize(
    "layers",
    [
        [Dense(10**12)],
        [Dense(10**30)],
        [Conv2D(10**9, 3)],
        [Conv2D(1, 3, padding=50_000)],
        [Conv2D(1, 3, padding=50_000, stride=100_000), Flatten()],
        [xpnet.MaxPool2D(2, padding=1, stride=1)] + [Conv2D(1, 1, padding=9_999)] * 3,
    ],
)
def test_a_layer_of_an_impossible_size_is_named_before_anything_is_allocated(layers):
    shape = (64,) if isinstance(layers[0], Dense) else (8, 8)
    with pytest.raises(ShapeError, match=r"(Dense|Conv2D)\(.* numbers a sample"):
        Network(layers, shape)


def test_impossible_settings_of_a_recipe_are_named():
    with pytest.raises(ValueError, match=r"Dense\(1000000000000\): .* numbers a sample"):
        xpnet.train("mlp", dataset="digits", hidden_sizes=(10**12,), progress=False)


def test_predictions_in_ever_new_sizes_compile_few_programs(backend, few):
    net = Network([Dense(10)], (64,))
    network = xpnet.TrainedNetwork(net, net.init(np.random.default_rng(0)), [{}], backend)
    whole = network.logits(few.test_images)
    sizes = set()
    outputs = network._outputs
    network.__dict__["_outputs"] = lambda params, state, x: (sizes.add(x.shape[0]), outputs(params, state, x))[1]
    for n in range(60):
        np.testing.assert_allclose(network.logits(few.test_images[:n]), whole[:n], rtol=1e-5, atol=1e-6)
    assert sizes == ({1, 2, 4, 8, 16, 32, 64} if backend.spec.startswith("jax") else {*range(1, 60)})


@pytest.mark.slow
def test_runs_in_two_threads_leave_the_process_as_it_was(digits):
    """Whichever ends first; in both a callback waits, so that they overlap."""
    before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), np.geterr(), limits())
    expected = [xpnet.train("mlp", **short(digits, seed)).history for seed in range(2)]
    for last in range(2):
        meeting, left, found = threading.Barrier(2), threading.Event(), [None, None]

        def work(i, last=last, meeting=meeting, left=left, found=found):
            def wait(record):
                if record.epoch == 0:
                    meeting.wait(SECONDS)
                elif i == last:
                    left.wait(SECONDS)

            try:
                found[i] = xpnet.train("mlp", callbacks=[wait], **short(digits, i)).history
            finally:
                if i != last:
                    left.set()

        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [without_times(history) for history in found] == [without_times(history) for history in expected]
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), np.geterr(), limits()) == before


def short(digits, seed):
    return {"dataset": digits.first(60), "epochs": 2, "seed": seed, "threads": 1 + seed, "progress": False}


def without_times(history):
    return [{**row, "seconds": 0.0} for row in history.to_dicts()]


def limits():
    return [library["num_threads"] for library in threadpool_info()]


@pytest.mark.thorough
@pytest.mark.parametrize("recipe", ["mlp", "cnn"])
def test_memory_does_not_grow_over_a_hundred_runs(digits, recipe):
    """A hundred runs leave less than a kilobyte each of what Python holds: a network has 27 and more."""
    data = digits.first(100)

    def runs(count):
        for seed in range(count):
            xpnet.train(recipe, dataset=data, epochs=1, seed=seed, progress=False).network.predict(data.test_images)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first = runs(5)
        assert runs(100) - first < 100_000
    finally:
        tracemalloc.stop()


FORK = """
import os, sys, warnings
import xpnet
backend, settings = sys.argv[1], {"threads": int(sys.argv[2]), "epochs": 1, "progress": False}
data = xpnet.load_dataset("digits").first(60)
xpnet.train("mlp", dataset=data, backend=backend, **settings)
warnings.simplefilter("ignore")  # JAX warns of every fork
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
try:
    xpnet.train("mlp", dataset=data, backend=backend, **settings)
except xpnet.BackendError as error:
    print(error, flush=True)
    os._exit(3)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.library
@pytest.mark.parametrize(
    ("library", "threads", "code"), [("numpy", 2, 0), ("torch", 1, 0), ("torch", 2, 3), ("jax", 2, 3)]
)
def test_training_after_a_fork_works_or_says_why_not(library, threads, code):
    pytest.importorskip(library)
    command = [sys.executable, "-c", FORK, library, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == code, done.stderr
    assert (f"{library} has already computed" in done.stdout) == (code == 3)
