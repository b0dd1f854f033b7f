"""Common kinds of files and arrays, built like real ones; labels, splits, and errors."""

import csv
import gzip
import io
import re
import types
import warnings

import numpy as np
import pytest
from PIL import Image

from xpnet import DataWarning
from xpnet.data import DataError, Dataset, datasets, encode_idx, load_dataset, read_dataset
from xpnet.data.readers import read_npy

RNG = np.random.default_rng(5)
X, Y = RNG.integers(0, 256, (60, 9, 8), dtype=np.uint8), np.arange(60) % 10
T, L = RNG.integers(0, 256, (20, 9, 8), dtype=np.uint8), np.arange(20) % 10
SQUARE = RNG.integers(0, 256, (60, 8, 8), dtype=np.uint8)
FOUR = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def same(data, images=X, labels=Y, test_images=T, test_labels=L):
    np.testing.assert_array_equal(data.train_images, images)
    np.testing.assert_array_equal(data.train_labels, labels)
    np.testing.assert_array_equal(data.test_images, test_images)
    np.testing.assert_array_equal(data.test_labels, test_labels)


def write_idx_files(folder, names, arrays=(X, Y, T, L), pack=lambda data: data):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, arrays, strict=True):
        array = array if array.dtype == np.int32 else array.astype(np.uint8)
        (folder / name).write_bytes(pack(encode_idx(array)))


IDX = {
    "gz": ([name + ".gz" for name in FOUR], gzip.compress, "."),
    "plain": (FOUR, bytes, "."),
    "Kaggle's names": ([name.replace("-idx", ".idx") for name in FOUR], bytes, "."),
    "torchvision's folder": (FOUR, bytes, "FashionMNIST/raw"),
}


@pytest.mark.parametrize("kind", IDX)
def test_four_idx_files(kind, tmp_path):
    names, pack, place = IDX[kind]
    write_idx_files(tmp_path / "fashion" / place, names, pack=pack)
    data = load_dataset(tmp_path / "fashion")
    same(data)
    assert (data.name, data.classes, data.pixel_max) == ("fashion", 10, 255.0)
    same(load_dataset(str(tmp_path / "fashion")))


def test_emnist_lies_on_its_side_and_counts_from_1(tmp_path):
    names = [
        f"emnist-letters-{part}-{what}-ubyte.gz"
        for part in ("train", "test")
        for what in ("images-idx3", "labels-idx1")
    ]
    write_idx_files(tmp_path, names, (np.swapaxes(X, 1, 2), Y + 1, np.swapaxes(T, 1, 2), L + 1), gzip.compress)
    data = read_dataset(tmp_path)
    same(data)
    assert data.class_names == tuple(str(k) for k in range(1, 11))
    assert read_dataset(tmp_path, transposed=False).sample_shape == (8, 9)


def test_qmnist_has_eight_numbers_a_label(tmp_path):
    wide, wide_test = (np.tile(labels[:, None], (1, 8)).astype(np.int32) for labels in (Y, L))
    wide[:, 1:] = 77
    names = [f"qmnist-{part}-{what}" for part in ("train", "test") for what in ("images-idx3-ubyte", "labels-idx2-int")]
    write_idx_files(tmp_path, names, (X, wide, T, wide_test))
    same(read_dataset(tmp_path))


def test_npy_and_npz(tmp_path):
    np.savez(tmp_path / "keras.npz", x_train=X, y_train=Y, x_test=T, y_test=L)
    same(load_dataset(tmp_path / "keras.npz"))
    np.savez_compressed(
        tmp_path / "med.npz", train_images=X, train_labels=Y[:, None], test_images=T, test_labels=L[:, None]
    )
    same(load_dataset(str(tmp_path / "med.npz")))
    (tmp_path / "four").mkdir()
    for name, array in (("x_train", X), ("y_train", Y), ("x_test", T), ("y_test", L)):
        np.save(tmp_path / "four" / f"{name}.npy", np.asfortranarray(array))
    same(load_dataset(tmp_path / "four"))
    (tmp_path / "kmnist").mkdir()
    for name, array in (("train-imgs", X), ("train-labels", Y), ("test-imgs", T), ("test-labels", L)):
        np.savez(tmp_path / "kmnist" / f"kmnist-{name}.npz", array)
    same(load_dataset(tmp_path / "kmnist"))


