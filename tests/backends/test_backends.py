"""Backends: opening, refusing with reasons, moving arrays, scanning."""

import contextlib
import copy
import importlib.machinery
import importlib.util
import pickle
import sys
import types

import numpy as np
import pytest

import xpnet
from xpnet import BackendError, get_backend, list_backends
from xpnet.backends import CupyBackend, TorchBackend, backend_of


def installed(library):
    return importlib.util.find_spec(library) is not None


def usable(library):
    return {info.name: info.usable for info in list_backends()}[library]


def test_arrays_go_to_the_device_and_back(backend):
    for host in (np.arange(6.0).reshape(2, 3).T, np.arange(12, dtype=">i4")[::2], np.zeros((0, 3)), np.asarray(2.5)):
        array = backend.asarray(host)
        np.testing.assert_array_equal(backend.to_numpy(array), host)
        assert tuple(array.shape) == host.shape
        assert backend_of(array).library == backend.library
        assert backend_of(array).device_name == backend.device_name


def test_arrays_are_copies(backend):
    host = np.ones(4)
    array = backend.asarray(host)
    host[0] = 5.0
    back = backend.to_numpy(array)
    assert back[0] == 1.0
    back[1] = 7.0
    assert backend.to_numpy(array)[1] == 1.0
    frozen = np.ones(3)
    frozen.flags.writeable = False
    assert backend.to_numpy(backend.asarray(frozen)).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_session_has_the_dtype_it_is_asked_for(backend, dtype):
    with backend.session(dtype):
        array = backend.asarray([1.0, 2.0], dtype)
        assert backend.to_numpy(array * 0.1).dtype == dtype


def test_scan_runs_steps_in_order_and_stacks_what_they_return(backend):
    def step(carry, xs):
        carry = 2.0 * carry + xs["a"]
        return carry, carry

    xs = {"a": backend.asarray([1.0, 2.0, 3.0]), "b": backend.asarray(np.zeros((3, 2)))}
    run = backend.compile(lambda start, xs: backend.scan(step, start, xs))
    carry, outputs = run(backend.asarray(0.0, "float64"), xs)
    assert float(backend.to_numpy(carry)) == 11.0
    assert backend.to_numpy(outputs).tolist() == [1.0, 4.0, 11.0]
    _, nothing = backend.scan(lambda c, x: (c, None), backend.asarray(0.0, "float64"), xs)
    assert nothing is None
    backend.synchronize()


def test_the_environment_names_the_default(monkeypatch):
    assert get_backend().spec == "numpy"
    monkeypatch.setenv("XPNET_BACKEND", "array_api_strict:device1")
    assert get_backend().device_name == "device1"
    assert get_backend("numpy").spec == "numpy"


def test_a_namespace_module_is_a_backend():
    import array_api_compat.numpy
    import array_api_strict

    assert get_backend(np).spec == "numpy"
    assert get_backend(array_api_compat.numpy).spec == "numpy"
    assert get_backend(array_api_strict).spec == "array_api_strict"
    opened = get_backend("numpy")
    assert get_backend(opened) is opened


def test_an_unknown_namespace_trains_through_the_standard_alone(digits):
    """An unknown library: array-api-strict under another name."""
    import array_api_strict

    module = types.ModuleType("somebodys_arrays")
    module.__dict__.update({name: getattr(array_api_strict, name) for name in array_api_strict.__all__})
    run = xpnet.train("mlp", dataset=digits, train_samples=60, epochs=1, backend=module, progress=False)
    assert run.config["backend"] == "somebodys_arrays"
    with pytest.raises(BackendError, match="not an Array API namespace"):
        get_backend(types)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("tpu", "backend='tpu': unknown; there are numpy, cupy, torch, jax, dpnp, array_api_strict"),
        ("", "backend='': unknown"),
        ("numpy:gpu", "NumPy has one device"),
        ("array_api_strict:moon", "device1"),
    ],
)
def test_unknown_names_are_refused(spec, words):
    with pytest.raises(BackendError, match=words):
        get_backend(spec)


