"""The door of the engine: what `solve_ivp` takes, and what it says about what it does not take."""

from __future__ import annotations

import math
import re

import pytest
import torch
from engine_stubs import Script, Swirl
from tolerances import ROUNDING
from torch import nn

import latentode
from latentode import solve_ivp
from latentode.gradients import GRADIENTS, backprop, discrete_adjoint
from latentode.solvers import CONTROLLERS, SOLVERS, FixedStep, PIController

nan = float("nan")
Y0 = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=torch.float64)


def decay(t, y):
    return -y


def refused(message, error=ValueError):
    return pytest.raises(error, match=re.escape(message))


def test_it_is_the_packages_own():
    assert latentode.solve_ivp is solve_ivp


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_name_or_an_object(solver):
    by_name = solve_ivp(decay, Y0, [0.0, 1.0], solver=solver, step_size=0.1)
    by_object = solve_ivp(decay, Y0, [0.0, 1.0], solver=SOLVERS[solver], step_size=0.1)
    assert torch.equal(by_name.y, by_object.y)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_gradient_or_its_name(gradient):
    by_name = solve_ivp(decay, Y0, [0.0, 1.0], gradient=gradient)
    by_object = solve_ivp(decay, Y0, [0.0, 1.0], gradient=GRADIENTS[gradient])
    assert torch.equal(by_name.y, by_object.y)


@pytest.mark.parametrize("solver", SOLVERS)
def test_step_size_means_fixed_steps_for_every_solver(solver):
    assert (
        solve_ivp(decay, Y0, [0.0, 1.0], solver=solver, step_size=0.25).stats["n_steps"].tolist() == [4] * 3
    )


def test_a_controller_overrides_tolerances_and_step_size():
    script = Script(accept=[True], h=[0.5])
    solution = solve_ivp(decay, Y0, [0.0, 1.0], controller=script, rtol=-1.0, step_size=0.01)
    assert solution.stats["n_steps"].tolist() == [2] * 3
    controlled = solve_ivp(decay, Y0, [0.0, 1.0], controller=PIController(1e-9, 1e-9, order=5))
    assert torch.equal(controlled.y, solve_ivp(decay, Y0, [0.0, 1.0], rtol=1e-9, atol=1e-9).y)
    assert solve_ivp(decay, Y0, [0.0, 1.0], controller=FixedStep(0.5)).stats["n_steps"].tolist() == [2] * 3


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controller_by_its_name(name):
    options = {"initial_step": 0.1, "min_step": 0.01, "max_step": 0.2}
    by_object = CONTROLLERS[name](1e-6, 1e-6, order=5, **options)
    one = solve_ivp(Swirl(), Y0, [0.0, 2.0], controller=by_object)
    options["first_step"] = options.pop("initial_step")
    other = solve_ivp(Swirl(), Y0, [0.0, 2.0], controller=name, rtol=1e-6, atol=1e-6, **options)
    assert torch.equal(one.y, other.y)
    assert torch.equal(one.stats["n_steps"], other.stats["n_steps"])
    with refused("unknown controller 'pie' (did you mean 'pi'?): expected one of 'i', 'pi', 'pid'"):
        solve_ivp(decay, Y0, [0.0, 1.0], controller="pie")


@pytest.mark.parametrize("option", [{"first_step": 0.1}, {"min_step": 0.1}, {"max_step": 0.1}], ids=str)
@pytest.mark.parametrize("fixed", [{"step_size": 0.1}, {"controller": FixedStep(0.1)}], ids=str)
def test_bounds_of_adaptive_steps_do_not_go_with_fixed_ones(option, fixed):
    with refused(
        "first_step, min_step and max_step are for adaptive steps: leave them out beside step_size="
    ):
        solve_ivp(decay, Y0, [0.0, 1.0], **option, **fixed)


def test_tighter_tolerances_take_more_steps():
    loose, tight = (
        solve_ivp(Swirl(), Y0, [0.0, 5.0], rtol=tol, atol=tol).stats["n_steps"] for tol in (1e-3, 1e-9)
    )
    assert bool((tight > 2 * loose).all())


# --- states


@pytest.mark.parametrize("y0", [1.0, [[1.0]], None], ids=str)
def test_a_state_must_be_a_tensor(y0):
    with refused(
        f"y0 must be a torch.Tensor (N, *state) or a tuple of such tensors; got {type(y0).__name__}: "
        "use torch.as_tensor(y0)",
        TypeError,
    ):
        solve_ivp(decay, y0, [0.0, 1.0])


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
def test_a_state_must_be_floating_point(dtype):
    with refused(f"y0 must be floating point; got {dtype}: use y0.float() or y0.double()"):
        solve_ivp(decay, torch.ones(2, 1, dtype=dtype), [0.0, 1.0])


def test_a_state_must_have_a_series_axis():
    with refused("y0 must have shape (N, *state) with the series first; got a scalar: use y0.reshape(1, 1)"):
        solve_ivp(decay, torch.tensor(1.0), [0.0, 1.0])


