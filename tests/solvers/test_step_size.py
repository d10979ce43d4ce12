"""Controllers: the formula, the bounds, the first step, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from tolerances import ROUNDING

from latentode import solve_ivp
from latentode.solvers import CONTROLLERS, SOLVERS, FixedStep, PIController, Status
from latentode.solvers.method import StepResult

nan = math.nan


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def result(y, error=None, carry=None):
    return StepResult(y, error, y[None], torch.zeros_like(y) if carry is None else carry)


def test_next_step_follows_its_formula():
    controller = PIController(1e-3, 1e-6, order=5, beta=0.08)
    h, ratio, before = double([0.1, 0.2, 0.3]), double([0.5, 2.0, 1.0]), double([0.2, 0.2, 1.0])
    decision = controller.next_step(h, ratio, before)
    alpha = 1 / 5 - 0.75 * 0.08
    assert decision.accept.tolist() == [True, False, True]
    expected = [0.1 * 0.9 * 0.5**-alpha * 0.2**0.08, 0.2 * 0.9 * 2.0**-alpha, 0.3 * 0.9]
    torch.testing.assert_close(decision.h, double(expected), rtol=ROUNDING, atol=0)
    torch.testing.assert_close(decision.state, double([0.5, 0.2, 1.0]), rtol=0, atol=0)


def test_pid_looks_two_accepted_steps_back():
    controller = CONTROLLERS["pid"](1e-3, 1e-6, order=5)
    h = torch.ones(2, dtype=torch.float64)
    state = double([[0.3, 0.7], [0.3, 0.7]])
    decision = controller.next_step(h, double([0.5, 2.0]), state)
    grown = 0.9 * 0.5 ** (-0.58 / 5) * 0.3 ** (0.21 / 5) * 0.7 ** (-0.1 / 5)
    shrunk = 0.9 * 2.0 ** (-0.58 / 5)  # a rejected step looks at itself only, and changes no history
    torch.testing.assert_close(decision.h, double([grown, shrunk]), rtol=ROUNDING, atol=0)
    assert decision.state.tolist() == [[0.5, 0.3], [0.3, 0.7]]
    everywhere = controller.next_step(h[:1], double([0.5]), state[:1])
    assert torch.equal(everywhere.h, decision.h[:1])
    assert torch.equal(everywhere.state, decision.state[:1])


def test_i_looks_at_no_other_step():
    controller = CONTROLLERS["i"](1e-3, 1e-6, order=5)
    h = torch.ones(2, dtype=torch.float64)
    decision = controller.next_step(h, double([0.5, 0.5]), double([0.1, 1.0]))
    torch.testing.assert_close(decision.h, double([0.9 * 0.5**-0.2] * 2), rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_controller_keeps_the_error_near_the_tolerance(name):
    """Of a wave with a burst: the truth is sin t + tanh(20 (t - 3))."""
    t_eval = torch.linspace(0.0, 6.0, 40, dtype=torch.float64)

    def field(t, y):
        return (torch.cos(t) + 20 / torch.cosh(20 * (t - 3)) ** 2)[:, None].expand_as(y)

    truth = torch.sin(t_eval) + torch.tanh(20 * (t_eval - 3))
    solution = solve_ivp(field, truth[:1, None], t_eval, controller=name, rtol=1e-6, atol=1e-6)
    assert float((solution.y[0, :, 0] - truth).abs().max()) < 10e-6
    assert int(solution.stats["n_steps"][0]) < 300


def test_a_smallest_step_is_accepted_whatever_its_error():
    controller = PIController(1e-3, 1e-6, order=5, min_step=0.1)
    h, ratio = double([0.1, 0.2, 0.1, 0.05, 0.1]), double([1e6, 1e6, nan, 1e6, 0.5])
    decision = controller.next_step(h, ratio, torch.ones_like(h))
    assert decision.accept.tolist() == [True, False, False, True, True]
    assert decision.h[[0, 1, 3]].tolist() == [0.1, 0.1, 0.1]
    assert decision.h[2].item() == pytest.approx(0.02)  # not finite: it goes below, and is never accepted
    assert decision.h[4] > 0.1


def test_a_smallest_step_crosses_a_jump_and_bounds_the_work():
    """Without one, a field with noise in it takes ever smaller steps until time does not move."""
    calls = iter(range(100_000))

    def noisy(t, y):
        return torch.full_like(y, 1e6 * (-1.0) ** next(calls))

    options = {"rtol": 0.0, "atol": 1e-9}
    stuck = solve_ivp(noisy, double([[1.0]]), [1e9, 1e9 + 1], throw=False, **options)
    assert stuck.status.tolist() == [Status.STEP_UNDERFLOW]
    through = solve_ivp(noisy, double([[1.0]]), [1e9, 1e9 + 1], first_step=0.1, min_step=0.1, **options)
    assert through.success
    assert through.stats["n_steps"].tolist() == [10]


def test_nothing_that_is_not_finite_is_accepted_for_being_small():
    solution = solve_ivp(
        lambda t, y: y**2, double([[1.0]]), [0.0, 2.0], min_step=0.01, throw=False, max_steps=5000
    )
    assert solution.status.tolist() == [Status.NON_FINITE]
    assert solution.t_reached[0] < 2.0


def test_factors_are_bounded_and_a_rejected_step_never_grows():
    controller = PIController(1e-3, 1e-6, order=5, max_step=3.0)
    h = torch.ones(6, dtype=torch.float64)
    ratio = double([0.0, 1e30, nan, math.inf, 1.0 + 1e-15, 1e-30])
    decision = controller.next_step(h, ratio, torch.full_like(h, 1e6))
    assert decision.accept.tolist() == [True, False, False, False, False, True]
    assert decision.h[0] == decision.h[5] == 3.0  # ten times, but for max_step
    assert decision.h[1:4].tolist() == [0.2, 0.2, 0.2]
    assert decision.h[4] <= 1.0


def test_error_ratio_is_a_root_mean_square_over_tolerances():
    controller = PIController(0.1, 0.01, order=5)
    y, y_new = double([[1.0, -5.0]] * 2), double([[-2.0, 1.0]] * 2)
    ratio = controller.error_ratio(y, result(y_new, error=double([[0.3, 0.0], [nan, 0.0]])))
    assert ratio[0].item() == pytest.approx(math.sqrt((0.3 / 0.21) ** 2 / 2), rel=ROUNDING)
    assert ratio[1].isnan()
    nothing = torch.zeros(2, 0)
    assert controller.error_ratio(nothing, result(nothing, error=nothing)).tolist() == [0, 0]


def test_error_control_needs_an_estimate():
    y = double([[1.0]])
    with pytest.raises(ValueError, match="no error estimate: use FixedStep, or an adaptive method"):
        PIController(1e-3, 1e-3, order=5).error_ratio(y, result(y))
    with pytest.raises(ValueError, match="no error estimate: use FixedStep, or an adaptive method"):
        solve_ivp(lambda t, y: -y, y, [0.0, 1.0], solver="rk4", controller=PIController(1e-3, 1e-3, order=5))


def test_fixed_steps_are_accepted_while_state_and_slope_are_finite():
    controller = FixedStep(0.25)
    y, carry = double([[0.0], [nan], [0.0], [math.inf]]), double([[0.0], [0.0], [math.inf], [0.0]])
    ratio = controller.error_ratio(y, result(y, carry=carry))
    decision = controller.next_step(torch.ones(4, dtype=torch.float64), ratio, y[:, 0])
    assert decision.accept.tolist() == [True, False, False, False]
    assert decision.h.tolist() == [0.25] * 4


def test_rtol_alone_does_not_divide_by_zero():
    solution = solve_ivp(lambda t, y: -y, torch.zeros(1, 1), [0.0, 1.0], rtol=1e-3, atol=0.0)
    assert solution.y[0, :, 0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_the_first_step_knows_no_unit_of_time(unit):
    """Shorter than a period, but no waste: the same problem with time in seconds, years or nanoseconds."""
    y0 = double([[1.0, 0.0]])

    def turn(t, y):
        return torch.stack([-y[:, 1], y[:, 0]], dim=1) / unit

    controller = PIController(1e-6, 1e-6, order=5)
    zero, span = double([0.0]), double([10.0 * unit])
    h, _ = controller.first_step(SOLVERS["dopri5"], turn, zero, y0, turn(zero, y0), span)
    assert 1e-3 * unit < h.item() < unit
    counts = solve_ivp(turn, y0, [0.0, 10.0 * unit], rtol=1e-6, atol=1e-6).stats
    plain = solve_ivp(lambda t, y: turn(t, y) * unit, y0, [0.0, 10.0], rtol=1e-6, atol=1e-6).stats
    assert counts["n_steps"].tolist() == pytest.approx(plain["n_steps"].tolist(), abs=1)  # rounding decides


def test_max_step_and_initial_step_are_kept():
    seen = []

    def field(t, y):
        seen.append(t.item())
        return 0 * y

    controller = PIController(1e-3, 1e-3, order=5, initial_step=0.1, max_step=0.25)
    solution = solve_ivp(field, double([[1.0]]), [0.0, 1.0], controller=controller)
    assert solution.stats["n_steps"].tolist() == [5]  # 0.1, then 0.25, and the rest
    assert solution.stats["n_evals"].tolist() == [1 + 5 * 6]
    assert seen[7] == pytest.approx(0.1)


@pytest.mark.parametrize("size", [0.0, -1.0, nan])
def test_fixed_step_refuses_what_is_no_size(size):
    with pytest.raises(ValueError, match=f"step_size must be positive; got {size}"):
        FixedStep(size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rtol": -1e-3}, "rtol must be non-negative; got -0.001"),
        ({"rtol": nan}, "rtol must be non-negative; got nan"),
        ({"atol": -1.0}, "atol must be non-negative; got -1.0"),
        ({"rtol": 0.0, "atol": 0.0}, "rtol and atol are both 0: one of them must be positive"),
        ({"initial_step": 0.0}, "initial_step must be positive; got 0.0"),
        ({"max_step": -2.0}, "max_step must be positive; got -2.0"),
        ({"max_step": nan}, "max_step must be positive; got nan"),
        ({"min_step": -0.1}, "min_step must lie between 0 and max_step=inf; got -0.1"),
        ({"min_step": 2.0, "max_step": 1.0}, "min_step must lie between 0 and max_step=1.0; got 2.0"),
    ],
)
def test_pi_controller_refuses_what_makes_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        PIController(**{"rtol": 1e-3, "atol": 1e-3, "order": 5} | options)
