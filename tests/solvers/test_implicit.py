"""Implicit methods where they are needed: stiff problems, Newton's iteration, its failures, exact gradients."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from problems import InitialValueProblem
from scipy.integrate import solve_ivp as scipy_solve_ivp
from solver_groups import with_gradients
from tolerances import ERROR_PER_TOLERANCE, ROUNDING, SLOPE
from torch.autograd import gradcheck, gradgradcheck

from latentode import solve_ivp
from latentode.exceptions import SolverError
from latentode.solvers import IMPLICIT_TABLEAUS, SOLVERS, Status
from latentode.solvers.newton import jacobian

ESDIRK = [name for name in IMPLICIT_TABLEAUS if SOLVERS[name].error_order is not None]
every_implicit = pytest.mark.parametrize("solver", IMPLICIT_TABLEAUS)
every_esdirk = pytest.mark.parametrize("solver", ESDIRK)


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def van_der_pol(t, y):
    return torch.stack([y[:, 1], 1000.0 * (1 - y[:, 0] ** 2) * y[:, 1] - y[:, 0]], dim=1)


def robertson(t, y):
    a, b, c = y.unbind(dim=1)
    made, used = 1e4 * b * c - 0.04 * a, 3e7 * b**2
    return torch.stack([made, -made - used, used], dim=1)


# eigenvalues -0.5 ± 2i and -1000, mixed by a rotation
_MIX = torch.linalg.qr(double([[1.0, 2.0, 0.5], [0.3, -1.0, 1.0], [2.0, 0.2, 1.0]]))[0]
_MATRIX = _MIX @ double([[-0.5, -2.0, 0.0], [2.0, -0.5, 0.0], [0.0, 0.0, -1000.0]]) @ _MIX.T


def stiff_linear(t, y):
    return y @ _MATRIX.T


# absolute over relative tolerance: Robertson's second component is of size 1e-5
ATOL_PER_RTOL = {"Robertson": 1e-5}
LEVELS = {"kvaerno3": (1e-4, 1e-5), "kvaerno5": (1e-4, 1e-6)}
STIFF = (
    # until after the first jump, at 807
    InitialValueProblem("Van der Pol 1000", van_der_pol, ((2.0, 0.0),), 0.0, 900.0),
    InitialValueProblem("Robertson", robertson, ((1.0, 0.0, 0.0), (0.5, 1e-5, 0.5)), 0.0, 1e5),
    InitialValueProblem("stiff linear", stiff_linear, ((1.0, -1.0, 2.0), (0.0, 1.0, 0.0)), 0.0, 5.0),
)


@cache
def truth(problem: InitialValueProblem) -> tuple[torch.Tensor, torch.Tensor]:
    """Times (T,), and the solution (N, T, D) by SciPy's Radau, its error far below that of the one under test."""

    def one(time, y):
        return problem.field(double([time]), torch.from_numpy(y)[None])[0].numpy()

    times = torch.linspace(problem.t0, problem.t1, 12, dtype=torch.float64)
    atol = 1e-10 * ATOL_PER_RTOL.get(problem.name, 1.0)
    span, options = (problem.t0, problem.t1), {"rtol": 1e-10, "atol": atol, "t_eval": times.numpy()}
    solved = [scipy_solve_ivp(one, span, y, "Radau", **options).y.T for y in problem.state().numpy()]
    return times, torch.from_numpy(np.stack(solved))


@pytest.mark.parametrize(
    ("solver", "problem", "level"),  # each pair of two of them
    [
        *(("kvaerno3", problem, level) for problem, level in zip(STIFF, (0, 1, 0))),
        *(("kvaerno5", problem, level) for problem, level in zip(STIFF, (1, 0, 1))),
    ],
    ids=lambda x: getattr(x, "name", {0: "loose", 1: "tight"}.get(x, x)),
)
def test_stiff_solutions_are_within_ten_tolerances_of_the_truth(solver, problem, level):
    """In the norm of the tolerance; these flows damp disturbances, so no growth excuses an error."""
    tolerance, unit = LEVELS[solver][level], ATOL_PER_RTOL.get(problem.name, 1.0)
    times, exact = truth(problem)
    options = {"rtol": tolerance, "atol": tolerance * unit}
    solution = solve_ivp(problem.field, problem.state(), times, solver=solver, **options)
    scale = unit + exact.abs().amax(dim=1, keepdim=True)
    error = ((solution.y - exact) / scale).square().mean(dim=2).sqrt().amax(dim=1)
    assert float(error.max()) <= ERROR_PER_TOLERANCE * tolerance
    assert int(solution.stats["n_steps"].max()) < 2000, "an explicit method takes more than a million"


