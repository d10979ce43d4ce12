"""Events of `solve_ivp`: a time per series, the output up to there, and gradients with respect to everything."""

from __future__ import annotations

import math
import re
import runpy
from pathlib import Path

import pytest
import torch
from engine_stubs import Swirl
from tolerances import EXACT_GRADIENT, TIGHT

from latentode import solve_ivp
from latentode.exceptions import SolverError
from latentode.gradients import GRADIENTS
from latentode.solvers import SOLVERS, Status

NAN = math.nan
GRAVITY = 9.81
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS)


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def fall(t, y):
    return torch.stack([y[:, 1], torch.full_like(y[:, 1], -GRAVITY)], dim=1)


def height(t, y):
    return y[:, 0]


def falling(t, y):
    """Height, but only on the way down: so that a ball may leave the floor."""
    return torch.where(y[:, 1] < 0, y[:, 0], 1.0)


BALLS = [[10.0, 0.0], [2.0, 1.0], [50.0, 3.0]]  # the last one is still in the air after 3 s


def landing(y0, t0=0.0):
    return t0 + (y0[:, 1] + torch.sqrt(y0[:, 1] ** 2 + 2 * GRAVITY * y0[:, 0])) / GRAVITY


@pytest.mark.parametrize("solver", ["dopri5", "tsit5", "rk4"])
def test_every_series_stops_at_its_own_event(solver):
    y0 = double(BALLS)
    t = torch.linspace(0, 3, 13, dtype=torch.float64)
    options = {"step_size": 0.17} if solver == "rk4" else {}
    solution = solve_ivp(fall, y0, t, solver=solver, event=height, **options)
    truth = landing(y0)
    assert solution.status.tolist() == [Status.EVENT, Status.EVENT, Status.SUCCESS]
    assert solution.success
    assert solution.raise_for_status() is solution
    torch.testing.assert_close(solution.event_times, torch.where(truth < 3, truth, NAN), equal_nan=True)
    torch.testing.assert_close(solution.t_reached, truth.clamp(max=3.0))
    free = y0[:, :1] + y0[:, 1:] * t - GRAVITY / 2 * t**2
    expected = torch.where(t <= truth[:, None], free, NAN)
    torch.testing.assert_close(solution.y[..., 0], expected, equal_nan=True)
    speed = y0[:, 1] - GRAVITY * truth
    ends = torch.stack([torch.zeros(3, dtype=torch.float64), speed], dim=1)
    torch.testing.assert_close(solution.event_states[:2], ends[:2], rtol=TIGHT, atol=TIGHT)
    assert solution.event_states[2].isnan().all()


def test_backwards_in_time():
    y0 = double(BALLS)
    solution = solve_ivp(fall, y0, [2.0, 1.0, -3.0], t0=2.0, event=height)
    before = (y0[:, 1] - torch.sqrt(y0[:, 1] ** 2 + 2 * GRAVITY * y0[:, 0])) / GRAVITY
    torch.testing.assert_close(solution.event_times, 2.0 + before)
    assert solution.y[:, 2].isnan().all()
    assert solution.y[:, 1, 0].isnan().tolist() == [False, True, False]


def test_query_times_in_any_order():
    y0 = double(BALLS)
    t = double([3.0, 0.5, NAN, 0.0, 1.0])
    solution = solve_ivp(fall, y0, t, t0=0.0, event=height)
    assert solution.y[0, :, 0].isnan().tolist() == [True, False, True, False, False]
    torch.testing.assert_close(solution.event_times[:2], landing(y0)[:2])


def test_a_bouncing_ball():
    """Landing, and leaving with 0.8 of the speed, five times: times from the geometric series."""
    h0, keep = double(5.0).requires_grad_(), double(0.8).requires_grad_()
    t, state = double([0.0]), torch.stack([h0, double(0.0)])[None]
    times = []
    for _ in range(5):
        solution = solve_ivp(fall, state, t[:, None] + double([0.0, 10.0]), t0=t, event=falling, rtol=1e-8)
        t = solution.event_times
        state = torch.stack([torch.zeros(1, dtype=torch.float64), -keep * solution.event_states[:, 1]], dim=1)
        times.append(t)
    first = torch.sqrt(2 * h0 / GRAVITY)
    truth = [first * (1 + 2 * sum(keep**k for k in range(1, n + 1))) for n in range(5)]
    torch.testing.assert_close(torch.cat(times), torch.stack(truth), rtol=TIGHT, atol=0)
    for mine, exact in ((times[-1], truth[-1]), (state[0, 1], keep**5 * torch.sqrt(2 * GRAVITY * h0))):
        got, wanted = (torch.autograd.grad(x.sum(), [h0, keep], retain_graph=True) for x in (mine, exact))
        torch.testing.assert_close(got, wanted, rtol=EXACT_GRADIENT, atol=0)


