"""What users of other solvers complain about most, each as one test."""

from __future__ import annotations

import math

import pytest
import torch
from engine_stubs import Swirl
from tolerances import EXACT_GRADIENT, ROUNDING, TIGHT
from torch import nn

from latentode import solve_ivp
from latentode.exceptions import SolverError
from latentode.gradients import GRADIENTS
from latentode.solvers import Status

every_gradient = pytest.mark.parametrize("gradient", GRADIENTS)
nan = math.nan
TIGHTLY = {"rtol": 1e-10, "atol": 1e-10}


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def decay(t, y):
    return -y


class Relaxation(nn.Module):
    """y' = -k y with one parameter: y = y0 exp(-k t), dy/dk = -t y."""

    def __init__(self, k: float = 0.5, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(k, dtype=dtype))
        self.register_buffer("sign", torch.tensor(-1.0, dtype=dtype))

    def forward(self, t, y):
        return self.sign * self.k * y


# --- solves that fail


def test_underflow_in_dt_is_a_status_with_its_repair_and_no_assertion():
    """A solution that runs away at t = 1 beside one that does not."""
    y0 = double([[1.0], [-1.0]])
    found = solve_ivp(lambda t, y: y**2, y0, [0.0, 0.5, 2.0], throw=False, **TIGHTLY)
    assert found.status.tolist() == [Status.STEP_UNDERFLOW, Status.SUCCESS]
    assert found.y[0, 2].isnan().all()
    assert found.t_reached.tolist() == pytest.approx([1.0, 2.0], abs=1e-3)
    torch.testing.assert_close(found.y[1, :, 0], double([-1.0, -1 / 1.5, -1 / 3]), rtol=TIGHT, atol=0)
    with pytest.raises(
        SolverError, match=r"series 0 could not .* t=1 \[STEP_UNDERFLOW\]: .*: loosen rtol and atol"
    ):
        found.raise_for_status()


def test_a_solve_that_would_never_end():
    with pytest.raises(
        SolverError, match=r"\[MAX_STEPS\]: .*raise max_steps or loosen rtol and atol .*'kvaerno5', if"
    ):
        solve_ivp(
            lambda t, y: torch.cos(1e6 * t)[:, None] + 0 * y, double([[0.0]]), [0.0, 1e3], max_steps=100
        )


def test_nan_in_y0_is_named_and_leaves_the_others_alone():
    y0 = double([[1.0], [nan], [2.0]])
    found = solve_ivp(decay, y0, [0.0, 1.0], throw=False, **TIGHTLY)
    assert found.status.tolist() == [0, Status.NON_FINITE, 0]
    torch.testing.assert_close(found.y[::2, 1], y0[::2] * math.exp(-1), rtol=TIGHT, atol=0)
    with pytest.raises(SolverError, match=r"series 1 .* t=0 \[NON_FINITE\]: .*check y0"):
        found.raise_for_status()


# --- times


def test_different_times_per_sample():
    t_eval = double([[0.0, 0.3, 0.9], [1.0, 5.0, nan], [-2.0, -2.5, -1.0]])
    found = solve_ivp(decay, double([[1.0], [2.0], [3.0]]), t_eval, **TIGHTLY)
    truth = double([[1.0], [2.0], [3.0]]) * torch.exp(t_eval[:, :1] - t_eval)
    torch.testing.assert_close(found.y[..., 0], truth, rtol=TIGHT, atol=TIGHT, equal_nan=True)


@pytest.mark.parametrize("start", [4321.0, 1.6e9])
def test_t_in_the_thousands_with_a_float32_state(start):
    """In float32 a time of 1.6e9 could not move by less than 128: the clock is float64, whatever the state is."""
    y0 = torch.tensor([[1.0]])
    found = solve_ivp(decay, y0, [start, start + 0.25, start + 2.0], rtol=1e-6, atol=1e-6)
    expected = torch.exp(torch.tensor([0.0, -0.25, -2.0]))
    torch.testing.assert_close(found.y[0, :, 0], expected, rtol=1e-5, atol=1e-5)


def test_long_spans():
    """A hundred turns: the error grows with their number, not faster."""
    turn = double([[0.0, -1.0], [1.0, 0.0]])
    span = 2 * math.pi * 100
    found = solve_ivp(
        lambda t, y: y @ turn.T,
        double([[1.0, 0.0]]),
        [0.0, span],
        solver="dopri8",
        max_steps=100_000,
        **TIGHTLY,
    )
    torch.testing.assert_close(found.y[0, 1], double([1.0, 0.0]), rtol=0, atol=1e-10 * span)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float16, torch.float32], ids=str)
def test_integer_or_short_float_times(dtype):
    t_eval = torch.tensor([0, 1, 2], dtype=dtype)
    found = solve_ivp(decay, double([[1.0]]), t_eval, **TIGHTLY)
    assert found.t.dtype == torch.float64
    torch.testing.assert_close(found.y[0, :, 0], torch.exp(-t_eval.double()), rtol=TIGHT, atol=0)


