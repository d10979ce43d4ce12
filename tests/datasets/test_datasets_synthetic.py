"""Spirals against the closed form of protocol A, written once more with complex numbers."""

from __future__ import annotations

import doctest

import numpy as np
import pandas as pd
import pytest

from latentode.datasets import make_spirals, synthetic

STEP = 6 * np.pi / 499  # spacing of the 500 fine times
EXACT = 1e-12  # rounding of a few float64 operations on numbers up to 20


def closed_form(direction: str, start: int, steps: np.ndarray) -> np.ndarray:
    t = (start + steps) * STEP
    if direction == "counter-clockwise":
        return 5 + 0.3 * t * np.exp(1j * t)
    angle = 6 * np.pi + 1 - t
    return -5 + 0.3 * 50 / angle * np.exp(1j * angle)


CANDIDATES = {
    (direction, start): closed_form(direction, start, np.arange(200))
    for direction in ("clockwise", "counter-clockwise")
    for start in range(301)
}
CURVES = np.array(list(CANDIDATES.values()))  # (602, 200)


def identify(series: pd.DataFrame) -> tuple[str, int, float]:
    """Direction and start of the candidate nearest to a clean series of 200 points, and its distance."""
    distance = np.abs(CURVES - (series["x"] + 1j * series["y"]).to_numpy()).max(axis=1)
    return *list(CANDIDATES)[distance.argmin()], distance.min()


def identify_all(truth: pd.DataFrame) -> pd.DataFrame:
    found = [identify(series) for _, series in truth.groupby("id")]
    return pd.DataFrame(found, columns=["direction", "start", "distance"])