def rate_and_way(t, y):
    """Prothero-Robinson: y' = -rate (y - cos t) - sin t, the rate in the first component; y(t) = cos t."""
    rate = y[:, :1]
    return torch.cat([0 * rate, -rate * (y[:, 1:] - torch.cos(t)[:, None]) - torch.sin(t)[:, None]], dim=1)


def prothero_robinson_error(solver: str, rate: float, n_steps: int) -> float:
    ends = torch.linspace(0.0, 2.0, 11, dtype=torch.float64)
    y = solve_ivp(rate_and_way, double([[rate, 1.0]]), ends, solver=solver, step_size=2.0 / n_steps).y
    return float((y[0, :, 1] - torch.cos(ends)).norm())


def slope_of(errors: list[float], counts: list[int]) -> float:
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@every_implicit
def test_slope_of_the_error_is_the_order_on_a_stiff_linear_system(solver):
    """From the slow plane, where the fast part (-1000, hλ of -50 and more) must not disturb."""
    y0 = (_MIX @ double([1.0, 0.0, 0.0]))[None]
    ends = torch.linspace(0.0, 2.0, 11, dtype=torch.float64)
    counts = [10, 20, 40] if SOLVERS[solver].order > 2 else [40, 80, 160]
    if SOLVERS[solver].order == 1:
        counts = [80, 160, 320]
    exact = torch.stack([torch.matrix_exp(_MATRIX * t) @ y0[0] for t in ends])
    errors = [
        float((solve_ivp(stiff_linear, y0, ends, solver=solver, step_size=2.0 / n).y[0] - exact).norm())
        for n in counts
    ]
    assert slope_of(errors, counts) == pytest.approx(SOLVERS[solver].order, abs=SLOPE)


# Stiffness to the limit on y' = -rate (y - φ(t)) + φ'(t): theory gives the stage order q, not the order (Hairer,
# Wanner, IV.15): stiffly accurate methods h^q / rate, Gauss methods h^s for even s and h^(s + 1) for odd s.
REDUCED = {
    "implicit_euler": 1,
    "implicit_midpoint": 2,
    "trapezoid": 2,
    "sdirk2": 1,
    "trbdf2": 2,
    "radauIIA3": 2,
    "radauIIA5": 3,
    "gl4": 2,
    "gl6": 4,
    "kvaerno3": 2,
    "kvaerno5": 2,
}


@every_implicit
def test_order_in_the_stiff_limit_is_what_theory_leaves_of_it(solver):
    counts = [10, 20, 40]
    errors = [prothero_robinson_error(solver, 1e6, n) for n in counts]
    assert slope_of(errors, counts) == pytest.approx(REDUCED[solver], abs=0.35)
    assert errors[-1] < 1e-3


@pytest.mark.parametrize("solver", ["implicit_euler", "sdirk2", "radauIIA3", "radauIIA5"])
def test_a_transient_that_no_step_resolves_leaves_no_overshoot_inside_the_step(solver):
    times = torch.linspace(0.0, 1.0, 41, dtype=torch.float64)
    y = solve_ivp(lambda t, y: -1e6 * y, double([[1.0]]), times, solver=solver, step_size=0.1).y
    assert float(y.abs().max()) <= 1.5
    assert float(y[0, 12:].abs().max()) < 1e-4


