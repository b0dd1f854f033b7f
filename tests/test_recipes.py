"""The recipes: the tutorial's own numbers, agreement between backends, and floors of accuracy."""

import json

import numpy as np
import pytest

import notebook
import xpnet
from runs import elsewhere_but
from xpnet import Dense, Dropout, Flatten, Network, RandomShift
from xpnet.recipes import RECIPES, CoinDropout


def rows_of(run, data):
    n, n_test = len(data.train_images), len(data.test_images)
    return np.asarray(
        [(r.train_loss, round(r.train_accuracy * n), r.test_loss, round(r.test_accuracy * n_test)) for r in run.history]
    )


@pytest.mark.parametrize(
    ("seed", "hidden", "rate", "samples", "epochs"),
    [(1, 100, 0.005, 1000, 3), (7, 23, 0.02, 331, 4), (0, 40, 0.001, 50, 2), (3, 9, 0.01, 1, 2)],
)
def test_tutorial_gives_the_notebooks_numbers(digits, seed, hidden, rate, samples, epochs):
    run = xpnet.train(
        "tutorial",
        dataset=digits,
        seed=seed,
        hidden_sizes=(hidden,),
        learning_rate=rate,
        train_samples=samples,
        epochs=epochs,
        progress=False,
    )
    x, x_test = (images.reshape(len(images), -1) / 16.0 for images in (digits.train_images, digits.test_images))
    expected = notebook.train(
        x[:samples],
        digits.train_labels[:samples],
        x_test,
        digits.test_labels,
        seed=seed,
        hidden=hidden,
        rate=rate,
        epochs=epochs,
    )
    ours = rows_of(run, digits.first(samples))
    np.testing.assert_array_equal(ours[:, [1, 3]], expected[:, [1, 3]])
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


@pytest.mark.thorough
@pytest.mark.xdist_group("mnist")
def test_tutorial_on_mnist_ends_where_the_notebook_does(run_on_mnist):
    """The published output: training error 0.365 and accuracy 0.867, test error 0.407 and accuracy 0.7954."""
    run = run_on_mnist("tutorial")
    last = run.history[-1]
    assert (last.epoch, round(last.train_accuracy * 1000), round(last.test_accuracy * 10_000)) == (99, 867, 7954)
    assert (f"{last.train_loss:.5f}"[:5], f"{last.test_loss:.5f}"[:5]) == ("0.365", "0.407")
    assert run.evaluation.accuracy == last.test_accuracy


@pytest.mark.thorough
@pytest.mark.xdist_group("mnist")
def test_corrected_on_mnist_is_five_points_better(run_on_mnist):
    run = run_on_mnist("corrected")
    assert run.history[-1].test_accuracy > 0.7954 + 0.05


@pytest.mark.parametrize("recipe", elsewhere_but(RECIPES, "tutorial", "mlp", "best"))
@pytest.mark.slow
def test_backends_agree(backend, few, recipe):
    """Three epochs in float64, all randomness from the host."""
    settings = {"dataset": few, "epochs": 3, "dtype": "float64", "seed": 5, "progress": False}
    ours = xpnet.train(recipe, backend=backend, **settings)
    reference = xpnet.train(recipe, backend="numpy", **settings)
    for column in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy"):
        a, b = ours.history.column(column), reference.history.column(column)
        if b[0] is not None:
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12, err_msg=column)
    np.testing.assert_array_equal(ours.evaluation.predictions, reference.evaluation.predictions)


@pytest.mark.parametrize("recipe", elsewhere_but(["mlp", "cnn"], "mlp"))
def test_float32_agrees_as_far_as_it_can(backend, few, recipe):
    settings = {"dataset": few.first(150), "epochs": 3, "dtype": "float32", "progress": False}
    ours = xpnet.train(recipe, backend=backend, **settings)
    reference = xpnet.train(recipe, backend="numpy", **settings)
    np.testing.assert_allclose(ours.history.column("test_loss"), reference.history.column("test_loss"), rtol=1e-3)
    assert np.sum(ours.evaluation.predictions != reference.evaluation.predictions) <= 4


