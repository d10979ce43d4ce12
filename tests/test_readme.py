"""The README is true: its commands are those that CI calls, its examples run, its pictures exist."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import latentode

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def block(marker: str) -> str:
    found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w+\n(.*?)```", README, flags=re.DOTALL)
    assert found, f"no code block after <!-- {marker} -->"
    return found[1]


@pytest.mark.parametrize(("name", "end"), [("demo", ".venv/bin/latentode demo"), ("test", "-m pytest")])
def test_commands_set_up_everything_and_pin_torch(name, end):
    (command,) = block(f"command: {name}").splitlines()
    assert command.startswith("python3 -m venv .venv && ")
    assert "-c .ci/constraints.txt" in command
    assert command.endswith(end)
    assert (ROOT / ".ci" / "constraints.txt").read_text().startswith("torch==")


def test_pictures_exist():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)


@pytest.fixture
def short_training(monkeypatch):
    """The examples as written, with one epoch in place of all."""
    fit = latentode.LatentODERegressor.fit

    def fit_one_epoch(self, df, y=None):
        return fit(self.set_params(max_epochs=1, verbose=0), df, y)

    monkeypatch.setattr(latentode.LatentODERegressor, "fit", fit_one_epoch)


@pytest.mark.parametrize("name", re.findall(r"<!-- example: (\w+) -->", README))
def test_examples_run(name, short_training):
    exec(compile(block(f"example: {name}"), f"README.md ({name})", "exec"), {})
    plt.close("all")


def test_the_short_example_is_short():
    assert len(block("example: spirals").strip().splitlines()) <= 12
