"""CuPy on a GPU, or on a stand-in for one: graphs, counts of launches and copies, several devices.

On the stand-in, a CUDA driver in host memory, launches can be counted, and there are two devices.
"""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import xpnet
from xpnet.backends import elementwise, graphs

pytestmark = pytest.mark.library

RECIPES = ["tutorial", "corrected", "mlp", "deep", "cnn", "best"]


@pytest.fixture
def cupy():
    """CuPy, where it can be used."""
    try:
        xpnet.get_backend("cupy")
    except xpnet.BackendError as error:
        pytest.skip(str(error))
    import cupy

    return cupy


@pytest.fixture
def counter(cupy):
    """The stand-in's counts of calls."""
    return pytest.importorskip("cupy_on_cpu", reason="launches are counted on the stand-in for a GPU")


def train(recipe, data, backend, epochs, **settings):
    return xpnet.train(recipe, dataset=data, backend=backend, epochs=epochs, progress=False, **settings)


def launches(counts):
    """Add up the kernels of CuPy, cuBLAS and CUB, of which a reduction to one number takes two."""
    kinds = ("kernel ", "cublas", "cub ")
    return sum(n * (2 if "2 kernels" in name else 1) for name, n in counts.items() if name.startswith(kinds))


@pytest.mark.parametrize("recipe", RECIPES)
def test_graphs_train_to_the_weights_of_single_kernels(cupy, few, recipe):
    backend = xpnet.get_backend("cupy")
    one, other = (
        train(recipe, few, b, 3, train_samples=84).network.named_arrays() for b in (backend.stepwise(), backend)
    )
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


# Kernels of a step at MNIST's shapes. If a number grows, CuPy or xpnet has changed: find out why.
EAGER = {"mlp": 37, "deep": 91, "cnn": 85, "best": 214}


@pytest.mark.parametrize("recipe", EAGER)
def test_the_kernels_of_a_step(counter, recipe):
    batch = 128 if recipe == "mlp" else 64
    found = []
    for steps in (1, 2):
        n = steps * batch
        rng = np.random.default_rng(0)
        pixels, labels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), rng.integers(0, 10, n)
        data = xpnet.Dataset("made up", pixels, labels, pixels[:20], labels[:20])
        epochs = []

        def note(record, epochs=epochs):
            epochs.append(counter.counts())
            counter.reset()

        settings = {"batch_size": batch, "validation_fraction": 0.0, "callbacks": [note]}
        train(recipe, data, xpnet.get_backend("cupy").stepwise(), 2, **settings)
        found.append(epochs[-1])
    one, two = found
    assert launches(two) - launches(one) <= EAGER[recipe]
    for name in {*one, *two}:  # another step copies nothing from or to the host, and waits for nothing
        if "host" in name or name.startswith("SYNC"):
            assert one.get(name) == two.get(name), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_the_host_asks_for_in_an_epoch_of_graphs(counter, few, recipe):
    """Beside the graph of each step: the arrays in and out, and the short batch at the end, which runs eagerly."""
    epochs = []

    def note(record):
        epochs.append(counter.counts())
        counter.reset()

    samples, batch = 84, 7  # 12 steps, none of them short
    settings = {} if recipe in ("tutorial", "corrected") else {"batch_size": batch, "validation_fraction": 0.0}
    train(recipe, few, "cupy", 4, train_samples=100 if not settings else samples, callbacks=[note], **settings)
    second, third = epochs[-2:]
    steps = samples // batch if settings else 2  # the tutorial's blocks of 50 images
    assert third["graph launch"] == steps + 2
    assert third["SYNC cudaStreamSynchronize"] <= 8  # loss and accuracy, of the epoch and of each evaluated batch
    for name in ("cudaMalloc", "MALLOC during capture", "MODULE LOAD during capture", "module load"):
        assert not third.get(name), name
    to_device = third.get("cudaMemcpyAsync host to device", 0)
    assert to_device <= 10  # the epoch's order, noise and learning rates, and two zeros
    assert to_device == second.get("cudaMemcpyAsync host to device", 0)


def test_the_switch_turns_graphs_off(counter, few, monkeypatch):
    monkeypatch.setenv(graphs.SWITCH, "0")
    counter.reset()
    train("mlp", few, "cupy", 3)
    assert "graph launch" not in counter.counts()


