"""Images of another kind cause a warning, and good ones never do."""

import warnings

import numpy as np
import pytest

import xpnet
from xpnet import DataError, Dataset, DataWarning
from xpnet.data.facts import Facts, check_alike
from xpnet.runs.run import save_results


@pytest.fixture(scope="module")
def samples(digits):
    x = digits.train_images.astype(np.uint8)
    return x, digits.train_labels, digits.test_images, digits.test_labels


def make(x, y, t, labels, **how):
    return Dataset("mine", x, y, t, labels, **how)


def test_floats_that_nobody_divided_are_suspected(samples):
    x, y, t, labels = samples
    with pytest.warns(DataWarning, match="floats from 0 to 16, all whole, look like unscaled pixels"):
        make(x.astype(np.float32), y, t.astype(np.float32), labels)


def test_floats_to_train_and_bytes_to_test_are_refused(samples):
    x, y, t, labels = samples
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        with pytest.raises(DataError, match=r"test_images: integers .* but the training images are floats"):
            make(x.astype(np.float32) * 15, y, t * 15, labels)
        with pytest.raises(DataError, match="test_images: floats"):
            make(x, y, t * 1.0, labels, pixel_max=16)


SCALES = {
    "floats that are not whole": (lambda x: x * 0.993, {}, "floats from 0 to 15.* are taken as they are"),
    "floats in one row": (lambda x: x.reshape(-1, 64) * 1.0, {}, "floats from 0 to 16, all whole"),
    "floats around 0": (lambda x: x * 16.0 - 128, {}, "floats from -128 to 128 are taken as they are"),
    "divided twice": (lambda x: x / 256, {}, "floats from 0 to 0.0625: divided twice"),
    "a wrong pixel_max": (lambda x: x, {}, "pixels up to 16, but pixel_max=255: give pixel_max=16"),
    "bits": (lambda x: x // 9, {}, "pixels up to 1, but pixel_max=255: give pixel_max=1 "),
    "12 bits": (lambda x: x * np.int32(255), {"pixel_max": 65535}, "pixels up to 4080, .*: give pixel_max=4095"),
}


@pytest.mark.parametrize("kind", SCALES)
def test_any_scale_that_a_network_learns_badly_from_is_named(samples, kind):
    x, y, t, labels = samples
    change, how, words = SCALES[kind]
    with pytest.warns(DataWarning, match=words) as warned:
        make(change(x), y, change(t), labels, **how)
    assert len(warned) == 1


RESCALED = {
    "to twice the range": (lambda x: x, lambda x: 2 * x),
    "to half the range": (lambda x: x, lambda x: x / 2),
    "from -1 to 1 for standardised": (lambda x: (x - 0.13) / 0.31, lambda x: 2 * x - 1),
    "standardised for -1 to 1": (lambda x: 2 * x - 1, lambda x: (x - 0.3) / 0.2),
    "negated": (lambda x: (x - 0.3) / 0.37, lambda x: -3 * x),
}


@pytest.mark.parametrize("kind", RESCALED)
def test_images_that_are_scaled_otherwise_are_suspected(digits, kind):
    first, second = RESCALED[kind]
    facts = Facts.of(first(digits.train_images / 16), 1.0)
    with pytest.warns(DataWarning, match="scaled by another number than the training images"):
        check_alike("images", facts, second(digits.test_images / 16), 1.0)


def test_features_with_longer_tails_raise_no_alarm():
    features = np.random.default_rng(0).normal(size=(150, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(5):
            test = np.arange(150) % 5 == k
            check_alike("images", Facts.of(features[~test], 1.0), features[test], 1.0)
            check_alike("images", Facts.of(features[~test], 1.0), 1.5 * features[test], 1.0)


def test_integers_are_compared_with_training_images_that_were_floats(mnist):
    facts = Facts.of(mnist.train_images[:2000] / 255, 1.0)
    for images, words in ((255 - mnist.test_images, "inverted"), (mnist.test_images.swapaxes(1, 2), "transposed")):
        with pytest.warns(DataWarning, match=words):
            check_alike("images", facts, images[:500], 255.0)


def test_going_on_from_weights_compares_the_images(digits):
    network = xpnet.train("mlp", dataset=digits, epochs=1, progress=False).network
    x, t = digits.train_images, digits.test_images
    dark = make(16 - x, digits.train_labels, 16 - t, digits.test_labels, pixel_max=16)
    settings = {"epochs": 1, "progress": False, "initial": "given"}
    with pytest.warns(DataWarning, match="data: inverted"):
        xpnet.fit(network, dark, **settings)
    wide = make(x.reshape(-1, 4, 16), digits.train_labels, t.reshape(-1, 4, 16), digits.test_labels, pixel_max=16)
    with pytest.raises(DataError, match="data: samples of shape"):
        xpnet.fit(network, wide, **settings)


def test_classes_of_other_names_or_in_another_order_are_not_taken_for_the_same(digits, tmp_path):
    def named(names):
        return Dataset(
            "pets",
            digits.train_images,
            digits.train_labels,
            digits.test_images,
            digits.test_labels,
            pixel_max=16,
            class_names=names,
        )

    run = xpnet.train("mlp", dataset=named(tuple("abcdefghij")), epochs=1, progress=False)
    save_results(tmp_path, run)
    for network in (run.network, xpnet.load(tmp_path)):
        with pytest.raises(DataError, match=r"data: classes j, i, .* but the network was trained on a, b, "):
            xpnet.evaluate(network, named(tuple("jihgfedcba")))
        with pytest.warns(DataWarning, match="data: classes A, B, "):
            xpnet.evaluate(network, named(tuple("ABCDEFGHIJ")))
        assert xpnet.evaluate(network, digits).accuracy == run.evaluation.accuracy


def test_labels_to_score_against_are_checked(digits):
    network = xpnet.train("mlp", dataset=digits, epochs=1, progress=False).network
    images, labels = digits.test_images, digits.test_labels
    right = network.score(images, labels)
    for same in (labels.tolist(), labels * 1.0, np.eye(10)[labels]):
        assert network.score(images, same) == right
    for other, words in (
        (labels.astype(str), "must be .* integers"),
        (np.where(labels == 3, np.nan, labels), "values are missing"),
        (np.ma.masked_equal(labels, 3), "values are masked"),
        (labels + 1, "from 1 to 10; must be from 0 to 9"),
    ):
        with pytest.raises(DataError, match=f"labels: .*{words}"):
            network.score(images, other)


def test_channels_first_are_suspected(samples):
    _, y, _, labels = samples
    x, t = np.zeros((1000, 3, 16, 16), np.uint8), np.zeros((797, 3, 16, 16), np.uint8)
    x[0] = 255
    with pytest.warns(DataWarning, match="channels first"):
        make(x, y, t, labels)


def test_classes_that_are_missing_or_rare_are_named(samples):
    x, y, t, labels = samples
    with pytest.warns(DataWarning, match="no training images of 3: "):
        make(x[y != 3], y[y != 3], t, labels, pixel_max=16)
    few = np.concatenate([np.flatnonzero(y != 9), np.flatnonzero(y == 9)[:5]])
    with pytest.warns(DataWarning, match=r"5 of 90\d training images are of class 9"):
        make(x[few], y[few], t, labels, pixel_max=16)


@pytest.mark.parametrize(
    ("change", "guess"),
    [
        (lambda t: t / 255, "divided twice"),
        (lambda t: 1 - t, "inverted"),
        (lambda t: (t - 0.13) / 0.31, "standardised"),
    ],
)
def test_what_predictions_are_asked_for_is_compared(mnist, change, guess):
    facts = Facts.of(mnist.train_images, 255.0)
    for images in (mnist.test_images[:200] / 255, mnist.test_images[3:4] / 255):
        with pytest.warns(DataWarning, match=guess):
            check_alike("images", facts, change(images), 255.0)


@pytest.mark.slow
@pytest.mark.parametrize("turn", [lambda t: t.swapaxes(1, 2), lambda t: np.rot90(t, axes=(1, 2))], ids=["T", "rot90"])
def test_images_that_are_transposed_or_turned_are_suspected(mnist, digits, turn):
    for data in (mnist, digits):
        for n in (20, 100, 700):
            with pytest.warns(DataWarning, match="transposed, or turned by 90 degrees") as warned:
                check_alike("images", data.facts, turn(data.test_images[:n]), data.pixel_max)
            assert len(warned) == 1
        changed = Facts.of(turn(data.train_images), data.pixel_max)
        with pytest.warns(DataWarning, match="transposed"):
            check_alike("images", changed, data.test_images[:500], data.pixel_max)
        standard = (data.train_images / data.pixel_max - 0.13) / 0.31
        with pytest.warns(DataWarning, match="transposed"):
            check_alike("images", Facts.of(standard, 1.0), turn(standard[:100]), 1.0)
        dark = data.pixel_max - data.train_images
        with pytest.warns(DataWarning, match="transposed"):
            check_alike("images", Facts.of(dark, data.pixel_max), turn(dark[:100]), data.pixel_max)


def test_channels_first_are_suspected_of_a_network_of_images():
    with pytest.warns(
        DataWarning, match=r"input_shape=\(1, 28, 28\): channels first\? .* give \(28, 28, 1\)"
    ) as warned:
        xpnet.Network([xpnet.Conv2D(2, 3, padding=1), xpnet.Flatten(), xpnet.Dense(10)], input_shape=(1, 28, 28))
    assert len(warned) == 1
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape in ((28, 28, 1), (28, 28, 3), (1, 28, 1), (3, 3, 28), (28, 28)):
            xpnet.Network([xpnet.Conv2D(2, 1), xpnet.Flatten(), xpnet.Dense(10)], input_shape=shape)
        xpnet.Network([xpnet.Flatten(), xpnet.Dense(10)], input_shape=(1, 28, 28))


def test_sorted_labels_are_suspected_where_nothing_shuffles(digits):
    order = np.argsort(digits.train_labels, kind="stable")
    data = make(
        digits.train_images[order], digits.train_labels[order], digits.test_images, digits.test_labels, pixel_max=16
    )
    settings = {"dataset": data, "epochs": 1, "progress": False}
    with pytest.warns(DataWarning, match="in the order of their classes"):
        xpnet.train("tutorial", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xpnet.train("mlp", **settings)
        xpnet.train("tutorial", **settings | {"dataset": digits})
    with pytest.warns(DataWarning, match="no training images of"):
        data.first(300)


def test_floats_that_nobody_divided_are_refused_by_a_network_for_pixels(mnist):
    facts, images = Facts.of(mnist.train_images, 255.0), mnist.test_images[:9].astype(np.float32)
    with pytest.raises(DataError, match="images: floats that a network sees from 0 to 255"):
        check_alike("images", facts, images, 255.0)
    with pytest.raises(DataError, match="images: integers"):
        check_alike("images", Facts.of(images, 1.0), mnist.test_images, 255.0)


def test_good_images_raise_no_alarm(mnist, digits):
    """No warning: one by one, class by class, shifted, as floats, or standardised throughout."""
    rng = np.random.default_rng(0)
    clothes = np.clip(rng.normal(0.3, 0.3, (200, 28, 28)), 0, 1)  # as bright as those of Fashion-MNIST
    for images, labels, pixel_max in (
        (mnist.test_images[:2000], mnist.test_labels[:2000], 255.0),
        (digits.test_images, digits.test_labels, 16.0),
        (clothes, np.arange(200) % 10, 1.0),
    ):
        facts = Facts.of(images, pixel_max)
        standard = (images / pixel_max - 0.13) / 0.31
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for image in images[:500]:
                check_alike("images", facts, image[None], pixel_max)
            for k in range(10):
                check_alike("images", facts, images[labels == k], pixel_max)
                check_alike("images", facts, images[labels == k][:20], pixel_max)
            for n in (20, 30, 50):
                for _ in range(100):
                    check_alike("images", facts, images[rng.choice(len(images), n)], pixel_max)
            check_alike("images", facts, np.roll(images[:, ::-1, ::-1], (-2, 1), axis=(1, 2)), pixel_max)
            check_alike("images", facts, np.roll(images, 3, axis=2), pixel_max)
            check_alike("images", facts, (images / pixel_max).astype(np.float32), pixel_max)
            check_alike("images", Facts.of(standard, 1.0), standard[:100], 1.0)
            Dataset("good", images, labels, images, labels, pixel_max=pixel_max)


def test_facts_are_kept_with_the_run(digits, tmp_path):
    run = xpnet.train("mlp", dataset="digits", epochs=1, progress=False)
    run.save(tmp_path / "run")
    network = xpnet.load(tmp_path / "run")
    assert network.facts == run.network.facts == digits.facts
    assert Facts.from_config(digits.facts.to_config()) == digits.facts
    assert Facts.from_config({"kind": "floats"}) is None
    assert Facts.from_config(None) is None
    with pytest.warns(DataWarning, match="inverted"):
        network.predict(16 - digits.test_images)
    with pytest.raises(DataError, match="samples of shape"):
        network.predict(digits.test_images.reshape(-1, 4, 16))


def test_photographs_are_predicted_for(tmp_path):
    from PIL import Image

    run = xpnet.train("mlp", dataset="digits", epochs=1, progress=False)
    page = np.full((60, 50), 235, dtype=np.uint8)
    page[10:50, 20:26] = 30
    Image.fromarray(page).save(tmp_path / "one.png")
    for given in (tmp_path / "one.png", str(tmp_path / "one.png"), [tmp_path / "one.png"]):
        assert run.network.predict(given).shape == (1,)


def test_a_test_set_of_another_brightness_is_scaled_by_its_own(digits):
    run = xpnet.train("mlp", dataset="digits", epochs=3, progress=False)
    brighter = Dataset(
        "brighter",
        digits.train_images * 15,
        digits.train_labels,
        digits.test_images * 15,
        digits.test_labels,
        pixel_max=240,
    )
    assert xpnet.evaluate(run.network, brighter).accuracy == pytest.approx(run.evaluation.accuracy, abs=0.01)