def test_what_is_no_name_is_refused():
    with pytest.raises(TypeError, match="backend=3"):
        get_backend(3)


@pytest.mark.slow
def test_a_missing_library_is_refused_with_what_installs_it(monkeypatch, digits):
    monkeypatch.setitem(sys.modules, "torch", None)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
    with pytest.raises(
        BackendError, match=r"^backend='torch': torch is not installed: pip install torch; 'xpnet backends' lists"
    ):
        xpnet.train(dataset=digits, backend="torch", progress=False)
    info = {info.name: info for info in list_backends()}["torch"]
    assert not info.usable
    assert info.reason == "torch is not installed: pip install torch"


def test_a_broken_library_is_refused_with_its_own_words(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "jax" else real(name))
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(BackendError, match="jax is installed but cannot be imported"):
        get_backend("jax")


@pytest.mark.library
def test_cupy_without_a_gpu_says_what_the_driver_says():
    if not installed("cupy"):
        pytest.skip("CuPy is not installed")
    if usable("cupy"):
        pytest.skip("there is a usable GPU")
    with pytest.raises(BackendError, match=r"^backend='cupy': .*finds no usable GPU: cudaError\w+: .*lists what"):
        get_backend("cupy")
    info = {info.name: info for info in list_backends()}["cupy"]
    assert info.version
    assert "cudaError" in info.reason


def test_a_gpu_without_cudas_libraries_is_not_usable(monkeypatch):
    """A fake CuPy, as on a machine with a driver but without CUDA's libraries."""

    def refuse(*arguments):
        raise ImportError("libcublas.so.13: cannot open shared object file")

    cupy = types.ModuleType("cupy")
    cupy.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 2, CUDARuntimeError=RuntimeError)
    cupy.cuda = types.SimpleNamespace(runtime=runtime, Device=contextlib.nullcontext)
    cupy.ones, cupy.float32 = refuse, "float32"
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    CupyBackend._cannot_compute.cache_clear()
    try:
        with pytest.raises(BackendError, match=r"^backend='cupy:1': .*cannot compute on it: libcublas.*\[ctk\]"):
            get_backend("cupy:1")
        assert "libcublas" in {info.name: info for info in list_backends()}["cupy"].reason
        with pytest.raises(BackendError, match=r"^backend='cupy:2': there are cupy:0, cupy:1"):
            get_backend("cupy:2")
    finally:
        CupyBackend._cannot_compute.cache_clear()


@pytest.mark.library
def test_torch_without_cuda_says_why():
    if not installed("torch"):
        pytest.skip("torch is not installed")
    if any("cuda" in device for info in list_backends() for device in info.devices):
        pytest.skip("there is a usable GPU")
    with pytest.raises(BackendError, match=r"^backend='torch:cuda': .*; 'xpnet backends' lists what can be used here"):
        get_backend("torch:cuda")
    with pytest.raises(BackendError, match=r"^backend='torch:nonsense': "):
        get_backend("torch:nonsense")


@pytest.mark.library
def test_jax_without_a_gpu_says_why():
    if not installed("jax"):
        pytest.skip("JAX is not installed")
    if any("gpu" in device or "cuda" in device for info in list_backends() for device in info.devices):
        pytest.skip("there is a usable GPU")
    with pytest.raises(BackendError, match=r"^backend='jax:gpu': "):
        get_backend("jax:gpu")
    with pytest.raises(BackendError, match=r"^backend='jax:cpu:99': there (is 1|are \d+), counted from 0"):
        get_backend("jax:cpu:99")


def test_every_backend_is_listed_with_a_version_or_a_reason():
    found = {info.name: info for info in list_backends()}
    assert list(found) == ["numpy", "cupy", "torch", "jax", "dpnp", "array_api_strict"]
    assert found["numpy"].version == np.__version__
    for info in found.values():
        assert info.usable == (info.reason is None) == bool(info.devices)