@every_gradient
def test_gradients_with_respect_to_everything(gradient):
    """Against finite differences: y0, t0, the query times, the field's parameters and the event's.

    Of each input along one direction in which every entry takes part by another amount.
    """
    field = Swirl()
    y0 = double([[1.0, 0.5, -0.3], [0.2, 1.4, 0.4]]).requires_grad_()
    t0 = double([0.1, -0.2]).requires_grad_()
    t_eval = double([[0.4, 5.0], [0.3, 5.0]]).requires_grad_()
    level = double(0.68).requires_grad_()
    gradients = {"adjoint": 1e-3}.get(gradient, 1e-4)  # the continuous adjoint is exact up to its tolerances

    def solve(y0, t0, t_eval, level, pull):
        field.pull.data = pull.detach()
        solution = solve_ivp(
            field,
            y0,
            t_eval,
            t0=t0,
            event=lambda t, y: y[:, 0] - level * (1 + 0.05 * t),
            gradient=gradient,
            rtol=1e-10,
            atol=1e-10,
        )
        assert (solution.status == Status.EVENT).all()
        return solution.event_times, solution.event_states, solution.y[:, 0]

    inputs = [y0, t0, t_eval, level]

    def loss(y0, t0, t_eval, level, pull):
        times, states, between = solve(y0, t0, t_eval, level, pull)
        return (times * double([1.0, 2.0])).sum() + states.sin().sum() + between.sum()

    pull = field.pull.detach().clone()
    got = torch.autograd.grad(loss(*inputs, pull), [*inputs, field.pull])
    epsilon = 1e-5
    for k, (x, g) in enumerate(zip([*inputs, pull], got)):
        direction = torch.linspace(0.6, 1.0, x.numel(), dtype=torch.float64).reshape(x.shape)
        ends = []
        for sign in (1, -1):
            arguments = [a.detach() for a in (*inputs, pull)]
            arguments[k] = arguments[k] + sign * epsilon * direction
            with torch.no_grad():
                ends.append(loss(*arguments))
        slope = ((ends[0] - ends[1]) / (2 * epsilon)).item()
        assert float((g * direction).sum()) == pytest.approx(slope, rel=gradients, abs=gradients)
    field.pull.data = pull


@every_gradient
def test_a_series_without_an_event_gets_no_nan(gradient):
    y0 = double(BALLS).requires_grad_()
    solution = solve_ivp(fall, y0, [0.0, 0.5, 3.0], event=height, gradient=gradient)
    (solution.event_times[:2].sum() + solution.y[:, 1].sum()).backward()
    assert torch.isfinite(y0.grad).all()
    wanted = torch.autograd.grad(landing(y0)[:2].sum(), y0)[0] + double([1.0, 1.5])
    torch.testing.assert_close(y0.grad, wanted, rtol=1e-5, atol=1e-8)


def test_an_event_at_t0():
    solution = solve_ivp(fall, double([[0.0, 1.0], [1.0, 0.0]]), [0.0, 0.2, 1.0], event=height)
    assert solution.status.tolist() == [Status.EVENT] * 2
    assert solution.event_times[0] == 0.0
    assert solution.y[0, :, 0].isnan().tolist() == [False, True, True]
    assert torch.equal(solution.event_states[0], double([0.0, 1.0]))


def test_no_event_changes_nothing():
    y0, t = double(BALLS), torch.linspace(0, 1, 5, dtype=torch.float64)
    solution = solve_ivp(fall, y0, t, event=lambda t, y: torch.ones_like(t))
    assert solution.status.tolist() == [0, 0, 0]
    assert solution.event_times.isnan().all()
    plain = solve_ivp(fall, y0, t)
    torch.testing.assert_close(solution.y, plain.y, rtol=1e-12, atol=1e-12)
    assert plain.event_times is plain.event_states is None


