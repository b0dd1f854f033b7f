"""Early stopping: what counts as better, and when patience runs out."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from xpnet import Record
from xpnet.training.stopping import Best, EarlyStopping, best_from_dict, best_to_dict


def record(epoch, accuracy=None, loss=None):
    # The test set improves when the validation set gets worse; it must be ignored.
    return Record(epoch, 0.5, 0.5, loss, accuracy, -epoch, epoch)


def stops_after(stopping, records):
    """Go through the epochs as a run does; return the epoch after which it stops, and the best."""
    best = Best()
    for row in records:
        best = stopping.update(best, row)
        if stopping.should_stop(best, row.epoch):
            return row.epoch, best
    return None, best


def accuracies(*values):
    return [record(epoch, accuracy=value) for epoch, value in enumerate(values)]


def losses(*values):
    return [record(epoch, loss=value) for epoch, value in enumerate(values)]


def test_training_stops_when_the_accuracy_has_not_risen_for_the_patience():
    epoch, best = stops_after(EarlyStopping(3), accuracies(0.25, 0.75, 0.5, 0.625, 0.5, 0.5, 0.875))
    assert epoch == 4
    assert best == Best(1, 0.75)


def test_training_stops_when_the_loss_has_not_fallen_for_the_patience():
    epoch, best = stops_after(EarlyStopping(2, "val_loss"), losses(3.0, 1.5, 1.25, 2.0, 1.75, 1.0))
    assert epoch == 4
    assert best.epoch == 2


def test_an_improvement_begins_the_patience_anew():
    rising = accuracies(0.125, 0.1, 0.25, 0.2, 0.5, 0.4, 0.75, 0.7)
    assert stops_after(EarlyStopping(2), rising) == (None, Best(6, 0.75))
    assert stops_after(EarlyStopping(1), rising) == (1, Best(0, 0.125))


def test_an_equal_value_is_no_improvement():
    assert stops_after(EarlyStopping(2), accuracies(0.5, 0.5, 0.5, 0.5)) == (2, Best(0, 0.5))
    epoch, best = stops_after(EarlyStopping(2, "val_loss"), losses(0.5, 0.5, 0.5, 0.5))
    assert (epoch, best.epoch) == (2, 0)


def test_among_equal_accuracies_the_lower_loss_is_better():
    measured = [(0.5, 2.0), (0.75, 1.0), (0.75, 1.5), (0.75, 0.5), (0.5, 0.25), (0.75, 0.5)]
    records = [record(epoch, accuracy, loss) for epoch, (accuracy, loss) in enumerate(measured)]
    assert stops_after(EarlyStopping(2), records) == (5, Best(3, 0.75, 0.5))
    assert stops_after(EarlyStopping(1), records) == (2, Best(1, 0.75, 1.0))
    # A loss that is watched cannot be equal and lower at once.
    assert stops_after(EarlyStopping(2, "val_loss"), records)[1].epoch == 4


def test_the_smallest_difference_is_an_improvement():
    just_more, just_less = math.nextafter(0.5, 1.0), math.nextafter(0.5, 0.0)
    assert stops_after(EarlyStopping(1), accuracies(0.5, just_more)) == (None, Best(1, just_more))
    assert stops_after(EarlyStopping(1, "val_loss"), losses(0.5, just_less))[0] is None
    assert stops_after(EarlyStopping(1, "val_loss"), losses(0.5, just_more))[0] == 1


def test_without_patience_training_goes_on_but_the_best_epoch_is_known():
    assert stops_after(EarlyStopping(), accuracies(0.5, *[0.25] * 200)) == (None, Best(0, 0.5))


def test_losses_may_be_of_any_sign():
    assert stops_after(EarlyStopping(2, "val_loss"), losses(1.0, 0.0, -1.0, -0.5))[1].epoch == 2


def test_an_accuracy_of_zero_is_a_first_best():
    assert stops_after(EarlyStopping(3), accuracies(0.0, 0.0)) == (None, Best(0, 0.0))


def test_an_epoch_that_was_not_measured_changes_nothing_but_counts():
    assert stops_after(EarlyStopping(3), accuracies(None, None, None, None)) == (None, Best())
    assert stops_after(EarlyStopping(3), accuracies(0.5, None, None, 0.25)) == (3, Best(0, 0.5))


def test_nan_is_no_improvement():
    nan = float("nan")
    assert stops_after(EarlyStopping(2), accuracies(nan, 0.5, nan, nan)) == (3, Best(1, 0.5))
    assert stops_after(EarlyStopping(2, "val_loss"), losses(nan, 0.5, nan, nan))[1].epoch == 1


def test_nothing_is_changed_in_place():
    before = Best(1, 0.5)
    EarlyStopping(1).update(before, record(2, accuracy=0.75))
    assert before == Best(1, 0.5)
    for part, name in ((before, "epoch"), (EarlyStopping(1), "patience")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, 3)


@given(st.lists(st.floats(0, 1) | st.none(), max_size=12), st.integers(1, 4))
def test_the_rule_in_other_words(values, patience):
    """Stop at the first epoch that lies ``patience`` behind the first of the highest values so far."""
    expected = None
    for epoch in range(len(values)):
        so_far = [(value, -e) for e, value in enumerate(values[: epoch + 1]) if value is not None]
        if so_far and epoch + max(so_far)[1] >= patience:
            expected = epoch
            break
    assert stops_after(EarlyStopping(patience), accuracies(*values))[0] == expected
    complements = losses(*(None if value is None else -value for value in values))
    assert stops_after(EarlyStopping(patience, "val_loss"), complements)[0] == expected


@pytest.mark.parametrize("best", [Best(), Best(0, -0.1), Best(12, 1 / 3), Best(3, 0.9, 0.1)])
def test_the_best_survives_json(best):
    text = json.dumps(best_to_dict(best), allow_nan=False)
    assert best_from_dict(json.loads(text)) == best


def test_the_record_of_a_run_is_that_of_the_weights_it_has(digits):
    """Early stopping, the history and the run must not disagree about which epoch was the best."""
    stopped = xpnet.train("mlp", dataset=digits, epochs=12, progress=False)
    assert stopped.record == stopped.history.best("val_accuracy")
    assert stopped.record.epoch < 11, "or this shows nothing"
    assert stopped.record.test_accuracy == stopped.evaluation.accuracy
    through = xpnet.train("deep", dataset=digits.first(100), epochs=3, progress=False)
    assert through.record == through.history[-1]
    assert through.record.test_accuracy == through.evaluation.accuracy


@pytest.mark.parametrize(
    ("patience", "error"), [(0, ValueError), (-1, ValueError), (1.0, TypeError), ("3", TypeError), (True, TypeError)]
)
def test_a_wrong_patience_is_refused(patience, error):
    with pytest.raises(error, match=f"^patience={patience!r}: must be "):
        EarlyStopping(patience)


@pytest.mark.parametrize("monitor", ["test_accuracy", "train_loss", "accuracy", None])
def test_only_the_validation_set_can_be_watched(monitor):
    with pytest.raises(ValueError, match=f"monitor={monitor!r}: must be one of val_accuracy, val_loss"):
        EarlyStopping(3, monitor)
