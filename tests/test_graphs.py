"""Recorded and replayed loops, which CuPy and PyTorch share: on the CPU, with a stand-in for the capture."""

import contextlib

import numpy as np
import pytest

import xpnet
from xpnet.backends import TorchBackend, graphs
from xpnet.backends.torch import TorchRecorder


def recorder_on(torch):
    """Return a recorder for CPU tensors: it keeps the operations of a step, and runs them again on the same memory."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Tape(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.operations = []

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            result = operation(*args, **(kwargs or {}))
            self.operations.append((operation, args, kwargs or {}, result))
            return result

        def launch(self):
            Recorder.launches += 1
            for operation, args, kwargs, kept in self.operations:
                again = operation(*args, **kwargs)
                for old, new in zip(graphs.leaves(kept), graphs.leaves(again), strict=True):
                    # A view is one of memory that is in place already, and an empty array has no values yet.
                    if (
                        isinstance(new, torch.Tensor)
                        and old.data_ptr() != new.data_ptr()
                        and "empty" not in str(operation)
                    ):
                        old.copy_(new)

    class Recorder:
        launches = made = 0

        def __init__(self):
            Recorder.made += 1

        def memory(self):
            return contextlib.nullcontext()

        def begin(self):
            self.tape = Tape()
            self.tape.__enter__()

        def end(self):
            self.tape.__exit__(None, None, None)
            return self.tape.launch

        def address(self, array):
            return array.data_ptr()

    return Recorder


@pytest.fixture
def recorded(torch):
    """A torch backend on the CPU that records as one on a GPU does, its recorder, and the same without recording."""
    Recorder = recorder_on(torch)

    class Recorded(TorchBackend):
        def compile(self, function, donate=()):
            return graphs.Compiled(function, Recorder, self.xp)

        def scan(self, step, carry, xs):
            return graphs.scan(step, carry, xs, self.xp)

    eager = xpnet.get_backend("torch")
    with eager.session():
        yield Recorded(eager.spec, eager.xp, eager.device), Recorder, eager


def running_sums(backend):
    """Return a function with operations before, in and after its loop, and with outputs."""

    def function(start, batches, factors):
        doubled = 2.0 * factors

        def step(carry, batch):
            total, (last,) = carry["total"], carry["last"]
            total = total + backend.xp.sum(batch["x"] * doubled) + last
            return {"total": total, "last": (batch["y"],)}, total

        carry, totals = backend.scan(step, {"total": start, "last": (0.0 * start,)}, batches)
        return carry["total"] + 1.0, totals

    return function


def arguments(backend, seed, steps=5):
    rng = np.random.default_rng(seed)
    batches = {"x": rng.random((steps, 3)), "y": rng.random(steps)}
    return backend.asarray(rng.random()), {name: backend.asarray(array) for name, array in batches.items()}


def expected(start, batches, factors):
    totals, last = [], 0.0
    total = float(start)
    for x, y in zip(batches["x"], batches["y"], strict=True):
        total = total + float((x * 2.0 * factors).sum()) + last
        last = float(y)
        totals.append(total)
    return total + 1.0, totals


def test_each_call_has_the_values_of_its_own_arguments(recorded):
    backend, recorder, _ = recorded
    function = backend.compile(running_sums(backend))
    factors = backend.asarray(np.asarray([1.0, -2.0, 0.5]))
    results = []
    for seed in range(5):
        start, batches = arguments(backend, seed)
        results.append((function(start, batches, factors), expected(start, batches, factors)))
    for (total, totals), (right, all_right) in results:  # all of them at the end: no call changes another's results
        assert float(total) == pytest.approx(right)
        assert totals.tolist() == pytest.approx(all_right)
    assert recorder.made == 1
    assert recorder.launches == 4 * (1 + 5 + 1)  # before the loop, five steps, after it; the first call records nothing


def test_arrays_that_stay_are_not_copied_until_another_comes(recorded):
    backend, recorder, _ = recorded
    function = backend.compile(running_sums(backend))
    one, other = (backend.asarray(np.asarray(values)) for values in ([1.0, 2.0, 3.0], [0.0, -1.0, 4.0]))
    for seed, factors in enumerate([one, one, one, other, one, other]):
        start, batches = arguments(backend, seed)
        assert float(function(start, batches, factors)[0]) == pytest.approx(expected(start, batches, factors)[0])
    assert recorder.made == 2


def test_another_form_is_another_recording(recorded):
    backend, recorder, _ = recorded
    function = backend.compile(running_sums(backend))
    factors = backend.asarray(np.ones(3))
    for seed, steps in enumerate([5, 4, 5, 4, 5, 4, 1, 1, 1]):
        start, batches = arguments(backend, seed, steps)
        assert float(function(start, batches, factors)[0]) == pytest.approx(expected(start, batches, factors)[0])
    assert recorder.made == 2  # a loop of one step is not worth it


def test_a_step_may_hand_on_what_it_was_given_in_another_place(recorded):
    backend, recorder, _ = recorded

    def step(carry, batch):
        a, b, c = carry
        return (b, c[:2], backend.xp.concat([a, batch["x"]])), None

    run = backend.compile(lambda carry, xs: backend.scan(step, carry, xs)[0])
    carry = tuple(backend.asarray(np.asarray(v)) for v in ([1.0, 2.0], [3.0, 4.0], [5.0, 6.0, 7.0]))
    xs = {"x": backend.asarray(np.asarray([[10.0], [20.0], [30.0]]))}
    for _ in range(3):
        assert [part.tolist() for part in run(carry, xs)] == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0, 30.0]]
    assert recorder.made == 1


def test_a_loop_within_a_step_is_unrolled(recorded):
    backend, recorder, _ = recorded

    def inner(carry, x):
        return carry + x["row"], carry

    def step(carry, batch):
        return backend.scan(inner, carry, {"row": batch["x"]})

    run = backend.compile(lambda start, xs: backend.scan(step, start, xs))
    x = np.arange(6.0).reshape(2, 3)
    for start in range(4):
        total, partial = run(backend.asarray(float(start)), {"x": backend.asarray(x)})
        assert float(total) == start + 15
        assert partial.tolist() == (start + np.asarray([[0.0, 0.0, 1.0], [3.0, 6.0, 10.0]])).tolist()
    assert recorder.launches == 3 * (1 + 2 + 1)


def test_what_cannot_be_recorded_runs_as_before_with_one_warning(recorded):
    backend, recorder, _ = recorded

    def widen(carry, batch):
        return backend.xp.astype(carry, backend.xp.float64) + batch["x"], None

    run = backend.compile(lambda start, xs: backend.scan(widen, start, xs)[0])
    start, xs = backend.asarray(1.0, "float32"), {"x": backend.asarray(np.asarray([1.0, 2.0]))}
    assert float(run(start, xs)) == 4.0
    with pytest.warns(RuntimeWarning, match=r"without CUDA graphs.*a step makes .*float64.*XPNET_CUDA_GRAPHS=0"):
        assert float(run(start, xs)) == 4.0
    assert float(run(start, xs)) == 4.0
    assert recorder.launches == 0


def test_an_error_of_the_function_is_its_own(recorded):
    backend, _, _ = recorded
    fails = False

    def step(carry, batch):
        if fails:
            raise ZeroDivisionError("in the step")
        return carry + batch["x"], None

    run = backend.compile(lambda start, xs: backend.scan(step, start, xs)[0])
    arguments = backend.asarray(1.0), {"x": backend.asarray(np.asarray([1.0, 2.0]))}
    run(*arguments)
    fails = True
    with pytest.warns(RuntimeWarning, match="in the step"), pytest.raises(ZeroDivisionError, match="in the step"):
        run(*arguments)


def test_a_device_that_cannot_record_trains_all_the_same(torch, few):
    """PyTorch's own recorder where there is no GPU: it fails at once, and the loop goes on as if it was never asked."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU that can record")
    eager = xpnet.get_backend("torch")
    made = []

    class OnGPU(TorchBackend):
        def compile(self, function, donate=()):
            def recorder():
                made.append(function)
                return TorchRecorder(torch.device("cuda"))

            return graphs.Compiled(function, recorder, self.xp)

        def scan(self, step, carry, xs):
            return graphs.scan(step, carry, xs, self.xp)

    settings = {"dataset": few, "epochs": 4, "batch_size": 20, "progress": False}
    with pytest.warns(RuntimeWarning, match=r"goes on without CUDA graphs, in single kernels \(.+XPNET_CUDA_GRAPHS=0"):
        run = xpnet.train("mlp", backend=OnGPU(eager.spec, eager.xp, eager.device), **settings)
    assert made
    expected = xpnet.train("mlp", backend=eager, **settings).network.named_arrays()
    for name, array in run.network.named_arrays().items():
        np.testing.assert_array_equal(array, expected[name])


