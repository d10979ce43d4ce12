"""A clock per series: nobody waits for a neighbour, and the counts are right."""

from __future__ import annotations

import math

import pytest
import torch
from engine_stubs import CountingField, Ramp, Script
from solver_groups import PRECISE_AND_STIFF, REVERSIBLE, STABLE, each_solver_and_each_gradient
from tolerances import ROUNDING

from latentode import solve_ivp
from latentode.gradients import GRADIENTS
from latentode.solvers import IMPLICIT_TABLEAUS, SOLVERS, FixedStep, PIController, Status, integrate

nan = math.nan
every_precise = pytest.mark.parametrize("solver", PRECISE_AND_STIFF)


def double(x):
    return torch.tensor(x, dtype=torch.float64)


class Relaxation:
    """y' = -rate (y - sin t), elementwise; the rate of each series is its first component, which stays constant."""

    def __call__(self, t, y):
        rate = y[:, :1]
        return torch.cat([0 * rate, -rate * (y[:, 1:] - torch.sin(t)[:, None])], dim=1)


def relaxations(rates):
    return torch.stack([double(rates), torch.linspace(-1, 2, len(rates), dtype=torch.float64)], dim=1)


RATES = [0.1, 1.0, 30.0, 100.0, 3.0]
TIMES = double([[1.0, 5.0], [0.2, 8.0], [2.0, 3.0], [0.5, 1.5], [-1.0, 2.0]])


@pytest.mark.parametrize(("solver", "gradient"), each_solver_and_each_gradient(STABLE))
def test_a_batch_is_solved_as_each_series_alone(solver, gradient):
    y0 = relaxations(RATES)
    together = solve_ivp(Relaxation(), y0, TIMES, t0=0.0, solver=solver, gradient=gradient)
    for i in range(len(y0)):
        alone = solve_ivp(Relaxation(), y0[[i]], TIMES[[i]], t0=0.0, solver=solver, gradient=gradient)
        for name, count in alone.stats.items():
            assert together.stats[name][i] == count[0], name
        torch.testing.assert_close(together.y[i], alone.y[0], rtol=ROUNDING, atol=ROUNDING)
    assert len(set(together.stats["n_steps"].tolist())) >= 4, "the problem asks for different counts"


