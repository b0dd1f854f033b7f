"""Progress: the output in each place, which changes no result and takes no time."""

import io
import os
import subprocess
import sys
import time
import types

import numpy as np
import pytest

import xpnet
from xpnet import History, Record, get_backend
from xpnet.training import pace, report
from xpnet.training.pace import Pace

CONFIG = {
    "recipe": "mlp",
    "dataset": "digits",
    "train_samples": 1000,
    "backend": "numpy",
    "device": "cpu",
    "dtype": "float32",
    "seed": 0,
}


def record(epoch):
    return Record(epoch, 0.5, 0.75, test_loss=0.25, test_accuracy=0.875 + epoch / 100, seconds=1.5)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_a_header_and_a_line_an_epoch_when_it_was_said(capsys):
    xpnet.train("mlp", dataset="digits", epochs=2, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("recipe mlp, ")
    assert [line.split()[:2] for line in lines[3:]] == [["epoch", "0"], ["epoch", "1"]]


@pytest.mark.parametrize("progress", [None, False])
def test_a_log_gets_nothing_unless_it_was_said(progress, capsys):
    xpnet.train("mlp", dataset="digits", epochs=1, progress=progress)
    assert capsys.readouterr() == ("", "")


def test_nohup_shows_each_epoch_while_the_next_one_runs(tmp_path):
    """A line is in the log when its epoch is done, not when the process ends."""
    code = (
        "import sys, time, pathlib, xpnet\n"
        "seen = []\n"
        "note = lambda record: seen.append(pathlib.Path(sys.argv[1]).read_text().count('epoch '))\n"
        "xpnet.train('mlp', dataset='digits', epochs=3, progress=True, callbacks=[note])\n"
        "print(seen)"
    )
    with open(tmp_path / "log", "w") as log:
        command = [sys.executable, "-c", code, str(tmp_path / "log")]
        done = subprocess.run(command, stderr=log, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "[1, 2, 3]"


@pytest.mark.parametrize(
    ("wanted", "terminal", "kind"),
    [
        (None, True, report.TerminalReporter),
        (True, True, report.TerminalReporter),
        (False, True, report.Reporter),
        (None, False, report.Reporter),
        (True, False, report.LogReporter),
    ],
)
def test_where_it_runs_decides_what_is_shown(wanted, terminal, kind, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    assert type(report.reporter_for(wanted, CONFIG, 10, 3)) is kind


def test_the_header_tells_that_the_first_epoch_compiles(capsys, few):
    class Compiles(type(get_backend("numpy"))):
        first_epoch = "the first epoch boils the kernels"

    numpy = get_backend("numpy")
    for backend in (Compiles(numpy.spec, numpy.xp, numpy.device), numpy):
        xpnet.train("mlp", dataset=few, epochs=1, backend=backend, progress=True)
    lines = capsys.readouterr().err.splitlines()
    words = ["recipe", "backend", "the", "each", "epoch", "recipe", "backend", "each", "epoch"]
    assert [line.split()[0] for line in lines] == words
    assert lines[2] == "the first epoch boils the kernels"


def test_a_terminal_shows_the_epoch_its_share_and_the_time_that_is_left(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with report.TerminalReporter(CONFIG, 10, 4) as reporter:
        reporter.start(History())
        time.sleep(0.2)
        reporter.moved(0.5)
        reporter.epoch(record(0))
    shown = screen.getvalue()
    assert "recipe mlp, 10 parameters" in shown
    assert "epoch 1 of 4:  12%" in shown
    assert "epoch 2 of 4:  25%" in shown
    assert "00:01 left" in shown  # Half an epoch took 0.2 seconds, so 3.5 take 1.4.
    assert "epoch   0  train 0.5000" in shown


def test_a_resumed_run_counts_the_time_from_where_it_went_on(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with report.TerminalReporter(CONFIG, 10, 100) as reporter:
        reporter.start(History([record(e) for e in range(98)]))
        time.sleep(0.5)
        reporter.epoch(record(98))
    assert "99%" in screen.getvalue()
    assert "00:00 left" in screen.getvalue()


def test_a_notebook_has_one_output_that_is_written_anew(monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown = []
    handle = types.SimpleNamespace(update=lambda html: shown.append(html.data))

    def show(html, display_id):
        shown.append(html.data)
        return handle

    monkeypatch.setattr(display, "display", show)
    with report.NotebookReporter(CONFIG, 10, 3) as reporter:
        reporter.start(History([record(0)]))
        reporter.moved(0.5)
        for _ in range(50):  # Too soon after another: not shown.
            reporter.moved(0.6)
        reporter.epoch(record(1))
    assert len(shown) == 3
    assert 'value="0.000" max="3"' in shown[0]
    assert 'value="1.500"' in shown[1]
    assert "2 of 3 epochs" in shown[2]
    assert shown[2].count("<tr") == 3
    assert "test 0.8850" in shown[2]
    assert 'alt="Accuracy so far' in shown[2]


# Within an epoch ------------------------------------------------------------------------------------------------------


def parts(*lengths):
    start = 0
    for length in lengths:
        yield {"index": np.arange(start, start + length), "noise.1": np.zeros((length, 2))}
        start += length


class SlowBackend(type(get_backend("numpy"))):
    """A device whose steps take a given time, on a clock that otherwise stands still."""

    seconds = 0.0

    def wait(self, piece, per_step):
        type(self).seconds += per_step * len(piece["index"])


class CompiledBackend(SlowBackend):
    def compile(self, function, donate=()):
        return function


@pytest.fixture
def run_epochs(monkeypatch):
    def run(kind, per_step, *lengths, epochs=1):
        kind.seconds = 0.0
        monkeypatch.setattr(pace.time, "perf_counter", lambda: kind.seconds)
        numpy = get_backend("numpy")
        backend, shares, sizes = kind(numpy.spec, numpy.xp, numpy.device), [], []
        watch = Pace(backend, shares.append)
        for _ in range(epochs):
            shares.clear()
            sizes.clear()
            steps = []
            for piece in watch.pieces(list(parts(*lengths))):
                assert len(piece["noise.1"]) == len(piece["index"])
                backend.wait(piece, per_step)
                sizes.append(len(piece["index"]))
                steps.extend(piece["index"])
            assert steps == list(range(sum(lengths)))
        return sizes, shares

    return run


def test_a_short_epoch_stays_whole(run_epochs):
    sizes, shares = run_epochs(SlowBackend, 0.001, 100, 1, epochs=2)
    assert sizes == [100, 1]
    assert shares == [100 / 101]


def test_the_first_epoch_feels_its_way(run_epochs):
    sizes, shares = run_epochs(SlowBackend, 0.01, 468, 1)
    assert sizes[:6] == [1, 1, 2, 4, 8, 16]
    assert set(sizes[6:-2]) == {25}  # A quarter of a second.
    assert shares == sorted(shares)
    assert shares[-1] < 1


def test_later_epochs_are_cut_evenly(run_epochs):
    assert run_epochs(SlowBackend, 0.01, 468, 1, epochs=2)[0] == [26] * 18 + [1]
    assert set(run_epochs(SlowBackend, 1.0, 10, epochs=3)[0]) == {1}


def test_what_compiles_is_handed_whole_epochs_until_one_was_long(run_epochs):
    assert run_epochs(CompiledBackend, 0.01, 468, 1)[0] == [468, 1]
    assert run_epochs(CompiledBackend, 0.01, 468, 1, epochs=2)[0] == [26] * 18 + [1]


@pytest.mark.elsewhere
@pytest.mark.parametrize("recipe", ["mlp", "tutorial"])
def test_pieces_change_nothing(recipe, backend, monkeypatch):
    """A run in the smallest pieces gives the same bits."""
    settings = {"dataset": "digits", "epochs": 2, "train_samples": 150, "backend": backend}
    whole = xpnet.train(recipe, progress=False, **settings)
    monkeypatch.setattr(pace, "SHORT", 0.0)
    monkeypatch.setattr(pace, "PIECE", 1e-9)
    monkeypatch.setattr(report.Reporter, "watches", True)
    cut = xpnet.train(recipe, progress=False, **settings)
    for a, b in zip(whole.history, cut.history, strict=True):
        assert {**vars(a), "seconds": 0} == {**vars(b), "seconds": 0}
    for name, array in whole.network.named_arrays().items():
        np.testing.assert_array_equal(array, cut.network.named_arrays()[name], err_msg=name)


def test_watching_costs_an_epoch_next_to_nothing():
    """Whether pieces are asked for is one comparison, and a short epoch has as many as before."""
    watch = Pace(get_backend("numpy"), lambda share: None)
    whole = list(parts(8, 1))
    list(watch.pieces(whole))  # the first epoch
    begin = time.process_time()  # of this process alone: another that is busy costs it none
    for _ in range(100):
        list(watch.pieces(whole))
    assert (time.process_time() - begin) / 100 < 0.001


def test_a_run_on_a_terminal_ends_with_a_clean_screen():
    pty = pytest.importorskip("pty")
    code = "import xpnet; xpnet.fit(xpnet.Network([xpnet.Dense(10)], (64,)), xpnet.load_dataset('digits'), epochs=3)"
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    assert process.returncode == 0
    lines = shown.decode().replace("\r\n", "\n").split("\n")
    assert [line for line in lines if "  test " in line][-1].split("\r")[-1].startswith("epoch   2")
    assert lines[-1].split("\r")[-1].strip() == ""


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux ends a terminal that nobody writes to with an error.
        return b""