def test_truth_is_a_spiral_of_the_recipe():
    truth = make_spirals(n_series=200, n_obs=1, random_state=0, return_truth=True).truth
    found = identify_all(truth)
    assert found["distance"].max() < EXACT
    # a fair coin lands 60 to 140 times on one side of 200 with probability 1 - 1e-8
    assert 60 <= (found["direction"] == "clockwise").sum() <= 140
    # starts spread over the whole range: 200 draws miss a given tenth with probability 7e-10
    assert set(np.minimum(found["start"] * 10 // 301, 9)) == set(range(10))


def test_truth_times_are_the_fine_steps_since_the_start():
    truth = make_spirals(n_series=3, n_obs=5, random_state=1, return_truth=True).truth
    for _, series in truth.groupby("id"):
        np.testing.assert_allclose(series["time"], np.arange(200) * STEP, atol=EXACT)


@pytest.mark.parametrize(("start", "extremes"), [((0, 0), {0}), ((300, 300), {300}), ((7, 8), {7, 8})])
def test_both_bounds_of_start_are_included(start, extremes):
    truth = make_spirals(n_series=40, n_obs=1, start=start, random_state=0, return_truth=True).truth
    assert set(identify_all(truth)["start"]) == extremes


def test_without_noise_the_data_are_rows_of_the_truth():
    spirals = make_spirals(n_series=20, n_obs=30, noise=0.0, random_state=3, return_truth=True)
    both = spirals.data.merge(spirals.interpolation, on=["id", "time"], suffixes=("", "_true"))
    assert len(both) == 20 * 30
    np.testing.assert_array_equal(both[["x", "y"]], both[["x_true", "y_true"]])


def test_parts_of_the_truth_are_the_first_and_the_next_hundred_times():
    spirals = make_spirals(n_series=4, n_obs=10, random_state=3, return_truth=True)
    for part, steps in (
        (spirals.interpolation, np.arange(100)),
        (spirals.extrapolation, np.arange(100, 200)),
    ):
        for _, series in part.groupby("id"):
            np.testing.assert_allclose(series["time"], steps * STEP, atol=EXACT)
    assert spirals.data["time"].max() < spirals.extrapolation["time"].min()


def test_table_is_long_sorted_and_typed():
    data = make_spirals(n_series=50, n_obs=30, random_state=0)
    assert list(data.columns) == ["id", "time", "x", "y"]
    assert [data[column].dtype.kind for column in data] == ["i", "f", "f", "f"]
    assert (data.groupby("id").size() == 30).all()
    assert list(data["id"].unique()) == list(range(50))
    assert not data.duplicated(["id", "time"]).any()
    pd.testing.assert_frame_equal(data, data.sort_values(["id", "time"], ignore_index=True))


def test_observed_times_differ_between_series_and_cover_the_window():
    data = make_spirals(n_series=200, n_obs=30, random_state=0)
    steps = np.rint(data["time"] / STEP).astype(int)
    # a fine time is chosen 60 times on average (standard deviation 6.5): six deviations either way
    counts = np.bincount(steps, minlength=100)
    assert len(counts) == 100
    assert 20 <= counts.min() <= counts.max() <= 100
    assert steps.groupby(data["id"]).agg(tuple).nunique() == 200


def test_all_hundred_times_are_observed_when_asked():
    data = make_spirals(n_series=3, n_obs=100, random_state=0)
    np.testing.assert_allclose(data["time"], np.tile(np.arange(100) * STEP, 3), atol=EXACT)


@pytest.mark.parametrize("noise", [0.1, 2.0])
def test_noise_has_the_wanted_spread(noise):
    spirals = make_spirals(n_series=500, n_obs=100, noise=noise, random_state=5, return_truth=True)
    error = (spirals.data[["x", "y"]] - spirals.interpolation[["x", "y"]]).to_numpy() / noise
    n = error.size  # 100,000: mean and standard deviation within six standard errors of 0 and 1
    assert abs(error.mean()) < 6 / np.sqrt(n)
    assert abs(error.std() - 1) < 6 / np.sqrt(2 * n)
    assert abs(np.corrcoef(error.T)[0, 1]) < 6 / np.sqrt(n / 2)


def test_same_seed_same_table_other_seed_another():
    first, again = make_spirals(random_state=7), make_spirals(random_state=7)
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(make_spirals(random_state=8))
    assert not make_spirals().equals(make_spirals())
    pd.testing.assert_frame_equal(first, make_spirals(random_state=np.random.default_rng(7)))


def test_asking_for_the_truth_or_for_other_observations_keeps_the_curves():
    few = make_spirals(n_series=9, n_obs=10, random_state=7, return_truth=True)
    many = make_spirals(n_series=9, n_obs=90, noise=1.0, random_state=7, return_truth=True)
    pd.testing.assert_frame_equal(few.data, make_spirals(n_series=9, n_obs=10, random_state=7))
    pd.testing.assert_frame_equal(few.truth, many.truth)


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make_spirals(n_series=2, random_state=0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n_series": 0}, "n_series must be a whole number of at least 1; got 0"),
        ({"n_series": 2.5}, "n_series must be a whole number .* got 2.5"),
        ({"n_series": True}, "n_series must be a whole number .* got True"),
        ({"n_obs": 0}, "n_obs must be a whole number from 1 to 100.* got 0"),
        ({"n_obs": 101}, "n_obs must be a whole number from 1 to 100.* got 101"),
        ({"noise": -0.1}, "noise must be a finite standard deviation of at least 0; got -0.1"),
        ({"noise": np.inf}, "noise must be a finite standard deviation .* got inf"),
        ({"noise": np.nan}, "noise must be a finite standard deviation .* got nan"),
        ({"noise": "low"}, "noise must be a finite standard deviation .* got 'low'"),
        ({"start": (0, 301)}, r"start must be two whole numbers .* <= 300; got \(0, 301\)"),
        ({"start": (-1, 10)}, r"start must be two whole numbers .* got \(-1, 10\)"),
        ({"start": (20, 10)}, r"start must be two whole numbers .* got \(20, 10\)"),
        ({"start": 10}, "start must be two whole numbers .* got 10"),
        ({"start": (0.5, 10)}, r"start must be two whole numbers .* got \(0.5, 10\)"),
        ({"random_state": "seed"}, "random_state must be an int"),
    ],
)
def test_bad_arguments_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        make_spirals(**arguments)


def test_examples_in_the_docstring():
    result = doctest.testmod(synthetic)
    assert result.attempted > 0
    assert result.failed == 0
