"""What is particular to the continuous adjoint and to reversible steps."""

from __future__ import annotations

import math

import pytest
import torch
from engine_stubs import CountingField, Swirl
from test_gradient_memory import numbers_held
from tolerances import EXACT_GRADIENT, ROUNDING

from latentode import solve_ivp
from latentode.exceptions import SolverError
from latentode.gradients import GRADIENTS, Adjoint
from latentode.solvers import SOLVERS, FixedStep, PIController, Reversible

Y0 = torch.tensor([[0.4, -0.2], [1.0, 0.7], [-0.5, 0.3]], dtype=torch.float64)
TIMES = torch.tensor([[0.2, 0.9], [-0.3, -1.0], [0.1, math.nan]], dtype=torch.float64)


def gradients(gradient, field=None, loss=lambda y: y.nan_to_num(nan=0.0).sum(), times=TIMES, **options):
    field = Swirl() if field is None else field
    y0 = Y0.clone().requires_grad_()
    y = solve_ivp(field, y0, times, t0=0.0, gradient=gradient, **options).y
    return torch.autograd.grad(loss(y), [y0, *field.parameters()], materialize_grads=True)


def largest_difference(found, truth):
    return max(float((one - other).abs().max()) for one, other in zip(found, truth))


@pytest.mark.parametrize("gradient", ["adjoint", "reversible"])
def test_what_is_held_does_not_grow_with_the_steps(gradient):
    """Numbers that autograd saves, between forward and backward; at most those of a few steps during backward."""
    (between_few, few), (between_many, many) = (numbers_held(gradient, n) for n in (4, 64))
    assert between_few == between_many
    assert many <= few


@pytest.mark.parametrize("size", [2, 100])
def test_reversible_holds_three_numbers_per_series_and_step(size):
    """Beyond the states at the end, whatever the size of a state; they do not pass through autograd's hooks."""

    def held(n_steps):
        y0 = torch.ones(5, size, requires_grad=True)
        y = solve_ivp(
            lambda t, y: torch.sin(y),
            y0,
            [1.0],
            t0=0.0,
            solver="rk4",
            step_size=1 / n_steps,
            gradient="reversible",
        ).y
        nodes, queue = set(), [y.grad_fn]
        while queue:
            node = queue.pop()
            if node is not None and node not in nodes:
                nodes.add(node)
                queue += [after for after, _ in node.next_functions]
        (trail,) = [node.trail for node in nodes if hasattr(node, "trail")]
        rows = {id(rows): rows for rows in trail.rows}.values()
        return sum(x.numel() for x in (*trail.packed, *rows, trail.y, trail.carry))

    assert held(300) - held(100) == 200 * 5 * 3


def test_the_adjoint_has_tolerances_of_its_own():
    truth = gradients("backprop", rtol=1e-10, atol=1e-10)
    loose, tight = (
        largest_difference(gradients(Adjoint(rtol=tol, atol=tol), rtol=1e-10, atol=1e-10), truth)
        for tol in (1e-3, 1e-9)
    )
    assert tight < EXACT_GRADIENT < loose < 1e-2


@pytest.mark.parametrize(
    "adjoint",
    [
        Adjoint(method=SOLVERS["tsit5"]),
        Adjoint(method=SOLVERS["rk4"], controller=FixedStep(0.01)),
        Adjoint(controller=PIController(1e-9, 1e-9, 5)),
    ],
    ids=["method", "fixed steps", "controller"],
)
def test_the_adjoint_has_a_method_of_its_own(adjoint):
    truth = gradients("backprop", rtol=1e-10, atol=1e-10)
    assert largest_difference(gradients(adjoint, rtol=1e-10, atol=1e-10), truth) < EXACT_GRADIENT


def test_the_adjoint_refuses_tolerances_that_it_cannot_use():
    with pytest.raises(
        ValueError, match="need a method with an error estimate: pass method=, or controller="
    ):
        gradients(Adjoint(rtol=1e-3), solver="rk4", step_size=0.1)
    with pytest.raises(ValueError, match="needs both rtol and atol"):
        gradients(Adjoint(rtol=1e-3), step_size=0.1)


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**40])
def test_the_adjoint_does_not_depend_on_the_unit_of_the_loss(factor):
    """An absolute tolerance on small cotangents would leave them unsolved."""
    one = gradients("adjoint")
    other = gradients("adjoint", loss=lambda y: factor * y.nan_to_num(nan=0.0).sum())
    for a, b in zip(one, other):
        torch.testing.assert_close(a * factor, b, rtol=ROUNDING, atol=0)


