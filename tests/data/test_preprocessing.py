"""Preprocessing, against plain Python, on every backend."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnet.data
from xpnet.data import one_hot, scale, train_validation_split

PIXELS = np.asarray([[0, 1, 128], [254, 255, 51]], dtype=np.uint8)


def test_classes_may_be_more_than_the_labels_dtype_can_count():
    rows = one_hot(np.asarray([1, 255], np.uint8), 300)
    assert rows.argmax(axis=1).tolist() == [1, 255]
    assert rows.sum(axis=1).tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"^classes=0: must be at least 1"):
        one_hot(np.asarray([1]), 0)
    with pytest.raises(ValueError, match=r"^pixel_max=0: must be a finite number above 0"):
        scale(np.asarray([1]), 0)
    assert scale(np.asarray([1]), np.float64(2.0), "float32").dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scale(backend, dtype):
    scaled = scale(backend.asarray(PIXELS), 255.0, dtype)
    host = backend.to_numpy(scaled)
    assert host.dtype == dtype
    expected = [[pixel / 255 for pixel in row] for row in PIXELS.tolist()]
    np.testing.assert_allclose(host, expected, rtol=1e-15 if dtype == "float64" else 1e-6)
    sixteenths = scale(backend.asarray(np.arange(17, dtype=np.uint8)), 16.0, dtype, xp=backend.xp)
    assert backend.to_numpy(sixteenths).tolist() == [k / 16 for k in range(17)]


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_one_hot(backend, dtype):
    labels = np.asarray([3, 0, 2, 2], dtype)
    rows = one_hot(backend.asarray(labels), 5, "float32")
    expected = [[1.0 if column == label else 0.0 for column in range(5)] for label in labels.tolist()]
    assert backend.to_numpy(rows).dtype == np.float32
    assert backend.to_numpy(rows).tolist() == expected


def test_wrong_arguments_are_named():
    for function in (scale, one_hot):
        with pytest.raises(ValueError, match="dtype='float16': must be float32 or float64"):
            function(np.asarray([1, 2]), 5, "float16")
    for labels in (np.asarray([1.0, 2.0]), np.asarray([[1, 2]]), np.asarray(3)):
        with pytest.raises(ValueError, match=r"labels: shape .* must be \(n,\) of integers"):
            one_hot(labels, 5)


@given(st.integers(1, 300), st.floats(0, 1, exclude_max=True), st.integers(0, 2**32 - 1))
def test_a_split_takes_every_sample_once(n, fraction, seed):
    try:
        train, validation = train_validation_split(n, fraction, seed)
    except ValueError as error:
        assert "it leaves none to" in str(error)  # noqa: PT017
        assert fraction > 0
        assert not 0 < round(n * fraction) < n
        return
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(n))
    assert len(validation) == round(n * fraction)
    assert train.tolist() == sorted(train.tolist())
    assert validation.tolist() == sorted(validation.tolist())


def test_a_split_is_decided_by_its_seed_alone():
    # Written down once: a run that resumes under another version of NumPy must find the same samples.
    assert train_validation_split(20, 0.25, 3)[1].tolist() == [3, 5, 13, 15, 18]
    np.random.seed(1)
    state = np.random.get_state()[1].tolist()
    assert train_validation_split(20, 0.25, 3)[1].tolist() == [3, 5, 13, 15, 18]
    assert np.random.get_state()[1].tolist() == state
    assert train_validation_split(20, 0.25, 4)[1].tolist() != [3, 5, 13, 15, 18]
    assert train_validation_split(20, 0.0, 3)[1].tolist() == []


@pytest.mark.parametrize(
    ("n", "fraction", "error", "message"),
    [
        (10, 1.0, ValueError, r"validation_fraction=1.0: must be in \[0, 1\)"),
        (10, -0.1, ValueError, "validation_fraction=-0.1"),
        (10, float("nan"), ValueError, "validation_fraction=nan"),
        (10, True, TypeError, "validation_fraction=True: must be a number"),
        (10, "0.1", TypeError, "validation_fraction='0.1': must be a number"),
        (10, 0.01, ValueError, "of 10 samples it leaves none to validate on"),
        (10, 0.99, ValueError, "of 10 samples it leaves none to train on"),
        (1, 0.4, ValueError, "of 1 samples it leaves none to validate on"),
        (0, 0.0, ValueError, "n=0: must be at least 1"),
        (2.0, 0.5, TypeError, "n=2.0: must be an integer"),
    ],
)
def test_splits_that_cannot_be(n, fraction, error, message):
    with pytest.raises(error, match=message):
        train_validation_split(n, fraction, 0)


def test_the_public_names_are_there_and_sorted():
    names = xpnet.data.__all__
    assert names == sorted(names, key=lambda name: (not name[0].isupper(), name))
    assert all(hasattr(xpnet.data, name) for name in names)
