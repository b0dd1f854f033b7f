"""Datasets: their contents, their errors, and the default dataset."""

import gzip
import re
import socket
import threading
import time
import warnings
from importlib import resources

import numpy as np
import pytest

from xpnet.data import DataError, Dataset, datasets, download, load_dataset, load_digits, load_mnist

IMAGES = np.random.default_rng(3).integers(0, 256, (7, 4, 5), dtype=np.uint8)
LABELS = np.asarray([0, 1, 2, 3, 4, 5, 9], dtype=np.uint8)


def make(**changes):
    arguments = {"name": "mine", "train_images": IMAGES, "train_labels": LABELS}
    arguments |= {"test_images": IMAGES[:3], "test_labels": LABELS[:3]}
    return Dataset(**arguments | changes)


def test_digits_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.datasets", reason="the digits are compared with scikit-learn's")
    theirs, ours = sklearn.load_digits(), load_digits()
    assert (ours.name, ours.classes, ours.pixel_max, ours.sample_shape) == ("digits", 10, 16.0, (8, 8))
    assert len(ours.train_images) == 1000
    assert len(ours.test_images) == 797
    assert ours.train_images.dtype == np.uint8
    np.testing.assert_array_equal(np.concatenate([ours.train_images, ours.test_images]), theirs.images)
    np.testing.assert_array_equal(np.concatenate([ours.train_labels, ours.test_labels]), theirs.target)


def test_digits_come_with_their_source_and_licence():
    folder = resources.files("xpnet.data") / "digits"
    words = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("Alpaydin", "Kaynak", "UCI", "1998", "CC BY 4.0", "10.24432/C50P49"):
        assert word in words
    files = [path for path in folder.iterdir() if path.name.endswith(".gz")]
    assert len(files) == 4
    assert sum(len(path.read_bytes()) for path in files) < 50_000
    for path in files:
        assert path.read_bytes()[4:8] == bytes(4)  # no time stamp
        assert gzip.decompress(path.read_bytes())[:3] == b"\0\0\x08"


