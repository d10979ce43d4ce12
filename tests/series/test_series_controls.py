"""Control paths against NumPy's interpolation, knot by knot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentode.series import ControlPaths

LENGTHS = [4, 1, 7]
EXACT = 1e-12  # both interpolate in double


def paths(
    interpolation: str = "linear", unit: float = 1.0
) -> tuple[ControlPaths, list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    knots = [unit * (np.cumsum(rng.uniform(0.1, 2.0, n)) + rng.normal()) for n in LENGTHS]
    values = [rng.normal(size=(n, 2)) for n in LENGTHS]
    made = ControlPaths.of(
        torch.as_tensor(np.concatenate(knots)),
        torch.as_tensor(np.concatenate(values)),
        torch.as_tensor(np.cumsum([0, *LENGTHS])),
        interpolation,
    )
    return made, knots, values


def step(at: np.ndarray, knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    return values[np.maximum(np.searchsorted(knots, at, side="right") - 1, 0)]


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
@pytest.mark.parametrize("interpolation", ["linear", "step"])
def test_a_path_is_the_interpolant_of_its_own_knots_and_constant_beyond_them(interpolation, unit):
    made, knots, values = paths(interpolation, unit)
    rng = np.random.default_rng(1)
    for series in range(3):
        at = np.concatenate(
            [unit * rng.uniform(-5, 15, 200), knots[series]]
        )  # beyond, between and at the knots
        found = made.at(torch.full((len(at),), series), torch.as_tensor(at)).numpy()
        for control in range(2):
            column = values[series][:, control]
            expected = (
                np.interp(at, knots[series], column)
                if interpolation == "linear"
                else step(at, knots[series], column)
            )
            np.testing.assert_allclose(found[:, control], expected, rtol=0, atol=EXACT)


def test_taken_series_keep_their_paths_and_may_share_one():
    made, _, _ = paths()
    at = torch.tensor([0.3, 1.2, 4.0], dtype=torch.float64)
    taken = made.take(torch.tensor([2, 2, 0])).take(torch.tensor([1, 2, 0]))
    expected = made.at(torch.tensor([2, 0, 2]), at)
    assert torch.equal(taken.at(torch.arange(3), at), expected)
    assert len(taken) == 3


@pytest.mark.parametrize("interpolation", ["linear", "step"])
def test_rescaling_times_and_values_is_rescaling_the_path(interpolation):
    made, _, _ = paths(interpolation)
    series = torch.tensor([0, 1, 2, 0])
    at = torch.tensor([0.1, 2.0, 3.0, 100.0], dtype=torch.float64)
    scaled = made.take(torch.tensor([0, 1, 2])).rescaled(4 * made.knots + 8, 2 * made.values - 1)
    torch.testing.assert_close(scaled.at(series, 4 * at + 8), 2 * made.at(series, at) - 1)


def test_between_gives_the_knots_that_a_stretch_of_time_needs():
    made, knots, values = paths()
    begin = torch.tensor([knots[0][1] + 0.01, -50.0, knots[2][0]], dtype=torch.float64)
    end = torch.tensor([knots[0][1] + 0.02, 50.0, knots[2][2]], dtype=torch.float64)
    found, controls = made.between(begin, end)
    np.testing.assert_array_equal(found[0, :2], knots[0][1:3])
    np.testing.assert_array_equal(found[1], np.repeat(knots[1], found.shape[1]))
    np.testing.assert_array_equal(found[2, :4], knots[2][:4])
    np.testing.assert_array_equal(controls[2, :4], values[2][:4])
    assert (found[0, 2:] == knots[0][2]).all()


def test_a_path_without_a_knot_and_an_unknown_interpolation_are_refused():
    knots, values = torch.zeros(1, dtype=torch.float64), torch.zeros(1, 1)
    with pytest.raises(ValueError, match="every series needs at least one knot"):
        ControlPaths.of(knots, values, torch.tensor([0, 0, 1]))
    with pytest.raises(ValueError, match=r"interpolation must be one of \('linear', 'step'\); got 'cubic'"):
        ControlPaths.of(knots, values, torch.tensor([0, 1]), "cubic")


@pytest.mark.parametrize("interpolation", ["linear", "step"])
def test_controls_that_never_change_stop_no_step(interpolation):
    offsets = torch.tensor([0, 3, 4])
    knots = torch.tensor([0.0, 1.0, 2.0, 0.0], dtype=torch.float64)
    flat = ControlPaths.of(knots, torch.full((4, 2), 7.0), offsets, interpolation)
    which, at = torch.tensor([0, 1, 0]), torch.tensor([0.5, 0.0, 9.0], dtype=torch.float64)
    for direction in (1.0, -1.0):
        distance = flat.to_next_turn(which, at, torch.full((3,), direction, dtype=torch.float64))
        assert (distance == torch.inf).all()


@pytest.mark.parametrize("interpolation", ["linear", "step"])
def test_the_way_to_the_next_turn_from_outside_of_a_path(interpolation):
    """From beyond its ends too, so that a solve that comes from there is not held to the width of a pulse."""
    pulse = torch.tensor([0.0, 1.0, 0.0]).repeat(2)[:, None]
    begins = torch.tensor([2.0, 50.0], dtype=torch.float64)
    knots = (begins[:, None] + torch.tensor([0.0, 0.25, 0.5], dtype=torch.float64)).flatten()
    paths = ControlPaths.of(knots, pulse, torch.tensor([0, 3, 6]), interpolation)
    first = 0.0 if interpolation == "linear" else 0.25  # a path of steps begins to change at its second knot
    series = torch.tensor([0, 0, 1, 1])
    times = torch.tensor([-7.0, 1.0, 55.0, 51.0], dtype=torch.float64)
    direction = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    expected = torch.tensor([9.0 + first, 1.0 + first, 4.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(paths.to_next_turn(series, times, direction), expected, rtol=0, atol=1e-3)