@pytest.mark.parametrize(("solver", "gradient"), with_gradients(ESDIRK))
def test_a_stiff_neighbour_changes_nothing(solver, gradient):
    """Neither steps, nor values, nor gradients; and it costs them nothing."""

    def solve(rates):
        y0 = torch.stack([double(rates), torch.ones(len(rates), dtype=torch.float64)], dim=1).requires_grad_()
        solution = solve_ivp(rate_and_way, y0, [0.0, 0.7, 2.0], solver=solver, gradient=gradient)
        solution.y[:2].square().sum().backward()
        return solution, y0.grad

    calm, of_calm = solve([1.0, 3.0, 2.0])
    mixed, of_mixed = solve([1.0, 3.0, 1e7])
    for name in calm.stats:
        assert torch.equal(calm.stats[name][:2], mixed.stats[name][:2]), name
    torch.testing.assert_close(calm.y[:2], mixed.y[:2], rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(of_calm[:2], of_mixed[:2], rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(mixed.y[:, 1:, 1], torch.cos(double([[0.7, 2.0]] * 3)), rtol=0.05, atol=0)
    assert int(mixed.stats["n_steps"][2]) < 100


def test_the_jacobian_is_that_of_every_row():
    t, y = double([0.3, -1.0]), double([[1.0, 2.0], [-0.5, 0.7]])

    def field(t, y):
        return torch.stack([y[:, 0] * y[:, 1] * t, torch.sin(y[:, 0])], dim=1)

    slope, found = jacobian(field, t, y)
    expected = torch.stack(
        [double([[b * s, a * s], [np.cos(a), 0.0]]) for s, (a, b) in zip(t.tolist(), y.tolist())]
    )
    torch.testing.assert_close(found, expected, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(slope, field(t, y))
    assert not jacobian(lambda t, y: torch.ones_like(y), t, y)[1].any()
    assert not jacobian(lambda t, y: (0 * t[:, None] + y).detach(), t, y)[1].any()


def kink(t, y):
    """Its root of y1 = 1 + h f(y1) is unreachable for h = 1: there is none."""
    return 1.0 + y**2


def test_newton_that_does_not_converge_is_a_status_with_its_repair():
    solution = solve_ivp(
        kink, double([[1.0], [-1e3]]), [0.0, 1.0], solver="implicit_euler", step_size=1.0, throw=False
    )
    assert solution.status[0] == Status.NEWTON_DIVERGED
    assert solution.y[0, 1].isnan().all()
    assert solution.t_reached[0] == 0.0
    with pytest.raises(SolverError, match=r"\[NEWTON_DIVERGED\]: .* Newton's iteration: lower step_size"):
        solution.raise_for_status()


@every_esdirk
def test_adaptive_methods_shrink_a_step_that_newton_cannot_solve(solver):
    """y' = 1 + y² from 0: y = tan t, and the first step asked for is far too long."""
    from latentode.solvers import PIController

    controller = PIController(1e-6, 1e-6, SOLVERS[solver].error_order + 1, initial_step=1.4)
    solution = solve_ivp(kink, double([[0.0]]), [0.0, 1.4], solver=solver, controller=controller)
    assert solution.stats["n_steps"] > solution.stats["n_accepted"]
    assert solution.y[0, 1, 0].item() == pytest.approx(np.tan(1.4), rel=1e-4)


@pytest.mark.parametrize("gradient", ["backprop", "discrete_adjoint"])
@pytest.mark.parametrize("solver", ["implicit_euler", "radauIIA5", "kvaerno5"])
def test_gradients_through_stiff_steps(solver, gradient):
    """A nonlinear stiff field, with the rate as parameter."""

    def answers(y0, t0, t_eval, rate):
        def field(t, y):
            return -1e4 * (y - torch.cos(rate * t)[:, None]) * (1 + y**2)

        options = {"params": [rate], "solver": solver, "gradient": gradient, "step_size": 0.19}
        return solve_ivp(field, y0, t_eval, t0=t0, **options).y

    inputs = (double([[1.0001], [0.992]]), double([0.0, 0.1]), double([[0.3, 0.5], [0.4, 0.55]]), double(1.3))
    assert gradcheck(answers, [x.requires_grad_() for x in inputs], rtol=1e-3, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("solver", ["trapezoid", "gl4"])
def test_second_derivatives_through_backprop(solver):
    def answers(y0, rate):
        options = {"gradient": "backprop", "solver": solver, "step_size": 0.25}
        return solve_ivp(lambda t, y: -rate * torch.sin(y) + y**2, y0, [0.0, 0.4], **options).y

    assert gradgradcheck(answers, (double([[0.5, -0.2]]).requires_grad_(), double(1.3).requires_grad_()))


def test_the_implicit_ones_agree_in_the_limit():
    """Every adaptive one at a tight tolerance, in a problem that is not stiff."""
    times = torch.linspace(0.0, 3.0, 5, dtype=torch.float64)

    def pendulum(t, y):
        return torch.stack([y[:, 1], -torch.sin(y[:, 0])], dim=1)

    y0 = double([[1.0, 0.0]])
    explicit = solve_ivp(pendulum, y0, times, rtol=1e-11, atol=1e-11).y
    implicit = solve_ivp(pendulum, y0, times, solver="kvaerno5", rtol=1e-9, atol=1e-9).y
    torch.testing.assert_close(implicit, explicit, rtol=1e-7, atol=1e-7)
