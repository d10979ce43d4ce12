"""Populations against their conserved quantity, an implicit solver of SciPy and the small cycle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from latentode.datasets import make_lotka_volterra

SOLVED = 1e-7  # Radau at 1e-10 has a global error of some 1e-8
CONSERVED = 1e-8


@pytest.fixture(scope="module")
def made():
    return make_lotka_volterra(8, 20, random_state=0, return_truth=True)


def test_every_series_stays_on_its_orbit(made):
    truth = made.truth_at(np.linspace(0, 40, 50))
    x, y = truth["prey"], truth["predator"]
    level = (x - np.log(x) + 4 / 3 * y - 2 / 3 * np.log(y)).groupby(truth["id"])
    assert (level.max() - level.min()).max() < CONSERVED
    assert level.mean().std() > 0.1  # and not all on one


def test_truth_is_that_of_another_solver(made):
    def field(t, p):
        return [2 / 3 * p[0] - 4 / 3 * p[0] * p[1], p[0] * p[1] - p[1]]

    times = np.linspace(0.5, 15, 7)
    truth = made.truth_at(times)
    for n, series in made.series.iterrows():
        start = series[["prey", "predator"]].to_numpy()
        expected = solve_ivp(field, (0, 15), start, method="Radau", t_eval=times, rtol=1e-10, atol=1e-10).y.T
        np.testing.assert_allclose(
            truth[truth["id"] == n][["prey", "predator"]], expected, rtol=SOLVED, atol=SOLVED
        )


def test_small_cycles_have_the_period_of_the_linear_system():
    made = make_lotka_volterra(1, 1, initial=(1.0, 1.0), random_state=0, return_truth=True)
    made.series.loc[0, ["prey", "predator"]] = [1.0001, 0.5]  # beside the point of rest
    period = 2 * np.pi / np.sqrt(2 / 3)
    after = made.truth_at([period]).iloc[0]
    assert after["prey"] == pytest.approx(1.0001, abs=1e-7)  # the error is of second order in 1e-4
    assert after["predator"] == pytest.approx(0.5, abs=1e-7)
    assert made.truth_at([period / 2]).iloc[0]["prey"] == pytest.approx(0.9999, abs=1e-7)


def test_initial_states_fill_their_range():
    series = make_lotka_volterra(200, 1, initial=(1.0, 2.0), random_state=0, return_truth=True).series
    for name in ("prey", "predator"):
        assert set(((series[name] - 1.0) * 10).astype(int)) == set(range(10))
