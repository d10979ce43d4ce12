"""What callers get wrong: it is refused in words that repair it, and gives no wrong numbers."""

from __future__ import annotations

import math

import pytest
import torch
from test_complaints import IN_TORCH_FUNC, TIGHTLY, Relaxation, double
from tolerances import EXACT_GRADIENT

from latentode import solve_ivp
from latentode.gradients import GRADIENTS

every_gradient = pytest.mark.parametrize("gradient", GRADIENTS)


def rotation(t, y):
    return torch.stack([y[:, 1], -y[:, 0]], dim=1)


@pytest.mark.parametrize(
    "field",
    [
        lambda t, y: torch.stack([y[1], -y[0]]),
        lambda t, y: -t * y,
        lambda t, y: -y * y.sum(),
        lambda t, y: torch.softmax(y, dim=0),
    ],
    ids=["no batch axis", "time along the state", "sum over all", "softmax over series"],
)
def test_a_field_that_mixes_series_is_refused(field):
    y0 = double([[2.0, 0.5], [1.0, 3.0]])
    with pytest.raises(
        ValueError, match=r"treat every series by itself; .* alone it (returned|raised) .* y\[:, 0\]"
    ):
        solve_ivp(field, y0, [[0.1, 1.0], [0.2, 1.0]])


def test_a_field_with_noise_is_let_through():
    torch.manual_seed(0)
    field = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))
    with torch.no_grad():
        solve_ivp(lambda t, y: field(y), torch.ones(3, 2), [0.0, 1.0], solver="euler", step_size=0.1)


def test_errors_inside_the_field_say_how_it_was_called():
    k = double([[1.0], [2.0], [3.0]])
    with pytest.raises(RuntimeError) as caught:
        solve_ivp(lambda t, y: -k * y, torch.ones(3, 1, dtype=torch.float64), [0.0, 1.0])
    (note,) = caught.value.__notes__
    assert "with t (2,) and y (2, 1), torch.float64: 2 of the 3 series" in note
    assert "one more part of a tuple with derivative 0" in note
    with pytest.raises(IndexError) as caught:
        solve_ivp(lambda t, y: torch.stack([y[:, 1], -y[:, 0]]), double([1.0, 1.0]), [0.0, 1.0])
    assert "one series of 2 is y0[None]" in caught.value.__notes__[0]


def test_a_field_that_changes_y_in_place_is_refused():
    y0 = double([[1.0], [2.0]])
    with pytest.raises(ValueError, match="changes y in place: return a new tensor"):
        solve_ivp(lambda t, y: y.mul_(-1), y0, [0.0, 1.0])
    assert y0.tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize("gradient", [g for g in GRADIENTS if g != "backprop"])
def test_a_tensor_computed_outside_the_field_is_named(gradient):
    log = double(0.0).requires_grad_()
    k = log.exp()
    with pytest.raises(
        ValueError, match=r"computed outside of it .*: compute it inside the field, pass it as"
    ):
        solve_ivp(lambda t, y: -k * y, double([[1.0]]), [0.0, 1.0], params=[log], gradient=gradient)
    y = solve_ivp(
        lambda t, y: -k * y, double([[1.0]]), [0.0, 1.0], params=[k], gradient=gradient, **TIGHTLY
    ).y
    y[0, 1, 0].backward()
    assert log.grad.item() == pytest.approx(-math.exp(-1), rel=EXACT_GRADIENT)


@every_gradient
@pytest.mark.parametrize("form", ["twice", "one", "module"])
def test_params_in_every_form_count_once(form, gradient):
    field = Relaxation(dtype=torch.float64)
    params = {"twice": [field.k, field.k], "one": field.k, "module": field}[form]

    def function(t, y):
        return field(t, y)

    y0 = torch.ones(1, 1, dtype=torch.float64)
    solve_ivp(function, y0, [0.0, 2.0], params=params, gradient=gradient, **TIGHTLY).y[0, 1, 0].backward()
    assert field.k.grad.item() == pytest.approx(-2 * math.exp(-1), rel=1e-4)


@pytest.mark.parametrize("params", [[1.0], {"k": 1.0}, [("k", torch.ones(1))]], ids=str)
def test_params_that_are_no_tensors_are_refused(params):
    with pytest.raises(TypeError, match=r"params must be tensors, .* got a (float|str|tuple) among them"):
        solve_ivp(lambda t, y: -y, double([[1.0]]), [0.0, 1.0], params=params)


@pytest.mark.parametrize("t_eval", [[[0.0, 1.0], [0.0, 1.0, 2.0]], "soon", None], ids=str)
def test_times_that_are_no_table_of_numbers(t_eval):
    with pytest.raises(ValueError, match="pad shorter rows with NaN, and turn dates into numbers; got"):
        solve_ivp(rotation, double([[1.0, 0.0], [0.0, 1.0]]), t_eval)


@pytest.mark.parametrize("solver", ["heun3", "radauIIA5", "kvaerno5", "implicit_adams"])
def test_inference_mode_leaves_nothing_behind(solver):
    options = IN_TORCH_FUNC.get(solver, {"step_size": 0.05} if solver != "kvaerno5" else {})
    y0 = torch.ones(1, 1, dtype=torch.float64)
    with torch.inference_mode():
        quiet = solve_ivp(
            lambda t, y: -1000 * (y - 1),
            2 * y0,
            [0.0, 1e-3 if solver == "heun3" else 1.0],
            solver=solver,
            **(options | ({"step_size": 1e-4} if solver == "heun3" else {})),
        )
        if solver != "implicit_adams":
            assert quiet.y[0, 1, 0].item() == pytest.approx(1.0, abs=0.4)
            assert int(quiet.stats["n_steps"].max()) < 100
    y0.requires_grad_()
    solve_ivp(lambda t, y: -y, y0, [0.0, 1.0], solver=solver, **options).y[0, 1, 0].backward()
    assert y0.grad.item() == pytest.approx(math.exp(-1), rel=0.01)