def test_lists_belong_to_numpy():
    assert backend_of([1, 2]).spec == "numpy"


def test_backends_are_pickled_by_their_names(backend):
    for opened in (backend, backend.stepwise(), backend_of(backend.asarray([1.0]))):
        again = pickle.loads(pickle.dumps(opened))
        assert type(again) is type(opened)
        assert (again.spec, again.device_name) == (opened.spec, opened.device_name)
        assert backend.to_numpy(again.asarray([1.0, 2.0])).tolist() == [1.0, 2.0]
        assert copy.copy(opened) is copy.deepcopy([opened])[0] is opened


def test_a_pickled_backend_that_is_not_here_says_so(monkeypatch):
    pickled = pickle.dumps(get_backend("array_api_strict"))
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "strict" in name else real(name))
    with pytest.raises(BackendError, match=r"^backend='array_api_strict', from a pickle: array_api_strict is not"):
        pickle.loads(pickled)


def test_an_array_names_its_device(backend):
    array = backend.asarray([1.0])
    again = get_backend(backend_of(array).spec)
    assert again.device_name == backend.device_name


@pytest.mark.library
def test_jax_multiplies_float32_in_full_unless_told_otherwise():
    jax = pytest.importorskip("jax")

    def precision(*, told=None):
        with jax.default_matmul_precision(told) if told else contextlib.nullcontext(), get_backend("jax").session():
            x = jax.numpy.ones((2, 2))
            return str(jax.make_jaxpr(lambda a: a @ a)(x))

    assert "HIGHEST" in precision()
    assert "HIGHEST" not in precision(told="tensorfloat32")
    assert jax.config.jax_default_matmul_precision is None


@pytest.mark.library
def test_a_jax_that_is_too_old_says_so(monkeypatch):
    jax = pytest.importorskip("jax")
    monkeypatch.delattr(jax, "enable_x64")
    reason = {info.name: info for info in list_backends()}["jax"].reason
    assert reason == f"JAX {jax.__version__} is too old, xpnet needs 0.8 or newer: pip install -U jax"
    with pytest.raises(BackendError, match="is too old"):
        get_backend("jax")


@pytest.mark.library
def test_torch_without_the_gpus_of_others_says_why():
    torch = pytest.importorskip("torch")
    for kind, there in (("mps", torch.backends.mps.is_available()), ("xpu", torch.xpu.is_available())):
        if not there:
            with pytest.raises(BackendError, match=rf"^backend='torch:{kind}': .+; 'xpnet backends' lists"):
                get_backend(f"torch:{kind}")


@pytest.mark.library
def test_torch_lists_the_gpus_of_others_and_refuses_float64_on_apples(monkeypatch):
    """Fake GPUs, because these tests were written without any."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 2)
    assert TorchBackend.devices()[-3:] == ("torch:xpu:0", "torch:xpu:1", "torch:mps")
    apple = TorchBackend("torch:mps", torch, torch.device("mps"))
    with pytest.raises(BackendError, match=r"^dtype='float64': the device 'mps' has no float64, take dtype='float32'"):
        apple.session("float64")


@pytest.mark.library
def test_dpnp_without_a_device_says_what_helps(monkeypatch):
    if not installed("dpnp"):
        pytest.skip("dpnp is not installed")
    import dpctl

    monkeypatch.setattr(dpctl, "get_devices", list)
    with pytest.raises(BackendError, match=r"^backend='dpnp': .*finds no device.*intel-opencl-rt.*OCL_ICD_FILENAMES"):
        get_backend("dpnp")


@pytest.mark.library
def test_dpnp_refuses_a_device_that_is_not_there():
    if not usable("dpnp"):
        pytest.skip("dpnp is not usable here")
    with pytest.raises(BackendError, match=r"^backend='dpnp:nonsense': .*'nonsense'; there are dpnp:"):
        get_backend("dpnp:nonsense")
