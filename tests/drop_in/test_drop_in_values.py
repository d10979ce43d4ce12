"""`odeint` and `odeint_adjoint` side by side with torchdiffeq 0.2.5: only the import differs."""

from __future__ import annotations

import importlib
import math
from functools import cache

import pytest
import torch
import torchdiffeq
from tolerances import EXACT_GRADIENT, ROUNDING, TIGHT
from torch import nn
from torchdiffeq._impl.solvers import FixedGridODESolver

import latentode.drop_in as ours
from latentode.drop_in.request import ON_A_GRID, method_named, prepare
from latentode.solvers import SOLVERS

odeint, odeint_adjoint = ours.odeint, ours.odeint_adjoint
TORCHDIFFEQ = importlib.import_module("torchdiffeq._impl.odeint").SOLVERS
# Adams methods: on even grids only, see test_drop_in_adams
ON_THE_SAME_GRID = [name for name in ON_A_GRID if name in TORCHDIFFEQ and "adams" not in name]
ADAPTIVE = [name for name in ("dopri5", "dopri8", "bosh3", "adaptive_heun", "fehlberg2") if name in SOLVERS]
TOLERANCE = 1e-10  # of the adaptive solves; low orders get a looser one
LOW_ORDER = {"adaptive_heun": 1e-6, "fehlberg2": 1e-7, "bosh3": 1e-8}

UP = torch.tensor([0.3, 0.5, 1.1, 1.2, 2.0], dtype=torch.float64)
DOWN = UP.flip(0)
on_every_grid = pytest.mark.parametrize("method", ON_THE_SAME_GRID)
both_ways = pytest.mark.parametrize("t", [UP, DOWN], ids=["up", "down"])


class Field(nn.Module):
    """Smooth, nonlinear, time-dependent, for states of any shape and dtype."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.6, dtype=dtype))
        self.times = []

    def forward(self, t, y):
        self.times.append(t)
        return torch.cos(self.rate * t) * y - 0.3 * torch.sin(y)


class Pair(Field):
    """The same for a tuple of two, coupled."""

    def forward(self, t, y):
        a, b = y
        return super().forward(t, a) + b.sum(), -self.rate * b + a.mean()


def states(dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(2, 3, dtype=dtype, generator=generator), torch.randn(
        4, dtype=dtype, generator=generator
    )


def parts(y):
    return y if isinstance(y, tuple) else (y,)


def values_and_gradients(solve, field, y0, t, **options):
    """Solution and the gradients of y0, t and the field's parameter."""
    y0 = (
        tuple(part.clone().requires_grad_() for part in parts(y0))
        if isinstance(y0, tuple)
        else y0.clone().requires_grad_()
    )
    t = t.clone().requires_grad_()
    y = solve(field, y0, t, **options)
    weight = torch.arange(1.0, len(t) + 1, dtype=t.dtype)
    loss = sum((part.abs() ** 2 * weight.reshape(-1, *[1] * (part.ndim - 1))).sum() for part in parts(y))
    inputs = [*parts(y0), t, field.rate]
    return [part.detach() for part in parts(y)], list(torch.autograd.grad(loss, inputs))


def assert_same(ours, theirs, tolerance):
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", [*TORCHDIFFEQ, *ON_A_GRID])
def test_every_name_of_torchdiffeq_s_is_known_and_steps_as_it_does(method):
    times = [UP[0] + 0.1 * k for k in range(18)]
    y0, field = states()[0], Field()
    y = odeint(field, y0, torch.stack(times), method=method, rtol=1e-6, atol=1e-6, options={})
    truth = torchdiffeq.odeint(Field(), y0, torch.stack(times), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(y, truth, rtol=0.3, atol=0.3)  # Euler's methods have an error of 0.2
    if method in TORCHDIFFEQ and method != "scipy_solver":
        assert method_named(method)[2] == issubclass(TORCHDIFFEQ[method], FixedGridODESolver)


@on_every_grid
@both_ways
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"step_size": 0.13},
        {"step_size": 0.13, "interp": "cubic"},
        {"step_size": 5.0},
        {"perturb": True},
        {"grid_constructor": lambda func, y0, t: torch.cat([t[:1], (t[:1] + t[-1:]) / 2, t[-1:]])},
    ],
    ids=["no options", "steps", "cubic", "one step", "perturbed", "grid"],
)
def test_fixed_steps_are_equal_to_rounding_and_so_are_their_gradients(method, t, options):
    pair = [
        values_and_gradients(lib.odeint, Field(), states()[0], t, method=method, options=options)
        for lib in (ours, torchdiffeq)
    ]
    for mine, other in zip(*pair):
        assert_same(mine, other, ROUNDING)


def test_the_name_rk4_means_the_three_eighths_rule():
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    nodes = Field()
    odeint(nodes, states()[0], t, method="rk4")
    assert [round(time.item(), 6) for time in nodes.times[:4]] == [0.0, 0.333333, 0.666667, 1.0]


