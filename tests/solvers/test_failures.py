"""Series that cannot be solved: a status, a time, NaN beyond it, and a message that repairs; nothing hangs."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from solver_groups import (
    EXPLICIT_ADAPTIVE,
    PRECISE,
    PRECISE_AND_STIFF,
    STABLE,
    each_solver_and_each_gradient,
    steps_for,
    with_gradients,
)

from latentode import solve_ivp
from latentode.exceptions import SolverError
from latentode.gradients import GRADIENTS
from latentode.solvers import IMPLICIT_TABLEAUS, SOLVERS, PIController, Solution, Status

nan = math.nan
RAN_AWAY = {Status.STEP_UNDERFLOW, Status.NON_FINITE, Status.NEWTON_DIVERGED}
every_precise = pytest.mark.parametrize("solver", PRECISE_AND_STIFF)
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS)
ROUGHLY = {"euler": 0.05, "implicit_euler": 0.05, "fehlberg2": 0.01}  # relative errors of gradients
not_reversible = pytest.mark.parametrize(  # a flow that contracts strongly parts the y and z of its solvers
    "gradient", [name for name in GRADIENTS if name != "reversible"]
)


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def decay(t, y):
    return -y


@pytest.mark.parametrize(("solver", "gradient"), each_solver_and_each_gradient(STABLE))
def test_too_many_steps(solver, gradient):
    y0 = double([[1.0, 0.0], [0.0, 0.0]])
    t_eval = double([[0.0, 0.01, 50.0], [0.0, 0.1, 1e-3]])

    def turn(t, y):
        return 10 * torch.stack([-y[:, 1], y[:, 0]], dim=1)

    solution = solve_ivp(turn, y0, t_eval, solver=solver, gradient=gradient, max_steps=20, throw=False)
    assert solution.status.tolist() == [Status.MAX_STEPS, Status.SUCCESS]
    assert solution.stats["n_steps"][0] == 20
    reached = solution.t_reached[0].item()
    assert 0.01 < reached < 50
    angle = double([0.0, 0.1])
    torch.testing.assert_close(
        solution.y[0, :2], torch.stack([angle.cos(), angle.sin()], dim=1), rtol=1e-2, atol=1e-2
    )
    assert solution.y[0, 2].isnan().all()
    with pytest.raises(
        SolverError, match=rf"series 0 could not .* t={reached:.6g} \[MAX_STEPS\]: .*raise max_steps"
    ):
        solution.raise_for_status()


@pytest.mark.parametrize(
    ("solver", "dtype", "shift"),
    [*product(PRECISE, (torch.float32, torch.float64), (0.0, 4096.0)), ("kvaerno5", torch.float32, 4096.0)],
    ids=str,
)
def test_a_solution_that_runs_away_in_finite_time(solver, dtype, shift):
    """y' = y² from 1: y = 1 / (1 - t)."""
    t_eval = shift + double([0.0, 0.5, 0.9, 1.0, 2.0])
    solution = solve_ivp(
        lambda t, y: y**2,
        torch.ones(1, 1, dtype=dtype),
        t_eval,
        solver=solver,
        rtol=1e-4,
        atol=1e-4,
        throw=False,
    )
    assert Status(int(solution.status[0])) in RAN_AWAY
    assert solution.t_reached[0].item() == pytest.approx(1.0 + shift, abs=1e-3)
    torch.testing.assert_close(
        solution.y[0, :3, 0].double(), double([1.0, 2.0, 10.0]), rtol=5e-3, atol=0, check_dtype=False
    )  # up to 0.9 the flow stretches an error of 1e-4 a hundredfold
    assert solution.y[0, 4:].isnan().all()
    assert solution.stats["n_steps"][0] < 1000


@pytest.mark.parametrize("solver", EXPLICIT_ADAPTIVE)
def test_a_jump_that_no_step_can_cross(solver):
    """The field grows by thirty orders of magnitude at t = 0.3. (L-stable methods see a part to damp.)"""
    solution = solve_ivp(
        lambda t, y: torch.where(t[:, None] < 0.3, y, 1e30 * y),
        double([[1.0]]),
        [0.0, 0.2, 1.0],
        solver=solver,
        throw=False,
    )
    assert solution.status[0] != 0
    assert solution.t_reached[0].item() == pytest.approx(0.3, abs=1e-6)
    assert solution.y[0, :, 0].isnan().tolist() == [False, False, True]
    assert solution.stats["n_steps"][0] < 1000


