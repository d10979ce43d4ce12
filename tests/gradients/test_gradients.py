"""Gradients of a solve: finite differences, the matrix exponential, each other."""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import pytest
import torch
from engine_stubs import Swirl
from solver_groups import with_gradients
from tolerances import EXACT_GRADIENT, ROUNDING, ROUNDING_SINGLE
from torch.autograd import gradcheck, gradgradcheck

from latentode import solve_ivp
from latentode.gradients import GRADIENTS
from latentode.solvers import ADAMS, SOLVERS, Reversible

nan = math.nan
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS)
# exact for the computed solution; the continuous adjoint is so in the limit of small steps
EXACT = [name for name in GRADIENTS if name != "adjoint"]
# dense output with kinks between steps, where finite differences see the mean of both sides: no query time may lie
# there (at steps of 0.17 some do), nor at t0
KINKED = {"implicit_euler", "sdirk2", "radauIIA3", "radauIIA5", "explicit_adams", "implicit_adams"}

Y0 = [[0.4, -0.2], [1.0, 0.7], [-0.5, 0.3]]
T_EVAL = {
    "after": [[0.2, 0.55, 0.9], [0.1, 0.3, 0.8], [0.35, 0.6, 0.61]],
    "before": [[-0.2, -0.55, -0.9], [-0.1, -0.3, -0.8], [-0.35, -0.6, -0.61]],
    "both sides, unsorted, repeated": [[0.5, -0.3, 0.2], [0.3, 0.6, 0.3], [-0.2, -0.7, 0.4]],
    "ragged": [[0.5, nan, 0.2], [nan, nan, nan], [nan, -0.7, 0.4]],
    "at t0": [[0.1, 0.4, 0.1], [0.1, 0.1, 0.1], [-0.3, 0.1, 0.6]],
    "one": [[0.5], [-0.2], [0.1]],
    "none": [[], [], []],
}

EVERY_SOLVER = [*SOLVERS, Reversible(SOLVERS["dopri5"]), Reversible(SOLVERS["rk4"])]
# every solver at the query times that have most of what the others have, and each kind of them with each gradient; that
# the exact gradients of every other pair agree is seen below
CHECKED = [
    (where, solver, gradient)
    for where in T_EVAL
    for solver, gradient in with_gradients(SOLVERS)
    if (gradient == "discrete_adjoint" and (where.startswith("both") or solver in {"euler", "bosh3"}))
    or solver == "dopri5"
    or (where.startswith("both") and solver in {"tsit5", "dopri8"})
    or (where.startswith("both") and gradient in EXACT and solver in {"rk4", "bosh3", "kvaerno3", "gl4"})
]


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def solved(solver, gradient, field=None, step_size=0.17, **options):
    """The answers as a function of y0, t0, t_eval and the parameters; fixed steps, so that it is smooth."""
    field = Swirl() if field is None else field

    def answers(y0, t0, t_eval, *params):
        by_name = dict(zip(dict(field.named_parameters()), params))

        def functional(t, y):
            return torch.func.functional_call(field, by_name, (t, y))

        found = solve_ivp(
            functional,
            y0,
            t_eval,
            t0=t0,
            solver=solver,
            gradient=gradient,
            params=params,
            step_size=step_size,
            **options,
        )
        return found.y.nan_to_num(nan=0.0)

    params = [p.detach().clone().requires_grad_() for p in field.parameters()]
    return answers, params


@pytest.mark.parametrize(("where", "solver", "gradient"), CHECKED)
def test_against_finite_differences(where, solver, gradient):
    """With respect to y0, t0, every query time and the parameters.

    At a query time that equals t0 the derivative is the one of both sides: the field there.
    """
    answers, params = solved(solver, gradient, step_size=0.19 if solver in KINKED else 0.17)
    t_eval, t0 = double(T_EVAL[where]), double([0.07 if solver in KINKED else 0.1] * 3)
    inputs = (double(Y0).requires_grad_(), t0.requires_grad_(), t_eval.requires_grad_(), *params)
    if where == "ragged":  # finite differences of NaN say nothing: the gradient there must be 0
        asked = ~t_eval.detach().isnan()
        values = t_eval.detach()[asked].requires_grad_()
        place = torch.full_like(t_eval, nan).detach()

        def ragged(y0, t0, values, *params):
            return answers(y0, t0, place.masked_scatter(asked, values), *params)

        assert gradcheck(ragged, (inputs[0], inputs[1], values, *params), fast_mode=True)
    elif where == "at t0" and solver == "euler":  # a step of zero length and a short one differ in O(eps)
        assert gradcheck(answers, inputs, fast_mode=True, atol=1e-4)
    else:
        assert gradcheck(answers, inputs, fast_mode=True)