def test_a_device_without_float64_trains_in_float32(digits):
    run = xpnet.train("mlp", dataset=digits, backend="array_api_strict:no_float64", epochs=1, progress=False)
    assert run.config["dtype"] == "float32"
    with pytest.raises(xpnet.BackendError, match="no_float64"):
        xpnet.train("tutorial", dataset=digits, backend="array_api_strict:no_float64", progress=False)


@pytest.mark.no_cover  # counting lines takes as long again as the training, and other tests pass by all of them
@pytest.mark.parametrize(
    ("recipe", "floor"),
    [
        ("mlp", 0.93),
        ("cnn", 0.97),
        *(
            pytest.param(*pair, marks=pytest.mark.thorough)
            for pair in (("tutorial", 0.88), ("corrected", 0.925), ("deep", 0.95), ("best", 0.975))
        ),
    ],
)
@pytest.mark.slow
def test_digits_are_learnt(digits, recipe, floor):
    run = xpnet.train(recipe, dataset=digits, progress=False)
    assert run.evaluation.accuracy > floor
    assert run.history[-1].train_loss < run.history[0].train_loss


def test_the_default_recipe_falls_back_on_digits_with_a_warning(monkeypatch, tmp_path):
    monkeypatch.setenv("XPNET_DATA_DIR", str(tmp_path))
    with pytest.warns(UserWarning, match="bundled digits instead"):
        run = xpnet.train(epochs=1, progress=False)
    assert (run.config["recipe"], run.config["dataset"]) == ("mlp", "digits")


def test_without_a_validation_set_nothing_is_waited_for(few):
    run = xpnet.train("mlp", dataset=few, epochs=2, validation_fraction=0.0, progress=False)
    assert run.config["stopping"]["patience"] is None
    with pytest.raises(ValueError, match=r"^patience=3: early stopping needs a validation set"):
        xpnet.train("mlp", dataset=few, validation_fraction=0.0, patience=3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"validation_fraction": 2.0},
        {"threads": 0},
        {"resume": True},
        {"callbacks": 5},
        {"output_dir": 5},
        {"train_samples": "x"},
        {"epochs": 0},
        {"dtype": "int8"},
        {"seed": -1},
        {"backend": "tpu"},
    ],
    ids=str,
)
def test_what_needs_no_data_is_refused_before_it_is_fetched(monkeypatch, wrong):
    monkeypatch.setattr("xpnet.training.train.load_dataset", lambda *_, **__: pytest.fail("it is fetched"))
    with pytest.raises((ValueError, TypeError), match=f"^{next(iter(wrong))}="):
        xpnet.train("mlp", progress=False, **wrong)


def test_surveys_refuse_before_the_first_run_what_the_last_would(monkeypatch, digits):
    from xpnet import survey

    monkeypatch.setattr(survey, "train", lambda *_, **__: pytest.fail("the work has begun"))
    with pytest.raises(ValueError, match=r"hidden_sizes=.*the recipe 'cnn' does not use it"):
        survey.ladder(["mlp", "cnn"], dataset=digits, hidden_sizes=(5,))
    with pytest.raises(ValueError, match=r"^backend='nope'"):
        survey.compare(["numpy", "nope"], dataset=digits)
    with pytest.raises(ValueError, match=r"^resume=True: several runs cannot go on in one folder"):
        survey.compare(["numpy"], dataset=digits, resume=True)


