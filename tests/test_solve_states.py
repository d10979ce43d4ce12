"""States that are tuples, and what the backward passes count."""

from __future__ import annotations

import math
import re

import pytest
import torch
from engine_stubs import CountingField, Swirl
from solver_groups import with_gradients
from tolerances import ROUNDING
from torch.autograd import gradcheck

from latentode import solve_ivp
from latentode.gradients import GRADIENTS
from latentode.solvers import SOLVERS

every_gradient = pytest.mark.parametrize("gradient", GRADIENTS)

Y0 = torch.tensor([[0.4, -0.2], [1.0, 0.7], [-0.5, 0.3]], dtype=torch.float64)
TIMES = torch.tensor([[0.0, 0.5, 0.9], [0.3, -0.4, 0.2], [0.1, math.nan, 0.8]], dtype=torch.float64)


class Tank(torch.nn.Module):
    """A matrix that turns, and a number that gathers its trace."""

    def __init__(self):
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(0.8, dtype=torch.float64))

    def forward(self, t, state):
        matrix, level = state
        trace = matrix.diagonal(dim1=1, dim2=2).sum(dim=1)
        return self.rate * torch.sin(matrix.mT) - t[:, None, None] * matrix, trace - level


def tank_state():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(3, 2, 2, generator=generator, dtype=torch.float64),
        torch.randn(3, generator=generator, dtype=torch.float64),
    )


@pytest.mark.parametrize(  # the adjoint is exact only in the limit of small steps
    ("solver", "gradient"),
    [
        ("dopri5", "adjoint"),
        *with_gradients(["dopri5", "rk4", "radauIIA5"], [g for g in GRADIENTS if g != "adjoint"]),
    ],
)
def test_gradients_of_tuples_against_finite_differences(solver, gradient):
    field = Tank()

    def answers(matrix, level, t_eval):
        found = solve_ivp(
            field, (matrix, level), t_eval, t0=0.05, solver=solver, step_size=0.1, gradient=gradient
        ).y
        return tuple(part.nan_to_num(nan=0.0) for part in found)

    t_eval = torch.tensor([[0.33, 0.62], [-0.21, 0.44], [0.5, 0.17]], dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (*tank_state(), t_eval)]
    assert gradcheck(answers, inputs, fast_mode=True)


@every_gradient
def test_a_tuple_is_solved_as_its_parts_side_by_side(gradient):
    field, state = Tank(), tank_state()

    def flat_field(t, y):
        matrix, level = field(t, (y[:, :4].reshape(-1, 2, 2), y[:, 4]))
        return torch.cat([matrix.flatten(1), level[:, None]], dim=1)

    flat_state = torch.cat([state[0].flatten(1), state[1][:, None]], dim=1)
    found = solve_ivp(field, state, TIMES, gradient=gradient)
    flat = solve_ivp(flat_field, flat_state, TIMES, gradient=gradient, params=list(field.parameters()))
    assert [part.shape for part in found.y] == [(3, 3, 2, 2), (3, 3)]
    assert torch.equal(found.y[0].flatten(2).nan_to_num(), flat.y[..., :4].nan_to_num())
    assert torch.equal(found.y[1].nan_to_num(), flat.y[..., 4].nan_to_num())
    for name, counts in flat.stats.items():
        assert torch.equal(counts, found.stats[name])


def test_an_event_of_a_tuple():
    """A ball: height 10, at rest, gravity 2: it lands at t = √10."""
    state = (torch.full((2, 1), 10.0, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    found = solve_ivp(
        lambda t, y: (y[1][:, None], torch.full_like(y[1], -2.0)),
        state,
        [0.0, 5.0],
        event=lambda t, y: y[0][:, 0],
    )
    torch.testing.assert_close(found.event_times, torch.full((2,), math.sqrt(10), dtype=torch.float64))
    height, speed = found.event_states
    assert height.shape == (2, 1)
    assert speed.shape == (2,)
    torch.testing.assert_close(speed, torch.full((2,), -2 * math.sqrt(10), dtype=torch.float64))


@pytest.mark.parametrize(
    ("y0", "field", "message"),
    [
        ((), None, "y0 must have at least one part; got an empty tuple"),
        ((Y0, 1.0), None, "y0[1] must be a torch.Tensor (N, *state); got float"),
        ((Y0, Y0[:2]), None, "the parts of y0 must have one length; got 3 in y0[0] and 2 in y0[1]"),
        (
            (Y0, Y0.float()),
            None,
            "the parts of y0 must have one dtype; got torch.float64 in y0[0] and torch.float32 in y0[1]",
        ),
        ((Y0, Y0.long()), None, "y0[1] must be floating point; got torch.int64: use y0[1].float()"),
        ((Y0, Y0), lambda t, y: y[0], "must return dy/dt like y, a tuple of 2 tensors; it returned Tensor"),
        ((Y0, Y0), lambda t, y: (y[0],), "a tuple of 2 tensors; it returned 1 of them"),
        (
            (Y0, Y0),
            lambda t, y: (y[0], y[1].sum(1)),
            "for y[1] of shape (2, 2) torch.float64 it returned (2,) torch.float64",
        ),
    ],
    ids=["no part", "a number", "length", "dtype", "integers", "one tensor", "too few", "shape"],
)
def test_what_is_wrong_with_a_tuple_is_said(y0, field, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        solve_ivp(field or (lambda t, y: y), y0, [0.0, 1.0])


@pytest.mark.parametrize(
    ("solver", "gradient"), with_gradients(["dopri5", "reversible_heun", "kvaerno3", "explicit_adams"])
)
def test_evaluations_backwards_are_counted_per_series(solver, gradient):
    """As many rows as the field sees while the backward pass runs, and 0 before; on both sides of t0."""
    seen = Swirl()
    field = CountingField(seen)
    options = {} if SOLVERS[solver].error_order is not None else {"step_size": 0.1}
    y0 = Y0.clone().requires_grad_()
    solution = solve_ivp(
        field, y0, TIMES, solver=solver, gradient=gradient, params=list(seen.parameters()), **options
    )
    counts = solution.stats["n_evals_backward"]
    assert counts.tolist() == [0, 0, 0]
    field.rows.clear()
    solution.y.nan_to_num(nan=0.0).sum().backward()
    assert int(counts.sum()) == sum(field.rows)
    assert (gradient == "backprop") == (counts.tolist() == [0, 0, 0])


def test_evaluations_backwards_are_those_of_each_series_alone():
    together = solve_ivp(Swirl(), Y0.clone().requires_grad_(), TIMES)
    together.y.nan_to_num(nan=0.0).sum().backward()
    for i in range(3):
        alone = solve_ivp(Swirl(), Y0[[i]].clone().requires_grad_(), TIMES[[i]])
        alone.y.nan_to_num(nan=0.0).sum().backward()
        assert together.stats["n_evals_backward"][i] == alone.stats["n_evals_backward"][0] > 0
        torch.testing.assert_close(
            together.y[i].nan_to_num(), alone.y[0].nan_to_num(), rtol=ROUNDING, atol=ROUNDING
        )
