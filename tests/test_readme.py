"""The README is true: its commands are those that CI calls, its examples run, its pictures exist."""

from __future__ import annotations

import math
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import latentode
from latentode.estimators import flow_picture

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def block(marker: str) -> str:
    found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w+\n(.*?)```", README, flags=re.DOTALL)
    assert found, f"no code block after <!-- {marker} -->"
    return found[1]


@pytest.mark.parametrize(
    ("name", "end"), [("demo", ".venv/bin/latentode demo"), ("test", "-m pytest -n 2 --dist loadfile")]
)
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


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"@[A-Z]+@", README)
    for path in re.findall(r"`((?:examples|datasets|tests)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path


@pytest.fixture
def short_training(monkeypatch):
    """The examples as written, with one epoch in place of all, and pictures of fewer points."""
    monkeypatch.setattr(flow_picture, "GRID", 24)
    for estimator in (
        latentode.LatentODERegressor,
        latentode.LatentODEClassifier,
        latentode.ODENetClassifier,
        latentode.ContinuousFlowDensity,
    ):

        def fit_one_epoch(self, df, y=None, fit=estimator.fit):
            return fit(self.set_params(max_epochs=1, verbose=0), df, y)

        monkeypatch.setattr(estimator, "fit", fit_one_epoch)


SECTIONS = {
    part.splitlines()[0].strip("# "): re.findall(r"<!-- example: (\w+) -->", part)
    for part in README.split("\n## ")
    if "<!-- example: " in part
}


@pytest.mark.parametrize("section", SECTIONS)
def test_examples_run(section, short_training, tmp_path, monkeypatch):
    """As a reader would: those of a section one after the other."""
    monkeypatch.chdir(tmp_path)  # some write files
    namespace = {}
    for name in SECTIONS[section]:
        exec(compile(block(f"example: {name}"), f"README.md ({name})", "exec"), namespace)
    plt.close("all")


def test_the_short_example_is_short():
    assert len(block("example: spirals").strip().splitlines()) <= 12


def test_what_the_engines_examples_say_is_true():
    namespace = {}
    for name in ("solve_ivp", "failure", "tuple", "event", "odeint"):
        exec(compile(block(f"example: {name}"), f"README.md ({name})", "exec"), namespace)
    assert namespace["solution"].y.shape == (2, 3, 1)
    assert namespace["runaway"].t_reached.tolist() == pytest.approx([1.0, 0.5], abs=1e-3)
    assert namespace["runaway"].y[:, 1, 0].tolist() == pytest.approx([4 / 3, 4], rel=5e-3)
    assert namespace["runaway"].y[:, 2].isnan().all()
    assert namespace["fall"].event_times.tolist() == pytest.approx([0.4518, 1.0102], abs=1e-4)
    expected = [-math.exp(-0.5), -2 * math.exp(-2.0)]  # of y0 exp(-rate)
    assert namespace["rate"].grad.tolist() == pytest.approx(expected, rel=1e-2)
    slope = -sum(namespace["fall"].event_times.tolist()) / (2 * 9.8)  # of √(2 height / gravity)
    assert namespace["gravity"].grad.item() == pytest.approx(slope, rel=1e-4)
    assert namespace["path"].shape == (5, 3)
