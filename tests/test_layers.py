"""The direction of imports: a module imports from lower rows of the design's table and from its own folder."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "latentode"

ROWS = {
    "exceptions": 0,
    "checks": 0,
    "seeding": 0,
    "version": 0,
    "storage": 1,
    "solvers": 1,
    "native": 1,
    "series": 1,
    "datasets": 1,
    "metrics": 1,
    "plotting": 1,
    "versions": 2,
    "gradients": 2,
    "solve": 3,
    "drop_in": 3,
    "nn": 4,
    "models": 5,
    "training": 5,
    "estimators": 6,
    "model_selection": 6,
    "cli": 7,
    "__main__": 8,
    "__init__": 8,
}
THIRD_PARTY = {  # who may know a library (a heavy or opinionated one)
    "pandas": {"series", "datasets", "metrics", "plotting", "estimators", "model_selection", "cli"},
    "matplotlib": {"plotting", "cli"},
    "sklearn": {"estimators", "model_selection"},
    "typer": {"cli"},
    "narwhals": {"series", "estimators"},
    "pooch": {"datasets"},
    "torch": set(ROWS) - {"datasets", "plotting", "metrics", "model_selection"},
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, absolute dotted name) of every import in a file, inside functions too."""
    package = ("latentode", *path.relative_to(PACKAGE).parts[:-1])
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            found += [(node.lineno, ".".join([*base, alias.name])) for alias in node.names]
    return found


def violations(path: Path) -> list[str]:
    here = room(path)
    wrong = []
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] == "latentode" and len(parts) > 1 and parts[1] != here:
            there = parts[1] if parts[1] in ROWS else "__init__"
            if ROWS[there] >= ROWS[here]:
                wrong.append(
                    f"{path.name}:{line} {here} (row {ROWS[here]}) imports {name} (row {ROWS[there]})"
                )
        elif here not in THIRD_PARTY.get(parts[0], {here}):
            wrong.append(f"{path.name}:{line} {here} imports {name}")
    return wrong


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    assert room(path) in ROWS, f"{path} is in no row of the design's table"
    assert violations(path) == []


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("solvers/x.py", "from latentode.gradients import backprop"),
        ("solvers/x.py", "def f():\n    from ..solve import solve_ivp"),
        ("series/x.py", "import latentode.datasets.synthetic"),
        ("nn/x.py", "import pandas as pd"),
        ("nn/x.py", "from latentode import solve_ivp_of_the_top"),
        ("training/x.py", "from latentode.models.elbo import elbo"),
    ],
)
def test_the_check_bites(where, line, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    path = tmp_path / where
    path.parent.mkdir()
    path.write_text(line)
    assert violations(path)


def test_no_drawer_of_odds_and_ends():
    rotten = {"utils", "util", "misc", "helpers", "common", "core", "base_utils"}
    assert not [path for path in FILES if path.stem in rotten]
