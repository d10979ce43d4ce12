"""setup.py: a library of sources with flags of their own where there is a compiler, a warning where there is none."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from kernel_build import KERNELS, PLATFORM, ROOT, compiler, setup_py

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
HEADER = "inline int version() { return VERSION; }\n"
EXPORT = 'extern "C" __attribute__((visibility("default"))) int'
WIDTH = """
#if defined(__AVX512F__)
#define WIDTH 512
#elif defined(__AVX2__)
#define WIDTH 256
#else
#define WIDTH 0
#endif
"""
NO_COMPILER = {"CC": "/nowhere/cc", "CXX": "/nowhere/c++"}
needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler here")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package with the setup.py of this one and kernels of a line each."""
    kernels = tmp_path / "latentode" / "native" / "kernels"
    kernels.mkdir(parents=True)
    shutil.copy(ROOT / "setup.py", tmp_path)
    (kernels.parent / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "latentode"\nversion = "1"\n[tool.setuptools]\npackages = ["latentode.native"]\n'
    )
    (kernels / "version.hpp").write_text(HEADER.replace("VERSION", "1"))
    (kernels / "dispatch.cpp").write_text(
        f'#include "version.hpp"\n{EXPORT} entry() {{ return version(); }}\n'
    )
    for name in ("portable", "avx2", "avx512"):
        (kernels / f"{name}.cpp").write_text(f"{WIDTH}{EXPORT} width_of_{name}() {{ return WIDTH; }}\n")
    return tmp_path


def build(project: Path, *options: str, **environment: str) -> str:
    """Output of `build_ext --inplace`, which has to succeed."""
    command = [sys.executable, "setup.py", "build_ext", "--inplace", *options]
    result = subprocess.run(
        command, cwd=project, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def library(project: Path) -> Path:
    return project / "latentode" / "native" / f"_kernels{SUFFIX}"


@needs_compiler
def test_each_source_has_its_own_flags(project):
    build(project)
    found = ctypes.CDLL(str(library(project)))
    assert found.entry() == 1
    assert found.width_of_portable() == 0
    if setup_py().is_x86_64(PLATFORM):
        assert (found.width_of_avx2(), found.width_of_avx512()) == (256, 512)
    else:
        assert not hasattr(found, "width_of_avx2")


@needs_compiler
def test_it_is_built_again_when_a_header_has_changed(project):
    build(project)
    first = library(project).read_bytes()
    assert "dispatch" not in build(project)  # nothing to do
    header = KERNELS.relative_to(ROOT) / "version.hpp"
    (project / header).write_text(HEADER.replace("VERSION", "2"))
    os.utime(project / header, (time.time() + 10,) * 2)  # the clock of a file system may be coarse
    assert "dispatch" in build(project)
    assert library(project).read_bytes() != first


def is_said_in_one_line(output: str, reason: str) -> bool:
    lines = [line for line in output.splitlines() if "no native kernels, the torch engine will serve" in line]
    return len(lines) == 1 and reason in lines[0]


@pytest.mark.parametrize(
    ("environment", "reason"),
    [(NO_COMPILER, "/nowhere/c++"), ({"LATENTODE_NATIVE": "0"}, "LATENTODE_NATIVE=0 leaves them out")],
    ids=["no compiler", "not wanted"],
)
def test_without_a_compiler_it_warns_and_leaves_no_library(project, environment, reason):
    library(project).touch()  # of an earlier build
    assert is_said_in_one_line(build(project, **environment), reason)
    assert not library(project).exists()
    assert list(project.rglob(f"*{SUFFIX}")) == []


@needs_compiler
def test_a_compiler_error_is_a_warning(project):
    (project / KERNELS.relative_to(ROOT) / "portable.cpp").write_text("no C++\n")
    assert is_said_in_one_line(build(project), "exit status 1")
    assert not library(project).exists()


def test_msvc_is_refused_before_it_compiles(monkeypatch):
    from setuptools import Distribution, Extension

    command = setup_py().BuildKernels(Distribution())
    command.compiler = type("MSVC", (), {"compiler_type": "msvc"})()
    with pytest.raises(RuntimeError, match="MSVC has no vector extensions; GCC and Clang have"):
        command.build_extension(Extension("latentode.native._kernels", []))


@pytest.mark.parametrize(
    ("platform", "x86"),
    [
        ("linux-x86_64", True),
        ("macosx-10.13-x86_64", True),
        ("win-amd64", True),
        ("mingw_x86_64", True),
        ("linux-aarch64", False),
        ("linux-i686", False),
        ("macosx-11.0-arm64", False),
        ("macosx-10.13-universal2", False),  # one call compiles for both of its machines
    ],
)
def test_instruction_sets_of_x86_are_for_x86_64_alone(platform, x86):
    names = {path.name for path in setup_py().kernel_sources(platform)}
    assert {"portable.cpp", "dispatch.cpp", "pool.cpp"} <= names
    assert ({"avx2.cpp", "avx512.cpp"} <= names) == x86
    assert ("-DLATENTODE_X86" in setup_py().source_flags("dispatch.cpp", platform)) == x86
    assert ("-mavx2" in setup_py().source_flags("avx2.cpp", platform)) == x86
    assert not any(flag.startswith("-m") for flag in setup_py().source_flags("dispatch.cpp", platform))


def test_no_flag_changes_results_or_ties_the_library_to_this_machine():
    build = setup_py()
    flags = {*build.COMPILE_FLAGS, *build.LINK_FLAGS, *chain(*build.X86_SOURCES.values())}
    assert flags.isdisjoint({"-ffast-math", "-Ofast", "-march=native", "-mtune=native", "-fopenmp"})


def test_sources_reach_the_source_distribution_and_not_the_wheel():
    suffixes = {path.suffix for path in KERNELS.iterdir()}
    patterns = (ROOT / "MANIFEST.in").read_text().split()
    assert suffixes <= {pattern.removeprefix("*") for pattern in patterns if pattern.startswith("*.")}
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert options["include-package-data"] is False
    assert not any(name.startswith("latentode.native") for name in options["package-data"])


def test_the_kernels_of_the_package_make_a_library(package_library):
    found = ctypes.CDLL(str(package_library))
    found.latentode_isa.restype = ctypes.c_char_p
    assert found.latentode_isa().decode() in {"avx512", "avx2", "portable"}
