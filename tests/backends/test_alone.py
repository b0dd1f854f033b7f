"""`xpnet.backends` without the rest of xpnet, as another project would copy it."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import xpnet.backends
from xpnet.backends.requirements import NEEDED

FOLDER = Path(xpnet.backends.__file__).parent

PROGRAM = """
    import sys
    import numpy as np
    from arrays import backend_of, get_backend, list_backends

    assert {info.name for info in list_backends() if info.usable} >= {"numpy", "array_api_strict"}
    backend = get_backend("array_api_strict:device1")
    with backend.session("float64"):
        xs = {"x": backend.asarray(np.arange(6.0).reshape(3, 2))}
        total, seen = backend.scan(lambda total, x: (total + x["x"], total), backend.asarray(np.zeros(2)), xs)
    assert backend.to_numpy(total).tolist() == [6.0, 9.0]
    assert backend_of(seen).device_name == "device1"
    print(sorted(name for name in sys.modules if name.partition(".")[0] == "xpnet"))
"""


def test_the_folder_works_under_another_name(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "arrays", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_xpnet_uses_no_other_names_of_the_standard_than_those_it_asks_a_library_for():
    """Doctests and comments may use other modules; code may not."""
    used = set()
    for path in FOLDER.parent.rglob("*.py"):
        if path.parent != FOLDER:
            code = re.sub(r"^ *(>>>|\.\.\.|#).*", "", path.read_text(), flags=re.MULTILINE)
            used |= set(re.findall(r"(?<![\w`])xp\.([a-z]\w+)", code))
    used.discard("float64")  # which only a run in it needs
    assert used <= set(NEEDED)
