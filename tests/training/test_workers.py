"""Workers: shards add up to the batch, with the same bits for any number of threads, and no threads remain."""

import threading

import numpy as np
import pytest

import xpnet
from runs import Stop, assert_same, stop_after
from xpnet import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, Network, ReLU, fit
from xpnet.recipes import RECIPES
from xpnet.training import workers
from xpnet.training.workers import count_shards

LAYERS = [
    Conv2D(3, 3, bias=False),
    BatchNorm(),
    ReLU(),
    MaxPool2D(2),
    Flatten(),
    Dropout(0.3),
    Dense(12, bias=False),
    BatchNorm(),
    Dense(10),
]
NETWORK = Network(LAYERS, (8, 8))
SETTINGS = {"epochs": 2, "batch_size": 29, "validation_fraction": 0.1, "progress": False, "dtype": "float64"}


@pytest.fixture
def sharded(monkeypatch):
    """Cut small batches too: 29 samples into 4 shards, and the last, short batch likewise."""
    for name, least in (("SHARD_SAMPLES", 7), ("SHARD_WORK", 1.0), ("SHARD_WORK_PER_PARAMETER", 0.0)):
        monkeypatch.setattr(workers, name, least)


def test_any_number_of_workers_gives_the_same_bits(sharded, few):
    runs = [fit(NETWORK, few, workers=count, **SETTINGS) for count in (1, 2, 3, 9)]
    assert [run.config["workers"] for run in runs] == [1, 2, 3, 4]
    for run in runs[1:]:
        assert_same(run, runs[0])


def test_shards_add_up_to_the_batch(sharded, few, monkeypatch):
    cut = fit(NETWORK, few, workers=2, **SETTINGS)
    monkeypatch.setattr(workers, "SHARD_SAMPLES", 10**9)
    whole = fit(NETWORK, few, workers=2, **SETTINGS)
    assert whole.config["workers"] == 1
    for name, array in whole.network.named_arrays().items():
        np.testing.assert_allclose(cut.network.named_arrays()[name], array, rtol=1e-9, atol=1e-11, err_msg=name)
    for ours, theirs in zip(cut.history, whole.history, strict=True):
        assert ours.test_loss == pytest.approx(theirs.test_loss, rel=1e-10)
        assert ours.train_accuracy == theirs.train_accuracy


def test_a_run_resumes_with_another_number_of_workers(sharded, few, tmp_path):
    whole = fit(NETWORK, few, workers=3, **SETTINGS)
    with pytest.raises(Stop):
        fit(NETWORK, few, workers=1, output_dir=tmp_path, callbacks=[stop_after(0)], **SETTINGS)
    assert_same(fit(NETWORK, few, workers=2, output_dir=tmp_path, resume=True, **SETTINGS), whole)


def test_another_number_of_threads_is_told_when_a_run_resumes(few, tmp_path):
    with pytest.raises(Stop):
        fit(NETWORK, few, threads=2, output_dir=tmp_path, callbacks=[stop_after(0)], **SETTINGS)
    with pytest.warns(UserWarning, match="^resume: linear algebra used threads=2, and now uses 1: the last bits"):
        fit(NETWORK, few, threads=1, output_dir=tmp_path, resume=True, **SETTINGS)


def test_updates_and_evaluation_are_shared_to_the_bits_of_one_thread(few, monkeypatch):
    settings = SETTINGS | {"dtype": "float32", "batch_size": 10}
    alone = fit(NETWORK, few, workers=3, **settings)
    assert alone.config["workers"] == 1  # nothing here is worth a thread
    monkeypatch.setattr(workers, "LARGE_ARRAY", 1)
    monkeypatch.setattr(workers, "EVALUATION_WORK", 1.0)
    monkeypatch.setattr("xpnet.training.batches.EVALUATION_BATCH", 17)
    shared = [fit(NETWORK, few, workers=count, **settings) for count in (1, 2, 3)]
    assert [run.config["workers"] for run in shared] == [1, 2, 3]
    for name, array in alone.network.named_arrays().items():
        np.testing.assert_array_equal(shared[2].network.named_arrays()[name], array, err_msg=name)
    for run in shared[1:]:
        assert_same(run, shared[0])


