"""`method="scipy_solver"`: closed forms, torchdiffeq beside it, and the adjoint around it."""

from __future__ import annotations

import re

import pytest
import scipy.integrate
import torch
import torchdiffeq
from test_drop_in_values import Field, Pair, assert_same, both_ways, states, values_and_gradients
from tolerances import EXACT_GRADIENT, SCIPY

import latentode.drop_in as ours
from latentode.drop_in import odeint, odeint_adjoint
from latentode.exceptions import LatentODEWarning, SolverError

TOLERANCES = {"rtol": 1e-10, "atol": 1e-10}
BY_SCIPY = {"method": "scipy_solver", **TOLERANCES}
T = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
Y0 = torch.tensor([1.0, -0.5], dtype=torch.float64)
every_solver = pytest.mark.parametrize(
    "solver", ["LSODA", "RK23", "RK45", "DOP853", "Radau", "BDF", scipy.integrate.Radau], ids=str
)


@every_solver
@pytest.mark.parametrize("t", [T, T.flip(0)], ids=["up", "down"])
def test_a_closed_form(solver, t):
    tolerance = 1e-7 if solver == "RK23" else 1e-9
    options = {"rtol": tolerance, "atol": tolerance, "options": {"solver": solver}}
    y = odeint(lambda t, y: torch.cos(3 * t) * y, Y0, t, method="scipy_solver", **options)
    truth = torch.exp((torch.sin(3 * t) - torch.sin(3 * t[0])) / 3)[:, None] * Y0
    torch.testing.assert_close(y, truth, rtol=1000 * tolerance, atol=0)
    assert not y.requires_grad


@pytest.mark.parametrize("solver", ["LSODA", "Radau", "RK45"])
def test_complex_states_by_every_solver(solver):
    y0 = torch.tensor([[1.0 + 1j], [2.0]], dtype=torch.complex128)
    y = odeint(lambda t, y: (0.1 + 1j) * y, y0, T, options={"solver": solver}, **BY_SCIPY)
    assert y.dtype == y0.dtype
    truth = torch.exp((0.1 + 1j) * T)[:, None, None] * y0
    torch.testing.assert_close(y, truth, rtol=SCIPY, atol=SCIPY)


@both_ways
def test_beside_torchdiffeq(t):
    for field, y0 in ((Field(), states()[0]), (Pair(), states())):
        mine, other = (lib.odeint(field, y0, t, **BY_SCIPY) for lib in (ours, torchdiffeq))
        assert_same(
            mine if isinstance(mine, tuple) else (mine,),
            other if isinstance(other, tuple) else (other,),
            10 * SCIPY,
        )


def test_single_precision_and_one_time():
    y0 = states(torch.float32)[0]
    y = odeint(Field(torch.float32), y0, T.float(), method="scipy_solver", rtol=1e-6, atol=1e-6)
    assert y.dtype == torch.float32
    truth = odeint(Field(), y0.double(), T, **TOLERANCES)
    torch.testing.assert_close(y.double(), truth, rtol=1e-4, atol=1e-4)
    assert torch.equal(odeint(Field(torch.float32), y0, T[:1], method="scipy_solver"), y0[None])


@pytest.mark.parametrize(
    ("adjoint_method", "kind", "down"),  # each pair of two of them
    [
        ("scipy_solver", "tensor", False),
        ("scipy_solver", "tuple", True),
        ("dopri5", "tensor", True),
        ("dopri5", "tuple", False),
        ("rk4", "tensor", False),
        ("rk4", "tuple", True),
    ],
)
def test_the_adjoint_differentiates_it(adjoint_method, kind, down):
    field, y0 = (Field, states()[0]) if kind == "tensor" else (Pair, states())
    t = T.flip(0) if down else T
    options = {"adjoint_options": {"step_size": 0.01}} if adjoint_method == "rk4" else {}
    found = values_and_gradients(
        odeint_adjoint, field(), y0, t, adjoint_method=adjoint_method, **BY_SCIPY, **options
    )
    truth = values_and_gradients(odeint, field(), y0, t, **TOLERANCES)
    assert_same(found[0], truth[0], 10 * SCIPY)
    assert_same(found[1], truth[1], EXACT_GRADIENT)


def test_the_adjoint_of_complex_states_and_tolerances_per_element():
    y0 = states(torch.complex128)[0]
    per_element = {"rtol": torch.full((2, 3), 1e-10), "atol": torch.full((2, 3), 1e-10)}
    found = values_and_gradients(odeint_adjoint, Field(), y0, T, method="scipy_solver", **per_element)
    truth = values_and_gradients(odeint, Field(), y0, T, **TOLERANCES)
    assert_same(found[1], truth[1], EXACT_GRADIENT)


def test_tolerances_per_part():
    counts = []
    for rtol in ((1e-3, 1e-3), (1e-3, 1e-10)):
        field = Pair()
        odeint(field, states(), T, rtol=rtol, atol=rtol, method="scipy_solver")
        counts.append(len(field.times))
    assert counts[1] > 2 * counts[0]


def test_the_largest_step():
    field = Field()
    odeint(field, states()[0], T, method="scipy_solver", rtol=1e-2, options={"max_step": 0.01})
    assert len(field.times) >= 200


def test_what_it_cannot_do():
    def field(t, y):
        return -y

    def refused(message, error=ValueError):
        return pytest.raises(error, match=re.escape(message))

    with refused("method 'scipy_solver' finds no events: take an adaptive method"):
        odeint(field, Y0, T[:2], event_fn=lambda t, y: y[0], **BY_SCIPY)
    with refused("method 'scipy_solver' finds no events", AssertionError):
        ours.odeint_event(field, Y0, T[0], event_fn=lambda t, y: y[0] - 2, **BY_SCIPY)
    with refused("adjoint_method 'scipy_solver' goes with method 'scipy_solver' only"):
        odeint_adjoint(field, Y0, T, adjoint_params=(), adjoint_method="scipy_solver")
    with refused("`method` must be one of"):
        odeint(field, Y0, T, options={"solver": "LSODE"}, **BY_SCIPY)
    with refused("Must be one of {"):
        odeint(field, Y0, T, method="scipy_solvr")
    message = "'scipy_solver' has no option 'step_size': it is ignored; its options are"
    with pytest.warns(LatentODEWarning, match=message) as caught:
        odeint(field, Y0, T, options={"step_size": 0.1}, **BY_SCIPY)
    assert caught[0].filename == __file__
    field.callback_step = print
    with pytest.warns(
        LatentODEWarning, match=r"'scipy_solver' does not support callbacks \['callback_step'\]"
    ):
        odeint(field, Y0, T, **BY_SCIPY)
    y0 = Y0.clone().requires_grad_()
    del field.callback_step
    y = odeint_adjoint(field, y0, T, adjoint_params=(), **BY_SCIPY)
    with refused("the continuous adjoint has first derivatives only", RuntimeError):
        torch.autograd.grad(y.sum(), y0, create_graph=True)


@pytest.mark.parametrize("error", [SolverError, AssertionError])
def test_a_solve_that_fails(error):
    with pytest.raises(error, match=r"SciPy's RK45 could not go beyond t=0\.5: Required step size is less"):
        odeint(
            lambda t, y: y**2, torch.ones(1, dtype=torch.float64), T, options={"solver": "RK45"}, **BY_SCIPY
        )
