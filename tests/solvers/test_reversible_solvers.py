"""Steps that can be undone: order, inverse, what a step costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_stubs import CountingField
from problems import SPIRAL, WHEEL
from solver_groups import EXPLICIT_ADAPTIVE
from tolerances import ERROR_PER_TOLERANCE, ROUNDING, SLOPE

from latentode import solve_ivp
from latentode.solvers import TABLEAUS, ExplicitRK, Reversible, ReversibleHeun

EVERY = [*(Reversible(ExplicitRK(tableau)) for tableau in TABLEAUS.values()), ReversibleHeun()]
NAMES = [*TABLEAUS, "reversible_heun"]
every_method = pytest.mark.parametrize("method", EVERY, ids=NAMES)


@every_method
@pytest.mark.parametrize("h", [0.1, -0.15])
def test_a_step_is_undone_to_rounding(h, method):
    y, t = WHEEL.state(), torch.tensor([0.1, 0.7], dtype=torch.float64)
    h = torch.tensor([h, 2 * h], dtype=torch.float64)
    carry = method.start(WHEEL.field, t, y)
    for _ in range(2):  # after one step y and z are no longer equal
        before, t_before = (y, carry), t
        step = method.step(WHEEL.field, t, y, h, carry)
        y, carry, t = step.y, step.carry, t + h
    back = method.step_back(WHEEL.field, t_before, y, h, carry)
    assert float((before[0] - before[1][:, 2:]).abs().min()) > 0
    for found, expected in zip(back, before):
        torch.testing.assert_close(
            found, expected, rtol=100 * ROUNDING, atol=100 * ROUNDING
        )  # large steps stretch


@every_method
def test_what_a_step_evaluates(method):
    field = CountingField(WHEEL.field)
    t, y = torch.zeros(2, dtype=torch.float64), WHEEL.state()
    carry = method.start(field, t, y)
    method.step(field, t, y, t + 0.1, carry)
    assert len(field.rows) == 1 + method.evaluations_per_step


@every_method
@pytest.mark.parametrize("problem", [SPIRAL, WHEEL], ids=lambda p: p.name)
def test_error_falls_with_the_order_at_least(problem, method):
    """Faster at first: with λ near 1 a step is almost symmetric in time, and odd orders gain one."""
    finest = {1: 160, 2: 160, 8: 40}.get(method.order, 80)
    counts = np.array([finest // 4, finest // 2, finest])
    ends = problem.t0 + (problem.t1 - problem.t0) * torch.arange(11, dtype=torch.float64) / 10
    errors = []
    for n in counts:
        step_size = (problem.t1 - problem.t0) / int(n)
        found = solve_ivp(problem.field, problem.state(), ends, solver=method, step_size=step_size).y
        errors.append(float((found - problem.truth(ends)).norm()))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert method.order - SLOPE < slope < method.order + 1 + SLOPE


@pytest.mark.parametrize("base", [name for name in EXPLICIT_ADAPTIVE if TABLEAUS[name].order > 2])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_error_between_steps_follows_the_tolerance(tolerance, base):
    times = torch.linspace(WHEEL.t0, WHEEL.t1, 23, dtype=torch.float64)
    method = Reversible(ExplicitRK(TABLEAUS[base]))
    found = solve_ivp(WHEEL.field, WHEEL.state(), times, solver=method, rtol=tolerance, atol=tolerance)
    error = float((found.y - WHEEL.truth(times)).abs().max())
    assert error <= ERROR_PER_TOLERANCE * tolerance
    assert int(found.stats["n_accepted"].max()) < 250


@pytest.mark.parametrize("coupling", [0.0, 1.0, 1.5])
def test_a_coupling_out_of_range_is_refused(coupling):
    with pytest.raises(ValueError, match=rf"coupling must lie between 0 and 1; got {coupling}"):
        Reversible(EVERY[0].base, coupling)