def write_csv(path, images, labels, header, quoted=False):
    rows = [[label, *image.ravel().tolist()] for image, label in zip(images, labels, strict=True)]
    with io.StringIO(newline="") as text:
        writer = csv.writer(text, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
        writer.writerows([header, *rows] if header else rows)
        data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize(
    "header", [None, ["label", *(f"pixel{i}" for i in range(64))], ["label", *(f"{i}x1" for i in range(64))]]
)
@pytest.mark.parametrize("name", ["train.csv", "train.csv.gz"])
def test_kaggles_csv(header, name, tmp_path):
    write_csv(tmp_path / name, SQUARE, Y, header)
    data = load_dataset(tmp_path / name)
    assert (data.sample_shape, len(data.train_images), len(data.test_images)) == ((8, 8), 48, 12)
    assert data.train_images.dtype == np.uint8
    both = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    order = [int(np.flatnonzero((image == SQUARE).all(axis=(1, 2)))[0]) for image in both]
    assert len({*order}) == 60
    assert labels.tolist() == Y[order].tolist()


def test_two_csv_files_and_words_for_labels(tmp_path):
    words = np.asarray(["cat", "dog"])[Y % 2]
    write_csv(tmp_path / "pets_train.csv", SQUARE, words, ["label", *(f"p{i}" for i in range(64))], quoted=True)
    write_csv(tmp_path / "pets_test.csv", SQUARE[:20], words[:20], ["label", *(f"p{i}" for i in range(64))])
    data = load_dataset(tmp_path)
    same(data, SQUARE, Y % 2, SQUARE[:20], Y[:20] % 2)
    assert data.class_names == ("cat", "dog")


def test_folders_of_pictures(tmp_path):
    for part, images, labels in (("train", X, Y % 3), ("test", T, L % 3)):
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = tmp_path / "shapes" / part / "abc"[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{i:03}.png")
    data = read_dataset(tmp_path / "shapes", image_size=(9, 8))
    assert data.class_names == ("a", "b", "c")
    order = np.argsort(Y % 3, kind="stable")
    np.testing.assert_allclose(data.train_images, X[order], atol=1)
    assert data.train_labels.tolist() == (Y % 3)[order].tolist()
    one = read_dataset(tmp_path / "shapes" / "train", image_size=(9, 8))
    assert (len(one.train_images), len(one.test_images), one.class_names) == (48, 12, ("a", "b", "c"))


# Arrays


def test_arrays_pairs_and_bunches():
    bunch = types.SimpleNamespace(data=X, targets=Y), types.SimpleNamespace(data=T, targets=L)
    for given in (
        (X, Y, T, L),
        ((X, Y), (T, L)),
        (((X, Y), (T, L)),),
        bunch,
        ({"x_train": X, "y_train": Y, "x_test": T, "y_test": L},),
    ):
        same(Dataset.from_arrays(*given))
    same(load_dataset(((X, Y), (T, L))))
    same(Dataset.from_arrays(list(X), Y.tolist(), [Image.fromarray(t) for t in T], L.tolist()))


LABELS = {
    "strings of digits": (lambda y: y.astype(str), [str(k) for k in range(10)]),
    "words": (lambda y: np.asarray([f"c{k}" for k in y]), [f"c{k}" for k in range(10)]),
    "from 1": (lambda y: y + 1, [str(k) for k in range(1, 11)]),
    "multiples of 100": (lambda y: y * 100, [str(k * 100) for k in range(10)]),
    "whole floats": (lambda y: y * 1.0, [str(k) for k in range(10)]),
    "one-hot": (lambda y: np.eye(10)[y], [str(k) for k in range(10)]),
    "one-hot bytes": (lambda y: np.eye(10, dtype=np.uint8)[y], [str(k) for k in range(10)]),
    "a column": (lambda y: y[:, None], [str(k) for k in range(10)]),
    "objects": (lambda y: y.astype(object), [str(k) for k in range(10)]),
    "bytes": (lambda y: y.astype("S2"), [str(k) for k in range(10)]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_that_are_plain(kind):
    change, names = LABELS[kind]
    data = Dataset.from_arrays(X, change(Y), T, change(L))
    same(data)
    assert list(data.class_names) == names


BAD_LABELS = {
    "probabilities": (np.full((60, 10), 0.1), "rows that are not one-hot"),
    "two ones": (np.ones((60, 2)), "rows that are not one-hot"),
    "fractions": (Y + 0.5, "floats that are not whole numbers"),
    "nan": (np.where(Y > 8, np.nan, Y), "6 of 60 values are missing"),
    "None": ([None, *Y.tolist()[1:]], "1 of 60 values are missing"),
    "masked": (np.ma.masked_greater(Y, 8), "6 of 60 values are masked"),
    "too few": (Y[:5], "5 labels for 60 images"),
    "cube": (np.zeros((60, 2, 2)), r"shape (60, 2, 2); must be (n,)"),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_labels_that_are_not_plain_are_refused(kind):
    labels, message = BAD_LABELS[kind]
    with pytest.raises(DataError, match=re.escape(message)):
        Dataset.from_arrays(X, labels, T, L)


def test_missing_pixels_are_not_dropped():
    for images, words in ((np.ma.masked_equal(X, 255), "are masked"), (np.where(X > 250, None, X), "are missing")):
        with pytest.raises(DataError, match=f"images: .*{words}"):
            Dataset.from_arrays(images, Y, T, L)
        with pytest.raises(DataError, match=f"images: .*{words}"):
            Dataset("mine", images, Y, T, L)


MARKED = {
    "empty": (lambda y: np.where(y == 1, "", y.astype(str)), r"labels: \d+ of 60 are empty: fill them, or leave"),
    "nan": (lambda y: np.where(y == 1, np.nan, y), r"labels: \d+ of 60 values are missing: fill them, or leave"),
    "one": (lambda y: np.zeros(60, int), "train_labels: all are 0; a classifier needs two classes"),
}


@pytest.mark.parametrize("kind", MARKED)
def test_labels_that_are_missing_are_counted(kind):
    mark, words = MARKED[kind]
    with pytest.raises(DataError, match=words):
        Dataset.from_arrays(X, mark(Y), T, mark(np.resize(Y, 60))[: len(L)])
    if kind == "nan":
        with pytest.raises(DataError, match=f"^train_{words}"):
            Dataset("mine", X, mark(Y), T, L)


@pytest.mark.parametrize("mark", ["nan", "None", "<NA>", -1])
def test_a_mark_for_no_label_is_suspected_of_being_a_class(mark):
    labels = np.where(Y == 1, mark, Y) if mark == -1 else np.where(Y == 1, mark, Y.astype(str))
    with pytest.warns(DataWarning, match=f"train_labels: '{mark}' is taken as the name of a class"):
        Dataset.from_arrays(X, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Dataset.from_arrays(X, np.where(Y > 4, 1, -1)).class_names == ("-1", "1")


def test_a_column_that_numbers_the_rows_is_suspected(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(SQUARE.reshape(60, 64)).assign(label=Y, Id=np.arange(60))
    with pytest.warns(DataWarning, match="frame: column 'Id' is taken as a pixel: does it number the rows"):
        Dataset.from_arrays(frame)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.warns(DataWarning, match="column 'id' is taken as a pixel"):
        read_dataset(tmp_path / "rows.csv")
    with pytest.raises(DataError, match=r"images: column 'file' is of .*, and pixels are numbers: drop it first"):
        Dataset.from_arrays(frame.drop(columns="Id").assign(file="a.png"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"class_names": "0123456789"}, "class_names='0123456789': must be a list of names"),
        ({"image_shape": (28, -1)}, r"image_shape=\(28, -1\): must be a tuple of positive integers"),
        ({"image_shape": 64}, "image_shape=64: must be a tuple"),
        ({"test_fraction": "0.2"}, "test_fraction='0.2': must be a number, not str"),
    ],
)
def test_bad_arguments_are_named(given, words):
    with pytest.raises(DataError, match=words):
        Dataset.from_arrays(X, Y, **given)
    with pytest.raises(DataError, match="images: there are none"):
        Dataset.from_arrays(X[:0], Y[:0])
    with pytest.raises(DataError, match=r"pairs of images and labels go to xpnet\.Dataset\.from_arrays"):
        Dataset("mine", (X, Y), (T, L), None, None)


def test_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(SQUARE.reshape(60, 64), columns=[f"pixel{i}" for i in range(64)])
    frame["label"] = pandas.array(Y.tolist(), dtype="Int64")
    data = Dataset.from_arrays(frame)
    assert (data.sample_shape, data.classes, len(data.train_images)) == ((8, 8), 10, 48)
    x, y = frame.drop(columns="label"), pandas.Series(Y.astype(str)).astype("category")
    same(Dataset.from_arrays(x, y, x, y), SQUARE, Y, SQUARE, Y)
    frame.loc[3, "label"] = pandas.NA
    with pytest.raises(DataError, match="1 of 60 values are missing"):
        Dataset.from_arrays(frame)


def test_bunches_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.datasets")
    data = Dataset.from_arrays(sklearn.load_digits())
    assert (data.sample_shape, data.pixel_max, data.train_images.dtype) == ((8, 8), 16.0, np.uint8)


def test_the_brightest_pixel_is_found():
    for high, limit in ((1, 1.0), (16, 16.0), (200, 255.0), (9000, 65535.0)):
        images = np.minimum(X.astype(np.float32) * 50, high)
        assert Dataset.from_arrays(images, Y, images[:20], L).pixel_max == limit
    assert Dataset.from_arrays(X / 255, Y, T / 255, L).train_images.dtype == np.float64


def test_other_things_are_refused_with_words(tmp_path):
    (tmp_path / "words.txt").write_text("hello")
    (tmp_path / "bad.npz").write_bytes(b"hello")
    (tmp_path / "bad.csv").write_text("label,pixel0\n1,x\n")
    (tmp_path / "empty").mkdir()
    for path, words in (
        (tmp_path / "none", "there is no such file"),
        (tmp_path / "words.txt", "not a folder, an .npz or a .csv"),
        (tmp_path / "bad.npz", "not a good .npz file"),
        (tmp_path / "bad.csv", "not a label and pixels in each row"),
        (tmp_path / "empty", "no known dataset"),
    ):
        with pytest.raises(DataError, match=words):
            load_dataset(path)
    for given, words in (({"a": X}, "holds no images and labels"), (object(), "holds no images"), ((X, Y, T), "tuple")):
        with pytest.raises(DataError, match=words):
            load_dataset(given)


# .npy headers


def test_headers_of_npy_that_say_anything(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, X)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(read_npy(path), X)
    for at in range(128):
        for bit in rng.permutation(8)[:4]:
            damaged = bytearray(good)
            damaged[at] ^= 1 << int(bit)
            path.write_bytes(damaged)
            try:
                assert read_npy(path).size <= X.size
            except DataError as error:
                assert "\n" not in str(error)  # noqa: PT017
    for descr in ("|V0", "|S0", "|O", "<U0", "[('a', '<i4')]"):
        header = (
            f"{{'descr': '{descr}', 'fortran_order': False, 'shape': (99999999999,), }}".encode().ljust(117) + b"\n"
        )
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(100))
        with pytest.raises(DataError, match="not a good"):
            read_npy(path)


# MNIST's files by their contents


SPELLINGS = {
    "unpacked": (lambda name: name.removesuffix(".gz"), gzip.decompress),
    "Kaggle's names": (lambda name: name.removesuffix(".gz").replace("-idx", ".idx"), gzip.decompress),
    "compressed anew": (lambda name: name, lambda data: gzip.compress(gzip.decompress(data), 1, mtime=9)),
    "torchvision's folder": (lambda name: "MNIST/raw/" + name.removesuffix(".gz"), gzip.decompress),
}


@pytest.mark.parametrize("kind", SPELLINGS)
def test_mnist_is_found_however_it_lies_there(kind, tmp_path, little_mnist, no_sockets):
    spelling, change = SPELLINGS[kind]
    for name, contents in little_mnist.items():
        (tmp_path / spelling(name)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / spelling(name)).write_bytes(change(contents))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert load_dataset(data_dir=tmp_path).name == "mnist"
    assert load_dataset("mnist", data_dir=tmp_path).train_images.shape == (23, 6, 5)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_files_with_other_contents_are_left_alone(tmp_path, little_mnist, web, online, monkeypatch):
    write_idx_files(tmp_path, [name + ".gz" for name in FOUR], pack=gzip.compress)
    monkeypatch.setattr(datasets.download, "MIRRORS", (web.mirror("good"),))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for dataset in (None, "mnist"):
        with pytest.raises(DataError, match=rf"is not MNIST's: .*dataset='{tmp_path}'"):
            load_dataset(dataset, data_dir=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert web.hits == []
    same(load_dataset(tmp_path))
