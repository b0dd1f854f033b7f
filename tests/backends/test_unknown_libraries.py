"""Unknown array libraries, given as modules: complete ones train; errors name what others lack."""

import copy
import dataclasses
import pickle
import types

import array_api_strict
import numpy as np
import pytest

import xpnet
from xpnet import BackendError, get_backend
from xpnet.backends import GenericBackend, check_library

RECIPES = ("corrected", "mlp", "deep", "cnn", "best")


@pytest.fixture(scope="module")
def fewer(few):
    return dataclasses.replace(few.first(50), test_images=few.test_images[:20], test_labels=few.test_labels[:20])


def module(name, **names):
    """Make a namespace like array-api-strict with some names replaced; None removes a name."""
    made = types.ModuleType(name)
    made.__dict__.update({n: getattr(array_api_strict, n) for n in array_api_strict.__all__})
    made.__dict__.update(names)
    for n in [n for n, value in names.items() if value is None]:
        delattr(made, n)
    return made


class Bare:
    """An array that only names its namespace."""

    shape, dtype, device = (3, 2), "float32", None

    def __init__(self, xp):
        self.xp = xp

    def __array_namespace__(self, api_version=None):
        return self.xp


def without_exit():
    """A library whose arrays cannot leave the device."""
    xp = module("without_exit")
    xp.asarray = xp.maximum = lambda *args, **options: Bare(xp)
    return xp


def asarray_without_device(x, *, dtype=None):
    return array_api_strict.asarray(x, dtype=dtype)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            {"take": None, "vecdot": None},
            "it lacks take, vecdot; xpnet needs revision 2024.12 of the Array API",
        ),
        ({"take": None, "__array_api_version__": "2021.12"}, "standard, and the library has 2021.12"),
        (
            {"asarray": asarray_without_device},
            r"it cannot do asarray\(x, device=...\): .*keyword argument 'device'",
        ),
        ({"arange": lambda n: None}, r"it cannot do arange\(3, device=...\): .*'device'"),
        ({"maximum": lambda a, b: a + b.shape}, r"it cannot do maximum\(x, 0.0\): 'float' object has no attribute"),
        (
            {"asarray": lambda x, device: array_api_strict.asarray(x.astype(float))},
            "its asarray makes float64 of float32",
        ),
        ({"maximum": array_api_strict.minimum}, r"it computes maximum\(x, 0.0\) as \[\[0.0, -2.0\]"),
    ],
)
def test_a_library_that_is_nearly_whole_is_told_what_it_lacks(names, words):
    xp = module("nearly", **names)
    with pytest.raises(BackendError, match=words) as error:
        check_library(GenericBackend("nearly", xp))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("revision", ["2022.12", "2023.12"])
def test_an_older_revision_of_the_standard_is_told(revision):
    xp = module("older", __array_api_version__=revision)
    with array_api_strict.ArrayAPIStrictFlags(api_version=revision), pytest.raises(BackendError) as error:
        check_library(GenericBackend("older", xp))
    assert str(error.value).endswith(f"revision 2024.12 of the Array API standard, and the library has {revision}")


def test_a_module_whose_arrays_cannot_leave_it_is_refused():
    with pytest.raises(BackendError, match=r"^backend=without_exit: its arrays cannot be copied to the host, by "):
        get_backend(without_exit())


def test_a_module_whose_asarray_fails_or_makes_something_else_is_refused_on_one_line():
    for asarray in (lambda x: 1 / 0, lambda x: object(), lambda x: None):
        made = types.ModuleType("wrong")
        made.asarray = asarray
        with pytest.raises(BackendError, match=r"^backend=wrong: its asarray\(0.0\) fails: \w+: ") as error:
            get_backend(made)
        assert "\n" not in str(error.value)
        with pytest.raises(BackendError, match="backend=wrong"):
            xpnet.train(dataset="digits", backend=made, progress=False)


@pytest.mark.parametrize("recipe", RECIPES)
def test_masked_arrays_train_bit_for_bit_as_numpy(recipe, fewer):
    marray = pytest.importorskip("marray")
    for dtype in ("float32", "float64"):
        ours, theirs = (
            xpnet.train(recipe, dataset=fewer, backend=b, dtype=dtype, epochs=2, progress=False)
            for b in (marray.masked_namespace(np), "numpy")
        )
        assert_same(ours, theirs)


@pytest.mark.filterwarnings("ignore:The unit of the quantity is stripped")  # its `take` does so with the indices
@pytest.mark.parametrize("recipe", RECIPES)
def test_quantities_train_bit_for_bit_as_numpy(recipe, fewer):
    quantity_array = pytest.importorskip("quantity_array")
    ours, theirs = (
        xpnet.train(recipe, dataset=fewer, backend=b, dtype="float64", epochs=2, progress=False)
        for b in (quantity_array.quantity_namespace(np), "numpy")
    )
    assert_same(ours, theirs)


def assert_same(a, b):
    rows = [[{**dataclasses.asdict(record), "seconds": 0} for record in run.history] for run in (a, b)]
    assert rows[0] == rows[1]


def test_a_module_that_can_be_imported_is_pickled_by_its_name(monkeypatch):
    import sys

    xp = module("somewhere")
    with pytest.raises(TypeError, match=r"^backend='somewhere': cannot be pickled"):
        pickle.dumps(GenericBackend("somewhere", xp))
    monkeypatch.setitem(sys.modules, "somewhere", xp)
    backend = get_backend(xp)
    assert pickle.loads(pickle.dumps(backend)) == backend
    assert copy.deepcopy(backend) is backend
