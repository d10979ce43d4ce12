"""The native solve against torch's, closed forms and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from both_engines import (
    ADAPTIVE,
    EXPLICIT,
    Case,
    Conditioned,
    assert_same,
    difference,
    make_case,
    make_field,
    solve,
)
from scipy.linalg import expm

from latentode import solve_ivp
from latentode.native.library import library
from latentode.nn.mlp import ACTIVATIONS
from latentode.solvers import CONTROLLERS, Status

pytestmark = pytest.mark.skipif(library() is None, reason="the native kernels are not built here")

FIXED = 1e-12  # some hundred operations in float64
ADAPTED = 1e-11  # rounding reaches the sizes of the steps, and these the answers
GRADIENT = 1e-10  # sums over all evaluations, of either sign
SINGLE, SINGLE_GRADIENT = 5e-6, 2e-5  # a hundred operations in float32


@pytest.mark.parametrize("time_dependent", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["mlp", "gated"])
def test_fields(kind, activation, time_dependent):
    field = make_field(kind, activation=activation, time_dependent=time_dependent)
    assert_same(make_case(field, n=9), FIXED, GRADIENT, solver="rk4", step_size=0.15)
    assert_same(make_case(field, n=9), ADAPTED, GRADIENT, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "activation", [name for name in ACTIVATIONS if name != "relu"]
)  # has kinks: rounding chooses
@pytest.mark.parametrize("kind", ["mlp", "gated"])
class TestSinglePrecision:
    def test_fixed_steps(self, kind, activation):
        field = make_field(kind, activation=activation, time_dependent=True, dtype=torch.float32)
        options = {"solver": "dopri5", "step_size": 0.15}
        assert_same(make_case(field, n=19, span=4.0), SINGLE, SINGLE_GRADIENT, **options)

    def test_chosen_steps(self, kind, activation):
        """The estimate of a small error is mostly rounding, so that steps are a little longer or shorter."""
        case = make_case(make_field(kind, activation=activation, dtype=torch.float32), n=19)
        native, torchs = (solve(case, engine, rtol=1e-3, atol=1e-4) for engine in ("native", "torch"))
        assert torch.equal(native.solution.status, torchs.solution.status)
        apart = native.solution.stats["n_steps"] - torchs.solution.stats["n_steps"]
        assert apart.abs().max() <= 1
        assert (apart != 0).double().mean() <= 0.2
        assert difference(native.solution.y, torchs.solution.y) < 1e-5
        for name, expected in torchs.gradients.items():
            assert difference(native.gradients[name], expected) < 1e-3, name


@pytest.mark.parametrize("solver", EXPLICIT)
def test_solvers_with_fixed_steps(solver):
    assert_same(
        make_case(make_field("mlp", time_dependent=True)), FIXED, GRADIENT, solver=solver, step_size=0.2
    )


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("solver", ADAPTIVE)
def test_solvers_that_choose_their_steps(solver, controller):
    case = make_case(make_field("gated", time_dependent=True))
    answer = assert_same(case, ADAPTED, GRADIENT, solver=solver, controller=controller, rtol=1e-4, atol=1e-5)
    assert answer.solution.stats["n_steps"].max() > 3


def test_rejected_steps():
    case = make_case(make_field("mlp", activation="elu"), n=40, span=5.0)
    case.field.mlp.layers[0].weight.data *= 3
    answer = assert_same(case, ADAPTED, GRADIENT, first_step=2.0, rtol=1e-5)
    assert (answer.solution.stats["n_steps"] > answer.solution.stats["n_accepted"]).sum() > 30


@pytest.mark.parametrize("options", [
    {"first_step": 0.01},
    {"min_step": 0.3, "rtol": 1e-8},  # accepted whatever the error is
    {"max_step": 0.05},
    {"first_step": 0.3, "min_step": 0.2, "max_step": 0.2},
    {"rtol": 0.0, "atol": 1e-5},
    {"rtol": 1e-5, "atol": 0.0},
    {"rtol": 1e-9, "atol": 1e-9},
])  # fmt: skip
def test_bounds_and_tolerances(options):
    assert_same(make_case(make_field("mlp", time_dependent=True)), ADAPTED, 1e-9, **options)


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 100])
def test_numbers_of_series(n):
    assert_same(make_case(make_field("mlp"), n=n), ADAPTED, GRADIENT, atol=1e-4)
    single = make_case(make_field("mlp", dtype=torch.float32), n=n)
    assert_same(single, SINGLE, SINGLE_GRADIENT, solver="rk4", step_size=0.3)


@pytest.mark.parametrize("dim", [1, 2, 4, 5, 8, 13])
@pytest.mark.parametrize(("depth", "width"), [(0, 1), (1, 1), (2, 12), (1, 13), (3, 25), (1, 64)])
def test_widths_at_the_edges_of_tiles(dim, depth, width):
    field = make_field("mlp", dim, width, depth=depth, time_dependent=True, activation="softplus")
    assert_same(make_case(field, n=5), FIXED, GRADIENT, solver="bosh3", step_size=0.4)


def test_as_many_layers_as_the_kernels_know():
    assert_same(make_case(make_field("mlp", depth=15)), FIXED, GRADIENT, solver="rk4", step_size=0.4)


def test_layers_without_biases():
    field = make_field("gated", depth=2)
    for layer in field.mlp.layers:
        layer.bias = None
    assert_same(make_case(field), FIXED, GRADIENT, solver="rk4", step_size=0.3)


@pytest.mark.parametrize("n_inputs", [1, 4])
@pytest.mark.parametrize("time_dependent", [False, True])
def test_columns_that_stay(n_inputs, time_dependent):
    field = Conditioned(3, n_inputs, time_dependent=time_dependent).double()
    case = make_case(field, n=21, dim=3 + n_inputs)
    assert_same(case, FIXED, GRADIENT, solver="rk4", step_size=0.2)
    assert_same(case, ADAPTED, GRADIENT, rtol=1e-5)


def queries(case: Case, change) -> Case:
    t_eval = case.t_eval.clone()
    change(t_eval, case.t0)
    return case._replace(t_eval=t_eval)


def all_missing(t_eval, t0):
    t_eval[::2] = math.nan


def all_at_start(t_eval, t0):
    t_eval[:] = t0[:, None]


def some_missing(t_eval, t0):
    t_eval[::2, ::2] = math.nan
    t_eval[1, -3:] = math.nan


def repeated(t_eval, t0):
    t_eval[:, 1:] = t_eval[:, :1]


def forwards(t_eval, t0):
    t_eval[:] = t0[:, None] + (t_eval - t0[:, None]).abs().sort(dim=1).values


def backwards(t_eval, t0):
    t_eval[:] = t0[:, None] - (t_eval - t0[:, None]).abs().sort(dim=1).values


def either_way(t_eval, t0):
    forwards(t_eval, t0)
    t_eval[::2] = 2 * t0[::2, None] - t_eval[::2]


@pytest.mark.parametrize(
    "change", [all_missing, all_at_start, some_missing, repeated, forwards, backwards, either_way]
)
def test_query_times(change):
    case = queries(make_case(make_field("mlp", time_dependent=True), n=11), change)
    assert_same(case, ADAPTED, GRADIENT, rtol=1e-4)
    assert_same(case, FIXED, GRADIENT, solver="heun3", step_size=0.2)


@pytest.mark.parametrize("n_times", [0, 1])
def test_few_query_times(n_times):
    assert_same(make_case(make_field("mlp"), n_times=n_times), ADAPTED, GRADIENT)


def test_the_first_query_time_is_t0_where_none_is_given():
    assert_same(make_case(make_field("mlp", time_dependent=True)), ADAPTED, GRADIENT, t0=False)


def test_times_far_from_zero():
    case = make_case(make_field("mlp"))
    assert_same(Case(case.field, case.y0, case.t_eval + 1e6, case.t0 + 1e6), 1e-9, 1e-8)


def test_memory_of_any_layout():
    case = make_case(make_field("mlp"), n=8)
    wide = torch.stack([case.y0, case.y0 + 1], dim=1)
    t_eval = case.t_eval.sort(dim=1).values + 3
    expected = solve_ivp(case.field, case.y0, t_eval, t0=case.t0, engine="torch").y
    for y0 in (wide[:, 0], case.y0.T.contiguous().T):
        for times in (t_eval, t_eval.T.contiguous().T):
            with torch.no_grad():
                assert (
                    difference(solve_ivp(case.field, y0, times, t0=case.t0, engine="native").y, expected)
                    < ADAPTED
                )
    shared = solve_ivp(case.field, case.y0, t_eval[0], t0=0.5, engine="native").y
    assert difference(shared, solve_ivp(case.field, case.y0, t_eval[0], t0=0.5, engine="torch").y) < ADAPTED


class TestFailures:
    @pytest.mark.parametrize("max_steps", [1, 2, 4])
    def test_too_many_steps(self, max_steps):
        case = make_case(make_field("mlp"), n=20)
        answer = assert_same(case, ADAPTED, GRADIENT, max_steps=max_steps, max_step=0.1)
        assert (answer.solution.status == Status.MAX_STEPS).any()
        assert_same(case, FIXED, GRADIENT, max_steps=max_steps, solver="rk4", step_size=0.2)

    def test_no_series_reaches_a_query_time(self):
        case = make_case(make_field("mlp"), n=2, n_times=1)
        answer = assert_same(case._replace(t_eval=case.t0[:, None] + 50), ADAPTED, GRADIENT, max_steps=2)
        assert answer.solution.y.isnan().all()
        assert not any(gradient.any() for gradient in answer.gradients.values())

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_states_that_are_not_finite(self, bad):
        case = make_case(make_field("mlp"), n=20)
        case.y0[[0, 3, 19], [0, 1, 2]] = bad
        answer = assert_same(case, ADAPTED, GRADIENT)
        assert (answer.solution.status[[0, 3, 19]] == Status.NON_FINITE).all()
        assert (answer.solution.status == Status.SUCCESS).sum() == 17
        assert_same(case, FIXED, GRADIENT, solver="rk4", step_size=0.2)

    def test_still_columns_that_are_not_finite(self):
        case = make_case(Conditioned(2, 2).double(), n=6, dim=4)
        case.y0[1, 3] = math.nan
        assert_same(case, ADAPTED, GRADIENT)

    @pytest.mark.parametrize("options", [{"max_steps": 400}, {"solver": "rk4", "step_size": 0.3}])
    def test_growth_beyond_all_numbers(self, options):
        field = make_field("mlp", activation="relu", depth=1)
        with torch.no_grad():
            field.mlp.layers[1].weight.mul_(3e3)
        case = make_case(field, n=12, span=20.0)
        case.y0[::2] = 0
        field.mlp.layers[0].bias.data.zero_()
        field.mlp.layers[1].bias.data.zero_()
        native, torchs = (solve(case, engine, **options).solution for engine in ("native", "torch"))
        assert torch.equal(native.status, torchs.status)
        assert torch.equal(native.y.isnan(), torchs.y.isnan())
        assert (native.status[::2] == Status.SUCCESS).all()
        assert (native.status != Status.SUCCESS).any()

    def test_a_slope_at_t0_that_is_not_finite(self):
        field = make_field("mlp", activation="relu", depth=1)
        field.mlp.layers[1].weight.data.mul_(1e300)
        case = make_case(field, n=6)
        case.y0[::2] *= 1e200
        native, torchs = (solve(case, engine).solution for engine in ("native", "torch"))
        assert torch.equal(native.status, torchs.status)
        assert torch.equal(native.y.isnan(), torchs.y.isnan())
        assert torch.equal(native.stats["n_evals"], torchs.stats["n_evals"])


class TestOracles:
    def linear(self):
        """dy/dt = A y + b, as a network without hidden layers."""
        field = make_field("mlp", 3, depth=0)
        layer = field.mlp.layers[0]
        a, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        return field, np.block([[a, b[:, None]], [np.zeros((1, 4))]])

    def test_matrix_exponential(self):
        field, matrix = self.linear()
        case = make_case(field, n=5, n_times=8)
        y = solve_ivp(
            field, case.y0, case.t_eval, t0=case.t0, solver="dopri8", rtol=1e-11, atol=1e-11, engine="native"
        ).y
        for i, q in np.ndindex(5, 8):
            expected = expm(matrix * float(case.t_eval[i, q] - case.t0[i])) @ np.append(case.y0[i].numpy(), 1)
            np.testing.assert_allclose(y[i, q].detach().numpy(), expected[:3], atol=1e-9)

    @pytest.mark.parametrize("options", [{"solver": "rk4", "step_size": 0.37}, {"rtol": 1e-9, "atol": 1e-9}])
    @pytest.mark.parametrize("kind", ["mlp", "gated"])
    def test_finite_differences(self, kind, options):
        field = make_field(kind, 2, 3, depth=1, time_dependent=True)
        case = make_case(field, n=2, n_times=3, span=1.0)

        def solution(y0, t0, t_eval, *parameters):  # gradcheck changes the parameters where they are
            return solve_ivp(field, y0, t_eval, t0=t0, engine="native", **options).y

        leaves = [x.clone().requires_grad_() for x in (case.y0, case.t0, case.t_eval)]
        tolerance = 1e-6 if "step_size" in options else 1e-5  # steps follow the state, by the tolerance
        assert torch.autograd.gradcheck(solution, (*leaves, *field.parameters()), atol=tolerance, rtol=1e-5)

    def test_finite_differences_of_still_columns(self):
        field = Conditioned(2, 2, 3).double()
        case = make_case(field, n=2, n_times=3, dim=4)

        def solution(y0):
            return solve_ivp(
                field, y0, case.t_eval, t0=case.t0, solver="rk4", step_size=0.3, engine="native"
            ).y

        assert torch.autograd.gradcheck(solution, (case.y0.requires_grad_(),))

    def test_second_derivatives(self):
        field = make_field("gated", 2, 3, depth=1, time_dependent=True)
        case = make_case(field, n=2, n_times=2, span=0.5)

        def solution(y0, t0, t_eval, *parameters):
            return solve_ivp(field, y0, t_eval, t0=t0, solver="rk4", step_size=0.4, engine="native").y

        leaves = [x.clone().requires_grad_() for x in (case.y0, case.t0, case.t_eval)]
        assert torch.autograd.gradgradcheck(solution, (*leaves, *field.parameters()), atol=1e-5)


@pytest.mark.parametrize("wanted", ["y0", "t0", "t_eval", "parameters", "one bias"])
def test_gradients_of_some_inputs_alone(wanted):
    case = make_case(make_field("gated", time_dependent=True))
    expected = solve(case, "torch").gradients
    case.field.requires_grad_(wanted == "parameters")
    case.field.mlp.layers[1].bias.requires_grad_(wanted in ("parameters", "one bias"))
    leaves = {
        name: getattr(case, name).clone().requires_grad_(name == wanted) for name in ("y0", "t_eval", "t0")
    }
    y = solve_ivp(case.field, leaves["y0"], leaves["t_eval"], t0=leaves["t0"], engine="native").y
    y.backward(torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(9)))
    found = {
        name: x.grad for name, x in (leaves | dict(case.field.named_parameters())).items() if x.requires_grad
    }
    assert found
    for name, gradient in found.items():
        assert difference(gradient, expected[name]) < GRADIENT


def test_backward_twice_through_one_solve():
    case = make_case(make_field("mlp"))
    y0 = case.y0.requires_grad_()
    total = solve_ivp(case.field, y0, case.t_eval, t0=case.t0, engine="native").y.sum()
    first, second = (torch.autograd.grad(total, y0, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("max_steps", [2, 4, 6, 100])
def test_sides_that_fail_by_themselves(max_steps):
    """One side of a series may run out of steps while the other one is answered; nothing is asked of the last one."""
    field = make_field("mlp")
    y0 = 3 * torch.randn(4, field.latent_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = [
        [0.1, -8.0, 8.0, -0.1],
        [40.0, -0.1, 0.0, torch.nan],
        [-40.0, torch.nan, 0.1, 0.2],
        [torch.nan] * 4,
    ]
    asked = torch.tensor(times, dtype=torch.float64)
    one, other = (
        solve_ivp(field, y0, asked, t0=0.0, engine=engine, max_steps=max_steps, throw=False)
        for engine in ("torch", "native")
    )
    assert torch.equal(one.status, other.status)
    assert torch.equal(one.y.isnan(), other.y.isnan())
    assert max_steps != 2 or (one.status[:3] > 0).all()
    torch.testing.assert_close(other.y, one.y, equal_nan=True)
    torch.testing.assert_close(other.t_reached, one.t_reached)
    for name in ("n_steps", "n_accepted", "n_evals"):
        assert torch.equal(one.stats[name], other.stats[name]), name
