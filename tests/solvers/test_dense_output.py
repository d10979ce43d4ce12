"""Answers at any query times, of any shape and type, on both sides of t0."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from problems import SPIRAL
from solver_groups import PRECISE, PRECISE_AND_STIFF, each_solver_and_each_gradient
from tolerances import ROUNDING, ROUNDING_SINGLE, TIGHT

from latentode import solve_ivp
from latentode.gradients import GRADIENTS

nan = math.nan
TIGHTLY = {"rtol": 1e-11, "atol": 1e-11}

every_gradient = pytest.mark.parametrize("gradient", GRADIENTS)


def double(x):
    return torch.tensor(x, dtype=torch.float64)


spiral = SPIRAL.field


def spiral_truth(y0, elapsed):
    """y0 (N, 2), elapsed (N, T) -> (N, T, 2)."""
    rows = zip(y0, elapsed.expand(len(y0), -1))
    return torch.cat([SPIRAL.closed_form(t, y[None]) for y, t in rows])


Y0 = double([[1.0, 0.0], [0.5, -2.0], [-1.0, 1.0]])


QUERY_TIMES = {
    "after": [[0.5, 1.0, 4.0], [0.6, 2.0, 2.5], [0.7, 0.8, 9.0]],
    "before": [[-0.5, -1.0, -4.0], [-0.6, -2.0, -2.5], [-0.7, -0.8, -6.0]],
    "both": [[-1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [-3.0, -2.0, -1.0]],
    "unsorted": [[3.0, -1.0, 0.2], [0.5, 0.1, 7.0], [-3.0, -0.1, -9.0]],
    "repeated": [[1.0, 1.0, 1.0], [0.3, 0.3, 2.0], [2.0, 0.3, 2.0]],
    "ragged": [[0.3, nan, nan], [nan, 2.0, nan], [-1.0, nan, 1.0]],
    "unasked": [[nan, nan, nan], [1.0, 2.0, 3.0], [nan, nan, 0.3]],
    "at t0": [[0.3, 0.3, 0.3], [0.3, -1.0, 1.0], [2.0, 0.3, nan]],
    "near t0": [[0.3000001, 0.3000002, 0.2999999], [1e-9, 0.0, 9.0], [0.3, 0.3 + 1e-12, 0.3 - 1e-12]],
}


def check_answers(t_eval, solver, gradient):
    t_eval = double(t_eval)
    y0 = Y0.repeat(len(t_eval) // len(Y0), 1)
    asked, tolerance = (TIGHTLY, TIGHT) if solver in PRECISE else ({"rtol": 1e-7, "atol": 1e-7}, 1e-5)
    solution = solve_ivp(spiral, y0, t_eval, t0=0.3, solver=solver, gradient=gradient, **asked)
    expected = spiral_truth(y0, t_eval - 0.3)
    assert torch.equal(solution.y.isnan(), t_eval.isnan()[..., None].expand(-1, -1, 2))
    torch.testing.assert_close(solution.y, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    torch.testing.assert_close(solution.t, t_eval, rtol=0, atol=0, equal_nan=True)
    at_start = t_eval == 0.3
    assert torch.equal(solution.y[at_start], y0[:, None].expand(-1, 3, -1)[at_start])


@pytest.mark.parametrize("where", QUERY_TIMES)
def test_query_times_in_every_order_on_both_sides(where):
    check_answers(QUERY_TIMES[where], "dopri5", "discrete_adjoint")


@pytest.mark.parametrize(("solver", "gradient"), each_solver_and_each_gradient(PRECISE_AND_STIFF))
def test_query_times_of_all_kinds_in_one_batch(solver, gradient):
    check_answers([row for rows in QUERY_TIMES.values() for row in rows], solver, gradient)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_query_times_on_one_side_alone(gradient):
    """What a batch with both sides never asks for: a solve in one direction only."""
    for where in ("after", "before"):
        check_answers(QUERY_TIMES[where], "tsit5", gradient)


@every_gradient
def test_each_series_may_start_at_its_own_time(gradient):
    t0 = double([-1.0, 0.0, 5.0])
    t_eval = double([0.0, 1.0, 2.0])
    solution = solve_ivp(spiral, Y0, t_eval, t0=t0, gradient=gradient, **TIGHTLY)
    torch.testing.assert_close(solution.y, spiral_truth(Y0, t_eval - t0[:, None]), rtol=TIGHT, atol=TIGHT)


def test_time_starts_at_the_first_query_time_unless_told():
    t_eval = double([[1.0, 2.0], [3.0, 0.0], [0.0, 0.0]])
    solution = solve_ivp(spiral, Y0, t_eval, **TIGHTLY)
    torch.testing.assert_close(solution.y, spiral_truth(Y0, t_eval - t_eval[:, :1]), rtol=TIGHT, atol=TIGHT)
    assert torch.equal(solution.y[:, 0], Y0)


@pytest.mark.parametrize("t_eval", [[], [0.5], [[], [], []], [[0.5], [nan], [0.2]]], ids=str)
def test_none_or_one_query_time(t_eval):
    solution = solve_ivp(spiral, Y0, double(t_eval).reshape(-1) if t_eval == [] else double(t_eval), t0=0.2)
    n_times = double(t_eval).shape[-1]
    assert solution.y.shape == (3, n_times, 2)
    assert solution.success
    if n_times == 0:
        assert solution.stats["n_evals"].tolist() == [0, 0, 0]


@every_gradient
@pytest.mark.parametrize("n_times", [0, 4])
def test_no_series(n_times, gradient):
    y0 = torch.empty(0, 2, dtype=torch.float64, requires_grad=True)
    solution = solve_ivp(spiral, y0, torch.empty(0, n_times), t0=0.0, gradient=gradient)
    assert solution.y.shape == (0, n_times, 2)
    assert solution.success
    assert solution.raise_for_status() is solution


@every_gradient
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (1, 2, 2)], ids=str)
def test_states_of_any_shape_and_precision(shape, dtype, gradient):
    y0 = torch.linspace(1, 2, 4 * math.prod(shape), dtype=dtype).reshape(4, *shape)
    rate = torch.linspace(-1, 1, 4, dtype=dtype).reshape(4, *[1] * len(shape))
    t_eval = torch.tensor([0.0, 0.5, 2.0])
    seen = set()

    def field(t, y):
        seen.add((t.dtype, y.dtype, t.shape == y.shape[:1], y.shape[1:]))
        return -y * (1 + 0 * t).reshape(-1, *[1] * len(shape))

    solution = solve_ivp(field, y0 * rate, t_eval, rtol=1e-6, atol=1e-6, gradient=gradient)
    expected = (y0 * rate)[:, None] * torch.exp(-t_eval).to(dtype).reshape(3, *[1] * len(shape))
    assert solution.y.dtype == dtype
    assert solution.y.shape == (4, 3, *shape)
    assert seen == {(dtype, dtype, True, shape)}
    torch.testing.assert_close(solution.y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "t_eval",
    [
        torch.arange(4),
        torch.arange(4, dtype=torch.float32),
        np.arange(4),
        [0, 1, 2, 3],
        (0.0, 1.0, 2.0, 3.0),
        range(4),
    ],
    ids=lambda t: f"{type(t).__name__} {getattr(t, 'dtype', '')}",
)
@pytest.mark.parametrize(
    "t0", [None, 0, 0.0, np.float32(0), torch.tensor(0), torch.zeros(3, dtype=torch.int64)]
)
def test_times_of_any_type_are_kept_in_float64(t_eval, t0):
    solution = solve_ivp(spiral, Y0, t_eval, t0=t0)
    assert solution.t.dtype == torch.float64
    assert torch.equal(solution.y, solve_ivp(spiral, Y0, torch.arange(4, dtype=torch.float64)).y)


def test_numbers_in_lists_keep_all_their_digits():
    solution = solve_ivp(spiral, Y0, [0.1, 1e9 + 0.25], t0=1e9 + 0.125, max_steps=1, throw=False)
    assert solution.t[0].tolist() == [0.1, 1e9 + 0.25]
    assert solve_ivp(spiral, Y0, [], t0=1e9 + 0.125).t_reached.tolist() == [1e9 + 0.125] * 3


@every_gradient
@pytest.mark.parametrize("shift", [4096.0, 2.0**30])  # the second is past 1e9: seconds since 1970
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_clock_far_from_zero_changes_nothing(shift, dtype, gradient):
    """Query times are multiples of 1/64, so that they are exact after the shift too."""
    t_eval = torch.arange(1, 200, dtype=torch.float64) / 64
    y0 = Y0.to(dtype)
    near = solve_ivp(spiral, y0, t_eval, t0=0.0, gradient=gradient)
    far = solve_ivp(spiral, y0, t_eval + shift, t0=shift, gradient=gradient)
    tolerance = ROUNDING if dtype == torch.float64 else ROUNDING_SINGLE
    torch.testing.assert_close(far.y, near.y, rtol=tolerance, atol=tolerance)
    assert {k: v.tolist() for k, v in far.stats.items()} == {k: v.tolist() for k, v in near.stats.items()}


def test_more_query_times_cost_no_steps():
    few = solve_ivp(spiral, Y0, torch.linspace(0, 10, 2))
    many = solve_ivp(spiral, Y0, torch.linspace(0, 10, 2000))
    assert torch.equal(few.stats["n_evals"], many.stats["n_evals"])
    torch.testing.assert_close(few.y[:, -1], many.y[:, -1], rtol=ROUNDING, atol=ROUNDING)


def test_fixed_steps_are_cut_at_the_last_query_time_only():
    seen = []

    def field(t, y):
        seen.append(t[0].item())
        return torch.ones_like(y)

    solution = solve_ivp(field, Y0[:1], [0.0, 0.3, 1.05], solver="euler", step_size=0.5)
    assert solution.stats["n_steps"].tolist() == [3]
    assert seen == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.05])  # a probe, then the ends of the steps
    torch.testing.assert_close(solution.y[0, :, 0], double([1.0, 1.3, 2.05]))