def test_items_are_mapped_in_order_until_one_fails():
    pool = workers.Workers(shards=1, count=3)
    assert pool.map(lambda x: x * x, range(50)) == [x * x for x in range(50)]
    done = []

    def broken(x):
        if x == 2:
            raise IndexError("the third")
        done.append(x)

    with pytest.raises(IndexError, match="the third"):
        pool.map(broken, range(10_000))
    assert len(done) < 10_000
    pool.close()
    assert shard_threads() == []


def shard_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("xpnet-shard")]


class Breaks(xpnet.Layer):
    """Fails in the second shard of a batch, while the others wait for it in batch normalization."""

    def forward(self, params, x, ctx):
        if ctx.training and x.shape[-1] == 8:
            raise RuntimeError("this shard has broken")
        return x, None


def test_an_error_in_a_shard_ends_the_run_and_leaves_no_thread(sharded, few):
    # 29 samples are cut into 7, 7, 7 and 8.
    network = Network([Breaks(), *LAYERS], (8, 8))
    with pytest.raises(RuntimeError, match=r"^this shard has broken$"):
        fit(network, few, workers=2, **SETTINGS)
    assert shard_threads() == []


def test_an_interrupt_within_a_step_leaves_no_thread(sharded, few):
    # As a second Ctrl-C raises it, in the main thread, which takes part.
    class Interrupted(xpnet.Layer):
        def forward(self, params, x, ctx):
            if ctx.training and threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            return x, None

    with pytest.raises(KeyboardInterrupt):
        fit(Network([Interrupted(), *LAYERS], (8, 8)), few, workers=2, **SETTINGS)
    assert shard_threads() == []


def test_divergence_is_told_without_a_warning(sharded, few):
    with pytest.raises(xpnet.DivergedError, match="no longer finite"):
        fit(NETWORK, few, workers=2, optimizer=xpnet.SGD(1e300), **SETTINGS)
    assert shard_threads() == []


def test_two_runs_in_two_threads_do_not_disturb_each_other(sharded, few):
    alone, together = fit(NETWORK, few, workers=2, **SETTINGS), []
    threads = [
        threading.Thread(target=lambda: together.append(fit(NETWORK, few, workers=2, **SETTINGS))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == 2
    for run in together:
        assert_same(run, alone)


@pytest.mark.parametrize(
    ("recipe", "batch", "shards"),
    [
        ("tutorial", 1, 1),
        ("mlp", 128, 1),
        ("mlp", 1024, 4),
        ("deep", 64, 1),
        ("cnn", 64, 2),
        ("best", 64, 2),
        ("best", 128, 2),
        ("best", 256, 4),
        ("best", 32, 1),
    ],
)
def test_how_many_shards_a_batch_of_mnist_is_cut_into(recipe, batch, shards):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 28, 28)).astype(np.uint8), np.arange(20) % 10
    plan = RECIPES[recipe].build(xpnet.Dataset("like MNIST", images, labels, images, labels))
    assert count_shards(plan.network, xpnet.get_backend("numpy"), batch) == shards
    assert count_shards(plan.network, xpnet.get_backend("array_api_strict"), batch) == 1


def test_by_default_there_are_as_many_workers_as_processors(sharded, few, monkeypatch):
    from xpnet.training import distributed

    monkeypatch.setattr(distributed, "processors", lambda: 3)
    assert fit(NETWORK, few, **SETTINGS).config["workers"] == 3
    monkeypatch.setenv("XPNET_WORKERS", "2")
    assert fit(NETWORK, few, **SETTINGS).config["workers"] == 2
    assert fit(NETWORK, few, workers=1, **SETTINGS).config["workers"] == 1


@pytest.mark.parametrize("workers", [0, -1, "two", 1.5])
def test_a_wrong_number_of_workers_is_named_before_any_work(few, workers):
    with pytest.raises(ValueError, match=f"^workers={workers!r}: must be an integer of at least 1"):
        fit(NETWORK, few, workers=workers, **SETTINGS)


def test_linear_algebra_takes_one_thread_unless_the_user_says_otherwise(few, monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert fit(NETWORK, few, **SETTINGS).config["threads"] == 1
    assert fit(NETWORK, few, threads=2, **SETTINGS).config["threads"] == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert fit(NETWORK, few, **SETTINGS).config["threads"] is None
