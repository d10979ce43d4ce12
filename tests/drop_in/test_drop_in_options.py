"""Options and callbacks of `odeint`: each does what it says, and what is unknown is said aloud."""

from __future__ import annotations

import math
import re

import pytest
import torch
import torchdiffeq

from latentode.drop_in import odeint, odeint_adjoint
from latentode.exceptions import LatentODEWarning, SolverError
from latentode.solvers import SOLVERS

T = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
Y0 = torch.tensor([1.0, -0.5], dtype=torch.float64)


class Watched:
    """y' = cos(3t) y, with everything counted."""

    def __init__(self):
        self.n, self.tried, self.accepted, self.rejected = 0, [], [], []

    def __call__(self, t, y):
        self.n += 1
        return torch.cos(3 * t) * y

    def callback_step(self, t, y, dt):
        self.tried.append((t.item(), dt.item(), y.shape))

    def callback_accept_step(self, t, y, dt):
        self.accepted.append((t.item(), dt.item(), y.shape))

    def callback_reject_step(self, t, y, dt):
        self.rejected.append((t.item(), dt.item(), y.shape))


def refused(message, error=ValueError):
    return pytest.raises(error, match=re.escape(message))


@pytest.mark.parametrize("t", [T, -T], ids=["up", "down"])
def test_callbacks_see_every_step(t):
    field = Watched()
    odeint(field, Y0, t, options={"first_step": 1.5})
    assert sorted(field.accepted + field.rejected) == sorted(field.tried)
    assert field.rejected
    assert field.tried[0] == (0.0, 1.5, (2,))
    sign = -1 if t[-1] < 0 else 1
    ends = [start + sign * dt for start, dt, _ in field.accepted]
    assert ends[:-1] == pytest.approx([start for start, _, _ in field.accepted[1:]])
    assert ends[-1] == pytest.approx(t[-1].item())


def test_callbacks_of_fixed_steps():
    field, other = Watched(), Watched()
    with pytest.warns(LatentODEWarning, match="takes fixed steps and does not support callbacks") as caught:
        odeint(field, Y0, T, method="euler", options={"step_size": 0.5})
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="does not support callbacks"):
        torchdiffeq.odeint(other, Y0, T, method="euler", options={"step_size": 0.5})
    assert field.tried == other.tried
    assert not field.accepted


@pytest.mark.parametrize("adjoint", [False, True])
def test_callbacks_are_silent_in_the_backward_pass(adjoint):
    field, y0 = Watched(), Y0.clone().requires_grad_()
    options = {"adjoint_params": ()} if adjoint else {}
    y = (odeint_adjoint if adjoint else odeint)(field, y0, T, **options)
    n = len(field.tried)
    y.sum().backward()
    assert len(field.tried) == n


def test_first_largest_and_smallest_step():
    field = Watched()
    odeint(field, Y0, T, options={"first_step": 0.01, "max_step": 0.1})
    steps = [dt for _, dt, _ in field.tried]
    assert steps[0] == 0.01
    assert max(steps) <= 0.1 * 1.01  # the last one may take a tiny rest along
    field = Watched()
    odeint(field, Y0, T, options={"min_step": 0.25})
    assert not field.rejected
    assert len(field.accepted) <= 8


@pytest.mark.parametrize(("name", "value"), [("safety", 0.3), ("ifactor", 1.2)])
def test_factors_that_make_steps_smaller(name, value):
    plain, careful = Watched(), Watched()
    odeint(plain, Y0, T, options={"first_step": 1e-3})
    odeint(careful, Y0, T, options={"first_step": 1e-3, name: value})
    assert len(careful.tried) > 1.3 * len(plain.tried)


def test_dfactor_bounds_how_a_step_shrinks():
    field = Watched()
    odeint(field, Y0, T, options={"first_step": 2.0, "dfactor": 0.9})
    assert len(field.rejected) > 5
    assert field.tried[1][1] == pytest.approx(0.9 * field.tried[0][1])


def test_a_norm_of_the_callers():
    seen = []

    def norm(error):
        seen.append(error)
        return error.abs().max() * 1e3

    strict, plain = Watched(), Watched()
    odeint(strict, Y0, T, options={"norm": norm})
    odeint(plain, Y0, T)
    assert {error.shape for error in seen} == {(2,)}
    assert len(strict.tried) > 2 * len(plain.tried)
    shapes = set()
    odeint(
        lambda t, y: y,
        (Y0, Y0[:1]),
        T,
        options={"norm": lambda e: shapes.add(tuple(map(len, e))) or e[0].norm()},
    )
    assert shapes == {(2, 1)}


def test_a_tuple_is_measured_by_its_worst_part():
    """A hundred idle numbers beside one that moves do not loosen it."""
    y0 = torch.ones(1, dtype=torch.float64), torch.zeros(100, dtype=torch.float64)
    counts = []
    for state in (y0[:1], y0):
        field = Watched()
        field.callback_step = None
        tried = []

        def pair(t, y, tried=tried):
            tried.append(t)
            return tuple(torch.cos(9 * t) * part for part in y)

        odeint(pair, state, T)
        counts.append(len(tried))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("option", ["step_t", "jump_t"])
