"""Backends that other packages add: found by name, listed with a reason when broken, and equal to NumPy."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import BackendError, get_backend, list_backends
from xpnet.backends import BACKENDS, backend_names, backend_of, local_spec

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

TINY = '''
    """A library that xpnet does not know: array-api-strict, by the name of tiny."""
    import array_api_strict
    from xpnet.backends import Backend, BackendError

    class TinyBackend(Backend):
        library = "tiny"
        packages = ("tiny",)
        install = "pip install tiny"

        @classmethod
        def open(cls, device=""):
            if device not in ("", "0", "1"):
                raise BackendError("there are tiny:0, tiny:1")
            return cls(f"tiny:{device}" if device else "tiny", array_api_strict, array_api_strict.Device("device1"))

        @classmethod
        def devices(cls):
            return ("tiny:0", "tiny:1")

        def to_numpy(self, array):
            return super().to_numpy(array.to_device(array_api_strict.Device("CPU_DEVICE")))
'''

BROKEN = {
    "missing": "missing = no_such_module:Backend",
    "crashing": "crashing = crashing_plugin:Backend",
    "alien": "alien = fractions:Fraction",
    "absent": "absent = absent_plugin:AbsentBackend",
    "stumbling": "stumbling = stumbling_plugin:StumblingBackend",
    "partial": "partial = partial_plugin:PartialBackend",
    "quitting": "quitting = quitting_plugin:Backend",
    "listless": "listless = listless_plugin:ListlessBackend",
}
MODULES = {
    "crashing_plugin": 'raise OSError("libtpu.so: cannot open shared object file\\nsecond line")',
    "quitting_plugin": "raise SystemExit(3)",
    "listless_plugin": """
        import array_api_strict
        from xpnet.backends import Backend
        class ListlessBackend(Backend):
            library = "array_api_strict"
            @classmethod
            def devices(cls):
                return 3
    """,
    "absent_plugin": """
        from xpnet.backends import Backend
        class AbsentBackend(Backend):
            library, packages, install = "no_such_library", ("no-such-library",), "pip install no-such-library"
    """,
    "stumbling_plugin": """
        from xpnet.backends import Backend
        class StumblingBackend(Backend):
            library = "fractions"
            @classmethod
            def open(cls, device=""):
                return cls("stumbling", 1 / 0)
    """,
    "partial_plugin": """
        import math
        from xpnet.backends import Backend
        class PartialBackend(Backend):
            library = "math"
            @classmethod
            def open(cls, device=""):
                return cls("partial", math)
    """,
}


def install(folder, name, modules, entry_points):
    """Install a package as pip would: its modules and its metadata."""
    info = folder / f"{name}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("\n".join(["[xpnet.backends]", *entry_points]))
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(textwrap.dedent(source))


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A package with a backend, installed for this process and its children."""
    install(tmp_path, "tiny", {"tiny": TINY}, ["tiny = tiny:TinyBackend"])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    yield tmp_path
    sys.modules.pop("tiny", None)


@pytest.fixture
def broken(tiny):
    install(tiny, "broken", MODULES, BROKEN.values())
    yield tiny
    for module in MODULES:
        sys.modules.pop(module, None)


def command(*args):
    return subprocess.run([sys.executable, "-m", "xpnet", *args], capture_output=True, text=True)


def losses(run):
    return [(record.train_loss, record.val_loss, record.test_loss) for record in run.history]


def test_a_plugin_is_found_by_name(tiny, monkeypatch):
    assert get_backend("tiny").device_name == "array_api_strict.Device('device1')"
    assert get_backend("tiny:1").spec == "tiny:1"
    info = {info.name: info for info in list_backends()}["tiny"]
    assert (info.version, info.devices, info.reason) == ("0.1", ("tiny:0", "tiny:1"), None)
    assert local_spec("tiny", 3) == "tiny:1"
    assert backend_names() == [*BACKENDS, "tiny"]
    monkeypatch.setenv("XPNET_BACKEND", "tiny")
    assert get_backend().spec == "tiny"
    with pytest.raises(BackendError, match=r"^backend='tiny:7': there are tiny:0, tiny:1; 'xpnet backends' lists"):
        get_backend("tiny:7")
    with pytest.raises(BackendError, match=r"^backend='tin': unknown; there are numpy, .*, array_api_strict, tiny$"):
        get_backend("tin")