@pytest.mark.parametrize(  # Adams methods start anew at each query time, so that most of their steps are RK4's
    "solver", [name for name in SOLVERS if SOLVERS[name].order <= 4 and name not in ADAMS]
)
def test_the_adjoint_converges_to_the_exact_gradient_with_the_order_of_the_method(solver):
    """Of the parameters too, which are integrated by another formula than the state."""
    truth = gradients_of_squares("tsit5", "backprop", 0.02)
    steps = [0.04, 0.02] if SOLVERS[solver].order < 3 else [0.08, 0.04]
    coarse, fine = ((gradients_of_squares(solver, "adjoint", h) - truth).norm().item() for h in steps)
    assert math.log2(coarse / fine) > SOLVERS[solver].order - 0.3
    assert fine < 0.1


@cache
def gradients_of_squares(solver, gradient, step_size):
    """Of the sum of all answers' squares, with respect to everything, in one vector."""
    answers, params = solved(solver, gradient, step_size=step_size)
    y0, t0, t_eval = (double(x).requires_grad_() for x in (Y0, [0.1, 0.1, 0.1], T_EVAL["after"]))
    loss = answers(y0, t0, t_eval, *params).square().sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [y0, t0, t_eval, *params])])


@every_gradient
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)], ids=str)
def test_states_of_any_shape(shape, gradient):
    answers, params = solved("dopri5", gradient)
    y0 = torch.linspace(-1, 1, 2 * math.prod(shape), dtype=torch.float64).reshape(2, *shape)
    if shape == ():
        answers, params = solved("dopri5", gradient, field=Decay())
    t_eval = double([[0.2, 0.5], [-0.3, 0.4]])
    t0 = double([0.0, 0.1])
    assert gradcheck(
        answers, (y0.requires_grad_(), t0.requires_grad_(), t_eval.requires_grad_(), *params), fast_mode=True
    )