class FromHost(xpnet.Layer):
    """A layer that makes an array of a host's number in every step, which a graph would not see change."""

    def forward(self, params, x, ctx):
        return x * ctx.xp.asarray(2.0, dtype=x.dtype), None

    def backward(self, params, cache, dy, ctx):
        return 2.0 * dy, {}


def test_a_layer_that_cannot_be_recorded_trains_all_the_same(cupy, few):
    layers = [xpnet.Dense(8), FromHost(), xpnet.ReLU(), xpnet.Dense(10)]
    network = xpnet.Network(layers, input_shape=(64,))
    settings = {"epochs": 3, "batch_size": 20, "progress": False}
    with pytest.warns(RuntimeWarning, match="goes on without CUDA graphs.*copies nothing from the host"):
        run = xpnet.fit(network, few, backend="cupy", **settings)
    expected = xpnet.fit(network, few, backend="numpy", **settings)
    assert run.history[-1].train_loss == pytest.approx(expected.history[-1].train_loss, rel=1e-4)


def test_what_a_recorded_loop_collects_is_its_own(cupy):
    """Memory of temporary arrays is used again within a step, and what is collected must not lie there."""
    backend = xpnet.get_backend("cupy")
    xp = backend.xp

    def step(carry, batch):
        for _ in range(3):  # arrays of the size of what is collected, freed before it is
            carry = carry + xp.sum(xp.stack([batch["x"]] * 4) * 2.0) / 8.0
        return carry, carry + batch["x"]

    def twice(start, xs):
        carry, first = backend.scan(step, start, xs)
        return backend.scan(step, xp.sum(first * 0.0) + carry, xs)[1] + first

    run = backend.compile(twice)
    x = np.arange(12.0).reshape(4, 3)
    ends = np.cumsum(3.0 * x.sum(axis=1))
    for start in (0.0, 1.0, 2.0):
        first = start + ends[:, None] + x
        expected = first + ends[-1] + first
        result = run(cupy.asarray(start), {"x": cupy.asarray(x)})
        np.testing.assert_allclose(result.get(), expected)


