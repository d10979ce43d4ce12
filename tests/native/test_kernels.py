"""The kernels by themselves, by a driver in C++: over random shapes, under the sanitizers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from kernel_build import HERE, kernel_sources

LIMIT = 500  # seconds
SOURCES = [*kernel_sources(), HERE / "driver.cpp"]
DAILY = ("-O0", "-ULATENTODE_X86")  # seconds to compile, not a minute: the portable kernels alone


@pytest.mark.parametrize("sanitizer", ["address,undefined"], indirect=True)
def test_random_shapes(compiled, sanitizer):
    drive(compiled(SOURCES, (*sanitizer, *DAILY)), "portable", n_cases=25, n_threads=2)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_more_random_shapes(compiled, sanitizer, isa):
    drive(
        compiled(SOURCES, sanitizer),
        isa,
        n_cases=100 if "-fsanitize=thread" in sanitizer else 400,
        n_threads=3,
    )


def drive(program: Path, isa: str, n_cases: int, n_threads: int) -> None:
    result = subprocess.run(
        [program, str(n_cases), str(n_threads)],
        env={**os.environ, "LATENTODE_ISA": isa},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    if isa not in result.stdout:
        pytest.skip(f"this processor does not run {isa}")
    assert result.stdout == f"{isa}: all of it holds\n"
