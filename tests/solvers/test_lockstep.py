"""The loop for GPUs, on the CPU: the steps of `integrate`, and a host that reads once every few rounds."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from engine_stubs import CountingField, Swirl
from solver_groups import EXPLICIT_ADAPTIVE
from tolerances import ROUNDING, ROUNDING_SINGLE, TIGHT
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from latentode import solve_ivp
from latentode.gradients import problem as problem_module
from latentode.solvers import (
    CONTROLLERS,
    SOLVERS,
    TABLEAUS,
    FixedStep,
    PIController,
    Status,
    integrate,
    lockstep,
)
from latentode.solvers.front import Queries, begin, first_slopes, nothing_known
from latentode.solvers.lockstep import Ranks, integrate_in_lockstep

nan, inf = math.nan, math.inf
MESHES = [*((name, None) for name in EXPLICIT_ADAPTIVE), *((name, 0.07) for name in TABLEAUS)]


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def clock(solver, step_size=None, tolerance=1e-6, **options):
    if step_size is not None:
        return FixedStep(step_size)
    return PIController(tolerance, tolerance, SOLVERS[solver].error_order + 1, **options)


def random_batch(n, n_times, dtype=torch.float64):
    """Series of different lengths, every other one backwards in time, from different beginnings."""
    generator = torch.Generator().manual_seed(7)
    y0 = torch.randn(n, 2, dtype=dtype, generator=generator)
    t0 = torch.randn(n, dtype=torch.float64, generator=generator)
    distance = torch.rand(n, n_times, dtype=torch.float64, generator=generator).cumsum(dim=1)
    direction = 1.0 - 2.0 * (torch.arange(n) % 2)
    asked = torch.arange(n_times) < 1 + torch.arange(n)[:, None] % max(n_times, 1)
    distance[2:3, :1] = 0.0  # at t0
    return y0, t0, torch.where(asked, t0[:, None] + direction[:, None] * distance, nan)


def check_same(field, y0, t0, t_eval, *, tolerance=TIGHT, rounds_per_reading=8, **options):
    """Both loops leave the same behind; what `integrate` does is returned."""
    options = {"max_steps": 1000} | options
    with torch.no_grad():
        expected = integrate(field, y0, t0, t_eval, **options)
    found = integrate_in_lockstep(field, y0, t0, t_eval, rounds_per_reading=rounds_per_reading, **options)

    def check(a, b, what):
        if a is not None or b is not None:
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True, msg=what)

    for name in ("started", "status", "t_reached", "n_steps", "n_accepted", "n_evals", "coefficients"):
        check(getattr(found, name), getattr(expected, name), name)
    check(found.at(t0, t_eval), expected.at(t0, t_eval), "values")
    for kind in ("marks", "steps"):
        ours, theirs = getattr(found, kind), getattr(expected, kind)
        assert len(ours) == len(theirs), kind
        for one, other in zip(ours, theirs):
            for entry in fields(other):
                check(getattr(one, entry.name), getattr(other, entry.name), f"{kind}: {entry.name}")
    for entry in ("place", "runs", "lengths", "offset", "h"):
        check(getattr(found.pieces, entry), getattr(expected.pieces, entry), entry)
    assert (found.pace is None) == (expected.pace is None)
    if expected.pace is not None:
        gone_on = torch.isfinite(expected.pace.h)  # of fixed steps the state is not initialised
        check(found.pace.h, expected.pace.h, "pace")
        if options["controller"].adaptive:
            check(found.pace.control[gone_on], expected.pace.control[gone_on], "control")
    return expected


@pytest.mark.parametrize(("solver", "step_size"), MESHES, ids=str)
def test_every_explicit_solver(solver, step_size):
    tolerance = 1e-6 if SOLVERS[solver].order >= 3 else 1e-3
    expected = check_same(
        Swirl(), *random_batch(17, 5), method=SOLVERS[solver], controller=clock(solver, step_size, tolerance)
    )
    assert (expected.status == 0).all()
    assert len(set(expected.n_steps.tolist())) > 3, "the series leave at different rounds"


@pytest.mark.parametrize("step_size", [None, 0.07])
@pytest.mark.parametrize("n_times", [0, 1, 5])
@pytest.mark.parametrize("n", [0, 1, 17])
def test_every_size(n, n_times, step_size):
    controller = clock("dopri5", step_size)
    check_same(Swirl(), *random_batch(n, n_times), method=SOLVERS["dopri5"], controller=controller)


@pytest.mark.parametrize("keep_steps", [False, True])
@pytest.mark.parametrize("rounds_per_reading", [1, 3, 50])
def test_however_often_the_host_reads(rounds_per_reading, keep_steps):
    check_same(
        Swirl(),
        *random_batch(17, 5),
        method=SOLVERS["tsit5"],
        controller=clock("tsit5"),
        keep_steps=keep_steps,
        rounds_per_reading=rounds_per_reading,
    )


def test_single_precision():
    """With fixed steps: by rounding alone an adaptive solve may take another number of them."""
    swirl = Swirl(torch.float32)
    check_same(
        lambda t, y: swirl(t.to(y.dtype), y),
        *random_batch(17, 5, torch.float32),
        method=SOLVERS["rk4"],
        controller=FixedStep(0.07),
        tolerance=ROUNDING_SINGLE,
    )


@pytest.mark.parametrize("options", [{"first_step": 3.0}, {"max_step": 0.1}, {"min_step": 0.2}], ids=str)
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_every_controller(controller, options):
    """A first step of 3 is rejected; with steps of 0.2 at least, errors are borne."""
    names = {"first_step": "initial_step"}
    options = {names.get(name, name): value for name, value in options.items()}
    expected = check_same(
        Swirl(),
        *random_batch(17, 5),
        method=SOLVERS["bosh3"],
        controller=CONTROLLERS[controller](1e-7, 1e-7, 3, **options),
    )
    if "initial_step" in options:
        assert (expected.n_accepted < expected.n_steps).any()


@pytest.mark.parametrize("max_factor", [10.0, 3.3])
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_the_decision_of_each_series_is_that_of_the_branch(controller, max_factor):
    """Of each alone, so that `next_step` takes both its branches; also for errors that are no number."""
    control = CONTROLLERS[controller](
        1e-6, 1e-6, 5, max_factor=max_factor, safety=1.5, min_step=0.01, max_step=2.0
    )
    ratio = double([0.0, 1e-9, 0.5, 1.0, 1.5, 1e9, inf, nan])
    h = torch.linspace(0.005, 1.0, len(ratio), dtype=torch.float64)
    state = torch.rand(len(ratio), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.1
    state = state if controller == "pid" else state[:, 0]
    whole = control.masked_next_step(h, ratio, state)
    assert (whole.h <= h)[~whole.accept].all(), "whatever the safety factor"
    for i in range(len(ratio)):
        alone = control.next_step(h[[i]], ratio[[i]], state[[i]])
        for ours, expected in zip(whole, alone):
            torch.testing.assert_close(ours[[i]], expected, rtol=0, atol=0)


def test_an_integration_that_goes_on_from_another():
    y0, t0, t_eval = random_batch(17, 5)
    options = {"method": SOLVERS["dopri5"], "controller": clock("dopri5")}
    pace = check_same(Swirl(), y0, t0, t_eval, **options).pace
    some_unknown = pace._replace(h=torch.where(torch.arange(17) % 3 == 0, nan, pace.h))
    check_same(Swirl(), y0, t0, t_eval, pace=some_unknown, **options)


def broken(t, y):
    """y' = y² runs away; beyond -5 the field jumps by thirty orders of magnitude, at -9 it is not finite."""
    wall = torch.where((y < -5.0) & (t[:, None] > 0.3), 1e30, 1.0)
    return torch.where(y == -9.0, nan, wall * y**2)