def test_another_thread_multiplies_as_usual_while_one_records(cupy):
    from xpnet.backends.cupy import CupyRecorder

    results = []

    def multiply():
        a = cupy.ones((3, 4), "float32")
        results.append((a @ a.T + cupy.asarray(1.0, dtype="float32")).get())

    with CupyRecorder().memory():
        thread = threading.Thread(target=multiply)
        thread.start()
        thread.join()
    assert (results[0] == 5.0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recorded_products(cupy, dtype):
    """Of matrices in every layout, against NumPy's."""
    from xpnet.backends.cupy import CupyRecorder

    rng = np.random.default_rng(0)
    a, b = rng.random((5, 7)).astype(dtype), rng.random((7, 3)).astype(dtype)
    views = [(a, b), (a.T.copy().T, b), (a, b.T.copy().T), (a[::2], b), (a[:, 1:4], b[1:4]), (a[:1], b[:, :1])]
    on_device = [
        (cupy.asarray(a), cupy.asarray(b)),
        (cupy.asarray(a.T.copy()).T, cupy.asarray(b)),
        (cupy.asarray(a), cupy.asarray(b.T.copy()).T),
        (cupy.asarray(a)[::2], cupy.asarray(b)),
        (cupy.asarray(a)[:, 1:4], cupy.asarray(b)[1:4]),
        (cupy.asarray(a)[:1], cupy.asarray(b)[:, :1]),
    ]
    recorder = CupyRecorder()
    with recorder.memory():
        for x, y in on_device:
            _ = x @ y
        recorder.begin()
        products = [x @ y for x, y in on_device]
        launch = recorder.end()
    launch()
    for (x, y), product in zip(views, products, strict=True):
        np.testing.assert_allclose(product.get(), x @ y, rtol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize(
    ("shapes", "axis"),
    [
        ([(3, 4), (2, 4)], 0),
        ([(3, 4), (3, 1), (3, 7)], -1),
        ([(3, 4, 2, 5)] * 9, 1),
        ([(2, 3), (4,)], None),
        ([(0, 3), (2, 3)], 0),
        ([(5,)] * 30, 0),
        ([(3, 2)], 0),
    ],
)
def test_concat_joins_as_numpy_does(cupy, shapes, axis):
    backend = xpnet.get_backend("cupy")
    rng = np.random.default_rng(0)
    pieces = [rng.random(shape, dtype=np.float32) for shape in shapes]
    joined = backend.xp.concat([cupy.asarray(piece) for piece in pieces], axis=axis)
    np.testing.assert_array_equal(joined.get(), np.concatenate(pieces, axis=axis))
    swapped = [cupy.asarray(piece.T.copy()).T for piece in pieces]  # in another order of memory
    np.testing.assert_array_equal(backend.xp.concat(swapped, axis=axis).get(), np.concatenate(pieces, axis=axis))


def test_concat_and_vecdot_of_several_dtypes(cupy):
    xp = xpnet.get_backend("cupy").xp
    whole, real = cupy.arange(3), cupy.asarray([0.5, 1.5, 2.5])
    assert xp.concat([whole, real]).get().tolist() == [0, 1, 2, 0.5, 1.5, 2.5]
    assert float(xp.vecdot(real, real)) == 8.75
    assert int(xp.vecdot(whole, whole)) == 5
    with pytest.raises(ValueError, match="same ndim"):
        xp.concat([cupy.zeros((2, 3)), cupy.zeros(3)])


OPTIMIZERS = [xpnet.SGD(0.1, momentum=0.9, nesterov=True), xpnet.RMSprop(0.1), xpnet.Adam(0.1), xpnet.AdamW(0.1)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_an_update_is_one_kernel(counter, cupy, optimizer):
    xp = xpnet.get_backend("cupy").xp
    rng = np.random.default_rng(0)
    host = {name: rng.random(50) for name in ("theta", "gradient")}
    numbers = {name: float(v[0]) for name, v in optimizer.scalars(np.asarray([1]), np.asarray([0.1])).items()}

    @elementwise
    def update(theta, state, gradient, scalars, *, xp):
        return optimizer.update(theta, state, gradient, scalars, xp=xp)

    theta, gradient = (cupy.asarray(array) for array in host.values())
    scalars = {name: cupy.asarray(value) for name, value in numbers.items()}
    state = optimizer.init(theta, xp=xp)
    update(theta, state, gradient, scalars, xp=xp)
    counter.reset()
    new, _ = update(theta, state, gradient, scalars, xp=xp)
    assert launches(counter.counts()) == 1
    state = optimizer.init(host["theta"], xp=np)
    expected, _ = optimizer.update(host["theta"], state, host["gradient"], numbers, xp=np)
    np.testing.assert_allclose(new.get(), expected, rtol=1e-12)


def test_numbers_keep_their_precision_when_fused(cupy):
    xp = xpnet.get_backend("cupy").xp

    @elementwise
    def scaled(x, rate, *, xp):
        return x * (1.0 / (1.0 - rate))

    assert float(scaled(cupy.asarray([1.0]), 0.3, xp=xp)[0]) == 1.0 / (1.0 - 0.3)
    assert float(scaled(cupy.asarray([1.0]), 0.1, xp=xp)[0]) == 1.0 / (1.0 - 0.1)


def test_what_cannot_be_fused_runs_as_it_is(cupy):
    xp = xpnet.get_backend("cupy").xp

    @elementwise
    def clipped(x, *, xp):
        return x / max(1.0, float(xp.max(x)))

    assert clipped(cupy.asarray([1.0, 4.0]), xp=xp).get().tolist() == [0.25, 1.0]
    assert clipped(cupy.asarray([2.0, 1.0]), xp=xp).get().tolist() == [1.0, 0.5]


ON_THE_SECOND = """
import numpy as np, xpnet
data = xpnet.load_dataset("digits")
runs = [xpnet.train(recipe, dataset=data, train_samples=84, epochs=3, backend=spec, progress=False)
        for recipe in ("mlp", "cnn") for spec in ("cupy:0", "cupy:1")]
for one, other in (runs[:2], runs[2:]):
    a, b = one.network.named_arrays(), other.network.named_arrays()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert "GPU 1" in other.config["device"], other.config
"""


def test_two_devices_that_cannot_reach_each_other(counter):
    """A kernel that touches the other device's memory is an error there."""
    environment = os.environ | {"FAKE_CUDA_DEVICES": "2"}
    subprocess.run([sys.executable, "-W", "error", "-c", ON_THE_SECOND], env=environment, check=True)
