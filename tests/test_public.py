"""The public interface: names, imports, and the cost of an import."""

import subprocess
import sys

import xpnet


def test_all_names_exist_and_are_sorted():
    assert all(hasattr(xpnet, name) for name in xpnet.__all__)
    assert sorted(xpnet.__all__) == sorted(set(xpnet.__all__))


def test_nothing_heavy_is_imported():
    code = (
        "import sys, xpnet; "
        "print([m for m in ('torch', 'jax', 'cupy', 'matplotlib', 'pooch', 'requests', 'tqdm', 'click', 'safetensors')"
        " if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_imports_run_one_way():
    """nn and data do not import training, and no module imports the command line."""
    for module, forbidden in (
        ("xpnet.nn.network", "xpnet.training.loop"),
        ("xpnet.data", "xpnet.nn.layers"),
        ("xpnet.backends", "xpnet.random"),
        ("xpnet.random", "xpnet.backends"),
    ):
        # The package's own __init__ imports everything, so it is put aside.
        code = (
            "import sys, types, importlib.util as u; p = types.ModuleType('xpnet');"
            "p.__path__ = [u.find_spec('xpnet').submodule_search_locations[0]]; sys.modules['xpnet'] = p;"
            f"import {module}; print({forbidden!r} in sys.modules, 'xpnet.cli' in sys.modules)"
        )
        assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"], module


def test_only_backends_knows_the_libraries():
    """Only the backends name libraries."""
    import re
    from pathlib import Path

    for path in Path(xpnet.__file__).parent.rglob("*.py"):
        if path.parent.name != "backends":
            for number, line in enumerate(path.read_text().splitlines(), 1):
                assert not re.search(r"\bif\b.*(cupy|torch|jax)\b", line), f"{path}:{number}: {line}"
                assert not re.search(r"^\s*(import|from) (cupy|torch|jax)\b", line), f"{path}:{number}: {line}"
