"""Programs and libraries compiled from the kernels' sources."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import kernel_build
import pytest

from latentode.native.library import FILE

TRIVIAL = "#include <thread>\nint main() { std::thread([] {}).join(); return 0; }\n"


@pytest.fixture(scope="session")
def compiled(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`kernel_build.compiled` with a folder to keep its files; the test is skipped where there is no compiler."""
    if kernel_build.compiler() is None:
        pytest.skip("there is no C++ compiler here")
    cache = getattr(pytestconfig, "cache", None)
    folder = cache.mkdir("latentode-kernels") if cache else tmp_path_factory.mktemp("kernels")

    def make(
        sources: list[Path], flags: tuple[str, ...] = kernel_build.QUICK, *, shared: bool = False
    ) -> Path:
        return kernel_build.compiled(folder, sources, flags, shared=shared)

    return make


@pytest.fixture(scope="session")
def package_library(request: pytest.FixtureRequest) -> Path:
    """The library of all kernels: the one that setup.py left beside them, or where that is older one made here."""
    sources = [*kernel_build.KERNELS.iterdir(), kernel_build.ROOT / "setup.py"]
    if FILE.exists() and FILE.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return FILE
    compiled = request.getfixturevalue("compiled")
    return compiled(kernel_build.kernel_sources(), shared=True)


@pytest.fixture(scope="session", params=[None, *kernel_build.SANITIZERS])
def sanitizer(request: pytest.FixtureRequest, compiled, tmp_path_factory) -> tuple[str, ...]:
    """Flags of no sanitizer and of each one; skipped where a program that does nothing does not run with them."""
    flags = (*kernel_build.QUICK, *kernel_build.SANITIZERS.get(request.param, ()))
    trivial = tmp_path_factory.mktemp("trivial") / "trivial.cpp"
    trivial.write_text(TRIVIAL)
    try:
        works = subprocess.run([compiled([trivial], flags)], capture_output=True).returncode == 0
    except kernel_build.CompileError:
        works = False
    if not works:
        pytest.skip(f"-fsanitize={request.param} does not work here")
    return flags
