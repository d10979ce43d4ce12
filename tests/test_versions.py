"""`show_versions()`: what a report of a problem should say."""

from __future__ import annotations

import doctest
import platform
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import latentode
from latentode import versions

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def native(monkeypatch):
    """As if there were a library, for AVX2."""
    monkeypatch.setattr(versions, "library", object)
    monkeypatch.setattr(versions, "instruction_set", lambda: "avx2")


def shown(capsys) -> dict[str, str]:
    latentode.show_versions()
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())


def test_what_is_shown(capsys):
    lines = shown(capsys)
    assert lines["latentode"] == latentode.__version__
    assert lines["python"].startswith(platform.python_version())
    assert lines["platform"] == platform.platform()
    assert lines["torch"] == torch.__version__
    assert lines["numpy"] == np.__version__
    assert lines["torch threads"] == str(torch.get_num_threads())
    assert lines["CUDA available"] == ("yes" if torch.cuda.is_available() else "no")
    assert lines["engine"].startswith(("native (", "torch ("))


def test_every_library_of_the_installation_is_named(capsys):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {requirement.split(">")[0] for requirement in project["dependencies"]}
    assert required <= set(shown(capsys))


def test_a_library_that_is_not_installed(capsys, monkeypatch):
    monkeypatch.setattr(versions, "PACKAGES", ("torch", "no-such-library"))
    assert shown(capsys)["no-such-library"] == "not installed"


@pytest.mark.parametrize(("n_threads", "said"), [(1, "1 thread"), (2, "2 threads")])
def test_the_native_engine(native, capsys, monkeypatch, n_threads, said):
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    assert versions.engine_line() == f"engine: native (avx2, {said})"
    assert shown(capsys)["engine"] == f"native (avx2, {said})"


def test_the_torch_engine_says_why(monkeypatch):
    monkeypatch.setenv("LATENTODE_ENGINE", "torch")
    assert versions.engine_line().startswith(
        "engine: torch (no native kernels: the environment variable LATENTODE_ENGINE"
    )


def test_a_report_of_problems_shows_a_wrong_choice_of_the_engine(capsys, monkeypatch):
    monkeypatch.setenv("LATENTODE_ENGINE", "toch")
    assert shown(capsys)["engine"].startswith(
        "not decided (the environment variable LATENTODE_ENGINE must be"
    )


def test_examples_in_the_docstring():
    result = doctest.testmod(versions)
    assert result.attempted > 0
    assert result.failed == 0