def test_parameters_do_not_steer_the_steps_of_the_adjoint():
    """The seminorm: as many evaluations of the way back for y0 alone as with parameters of any size."""

    def calls(scale):
        weight = torch.full((2,), 1 / scale, dtype=torch.float64, requires_grad=True)
        field = CountingField(lambda t, y: torch.sin(y.roll(1, 1)) * (scale * weight))
        y0 = Y0.clone().requires_grad_()
        y = solve_ivp(field, y0, [0.0, 3.0], params=[weight], gradient="adjoint").y
        y.sum().backward()
        assert float(weight.grad.abs().max()) > 0.1 * scale
        return len(field.rows)

    assert calls(1.0) == calls(1e6)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_series_do_not_touch_each_other(gradient):
    """The gradients of a batch are those of its series alone."""
    whole = gradients(gradient)
    single = []
    for n in range(3):
        field, y0 = Swirl(), Y0[n : n + 1].clone().requires_grad_()
        y = solve_ivp(field, y0, TIMES[n : n + 1], t0=0.0, gradient=gradient).y.nan_to_num(nan=0.0)
        single.append(torch.autograd.grad(y.sum(), [y0, *field.parameters()]))
    torch.testing.assert_close(whole[0], torch.cat([one[0] for one in single]), rtol=ROUNDING, atol=ROUNDING)
    for i in (1, 2):
        torch.testing.assert_close(whole[i], sum(one[i] for one in single), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_cotangent_of_zero_gives_a_gradient_of_zero(gradient):
    for found in gradients(gradient, loss=lambda y: 0.0 * y.nan_to_num(nan=0.0).sum()):
        assert not bool(found.any())


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_series_that_fails_leaves_the_others_their_gradient(gradient):
    """The second one blows up at t = 1; what it reached before counts."""

    def gradient_of(start):
        y0 = torch.tensor(start, dtype=torch.float64).requires_grad_()
        found = solve_ivp(
            lambda t, y: y**2, y0, [0.0, 0.5, 2.0], gradient=gradient, throw=False, rtol=1e-9, atol=1e-9
        )
        found.y[~found.y.isnan()].sum().backward()
        return found.status.tolist(), y0.grad

    status, of_y0 = gradient_of([[0.1], [1.0]])
    assert status[0] == 0 < status[1]
    expected = [1 + (1 - 0.05) ** -2 + (1 - 0.2) ** -2, 1 + (1 - 0.5) ** -2]
    assert of_y0[:, 0].tolist() == pytest.approx(expected, rel=EXACT_GRADIENT)


def test_a_way_back_that_cannot_be_solved_says_so():
    """Solved forwards it decays by e^60; backwards the steps run out."""
    y0 = Y0.clone().requires_grad_()
    y = solve_ivp(lambda t, y: -60 * y, y0, [0.0, 1.0], gradient="adjoint", max_steps=40).y
    with pytest.raises(
        SolverError, match=r"backwards from t=1 beyond .*MAX_STEPS.*gradient='discrete_adjoint'"
    ):
        y.sum().backward()


def test_reversible_solves_with_the_method_in_its_construction():
    by_gradient = solve_ivp(Swirl(), Y0, TIMES, t0=0.0, gradient="reversible")
    by_method = solve_ivp(Swirl(), Y0, TIMES, t0=0.0, solver=Reversible(SOLVERS["dopri5"]))
    assert torch.equal(by_gradient.y.nan_to_num(), by_method.y.nan_to_num())
    with torch.no_grad():
        quiet = solve_ivp(Swirl(), Y0, TIMES, t0=0.0, gradient="reversible").y
    assert torch.equal(quiet.nan_to_num(), by_method.y.nan_to_num())


@pytest.mark.parametrize(
    ("solver", "step_size"),  # 675 and 290 rounds in one direction; 256 are packed together
    [("reversible_heun", 0.004), (Reversible(SOLVERS["rk4"]), 0.0093)],
    ids=["reversible_heun", "reversible rk4"],
)
def test_reversible_over_many_steps(solver, step_size):
    """More rounds than are packed together, and every series with its own number of them."""
    times = torch.tensor([[0.3, 3.0], [-0.5, -1.0], [0.1, math.nan]], dtype=torch.float64)
    found, truth = (
        gradients(gradient, times=times, solver=solver, step_size=step_size)
        for gradient in ("reversible", "backprop")
    )
    assert largest_difference(found, truth) < 1e-10


def test_steps_that_do_not_find_back_are_refused():
    y0 = torch.ones(1, 1, requires_grad=True)
    y = solve_ivp(lambda t, y: -y, y0, [0.0, 30.0], gradient="reversible", step_size=0.1, solver="rk4").y
    with pytest.raises(
        SolverError, match=r"could not be taken back.*use float64.*gradient='discrete_adjoint'"
    ):
        y[:, 1].sum().backward()


def test_reversible_refuses_a_method_that_it_cannot_wrap():
    class Other:
        error_order = 1

    with pytest.raises(
        ValueError, match="needs an explicit Runge-Kutta method or a reversible one; got Other"
    ):
        solve_ivp(Swirl(), Y0, TIMES, t0=0.0, solver=Other(), gradient="reversible")
