"""Every script under examples/ runs, in quick form; every example in a docstring is true."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import os
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from latentode.estimators import flow_picture
from latentode.native.library import library, why_absent

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FILES = sorted(EXAMPLES.rglob("*.py"))
SCRIPTS = [
    path for path in FILES if "__main__" in path.read_text()
]  # the others are imported by scripts beside them
RUN_BY = {
    "choose_solver.py": "test_choose_solver_example.py"
}  # tests that run the quick form and look at more of it
ABOUT_KERNELS = {"fused_engine.py"}  # they measure the native kernels against others
PACKAGE = EXAMPLES.parent / "latentode"
DOCTESTED = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>>" in path.read_text()
]

mpl.use("Agg")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=SCRIPTS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def script(request, monkeypatch):
    monkeypatch.syspath_prepend(request.param.parent)  # as when it is run by command
    return load(request.param)


def test_there_are_examples():
    assert SCRIPTS


def test_every_file_is_a_script_or_serves_one():
    scripts = [path.read_text() for path in SCRIPTS]
    for path in set(FILES) - set(SCRIPTS):
        assert any(f"from {path.stem} import" in script for script in scripts), f"nothing uses {path}"


def test_main_has_a_quick_form(script):
    quick = inspect.signature(script.main).parameters["quick"]
    assert quick.default is False
    assert script.__doc__


def test_the_quick_form_runs(script, tmp_path, monkeypatch, capsys):
    if "fetch_" in inspect.getsource(script) and "LATENTODE_DATA_HOME" not in os.environ:
        pytest.skip("needs LATENTODE_DATA_HOME with the downloaded archives")
    if Path(script.__file__).name in ABOUT_KERNELS and library() is None:
        pytest.skip(f"measures the native kernels, and there are none: {why_absent()}")
    elsewhere = RUN_BY.get(Path(script.__file__).name)
    if elsewhere is not None:
        assert "(quick=True" in Path(__file__).with_name(elsewhere).read_text()
        return
    monkeypatch.chdir(tmp_path)  # what it writes, it writes here
    monkeypatch.setattr(flow_picture, "GRID", 24)  # of a picture that nobody looks at
    script.main(quick=True)
    plt.close("all")
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", DOCTESTED)
def test_examples_in_docstrings_say_what_they_print(name):
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0