@pytest.mark.parametrize("t", [T, -T], ids=["up", "down"])
def test_times_to_land_on(option, t):
    field = Watched()
    times = torch.tensor([0.3, 1.0, 1.7, 5.0, -0.3, -1.0, -1.7], dtype=torch.float64)
    y = odeint(field, Y0, t, options={option: times}, rtol=1e-9, atol=1e-9)
    sign = 1 if t[-1] > 0 else -1
    starts = {round(start, 9) for start, _, _ in field.accepted}
    assert {sign * 0.3, sign * 1.0, sign * 1.7} <= starts
    torch.testing.assert_close(y, torch.exp(torch.sin(3 * t) / 3)[:, None] * Y0, rtol=1e-7, atol=0)


@pytest.mark.parametrize("interface", [odeint, odeint_adjoint])
def test_a_field_may_jump_across_jump_t(interface):
    """y' = k before t = 0.7 and -2 after: exact with a few evaluations, and so is the gradient of k."""
    k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    calls = []

    def field(t, y):
        calls.append(t.item())
        return torch.where(t < 0.7, k, -2.0) * torch.ones_like(y)

    options = {"adjoint_params": (k,)} if interface is odeint_adjoint else {}
    y = interface(field, Y0, T, options={"jump_t": torch.tensor([0.7], dtype=torch.float64)}, **options)
    torch.testing.assert_close(y[-1], Y0 + 0.7 - 2 * 1.3, rtol=0, atol=1e-12)
    y[-1].sum().backward()
    assert k.grad.item() == pytest.approx(2 * 0.7, abs=1e-9)
    assert len(calls) < 200
    assert 0.7 not in calls


def test_repeated_times_to_land_on():
    with refused("step_t and jump_t must not have any repeated elements between them"):
        odeint(Watched(), Y0, T, options={"step_t": torch.tensor([0.5]), "jump_t": torch.tensor([0.5])})


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (
            "dopri5",
            {"step_size": 0.1},
            "method 'dopri5' has no option 'step_size': it is ignored; its options are",
        ),
        ("dopri5", {"first_stp": 0.1}, "has no option 'first_stp' (did you mean 'first_step'?)"),
        ("euler", {"first_step": 0.1}, "method 'euler' has no option 'first_step'"),
    ],
)
def test_options_that_a_method_does_not_have(method, options, message):
    with pytest.warns(LatentODEWarning, match=re.escape(message)) as caught:
        odeint(lambda t, y: -y, Y0, T, method=method, options=options)
    assert caught[0].filename == __file__  # the caller's line
    with pytest.warns(UserWarning, match="Unexpected arguments"):
        torchdiffeq.odeint(lambda t, y: -y, Y0, T, method=method, options=options)


def test_adjoint_options():
    """Backwards with another method, tolerance and norm; fixed or adaptive."""
    truth = torch.exp(torch.sin(3 * T[-1]) / 3)
    errors = []
    for options in (
        {},
        {"adjoint_rtol": 1e-10, "adjoint_atol": 1e-10},
        {"adjoint_options": {"norm": "seminorm"}},
        {"adjoint_options": {"norm": lambda state: max(part.abs().max() for part in state)}},
        {"adjoint_method": "rk4", "adjoint_options": {"step_size": 0.02}},
        {"adjoint_method": "tsit5"},
    ):
        y0 = Y0.clone().requires_grad_()
        y = odeint_adjoint(lambda t, y: torch.cos(3 * t) * y, y0, T, adjoint_params=(), **options)
        y[-1].sum().backward()
        errors.append((y0.grad - truth).abs().max().item())
    assert max(errors) < 1e-6


# --- errors of arguments, with torchdiffeq's types


ARGUMENTS = [
    ({"y0": 1.0}, AssertionError, "y0 must be a torch.Tensor or a tuple of tensors; got float"),
    ({"y0": [Y0]}, AssertionError, "y0 must be a torch.Tensor or a tuple of tensors; got list"),
    ({"t": [0.0, 1.0]}, AssertionError, "t must be a torch.Tensor; got list: use torch.as_tensor(t)"),
    ({"t": torch.arange(3)}, TypeError, "t must be a floating point Tensor but is torch.int64"),
    ({"t": T[None]}, AssertionError, "t must be one dimensional with at least one entry; got shape (1, 3)"),
    (
        {"t": torch.tensor([0.0, 1.0, 1.0])},
        AssertionError,
        "t must be strictly increasing or decreasing; t[1] = 1 is followed by t[2] = 1: sort t",
    ),
    ({"t": torch.tensor([0.0, 1.0, 0.5])}, AssertionError, "t[1] = 1 is followed by t[2] = 0.5"),
    ({"method": "dopr5"}, ValueError, "Invalid method \"dopr5\" (did you mean 'dopri5'?). Must be one of {"),
    ({"rtol": torch.tensor(1e-3, requires_grad=True)}, AssertionError, "rtol cannot require gradient"),
    (
        {"y0": (Y0, Y0), "rtol": [1e-3]},
        AssertionError,
        "a tupled rtol must have the same length as the tuple y0",
    ),
]


