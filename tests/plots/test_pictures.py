"""Pictures show the given data; nothing is clipped, covered or too small; no global state changes."""

import itertools
import subprocess
import sys
import types

import numpy as np
import pytest

from xpnet import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPool2D,
    Network,
    RandomShift,
    Record,
    ReLU,
    plots,
)

HISTORY = [
    Record(0, 1.5, 0.4, 1.25, 0.5, 1.3, 0.45, 0.1),
    Record(1, 0.75, 0.7, 0.8, 0.7, 0.85, 0.65, 0.1),
    Record(2, 0.5, 0.81, 0.6, 0.79, 0.65, 0.77, 0.1),
]
LONG = [Record(e, 1 / (e + 1), 1 - 0.6 / (e + 1), None, None, 1.1 / (e + 1), 0.95 - 0.5 / (e + 1)) for e in range(100)]
NETWORK = Network(
    [
        RandomShift(1),
        Conv2D(16, 3, padding="same", bias=False),
        BatchNorm(),
        ReLU(),
        Conv2D(16, 3, padding="same", bias=False),
        MaxPool2D(2),
        Flatten(),
        Dense(128),
        Dropout(0.2),
        Dense(128),
        Dense(10),
    ],
    input_shape=(8, 8),
)
RUNGS = [("tutorial", 7.2, 0.7954), ("corrected", 7.9, 0.853), ("mlp", 28, 0.9812), ("cnn", 340, 0.9923)]


def rungs(*rows):
    return [{"recipe": r, "seconds": s, "test_accuracy": a, "what": "ignored"} for r, s, a in rows]


def backends(*rows):
    return [{"backend": b, "history": h, "seconds": s} for b, h, s in rows]


def images(n=30, shape=(8, 8), seed=3):
    return np.random.default_rng(seed).integers(0, 17, (n, *shape)).astype(np.uint8)


def labels(n=30):
    return np.arange(n) % 7


def mistaken(n=30):
    """Predictions, of which every third is wrong by one."""
    return labels(n) + (np.arange(n) % 3 == 2)


def counts(k):
    return np.random.default_rng(k).integers(0, 30, (k, k)) + 900 * np.eye(k, dtype=int)


FIGURES = {
    "curves": lambda: plots.training_curves(HISTORY, title="mlp on digits, numpy"),
    "one epoch": lambda: plots.training_curves(HISTORY[:1], title="mlp on digits, numpy"),
    "100 epochs": lambda: plots.training_curves(LONG, title="a long title, " * 12),
    "side by side": lambda: plots.curves_side_by_side({"tutorial": LONG, "corrected": HISTORY}, title="slips"),
    "four columns": lambda: plots.curves_side_by_side(dict.fromkeys("abcd", HISTORY), title="four"),
    "confusion 2": lambda: plots.confusion_matrix(counts(2), title="two", class_names=["cat", "dog"]),
    "confusion 10": lambda: plots.confusion_matrix(counts(10), title="ten", class_names=["ankle boot"] * 10),
    "mistakes": lambda: plots.mistakes(images(), labels(), mistaken(), title="mlp on digits"),
    "sure mistakes": lambda: plots.mistakes(
        images(), labels(), mistaken(), title="mlp", probabilities=np.linspace(0, 1, 30)
    ),
    "names": lambda: plots.mistakes(images(), np.array(["a name that is very long"] * 30), labels(), title="mlp"),
    "no mistakes": lambda: plots.mistakes(images(), labels(), labels(), title="mlp on digits"),
    "image": lambda: plots.image(images()[0], 3, title="digits"),
    "flat image": lambda: plots.image(np.arange(13), "thirteen features"),
    "row": lambda: plots.image_row(images(), labels(), title="digits", count=20),
    "filters": lambda: plots.filters(images(16, (3, 3)) - 8.0, title="first convolution"),
    "diagram": lambda: plots.network_diagram(NETWORK, title="a network"),
    "ladder": lambda: plots.ladder(rungs(*RUNGS), title="mnist, numpy"),
    "comparison": lambda: plots.comparison(backends(("numpy", LONG, 2.5), ("array_api_strict", LONG, 71)), title="mlp"),
}