# decays, runs away, starts broken, has no slope, meets the wall, asks nothing, takes many steps
BROKEN = double([[-1.0], [1.5], [nan], [-9.0], [-6.0], [1.0], [-1.0]])
BROKEN_TIMES = double([[0.5, 1.0], [0.2, 5.0], [0.5, 1.0], [0.5, nan], [0.1, 1.0], [nan, nan], [0.1, 400.0]])


@pytest.mark.parametrize("max_steps", [1, 8, 9, 60])
@pytest.mark.parametrize(
    ("solver", "step_size"), [("dopri5", None), ("bosh3", None), ("rk4", 0.1), ("dopri8", 0.1)], ids=str
)
def test_series_that_fail(solver, step_size, max_steps):
    expected = check_same(
        broken,
        BROKEN,
        torch.zeros(len(BROKEN), dtype=torch.float64),
        BROKEN_TIMES,
        method=SOLVERS[solver],
        controller=clock(solver, step_size, tolerance=1e-8),
        max_steps=max_steps,
    )
    if max_steps == 60:
        status = expected.status.tolist()
        assert status[2:4] == [Status.NON_FINITE] * 2
        assert Status.SUCCESS in status
        assert Status.MAX_STEPS in status
        assert step_size is None or status[1] == Status.NON_FINITE


