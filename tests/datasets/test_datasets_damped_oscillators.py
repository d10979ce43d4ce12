"""Oscillators against the matrix exponential."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm

from latentode.datasets import make_damped_oscillators
from latentode.datasets.damped_oscillators import oscillation

EXACT = 1e-12  # closed forms in float64


@pytest.mark.parametrize("damping", [0.0, 0.2, 1.5])
def test_truth_is_the_matrix_exponential(damping):
    made = make_damped_oscillators(5, 3, damping=damping, random_state=0, return_truth=True)
    for n, series in made.series.iterrows():
        A = np.array([[0.0, 1.0], [-series["stiffness"], -damping]])
        for time in (-1.0, 0.0, 0.7, 8.0):
            found = made.truth_at([time]).loc[n, ["x", "v"]]
            expected = expm(A * time) @ series[["x", "v"]].to_numpy()
            np.testing.assert_allclose(found.to_numpy(dtype=float), expected, rtol=0, atol=EXACT)


def test_one_observation_and_the_stiffness_determine_the_future():
    made = make_damped_oscillators(20, 2, noise=0.0, random_state=1, return_truth=True)
    first, second = made.data.groupby("id").nth(0), made.data.groupby("id").nth(1)
    gap = second["time"].to_numpy() - first["time"].to_numpy()
    x, v = oscillation(gap, first["x"], first["v"], first["stiffness"], made.damping)
    np.testing.assert_allclose(np.stack([x, v], axis=1), second[["x", "v"]], rtol=0, atol=EXACT)


def test_stiffness_is_constant_within_and_spread_between_series():
    data = make_damped_oscillators(200, 5, stiffness=(2.0, 3.0), random_state=0)
    assert (data.groupby("id")["stiffness"].nunique() == 1).all()
    stiffness = data.groupby("id")["stiffness"].first()
    # 200 uniform draws miss a given tenth of the range with probability 7e-10
    assert set(((stiffness - 2.0) * 10).astype(int)) == set(range(10))
