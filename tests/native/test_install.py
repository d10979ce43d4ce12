"""Whole installations by pip, with a compiler and without: each in a folder of its own, tried by another Python."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from kernel_build import KERNELS, ROOT, compiler


def major_version(package: str) -> int:
    """Of an installed package, else 0; it is not imported: pip changes what setuptools imports after it."""
    try:
        return int(metadata.version(package).split(".")[0])
    except metadata.PackageNotFoundError:
        return 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not major_version("pip") or major_version("setuptools") < 77,
        reason="needs pip and setuptools>=77 in this environment",
    ),
]

PARTS = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "latentode", "datasets")
LIBRARY = f"latentode/native/_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
MAIN_JOB = """
import torch
import latentode
from latentode import LatentODERegressor, show_versions, solve_ivp
from latentode.datasets import make_spirals
from latentode.native.library import library, why_absent

print("place:", latentode.__file__)
print("library:", library() is not None)
print("why absent:", why_absent())
solution = solve_ivp(lambda t, y: -y, torch.ones(3, 2), torch.tensor([0.0, 1.0]), params=())
print("solved:", solution.y[-1, -1, -1].item())
table = make_spirals(n_series=8, n_obs=10, random_state=0)
model = LatentODERegressor(latent_dim=2, hidden_dim=4, max_epochs=1, random_state=0, verbose=0).fit(table)
print("forecast:", len(model.predict(table, times=[1.0, 2.0])))
show_versions()
"""
needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler here")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what an installation reads."""
    copy = tmp_path / "source"
    copy.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "_kernels*")
            shutil.copytree(ROOT / part, copy / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, copy)
    return copy


@pytest.fixture
def nothing_to_compile_with(tmp_path: Path) -> dict[str, str]:
    """An environment in which no compiler can be found."""
    (tmp_path / "bin").mkdir()
    return {"PATH": str(tmp_path / "bin"), "CC": "/nowhere/cc", "CXX": "/nowhere/c++"}


def call(*arguments: str | Path, folder: Path, **environment: str) -> str:
    variables = {
        k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "LATENTODE_ENGINE"}
    } | environment
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def install(source: Path, **environment: str) -> tuple[Path, str]:
    """The folder with the installed package, and what pip said."""
    target = source.parent / "installed"
    options = ["--no-deps", "--no-build-isolation", "--verbose", "--target", target]
    return target, call("-m", "pip", "install", *options, source, folder=source.parent, **environment)


def main_job(target: Path, **environment: str) -> dict[str, str]:
    """What the installed package answers, by the words before the colon."""
    output = call("-c", MAIN_JOB, folder=target.parent, PYTHONPATH=str(target), **environment)
    return dict(line.split(": ", 1) for line in output.splitlines() if ": " in line)


def check_answers(answers: dict[str, str], target: Path) -> None:
    assert answers["place"] == str(target / "latentode" / "__init__.py")
    assert float(answers["solved"]) == pytest.approx(math.exp(-1), rel=1e-3)
    assert answers["forecast"] == "16"  # eight series, two times


def test_without_a_compiler_it_installs_and_torch_serves(source, nothing_to_compile_with):
    target, said = install(source, **nothing_to_compile_with)
    warnings = [
        line for line in said.splitlines() if "no native kernels, the torch engine will serve" in line
    ]
    assert len(warnings) == 1
    assert "/nowhere/c++" in warnings[0]
    answers = main_job(target, **nothing_to_compile_with)
    check_answers(answers, target)
    assert answers["library"] == "False"
    assert "was not built (latentode was installed without a C++ compiler" in answers["why absent"]
    assert answers["engine"] == f"torch (no native kernels: {answers['why absent']})"


@needs_compiler
def test_with_a_compiler_the_kernels_serve(source):
    target, said = install(source)
    assert "no native kernels" not in said
    answers = main_job(target)
    check_answers(answers, target)
    assert (answers["library"], answers["why absent"]) == ("True", "None")
    assert answers["engine"].startswith("native (")
    assert [
        path.name for path in (target / "latentode" / "native").rglob("*") if path.suffix in {".cpp", ".hpp"}
    ] == []
    assert main_job(target, LATENTODE_ENGINE="torch")["engine"].startswith("torch (")


@needs_compiler
def test_an_editable_installation_has_its_library_in_the_tree(source):
    target = source.parent / "editable"
    options = ["--no-deps", "--no-build-isolation", "--target", target]
    call("-m", "pip", "install", *options, "-e", source, folder=source.parent)
    assert (source / LIBRARY).is_file()
    assert main_job(source)["library"] == "True"


def test_an_editable_installation_without_a_compiler(source, nothing_to_compile_with):
    target = source.parent / "editable"
    options = ["--no-deps", "--no-build-isolation", "--target", target]
    call("-m", "pip", "install", *options, "-e", source, folder=source.parent, **nothing_to_compile_with)
    assert main_job(source)["library"] == "False"


@needs_compiler
def test_the_source_distribution_has_all_that_a_wheel_is_built_of(source):
    build = "from setuptools import build_meta; print(build_meta.build_{}('..'))"
    call("-c", build.format("sdist"), folder=source)
    (archive,) = source.parent.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(source.parent / "unpacked", filter="data")
    (unpacked,) = (source.parent / "unpacked").iterdir()
    kernels = unpacked / KERNELS.relative_to(ROOT)
    assert {path.name for path in kernels.iterdir()} == {path.name for path in KERNELS.iterdir()}
    call("-c", build.format("wheel"), folder=unpacked)
    (wheel,) = unpacked.parent.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert LIBRARY in names
    assert not any(name.endswith((".cpp", ".hpp", ".inc", ".h")) for name in names)