@pytest.fixture(scope="module")
def figures():
    return {name: draw() for name, draw in FIGURES.items()}


def texts(figure):
    return [text.get_text().replace("\n", " ") for ax in figure.axes for text in ax.texts]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def lines(ax):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines}


# All pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_clipped_covered_or_too_small(name, figures):
    figure = figures[name]
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    assert box.x0 > -0.01
    assert box.y0 > -0.01
    assert box.x1 < width + 0.01
    assert box.y1 < height + 0.01
    assert 3 < width < 11
    from matplotlib.text import Text

    written = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in written) >= 8.9
    for ax in figure.axes:
        boxes = [(text.get_text(), text.get_window_extent()) for text in ax.texts if text.get_text()]
        for (a, box_a), (b, box_b) in itertools.combinations(boxes, 2):
            # The height of a line includes room above and below its letters.
            assert not box_a.shrunk(1, 0.7).overlaps(box_b.shrunk(1, 0.7)), (a, b)


@pytest.mark.parametrize("name", FIGURES)
def test_each_picture_has_its_title_and_a_description(name, figures):
    title = " ".join(figures[name].get_suptitle().split())
    assert title
    assert plots.alt_text(figures[name]).startswith(title[:30].rstrip(" ,"))


def test_a_title_is_text_and_not_a_formula():
    figure = plots.training_curves(HISTORY, title="costs $5 or $6_7^8$")
    assert figure.get_suptitle() == "costs $5 or $6_7^8$"
    figure.draw_without_rendering()
    plots.confusion_matrix(counts(2), title="$", class_names=["$x^$", "$"]).draw_without_rendering()


