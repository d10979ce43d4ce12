"""The pool of threads: by drivers in C++, plain and under the sanitizers, and across forks of Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_build import HERE, KERNELS

POOL = KERNELS / "pool.cpp"
LIMIT = 240  # seconds until a pool that hangs is given up


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)


def test_what_must_hold_of_the_pool(compiled, sanitizer):
    result = run(compiled([POOL, HERE / "pool_driver.cpp"], sanitizer))
    assert (result.returncode, result.stdout) == (0, "all of it holds\n"), result.stderr
    assert result.stderr == ""


@pytest.mark.skipif(
    sys.platform != "linux", reason="replaces pthread_create as the dynamic linker of Linux allows"
)
def test_where_no_thread_can_be_started_the_caller_runs_all_parts(compiled):
    result = run(compiled([POOL, HERE / "pool_without_threads.cpp"], ("-O1", "-ldl")))
    assert (result.returncode, result.stdout) == (0, "111\n"), result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_children_of_a_fork_start_anew(compiled):
    library = compiled([POOL, HERE / "pool_library.cpp"], shared=True)
    result = run(sys.executable, HERE / "forks.py", library)
    assert (result.returncode, result.stdout) == (0, "all of it holds\n"), result.stderr