class Decay(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = torch.nn.Parameter(double(0.8))

    def forward(self, t, y):
        return -self.rate * (1 + t).reshape(-1, *[1] * (y.ndim - 1)) * y


@every_gradient
def test_query_times_that_are_the_start_move_together_with_it(gradient):
    """t0 left out: t0 is t_eval[:, 0], and the whole mesh moves with it."""
    field = Swirl()

    def answers(y0, t_eval):
        return solve_ivp(field, y0, t_eval, gradient=gradient, step_size=0.1).y

    t_eval = double([[0.0, 0.35, 0.7], [0.3, 0.0, -0.4], [0.1, 0.1, 0.5]])
    assert gradcheck(answers, (double(Y0).requires_grad_(), t_eval.requires_grad_()), fast_mode=True)


@every_gradient
@pytest.mark.parametrize("solver", ["dopri5", "tsit5"])
@pytest.mark.parametrize("t_query", [2.0, -1.0])
def test_linear_field_against_the_matrix_exponential(t_query, solver, gradient):
    """y(t) = exp(A (t - t0)) y0, differentiated by torch through the matrix exponential."""
    weight = double([[0.1, 1.3], [-1.0, 0.1]])

    def by_solver(a, y0, t0, t):
        times = torch.stack([t, (t + t0) / 2])  # a query inside the steps too
        options = {"rtol": 1e-10, "atol": 1e-10, "solver": solver, "gradient": gradient}
        return solve_ivp(lambda _, y: y @ a.T, y0[None], times[None], t0=t0[None], params=[a], **options).y[0]

    def by_exponential(a, y0, t0, t):
        return torch.stack([torch.matrix_exp(a * s) @ y0 for s in (t - t0, (t - t0) / 2)])

    inputs = (weight, double([1.0, -0.5]), double(0.3), double(t_query))
    cotangent = double([[1.0, -2.0], [0.5, 3.0]])
    found, expected = (
        torch.autograd.grad(function(*leaves), leaves, cotangent)
        for function, leaves in (
            (function, [x.clone().requires_grad_() for x in inputs])
            for function in (by_solver, by_exponential)
        )
    )
    for ours, truth in zip(found, expected):
        torch.testing.assert_close(ours, truth, rtol=EXACT_GRADIENT, atol=EXACT_GRADIENT)


def side_by_side(wheres):
    """y0, t0 and query times of these cases as one batch, with NaN where a series asks for fewer times than others."""
    t_eval = [row + [nan] * (3 - len(row)) for where in wheres for row in T_EVAL[where]]
    return double(Y0 * len(wheres)), double([0.1, 0.0, -0.1] * len(wheres)), double(t_eval)


ONE_OF_EACH_KIND = ["euler", "dopri5", "kvaerno3", "reversible_heun", "implicit_adams"]
TOGETHER = [  # a batch of all kinds of query times never solves in one direction alone: each kind by itself too
    *((solver, "all", torch.float64) for solver in EVERY_SOLVER),
    *((solver, "both sides, unsorted, repeated", torch.float32) for solver in EVERY_SOLVER),
    *product(ONE_OF_EACH_KIND, T_EVAL, [torch.float64]),
    *(
        pytest.param(solver, where, torch.float64, marks=pytest.mark.slow)
        for solver, where in product(EVERY_SOLVER, T_EVAL)
        if solver not in ONE_OF_EACH_KIND
    ),
]


@pytest.mark.parametrize(("solver", "where", "dtype"), TOGETHER, ids=str)
def test_all_exact_gradients_agree(solver, where, dtype):
    """`reversible` among them where it solves with the same method as the others."""
    if where == "all":
        y0, t0, t_eval = side_by_side(T_EVAL)
    else:
        y0, t0, t_eval = double(Y0).to(dtype), double([0.1, 0.0, -0.1]), double(T_EVAL[where])
    field = Swirl(dtype)
    method = SOLVERS.get(solver, solver)
    step_size = 0.15 if method.error_order is None else None
    found = []
    for gradient in EXACT if hasattr(method, "step_back") else ("backprop", "discrete_adjoint"):
        leaves = [x.clone().requires_grad_() for x in (y0, t0, t_eval)]
        y = solve_ivp(
            field, leaves[0], leaves[2], t0=leaves[1], solver=solver, gradient=gradient, step_size=step_size
        ).y
        loss = y.nan_to_num(nan=0.0).square().sum()
        found.append(
            [y.detach(), *torch.autograd.grad(loss, [*leaves, *field.parameters()], materialize_grads=True)]
        )
    tolerance = 10 * (ROUNDING if dtype == torch.float64 else ROUNDING_SINGLE)
    for others in found[1:]:
        for one, other in zip(found[0], others):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize(
    "gradient", [name for name in GRADIENTS if name not in ("backprop", "discrete_adjoint")]
)
@pytest.mark.parametrize("where", T_EVAL)
def test_each_agrees_with_backprop_at_tight_tolerance(where, gradient):
    """As steps go to zero all four have the same limit."""
    field, found = Swirl(), []
    for each in ("backprop", gradient):
        leaves = [x.requires_grad_() for x in (double(Y0), double([0.1, 0.0, -0.1]), double(T_EVAL[where]))]
        y = solve_ivp(field, leaves[0], leaves[2], t0=leaves[1], gradient=each, rtol=1e-9, atol=1e-9).y
        loss = y.nan_to_num(nan=0.0).square().sum()
        found.append(torch.autograd.grad(loss, [*leaves, *field.parameters()], materialize_grads=True))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=EXACT_GRADIENT, atol=EXACT_GRADIENT)


@every_gradient
def test_query_times_that_ask_nothing_have_no_gradient(gradient):
    t_eval = double(T_EVAL["ragged"]).requires_grad_()
    y = solve_ivp(Swirl(), double(Y0), t_eval, t0=0.1, gradient=gradient).y
    y[~y.isnan()].sum().backward()
    assert torch.equal(t_eval.grad != 0, ~t_eval.isnan())


@every_gradient
def test_frozen_parameters_get_none_and_change_nothing(gradient):
    field = Swirl()
    solve_ivp(field, double(Y0), [0.0, 0.5], gradient=gradient).y.sum().backward()
    of_turn = field.turn.grad
    field.zero_grad()
    field.pull.requires_grad_(False)
    solve_ivp(field, double(Y0), [0.0, 0.5], gradient=gradient).y.sum().backward()
    assert field.pull.grad is None
    torch.testing.assert_close(field.turn.grad, of_turn, rtol=ROUNDING, atol=0)


@every_gradient
def test_a_parameter_that_the_field_does_not_use_gets_none(gradient):
    field, unused = Swirl(), torch.ones(2, requires_grad=True)
    params = [*field.parameters(), unused]
    y0 = double(Y0).requires_grad_()
    solve_ivp(field, y0, [0.0, 0.5], gradient=gradient, params=params).y.sum().backward()
    assert unused.grad is None
    assert field.pull.grad.abs() > 0


@every_gradient
def test_a_field_without_parameters(gradient):
    y0 = double([[1.0], [2.0]]).requires_grad_()
    solve_ivp(lambda t, y: -y, y0, [0.0, 1.0], gradient=gradient, rtol=1e-10, atol=1e-10).y[
        :, 1
    ].sum().backward()
    torch.testing.assert_close(y0.grad, torch.full_like(y0, math.exp(-1)), rtol=EXACT_GRADIENT, atol=0)