def test_matplotlib_waits_until_something_is_drawn_and_pyplot_is_never_needed():
    code = """
import sys
import xpnet, xpnet.plots
assert "matplotlib" not in sys.modules
import matplotlib
before = matplotlib.rcParams.copy()
from xpnet import Record, plots
figures = [
    plots.training_curves([Record(0, 1.0, 0.5)], title="t"),
    plots.ladder([{"recipe": "mlp", "seconds": 1, "test_accuracy": 0.9}], title="t"),
    plots.network_diagram(xpnet.Network([xpnet.Dense(2)], (2,)), title="t"),
    plots.confusion_matrix([[1, 2], [3, 4]], title="t"),
]
import tempfile, pathlib
with tempfile.TemporaryDirectory() as folder:
    for figure in figures:
        plots.save(figure, pathlib.Path(folder, "a.png"))
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams.copy() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_users_style_changes_no_colours():
    import matplotlib
    import matplotlib.style

    with matplotlib.rc_context():
        matplotlib.style.use("dark_background")
        matplotlib.rcParams.update({"axes.grid": True, "image.origin": "lower"})
        figures = [plots.training_curves(HISTORY, title="t"), plots.image(images()[0], 3)]
        figures.append(plots.confusion_matrix(counts(3), title="t"))
    from matplotlib.colors import to_rgb
    from matplotlib.text import Text

    for figure in figures:
        assert to_rgb(figure.get_facecolor()) == (1, 1, 1)
        for text in figure.findobj(Text):
            in_a_dark_cell = text.get_weight() == "bold"
            assert not text.get_text() or in_a_dark_cell or max(to_rgb(text.get_color())) < 0.7
        for picture in (picture for ax in figure.axes for picture in ax.images):
            assert picture.origin == "upper"


# Curves ---------------------------------------------------------------------------------------------------------------


def test_each_panel_shows_each_sets_own_numbers(figures):
    loss, accuracy = figures["curves"].axes
    assert lines(loss) == {
        "training": ([0, 1, 2], [1.5, 0.75, 0.5]),
        "validation": ([0, 1, 2], [1.25, 0.8, 0.6]),
        "test": ([0, 1, 2], [1.3, 0.85, 0.65]),
    }
    assert lines(accuracy) == {
        "training": ([0, 1, 2], [0.4, 0.7, 0.81]),
        "validation": ([0, 1, 2], [0.5, 0.7, 0.79]),
        "test": ([0, 1, 2], [0.45, 0.65, 0.77]),
    }
    assert loss.get_title(loc="left") == "loss"
    assert accuracy.get_title(loc="left") == "accuracy"
    assert loss.get_xlabel() == accuracy.get_xlabel() == "epoch"
    assert legend(loss) == ["training 0.5000", "validation 0.6000", "test 0.6500"]
    assert legend(accuracy) == ["training 0.8100", "validation 0.7900", "test 0.7700"]


def test_a_set_has_the_same_colour_everywhere_and_a_name_in_the_legend(figures):
    seen = {}
    for name in ("curves", "side by side", "four columns"):
        for ax in figures[name].axes:
            assert [text.partition(" ")[0] for text in legend(ax)] == [line.get_label() for line in ax.lines]
            for line, drawn in zip(ax.lines, ax.get_legend().get_lines(), strict=True):
                assert line.get_color() == drawn.get_color()
                seen.setdefault(line.get_label(), set()).add(line.get_color())
    assert sorted(seen) == ["test", "training", "validation"]
    assert len(set.union(*seen.values())) == 3


def test_what_was_not_measured_is_not_drawn():
    sparse = [Record(e, 1.0 - e / 10, 0.5, None, None, *((0.9, 0.6) if e % 2 else (None, None))) for e in range(5)]
    loss, _ = plots.training_curves(sparse, title="t").axes
    assert lines(loss)["test"] == ([1, 3], [0.9, 0.9])
    assert "validation" not in lines(loss)
    empty = [types.SimpleNamespace(**dict.fromkeys(vars(HISTORY[0])) | {"epoch": 0})]
    figure = plots.training_curves(empty, title="t")
    assert not any(ax.get_legend() for ax in figure.axes)
    assert not any(ax.lines for ax in figure.axes)


def test_losses_that_are_not_finite_are_told():
    nan, inf = float("nan"), float("inf")
    diverged = [Record(0, 0.5, 0.8, None, None, 0.6, 0.7), Record(1, nan, 0.1, None, None, inf, 0.1)]
    loss, accuracy = plots.training_curves(diverged, title="t").axes
    assert legend(loss) == ["training not finite", "test not finite"]
    assert legend(accuracy) == ["training 0.1000", "test 0.1000"]
    assert np.all(np.isfinite(loss.get_ylim()))
    plots.training_curves(diverged[1:], title="t").draw_without_rendering()


def test_epochs_are_whole_numbers(figures):
    for name, epochs in (("curves", 3), ("one epoch", 1), ("100 epochs", 100)):
        for ax in figures[name].axes:
            low, high = ax.get_xlim()
            shown = [tick for tick in ax.get_xticks() if low <= tick <= high]
            assert shown[0] == 0
            assert all(tick == round(tick) <= epochs for tick in shown)
            assert len(shown) == epochs or 4 < len(shown) < 8


def test_accuracy_does_not_reach_beyond_one_nor_is_a_flat_curve_blown_up():
    flat = [Record(e, 0.1, 1.0, None, None, 0.1, 1.0) for e in range(3)]
    _, accuracy = plots.training_curves(flat, title="t").axes
    low, high = accuracy.get_ylim()
    assert 1 <= high < 1.01
    assert high - low >= 0.02


def test_runs_side_by_side_have_the_same_scales(figures):
    panels = figures["side by side"].axes
    for row in (panels[:2], panels[2:]):
        assert row[0].get_ylim() == row[1].get_ylim()
        assert row[0].get_xlim() == row[1].get_xlim()
    assert [ax.get_title() for ax in panels[:2]] == ["tutorial", "corrected"]
    assert [ax.get_ylabel() for ax in panels[::2]] == ["loss", "accuracy"]
    assert lines(panels[3])["test"][1] == [0.45, 0.65, 0.77]


def test_no_epochs_no_picture():
    with pytest.raises(ValueError, match="history: it is empty"):
        plots.training_curves([], title="t")
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.curves_side_by_side({}, title="t")
    with pytest.raises(ValueError, match="history: it is empty"):
        plots.curves_side_by_side({"a": HISTORY, "b": []}, title="t")


# Confusion matrix -----------------------------------------------------------------------------------------------------

MATRIX = np.array([[50, 0, 1200], [2, 98, 0], [0, 0, 0]])


def test_confusion_matrix_counts_and_shares():
    figure = plots.confusion_matrix(MATRIX, title="t", class_names=["a", "b", "c"])
    ax = figure.axes[0]
    written = {text.get_position(): text.get_text() for text in ax.texts}
    # Position is (column, row): predicted across, true down.
    assert written[(2, 0)] == "1200"
    assert written[(0, 1)] == "2"
    assert len(written) == 9
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.04, 0, 0.96], [0.02, 0.98, 0], [0, 0, 0]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    assert ax.get_title() == "148 of 1,350 right, accuracy 0.1096"


def contrast(a, b):
    def luminance(rgb):
        c = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in rgb[:3]]
        return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_counts_can_be_read_on_every_shade():
    from matplotlib.colors import to_rgb

    k = 21
    shades = np.zeros((k, k), dtype=int)
    for i in range(k):
        shades[i, :2] = 1000 - 50 * i, 50 * i
    ax = plots.confusion_matrix(shades, title="t").axes[0]
    cells = ax.images[0].to_rgba(ax.images[0].get_array())
    for text in ax.texts:
        column, row = text.get_position()
        assert contrast(to_rgb(text.get_color()), cells[row, column]) > 4


def test_very_many_classes_have_no_counts_but_a_line_that_says_so():
    ax = plots.confusion_matrix(counts(60), title="t").axes[0]
    assert not ax.texts
    assert "too many classes" in ax.get_title()
    assert len(ax.get_xticks()) < 60


@pytest.mark.parametrize("matrix", [np.ones((2, 3), int), np.ones(4, int), np.ones((0, 0), int)])
def test_confusion_matrix_must_be_square(matrix):
    with pytest.raises(ValueError, match="must be \\(classes, classes\\)"):
        plots.confusion_matrix(matrix, title="t")


def test_confusion_matrix_must_hold_counts():
    for matrix in (np.eye(2), np.array([[1, -1], [0, 1]])):
        with pytest.raises(ValueError, match="integers from 0 on"):
            plots.confusion_matrix(matrix, title="t")
    with pytest.raises(ValueError, match="class_names: there are 3 for 2 classes"):
        plots.confusion_matrix(counts(2), title="t", class_names="abc")


# Mistakes -------------------------------------------------------------------------------------------------------------


def test_mistakes_shows_the_wrong_ones_with_both_labels():
    pictures, true, predicted = images(), labels(), mistaken()
    figure = plots.mistakes(pictures, true, predicted, title="t", limit=4)
    (ax,) = figure.axes
    wrong = [2, 5, 8, 11]
    for shown, i in zip(ax.images, wrong, strict=True):
        np.testing.assert_array_equal(shown.get_array(), pictures[i])
    assert texts(figure) == ["10 of 30 images misclassified (33.33%); the first 4"] + [
        text for i in wrong for text in (f"predicted {predicted[i]}", f"true {true[i]}")
    ]
    assert {shown.get_clim() for shown in ax.images} == {(0, pictures.max())}


@pytest.mark.parametrize("all_classes", [False, True])
def test_surest_mistakes_come_first(all_classes):
    pictures, true, predicted = images(), labels(), mistaken()
    sure = np.linspace(0.05, 0.34, 30)
    given = np.zeros((30, 8))
    given[np.arange(30), predicted] = sure
    figure = plots.mistakes(pictures, true, predicted, title="t", limit=2, probabilities=given if all_classes else sure)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), pictures[29])
    assert texts(figure)[1:] == [f"predicted {predicted[29]} (34%)", f"true {true[29]}", "predicted 6 (31%)", "true 5"]
    assert texts(figure)[0].endswith("the 2 surest, the surest first")


def test_no_mistakes_is_said(figures):
    assert texts(figures["no mistakes"]) == ["all 30 images are classified right", "No mistakes"]
    assert not figures["no mistakes"].axes[0].images


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ((9, 5), (9, 5)),
        ((9, 5, 1), (9, 5)),
        ((9, 5, 3), (9, 5, 3)),
        ((9, 5, 2), (9, 5)),
        ((49,), (7, 7)),
        ((13,), (1, 13)),
    ],
)
def test_images_of_any_kind(shape, drawn):
    figure = plots.mistakes(images(30, shape), labels(), mistaken(), title="t", limit=7)
    assert [shown.get_array().shape for shown in figure.axes[0].images] == [drawn] * 7
    figure.draw_without_rendering()
    (shown,) = plots.image(images(1, shape)[0], 3).axes[0].images
    assert shown.get_array().shape == drawn


def test_colours_are_scaled_to_what_there_is():
    pixels = np.zeros((2, 3, 4, 3), dtype=np.uint8)
    pixels[1] = 200
    shown = plots.image_row(pixels, [0, 1], count=2).axes[0].images
    assert sorted(float(one.get_array().max()) for one in shown) == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros(4)}, "images: the shape is"),
        ({"images": np.zeros((0, 8, 8))}, "not empty"),
        ({"images": np.full((30, 8, 8), "x")}, "must hold numbers"),
        ({"true_labels": labels(29)}, "true_labels: its shape is \\(29,\\); 30 images need \\(30,\\)"),
        ({"predicted_labels": labels()[:, None]}, "predicted_labels: its shape is \\(30, 1\\)"),
        ({"limit": 0}, "limit=0: must be at least 1"),
        ({"probabilities": np.ones(29)}, "probabilities: the shape is \\(29,\\)"),
        ({"probabilities": np.ones((30, 3))}, "of 3 classes, but a label is beyond"),
    ],
)
def test_mistakes_that_cannot_be_drawn(change, message):
    given = {"images": images(), "true_labels": labels(), "predicted_labels": mistaken(), "title": "t"}
    with pytest.raises(ValueError, match=message):
        plots.mistakes(**given | change)


# Images, filters and the network --------------------------------------------------------------------------------------


def test_an_image_has_its_label_and_its_pixels():
    picture = images(1, (5, 9))[0]
    figure = plots.image(picture, 3, title="digits")
    assert figure.get_suptitle() == "digits, label 3"
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), picture)
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("column", "row")
    assert figure.axes[1].get_ylabel() == "pixel value"
    assert plots.image(picture).get_suptitle() == "an image"


def test_a_row_is_drawn_from_its_seed():
    pictures = images()
    figure = plots.image_row(pictures, labels(), seed=5, count=4)
    names = texts(figure)
    assert len(figure.axes[0].images) == 4
    for shown, label, index in zip(figure.axes[0].images, names[::2], names[1::2], strict=True):
        i = int(index.removeprefix("image "))
        assert label == f"label {labels()[i]}"
        np.testing.assert_array_equal(shown.get_array(), pictures[i])
    assert texts(plots.image_row(pictures, labels(), seed=5, count=4)) == names
    assert texts(plots.image_row(pictures, labels(), seed=6, count=4)) != names
    for count in (0, 31):
        with pytest.raises(ValueError, match=f"count={count}: must be from 1 to the number of images, 30"):
            plots.image_row(pictures, labels(), count=count)
    with pytest.raises(ValueError, match="labels: its shape is"):
        plots.image_row(pictures, labels(29))


def test_filters_share_a_scale_around_zero():
    weights = np.random.default_rng(2).normal(size=(7, 3, 5))
    shown = plots.filters(weights, title="t").axes[0].images
    largest = np.abs(weights).max()
    for one, w in zip(shown, weights, strict=True):
        np.testing.assert_array_equal(one.get_array(), w)
        assert one.get_clim() == (-largest, largest)


def test_of_many_filters_the_largest_are_drawn():
    weights = np.arange(1, 8)[:, None, None] * np.ones((7, 3, 5))
    figure = plots.filters(weights[[3, 0, 6, 1, 5, 2, 4]], title="t", limit=3)
    assert [one.get_array()[0, 0] for one in figure.axes[0].images] == [7, 6, 5]
    assert texts(figure) == ["7 filters of 3×5; the 3 with the largest weights"]
    plots.filters(np.zeros((2, 3, 3)), title="t").draw_without_rendering()
    for wrong, message in (
        (np.zeros((3, 3)), "must be \\(filters, height, width\\)"),
        (np.full((1, 2, 2), np.nan), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.filters(wrong, title="t")
    with pytest.raises(ValueError, match="limit=0"):
        plots.filters(weights, title="t", limit=0)


def test_the_diagram_has_a_column_for_each_layer_that_mixes(figures):
    written = texts(figures["diagram"])
    sizes = ["8×8×1", "8×8×16", "8×8×16", "4×4×16", "256", "128", "128", "10"]
    assert [text for text in written if text in sizes] == sizes
    for name in ("input", "Conv2D(16, 3)", "BatchNorm(0.1)", "ReLU", "Flatten", "Dense(128)"):
        assert name in written
    assert "53,178 parameters" in written
    assert "176 parameters" in written  # The convolution's and its normalization's.
    assert [text for text in written if text.isdigit() and len(text) == 1] == list("0123456789")


def test_the_diagram_draws_few_nodes_as_they_are_and_of_many_some():
    (ax,) = plots.network_diagram(Network([Dense(3), Dense(40)], (4,))).axes
    columns = [len(line.get_xdata()) for line in ax.lines if line.get_marker() == "o" and line.get_markersize() > 5]
    assert columns == [4, 3, 8]
    edges = [line for line in ax.lines if line.get_marker() == "None"]
    assert len(edges) == 4 * 3 + 3 * 8


def test_the_diagram_unrolls_an_image_from_corner_to_corner():
    (ax,) = plots.network_diagram(Network([Conv2D(3, 3), Flatten()], (8, 6, 1))).axes
    planes = [(patch.get_width(), patch.get_height()) for patch in ax.patches if patch.get_alpha() is None]
    assert len(planes) == 1 + 3
    assert planes[0][1] > planes[0][0] > planes[1][0]
    assert planes[0][1] > planes[1][1]
    (nodes,) = [line for line in ax.lines if line.get_marker() == "o" and line.get_markersize() > 5]
    edges = [line.get_ydata() for line in ax.lines if line.get_color() == "#666666"]
    assert [edge[1] for edge in edges] == [nodes.get_ydata()[0], nodes.get_ydata()[-1]]


# Ladder and comparison ------------------------------------------------------------------------------------------------


def test_the_ladder_has_a_row_for_each_recipe(figures):
    accuracies, seconds = figures["ladder"].axes
    assert [label.get_text() for label in accuracies.get_yticklabels()] == [row[0] for row in RUNGS]
    assert list(seconds.lines[0].get_xdata()) == [row[1] for row in RUNGS]
    assert list(seconds.lines[0].get_ydata()) == list(accuracies.lines[0].get_ydata()) == [0, 1, 2, 3]
    np.testing.assert_allclose(1 - np.asarray(accuracies.lines[0].get_xdata()), [row[2] for row in RUNGS])
    assert [text.get_text() for text in accuracies.texts] == ["0.7954", "0.8530", "0.9812", "0.9923"]
    assert [text.get_text() for text in seconds.texts] == ["7.2 s", "7.9 s", "28 s", "340 s"]
    assert seconds.get_xscale() == "log"
    assert seconds.get_title(loc="left") == "seconds to train"


def test_the_ladders_steps_halve_the_error(figures):
    ax = figures["ladder"].axes[0]
    places = [ax.transData.transform((1 - accuracy, 0))[0] for accuracy in (0.8, 0.9, 0.98, 0.99)]
    assert places == sorted(places)
    assert places[1] - places[0] == pytest.approx(places[3] - places[2])
    assert ax.xaxis.get_major_formatter()(0.01) == "0.99"


def test_a_perfect_accuracy_stands_apart():
    ax = plots.ladder(rungs(("mlp", 1, 0.96), ("cnn", 9, 1.0)), title="t").axes[0]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.04, 0.02])
    assert [text.get_text() for text in ax.texts] == ["0.9600", "1.0000"]
    plots.ladder(rungs(("mlp", 1, 1.0)), title="t").draw_without_rendering()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows: there are none"),
        ([{"recipe": "mlp", "seconds": 1.0}], "number 0 has no test_accuracy"),
        ([{"recipe": "mlp", "seconds": 1.0, "test_accuracy": None}], "number 0 has no test_accuracy"),
        (rungs(("mlp", 0, 0.9)), "seconds=0 of mlp: must be more than 0"),
        (rungs(("mlp", 1, 98.1)), "test_accuracy=98.1 of mlp: must be from 0 to 1"),
        (rungs(("mlp", 1, float("nan"))), "test_accuracy=nan of mlp"),
    ],
)
def test_rows_that_make_no_ladder(rows, message):
    with pytest.raises(ValueError, match=message):
        plots.ladder(rows, title="t")


def test_comparison_lays_curves_over_each_other_and_times_side_by_side():
    other = [Record(**vars(r) | {"test_accuracy": r.test_accuracy + 0.25 * (r.epoch == 1)}) for r in HISTORY]
    figure = plots.comparison(backends(("numpy", HISTORY, 2.5), ("torch:cuda", other, 1234.5)), title="t")
    curves, times = figure.axes
    assert lines(curves) == {"numpy": ([0, 1, 2], [0.45, 0.65, 0.77]), "torch:cuda": ([0, 1, 2], [0.45, 0.9, 0.77])}
    assert "0.25 apart" in curves.get_title(loc="left")
    assert "test accuracy" in curves.get_title(loc="left")
    assert [bar.get_width() for bar in times.patches] == [2.5, 1234.5]
    assert [text.get_text() for text in times.texts] == ["2.5 s", "1,234 s"]
    assert [label.get_text() for label in times.get_yticklabels()] == ["numpy", "torch:cuda"]
    from matplotlib.colors import to_hex

    assert [to_hex(bar.get_facecolor()) for bar in times.patches] == [line.get_color() for line in curves.lines]
    # Each can be seen beneath those that are drawn after it.
    widths = [line.get_linewidth() for line in curves.lines]
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == 2


def test_comparison_of_curves_that_are_the_same_or_alone_or_apart():
    def said(*histories):
        figure = plots.comparison(backends(*((str(i), h, 0.0) for i, h in enumerate(histories))), title="t")
        return figure.axes[0].get_title(loc="left")

    training_only = [Record(0, 0.5, 0.75)]
    assert said(HISTORY, HISTORY[:2]) == "test accuracy\nthe curves are the same"
    assert said(HISTORY) == "test accuracy\na single curve"
    assert said(HISTORY, training_only) == "training accuracy\nat most 0.35 apart"
    assert said(HISTORY[:1], HISTORY[1:]) == "test accuracy\nno epoch in common"


def test_rows_that_cannot_be_compared():
    with pytest.raises(ValueError, match="rows: there are none"):
        plots.comparison([], title="t")
    with pytest.raises(ValueError, match="history: it is empty"):
        plots.comparison(backends(("numpy", [], 1)), title="t")
    with pytest.raises(ValueError, match="number 1 has no backend"):
        plots.comparison([*backends(("numpy", HISTORY, 1)), {}], title="t")
    with pytest.raises(ValueError, match="seconds=-1 of numpy"):
        plots.comparison(backends(("numpy", HISTORY, -1)), title="t")
