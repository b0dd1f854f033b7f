"""The tests can be collected where Unix's names do not exist: those that need one skip themselves."""

import subprocess
import sys
from pathlib import Path

import pytest

# What other packages import is imported first: they have their own ways on Windows.
ON_WINDOWS = """
import contextlib, importlib, os, signal, sys

import pytest

for name in {packages}:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
for module, names in {absent}.items():
    for name in names:
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
for name in {modules}:
    sys.modules[name] = None
options = ["--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
sys.exit(pytest.main([*options, "-W", "ignore::pytest.PytestWarning", {tests!r}]))
"""
PACKAGES = [
    *["numpy", "xpnet.cli", "matplotlib.pyplot", "hypothesis", "platformdirs", "filelock", "multiprocessing.util"],
    *["array_api_strict", "onnx", "onnxruntime", "ndonnx", "sklearn.utils.estimator_checks", "nbclient", "IPython"],
    *["PIL.Image", "torch", "jax", "http.server", "marray", "quantity_array"],
]
ABSENT = {
    "os": ["geteuid", "getuid", "getgid", "fork", "mkfifo", "killpg", "setsid", "WTERMSIG", "WIFSIGNALED", "openpty"],
    "signal": [
        *["SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT", "SIGTSTP", "SIGALRM", "SIGPIPE"],
        *["alarm", "setitimer", "pthread_kill", "pthread_sigmask"],
    ],
}
MODULES = ["resource", "fcntl", "pwd", "grp", "termios", "tty", "pty"]


@pytest.mark.thorough
def test_every_test_is_collected():
    tests = str(Path(__file__).parent)
    code = ON_WINDOWS.format(packages=PACKAGES, absent=ABSENT, modules=MODULES, tests=tests)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "tests/test_windows.py::test_every_test_is_collected" in done.stdout.replace("\\", "/")