# --- fields


@pytest.mark.parametrize(
    ("field", "got"),
    [
        (lambda t, y: y.sum(dim=1), r"\(2,\) torch\.float64"),
        (lambda t, y: y[:, :1], r"\(2, 1\) torch\.float64"),
        (lambda t, y: y.float(), r"\(2, 2\) torch\.float32"),
    ],
    ids=["axis lost", "too narrow", "dtype"],
)
def test_a_field_of_the_wrong_shape_or_dtype(field, got):
    with pytest.raises(
        ValueError, match=rf"like y; for y of shape \(2, 2\) torch\.float64 it returned {got}"
    ):
        solve_ivp(field, torch.ones(3, 2, dtype=torch.float64), [0.0, 1.0])


def test_y0_on_another_device():
    weight = torch.ones(2, 2, device="meta")
    with pytest.raises(ValueError, match="y0 is on cpu but the field answers on meta: move one of them"):
        solve_ivp(lambda t, y: torch.empty_like(weight), torch.ones(2, 2), [0.0, 1.0])


# --- gradients


@every_gradient
def test_gradients_are_neither_wrong_nor_zero(gradient):
    """Of y(t) = y0 exp(-k t): with respect to k, y0 and t."""
    field, y0 = Relaxation(), double([[1.0], [2.0]]).requires_grad_()
    t_eval = double([0.0, 0.7, 2.0]).requires_grad_()
    y = solve_ivp(field, y0, t_eval, gradient=gradient, **TIGHTLY).y
    of_k, of_y0, of_t = torch.autograd.grad(y[:, 1:].sum(), [field.k, y0, t_eval])
    falls = torch.exp(-0.5 * t_eval.detach()[1:])
    torch.testing.assert_close(of_k, -3.0 * (t_eval.detach()[1:] * falls).sum(), rtol=EXACT_GRADIENT, atol=0)
    torch.testing.assert_close(of_y0, falls.sum().expand(2, 1), rtol=EXACT_GRADIENT, atol=0)
    expected = -0.5 * 3.0 * torch.cat([-falls.sum()[None], falls])
    torch.testing.assert_close(of_t, expected, rtol=EXACT_GRADIENT, atol=0)


@every_gradient
def test_a_field_without_parameters(gradient):
    y0 = double([[1.0]]).requires_grad_()
    solve_ivp(decay, y0, [0.0, 1.0], gradient=gradient, **TIGHTLY).y[0, 1, 0].backward()
    assert y0.grad.item() == pytest.approx(math.exp(-1), rel=EXACT_GRADIENT)


@every_gradient
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_field_with_buffers_and_frozen_parameters(dtype, gradient):
    class Both(Relaxation):
        def __init__(self) -> None:
            super().__init__(dtype=dtype)
            self.frozen = nn.Parameter(torch.tensor(2.0, dtype=dtype), requires_grad=False)

        def forward(self, t, y):
            return self.frozen * super().forward(t, y)

    field, y0 = Both(), torch.ones(1, 1, dtype=dtype)
    tolerances = TIGHTLY if dtype == torch.float64 else {"rtol": 1e-6, "atol": 1e-6}
    solve_ivp(field, y0, [0.0, 1.0], gradient=gradient, **tolerances).y[0, 1, 0].backward()
    assert field.frozen.grad is None
    assert field.sign.grad is None
    assert field.k.grad.dtype == dtype
    exactness = EXACT_GRADIENT if dtype == torch.float64 else 1e-4
    assert field.k.grad.item() == pytest.approx(-2 * math.exp(-1), rel=exactness)


@every_gradient
def test_no_grad_leaves_no_graph_and_the_same_numbers(gradient):
    field, y0 = Swirl(), double([[0.4, -0.2]]).requires_grad_()
    loud = solve_ivp(field, y0, [0.0, 1.0], gradient=gradient).y
    with torch.no_grad():
        quiet = solve_ivp(field, y0, [0.0, 1.0], gradient=gradient).y
    assert loud.requires_grad
    assert not quiet.requires_grad
    torch.testing.assert_close(loud.detach(), quiet, rtol=ROUNDING, atol=ROUNDING)


# --- torch.func


def at_one(y0, **options):
    """y' = -y² from y0 (D,): y(1) = y0 / (1 + y0), with derivative (1 + y0)^-2."""
    return solve_ivp(lambda t, y: -(y**2), y0[None], [0.0, 1.0], **options, **TIGHTLY).y[0, 1]


# torch's own, at its first forward-mode derivative
torch_warns_of_itself = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
IN_TORCH_FUNC = {"dopri5": TIGHTLY, "rk4": {"step_size": 0.02}, "explicit_adams": {"step_size": 0.005}}


TRANSFORMS = ["grad", "vjp", "jvp", "jacrev", "jacfwd", "hessian"]
OF_OTHERS = TRANSFORMS[3:]  # vmap of vjp, vmap of jvp, and vjp of grad: nothing else is in the first three


