"""Order of convergence of every method, and adaptive methods against the truth."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import pytest
import torch
from problems import (
    SPIRAL,
    VAN_DER_POL,
    WHEEL,
    WITH_CLOSED_FORM,
    WITH_SCIPY,
    InitialValueProblem,
    stiff_wheel,
)
from solver_groups import PRECISE, STABLE
from tolerances import ERROR_PER_TOLERANCE, SCIPY, SLOPE, TIGHT
from torch import Tensor

from latentode import solve_ivp
from latentode.solvers import IMPLICIT_TABLEAUS, SOLVERS

# Most steps: asymptotic, and far above rounding. By name, or by order.
FINEST = {"implicit_euler": 320, "explicit_adams": 640, "implicit_adams": 1280}
FINEST |= dict.fromkeys(["implicit_midpoint", "trapezoid", "sdirk2", "trbdf2", "kvaerno3"], 160)
FINEST |= dict.fromkeys(["radauIIA3", "radauIIA5", "gl4", "gl6", "kvaerno5"], 80)
FINEST_BY_ORDER = {1: 640, 3: 160, 4: 160, 8: 40}  # 320 else

# -hλ of the fast part at the coarsest step: near the end of the interval of stability.
NEARLY_UNSTABLE = {"dopri5": 2.8, "tsit5": 2.8, "dopri8": 4.0, "explicit_adams": 0.25, "implicit_adams": 0.9}
NEARLY_UNSTABLE_BY_ORDER = {1: 1.8, 2: 1.8, 3: 2.2, 4: 2.4}

# Tolerances that a method reaches in some hundred steps; implicit steps cost some ten explicit ones.
REACHABLE = {"kvaerno3": (1e-3, 1e-4), "kvaerno5": (1e-3, 1e-5)}
REACHABLE_BY_ORDER = {2: (1e-2, 1e-4), 3: (1e-3, 1e-5)}  # (1e-4, 1e-7) else

# The estimate of fehlberg2 is that of a solution that it does not carry on, with a constant of 1/512: it has to be
# asked for less, as its tableau says.
STRICTER = {"fehlberg2": 512}


def errors(problem: InitialValueProblem, solver: str, counts: Iterable[int]) -> list[float]:
    """At the ends of steps only, and at several of them: the error at one may change its sign with the step.

    All step counts in one solve, with steps of 1 in the time s = n (t - t0) / span of each series; span / n stands
    beside its state.
    """
    y0, span, tenths = problem.state(), problem.t1 - problem.t0, torch.arange(11, dtype=torch.float64) / 10
    numbers = torch.tensor([float(n) for n in counts], dtype=torch.float64).repeat_interleave(len(y0))
    rates = (span / numbers)[:, None]

    def field(s: Tensor, state: Tensor) -> Tensor:
        y, rate = state[:, :-1], state[:, -1:]
        slope = rate * problem.field(problem.t0 + rate[:, 0] * s, y)
        return torch.cat([slope, torch.zeros_like(rate)], dim=1)

    state = torch.cat([y0.repeat(len(counts), 1), rates], dim=1)
    options = {"solver": solver, "step_size": 1.0, "max_steps": 10_000, "throw": False}
    found = solve_ivp(field, state, numbers[:, None] * tenths, **options)
    solved = found.status == 0
    assert torch.equal(found.stats["n_steps"][solved].double(), numbers[solved])
    truth = problem.truth(problem.t0 + span * tenths).repeat(len(counts), 1, 1)
    return [float(part.norm()) for part in (found.y[..., :-1] - truth).split(len(y0))]


def step_counts(solver: str) -> np.ndarray:
    finest = FINEST.get(solver) or FINEST_BY_ORDER.get(SOLVERS[solver].order, 320)
    return np.array([finest // 4, finest // 2, finest])


def slope_of(errors: list[float], counts: np.ndarray) -> float:
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.parametrize("problem", [SPIRAL, WHEEL], ids=lambda p: p.name)
@pytest.mark.parametrize("solver", SOLVERS)
def test_slope_of_the_error_is_the_order(problem, solver):
    order = SOLVERS[solver].order
    counts = step_counts(solver)
    slope = slope_of(errors(problem, solver, counts), counts)
    if (solver, problem) == ("dopri8", SPIRAL):
        assert order < slope < order + 1, (
            "linear: above rounding the tiny term of order 9 is not yet the largest"
        )
    else:
        assert slope == pytest.approx(order, abs=SLOPE)


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name not in IMPLICIT_TABLEAUS])
def test_slope_of_the_error_is_the_order_where_stability_bounds_the_step(solver):
    """As stiff as an explicit method bears; what implicit ones bear is tested where they are.

    Reversible Heun is stable for undamped oscillations only, up to hω = 1. A third of the coarsest count is unstable,
    which shows that the fast part is seen: the error exceeds what the order explains.
    """
    order, counts = SOLVERS[solver].order, step_counts(solver)
    step_size = (WHEEL.t1 - WHEEL.t0) / counts[0]
    if solver == "reversible_heun":
        problem = stiff_wheel(damping=0.0, frequency=0.8 / step_size)
    else:
        bound = NEARLY_UNSTABLE.get(solver) or NEARLY_UNSTABLE_BY_ORDER[order]
        problem = stiff_wheel(damping=bound / step_size)
    unstable, *stable = errors(problem, solver, [int(counts[0]) // 3, *counts])
    assert slope_of(stable, counts) == pytest.approx(order, abs=SLOPE)
    assert not unstable < 3 ** (order + 2) * stable[0]


@cache
def times_and_truth(problem: InitialValueProblem) -> tuple[torch.Tensor, torch.Tensor]:
    times = torch.linspace(problem.t0, problem.t1, 23, dtype=torch.float64)  # most of them inside steps
    return times, problem.truth(times)


@cache
def growth_of_disturbances(problem: InitialValueProblem) -> torch.Tensor:
    """By which factor a small disturbance of y0 grows at most on the way, (N,); at least 1."""
    times, truth = times_and_truth(problem)
    directions = 1e-6 * torch.eye(truth.shape[2], dtype=torch.float64)
    y0 = (problem.state() + directions[:, None]).flatten(0, 1)  # (D N, D)
    disturbed = solve_ivp(problem.field, y0, times, solver="dopri8", rtol=1e-10, atol=1e-10).y
    growth = (disturbed.unflatten(0, (len(directions), -1)) - truth).norm(dim=3).amax(dim=(0, 2)) / 1e-6
    return growth.clamp(min=1.0)


PROBLEMS = WITH_CLOSED_FORM + WITH_SCIPY
AT_TOLERANCES = [  # implicit methods, which are dear, at one level of each problem, each of them at the other one
    (solver, problem, level)
    for solver in STABLE
    for place, problem in enumerate(PROBLEMS)
    for level in (0, 1)
    if solver not in IMPLICIT_TABLEAUS or level == (place + (solver == "kvaerno5")) % 2
]


@pytest.mark.parametrize(
    ("solver", "problem", "level"),
    AT_TOLERANCES,
    ids=[f"{solver}-{problem.name}-{('loose', 'tight')[level]}" for solver, problem, level in AT_TOLERANCES],
)
def test_error_is_within_ten_tolerances(solver, problem, level):
    """In the norm that the tolerance is meant in: root mean square over the state of error / (1 + largest |y|).

    A tolerance bounds each step. Where the flow stretches, so does the error: the factor is the one by which a
    disturbance of y0 grows, found by solving from a y0 disturbed in each of its components.
    """
    levels = REACHABLE.get(solver) or REACHABLE_BY_ORDER.get(SOLVERS[solver].order, (1e-4, 1e-7))
    tolerance = levels[level]
    times, truth = times_and_truth(problem)
    asked = tolerance / STRICTER.get(solver, 1)
    found = solve_ivp(problem.field, problem.state(), times, solver=solver, rtol=asked, atol=asked).y
    growth = growth_of_disturbances(problem)
    scale = 1 + truth.abs().amax(dim=1, keepdim=True)
    error = ((found - truth) / scale).square().mean(dim=2).sqrt().amax(dim=1)
    assert float((error / growth).max()) <= ERROR_PER_TOLERANCE * tolerance
    assert float(error.max()) > 1e-3 * tolerance, "far more work than asked for"


@pytest.mark.parametrize("problem", WITH_SCIPY[1:], ids=lambda p: p.name)
def test_the_truth_does_not_depend_on_the_method(problem):
    times, truth = times_and_truth(problem)
    scale = 1 + truth.abs().max()
    assert float((truth - problem.truth(times, "LSODA")).abs().max() / scale) < 100 * SCIPY


@pytest.mark.parametrize("solver", PRECISE)
def test_agrees_with_torchdiffeq(solver):
    torchdiffeq = pytest.importorskip("torchdiffeq")
    problem = VAN_DER_POL
    times = torch.linspace(0.0, 5.0, 11, dtype=torch.float64)
    tight = {"rtol": 1e-10, "atol": 1e-10}
    theirs = torchdiffeq.odeint(
        lambda t, y: problem.field(t, y), problem.state(), times, method="dopri5", **tight
    )
    ours = solve_ivp(problem.field, problem.state(), times, solver=solver, **tight).y
    torch.testing.assert_close(ours, theirs.transpose(0, 1), rtol=TIGHT, atol=TIGHT)
