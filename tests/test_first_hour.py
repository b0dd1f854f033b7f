"""What somebody who knows scikit-learn, Keras or PyTorch tries in the first hour: it works, or says what does."""

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import xpnet
from xpnet import Conv2D, Dense, Flatten, Network, fit
from xpnet.data import prepare_digit

NETWORK = Network([Dense(20), xpnet.ReLU(), Dense(10)], (64,))


@pytest.fixture(scope="module")
def run(digits):
    return xpnet.train("mlp", dataset=digits, epochs=3, progress=False)


@pytest.fixture(scope="module")
def images(digits):
    return digits.test_images[:6]


# Predictions ----------------------------------------------------------------------------------------------------------


def test_one_image_needs_no_batch_axis(run, images):
    expected = run.network.predict(images)
    for image in (images[0], images[0].ravel(), images[0][..., None], images[:1]):
        np.testing.assert_array_equal(run.network.predict(image), expected[:1])
        assert run.network.logits(image).shape == run.network.predict_proba(image).shape == (1, 10)


def test_lists_of_images_are_taken(run, images, torch):
    expected = run.network.predict(images).tolist()
    assert run.network.predict(list(images)).tolist() == expected
    assert run.network.predict(images.tolist()).tolist() == expected
    tensors = [torch.tensor(image / 16.0, dtype=torch.float32, requires_grad=True) for image in images]
    assert run.network.predict(tensors).tolist() == expected


def test_tensors_that_require_gradients_or_are_short_floats_are_taken(run, images, torch):
    expected = run.network.predict(images).tolist()
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        tensor = torch.tensor(images / 16.0, dtype=dtype, requires_grad=True)
        labels = run.network.predict(tensor)
        assert (type(labels), labels.tolist()) == (torch.Tensor, expected)
        assert torch.allclose(run.network.predict_proba(tensor).sum(dim=1), torch.ones(6))


def test_a_frame_is_taken(run, images):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(images.reshape(6, 64))
    expected = run.network.predict(images).tolist()
    assert run.network.predict(frame).tolist() == expected
    assert run.network.predict(frame.astype("Int64")).tolist() == expected


def test_images_of_pillow_are_taken_as_they_are_or_as_photographs(run, digits):
    pillow = pytest.importorskip("PIL.Image")
    small = [pillow.fromarray(image) for image in digits.test_images[:20]]
    np.testing.assert_array_equal(run.network.predict(small), run.network.predict(digits.test_images[:20]))
    # Dark on light, and 160 pixels wide: photographs, which are prepared.
    large = [pillow.fromarray(255 - np.kron(image * 15, np.ones((20, 20), np.uint8))) for image in digits.test_images]
    prepared = [prepare_digit(image, size=8, box=8, center=3.5, pixel_max=16.0) for image in large[:20]]
    np.testing.assert_array_equal(run.network.predict(large[:20]), run.network.predict(np.stack(prepared)))
    assert run.network.predict(large[0]).shape == (1,)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda x: [x[0], x[1][:4]], ValueError, r"^images: list is not an array on the host: all input arrays must"),
        (lambda x: x[:, :4], ValueError, r"^images of shape \(6, 4, 8\): this network takes \(n, ...\) with 64"),
        (lambda x: "no.png", ValueError, r"^no.png: cannot be read: No such file"),
        (lambda x: np.full(x.shape, "a"), TypeError, r"^images: must be real numbers, not <U1"),
        (lambda x: None, ValueError, r"^images: 1 of 1 values are missing"),
        (lambda x: x * 100.0 * np.nan, ValueError, r"^images: .*NaN"),
    ],
    ids=["ragged", "too few", "no file", "words", "nothing", "nan"],
)
def test_what_is_no_image_is_said_in_one_line(run, images, wrong, error, words):
    with pytest.raises(error, match=words) as raised:
        run.network.predict(wrong(images))
    assert len(str(raised.value)) < 300


# The record ---------------------------------------------------------------------------------------------------------


def test_a_history_is_a_table(run):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(run.history)
    assert frame.shape == (3, 8)
    assert frame["test_accuracy"].tolist() == run.history["test_accuracy"] == run.history.column("test_accuracy")
    with pytest.raises(ValueError, match=r"^column 'accuracy': unknown; there are epoch, train_loss"):
        run.history["accuracy"]


def test_accuracy_is_the_score(run, digits, torch):
    expected = run.evaluation.accuracy
    assert run.network.score(digits.test_images, digits.test_labels) == expected
    labels = torch.asarray(digits.test_labels)
    assert run.network.score(torch.asarray(digits.test_images), labels) == expected
    assert run.network.score(digits.test_images, digits.test_labels.tolist()) == expected
    with pytest.raises(ValueError, match=r"^labels: 5 labels for 797 images"):
        run.network.score(digits.test_images, digits.test_labels[:5])