class FakeCuda:
    """What `TorchRecorder` asks of torch.cuda, noted down in order."""

    def __init__(self):
        self.asked = []

    def __getattr__(self, name):
        def call(*args, **options):
            self.asked.append((name, options))
            return self if name in ("CUDAGraph", "Stream", "current_stream") else contextlib.nullcontext()

        return call


def test_what_is_asked_of_cuda_to_record_a_step(torch, monkeypatch):
    """In the order that PyTorch's manual wants; nobody has seen it on a GPU."""
    cuda = FakeCuda()
    monkeypatch.setattr(torch, "cuda", cuda)
    recorder = TorchRecorder("cuda")
    with recorder.memory():
        recorder.begin()
        replay = recorder.end()
    replay()
    names = [name for name, _ in cuda.asked]
    assert names == [
        *["Stream", "graph_pool_handle", "current_stream", "wait_stream", "stream"],
        *["CUDAGraph", "capture_begin", "capture_end", "wait_stream", "replay"],
    ]
    assert dict(cuda.asked)["capture_begin"]["capture_error_mode"] == "thread_local"


@pytest.mark.parametrize("recipe", ["mlp", "tutorial", "deep", "cnn", "best"])
def test_recipes_train_to_the_same_weights(recorded, few, recipe):
    backend, recorder, eager = recorded
    trained = [
        xpnet.train(recipe, dataset=few, train_samples=40, epochs=3, backend=b, progress=False)
        for b in (eager, backend)
    ]
    one, other = (run.network.named_arrays() for run in trained)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])
    assert recorder.launches


def test_the_switch_is_checked(monkeypatch):
    monkeypatch.delenv(graphs.SWITCH, raising=False)
    assert graphs.wanted()
    monkeypatch.setenv(graphs.SWITCH, "0")
    assert not graphs.wanted()
    monkeypatch.setenv(graphs.SWITCH, "off")
    with pytest.raises(xpnet.BackendError, match="XPNET_CUDA_GRAPHS='off': must be 1, or 0"):
        graphs.wanted()