@pytest.mark.parametrize(
    ("change", "error", "message"), ARGUMENTS, ids=[message[:30] for *_, message in ARGUMENTS]
)
@pytest.mark.parametrize("library", ["ours", "torchdiffeq"])
def test_error_types(change, error, message, library):
    def field(t, y):
        return y

    arguments = {"y0": Y0, "t": T, **change}
    solve = odeint if library == "ours" else torchdiffeq.odeint
    with pytest.raises(error) as caught:
        solve(field, arguments.pop("y0"), arguments.pop("t"), **arguments)
    if library == "ours":
        assert message in str(caught.value)


def test_a_state_of_integers():
    with refused("y0 must be floating point or complex; got torch.int64: use y0.float()", TypeError):
        odeint(lambda t, y: y, torch.ones(2, dtype=torch.int64), T)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            lambda t, y: y[:, None].expand(2, 3),
            "func(t, y) must be a tensor of shape (2,) like y0; got a part of shape (2, 3)",
        ),
        (lambda t, y: (y, y), "func(t, y) must be a tensor of shape (2,) like y0; got a tuple of length 2"),
        (lambda t, y: None, "got NoneType"),
        (lambda t, y: y * 1j, "got torch.complex128: start from a complex y0"),
    ],
)
def test_fields_that_answer_in_another_shape(field, message):
    with refused(message):
        odeint(field, Y0, T)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 0.1, "grid_constructor": lambda f, y, t: t}, "are mutually exclusive"),
        ({"step_size": -0.1}, "step_size must be positive; got -0.1"),
        (
            {"grid_constructor": lambda f, y, t: t[:-1]},
            "must return a 1-D tensor of times from t[0] to t[-1]",
        ),
        ({"interp": "quintic"}, "interp must be 'linear' or 'cubic'; got 'quintic'"),
    ],
)
def test_grids_that_make_no_sense(options, message):
    with refused(message):
        odeint(lambda t, y: y, Y0, T, method="euler", options=options)


def test_adjoint_arguments():
    with refused("func must be an instance of nn.Module to specify the adjoint parameters; otherwise pass"):
        odeint_adjoint(lambda t, y: y, Y0, T)
    with refused("adjoint_options cannot be taken from options where adjoint_method differs"):
        odeint_adjoint(
            lambda t, y: y, Y0, T, adjoint_params=(), options={"first_step": 0.1}, adjoint_method="tsit5"
        )
    with refused("adjoint norm must be 'seminorm' or a function of a tuple; got 'semi'"):
        odeint_adjoint(lambda t, y: y, Y0, T, adjoint_params=(), adjoint_options={"norm": "semi"})


# --- solves that fail


def test_parameters_given_twice_count_once():
    rate = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    y = odeint_adjoint(
        lambda t, y: -rate * y, torch.ones(1, dtype=torch.float64), T[:2], adjoint_params=[rate, rate]
    )
    y[-1].sum().backward()
    way = float(T[1] - T[0])
    assert rate.grad.item() == pytest.approx(-way * math.exp(-way), rel=1e-6)


@pytest.mark.parametrize("error", [SolverError, AssertionError])
def test_failures_are_errors_of_both_kinds(error):
    with pytest.raises(
        error, match=r"odeint could not go beyond t=.* \[MAX_STEPS\]: .*raise options\['max_num_steps'\]"
    ):
        odeint(Watched(), Y0, 10 * T, options={"max_num_steps": 3})
    with pytest.raises(error, match=r"odeint could not go beyond t=1.* \[(STEP_UNDERFLOW|NON_FINITE)\]"):
        odeint(lambda t, y: y**2, torch.ones(1, dtype=torch.float64), T)
    with pytest.raises(error, match=r"\[NON_FINITE\]"):
        odeint(lambda t, y: -y, Y0 * math.nan, T)


def test_fixed_steps_let_infinite_values_through_as_torchdiffeq():
    field = lambda t, y: y / (t - 1.0)  # noqa: E731
    pair = [lib(field, Y0, T, method="euler") for lib in (odeint, torchdiffeq.odeint)]
    assert torch.equal(pair[0].isnan() | pair[0].isinf(), pair[1].isnan() | pair[1].isinf())
    torch.testing.assert_close(pair[0][:2], pair[1][:2])


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_of_the_engine_has_its_name_here(name):
    t = torch.linspace(0, 1, 51, dtype=torch.float64)
    # explicit Adams of the order that it has by default, as in torchdiffeq, is not stable for steps of 1/50
    options = {"max_order": 6} if name == "explicit_adams" else {}
    y = odeint(lambda t, y: -y, Y0, t, method=name, rtol=1e-6, atol=1e-6, options=options)
    torch.testing.assert_close(y[-1], Y0 * math.exp(-1), rtol=2e-2, atol=0)