@pytest.mark.parametrize("solver", EXPLICIT_ADAPTIVE)  # in the others Newton fails
def test_step_size_underflow_names_its_repair(solver):
    """An error that no step size brings below the tolerance: noise in the field, at a time far from zero."""
    calls = iter(range(100_000))

    def noisy(t, y):
        return torch.full_like(y, 1e6 * (-1.0) ** next(calls))

    solution = solve_ivp(
        noisy, double([[1.0]]), [1e9, 1e9 + 1], solver=solver, rtol=0.0, atol=1e-9, throw=False
    )
    assert solution.status.tolist() == [Status.STEP_UNDERFLOW]
    with pytest.raises(
        SolverError, match=r"\[STEP_UNDERFLOW\]: the step size fell below .*loosen rtol and atol"
    ):
        solution.raise_for_status()


@pytest.mark.parametrize(("solver", "gradient"), each_solver_and_each_gradient(SOLVERS))
def test_a_start_that_is_not_finite(solver, gradient):
    y0 = double([[1.0, 1.0], [1.0, nan], [math.inf, 1.0], [1.0, -math.inf], [2.0, 2.0]])
    options = steps_for(solver, 0.05)
    solution = solve_ivp(
        decay, y0, [0.0, 1.0], solver=solver, gradient=gradient, throw=False, rtol=1e-8, **options
    )
    assert solution.status.tolist() == [0, *[Status.NON_FINITE] * 3, 0]
    assert solution.t_reached.tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]
    assert solution.stats["n_steps"][1:4].tolist() == [0, 0, 0]
    assert solution.y[1:4, 1].isnan().all()
    torch.testing.assert_close(solution.y[[0, 4], 1], y0[[0, 4]] * math.exp(-1), rtol=0.1, atol=0)
    with pytest.raises(
        SolverError, match=r"series 1 .* t=0 \[NON_FINITE\]: .*check y0 and the field's values"
    ):
        solution.raise_for_status()


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_field_that_breaks_after_a_while(solver):
    def field(t, y):
        broken = torch.where(y > 0, nan, math.inf)
        return torch.where(t[:, None] > 0.55, broken, -y)

    options = steps_for(solver, 0.05)
    t_eval = double([[0.0, 0.4, 1.0], [-2.0, 0.4, 1.0]])
    solution = solve_ivp(field, double([[1.0], [-1.0]]), t_eval, solver=solver, throw=False, **options)
    assert solution.status.tolist() == [Status.NON_FINITE] * 2
    assert solution.t_reached.tolist() == pytest.approx([0.55] * 2, abs=0.06)
    assert solution.y[..., 0].isnan().tolist() == [[False, False, True]] * 2
    assert (solution.stats["n_steps"] < 1000).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_field_that_is_broken_from_the_start(solver):
    options = steps_for(solver, 0.05)
    solution = solve_ivp(
        lambda t, y: y / 0.0, double([[0.0], [1.0]]), [0.0, 1.0], solver=solver, throw=False, **options
    )
    assert solution.status.tolist() == [Status.NON_FINITE] * 2
    assert solution.y[:, 1].isnan().all()


@every_gradient
def test_a_failure_on_one_side_of_t0(gradient):
    """y' = y², y(0) = 1, runs away at t = 1; backwards it is tame."""
    y0 = torch.ones(2, 1, dtype=torch.float64)
    t_eval = double([[-1.0, 2.0, 0.5], [-1.0, 0.0, 0.5]])
    solution = solve_ivp(
        lambda t, y: y**2, y0, t_eval, t0=0.0, rtol=1e-8, atol=1e-8, gradient=gradient, throw=False
    )
    assert solution.status[0] != 0
    assert solution.status[1] == 0
    assert solution.t_reached.tolist() == pytest.approx([1.0, 0.5], abs=1e-4)
    torch.testing.assert_close(
        solution.y[..., 0], double([[0.5, nan, 2.0], [0.5, 1.0, 2.0]]), rtol=1e-6, atol=0, equal_nan=True
    )


@every_gradient
def test_gradients_of_what_was_reached_are_finite_and_right(gradient):
    """y(0.5) = y0 / (1 - 0.5 y0): derivative 1 / (1 - 0.5 y0)²; nothing comes from what was not reached."""
    y0 = double([[1.0], [0.5]]).requires_grad_()
    solution = solve_ivp(
        lambda t, y: y**2, y0, [0.0, 0.5, 1.5], rtol=1e-8, atol=1e-8, gradient=gradient, throw=False
    )
    assert solution.y[:, :, 0].isnan().tolist() == [[False, False, True], [False] * 3]
    assert solution.status.tolist() == [Status.STEP_UNDERFLOW, Status.SUCCESS]
    assert solution.stats["n_steps"][0] < 2000, "every step is accepted, but time stands still"
    solution.y[:, 1].sum().backward()
    torch.testing.assert_close(y0.grad, (1 - 0.5 * y0.detach()) ** -2, rtol=1e-6, atol=0)