@torch_warns_of_itself
@pytest.mark.parametrize(
    ("transform", "solver"),
    [
        *((transform, "dopri5") for transform in TRANSFORMS),
        *((transform, solver) for transform in OF_OTHERS for solver in ("rk4", "explicit_adams", "kvaerno5")),
    ],
)
def test_torch_func_works_through_backprop(transform, solver):
    y0, direction = double([1.0, 3.0]), double([1.0, -2.0])
    slope, bend = double([0.25, 1 / 16]), double([-0.25, -1 / 32])  # (1 + y0)^-2 and -2 (1 + y0)^-3
    options = IN_TORCH_FUNC.get(solver, {"rtol": 1e-7, "atol": 1e-7})

    def answer(y):
        found = solve_ivp(
            lambda t, y: -(y**2), y[None], [0.0, 1.0], solver=solver, gradient="backprop", **options
        )
        return found.y[0, 1]

    found, expected = {
        "grad": lambda: (torch.func.grad(lambda y: answer(y).sum())(y0), slope),
        "vjp": lambda: (torch.func.vjp(answer, y0)[1](direction)[0], direction * slope),
        "jvp": lambda: (torch.func.jvp(answer, (y0,), (direction,))[1], direction * slope),
        "jacrev": lambda: (torch.func.jacrev(answer)(y0), slope.diag()),
        "jacfwd": lambda: (torch.func.jacfwd(answer)(y0), slope.diag()),
        "hessian": lambda: (
            torch.func.jacrev(torch.func.grad(lambda y: answer(y).sum()))(y0),
            bend.diag(),
        ),
    }[transform]()
    torch.testing.assert_close(found, expected, rtol=EXACT_GRADIENT, atol=EXACT_GRADIENT)


@torch_warns_of_itself
def test_forward_and_reverse_mode_agree_at_loose_tolerances():
    """Both are the derivative of the computed solution, its steps held fixed."""

    def answer(y0):
        found = solve_ivp(
            lambda t, y: -(y**2), y0[None], [0.0, 1.0], gradient="backprop", rtol=1e-2, atol=1e-2
        )
        return found.y[0, 1]

    y0 = double([1.0, 3.0])
    forward, backward = torch.func.jacfwd(answer)(y0), torch.func.jacrev(answer)(y0)
    torch.testing.assert_close(forward, backward, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_functional_call_inside_torch_func(dtype):
    """The gradient with respect to a dictionary of parameters; `sign` is a buffer. dy/dk = -t y."""
    field = Relaxation(dtype=dtype)

    def loss(parameters):
        def functional(t, y):
            return torch.func.functional_call(field, parameters, (t, y))

        y0, options = torch.ones(1, 1, dtype=dtype), {"rtol": 1e-6, "atol": 1e-6, "gradient": "backprop"}
        return solve_ivp(functional, y0, [0.0, 2.0], **options).y[0, 1, 0]

    (of_k,) = torch.func.grad(loss)(dict(field.named_parameters())).values()
    assert of_k.dtype == dtype
    assert of_k.item() == pytest.approx(-2 * math.exp(-1), rel=1e-4)
    assert field.k.grad is None


@pytest.mark.parametrize("gradient", [name for name in GRADIENTS if name != "backprop"])
@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev], ids=["grad", "jacrev"])
def test_other_gradients_say_so_inside_torch_func(transform, gradient):
    with pytest.raises(RuntimeError, match=r"inside torch\.func\.grad, .* solve with gradient='backprop'"):
        transform(lambda y: at_one(y, gradient=gradient).sum())(double([1.0, 3.0]))


@every_gradient
def test_vmap_is_refused_with_the_way_to_do_without(gradient):
    with pytest.raises(
        RuntimeError, match=r"inside torch\.func\.vmap, .*: stack them along the first axis of y0"
    ):
        torch.func.vmap(lambda y: at_one(y, gradient=gradient))(double([[1.0], [2.0]]))


# --- neighbours


@pytest.mark.parametrize("gradient", [g for g in GRADIENTS if g != "reversible"])  # not for stiff fields
def test_a_neighbour_changes_neither_steps_nor_values_nor_gradients(gradient):
    """Exactly the same steps; values and gradients up to the order in which a sum is taken."""
    t_eval = [0.0, 0.5, 3.0]

    def solve(second: float):
        y0 = double([[1.0, 0.3], [second, 1.0]]).requires_grad_()
        found = solve_ivp(lambda t, y: -y * y[:, :1] ** 2, y0, t_eval, gradient=gradient)
        found.y[0].square().sum().backward()
        return found, y0.grad[0]

    (calm, of_calm), (stiff, of_stiff) = solve(1.0), solve(30.0)
    assert stiff.stats["n_steps"][1] > 2 * calm.stats["n_steps"][1]
    for name, counts in calm.stats.items():
        assert counts[0] == stiff.stats[name][0], name
    torch.testing.assert_close(calm.y[0], stiff.y[0], rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(of_calm, of_stiff, rtol=ROUNDING, atol=ROUNDING)