def test_a_neighbours_event_changes_nothing():
    field, y0 = Swirl(), double([[1.0, 0.5], [0.2, 1.4], [0.7, 0.1]])
    t = torch.linspace(0, 4, 9, dtype=torch.float64)

    def event(t, y):
        return y[:, 0] - 0.3

    together = solve_ivp(field, y0, t, event=event)
    for i in range(3):
        alone = solve_ivp(field, y0[i : i + 1], t, event=event)
        assert torch.equal(alone.stats["n_steps"], together.stats["n_steps"][i : i + 1])
        torch.testing.assert_close(alone.y[0], together.y[i], rtol=1e-12, atol=1e-12, equal_nan=True)
        torch.testing.assert_close(
            alone.event_times[0], together.event_times[i], rtol=1e-12, atol=0, equal_nan=True
        )


@pytest.mark.parametrize("shape", [(), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_event_sees_the_callers_shapes(shape, dtype):
    """exp(-t) falls to a quarter at log 4."""
    seen = set()

    def event(t, y):
        seen.add((t.shape == y.shape[:1], y.shape[1:], t.dtype))
        return y.reshape(len(y), -1).mean(1) - 0.25

    solution = solve_ivp(
        lambda t, y: -y, torch.ones(4, *shape, dtype=dtype), [0.0, 3.0], event=event, rtol=1e-6, atol=1e-7
    )
    assert seen == {(True, torch.Size(shape), dtype)}
    assert solution.event_states.shape == (4, *shape)
    assert solution.event_times.dtype == torch.float64
    assert solution.event_times.tolist() == pytest.approx([math.log(4)] * 4, rel=1e-5)


def test_a_failure_before_the_event():
    y0 = double([[1.0], [0.1]])
    solution = solve_ivp(lambda t, y: y**2, y0, [0.0, 2.0], event=lambda t, y: y[:, 0] - 1e300, throw=False)
    assert solution.status[0] > 0
    assert solution.status[1] == 0
    with pytest.raises(SolverError, match="series 0 could not"):
        solution.raise_for_status()


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_finds_it(solver):
    solution = solve_ivp(
        lambda t, y: -y,
        double([[1.0]]),
        [0.0, 3.0],
        solver=solver,
        step_size=0.02,
        event=lambda t, y: y[:, 0] - 0.25,
    )
    assert solution.event_times.item() == pytest.approx(math.log(4), abs=0.02)


@pytest.mark.parametrize(
    ("event", "got"),
    [
        (lambda t, y: y, "(2, 2) torch.float64"),
        (lambda t, y: y[:, 0] > 0, "(2,) torch.bool"),
        (lambda t, y: 1.0, "float"),
    ],
)
def test_events_that_answer_wrongly(event, got):
    message = f"event(t, y) must return one floating-point number per series, (2,); it returned {got}"
    with pytest.raises(ValueError, match=re.escape(message)):
        solve_ivp(fall, double(BALLS[:2]), [0.0, 1.0], event=event)


def test_both_sides_of_t0_are_two_questions():
    with pytest.raises(ValueError, match="the query times of a series must lie on one side of its t0"):
        solve_ivp(fall, double(BALLS), [-1.0, 1.0], t0=0.0, event=height)


def test_second_derivatives_are_refused():
    y0 = double(BALLS[:1]).requires_grad_()
    time = solve_ivp(fall, y0, [0.0, 3.0], event=height, gradient="backprop").event_times.sum()
    with pytest.raises(RuntimeError, match="the time of an event has first derivatives only"):
        torch.autograd.grad(time, y0, create_graph=True)


def test_the_example_learns_what_it_should(tmp_path):
    path = Path(__file__).resolve().parents[1] / "examples" / "bouncing_ball.py"
    example = runpy.run_path(str(path))
    gravity, bounce = example["main"](quick=True, path=tmp_path / "ball.png")
    assert (gravity, bounce) == pytest.approx((9.81, 0.8), rel=1e-3)
    assert (tmp_path / "ball.png").stat().st_size > 10_000