KINDS = {"euler", "dopri5", "kvaerno5", "gl4", "reversible_heun", "implicit_adams"}  # of solvers, one each


def daily_or_slow(solver, gradient):
    daily = gradient == "discrete_adjoint" or solver in KINDS
    return pytest.param(solver, gradient, marks=() if daily else pytest.mark.slow)


@pytest.mark.parametrize(
    ("solver", "gradient"),
    [  # kvaerno3 is as kvaerno5, and dear
        daily_or_slow(*pair) for pair in with_gradients(name for name in SOLVERS if name != "kvaerno3")
    ],
)
def test_a_broken_series_leaves_no_nan_in_the_gradients_of_the_parameters(solver, gradient):
    """It starts broken (1), runs away (2) or has no slope (3)."""
    rate = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def field(t, y):
        return rate * torch.where(y < -1.0, torch.exp(y**2), 1.0) / (y + 0.75)

    y0 = double([[1.5], [nan], [-3.0], [-0.75]])
    options = steps_for(solver, 0.1)
    if solver in IMPLICIT_TABLEAUS:
        options["max_steps"] = 25  # enough for the first; that which runs away takes many, and dear ones
    solution = solve_ivp(
        field, y0, [0.0, 2.0], solver=solver, params=[rate], gradient=gradient, throw=False, **options
    )
    assert [status != 0 for status in solution.status.tolist()] == [False, True, True, True]
    (solution.y[0].sum() + solution.y[:, 0].nan_to_num().sum()).backward()
    expected = 2.0 / math.sqrt(2.25**2 + 2.0)  # (y + 0.75)² = 2.25² + 2 rate t
    assert rate.grad.item() == pytest.approx(expected, rel=ROUGHLY.get(solver, 1e-3))


@not_reversible
@every_precise
def test_a_rejected_step_leaves_no_nan_in_the_gradients(solver, gradient):
    """y' = -k y^1.5, y = (y0^-0.5 + k t / 2)^-2; the first step tries a negative y, where the field is NaN."""
    k = torch.tensor(20.0, dtype=torch.float64, requires_grad=True)
    y0 = double([[1.0], [1e-6]]).requires_grad_()
    tolerance = 1e-8 if solver in PRECISE else 1e-6 if gradient == "adjoint" else 1e-5
    solution = solve_ivp(
        lambda t, y: -k * y * torch.sqrt(y),
        y0,
        [0.0, 1.0],
        solver=solver,
        controller=PIController(tolerance, tolerance, 5, initial_step=1.0),
        params=[k],
        gradient=gradient,
    )
    n_rejected = solution.stats["n_steps"] - solution.stats["n_accepted"]
    assert (n_rejected > 0).tolist() == [True, False]
    truth = (y0**-0.5 + k / 2) ** -2
    for ours, expected in zip(*(torch.autograd.grad(y.sum(), [k, y0]) for y in (solution.y[:, 1], truth))):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def solution_with(status):
    status = torch.tensor(status)
    n = len(status)
    return Solution(
        torch.zeros(n, 1), torch.zeros(n, 1, 1), status, torch.full((n,), 0.25), {"n_steps": torch.ones(n)}
    )


def test_the_message_names_series_time_status_and_repair():
    for status in (Status.MAX_STEPS, Status.STEP_UNDERFLOW, Status.NON_FINITE, Status.NEWTON_DIVERGED):
        with pytest.raises(SolverError) as caught:
            solution_with([0, status]).raise_for_status()
        assert str(caught.value) == (
            f"series 1 could not be solved beyond t=0.25 [{status.name}]: {status.message}"
        )
        assert ": " in status.message, "what happened: what to do"


def test_the_message_uses_the_callers_names_and_counts_the_others():
    failed = solution_with([0, 1, 0, 3])
    with pytest.raises(SolverError, match=r"series 'p17' \(and 1 more series\) could not"):
        failed.raise_for_status(names=["p16", "p17", "p18", "p19"])
    assert not failed.success
    fine = solution_with([0, 0])
    assert fine.success
    assert fine.raise_for_status() is fine


def test_throwing_is_the_default():
    with pytest.raises(SolverError, match=r"series 0 \(and 1 more series\).*MAX_STEPS"):
        solve_ivp(decay, double([[1.0], [2.0]]), [0.0, 1.0], max_steps=1)
