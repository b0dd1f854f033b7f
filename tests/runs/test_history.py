"""The record of a run: reading gives what was written, to the last bit, and refuses anything else."""

import contextlib
import dataclasses
import os
import stat
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpnet import History, Record
from xpnet.runs.history import COLUMNS, METRICS

HEADER = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy,seconds"

# The time of file operations varies.
on_disk = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

# A hand-written file of three epochs.
RECORDS = [
    Record(0, 0.5, 0.75, None, None, 0.625, 0.5, 1.5),
    Record(1, 0.1, 1 / 3, 2.5, 0.875, None, None, 0.0),
    Record(2, 1e-300, 1.0, 2.5, 0.875, 3e20, 0.25, 12.0),
]
TEXT = f"""{HEADER}
0,0.5,0.75,,,0.625,0.5,1.5
1,0.1,0.3333333333333333,2.5,0.875,,,0.0
2,1e-300,1.0,2.5,0.875,3e+20,0.25,12.0
"""


def write(folder, text):
    path = folder / "history.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# A sequence ---------------------------------------------------------------------------------------------------------


def test_a_record_has_the_columns_that_were_promised_and_cannot_be_changed():
    assert ",".join(COLUMNS) == HEADER
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECORDS[0].epoch = 5


def test_a_history_is_a_sequence_of_records():
    history = History(RECORDS)
    assert len(history) == 3
    assert history[-1] is RECORDS[2]
    assert list(history) == RECORDS
    assert history[1:] == History(RECORDS[1:])
    assert isinstance(history[:0], History)
    assert not history[:0]
    assert RECORDS[1] in history
    assert repr(history).startswith("History(3 epochs, the last: train_loss")
    with pytest.raises(IndexError):
        history[3]


def test_appending_leaves_the_history_before_as_it_was():
    given_list = RECORDS[:1]
    before = History(given_list)
    after = before.appended(RECORDS[1])
    given_list.append(RECORDS[2])
    assert list(before) == RECORDS[:1]
    assert list(after) == RECORDS[:2]


def test_histories_are_equal_when_all_numbers_are():
    assert History(RECORDS) == History(RECORDS)
    assert History(RECORDS) != History(RECORDS[:2])
    assert History(RECORDS) != History([*RECORDS[:2], dataclasses.replace(RECORDS[2], seconds=13.0)])
    assert History(RECORDS) != RECORDS


def test_a_column_holds_none_where_nothing_was_measured():
    history = History(RECORDS)
    assert history.column("test_accuracy") == [0.5, None, 0.25]
    assert history.column("epoch") == [0, 1, 2]
    with pytest.raises(ValueError, match="column 'accuracy': unknown; there are epoch, train_loss"):
        history.column("accuracy")


@pytest.mark.parametrize("name", ["train_loss", "val_loss", "test_loss"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_record_knows_whether_its_losses_are_finite(name, value):
    assert all(record.finite() for record in RECORDS)
    assert not dataclasses.replace(RECORDS[2], **{name: value}).finite()


# The best epoch -----------------------------------------------------------------------------------------------------


def test_the_best_epoch_has_the_highest_accuracy_or_the_lowest_loss():
    history = History(RECORDS)
    assert history.best("train_accuracy").epoch == 2
    assert history.best("train_loss").epoch == 2
    assert history.best("test_loss").epoch == 0
    assert history.best("test_accuracy").epoch == 0


def test_of_equal_accuracies_the_lower_loss_is_the_better():
    history = History([Record(k, 0.1, 0.9, *pair) for k, pair in enumerate([(0.5, 0.7), (0.4, 0.7), (0.3, 0.6)])])
    assert history.best("val_accuracy").epoch == 1


def test_of_equally_good_epochs_the_first_is_the_best():
    assert History(RECORDS).best("val_accuracy").epoch == 1
    assert History(RECORDS).best("val_loss").epoch == 1


@pytest.mark.parametrize("epochs", [(0, 1), (1, 0)])
def test_nan_is_never_the_best(epochs):
    values = [(float("nan"), float("nan")), (0.5, 0.25)]
    history = History([Record(epoch, *values[epoch]) for epoch in epochs])
    assert history.best("train_loss").epoch == 1
    assert history.best("train_accuracy").epoch == 1


@pytest.mark.parametrize("metric", ["accuracy", "seconds", "epoch"])
def test_the_best_of_what_is_no_metric_is_refused(metric):
    with pytest.raises(ValueError, match=f"metric '{metric}': unknown; there are {', '.join(METRICS)}"):
        History(RECORDS).best(metric)


@pytest.mark.parametrize("history", [History(), History(RECORDS[:1])], ids=["empty", "unmeasured"])
def test_the_best_of_what_was_not_measured_is_refused(history):
    with pytest.raises(ValueError, match="metric 'val_loss': no epoch has measured it"):
        history.best("val_loss")


# JSON ---------------------------------------------------------------------------------------------------------------


def test_dictionaries_give_the_same_history_back():
    rows = History(RECORDS).to_dicts()
    assert [list(row) for row in rows] == [list(COLUMNS)] * 3
    assert rows[0]["val_loss"] is None
    assert rows[2]["test_loss"] == 3e20
    assert History.from_dicts(rows) == History(RECORDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 1.0}, "epoch=1.0: not an integer"),
        ({"epoch": True}, "epoch=True: not an integer"),
        ({"epoch": None}, "epoch=None: not an integer"),
        ({"train_loss": None}, "train_loss=None: not a number"),
        ({"train_accuracy": None}, "train_accuracy=None: not a number"),
        ({"seconds": None}, "seconds=None: not a number"),
        ({"val_loss": "0.5"}, "val_loss='0.5': not a number"),
        ({"test_accuracy": False}, "test_accuracy=False: not a number"),
        ({"learning_rate": 0.5}, "columns .*learning_rate: must be epoch, train_loss"),
    ],
)
def test_dictionaries_of_something_else_are_refused(change, message):
    row = History(RECORDS).to_dicts()[0]
    with pytest.raises(ValueError, match=message):
        History.from_dicts([row | change])


