"""Adams methods: exact for polynomials, whatever the last step; their cost; their gradients over many steps."""

from __future__ import annotations

import pytest
import torch
from engine_stubs import CountingField, Swirl
from solver_groups import with_gradients
from tolerances import ROUNDING
from torch.autograd import gradcheck

from latentode import solve_ivp
from latentode.solvers import ADAMS, FixedStep, integrate

every_adams = pytest.mark.parametrize("solver", ADAMS)


def double(x):
    return torch.tensor(x, dtype=torch.float64)


@pytest.mark.parametrize("end", [2.0, 2.05, 1.93])
@every_adams
def test_cubic_slopes_are_integrated_exactly(solver, end):
    """Inside the steps too, and where the last step is shorter than those before."""
    times = torch.linspace(-1.0, end, 40, dtype=torch.float64)
    field = lambda t, y: (1 - 2 * t + 3 * t**2 - 4 * t**3)[:, None].expand_as(y)  # noqa: E731
    y = solve_ivp(field, double([[0.0]]), times, t0=0.0, solver=solver, step_size=0.1).y[0, :, 0]
    inside_start = ((times > 0) & (times < 0.3)) | ((times < 0) & (times > -0.3))  # RK4's cubic
    exact = times - times**2 + times**3 - times**4
    torch.testing.assert_close(y[~inside_start], exact[~inside_start], rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(("solver", "per_step"), [("explicit_adams", 1), ("implicit_adams", 2)])
def test_evaluations_are_counted_per_series(solver, per_step):
    """Three steps of RK4 with four evaluations each, then one or two; the second series is done before."""
    field = CountingField(lambda t, y: -y)
    t_eval = double([[1.0], [0.2], [0.65]])
    with torch.no_grad():
        found = integrate(
            field,
            torch.ones(3, 2, dtype=torch.float64),
            torch.zeros(3, dtype=torch.float64),
            t_eval,
            method=ADAMS[solver],
            controller=FixedStep(0.1),
            max_steps=100,
        )
    assert found.n_steps.tolist() == [10, 2, 7]
    assert found.n_evals.tolist() == [1 + 12 + 7 * per_step, 1 + 8, 1 + 12 + 4 * per_step]
    assert sum(field.rows) == int(found.n_evals.sum())


@pytest.mark.parametrize(("solver", "gradient"), with_gradients(ADAMS, ["backprop", "discrete_adjoint"]))
def test_gradients_over_many_steps(solver, gradient):
    field = Swirl()

    def answers(y0, t0, t_eval):
        return solve_ivp(field, y0, t_eval, t0=t0, solver=solver, gradient=gradient, step_size=0.11).y

    inputs = (double([[0.4, -0.2], [1.0, 0.7]]), double([0.0, 0.1]), double([[0.5, 1.0], [0.9, -0.6]]))
    assert gradcheck(answers, [x.requires_grad_() for x in inputs])