def test_a_survey_that_is_interrupted_saves_the_runs_that_are_done(tmp_path, digits):
    from xpnet import survey

    rows = []

    def impatient(row):
        rows.append(row)
        if len(rows) == 2:
            raise KeyboardInterrupt

    settings = {"dataset": digits, "train_samples": 60, "epochs": 1, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        survey.ladder(["mlp", "deep", "cnn"], output_dir=tmp_path / "l", each=impatient, **settings)
    assert {path.name for path in (tmp_path / "l").iterdir()} == {*survey.LADDER_FILES}
    saved = json.loads((tmp_path / "l/ladder.json").read_text())
    assert [row["recipe"] for row in saved] == ["mlp", "deep"]
    survey.compare(["numpy"], output_dir=tmp_path / "c", **settings)
    assert {path.name for path in (tmp_path / "c").iterdir()} == {*survey.COMPARISON_FILES}


def test_the_tutorials_dropout_draws_from_either_generator():
    layer = CoinDropout()
    drawn = [layer.noise(rng, (100,), 50) for rng in (np.random.default_rng(0), np.random.RandomState(0))]
    assert all(abs(mask.mean() - 0.5) < 0.05 for mask in drawn)
    np.testing.assert_array_equal(drawn[1], np.random.RandomState(0).randint(0, 2, size=(50, 100)))
    with pytest.raises(ValueError, match=r"^rate=0\.2: a coin drops half"):
        CoinDropout(0.2)
    layers = [RandomShift(1), Flatten(), Dense(4), Dropout(0.2), Dense(10)]
    run = xpnet.fit(
        Network(layers, (8, 8)), xpnet.load_dataset("digits").first(30), epochs=1, sequential=True, progress=False
    )
    assert run.history[0].finite()


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"recipe": "nope"}, ValueError, "recipe='nope': unknown; there are tutorial"),
        ({"recipe": ["mlp"]}, ValueError, r"recipe=\['mlp'\]: unknown; there are tutorial"),
        ({"recipe": "tutorial", "batch_size": 3}, ValueError, "batch_size=3: the recipe 'tutorial' does not use it"),
        ({"recipe": "cnn", "hidden_sizes": (3,)}, ValueError, "does not use it"),
        ({"dataset": "cifar"}, ValueError, "dataset='cifar'"),
        ({"backend": "tpu"}, ValueError, "backend='tpu'"),
        ({"dtype": "int8"}, ValueError, "dtype='int8'"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": 1.5}, TypeError, "seed=1.5"),
        ({"epochs": 0}, ValueError, "epochs=0"),
        ({"epochs": 2.0}, TypeError, "epochs=2.0"),
        ({"batch_size": -2}, ValueError, "batch_size=-2"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate=0.0"),
        ({"learning_rate": float("inf")}, ValueError, "learning_rate=inf"),
        ({"hidden_sizes": ()}, ValueError, "hidden_sizes"),
        ({"hidden_sizes": (5, 0)}, ValueError, "hidden_sizes=0"),
        ({"hidden_sizes": "100"}, TypeError, "hidden_sizes='100'"),
        ({"train_samples": 0}, ValueError, "train_samples=0"),
        ({"train_samples": 1001}, ValueError, "from 1 to 1000"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction=1.0"),
        ({"validation_fraction": 1e-5}, ValueError, "none to validate on"),
        ({"validation_fraction": 0.9999}, ValueError, "none to train on"),
        ({"patience": 0}, ValueError, "patience=0"),
        ({"threads": 0}, ValueError, "threads=0"),
        ({"resume": True}, ValueError, "output_dir"),
        ({"recipe": "deep", "batch_size": 899}, ValueError, "batch of 1"),
    ],
)
def test_bad_arguments_are_named_before_any_work(settings, error, words):
    with pytest.raises(error, match=words):
        xpnet.train(**{"recipe": "mlp", "dataset": "digits", "progress": False} | settings)


NETWORKS = {
    "tutorial": "Dense(100, bias=False, init_weight=Uniform(0.1)), TutorialReLU(), TutorialDropout(0.5), "
    "Dense(10, bias=False, init_weight=Uniform(0.1))",
    "corrected": "Dense(100, bias=False, init_weight=Uniform(0.1)), ReLU(), CoinDropout(0.5), "
    "Dense(10, bias=False, init_weight=Uniform(0.1))",
    "mlp": "Dense(100), ReLU(), Dropout(0.2), Dense(10)",
    "deep": "Dense(512, bias=False), BatchNorm(0.1), ReLU(), Dropout(0.3), "
    "Dense(512, bias=False), BatchNorm(0.1), ReLU(), Dropout(0.3), "
    "Dense(256, bias=False), BatchNorm(0.1), ReLU(), Dropout(0.3), Dense(10)",
    "cnn": "Conv2D(16, 3, padding='same'), MaxPool2D(2), ReLU(), Conv2D(32, 3, padding='same'), MaxPool2D(2), ReLU(), "
    "Flatten(), Dropout(0.3), Dense(128), ReLU(), Dropout(0.3), Dense(10)",
    "best": "RandomShift(2), Conv2D(16, 3, padding='same', bias=False), BatchNorm(0.1), ReLU(), "
    "Conv2D(16, 3, padding='same', bias=False), BatchNorm(0.1), MaxPool2D(2), ReLU(), "
    "Conv2D(32, 3, padding='same', bias=False), BatchNorm(0.1), ReLU(), "
    "Conv2D(32, 3, padding='same', bias=False), BatchNorm(0.1), MaxPool2D(2), ReLU(), "
    "Flatten(), Dropout(0.2), Dense(128, bias=False), BatchNorm(0.1), ReLU(), Dropout(0.2), Dense(10)",
}
# Seed, dtype, training samples; optimizer, schedule, epochs, batch size, share to validate on, patience.
SETTINGS = {
    "tutorial": (1, "float64", 1000, "SGD(0.0025)", "Schedule()", 100, 1, 0.0, None),
    "corrected": (1, "float64", 1000, "SGD(0.0025)", "Schedule()", 100, 1, 0.0, None),
    "mlp": (0, "float32", None, "Adam(0.003)", "Cosine(30, warm_up=1.0)", 30, 128, 0.1, 10),
    "deep": (0, "float32", None, "Adam(0.002)", "Cosine(30, warm_up=1.0)", 30, 64, 0.1, None),
    "cnn": (0, "float32", None, "Adam(0.002)", "Cosine(15, warm_up=1.0)", 15, 64, 0.1, None),
    "best": (0, "float32", None, "Adam(0.003)", "Cosine(12, warm_up=1.0)", 12, 64, 0.1, None),
}


@pytest.fixture(scope="module")
def as_large_as_mnist():
    images = np.zeros((60_000, 28, 28), np.uint8)
    images[:, 5:23, 9:19] = 255
    labels = np.arange(60_000) % 10
    return xpnet.Dataset("as large as MNIST", images, labels, images[:10_000], labels[:10_000])


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_is_what_it_was_measured_with(as_large_as_mnist, name):
    """A recipe's accuracy was measured with these: who changes one measures anew."""
    recipe = RECIPES[name]
    plan = recipe.build(as_large_as_mnist)
    shape = (28, 28, 1) if name in ("cnn", "best") else (784,)
    assert repr(plan.network) == f"Network([{NETWORKS[name]}], input_shape={shape})"
    numbers = (plan.epochs, plan.batch_size, plan.validation_fraction, plan.patience)
    parts = (str(plan.optimizer), str(plan.schedule))
    assert (recipe.seed, recipe.dtype, recipe.train_samples, *parts, *numbers) == SETTINGS[name]
    by_sample = name in ("tutorial", "corrected")
    assert str(plan.loss) == ("SquaredError()" if by_sample else "SoftmaxCrossEntropy(0.0)")
    assert (plan.monitor, plan.sequential) == ("val_accuracy", by_sample)


def test_the_defaults_that_recipes_leave_out_are_what_they_were():
    adam, norm, cosine = xpnet.Adam(0.003), xpnet.BatchNorm(0.1), xpnet.Cosine(30, warm_up=1.0)
    assert (adam.weight_decay, adam.beta1, adam.beta2, adam.epsilon) == (0.0, 0.9, 0.999, 1e-8)
    assert norm.epsilon == 1e-5
    assert (cosine.floor, cosine.start) == (0.0, 0.1)
    assert (xpnet.SGD(0.1).momentum, xpnet.SGD(0.1).weight_decay, xpnet.Conv2D(16, 3).stride) == (0.0, 0.0, 1)
    assert str(xpnet.Dense(3)) == str(xpnet.Dense(3, bias=True, init_weight=xpnet.HeUniform()))
    assert str(xpnet.Conv2D(3, 3)) == str(xpnet.Conv2D(3, 3, bias=True, init_weight=xpnet.HeUniform()))
    assert xpnet.MaxPool2D(2).output_shape((8, 8, 1)) == (4, 4, 1)
