"""The studies of the examples at full size, with what they must show: `pytest -m slow tests/test_studies.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

pytestmark = pytest.mark.slow


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("system", ["oscillators", "covariate", "predators", "pendulum"])
def test_known_systems_are_forecast_within_a_tenth_of_their_spread(system, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (errors,) = script("recovery").main(only=system).values()
    assert max(errors.values()) < 0.1


def test_the_rate_of_events_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert script("event_times").main()["known"] < 0.5


def test_heavy_tails_are_better_described_by_student_t():
    found = script("outliers").main()
    assert found.loc["student_t", "log score"] > found.loc["gaussian", "log score"]


def test_penalties_lower_the_evaluations():
    found = script("calm_dynamics").main()
    assert found["evaluations"].iloc[-1] < found["evaluations"].iloc[0]