def test_a_plugin_trains_to_the_curves_of_numpy(tiny, few):
    ours, theirs = (
        xpnet.train("mlp", dataset=few, backend=spec, dtype="float64", epochs=3, progress=False)
        for spec in ("tiny", "numpy")
    )
    assert ours.config["backend"] == "tiny"
    np.testing.assert_allclose(losses(ours), losses(theirs), rtol=1e-12)


@pytest.mark.slow
def test_the_command_line_knows_a_plugin(tiny):
    rows = {row["name"]: row for row in json.loads(command("backends", "--json").stdout)["backends"]}
    assert rows["tiny"]["usable"]
    assert rows["tiny"]["devices"] == ["tiny:0", "tiny:1"]
    short = ("--dataset", "digits", "--epochs", "1", "--train-samples", "60")
    assert command("train", "--backend", "tiny", *short, "--output-dir", str(tiny / "run")).returncode == 0
    assert json.loads((tiny / "run" / "config.json").read_text())["backend"] == "tiny"
    done = command("compare", "--backends", "numpy,tiny", *short, "--dtype", "float64", "--json")
    assert done.returncode == 0, done.stderr
    assert '"tiny"' in done.stdout


def test_a_broken_plugin_is_listed_with_its_reason_and_breaks_no_other(broken):
    found = {info.name: info for info in list_backends()}
    assert found["numpy"].usable
    assert found["tiny"].usable
    added = "the package broken adds it as"
    reasons = {
        "missing": f"{added} no_such_module:Backend, which fails: ModuleNotFoundError: No module named",
        "crashing": f"{added} crashing_plugin:Backend, which fails: OSError: libtpu.so: cannot open shared object file",
        "alien": f"{added} fractions:Fraction, which is not a subclass of Backend with a 'library'",
        "absent": "no_such_library is not installed: pip install no-such-library",
        "stumbling": "it cannot be opened: ZeroDivisionError: division by zero",
        "partial": "it lacks int32, float32, iinfo, ",
        "quitting": f"{added} quitting_plugin:Backend, which fails: SystemExit: 3",
    }
    for name, reason in reasons.items():
        assert not found[name].usable
        assert found[name].reason.startswith(reason)
        assert "\n" not in found[name].reason
        with pytest.raises(BackendError) as error:
            get_backend(name)
        told = str(error.value).removesuffix("; 'xpnet backends' lists what can be used here")
        assert told == f"backend={name!r}: {found[name].reason}"
        assert local_spec(name, 0) == name
    assert found["listless"].reason == "'int' object is not iterable"
    assert get_backend("tiny").spec == "tiny"
    assert command("backends").returncode == 0


def test_no_plugin_takes_the_place_of_a_backend_that_xpnet_brings(tmp_path, monkeypatch):
    install(tmp_path, "usurper", {}, ["numpy = no_such_module:Backend"])
    monkeypatch.syspath_prepend(tmp_path)
    assert get_backend("numpy").spec == "numpy"
    assert [info.usable for info in list_backends() if info.name == "numpy"] == [True]


@pytest.mark.skipif(importlib.util.find_spec("mlx") is None, reason="MLX is not installed: pip install 'mlx[cpu]'")
@pytest.mark.parametrize("recipe", ["mlp", "cnn", "best"])
def test_the_example_trains_on_mlx_to_the_curves_of_numpy(recipe, tmp_path, monkeypatch, few):
    (points,) = [line for line in (EXAMPLES / "mlx_backend/pyproject.toml").read_text().splitlines() if ":Mlx" in line]
    install(tmp_path, "xpnet-mlx", {}, [points.replace('"', "")])
    monkeypatch.syspath_prepend(EXAMPLES / "mlx_backend")
    monkeypatch.syspath_prepend(tmp_path)
    ours, theirs = (
        xpnet.train(recipe, dataset=few, backend=spec, epochs=3, progress=False) for spec in ("mlx", "numpy")
    )
    np.testing.assert_allclose(losses(ours), losses(theirs), rtol=1e-5)
    images = get_backend("mlx").asarray(few.test_images[:7])
    assert backend_of(images).spec == "mlx"
    labels = backend_of(images).to_numpy(ours.network.predict(images))
    np.testing.assert_array_equal(labels, theirs.network.predict(few.test_images[:7]))