@pytest.mark.parametrize(
    "gradient", [name for name in GRADIENTS if name != "reversible"]
)  # not for stiff fields
def test_a_stiff_neighbour_changes_nothing(gradient):
    """Neither steps, values nor gradients."""

    def solve(rates):
        y0 = relaxations(rates).requires_grad_()
        solution = solve_ivp(Relaxation(), y0, TIMES[:3], t0=0.0, gradient=gradient)
        solution.y[:2].square().sum().backward()
        return solution, y0.grad

    calm, of_calm = solve([0.1, 1.0, 2.0])
    stiff, of_stiff = solve([0.1, 1.0, 300.0])
    assert stiff.stats["n_steps"][2] > 5 * calm.stats["n_steps"][2]
    for name in calm.stats:
        assert torch.equal(calm.stats[name][:2], stiff.stats[name][:2])
    torch.testing.assert_close(calm.y[:2], stiff.y[:2], rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(of_calm[:2, 1], of_stiff[:2, 1], rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(
    "broken", [[nan, 1.0], [1.0, nan], [math.inf, 1.0], [1e6, 1.0], [1e300, 1e300]], ids=str
)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_broken_neighbour_changes_nothing(gradient, broken):
    y0 = relaxations([0.1, 1.0, 2.0])
    whole = solve_ivp(Relaxation(), y0, TIMES[:3], t0=0.0, gradient=gradient)
    y0[1] = double(broken)
    with_broken = solve_ivp(
        Relaxation(), y0, TIMES[:3], t0=0.0, gradient=gradient, throw=False, max_steps=200
    )
    assert with_broken.status.tolist()[::2] == [0, 0]
    assert with_broken.status[1] != 0
    torch.testing.assert_close(with_broken.y[::2], whole.y[::2], rtol=ROUNDING, atol=ROUNDING)
    for name in whole.stats:
        assert torch.equal(with_broken.stats[name][::2], whole.stats[name][::2])


def solve_counted(y0, t_eval, **options):
    """`integrate` itself, so that no probe of the field is counted."""
    field = CountingField(Relaxation())
    with torch.no_grad():
        found = integrate(field, y0, torch.zeros(len(y0), dtype=torch.float64), t_eval, **options)
    return field, found


@every_precise
@pytest.mark.parametrize("initial_step", [None, 0.01])
def test_the_field_sees_as_many_rows_as_are_counted(solver, initial_step):
    method = SOLVERS[solver]
    controller = PIController(1e-5, 1e-5, method.error_order + 1, initial_step=initial_step)
    field, found = solve_counted(
        relaxations(RATES), TIMES.sort(dim=1)[0].abs(), method=method, controller=controller, max_steps=10_000
    )
    assert sum(field.rows) == int(found.n_evals.sum())
    assert field.rows[-1] < len(RATES), "those that are done leave"
    assert max(field.rows) == len(RATES)


@pytest.mark.parametrize("solver", REVERSIBLE)
def test_fixed_steps_are_counted_per_series(solver):
    method = SOLVERS[solver]
    t_eval = double([[0.5], [1.0], [nan], [0.0], [0.31]])
    field, found = solve_counted(
        relaxations([1.0] * 5), t_eval, method=method, controller=FixedStep(0.1), max_steps=100
    )
    n_steps = [5, 10, 0, 0, 4]
    stages = method.evaluations_per_step
    assert found.n_steps.tolist() == found.n_accepted.tolist() == n_steps
    assert found.n_evals.tolist() == [1 + stages * 5, 1 + stages * 10, 0, 1, 1 + stages * 4]
    assert sum(field.rows) == int(found.n_evals.sum())


@pytest.mark.parametrize("solver", IMPLICIT_TABLEAUS)
def test_iterations_are_counted_per_series(solver):
    t_eval = double([[0.5], [1.0], [nan], [0.0], [0.31]])
    field, found = solve_counted(
        relaxations([1.0] * 5), t_eval, method=SOLVERS[solver], controller=FixedStep(0.1), max_steps=100
    )
    assert found.n_steps.tolist() == found.n_accepted.tolist() == [5, 10, 0, 0, 4]
    assert found.n_evals[2:4].tolist() == [0, 1]
    assert sum(field.rows) == int(found.n_evals.sum())


def at(found, t_eval):
    return found.at(torch.zeros(len(t_eval), dtype=torch.float64), t_eval)[..., 0]


def ramp(script, t_eval, y0=None, field=lambda t, y: torch.ones_like(y), **options):
    y0 = torch.zeros(len(t_eval), 1, dtype=torch.float64) if y0 is None else y0
    t0 = torch.zeros(len(t_eval), dtype=torch.float64)
    return integrate(field, y0, t0, t_eval, method=Ramp(), controller=script, **{"max_steps": 50} | options)


def test_rejected_steps_move_nothing_and_are_counted():
    script = Script(accept=[True, False, False, True], h=[1.0, 2.0, 1.0, 0.5, 0.25])
    t_eval = double([[0.5, 1.25, 9.0], [0.5, 0.75, 1.0]])
    found = ramp(script, t_eval, max_steps=4)
    assert [h.tolist() for h in script.seen] == [[1.0, 1.0], [2.0], [1.0], [0.5]]
    assert found.n_steps.tolist() == [4, 1]
    assert found.n_accepted.tolist() == [2, 1]
    assert found.n_evals.tolist() == [5, 2]
    assert found.status.tolist() == [Status.MAX_STEPS, Status.SUCCESS]
    assert found.t_reached.tolist() == [1.5, 1.0]
    expected = double([[0.5, 1.25, nan], [0.5, 0.75, 1.0]])
    torch.testing.assert_close(at(found, t_eval), expected, equal_nan=True, rtol=0, atol=ROUNDING)


def test_the_kept_steps_are_the_accepted_ones():
    script = Script(accept=[True, False, True], h=[1.0, 2.0, 0.5, 4.0])
    found = ramp(script, double([[0.5, 1.25, 3.0], [0.5, 0.75, 1.0], [nan, nan, nan]]))
    assert [steps.rows.tolist() for steps in found.steps] == [[0, 1], [0], [0]]
    assert [steps.offset.tolist() for steps in found.steps] == [[0.0, 0.0], [1.0], [1.5]]
    assert [steps.h.tolist() for steps in found.steps] == [[1.0, 1.0], [0.5], [1.5]]
    assert [steps.last.tolist() for steps in found.steps] == [[False, True], [False], [True]]
    # pieces: the three starts, both steps of the first round, one each of the next ones, and what is not known
    assert found.pieces.place.tolist() == [[3, 5, 6], [4, 4, 4], [7, 7, 7]]


def test_steps_that_answer_nothing_are_kept_only_on_demand():
    t_eval = double([[2.5, 2.6], [0.5, 4.0]])
    whole = ramp(Script([True], [1.0]), t_eval)
    few = ramp(Script([True], [1.0]), t_eval, keep_steps=False)
    assert [steps.rows.tolist() for steps in whole.steps] == [[0, 1], [0, 1], [0, 1], [1]]
    assert few.steps == []
    for found in (whole, few):
        assert [marks.rows.tolist() for marks in found.marks] == [[1], [0], [1]]
        assert [marks.answers.tolist() for marks in found.marks] == [[1], [2], [1]]
        assert found.coefficients.shape[0] == 2 + 3 + 1
    assert torch.equal(at(few, t_eval), at(whole, t_eval))


def test_a_small_rest_is_taken_along_with_the_last_step():
    script = Script(accept=[True], h=[1.0])
    ramp(script, double([[2.005], [2.02]]))
    assert [h.tolist() for h in script.seen] == [
        pytest.approx([1.0, 1.0]),
        pytest.approx([1.005, 1.0]),
        pytest.approx([0.02]),
    ]


def test_backward_in_time_the_step_is_negative():
    t_eval = double([[-0.5, -1.5]])
    found = ramp(Script([True], [1.0]), t_eval)
    assert [steps.h.tolist() for steps in found.steps] == [[-1.0], [-0.5]]
    assert found.t_reached.tolist() == [-1.5]
    assert at(found, t_eval).tolist() == [[-0.5, -1.5]]


def test_rows_keep_their_places_when_others_leave():
    t_eval = double([[3.0], [1.0], [4.0], [2.0]])
    found = ramp(Script([True], [1.0]), t_eval, field=lambda t, y: torch.ones_like(y))
    assert [steps.rows.tolist() for steps in found.steps] == [[0, 1, 2, 3], [0, 2, 3], [0, 2], [2]]
    assert at(found, t_eval).tolist() == t_eval.tolist()
    assert found.n_steps.tolist() == [3, 1, 4, 2]
