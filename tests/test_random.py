"""Streams: keyed, independent of each other and of everything else."""

import numpy as np
import pytest

from xpnet import Dense, Dropout, Network
from xpnet.random import SequentialStreams, Streams, check_seed, generator, sixteen_bits

NET = Network([Dense(3), Dropout(0.5), Dense(2)], (4,))


class Coins:
    """A small network that draws like the tutorial."""

    def init(self, rng):
        return rng.random(5)

    def noise(self, rng, n):
        return rng.randint(0, 2, size=(n, 3))


def test_each_purpose_and_epoch_has_its_own_numbers():
    keys = [(s, p, e) for s in (0, 1) for p in ("weights", "noise") for e in (0, 1, 2)]
    drawn = [generator(*key).random(4).tolist() for key in keys]
    assert len({tuple(d) for d in drawn}) == len(keys)
    assert drawn == [generator(*key).random(4).tolist() for key in keys]


@pytest.mark.parametrize("size", [(1,), (5, 3), (4, 2), (0, 7), (101, 3)])
def test_four_numbers_at_a_time_are_the_same_numbers(size):
    one_by_one = np.random.default_rng(3).integers(0, 2**16, size=size, dtype=np.uint16)
    np.testing.assert_array_equal(sixteen_bits(np.random.default_rng(3), size), one_by_one)
    legacy = sixteen_bits(np.random.RandomState(3), (4000,))
    assert abs(legacy.mean() / 2**15 - 1.0) < 0.05
    assert legacy.dtype == np.uint16


def test_streams_do_not_depend_on_what_was_drawn_before():
    a, b = Streams(3), Streams(3)
    a.order(0, 50)
    a.noise(NET, 1, 20)
    np.testing.assert_array_equal(a.order(4, 9), b.order(4, 9))
    np.testing.assert_array_equal(a.weights(NET)[0]["weight"], b.weights(NET)[0]["weight"])
    for x, y in zip(a.noise(NET, 4, 9), b.noise(NET, 4, 9), strict=True):
        np.testing.assert_array_equal(x, y)
    assert sorted(a.order(2, 9).tolist()) == list(range(9))


def test_sequential_streams_are_one_legacy_generator_whatever_the_order_of_asking():
    rng = np.random.RandomState(7)
    weights = rng.random(5)
    epochs = [np.asarray([rng.randint(0, 2, size=3) for _ in range(6)]) for _ in range(4)]
    streams, net = SequentialStreams(7), Coins()
    np.testing.assert_array_equal(streams.weights(net), weights)
    for epoch in (0, 1, 2, 3, 1, 0, 3):
        np.testing.assert_array_equal(streams.noise(net, epoch, 6), epochs[epoch])
    assert streams.order(3, 5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**32, ValueError), (1.0, TypeError), ("1", TypeError), (True, TypeError)]
)
def test_bad_seeds_are_named(seed, error):
    with pytest.raises(error, match="seed="):
        check_seed(seed)