@pytest.mark.parametrize("where", [0.0, 0.5])
def test_an_event_that_is_nan_is_no_event(where):
    with pytest.raises(ValueError, match=r"event function returned NaN at t=.*: it must have a sign"):
        solve_ivp(
            lambda t, y: -y,
            double([[1.0]]),
            [0.0, 1.0],
            event=lambda t, y: torch.where(t >= where, math.nan, 1.0),
        )


def test_events_inside_torch_func_are_refused():
    def time(y0):
        found = solve_ivp(
            lambda t, y: -y, y0[None], [0.0, 2.0], gradient="backprop", event=lambda t, y: y[:, 0] - 0.5
        )
        return found.event_times.sum()

    with pytest.raises(RuntimeError, match=r"events do not work inside the transforms of torch\.func: "):
        torch.func.grad(time)(double([1.0]))


@every_gradient
def test_an_event_lies_on_the_solution_that_is_differentiated(gradient):
    """With steps as long as these the solutions of different gradients differ by more than Newton's step mends."""
    k = double(1.0).requires_grad_()
    found = solve_ivp(
        lambda t, y: -k * y,
        double([[1.0]]),
        [0.0, 1.0],
        solver="euler",
        step_size=0.1,
        gradient=gradient,
        params=[k],
        event=lambda t, y: y[:, 0] - 0.5,
    )
    assert found.event_states.item() == pytest.approx(0.5, abs=2e-3)


def test_the_reversible_gradient_of_a_solution_that_returns_to_zero():
    """Its digits are those of the largest state on the way, not of both ends; a lost neighbour does not count."""
    y0 = double([[0.0], [1.0]]).requires_grad_()
    rates = double([[0.0], [8.0]])
    found = solve_ivp(
        lambda t, y: (torch.cos(t)[:, None] - y[1] * y[0], 0 * y[1]),
        (y0, rates),
        [0.0, 2 * math.pi],
        solver="rk4",
        step_size=2 * math.pi / 400,
        gradient="reversible",
    )
    found.y[0][0].sum().backward()
    assert y0.grad.flatten().tolist() == pytest.approx([2.0, 0.0])


def test_half_precision_is_refused_where_torch_cannot_factorise():
    with pytest.raises(
        ValueError, match=r"needs float32 or float64 states; got torch\.float16: use y0\.float"
    ):
        solve_ivp(lambda t, y: -y, torch.ones(1, 1, dtype=torch.float16), [0.0, 1.0], solver="kvaerno3")


def test_a_controller_beside_fixed_steps_is_refused():
    with pytest.raises(ValueError, match="controller='pid' chooses steps and step_size= fixes them"):
        solve_ivp(lambda t, y: -y, double([[1.0]]), [0.0, 1.0], controller="pid", step_size=0.1)


@pytest.mark.parametrize("name", ["solver", "gradient"])
def test_what_is_neither_name_nor_object_is_refused(name):
    with pytest.raises(TypeError, match=f"{name} must be a name, one of .*, or an object; got None"):
        solve_ivp(lambda t, y: -y, double([[1.0]]), [0.0, 1.0], **{name: None})


def evaluations_of_the_check(field, seen, **options):
    seen.clear()
    y0 = torch.ones(3, 1, dtype=torch.float64)
    solution = solve_ivp(field, y0, [0.0, 1.0], solver="rk4", step_size=0.5, **options)
    return sum(seen) - int(solution.stats["n_evals"].sum())


def test_answers_of_a_module_are_tried_once_and_its_graph_in_every_solve():
    field, seen = Relaxation(dtype=torch.float64), []
    field.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    by_graph = [evaluations_of_the_check(field, seen, gradient="backprop") for _ in range(2)]
    exact = [evaluations_of_the_check(field, seen) for _ in range(2)]
    assert (by_graph, exact) == ([3, 0], [2, 2])


@pytest.mark.parametrize("gradient", [g for g in GRADIENTS if g != "backprop"])
def test_a_module_that_begins_to_use_another_tensor_is_refused(gradient):
    """Its derivative would be missing without a word."""
    field = Relaxation(dtype=torch.float64)
    y0 = torch.ones(3, 1, dtype=torch.float64)
    solve_ivp(field, y0, [0.0, 1.0], gradient=gradient)
    field.sign = torch.ones(1, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match=r"none of its parameters: pass params=\(\.\.\.\)"):
        solve_ivp(field, y0, [0.0, 1.0], gradient=gradient)


@every_gradient
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("size", [0, 1])
def test_gradients_of_states_without_numbers_and_of_short_ones(size, dtype, gradient):
    y0 = torch.ones(2, size, dtype=dtype, requires_grad=True)
    y = solve_ivp(lambda t, y: -y, y0, [0.0, 1.0], gradient=gradient, solver="rk4", step_size=0.25).y
    y[:, 1].sum().backward()
    torch.testing.assert_close(y0.grad.float(), torch.full((2, size), math.exp(-1)), rtol=0.05, atol=0)