@pytest.mark.parametrize("method", ADAPTIVE)
@both_ways
@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
def test_adaptive_methods_agree(method, t, interface):
    tolerance = LOW_ORDER.get(method, TOLERANCE)
    options = {"method": method, "rtol": tolerance, "atol": tolerance}
    y, gradients = values_and_gradients(getattr(ours, interface), Field(), states()[0], t, **options)
    reference = theirs_tightly(tuple(t.tolist()))
    assert_same(y, reference[0], 1000 * tolerance)
    assert_same(gradients, reference[1], 1e4 * tolerance)


@cache
def theirs_tightly(times):
    t = torch.tensor(times, dtype=torch.float64)
    return values_and_gradients(torchdiffeq.odeint, Field(), states()[0], t, rtol=1e-12, atol=1e-12)


@both_ways
@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_tuples(t, interface, method):
    options = {"method": method, "rtol": TOLERANCE, "atol": TOLERANCE}
    y, gradients = values_and_gradients(getattr(ours, interface), Pair(), states(), t, **options)
    reference = values_and_gradients(torchdiffeq.odeint, Pair(), states(), t, **options)
    assert [part.shape for part in y] == [(5, 2, 3), (5, 4)]
    assert_same(y, reference[0], TIGHT)
    assert_same(gradients, reference[1], EXACT_GRADIENT)


@both_ways
@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
@pytest.mark.parametrize("method", ["dopri5", "euler"])
def test_complex_states(t, interface, method):
    options = {"method": method, "rtol": TOLERANCE, "atol": TOLERANCE}
    y0 = states(torch.complex128)[0]
    y, gradients = values_and_gradients(getattr(ours, interface), Field(), y0, t, **options)
    reference = values_and_gradients(torchdiffeq.odeint, Field(), y0, t, **options)
    assert y[0].dtype == torch.complex128
    assert_same(y, reference[0], TIGHT)
    assert_same(gradients, reference[1], EXACT_GRADIENT)


@pytest.mark.parametrize("t_dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_single_precision(t_dtype, method):
    field = Field(torch.float32)
    y = odeint(field, states(torch.float32)[0], UP.to(t_dtype), method=method, rtol=1e-5, atol=1e-6)
    other = torchdiffeq.odeint(
        Field(torch.float32), states(torch.float32)[0], UP.to(t_dtype), method=method, rtol=1e-5, atol=1e-6
    )
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, other, rtol=1e-4, atol=1e-5)
    assert {(time.dtype, time.shape) for time in field.times} == {(torch.float32, ())}


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("method", ["dopri5", "euler"])
def test_states_of_any_shape(shape, method):
    y0 = torch.full(shape, 0.5, dtype=torch.float64)
    y = odeint(Field(), y0, UP, method=method, rtol=TOLERANCE, atol=TOLERANCE)
    assert y.shape == (5, *shape)
    torch.testing.assert_close(y[0], y0, rtol=0, atol=0)


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_one_time_is_the_start(method):
    y0 = states()[0]
    assert torch.equal(odeint(Field(), y0, UP[:1], method=method), y0[None])


def test_the_field_sees_a_scalar_time_and_the_whole_state():
    seen = []

    def field(t, y):
        seen.append((t.shape, t.dtype, y.shape))
        return -y

    odeint(field, states()[0], UP)
    assert set(seen) == {(torch.Size([]), torch.float64, torch.Size([2, 3]))}


def test_second_derivatives_and_captured_tensors():
    rate = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    y = odeint(lambda t, y: -rate * y, torch.ones(1, dtype=torch.float64), UP, rtol=1e-10, atol=1e-10)
    (first,) = torch.autograd.grad(y[-1].sum(), rate, create_graph=True)
    (second,) = torch.autograd.grad(first, rate)
    way = (UP[-1] - UP[0]).item()
    assert first.item() == pytest.approx(-way * math.exp(-0.7 * way), rel=EXACT_GRADIENT)
    assert second.item() == pytest.approx(way**2 * math.exp(-0.7 * way), rel=EXACT_GRADIENT)


def test_no_graph_without_gradients():
    with torch.no_grad():
        assert not odeint(Field(), states()[0], UP).requires_grad
        assert not odeint_adjoint(Field(), states()[0], UP).requires_grad


def test_tolerances_per_part():
    """A loose part does not make a tight one loose, whichever way it is written."""
    for rtol in ((1e-3, 1e-10), torch.tensor([1e-3, 1e-10])):
        y = odeint(Pair(), states(), UP, rtol=rtol, atol=[1e-3, 1e-10])
        assert parts(y)[1].shape == (5, 4)


def test_one_tolerance_per_element():
    rtol = torch.full((2, 3), 1e-10, dtype=torch.float64)
    a = odeint(Field(), states()[0], UP, rtol=rtol, atol=1e-10)
    assert torch.equal(a, odeint(Field(), states()[0], UP, rtol=1e-10, atol=1e-10))


def test_the_field_answers_for_many_times_too():
    """Gradients may ask for several times at once, each with its row."""
    request = prepare(Field(), states()[0], UP, 1e-7, 1e-9, None, None)
    rows = torch.stack([request.row[0], 2 * request.row[0], 3 * request.row[0]])
    together = request.field(UP[:3], rows)
    alone = [request.field(UP[i : i + 1], rows[i : i + 1]) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))