# --- times


@pytest.mark.parametrize("shape", [(), (2, 4), (3, 4, 1)], ids=str)
def test_query_times_of_a_wrong_shape(shape):
    with refused(f"t_eval must have shape (T,) or (N, T) with N = 3 (the length of y0); got {shape}"):
        solve_ivp(decay, Y0, torch.zeros(shape))


@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
def test_infinite_query_times(value):
    with refused("t_eval must be finite (NaN asks nothing); got an infinite query time"):
        solve_ivp(decay, Y0, [0.0, value])


def test_no_query_times_need_a_start():
    with refused("t_eval is empty: pass at least one query time, or t0="):
        solve_ivp(decay, Y0, [])


@pytest.mark.parametrize("t_eval", [[nan, 1.0], [[0.0, 1.0], [nan, 2.0], [0.0, 1.0]]], ids=str)
def test_a_start_that_nobody_tells(t_eval):
    with refused("t0 is needed where a series has no first query time: pass t0="):
        solve_ivp(decay, Y0, t_eval)


@pytest.mark.parametrize("shape", [(2,), (3, 1)], ids=str)
def test_initial_times_of_a_wrong_shape(shape):
    with refused(f"t0 must be a scalar or have shape (N,) with N = 3; got {shape}"):
        solve_ivp(decay, Y0, [0.0, 1.0], t0=torch.zeros(shape))


@pytest.mark.parametrize("t0", [nan, float("inf"), [0.0, nan, 1.0]], ids=str)
def test_initial_times_that_are_not_finite(t0):
    with refused("t0 must be finite"):
        solve_ivp(decay, Y0, [0.0, 1.0], t0=t0)


# --- options


@pytest.mark.parametrize("max_steps", [0, -1, 2.0, None])
def test_max_steps_counts(max_steps):
    with refused(f"max_steps must be a positive int; got {max_steps!r}"):
        solve_ivp(decay, Y0, [0.0, 1.0], max_steps=max_steps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "dopry5"}, "unknown solver 'dopry5' (did you mean 'dopri5'?): expected one of 'euler', "),
        ({"solver": "xyz"}, "unknown solver 'xyz': expected one of 'euler', "),
        (
            {"gradient": "backprob"},
            "unknown gradient 'backprob' (did you mean 'backprop'?): expected one of ",
        ),
    ],
)
def test_unknown_names(options, message):
    with refused(message):
        solve_ivp(decay, Y0, [0.0, 1.0], **options)


@pytest.mark.parametrize("solver", [name for name in SOLVERS if SOLVERS[name].error_order is None])
def test_a_solver_without_an_error_estimate_needs_a_step_size(solver):
    adaptive = [name for name in SOLVERS if SOLVERS[name].error_order is not None]
    with refused(
        f"solver {solver!r} has no error estimate and needs step_size=; adaptive solvers are {adaptive}"
    ):
        solve_ivp(decay, Y0, [0.0, 1.0], solver=solver)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": -0.1}, "step_size must be positive; got -0.1"),
        ({"rtol": -0.1}, "rtol must be non-negative; got -0.1"),
        ({"rtol": 0.0, "atol": 0.0}, "rtol and atol are both 0"),
    ],
)
def test_tolerances_and_step_sizes_that_make_no_sense(options, message):
    with refused(message):
        solve_ivp(decay, Y0, [0.0, 1.0], **options)


# --- fields


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(
    ("field", "got"),
    [
        (lambda t, y: y[:, 0], "(2,) torch.float64"),
        (lambda t, y: y.float(), "(2, 2) torch.float32"),
        (lambda t, y: y[:, :1], "(2, 1) torch.float64"),
        (lambda t, y: torch.ones(1, 2, dtype=torch.float64), "(1, 2) torch.float64"),
        (lambda t, y: (y,), "tuple"),
        (lambda t, y: y.numpy(), "ndarray"),
        (lambda t, y: None, "NoneType"),
    ],
    ids=["axis lost", "dtype", "too few", "one row for all", "tuple", "numpy", "nothing"],
)
def test_a_field_that_answers_in_another_shape(field, got, gradient):
    with refused(
        "field(t, y) must return dy/dt like y; for y of shape (2, 2) torch.float64 it returned " + got
    ):
        solve_ivp(field, Y0, [0.0, 1.0], gradient=gradient)


def test_a_field_on_another_device():
    with refused("y0 is on cpu but the field answers on meta: move one of them"):
        solve_ivp(lambda t, y: torch.empty_like(y, device="meta"), Y0, [0.0, 1.0])


FORGOTTEN = (
    "the field uses a tensor of shape (2,) that requires a gradient and is none of its parameters: "
    "pass params=(...), make the field an nn.Module that owns it, or use gradient='backprop'"
)


class Outer(nn.Module):
    """Owns one weight, and uses another that it does not own."""

    def __init__(self, captured):
        super().__init__()
        self.rate = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.captured = (captured,)

    def forward(self, t, y):
        return -y * self.rate * self.captured[0].exp()


