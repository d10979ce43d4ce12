"""The kernels by themselves, by a driver in C++: over random shapes, plain and under the sanitizers."""

from __future__ import annotations

import os
import subprocess

import pytest
from kernel_build import HERE, kernel_sources

LIMIT = 500  # seconds


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_random_shapes(compiled, isa):
    drive(compiled([*kernel_sources(), HERE / "driver.cpp"]), isa, n_cases=100, n_threads=2)


@pytest.mark.slow  # a minute to compile
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_random_shapes_under_the_sanitizers(compiled, sanitizer, isa):
    drive(compiled([*kernel_sources(), HERE / "driver.cpp"], sanitizer), isa, n_cases=300, n_threads=3)


def drive(program, isa: str, n_cases: int, n_threads: int) -> None:
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
        pytest.skip(f"this processor does not run {isa}: {result.stdout}")
    assert result.stdout == f"{isa}: all of it holds\n"