def test_steps_that_shrink_to_nothing():
    """Noise far from the origin of time, which no step size brings below the tolerance; and a series beside it."""

    def noisy(t, y):
        """Each bit of time another slope."""
        return torch.where(y > 10.0, 1e6 * torch.cos(1e9 * t)[:, None], -y)

    t0 = torch.full((2,), 1e9, dtype=torch.float64)
    expected = check_same(
        noisy,
        double([[1e3], [1.0]]),
        t0,
        (t0 + 1)[:, None],
        method=SOLVERS["dopri5"],
        controller=clock("dopri5", tolerance=1e-9),
    )
    assert expected.status.tolist() == [Status.STEP_UNDERFLOW, Status.SUCCESS]


def test_a_series_that_has_left_stands_at_its_beginning():
    """There the field is known to be finite; it sees no value that a failed series left behind."""
    seen = []

    def field(t, y):
        seen.append((t[1].item(), y[1].item()))
        return y**2

    t0, t_eval = double([0.0, 0.25, 0.0]), double([[4.0], [9.0], [4.0]])
    method, options = SOLVERS["rk4"], {"controller": FixedStep(0.1), "max_steps": 100}
    run = integrate_in_lockstep(field, double([[-1.0], [1.5], [-2.0]]), t0, t_eval, method=method, **options)
    assert run.status.tolist() == [Status.SUCCESS, Status.NON_FINITE, Status.SUCCESS]
    until = 1 + int(run.n_steps[1]) * method.evaluations_per_step
    assert len(seen) >= until + 20 * method.evaluations_per_step
    assert set(seen[until:]) == {(0.25, 1.5)}


def test_the_batch_is_halved_where_half_of_it_has_left():
    """One series takes hundreds of rounds: not all the others step on with it."""
    y0 = torch.ones(16, 1, dtype=torch.float64)
    t_eval = torch.full((16, 1), 0.3, dtype=torch.float64)
    t_eval[3] = 30.0
    options = {"method": SOLVERS["rk4"], "controller": FixedStep(0.1), "max_steps": 1000}
    field = CountingField(lambda t, y: -y)
    check_same(field, y0, torch.zeros(16, dtype=torch.float64), t_eval, **options)
    field.rows.clear()
    integrate_in_lockstep(field, y0, torch.zeros(16, dtype=torch.float64), t_eval, **options)
    assert sorted(set(field.rows)) == [1, 16]
    assert field.rows.count(16) == 1 + 8 * SOLVERS["rk4"].evaluations_per_step, (
        "the beginning, and until the host reads"
    )