@pytest.mark.parametrize("gradient", ["discrete_adjoint", discrete_adjoint])
def test_a_captured_tensor_would_get_no_gradient(gradient):
    captured = torch.ones(2, dtype=torch.float64, requires_grad=True)
    for field in (lambda t, y: captured * y, lambda t, y: (2 * captured).sin() * y, Outer(captured)):
        with refused(FORGOTTEN):
            solve_ivp(field, Y0, [0.0, 1.0], gradient=gradient)


@pytest.mark.parametrize("gradient", ["backprop", backprop])
def test_backprop_reaches_captured_tensors(gradient):
    captured = torch.ones(2, dtype=torch.float64, requires_grad=True)
    solve_ivp(lambda t, y: -captured * y, Y0, [0.0, 1.0], gradient=gradient, rtol=1e-9).y[
        :, 1
    ].sum().backward()
    torch.testing.assert_close(
        captured.grad, -Y0.sum(0) * torch.exp(torch.tensor(-1.0).double()), rtol=1e-5, atol=0
    )


def test_a_captured_tensor_is_fine_when_it_is_named_or_nobody_differentiates():
    captured = torch.ones(2, dtype=torch.float64, requires_grad=True)
    field = Outer(captured)
    solve_ivp(field, Y0, [0.0, 1.0], params=[*field.parameters(), captured]).y.sum().backward()
    torch.testing.assert_close(field.rate.grad, captured.grad, rtol=ROUNDING, atol=0)
    with torch.no_grad():
        assert not solve_ivp(field, Y0, [0.0, 1.0]).y.requires_grad


def test_the_series_that_requires_a_gradient_is_not_taken_for_a_captured_one():
    y0 = Y0.clone().requires_grad_()
    t0 = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    solve_ivp(lambda t, y: -y * (1 + t[:, None]), y0, [0.0, 1.0], t0=t0).y.sum().backward()
    assert y0.grad is not None
    assert t0.grad is not None


def test_the_docstring_names_every_solver():
    adaptive, fixed = solve_ivp.__doc__.split("With steps of `step_size`")
    for name, method in SOLVERS.items():
        assert f'"{name}"' in (fixed if method.error_order is None else adaptive), name


class Pulse:
    """dy/dt = -y + strength in [3, 3.01): steps of usual size pass over it."""

    def __init__(self, strength: torch.Tensor) -> None:
        self.strength = strength

    def __call__(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        on = (t >= 3.0) & (t < 3.01)
        return -y + torch.where(on, self.strength, torch.zeros_like(self.strength))[:, None]


class KnownPulse(Pulse):
    def largest_step(self, t: torch.Tensor, y: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        edges = t.new_tensor([3.0, 3.01, torch.inf])
        ahead = (edges - t[:, None]).masked_fill(edges <= t[:, None] + 1e-9, torch.inf).amin(dim=1)
        behind = (t[:, None] - edges[:2]).masked_fill(edges[:2] >= t[:, None] - 1e-9, torch.inf).amin(dim=1)
        return torch.where(direction > 0, ahead, behind)


@pytest.mark.parametrize("gradient", ["discrete_adjoint", "backprop", "adjoint", "reversible"])
def test_a_field_may_limit_the_steps(gradient):
    """y(6) and its derivative with respect to the strength, in closed form."""
    strength = torch.tensor(50.0, dtype=torch.float64, requires_grad=True)
    y0 = torch.ones(2, 1, dtype=torch.float64)
    arguments = {"rtol": 1e-6, "atol": 1e-6, "gradient": gradient, "params": [strength]}
    found = solve_ivp(KnownPulse(strength), y0, [0.0, 6.0], **arguments).y[:, -1, 0]
    response = math.exp(-2.99) - math.exp(-3.0)
    assert found.tolist() == pytest.approx([math.exp(-6.0) + 50 * response] * 2, rel=2e-2)
    found.sum().backward()
    # the edges belong to one of two steps: an error of the size of one stage's weight, here below 2 %
    assert float(strength.grad) == pytest.approx(2 * response, rel=2e-2)
    missed = solve_ivp(Pulse(strength), y0, [0.0, 6.0], **arguments).y[:, -1, 0]
    assert float(missed.detach().max()) < 2 * math.exp(-6.0)  # without the limit the pulse is not seen at all


def test_a_step_that_was_held_back_says_nothing_against_longer_ones():
    """After a short step to an edge the size from before comes back at once."""

    class Edged:
        def __call__(self, t, y):
            return torch.zeros_like(y)

        def largest_step(self, t, y, direction):
            return torch.where(t < 3.0, 3.0 - t, torch.inf).clamp(min=1e-9)

    y0 = torch.ones(1, 1, dtype=torch.float64)
    free = solve_ivp(lambda t, y: torch.zeros_like(y), y0, [0.0, 1e3]).stats["n_steps"]
    held = solve_ivp(Edged(), y0, [0.0, 1e3]).stats["n_steps"]
    assert int(held) <= int(free) + 2
