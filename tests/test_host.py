"""The host: threads of its linear algebra, memory of freed arrays."""

import platform
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from xpnet.host import kept_memory, thread_limit


def test_threads_are_limited_for_a_while(monkeypatch):
    from threadpoolctl import threadpool_info

    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before = threads()
    with thread_limit(1):
        assert threads() <= {1}
    assert threads() == before
    monkeypatch.setenv("XPNET_THREADS", "1")
    with thread_limit(None):
        assert threads() <= {1}
    for bad in (0, -1, 1.5, "many", "1.5"):
        with pytest.raises(ValueError, match=f"threads={bad!r}"), thread_limit(bad):
            pass


PAGE_FAULTS = """
    import resource, sys
    import numpy as np
    from xpnet.host import kept_memory

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            a, b, c = (np.ones(1_000_000) for _ in range(3))
            del a, b, c
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with kept_memory():
        faults()
        kept = faults()
    print(kept)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to keep memory")
def test_kept_memory_is_not_asked_for_anew():
    command = [sys.executable, "-c", textwrap.dedent(PAGE_FAULTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # Without it there are thousands: each of the arrays has two thousand pages.
    assert int(done.stdout) < 50


def test_memory_is_left_alone_where_the_c_library_is_another(monkeypatch):
    def no_library(name):
        raise OSError(f"{name}: not found")

    monkeypatch.setattr("ctypes.CDLL", no_library)
    with kept_memory():
        assert np.ones(3).sum() == 3
