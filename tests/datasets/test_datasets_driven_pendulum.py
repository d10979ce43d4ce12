"""Pendulums against SciPy, their energy, and themselves under another torque."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import solve_ivp

from latentode.datasets import make_driven_pendulum
from latentode.exceptions import DataError

SOLVED = 1e-6  # Radau at 1e-9 on pieces of at most a knot gap
SAME = 1e-8  # two solves at 1e-10


@pytest.fixture(scope="module")
def made():
    return make_driven_pendulum(5, 15, span=12.0, horizon=6.0, noise=0.0, random_state=0, return_truth=True)


def by_scipy(made, n, times, forcing):
    """Angle of series n at increasing times, solved from knot to knot."""
    knots = forcing[forcing["id"] == n]
    y, now, angles = made.series.loc[n, ["angle", "velocity"]].to_numpy(dtype=float), 0.0, {}

    def field(t, y):
        return [y[1], np.interp(t, knots["time"], knots["torque"]) - np.sin(y[0]) - made.damping * y[1]]

    for stop in sorted({*times, *knots["time"]} - {0.0}):
        y = solve_ivp(field, (now, stop), y, method="Radau", rtol=1e-9, atol=1e-9).y[:, -1]
        now, angles[stop] = stop, y[0]
    return [angles[time] for time in times]


def test_truth_is_that_of_another_solver(made):
    times = [0.4, 3.0, 7.7, 17.5, 20.0]  # at a knot, and after the last one too
    truth = made.truth_at(times)
    for n in (0, 3):
        expected = by_scipy(made, n, times, made.forcing)
        np.testing.assert_allclose(truth[truth["id"] == n]["angle"], expected, rtol=0, atol=SOLVED)


def test_another_torque_with_other_knots_is_solved_too(made):
    steps = pd.DataFrame({"time": [0.0, 2.0, 2.1, 9.0], "torque": [0.0, 0.0, 0.7, -0.4]})
    forcing = pd.concat([steps.assign(id=n) for n in range(5)], ignore_index=True)
    times = [1.0, 2.05, 5.0, 11.0]
    truth = made.truth_at(times, forcing)
    np.testing.assert_allclose(
        truth[truth["id"] == 2]["angle"], by_scipy(made, 2, times, forcing), rtol=0, atol=SOLVED
    )
    assert list(truth[truth["id"] == 2]["torque"]) == pytest.approx([0.0, 0.35, 0.7 - 1.1 * 2.9 / 6.9, -0.4])


def test_without_torque_and_damping_the_energy_is_kept():
    made = make_driven_pendulum(4, 1, torque=0.0, damping=0.0, random_state=1, return_truth=True)
    h = 1e-3
    for time in (0.5, 7.3, 25.0):
        before, here, after = (made.truth_at([time + shift])["angle"] for shift in (-h, 0.0, h))
        energy = 0.5 * ((after - before) / (2 * h)) ** 2 - np.cos(here)
        start = 0.5 * made.series["velocity"] ** 2 - np.cos(made.series["angle"])
        np.testing.assert_allclose(energy, start, rtol=0, atol=1e-6)  # h² of the central difference


def test_table_has_the_observations_and_the_knots_of_all_the_future(made):
    knots = made.data[made.data["angle"].isna()]
    pd.testing.assert_frame_equal(knots[["id", "time", "torque"]].reset_index(drop=True), made.forcing)
    assert list(made.forcing.query("id == 1")["time"]) == list(range(19))
    seen = made.data.dropna()
    assert (seen.groupby("id").size() == 15).all()
    for n, series in seen.groupby("id"):
        own = made.forcing[made.forcing["id"] == n]
        np.testing.assert_allclose(series["torque"], np.interp(series["time"], own["time"], own["torque"]))


def test_torques_are_gaussian_at_the_knots():
    forcing = make_driven_pendulum(200, 1, torque=0.8, random_state=0, return_truth=True).forcing
    n = len(forcing)  # 6,200: mean and standard deviation within six standard errors
    assert abs(forcing["torque"].mean()) < 6 * 0.8 / np.sqrt(n)
    assert abs(forcing["torque"].std() / 0.8 - 1) < 6 / np.sqrt(2 * n)


@pytest.mark.parametrize(("gap", "n_knots"), [(1.0, 19), (4.0, 6), (100.0, 2)])
def test_knots_cover_the_horizon(gap, n_knots):
    forcing = make_driven_pendulum(1, 1, span=12.0, horizon=6.0, knot_gap=gap, return_truth=True).forcing
    np.testing.assert_allclose(forcing["time"], gap * np.arange(n_knots))
    assert forcing["time"].max() >= 18.0


def test_another_future_begins_at_the_first_knot_beyond_the_cut(made):
    other = made.other_forcing(after=6.5, random_state=0)
    assert list(other.columns) == ["id", "time", "torque"]
    same = other["torque"] == made.forcing["torque"]
    assert same[other["time"] <= 7.0].all()
    assert not same[other["time"] > 7.0].any()
    pd.testing.assert_frame_equal(other, made.other_forcing(after=6.5, random_state=0))
    assert not other.equals(made.other_forcing(after=6.5, random_state=1))


def test_pendulums_share_the_past_and_part_in_another_future(made):
    other = made.other_forcing(after=6.5, random_state=0)
    past, future = [0.0, 3.3, 6.9, 7.0], [9.0, 12.0]
    np.testing.assert_allclose(
        made.truth_at(past, other)["angle"], made.truth_at(past)["angle"], rtol=0, atol=SAME
    )
    apart = (made.truth_at(future, other)["angle"] - made.truth_at(future)["angle"]).abs()
    assert apart.min() > 1e-3
    assert apart.max() > 0.1


def test_the_context_is_what_was_seen_and_what_is_planned(made):
    assert made.context(until=12.0).equals(made.data)
    other = made.other_forcing(after=6.5, random_state=0)
    known = made.context(until=6.5, forcing=other)
    seen = known.dropna()
    pd.testing.assert_frame_equal(
        seen.reset_index(drop=True), made.data.dropna().query("time <= 6.5").reset_index(drop=True)
    )
    pd.testing.assert_frame_equal(
        known[known["angle"].isna()][["id", "time", "torque"]].reset_index(drop=True), other
    )


def test_a_plan_against_the_observed_past_is_refused(made):
    other = made.other_forcing(after=3.0, random_state=0)
    with pytest.raises(DataError, match=r"not the one under which the series were observed until 6\.5"):
        made.context(until=6.5, forcing=other)


def test_a_future_without_knots_is_refused(made):
    with pytest.raises(ValueError, match=r"before the last knot, 18, or nothing is drawn anew; got 18.0"):
        made.other_forcing(after=18.0)


def test_torques_that_say_too_little_are_refused(made):
    with pytest.raises(
        DataError, match="no torque for series 4: `forcing` needs at least one knot per series"
    ):
        made.truth_at([1.0], made.forcing.query("id < 4"))
    with pytest.raises(DataError, match="the knots of series 0 must increase in time: sort `forcing`"):
        made.truth_at([1.0], made.forcing[::-1])
