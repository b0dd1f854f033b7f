"""Evaluation: counts by hand and by scikit-learn, and invalid input."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet
from xpnet import Dense, Evaluation, Network
from xpnet.runs.evaluation import confusion_matrix

pairs = st.integers(2, 5).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)), min_size=1, max_size=30),
    )
)


@settings(deadline=None)
@given(pairs)
@pytest.mark.slow
def test_numbers_are_those_of_scikit_learn(drawn):
    metrics = pytest.importorskip("sklearn.metrics")
    classes, rows = drawn
    labels, predictions = np.asarray(rows).T
    ours = Evaluation(predictions, confusion_matrix(labels, predictions, classes))
    every = {"labels": range(classes), "average": None, "zero_division": np.nan}
    np.testing.assert_array_equal(ours.confusion, metrics.confusion_matrix(labels, predictions, labels=range(classes)))
    assert ours.accuracy == pytest.approx(metrics.accuracy_score(labels, predictions))
    np.testing.assert_allclose(ours.precision, metrics.precision_score(labels, predictions, **every))
    np.testing.assert_allclose(ours.recall, metrics.recall_score(labels, predictions, **every))
    document = json.loads(json.dumps(ours.to_dict(), allow_nan=False))
    assert document["samples"] == len(rows)
    assert [x is None for x in document["precision"]] == np.isnan(ours.precision).tolist()
    assert [x is None for x in document["recall"]] == np.isnan(ours.recall).tolist()


def test_a_table_by_hand():
    """Class 1 has samples but no predictions, class 2 the reverse: both give NaN without a warning."""
    labels, predictions = np.asarray([0, 0, 0, 1]), np.asarray([0, 0, 2, 0])
    found = Evaluation(predictions, confusion_matrix(labels, predictions, 3))
    assert found.confusion.tolist() == [[2, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert found.accuracy == 0.5
    assert found.table().splitlines() == [
        "class  samples  precision  recall",
        "    0        3     0.6667  0.6667",
        "    1        1        nan  0.0000",
        "    2        0     0.0000     nan",
    ]
    assert found.to_dict()["precision"] == [2 / 3, None, 0.0]
    assert found.to_dict()["recall"] == [2 / 3, 0.0, None]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64, ">i4"])
def test_integers_of_any_size_are_counted(dtype):
    """200 classes: no product of small integers may wrap."""
    labels = np.asarray([100, 3, 100], dtype)
    assert confusion_matrix(labels, labels, 120)[100, 100] == 2
    assert confusion_matrix(labels, labels, 120).sum() == 3


@pytest.mark.parametrize(
    ("labels", "predictions", "words"),
    [
        ([0, 3], [0, 1], "^labels: from 0 to 3; must be from 0 to 2"),
        ([0, -1], [0, 1], "^labels: from -1 to 0"),
        ([0, 1], [0, 3], "^predictions: from 0 to 3; must be from 0 to 2"),
        ([0, 1], [0], r"^predictions: shape \(1,\)"),
        ([[0, 1]], [[0, 1]], r"^labels: shape \(1, 2\)"),
    ],
)
def test_what_cannot_be_counted_is_named(labels, predictions, words):
    with pytest.raises(ValueError, match=words):
        confusion_matrix(np.asarray(labels), np.asarray(predictions), 3)


def test_a_network_is_evaluated_on_data_that_fit(backend, digits):
    net = Network([Dense(10)], (64,), 16.0)
    bound = xpnet.TrainedNetwork(net, net.init(np.random.default_rng(0)), net.init_state(), backend)
    with pytest.raises(TypeError, match=r"^network=Network\(.*: must be an instance of TrainedNetwork, such"):
        xpnet.evaluate(net, digits)
    with pytest.raises(TypeError, match=r"^network=3: must be an instance of TrainedNetwork"):
        xpnet.evaluate(3, digits)
    with pytest.raises(TypeError, match=r"^data='digits': must be an instance of Dataset"):
        xpnet.evaluate(bound, "digits")
    found = xpnet.evaluate(bound, digits)
    assert found.accuracy == np.mean(found.predictions == digits.test_labels)
    three = xpnet.Dataset("three", np.zeros((3, 64)), np.arange(3), np.zeros((2, 64)), np.arange(2), classes=3)
    with pytest.raises(ValueError, match="three has 3 classes, but the network"):
        xpnet.evaluate(bound, three)
    brighter = xpnet.Dataset("bright", *(np.full((2, 8, 8), 255, np.uint8), np.arange(2)) * 2)
    darker = xpnet.Dataset("dark", *(np.full((2, 8, 8), 1, np.uint8), np.arange(2)) * 2, pixel_max=1)
    for scaled in (brighter, darker):  # by the dataset's own pixel_max: all of these pixels are white
        white = bound.predict(np.ones((2, 8, 8)))
        np.testing.assert_array_equal(xpnet.evaluate(bound, scaled).predictions, white)