def test_scikit_learns_own_figures_agree(run, digits):
    metrics = pytest.importorskip("sklearn.metrics")
    answers = run.network.predict(digits.test_images)
    np.testing.assert_array_equal(metrics.confusion_matrix(digits.test_labels, answers), run.evaluation.confusion)
    recall = metrics.recall_score(digits.test_labels, answers, average=None)
    np.testing.assert_allclose(run.evaluation.recall, recall)


# Copies -------------------------------------------------------------------------------------------------------------


def test_copies_and_pickles_answer_alike(run, images, tmp_path):
    expected = run.network.logits(images)
    copies = [copy.copy(run.network), copy.deepcopy(run.network), pickle.loads(pickle.dumps(run.network))]
    copies += [copy.deepcopy(run).network, pickle.loads(pickle.dumps(run)).network]
    for network in copies:
        np.testing.assert_array_equal(network.logits(images), expected)
    assert pickle.loads(pickle.dumps(NETWORK)).to_config() == NETWORK.to_config()
    joblib = pytest.importorskip("joblib")
    joblib.dump(run.network, tmp_path / "network.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "network.joblib").logits(images), expected)


@pytest.mark.slow
def test_other_processes_predict_too(run, digits):
    parts = np.array_split(digits.test_images[:100], 2)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = np.concatenate(list(pool.map(run.network.predict, parts)))
    np.testing.assert_array_equal(found, run.network.predict(digits.test_images[:100]))


# Names of other libraries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fit", r"no attribute 'fit': see xpnet.fit\(network, data\)"),
        ("compile", r"no attribute 'compile': see the arguments of xpnet.fit"),
        ("evaluate", r"no attribute 'evaluate': see xpnet.evaluate\(network, data\), or score"),
        ("state_dict", r"no attribute 'state_dict': see named_arrays\(\)"),
        ("save", r"no attribute 'save': see run.save\(folder\)"),
        ("forwards", r"no attribute 'forwards'$"),
    ],
)
def test_a_method_of_another_library_leads_to_the_one_here(run, name, words):
    with pytest.raises(AttributeError, match=words):
        getattr(run.network, name)


def test_a_description_says_that_it_has_no_weights(digits):
    for name in ("predict", "score", "trace"):
        with pytest.raises(xpnet.nn.trained.NoWeightsError, match="has no weights yet"):
            getattr(NETWORK, name)(digits.test_images)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda d: fit(NETWORK, (d.train_images, 1)),
            TypeError,
            r"such as xpnet.Dataset.from_arrays\(images, labels\)",
        ),
        (lambda d: fit(NETWORK, d, optimizer="adam"), TypeError, r"^optimizer='adam': .* such as Adam\(1e-3\)"),
        (lambda d: fit(NETWORK, d, loss="mse"), TypeError, r"^loss='mse': .* such as SoftmaxCrossEntropy\(\)"),
        (lambda d: xpnet.train("mlp", dataset=d, lr=0.1), ValueError, r"^lr=0.1: .* it takes epochs, .*learning_rate"),
        (lambda d: xpnet.train("digits"), ValueError, r"^recipe='digits': unknown; there are tutorial, corrected, mlp"),
        (lambda d: Network(Dense(10), (64,)), TypeError, r"^layers=.* must be a list of layers, such as"),
        (lambda d: Network([Dense(10)], 64), TypeError, r"^input_shape=64: must be a tuple of integers"),
        (lambda d: Network([Dense(10), xpnet.ReLU], (64,)), TypeError, r"a class must be called, as in ReLU\(\)"),
        (lambda d: Dense(64, 10), TypeError, r"^bias=10: must be True or False"),
        (lambda d: xpnet.evaluate(xpnet.load_dataset("digits"), d), TypeError, r"such as run.network"),
    ],
)
def test_what_other_libraries_take_is_refused_with_what_is_taken_here(digits, call, error, words):
    with pytest.raises(error, match=words):
        call(digits)


def test_a_network_for_channels_first_is_suspected(digits):
    """Its second and third axis have the sizes of the image, so that it would train: on an image one pixel high."""
    with pytest.warns(xpnet.DataWarning, match=r"input_shape=\(1, 8, 8\): channels first\?"):
        network = Network([Conv2D(4, 3, padding="same"), Flatten(), Dense(10)], (1, 8, 8))
    with pytest.raises(ValueError, match=r"^network: input_shape=\(1, 8, 8\) looks like channels first: give \(height"):
        fit(network, digits, epochs=1)


def test_a_file_of_weights_is_not_the_folder_of_a_run(run, tmp_path):
    run.save(tmp_path)
    with pytest.raises(xpnet.CheckpointError, match=r"is a file: give the folder of the run that it is in$"):
        xpnet.load(tmp_path / "model.safetensors")
