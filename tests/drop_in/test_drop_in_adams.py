"""Adams methods of growing order: torchdiffeq's numbers on even grids, the right order on others."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import torchdiffeq
from test_drop_in_values import Field, Pair, assert_same, states, values_and_gradients
from tolerances import EXACT_GRADIENT, ROUNDING, SLOPE

import latentode.drop_in as ours
from latentode.drop_in import odeint, odeint_adjoint
from latentode.exceptions import LatentODEWarning

UP = torch.linspace(0.3, 2.0, 18, dtype=torch.float64)
# weights of up to 8,000 of both signs stand before the slopes of order 12, beside torchdiffeq's from its tables
WEIGHTS = 1e4 * ROUNDING
both_ways = pytest.mark.parametrize("t", [UP, UP.flip(0)], ids=["up", "down"])
every_method = pytest.mark.parametrize("method", ["explicit_adams", "implicit_adams", "fixed_adams"])


@every_method
@both_ways
@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
@pytest.mark.parametrize(
    ("field", "y0"),
    [(Field, states()[0]), (Pair, states()), (Field, states(torch.complex128)[0])],
    ids=["tensor", "tuple", "complex"],
)
def test_the_numbers_are_torchdiffeq_s_on_an_even_grid(method, t, interface, field, y0):
    """So are the gradients; not those of t: torchdiffeq's weights do not move with the times."""
    options = {} if method == "explicit_adams" else {"max_iters": 30}
    mine, other = (
        values_and_gradients(solve, field(), y0, t, method=method, options=options)
        for solve in (getattr(ours, interface), torchdiffeq.odeint)
    )
    assert_same(mine[0], other[0], WEIGHTS)
    del mine[1][-2], other[1][-2]
    assert_same(mine[1], other[1], WEIGHTS)


@every_method
@pytest.mark.parametrize(
    "options",
    [{"max_order": 4}, {"max_order": 7, "interp": "cubic"}, {"max_order": 5, "max_iters": 20}],
    ids=str,
)
def test_options(method, options):
    options = {"step_size": 0.085, **options}
    if method == "explicit_adams":
        options.pop("max_iters", None)
    mine, other = (
        lib.odeint(Field(), states()[0], UP[[0, 3, 17]], method=method, options=options)
        for lib in (ours, torchdiffeq)
    )
    assert_same([mine], [other], WEIGHTS)


@pytest.mark.parametrize(
    ("method", "order", "more"), [("explicit_adams", 3, {}), ("implicit_adams", 4, {"max_iters": 30})]
)
def test_an_uneven_grid_costs_no_order(method, order, more):
    """Steps of h and 2 h in turn, in which torchdiffeq's weights are of order 1 only."""
    errors, sizes = [], [80, 160, 320]
    for n in sizes:
        steps = torch.tensor([1.0, 2.0], dtype=torch.float64).repeat(n)
        t = torch.cat([torch.zeros(1), steps.cumsum(0) / steps.sum()]) * 2
        y0 = torch.ones(1, dtype=torch.float64)
        y = odeint(
            lambda t, y: torch.cos(3 * t) * y,
            y0,
            t,
            method=method,
            options={"max_order": 4, **more},
            rtol=1e-12,
            atol=1e-14,
        )
        errors.append(abs(y[-1].item() - np.exp(np.sin(6.0) / 3)))
    slope = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope > order - SLOPE


def test_a_larger_order_is_worth_it():
    """Up to the error of the first steps, which are those of a method of order 4."""
    truth = odeint(Field(), states()[0], UP[[0, -1]], rtol=1e-12, atol=1e-12)[-1]
    t = torch.linspace(0.3, 2.0, 35, dtype=torch.float64)
    errors = []
    for max_order in (4, 8):
        options = {"max_order": max_order, "max_iters": 30}
        y = odeint(Field(), states()[0], t, method="implicit_adams", options=options)
        errors.append((y[-1] - truth).abs().max().item())
    assert errors[1] < errors[0] / 2


def test_gradients_of_times_are_those_of_the_solution():
    """Beside those of an adaptive solve; the time in the middle lies between two knots."""
    t = torch.tensor([0.3, 0.6525, 1.0], dtype=torch.float64)
    tight = {"rtol": 1e-12, "atol": 1e-12}
    found = values_and_gradients(
        odeint,
        Field(),
        states()[0],
        t,
        method="implicit_adams",
        options={"step_size": 0.005, "interp": "cubic", "max_iters": 20},
        **tight,
    )
    truth = values_and_gradients(odeint, Field(), states()[0], t, **tight)
    assert_same(found[1], truth[1], 10 * EXACT_GRADIENT)


def test_on_the_way_back():
    options = {"adjoint_method": "implicit_adams", "adjoint_options": {"step_size": 0.01, "max_order": 6}}
    _, found = values_and_gradients(odeint_adjoint, Field(), states()[0], UP[[0, 9]], **options)
    _, truth = values_and_gradients(odeint, Field(), states()[0], UP[[0, 9]])
    assert_same(found, truth, 10 * EXACT_GRADIENT)


def test_what_is_said_aloud():
    y0, t = torch.ones(1, dtype=torch.float64), torch.linspace(0, 3, 7).double()

    def field(t, y):
        return -8 * y

    for max_order in (0, 13):
        with pytest.raises(ValueError, match=f"max_order must lie between 1 and 12; got {max_order}"):
            odeint(field, y0, t, method="implicit_adams", options={"max_order": max_order})
    with pytest.raises(AssertionError, match="max_iters must be positive; got 0"):
        odeint(field, y0, t, method="implicit_adams", options={"max_iters": 0})
    with pytest.warns(
        LatentODEWarning, match=re.escape("max_order is below 4, so that explicit_adams is the 3/8 rule")
    ):
        y = odeint(field, y0, t, method="explicit_adams", options={"max_order": 3})
    assert torch.equal(y, odeint(field, y0, t, method="rk4"))
    with pytest.warns(
        LatentODEWarning, match=r"did not come to rest in 4 iterations at t=[0-9.]+: take smaller steps"
    ):
        mine = odeint(field, y0, t, method="implicit_adams")
    with pytest.warns(UserWarning, match="did not converge"):
        other = torchdiffeq.odeint(field, y0, t, method="implicit_adams")
    torch.testing.assert_close(mine, other, rtol=ROUNDING, atol=0)
    with pytest.warns(LatentODEWarning, match="method 'explicit_adams' has no option 'max_iters'"):
        odeint(field, y0, t, method="explicit_adams", options={"max_iters": 3})
