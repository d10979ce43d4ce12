"""The studies of the examples at full size, with what they must show: `pytest -m slow tests/test_studies.py`."""

from __future__ import annotations

import importlib.util
import os
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


@pytest.mark.skipif("LATENTODE_DATA_HOME" not in os.environ, reason="needs the downloaded archives")
def test_calibrated_intervals_hold_nine_tenths_of_held_out_series(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = (
        script("calibration").main().groupby("data")["after"].mean()
    )  # over the splits of a small data set
    assert set(found.index) == {"spirals", "pbc", "physionet"}
    assert found.between(0.87, 0.93).all()


@pytest.mark.skipif("LATENTODE_DATA_HOME" not in os.environ, reason="needs the downloaded archives")
def test_latent_states_tell_a_classifier_as_much_as_means():
    found = script("pipeline").main()["area under ROC"]
    assert found["latent states"] > found["means of visits"] - 0.05