class Readings(TorchDispatchMode):
    """Counts what makes the host wait for numbers of the device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in {"index", "index_put", "index_put_"} and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        waits = {
            "_local_scalar_dense",
            "nonzero",
            "is_nonzero",
            "item",
            "masked_select",
            "equal",
            "unique_dim",
        }
        without_size = name == "repeat_interleave" and "output_size" not in (kwargs or {})
        self.count += name in waits or by_mask or without_size
        return func(*args, **(kwargs or {}))


def readings(n_rounds, monkeypatch, loop=integrate_in_lockstep, step_size=0.1, **options):
    """How often the host waits in a solve of 5 series of so many rounds."""
    y0, t0 = torch.ones(5, 1, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    t_eval = step_size * n_rounds * double([[0.1, 0.35, 1.0]]).expand(5, 3)
    with Readings() as mode, monkeypatch.context() as patch, torch.no_grad():
        original = torch.Tensor.tolist

        def tolist(x):  # which on the CPU reads memory without an operation
            mode.count += 1
            return original(x)

        patch.setattr(torch.Tensor, "tolist", tolist)
        run = loop(lambda t, y: -y, y0, t0, t_eval, method=SOLVERS["dopri5"], max_steps=1000, **options)
    assert run.n_steps.tolist() == [n_rounds] * 5
    return mode.count


@pytest.mark.parametrize(
    "controller",
    [FixedStep(0.1), PIController(1.0, 1.0, 5, initial_step=0.1, max_step=0.1)],
    ids=["fixed", "pi"],
)
def test_the_host_reads_once_every_eight_rounds(controller, monkeypatch):
    few, many = (readings(n, monkeypatch, controller=controller) for n in (8, 80))
    assert many - few == 80 // 8 - 1
    assert few <= 8, "at the beginning, and one"
    waiting = [readings(n, monkeypatch, loop=integrate, controller=controller) for n in (8, 80)]
    assert waiting[1] - waiting[0] >= 2 * 72, "the loop that waits is seen to wait"


@pytest.mark.parametrize(("solver", "step_size"), [("dopri5", None), ("dopri8", None), ("rk4", 0.1)], ids=str)
def test_a_round_on_a_device_without_numbers(solver, step_size):
    """On `meta`, whatever reads a number raises, and so does what mixes devices."""
    y0, t0, t_eval = random_batch(5, 3)
    method, controller, results = SOLVERS[solver], clock(solver, step_size, min_step=1e-3), nothing_known(t0)
    field, queries = Swirl(), Queries.of(t0, t_eval)
    with torch.no_grad():
        started, slope = first_slopes(field, y0, t0, queries.asked > 0, method, results)
        front = begin(field, y0, t0, t_eval, queries, started, slope, method, controller, results, None)
        there = replace(
            front, **{entry.name: getattr(front, entry.name).to("meta") for entry in fields(front)}
        )
        ranks = Ranks.of(there)
        rounds = [ranks.take_step(field.to("meta"), method, controller) for _ in range(3)]
    assert rounds[-1].dense.is_meta
    assert lockstep._positions(rounds[-1].accept, 2).shape == (2,)


@pytest.fixture
def in_lockstep(monkeypatch):
    """Lets `Problem.integrate` take the loop on the CPU too; returned are the sizes of the batches that did."""
    sizes = []

    def counted(field, y0, *args, **options):
        sizes.append(len(y0))
        return integrate_in_lockstep(field, y0, *args, **options)

    monkeypatch.setattr(problem_module, "integrate_in_lockstep", counted)
    monkeypatch.setattr(lockstep, "DEVICES", {"cpu"})
    return sizes


BOTH_SIDES = double([[0.5, -0.3, 0.2], [0.3, 0.6, 0.3], [-0.2, nan, 0.4], [nan, nan, nan]])


def gradients(solver, step_size, gradient="discrete_adjoint"):
    """Values, and gradients with respect to y0, t0, the query times and the parameters, on both sides of t0.

    A fifth series has no slope, a sixth takes too many steps: they leave no NaN.
    """
    swirl = Swirl()

    def field(t, y):
        return swirl(t, y) + torch.where(y.abs() > 50, 1e4 * torch.cos(1e4 * y), 0.0) + 0.0 / (y - 7.0)

    y0 = double([[0.4, -0.2], [1.0, 0.6], [-0.5, 0.3], [0.1, 0.2], [7.0, 1.0], [60.0, 90.0]]).requires_grad_()
    t_eval = torch.cat([BOTH_SIDES, BOTH_SIDES[:2]]).requires_grad_()
    t0 = torch.full((6,), 0.05, dtype=torch.float64).requires_grad_()
    solution = solve_ivp(
        field, y0, t_eval, t0=t0, solver=solver, step_size=step_size, max_steps=40, params=swirl.parameters(),
        gradient=gradient, engine="torch", throw=False,
    )  # fmt: skip
    known = torch.where(torch.isfinite(solution.y[:4]), solution.y[:4], 0.0)
    found = torch.autograd.grad(known.square().sum(), [y0, t0, t_eval, *swirl.parameters()])
    return [solution.y.detach(), solution.status, *solution.stats.values(), *found]


@pytest.mark.parametrize(
    ("solver", "step_size"), [("dopri5", None), ("bosh3", None), ("rk4", 0.1), ("euler", 0.1)], ids=str
)
def test_the_gradient_is_that_of_the_other_loop(solver, step_size, request):
    expected = gradients(solver, step_size)
    sizes = request.getfixturevalue("in_lockstep")
    found = gradients(solver, step_size)
    assert len(sizes) == 1, "both sides are one batch"
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours, theirs, rtol=ROUNDING, atol=ROUNDING, equal_nan=True)
    assert all(torch.isfinite(x).all() for x in found[-3:])
    assert Status.NON_FINITE in found[1].tolist()


@pytest.mark.parametrize("solver", ["dopri5", "bosh3", "euler"])
def test_gradcheck(solver, in_lockstep):
    swirl = Swirl()

    def answers(y0, t0, t_eval, *params):
        by_name = dict(zip(dict(swirl.named_parameters()), params))

        def field(t, y):
            return torch.func.functional_call(swirl, by_name, (t, y))

        solution = solve_ivp(
            field, y0, t_eval, t0=t0, solver=solver, step_size=0.17, params=params, engine="torch"
        )
        return torch.where(torch.isnan(t_eval)[..., None], 0.0, solution.y)

    y0 = double([[0.4, -0.2], [1.0, 0.7], [-0.5, 0.3]]).requires_grad_()
    t0, t_eval = double([0.1, 0.1, 0.1]).requires_grad_(), BOTH_SIDES[:3].clone().requires_grad_()
    assert gradcheck(answers, (y0, t0, t_eval, *swirl.parameters()))
    assert in_lockstep


def test_the_continuous_adjoint(in_lockstep):
    """Without parameters nothing is shown to it: its ways back are in lockstep too."""

    def solved(gradient):
        y0 = double([[0.4, -0.2], [1.0, 0.7]]).requires_grad_()
        solution = solve_ivp(
            lambda t, y: torch.sin(y) - t[:, None] * y,
            y0,
            [0.0, 0.5, 1.0],
            gradient=gradient,
            rtol=1e-9,
            atol=1e-9,
        )
        return torch.autograd.grad(solution.y.square().sum(), y0)[0]

    expected = solved("backprop")
    assert not in_lockstep, "a graph grows along the other loop"
    torch.testing.assert_close(solved("adjoint"), expected, rtol=TIGHT, atol=TIGHT)
    assert len(in_lockstep) == 3


def decay(t, y):
    return -y


class Paced:
    """A field that bounds its steps."""

    def __call__(self, t, y):
        return -y

    def largest_step(self, t, y, direction):
        return torch.full_like(t, 0.1)


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch warns of itself
def test_what_is_left_to_the_other_loop(in_lockstep):
    """Methods that it does not know, fields that bound their steps, observers, forward mode."""
    y0, times = torch.ones(2, 1, dtype=torch.float64, requires_grad=True), [0.0, 0.4]
    solve_ivp(decay, y0, times, solver="kvaerno5")
    solve_ivp(decay, y0, times, gradient="reversible")
    solve_ivp(Paced(), y0, times)
    with torch.no_grad():
        torch.func.jvp(lambda y: solve_ivp(decay, y, times, gradient="backprop").y, (y0,), (y0,))
    assert in_lockstep == []
    solve_ivp(decay, y0, times)
    assert in_lockstep == [2]


def test_on_the_cpu_the_other_loop_serves(monkeypatch):
    monkeypatch.delattr(problem_module, "integrate_in_lockstep")
    solve_ivp(decay, torch.ones(2, 1), [0.0, 0.4])