@every_gradient
def test_a_field_that_knows_neither_time_nor_state(gradient):
    y0, t = double([[1.0], [2.0]]).requires_grad_(), double([0.0, 0.5, 1.5]).requires_grad_()
    y = solve_ivp(lambda t, y: torch.full_like(y, 3.0).detach(), y0, t, gradient=gradient).y
    of_y0, of_t = torch.autograd.grad(y[:, 1:].sum(), [y0, t])
    torch.testing.assert_close(of_y0, torch.full_like(y0, 2.0))
    torch.testing.assert_close(of_t, double([-12.0, 6.0, 6.0]))


@every_gradient
@pytest.mark.parametrize("as_method", [False, True], ids=["module", "bound method"])
def test_parameters_are_found_in_the_module(as_method, gradient):
    field = Swirl()
    solve_ivp(
        field.forward if as_method else field, double(Y0), [0.0, 0.5], gradient=gradient
    ).y.sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).all()) for p in field.parameters())


@every_gradient
def test_parameters_may_be_results_of_other_layers(gradient):
    """As in a hypernetwork: `params` that are no leaves."""
    source = double(0.5).requires_grad_()
    rate = torch.exp(source)
    y = solve_ivp(
        lambda t, y: -rate * y,
        double([[1.0]]),
        [0.0, 1.0],
        params=[rate],
        gradient=gradient,
        rtol=1e-10,
        atol=1e-10,
    ).y
    y[0, 1, 0].backward()
    k = math.exp(0.5)
    assert source.grad.item() == pytest.approx(-k * math.exp(-k), rel=EXACT_GRADIENT)


@every_gradient
def test_without_grad_there_is_no_graph(gradient):
    field = Swirl()
    with torch.no_grad():
        quiet = solve_ivp(field, double(Y0).requires_grad_(), [0.0, 0.5], gradient=gradient).y
    assert not quiet.requires_grad
    loud = solve_ivp(field, double(Y0), [0.0, 0.5], gradient=gradient).y
    assert loud.requires_grad
    torch.testing.assert_close(quiet, loud.detach(), rtol=ROUNDING, atol=ROUNDING)
    field.requires_grad_(False)
    assert not solve_ivp(field, double(Y0), [0.0, 0.5], gradient=gradient).y.requires_grad


def test_second_derivatives_through_backprop():
    answers, params = solved("dopri5", "backprop")
    inputs = (
        double(Y0[:1]).requires_grad_(),
        double([0.1]).requires_grad_(),
        double([[0.5, -0.2]]).requires_grad_(),
        *params,
    )
    assert gradgradcheck(answers, inputs)


@pytest.mark.parametrize("gradient", [name for name in GRADIENTS if name != "backprop"])
def test_second_derivatives_are_refused_by_the_others(gradient):
    y0 = double(Y0).requires_grad_()
    y = solve_ivp(Swirl(), y0, [0.0, 0.5], gradient=gradient).y
    with pytest.raises(RuntimeError, match=r"first derivatives only; .*solve with gradient='backprop'"):
        torch.autograd.grad(y.sum(), y0, create_graph=True)


@every_gradient
def test_backward_twice_gives_the_same(gradient):
    y0 = double(Y0).requires_grad_()
    y = solve_ivp(Swirl(), y0, [0.0, 0.5], gradient=gradient).y.sum()
    first = torch.autograd.grad(y, y0, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(y, y0)[0])


@every_gradient
def test_a_parameter_changed_in_place_before_backward_is_noticed(gradient):
    field = Swirl()
    loss = solve_ivp(field, double(Y0), [0.0, 0.5], gradient=gradient).y.sum()
    with torch.no_grad():
        field.pull.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("solver", ["euler", "dopri5"])
@pytest.mark.parametrize("shape", ["shared", "summed"])
def test_parameters_that_share_a_gradient_are_not_counted_twice(solver, shape):
    """Autograd may hand out one tensor for two parameters, or an expanded one."""
    options = {"step_size": 0.1} if solver == "euler" else {}
    found = []
    for gradient in GRADIENTS:
        a = torch.ones(2, dtype=torch.float64, requires_grad=True)
        b = torch.full((2,), 0.5, dtype=torch.float64, requires_grad=True)

        def field(t, y, a=a, b=b):
            return a + b - y if shape == "shared" else (a + b).sum() - y

        y0 = torch.zeros(3, 2, dtype=torch.float64)
        solution = solve_ivp(
            field, y0, [0.0, 1.0], solver=solver, params=[a, b], gradient=gradient, **options
        )
        solution.y.sum().backward()
        found.append(torch.stack([a.grad, b.grad]))
    torch.testing.assert_close(found[0], found[1])
