"""Each kind of data that people have, made as the real one is, and the accuracy after training on it.

The digits are those that xpnet brings. Whatever form they come in, a network that was trained on it must read the
upright images of the test set: labels mixed up or images on their side would leave it at chance.
"""

import csv
import gzip
import types

import numpy as np
import pytest
from PIL import Image

import xpnet
from xpnet.data import encode_idx, load_dataset

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def parts(digits):
    """Return images as bytes up to 255, and labels, to train on and to test with."""
    images = [
        np.minimum(255, 16 * part.astype(int)).astype(np.uint8) for part in (digits.train_images, digits.test_images)
    ]
    return images[0], digits.train_labels.astype(np.uint8), images[1], digits.test_labels.astype(np.uint8)


def write_idx(folder, names, arrays):
    for name, array in zip(names, arrays, strict=True):
        data = encode_idx(array)
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def idx(folder, parts):
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    write_idx(folder, [f"{name}.gz" for name in names], parts)
    return folder


def emnist(folder, parts):
    """EMNIST lies on its side, and its letters count from 1."""
    kinds = [f"{part}-{what}" for part in ("train", "test") for what in ("images-idx3", "labels-idx1")]
    turned = [part.transpose(0, 2, 1) if part.ndim == 3 else part + 1 for part in parts]
    write_idx(folder, [f"emnist-letters-{kind}-ubyte" for kind in kinds], turned)
    return folder


def qmnist(folder, parts):
    """QMNIST has eight numbers a label, of which the first is the class."""
    names = [f"qmnist-{part}-{what}-ubyte" for part in ("train", "test") for what in ("images-idx3", "labels-idx2-int")]
    rng = np.random.default_rng(0)
    eight = [np.column_stack([y, rng.integers(0, 500, (len(y), 7))]).astype(np.int32) for y in parts[1::2]]
    write_idx(folder, names, [parts[0], eight[0], parts[2], eight[1]])
    return folder


def keras(folder, parts):
    np.savez(folder / "mnist.npz", **dict(zip(("x_train", "y_train", "x_test", "y_test"), parts, strict=True)))
    return folder / "mnist.npz"


def kaggle(folder, parts, head=True):
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        if head:
            writer.writerow(["label", *(f"pixel{i}" for i in range(64))])
        for image, label in zip(parts[0], parts[1], strict=True):
            writer.writerow([label, *image.ravel()])
    return folder / "train.csv"


def pictures(folder, parts):
    for part, images, labels in (("train", *parts[:2]), ("test", *parts[2:])):
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / part / LABELS[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


def frame(folder, parts):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(parts[0].reshape(-1, 64), columns=[f"pixel{i}" for i in range(64)])
    return table.assign(label=[LABELS[label] for label in parts[1]])


def bunch(folder, parts):
    """Scikit-learn's digits: they are these, those to test with among them."""
    datasets = pytest.importorskip("sklearn.datasets")
    return datasets.load_digits()


def openml(folder, parts):
    """`fetch_openml("mnist_784")` has a frame of floats, and labels that are strings."""
    pandas = pytest.importorskip("pandas")
    utils = pytest.importorskip("sklearn.utils")
    data = pandas.DataFrame(parts[0].reshape(-1, 64).astype(float), columns=[f"pixel{i + 1}" for i in range(64)])
    return utils.Bunch(data=data, target=pandas.Series(parts[1].astype(str), dtype="category"))


def tensors(folder, parts):
    torch = pytest.importorskip("torch")
    scaled = [torch.tensor(part / 255.0, dtype=torch.float32, requires_grad=True) for part in parts[::2]]
    return [(x, torch.tensor(y.astype(int))) for x, y in zip(scaled, parts[1::2], strict=True)]


def on_a_device(folder, parts):
    """Arrays that NumPy cannot see without help, as CuPy's: here those of a second device of array-api-strict."""
    backend = xpnet.get_backend("array_api_strict:device1")
    return [backend.asarray(part) for part in parts]


def torchvision(folder, parts):
    return [types.SimpleNamespace(data=x, targets=y.tolist()) for x, y in (parts[:2], parts[2:])]


def one_hot(folder, parts):
    return [(x / 255.0, np.eye(10, dtype=np.float32)[y]) for x, y in (parts[:2], parts[2:])]


def lists(folder, parts):
    return [(list(map(Image.fromarray, x)), y.tolist()) for x, y in (parts[:2], parts[2:])]


KINDS = {
    "IDX, as Fashion-MNIST": idx,
    "EMNIST": emnist,
    "QMNIST": qmnist,
    "npz, as Keras": keras,
    "CSV, as Kaggle": kaggle,
    "CSV without a header": lambda folder, parts: kaggle(folder, parts, head=False),
    "a folder of pictures": pictures,
    "a frame": frame,
    "a bunch": bunch,
    "openml": openml,
    "tensors": tensors,
    "on another device": on_a_device,
    "torchvision": torchvision,
    "one-hot": one_hot,
    "lists of images": lists,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_was_trained_on_it_reads_digits(kind, tmp_path, digits, parts):
    given = KINDS[kind](tmp_path, parts)
    how = {"image_size": (8, 8)} if kind == "a folder of pictures" else {}
    data = load_dataset(given, **how)
    run = xpnet.train("mlp", dataset=data, epochs=8, progress=False)
    # The same network on the upright images, whatever form it was trained in.
    images = digits.test_images / np.float32(16.0) if data.train_images.dtype.kind == "f" else None
    if images is None:
        images = digits.test_images if data.pixel_max == 16 else parts[2]
    shape = (len(images), *data.sample_shape)
    answers = [data.class_names[label] for label in run.network.predict(images.reshape(shape))]
    wanted = {"EMNIST": range(1, 11), "a folder of pictures": LABELS, "a frame": LABELS}.get(kind, range(10))
    accuracy = np.mean(
        [answer == str(wanted[label]) for answer, label in zip(answers, digits.test_labels, strict=True)]
    )
    assert accuracy > 0.85
