"""The example that helps to choose a solver runs, and draws every solver and gradient."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib as mpl
import pytest

from latentode.gradients import GRADIENTS
from latentode.solvers import SOLVERS

EXAMPLE = Path(__file__).parents[1] / "examples" / "choose_solver.py"


@pytest.fixture
def example():
    mpl.use("Agg")
    return runpy.run_path(str(EXAMPLE))


def test_every_solver_and_gradient_is_drawn(example, tmp_path, monkeypatch, capsys):
    curves, bars = [], []
    for name, seen in (("draw_curves", curves), ("draw_bars", bars)):

        def watched(ax, numbers, *args, draw=example[name], seen=seen):
            draw(ax, numbers, *args)
            seen.append(numbers)

        monkeypatch.setitem(example["main"].__globals__, name, watched)
    picture = example["main"](quick=True, picture=tmp_path / "picture.png")
    assert picture.stat().st_size > 10_000
    assert capsys.readouterr().out
    orbit, stiff = curves
    assert set(orbit) == set(SOLVERS)
    assert [solver for solver, curve in orbit.items() if not curve] == [
        "implicit_euler"
    ]  # its planet falls in
    assert set(stiff) == set(example["FOR_STIFFNESS"])
    assert set(bars[0]) == set(bars[1]) == set(GRADIENTS)
    assert min(bars[0].values()) > 0


def test_colours_and_names_are_those_of_solvers(example):
    assert set(example["STYLES"]) <= set(SOLVERS)
    assert set(example["FOR_STIFFNESS"]) <= set(example["STYLES"])
    assert len(set(example["STYLES"].values())) == len(example["STYLES"])


def test_an_explicit_solver_gives_up_where_an_implicit_one_does_not(example):
    measure = example["time_against_stiffness"]
    assert [mu for mu, _ in measure("dopri5", [1.0, 1000.0], 60)] == [1.0]
    assert [mu for mu, _ in measure("kvaerno5", [1.0, 1000.0], 60)] == [1.0, 1000.0]