def test_mnist(mnist):
    assert (mnist.name, mnist.classes, mnist.pixel_max) == ("mnist", 10, 255.0)
    assert mnist.train_images.shape == (60000, 28, 28)
    assert mnist.test_images.shape == (10000, 28, 28)
    # How often each digit occurs, and the brightness that everybody normalizes by.
    counted = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.train_labels).tolist() == counted
    assert np.bincount(mnist.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.train_images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert mnist.train_images.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    assert mnist.train_labels[:5].tolist() == [5, 0, 4, 1, 9]


BAD = {
    "no name": ({"name": ""}, "name=''"),
    "name that is none": ({"name": 3}, "name=3"),
    "one class": ({"classes": 1}, "classes=1: must be an integer of at least 2"),
    "classes of a float": ({"classes": 10.0}, "classes=10.0: must be an integer"),
    "classes of a bool": ({"classes": True}, "classes=True"),
    "no brightness": ({"pixel_max": 0}, "pixel_max=0: must be a number above 0"),
    "nan brightness": ({"pixel_max": float("nan")}, "pixel_max=nan"),
    "infinite brightness": ({"pixel_max": float("inf")}, "pixel_max=inf"),
    "brightness in words": ({"pixel_max": "255"}, "pixel_max='255'"),
    "too much brightness": ({"pixel_max": 2**31}, "pixel_max=2147483648: must be a number above 0 and below 2**31"),
    "fewer labels": ({"train_labels": LABELS[:5]}, "train_labels: 5 labels for 7 images"),
    "more test labels": ({"test_labels": LABELS}, "test_labels: 7 labels for 3 images"),
    "label too high": ({"train_labels": LABELS + 1}, "train_labels: from 1 to 10; must be from 0 to 9 (classes=10)"),
    "label below 0": ({"test_labels": np.asarray([0, -1, 2])}, "test_labels: from -1 to 2; must be from 0 to 9"),
    "labels of fewer classes": ({"classes": 4}, "train_labels: from 0 to 9; must be from 0 to 3 (classes=4)"),
    "float labels": ({"train_labels": LABELS * 1.0}, "train_labels: shape (7,) of float64; must be (n,) of integers"),
    "one-hot labels": ({"train_labels": np.eye(7, dtype=int)}, "train_labels: shape (7, 7) of int64"),
    "words for labels": ({"test_labels": ["a", "b", "c"]}, "test_labels: shape (3,) of <U1"),
    "flat images": ({"train_images": IMAGES.ravel()}, "train_images: shape (140,); must be (n, height, width)"),
    "five dimensions": ({"train_images": IMAGES[..., None, None]}, "train_images: shape (7, 4, 5, 1, 1)"),
    "no images": ({"test_images": IMAGES[:0], "test_labels": LABELS[:0]}, "test_images: shape (0, 4, 5)"),
    "no pixels": ({"test_images": IMAGES[:3, :0]}, "test_images: shape (3, 0, 5)"),
    "other shape": ({"test_images": IMAGES[:3, :3]}, "test_images: samples of shape (3, 5), but the training set's"),
    "nan": ({"train_images": np.where(IMAGES > 250, np.nan, 0.5)}, "train_images: NaN or infinity"),
    "infinity": ({"test_images": np.full((3, 4, 5), -np.inf, np.float16)}, "test_images: NaN or infinity"),
    "complex": ({"train_images": IMAGES * 1j}, "train_images: dtype complex128; must be integers or floats"),
    "bool": ({"train_images": IMAGES > 5}, "train_images: dtype bool"),
    "objects": ({"train_images": np.asarray([{}] * 7, object)}, "train_images: dtype object"),
    "ragged": ({"train_images": [[1], [2, 3]]}, "train_images: list is not an array on the host"),
    "too bright": ({"pixel_max": 16}, "train_images: pixels from"),
    "below 0": ({"train_images": IMAGES.astype(int) - 300}, "train_images: pixels from"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_datasets_are_refused_by_name(case):
    changes, message = BAD[case]
    with pytest.raises(DataError, match=re.escape(message)):
        make(**changes)


LAYOUTS = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "little-endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "Fortran": np.asfortranarray,
    "list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_arrays_are_kept_in_order_and_native_whatever_their_layout(layout, dtype):
    change = LAYOUTS[layout]
    images, labels = IMAGES.astype(dtype), LABELS.astype(np.int16)
    images = images / 255 if dtype == np.float64 else images
    data, plain = make(train_images=change(images), train_labels=change(labels)), make(train_images=images)
    np.testing.assert_array_equal(data.train_images, images)
    np.testing.assert_array_equal(data.train_labels, labels)
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        assert array.flags.c_contiguous
        assert array.dtype.isnative
    assert data.fingerprint() == plain.fingerprint()


@pytest.mark.parametrize(
    ("dtype", "pixel_max", "kept"),
    [
        (np.uint8, 255, np.uint8),
        (np.int64, 255, np.uint8),
        (np.uint16, 1023.0, np.int32),
        (np.int64, 1e6, np.int32),
        (np.uint32, 2**31 - 1, np.int32),
        (np.float16, 1.0, np.float16),
        (np.float32, 1.0, np.float32),
        (np.float64, 1.0, np.float64),
        (np.longdouble, 1.0, np.float64),
    ],
)
def test_the_dtypes_that_images_are_kept_in(dtype, pixel_max, kept):
    images = np.asarray([[0, 1], [1, 0], [0, 1]], dtype) * np.asarray(int(pixel_max), dtype)
    data = make(
        train_images=images, train_labels=[0, 1, 2], test_images=images, test_labels=[0, 1, 2], pixel_max=pixel_max
    )
    assert data.train_images.dtype == kept
    assert data.train_images.tolist() == images.tolist()
    assert data.train_labels.dtype == np.int64


def test_arrays_that_need_no_change_are_not_copied():
    images = np.ones((3, 4, 5), np.float32)
    images.flags.writeable = False
    assert make(test_images=images).test_images is images


def test_shapes_that_are_accepted():
    for shape in ((6,), (2, 3), (2, 3, 1)):
        data = make(train_images=np.zeros((7, *shape)), test_images=np.zeros((3, *shape)), classes=LABELS.max() + 1)
        assert data.sample_shape == shape
        assert data.classes == 10
        assert type(data.classes) is int


def test_the_first_so_many():
    data = make()
    few = data.first(4)
    np.testing.assert_array_equal(few.train_images, IMAGES[:4])
    np.testing.assert_array_equal(few.train_labels, LABELS[:4])
    np.testing.assert_array_equal(few.test_images, IMAGES[:3])
    assert data.first(None) is data
    assert len(data.first(np.int64(7)).train_labels) == 7
    for bad in (0, 8, -1):
        with pytest.raises(ValueError, match=rf"train_samples={bad}: mine has from 1 to 7"):
            data.first(bad)
    for bad in (2.0, True, "3"):
        with pytest.raises(TypeError, match=r"train_samples=.*must be an integer"):
            data.first(bad)


def test_the_fingerprint_sees_every_change_and_nothing_else():
    prints = {make().fingerprint()}
    assert prints == {make(name="another").fingerprint(), *prints}
    assert re.fullmatch("[0-9a-f]{64}", *prints)
    for field, array in (("train_images", IMAGES), ("test_images", IMAGES[:3])):
        changed = array.copy()
        changed[-1, -1, -1] ^= 1
        prints.add(make(**{field: changed}).fingerprint())
    for field, array in (("train_labels", LABELS), ("test_labels", LABELS[:3])):
        changed = array.copy()
        changed[-1] ^= 1
        prints.add(make(**{field: changed}).fingerprint())
    prints.add(make(classes=11).fingerprint())
    prints.add(make(pixel_max=300).fingerprint())
    prints.add(make(train_images=IMAGES.reshape(7, 5, 4), test_images=IMAGES[:3].reshape(3, 5, 4)).fingerprint())
    prints.add(make(train_images=IMAGES[::-1]).fingerprint())
    assert len(prints) == 9


def test_load_by_name(monkeypatch, no_sockets):
    data = make()
    assert load_dataset(data) is data
    assert load_dataset("digits").name == "digits"
    for unknown in ("MNIST", "fashion", ""):
        with pytest.raises(ValueError, match=rf"dataset={unknown!r}: unknown; there are digits, mnist, or a Dataset"):
            load_dataset(unknown)
    for other in (3, data.train_images):  # an array compares with a name element by element
        with pytest.raises(TypeError, match=r"(?s)^dataset=.*: must be a name \(digits, mnist\) or a Dataset"):
            load_dataset(other)
    with pytest.raises(TypeError, match="data_dir=3: must be a path"):
        load_dataset("mnist", data_dir=3)


# The default dataset


def test_mnist_is_taken_where_it_is(tmp_path, little_mnist, no_sockets):
    for name, contents in little_mnist.items():
        (tmp_path / name).write_bytes(contents)
    assert load_dataset(data_dir=tmp_path).name == "mnist"
    assert load_dataset("mnist", data_dir=tmp_path).fingerprint() == load_mnist(tmp_path).fingerprint()


def test_mnist_is_taken_where_it_can_be_downloaded(tmp_path, web, online, little_mnist, monkeypatch):
    monkeypatch.setattr(download, "MIRRORS", (web.mirror("404"), web.mirror("good")))
    assert load_dataset(data_dir=tmp_path).name == "mnist"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(little_mnist)


def load_falls_back(folder, why):
    start = time.monotonic()
    with pytest.warns(UserWarning, match="MNIST") as caught:
        data = load_dataset(data_dir=folder)
    seconds = time.monotonic() - start
    (warning,) = caught
    assert warning.filename == __file__
    message = str(warning.message)
    assert re.search(why, message), message
    for word in (f"not complete in {folder}", "bundled digits", "dataset='mnist' insists", "dataset='digits'"):
        assert word in message
    assert data.name == "digits"
    return seconds


def test_digits_are_taken_offline(tmp_path, little_mnist, no_sockets):
    load_falls_back(tmp_path, r"\(XPNET_OFFLINE is set\)")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("damaged", [False, True])
def test_digits_are_taken_soon_where_nothing_answers(damaged, tmp_path, web, online, little_mnist, monkeypatch):
    monkeypatch.setattr(download, "MIRRORS", (web.mirror("stall"), web.mirror("trickle_headers")))
    monkeypatch.setattr(download, "READ_TIMEOUT", 100.0)
    monkeypatch.setattr(download, "PROBE_DEADLINE", 0.5)
    if damaged:
        for name in little_mnist:
            (tmp_path / name).write_bytes(b"bad")
    assert load_falls_back(tmp_path, r"\(no mirror answers\)") < 25
    # A damaged file stays in its place until a good one is there.
    assert {path.read_bytes() for path in tmp_path.iterdir()} == ({b"bad"} if damaged else set())


def test_digits_are_taken_soon_where_names_are_looked_up_for_ever(tmp_path, online, little_mnist, monkeypatch):
    released = threading.Event()

    def look_up(*args, **kwargs):
        released.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(download, "MIRRORS", ("http://one.invalid/", "http://two.invalid/"))
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(download, "PROBE_DEADLINE", 0.3)
    try:
        assert load_falls_back(tmp_path, "no mirror answers") < 25
    finally:
        released.set()


def test_digits_are_taken_at_once_where_there_is_no_network(tmp_path, online, little_mnist, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(download, "MIRRORS", (f"http://127.0.0.1:{port}/",) * 2)
    assert load_falls_back(tmp_path, "no mirror answers") < 25


@pytest.mark.parametrize(("kind", "why"), [("html", "sends 46 bytes"), ("wrong", "another SHA-256")])
def test_digits_are_taken_where_all_that_answers_is_wrong(kind, why, tmp_path, web, online, little_mnist, monkeypatch):
    monkeypatch.setattr(download, "MIRRORS", (web.mirror(kind),))
    load_falls_back(tmp_path, why)


def test_digits_are_taken_where_the_folder_cannot_be_made(tmp_path, web, online, little_mnist, monkeypatch):
    monkeypatch.setattr(download, "MIRRORS", (web.mirror("good"),))
    (tmp_path / "file").write_bytes(b"")
    load_falls_back(tmp_path / "file" / "mnist", "cannot keep")


def test_asking_for_digits_warns_of_nothing(no_sockets):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_dataset("digits").name in datasets.NAMES
