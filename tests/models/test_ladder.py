"""Series that a solver cannot solve: who is tried again, with what, and what the others notice of it."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import nn

from latentode.exceptions import SolverError
from latentode.models import ladder as of_ladder
from latentode.models.ladder import InitialValues, ladder, solve_patiently
from latentode.models.solve_options import SolveOptions
from latentode.solvers import SOLVERS, Solution, Status

TIMES = [0.5, 1.0, 2.0]


class Relaxation(nn.Module):
    """dy/dt = -rate y + 1, the rate being the second part of the state: y(t) = 1/r + (y0 - 1/r) exp(-r t)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, t, state):
        y, rate = state.unbind(1)
        return torch.stack([self.scale - rate * y, torch.zeros_like(rate)], dim=1)


class Growth(nn.Module):
    """dy/dt = factor y², which has a pole at t = 1 / (factor y0)."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, t, y):
        return self.factor * y**2


def asked(state, times=TIMES):
    state = torch.tensor(state, dtype=torch.float64)
    return InitialValues(
        state, torch.zeros(len(state)).double(), torch.tensor(times).double().repeat(len(state), 1)
    )


def solve(field, problems, options, **arguments):
    return solve_patiently(field, problems, options, params=None, **({"names": None} | arguments))


def relaxed(rate, scale=1.0, y0=3.0):
    return np.array([scale / rate + (y0 - scale / rate) * math.exp(-rate * t) for t in TIMES])


STIFF = [[3.0, 1.0], [3.0, 3e4], [3.0, 2.0]]
FEW = SolveOptions("dopri5", 1e-6, 1e-8, max_steps=300)  # dopri5 needs some 20,000 steps at the rate 3e4


def test_a_stiff_series_is_solved_by_the_implicit_solver():
    field = Relaxation()
    found = solve(field, asked(STIFF), FEW)
    assert found.retried.tolist() == [False, True, False]
    assert found.uncontrolled.tolist() == [False, False, False]
    for n, (_, rate) in enumerate(STIFF):
        np.testing.assert_allclose(found.y[n, :, 0].detach(), relaxed(rate), rtol=0, atol=1e-5)


@pytest.mark.parametrize("grad", [True, False])
def test_the_others_keep_their_results_bit_for_bit(grad):
    field = Relaxation()
    with torch.set_grad_enabled(grad):
        found = solve(field, asked(STIFF), FEW)
        alone = solve(field, asked([STIFF[0], STIFF[2]]), FEW)
    assert found.y.requires_grad == grad
    assert torch.equal(found.y[[0, 2]], alone.y)
    assert not alone.retried.any()
    assert (found.n_evals[[0, 2]] == alone.n_evals).all()


@pytest.mark.parametrize("gradient", ["discrete_adjoint", "backprop"])
def test_gradients_flow_through_both(gradient):
    """d/ds of s/r + (y0 - s/r) exp(-r t), summed over series and times."""
    field = Relaxation()
    options = SolveOptions("dopri5", 1e-6, 1e-8, gradient=gradient, max_steps=300)
    problems = asked(STIFF)
    problems.state.requires_grad_()
    solve(field, problems, options).y[..., 0].sum().backward()
    rates = np.array([rate for _, rate in STIFF])
    falls = np.exp(-np.outer(rates, TIMES))
    np.testing.assert_allclose(field.scale.grad, ((1 - falls) / rates[:, None]).sum(), rtol=1e-4)
    np.testing.assert_allclose(problems.state.grad[:, 0], falls.sum(1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("gradient", ["discrete_adjoint", "backprop", "adjoint", "reversible"])
def test_a_failed_try_beside_a_pole_leaves_no_nan_in_the_gradients(gradient, monkeypatch):
    """The series that fails is answered by the last rung; d/df of y0 / (1 - f y0 t) for the others."""
    monkeypatch.setattr(of_ladder, "LAST_STEP", 1.0)  # jumps over the pole
    field = Growth()
    options = SolveOptions("dopri5", 1e-6, 1e-8, gradient=gradient, max_steps=60)
    problems = asked([[0.1], [1.0], [-0.5]], [0.5, 2.0])
    found = solve(field, problems, options)
    assert found.uncontrolled.tolist() == [False, True, False]
    assert found.retried.tolist() == [False, True, False]
    found.y[[0, 2]].sum().backward()
    expected = sum(y**2 * t / (1 - y * t) ** 2 for y in (0.1, -0.5) for t in (0.5, 2.0))
    assert field.factor.grad.item() == pytest.approx(expected, rel=1e-4)


def test_fixed_steps_get_smaller_ones():
    """rk4 is unstable at rate × step > 2.8."""
    options = SolveOptions("rk4", step_size=0.1)
    found = solve(Relaxation(), asked([[3.0, 1.0], [3.0, 2e2]], [10.0]), options)
    assert found.retried.tolist() == [False, True]
    expected = [1.0 + 2.0 * math.exp(-10.0), 1 / 2e2]
    np.testing.assert_allclose(found.y[:, 0, 0].detach(), expected, rtol=1e-6)


def test_fixed_steps_end_with_the_implicit_solver():
    options = SolveOptions("rk4", step_size=0.1)
    found = solve(Relaxation(), asked([[3.0, 1e4]], [10.0]), options)
    assert found.retried.tolist() == [True]
    assert found.uncontrolled.tolist() == [False]  # kvaerno5 keeps to the tolerances
    assert found.y[0, 0, 0].item() == pytest.approx(1e-4, rel=1e-3)


def spied(monkeypatch, statuses):
    """`solve_ivp` that solves nothing: statuses by call, and what it was asked."""
    calls, script = [], iter(statuses)

    def fake(field, y0, t_eval, *, t0, params, throw, **arguments):
        assert not throw
        status = torch.tensor(next(script))
        calls.append((y0[:, 0].tolist(), arguments))
        y = y0[:, None].expand(-1, t_eval.shape[1], -1) + len(calls) / 100
        return Solution(t_eval, y, status, t0, {"n_evals": torch.ones_like(status)})

    monkeypatch.setattr(of_ladder, "solve_ivp", fake)
    return calls


@torch.no_grad()
def test_only_those_that_failed_climb_and_each_as_far_as_it_must(monkeypatch):
    calls = spied(monkeypatch, [[0, 3, 1, 2, 3], [0, 3, 3], [0, 0, 3], [0]])
    found = solve(None, asked([[0.0], [1.0], [2.0], [3.0], [4.0]]), SolveOptions())
    assert [rows for rows, _ in calls] == [
        [0, 1, 2, 3, 4],
        [1, 3, 4],
        [2, 3, 4],
        [4],
    ]  # 2 had run out of steps
    assert [arguments["solver"] for _, arguments in calls] == ["dopri5", "dopri5", "kvaerno5", "rk4"]
    assert [arguments.get("first_step") for _, arguments in calls] == [None, 1e-6, None, None]
    assert [arguments["step_size"] for _, arguments in calls] == [None, None, None, 0.05]
    np.testing.assert_allclose(found.y[:, 0, 0], [0.01, 1.02, 2.03, 3.03, 4.04])
    assert found.n_evals.tolist() == [1, 2, 2, 3, 4]
    assert found.retried.tolist() == [False, True, True, True, True]
    assert found.uncontrolled.tolist() == [False, False, False, False, True]


@torch.no_grad()
def test_a_start_that_is_not_finite_is_not_tried_again(monkeypatch):
    calls = spied(monkeypatch, [[3, 0]])
    with pytest.raises(SolverError, match=r"series 'a' could not be solved beyond 0 units .*\[NON_FINITE\]"):
        solve(None, asked([[math.nan], [1.0]]), SolveOptions(), names=["a", "b"])
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("status", "repair"),
    [
        (Status.MAX_STEPS, "loosen rtol and atol, ask for times nearer"),
        (Status.STEP_UNDERFLOW, "take fixed steps with step_size="),
        (Status.NON_FINITE, "train with a smaller lr"),
        (Status.NEWTON_DIVERGED, "take a smaller step_size="),
    ],
)
@torch.no_grad()
def test_only_then_an_error_that_counts_series_and_names_the_repair(status, repair, monkeypatch):
    """Two samples of three series: the second and the third fail, one of them in both samples."""
    code = int(status)
    spied(monkeypatch, [[0, code, 0, 0, code, code], *[[code] * 3] * 3])
    text = (
        rf"series 'q' \(and 1 more series\) could not be solved beyond 0 units of model time from its anchor "
        rf"\[{status.name}\], with any of dopri5, dopri5 with a first step of 1e-06, kvaerno5, rk4 with steps of 0.05: "
        rf".*{repair}"
    )
    with pytest.raises(SolverError, match=text):
        solve(None, asked([[float(n)] for n in range(6)]), SolveOptions(), names=["p", "q", "r"], n_samples=2)


TURN = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
CASES = [(name, 0.1) for name in SOLVERS]
CASES += [(name, None) for name, solver in SOLVERS.items() if solver.error_order is not None]


@pytest.mark.parametrize(("solver", "step_size"), CASES)
def test_every_rung_of_every_solver_can_be_climbed(solver, step_size):
    """Each rung alone solves a problem that is easy: a rotation, against the matrix exponential."""
    problems = asked([[1.0, 0.5]])
    expected = [linalg.expm(TURN.numpy() * t) @ problems.state[0].numpy() for t in TIMES]
    rungs = ladder(SolveOptions(solver, 1e-6, 1e-8, step_size, "reversible"))
    assert any(rung.arguments["solver"] != solver for rung in rungs)
    for rung in rungs:
        found = turned(**rung.arguments)
        if rung.arguments["solver"] != solver:  # the own one is as exact as it is
            np.testing.assert_allclose(found.y[0], expected, rtol=0, atol=1e-5)


@cache  # the last rungs are those of many solvers
@torch.no_grad()
def turned(**arguments):
    problems = asked([[1.0, 0.5]])
    return of_ladder.solve_ivp(
        lambda t, y: y @ TURN.T, problems.state, problems.times, t0=problems.t0, **arguments
    )
