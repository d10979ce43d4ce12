"""The example that helps to choose a solver runs, and draws every solver and gradient."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib

from latentode.gradients import GRADIENTS
from latentode.solvers import SOLVERS

EXAMPLE = Path(__file__).parents[1] / "examples" / "choose_solver.py"


def test_every_solver_and_gradient_is_drawn(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    example = runpy.run_path(str(EXAMPLE))
    seen = set()
    for name in ("draw_work", "draw_gradients"):
        draw = example[name]

        def watched(ax, *args, draw=draw):
            draw(ax, *args)
            seen.update(text.get_text() for text in ax.get_legend().get_texts())

        monkeypatch.setitem(example["main"].__globals__, name, watched)
    picture = example["main"](quick=True, picture=tmp_path / "picture.png")
    assert picture.stat().st_size > 10_000
    assert seen >= {*SOLVERS, *GRADIENTS}