def test_a_dictionary_without_a_column_is_refused():
    row = History(RECORDS).to_dicts()[0]
    del row["seconds"]
    with pytest.raises(ValueError, match="must be epoch, train_loss"):
        History.from_dicts([row])


# CSV ----------------------------------------------------------------------------------------------------------------


def test_the_file_is_as_promised(tmp_path):
    History(RECORDS).to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_bytes() == TEXT.encode()
    assert os.listdir(tmp_path) == ["history.csv"]


def test_a_file_is_read(tmp_path):
    assert list(History.from_csv(write(tmp_path, TEXT))) == RECORDS
    assert list(History.from_csv(str(write(tmp_path, TEXT.replace("\n", "\r\n"))))) == RECORDS
    assert list(History.from_csv(write(tmp_path, TEXT.rstrip("\n")))) == RECORDS


def test_a_history_without_epochs_is_a_file_with_a_header(tmp_path):
    History().to_csv(tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_text() == HEADER + "\n"
    assert History.from_csv(tmp_path / "empty.csv") == History()


numbers = st.floats(allow_nan=False)
maybe = st.none() | numbers
records = st.builds(Record, st.integers(0, 10**9), numbers, numbers, maybe, maybe, maybe, maybe, numbers)


@on_disk
@given(st.lists(records, max_size=4))
def test_every_number_survives_to_the_last_bit(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "history.csv"
    History(rows).to_csv(path)
    back = History.from_csv(path)
    assert back == History(rows)
    assert repr(list(back)) == repr(rows)  # tells -0.0 from 0.0


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    record = Record(np.int64(3), np.float64(0.1), np.float32(0.5), test_loss=np.float64(2.0), seconds=1)
    History([record]).to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text().splitlines()[1] == "3,0.1,0.5,,,2.0,,1.0"


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_the_file_has_the_permissions_that_the_umask_leaves(tmp_path):
    old = os.umask(0o027)
    try:
        History(RECORDS).to_csv(tmp_path / "history.csv")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "history.csv").stat().st_mode) == 0o640


def test_a_failing_write_leaves_the_file_before(tmp_path, monkeypatch):
    History(RECORDS[:1]).to_csv(tmp_path / "history.csv")
    before = (tmp_path / "history.csv").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"history\.csv: No space left on device"):
        History(RECORDS).to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_bytes() == before
    assert os.listdir(tmp_path) == ["history.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a history: the first line must be epoch,train_loss"),
        ("epoch,train_loss\n0,0.5\n", "not a history: the first line must be"),
        (TEXT.replace("seconds", "minutes"), "not a history: the first line must be"),
        (HEADER + "\n0,0.5,0.75\n", "line 2: "),
        (HEADER + "\n0,0.5,0.75,,,,,1.5,9\n", "line 2: "),
        (TEXT + "\n", "line 5: "),
        (TEXT.replace("\n1,", "\n1.5,"), r"line 3: epoch='1\.5': not a number"),
        (TEXT.replace("\n1,", "\ninf,"), "line 3: epoch='inf': not a number"),
        (TEXT.replace("\n1,", "\n,"), "line 3: epoch=None: not an integer"),
        (TEXT.replace("0.75", "three quarters"), "line 2: train_accuracy='three quarters': not a number"),
        (TEXT.replace("0.75", ""), "line 2: train_accuracy=None: not a number"),
        (TEXT.replace(",12.0", ","), "line 4: seconds=None: not a number"),
        (b"\xff\xfe\x00", "not a history: .*codec"),
        (HEADER + '\n"0', "not a history: unexpected end of data"),
        (HEADER + "\n" + "1" * 200_000, "not a history: field larger"),
        (HEADER + "\n" + "1" * 5_000 + ",1,1,,,,,1", "line 2: epoch="),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        History.from_csv(path)
    assert str(path) in str(caught.value)


@on_disk
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_bring_forth_another_error(tmp_path_factory, data):
    for text in (data, HEADER.encode() + b"\n" + data, TEXT.encode() + data):
        path = write(tmp_path_factory.mktemp("csv"), text)
        with contextlib.suppress(ValueError):
            History.from_csv(path)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        History.from_csv(tmp_path / "nothing.csv")
