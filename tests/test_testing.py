"""`xpnet.testing`, which finds code that is not portable."""

import numpy as np
import pytest
from array_api_compat import array_namespace

from xpnet.testing import assert_same_everywhere, backends_here

X = np.asarray([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]])
STRICT = ["array_api_strict", "array_api_strict:device1"]


def test_the_backends_are_all_that_can_be_used_and_the_second_device_of_strict():
    assert {"numpy", *STRICT} <= set(backends_here())
    assert not [spec for spec in backends_here() if "no_float64" in spec]


def test_a_portable_function_returns_numpys_result():
    def centred(x):
        xp = array_namespace(x)
        return {"y": x - xp.mean(x), "largest": [xp.max(x), xp.argmax(x)]}

    found = assert_same_everywhere(centred, X, backends=["numpy", *STRICT])
    np.testing.assert_allclose(found["y"], X - X.mean())
    assert found["largest"][1] == 2


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.astype("float32"), "array_api_strict: AttributeError"),
        (lambda x: (x > 0) * x, "array_api_strict: TypeError"),
        (lambda x: x + array_namespace(x).ones(3, dtype=x.dtype), "device1: ValueError"),
        (lambda x: array_namespace(x).zeros(3, dtype=x.dtype), "device1: the result is on"),
        (lambda x: np.zeros(3), "array_api_strict: the result is an array of numpy"),
    ],
)
def test_what_strict_refuses_is_named(function, message):
    with pytest.raises(AssertionError, match=message):
        assert_same_everywhere(function, X, backends=["numpy", *STRICT])


def test_a_changed_argument_is_found():
    def doubled(x):
        x *= 2.0
        return x

    with pytest.raises(AssertionError, match="numpy: argument 0 was changed"):
        assert_same_everywhere(doubled, X, backends=["numpy"])


def numpys_and(other):
    """Return NumPy's own result there, and another one elsewhere."""
    return lambda x: x if isinstance(x, np.ndarray) else other(x)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda x: x + 1e-3, "result differs from numpy's"),
        (lambda x: x[0, ...], "shape"),
        (lambda x: array_namespace(x).astype(x, array_namespace(x).float32), "dtype"),
        (lambda x: [x], "is list, on numpy"),
    ],
)
def test_other_results_are_found(other, message):
    with pytest.raises(AssertionError, match=f"array_api_strict: .*{message}"):
        assert_same_everywhere(numpys_and(other), X, backends=STRICT[:1])


def test_missing_entries_are_found():
    def function(x):
        return {"a": x, "b": x} if isinstance(x, np.ndarray) else {"a": x}

    with pytest.raises(AssertionError, match="has 1 entries"):
        assert_same_everywhere(function, X, backends=STRICT[:1])


def test_tolerances_are_the_callers():
    function = numpys_and(lambda x: x + 1e-3)
    assert_same_everywhere(function, X, backends=STRICT[:1], atol=1e-2)


def test_float32_is_wider():
    function = numpys_and(lambda x: x * (1.0 + 1e-6))
    assert assert_same_everywhere(function, X, backends=STRICT[:1], dtype="float32").dtype == np.float32
    with pytest.raises(AssertionError):
        assert_same_everywhere(function, X, backends=STRICT[:1])


def test_integers_stay_integers():
    assert assert_same_everywhere(lambda x: x, np.asarray([1, 2], dtype=np.int32)).dtype == np.int32
