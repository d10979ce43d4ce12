"""Continuous flows against matrix exponentials, Jacobians of the solved map, and finite differences."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import nn

from latentode.gradients import GRADIENTS
from latentode.models.continuous_flow import ContinuousFlow, standard_normal_log_density
from latentode.models.flow_loss import ContinuousFlowLoss
from latentode.models.solve_options import SolveOptions
from latentode.nn.flow_fields import FLOW_FIELDS

TIGHT = SolveOptions(rtol=1e-10, atol=1e-10)
SOLVED = 1e-8  # two solves at 1e-10 in float64
STANDARD_ERRORS = 5.0
A = torch.tensor([[0.3, -1.1, 0.2], [0.7, -0.4, 0.0], [0.1, 0.5, 0.9]], dtype=torch.float64)


class Linear(nn.Module):
    """dz/dt = rate(t) A z, solved by exp(∫ rate dt A)."""

    def __init__(self, matrix=A):
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, t, z):
        return (1 + t)[:, None] * (z @ self.matrix.T)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n=5, d=3, seed=4):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def stirred_flow(name, d=3, **options):
    field = FLOW_FIELDS[name](d, 6, generator=generator())
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator(1)))
    return ContinuousFlow(field.double(), d, **({"options": TIGHT} | options))


def test_a_linear_field_is_a_matrix_exponential():
    flow = ContinuousFlow(Linear(), 3, end_time=0.8, options=TIGHT)
    span = 0.8 + 0.8**2 / 2  # ∫ (1 + t) dt
    x = rows()
    z, log_det = flow.to_base(x)
    torch.testing.assert_close(z, x @ torch.linalg.matrix_exp(-span * A).T, rtol=0, atol=SOLVED)
    torch.testing.assert_close(
        log_det, torch.full((5,), -span * float(A.trace()), dtype=torch.float64), rtol=0, atol=SOLVED
    )
    back, back_log_det = flow.from_base(z)
    torch.testing.assert_close(back, x, rtol=0, atol=SOLVED)
    torch.testing.assert_close(back_log_det, -log_det, rtol=0, atol=SOLVED)


def test_the_density_of_a_linear_field_is_gaussian():
    flow = ContinuousFlow(Linear(), 3, options=TIGHT)
    map_ = torch.linalg.matrix_exp(1.5 * A)
    truth = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), map_ @ map_.T)
    torch.testing.assert_close(flow.log_density(rows()), truth.log_prob(rows()), rtol=0, atol=SOLVED)


@pytest.mark.parametrize("name", FLOW_FIELDS)
def test_log_det_is_that_of_the_solved_map(name):
    flow, x = stirred_flow(name), rows(3)
    log_det = flow.to_base(x).log_det

    def to_base(one):
        return flow.to_base(one[None], gradient="backprop").points[0]

    for row, found in zip(x, log_det):
        jacobian = torch.autograd.functional.jacobian(to_base, row)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, found, rtol=0, atol=SOLVED)


@pytest.mark.parametrize("name", FLOW_FIELDS)
def test_there_and_back(name):
    flow, x = stirred_flow(name), rows()
    z, log_det = flow.to_base(x)
    back = flow.from_base(z)
    torch.testing.assert_close(back.points, x, rtol=0, atol=SOLVED)
    torch.testing.assert_close(back.log_det, -log_det, rtol=0, atol=SOLVED)


def test_the_density_integrates_to_one():
    flow = stirred_flow("concatsquash", 2, options=SolveOptions(rtol=1e-6, atol=1e-6))
    side = torch.linspace(-12, 12, 121, dtype=torch.float64)
    density = flow.log_density(torch.cartesian_prod(side, side)).detach().exp()
    assert float(density.max()) < 2.0  # wide enough for a grid of 0.2
    assert float(density.sum()) * 0.2**2 == pytest.approx(1.0, abs=1e-4)


def test_a_path_passes_through_its_ends():
    flow, z = stirred_flow("gated"), rows()
    path = flow.travel(z, (0.0, 0.3, 1.0))
    assert path.points.shape == (5, 3, 3)
    assert torch.equal(path.points[:, 0], z)
    assert not path.log_det[:, 0].any()
    torch.testing.assert_close(path.points[:, 2], flow.from_base(z).points, rtol=0, atol=SOLVED)
    torch.testing.assert_close(path.log_det[:, 2], flow.from_base(z).log_det, rtol=0, atol=SOLVED)
    onwards = flow.travel(path.points[:, 1], (0.3, 1.0))
    torch.testing.assert_close(onwards.points[:, -1], path.points[:, 2], rtol=0, atol=SOLVED)


def test_rows_do_not_feel_their_company():
    flow, x = stirred_flow("concatsquash", options=SolveOptions(rtol=1e-3, atol=1e-3)), rows(6)
    together, alone = flow.to_base(x), flow.to_base(x[2:3])
    torch.testing.assert_close(together.log_det[2:3], alone.log_det, rtol=0, atol=1e-12)
    probes = [flow.travel(x, (1.0, 0.0), trace="hutchinson", generator=generator(2)) for _ in range(2)]
    assert torch.equal(probes[0].log_det, probes[1].log_det)


def test_hutchinsons_mean_is_the_exact_log_det():
    flow, x = stirred_flow("concatsquash", options=SolveOptions(rtol=1e-6, atol=1e-6)), rows(1)
    many = x.expand(1500, -1)
    with torch.no_grad():
        exact = flow.travel(x, (1.0, 0.0), jacobian=True)
        found = flow.travel(many, (1.0, 0.0), jacobian=True, trace="hutchinson", generator=generator(7))
    for draws, truth in (
        (found.log_det[:, -1], exact.log_det[:, -1]),
        (found.jacobian, exact.jacobian),
    ):
        error = float(draws.std()) / 1500**0.5
        assert error > 1e-4
        assert abs(float(draws.mean() - truth)) < STANDARD_ERRORS * error


def test_signs_estimate_the_trace_of_a_diagonal_field_exactly():
    flow = ContinuousFlow(Linear(torch.diag(torch.tensor([0.5, -0.2, 0.1]).double())), 3, options=TIGHT)
    exact = flow.to_base(rows(), trace="exact").log_det
    guess = flow.to_base(rows(), trace="hutchinson", generator=generator()).log_det
    torch.testing.assert_close(guess, exact, rtol=0, atol=SOLVED)


@torch.no_grad()
def test_more_probes_scatter_less():
    x = rows(1).expand(400, -1)
    flows = [stirred_flow("concatsquash", n_probes=k) for k in (1, 16)]
    few, many = (flow.to_base(x, trace="hutchinson", rtol=1e-4).log_det.std() for flow in flows)
    assert many < 0.5 * few  # a quarter of it, by 1 / sqrt(16)


@pytest.mark.parametrize(
    ("name", "d", "estimated"),
    [
        ("concatsquash", 10, False),
        ("concatsquash", 11, True),
        ("gated", 11, False),
        ("planar", 11, False),
    ],
)
def test_auto_is_exact_where_that_is_cheap(name, d, estimated):
    flow, x = stirred_flow(name, d), rows(2, d)
    options = {"rtol": 1e-6, "atol": 1e-6}
    auto = flow.to_base(x, generator=generator(), **options).log_det
    exact = flow.to_base(x, trace="exact", **options).log_det
    assert torch.equal(auto, exact) != estimated


@pytest.mark.parametrize("backwards", [False, True])
def test_energies_of_a_linear_field(backwards):
    """dz/dt = c z with c = 0.7: ∫|f|² dt = c |z0|² (e^{2c} - 1) / 2 and ∫|J|² dt = D c², whichever way."""

    class Growth(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

        def forward(self, t, z):
            return self.c * z

    flow, z = ContinuousFlow(Growth(), 3, options=TIGHT), rows()
    begin = z * math.exp(0.7) if backwards else z
    times = (1.0, 0.0) if backwards else (0.0, 1.0)
    for options in product((False, True), repeat=2):
        path = flow.travel(begin, times, kinetic=options[0], jacobian=options[1])
        assert (path.kinetic is None, path.jacobian is None) == (not options[0], not options[1])
        if path.kinetic is not None:
            expected = 0.7 * z.square().sum(1) * (math.exp(1.4) - 1) / 2
            torch.testing.assert_close(path.kinetic, expected, rtol=0, atol=1e-7)
        if path.jacobian is not None:
            torch.testing.assert_close(
                path.jacobian, torch.full_like(path.jacobian, 3 * 0.49), rtol=1e-9, atol=0
            )


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_energies_cost_no_steps(trace):
    """The very same steps, the first one included."""
    flow, x = stirred_flow("concatsquash", options=SolveOptions(rtol=1e-5, atol=1e-5)), rows()
    plain, both = (
        flow.travel(x, (1.0, 0.0), trace=trace, generator=generator(), kinetic=asked, jacobian=asked)
        for asked in (False, True)
    )
    assert torch.equal(both.n_evals, plain.n_evals)
    torch.testing.assert_close(both.points, plain.points, rtol=0, atol=1e-12)
    torch.testing.assert_close(both.log_det, plain.log_det, rtol=0, atol=1e-12)


class Trembling(nn.Module):
    """Far points that tremble within their tolerance, with a kinetic energy that many steps would have to follow."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(10.0, dtype=torch.float64))

    def forward(self, t, z):
        return (self.strength * torch.cos(20 * t)).to(z)[:, None].expand_as(z)


@pytest.mark.parametrize("gradient", ["discrete_adjoint", "backprop"])
def test_a_trembling_energy_is_not_waited_for(gradient):
    flow = ContinuousFlow(Trembling(), 3, options=SolveOptions(rtol=1e-3, atol=1e-3, gradient=gradient))
    plain, watched = (flow.travel(1e4 + rows(), (1.0, 0.0), kinetic=asked) for asked in (False, True))
    assert torch.equal(watched.n_evals, plain.n_evals)
    assert (plain.n_evals < 20).all()


def test_where_probes_are_found_costs_no_steps():
    """Signs estimate the trace of a diagonal field exactly: the same state, but for a column that never changes."""
    diagonal = torch.diag(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64))
    flow = ContinuousFlow(Linear(diagonal), 3, options=SolveOptions(rtol=1e-5, atol=1e-5))
    exact, estimated = (
        flow.travel(rows(), (1.0, 0.0), trace=trace, generator=generator())
        for trace in ("exact", "hutchinson")
    )
    assert torch.equal(estimated.n_evals, exact.n_evals)


def test_a_wild_energy_is_not_waited_for():
    """Steps are chosen by points and log det alone: an integrand that no step could follow changes nothing."""
    flow, x = stirred_flow("planar", options=SolveOptions(rtol=1e-5, atol=1e-5)), rows()
    huge = ContinuousFlow(flow.field[0], 3, options=flow.options)
    plain = huge.travel(1e3 * x, (1.0, 0.0), trace="hutchinson", generator=generator())
    wild = huge.travel(
        1e3 * x, (1.0, 0.0), trace="hutchinson", generator=generator(), kinetic=True, jacobian=True
    )
    assert (wild.n_evals - plain.n_evals).abs().max() <= 6


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("name", FLOW_FIELDS)
def test_gradients_by_finite_differences(name, gradient, trace):
    flow = stirred_flow(name, 2, options=SolveOptions(rtol=1e-9, atol=1e-9, gradient=gradient))
    x, weight = rows(3, 2), torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    flow.trace = trace
    loss = ContinuousFlowLoss(kinetic=0.3, jacobian=0.2, log_scale=0.0)

    def value():
        return loss(flow, x, weight, generator(3)).total

    found = torch.autograd.grad(value(), list(flow.parameters()))
    directions = [torch.randn(p.shape, generator=generator(5), dtype=p.dtype) for p in flow.parameters()]
    along = sum(float((g * d).sum()) for g, d in zip(found, directions))
    assert along == pytest.approx(
        _slope_along(value, list(flow.parameters()), directions), rel=1e-5, abs=1e-6
    )


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_of_a_users_field(gradient):
    flow = ContinuousFlow(Linear(), 3, options=SolveOptions(rtol=1e-9, atol=1e-9, gradient=gradient))
    parameters = list(flow.parameters())
    flow.log_density(rows()).sum().backward()
    exact = Linear().matrix
    map_ = torch.linalg.matrix_exp(1.5 * exact)
    truth = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), map_ @ map_.T)
    (expected,) = torch.autograd.grad(truth.log_prob(rows()).sum(), exact)
    torch.testing.assert_close(parameters[0].grad, expected, rtol=0, atol=1e-6)


def test_the_loss_is_a_weighted_mean_in_units_of_the_data():
    flow, x = stirred_flow("concatsquash"), rows()
    weight = torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0], dtype=torch.float64)
    found = ContinuousFlowLoss(0.0, 0.0, log_scale=1.5)(flow, x, weight, generator())
    expected = 1.5 - (flow.log_density(x) * weight / 4).sum()
    torch.testing.assert_close(found.total, expected, rtol=0, atol=SOLVED)
    assert float(found.weight) == 4.0
    found.total.backward()
    assert float(found.parts["n_evals"]) > 0
    assert float(found.parts["n_evals_backward"]) > 0


def test_penalties_count_in_training_only():
    flow, x = stirred_flow("concatsquash"), rows()
    ones = torch.ones(5, dtype=torch.float64)
    loss = ContinuousFlowLoss(kinetic=0.5, jacobian=0.25, log_scale=0.0)
    path = flow.travel(x, (1.0, 0.0), kinetic=True, jacobian=True)
    nats = -(standard_normal_log_density(path.points[:, -1]) + path.log_det[:, -1]).mean()
    trained = loss(flow.train(), x, ones, generator()).total
    expected = nats + 0.5 * path.kinetic.mean() + 0.25 * path.jacobian.mean()
    torch.testing.assert_close(trained, expected, rtol=0, atol=SOLVED)
    validated = loss(flow.eval(), x, ones, generator())
    torch.testing.assert_close(validated.total, nats, rtol=0, atol=SOLVED)
    assert set(validated.parts) == {"n_evals"}


def test_fixed_steps_and_implicit_solvers_will_do():
    flow, x = stirred_flow("concatsquash"), rows()
    exact = flow.to_base(x).log_det
    for options in (
        {"solver": "rk4", "step_size": 0.02},
        {"solver": "kvaerno5", "rtol": 1e-7, "atol": 1e-7},
        {"solver": "reversible_heun", "rtol": 1e-6, "atol": 1e-6},
    ):
        torch.testing.assert_close(flow.to_base(x, **options).log_det, exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"trace": "some"}, "trace must be one of auto, exact, hutchinson; got 'some'"),
        ({"end_time": 0.0}, "end_time must be positive and finite; got 0.0"),
        ({"n_probes": 0}, "n_probes must be at least 1; got 0"),
    ],
)
def test_bad_arguments(options, text):
    with pytest.raises(ValueError, match=text):
        ContinuousFlow(Linear(), 3, **options)


def test_bad_calls():
    flow = ContinuousFlow(Linear(), 3)
    with pytest.raises(ValueError, match=r"points must have shape \(N, 3\); got \(5, 2\)"):
        flow.to_base(rows(5, 2))
    with pytest.raises(ValueError, match="trace must be one of auto, exact, hutchinson; got 'none'"):
        flow.to_base(rows(), trace="none")


def _slope_along(value, parameters, directions, step=1e-5):
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, directions):
                p.add_(sign * step * d)
            ends.append(float(value()))
            for p, d in zip(parameters, directions):
                p.sub_(sign * step * d)
    return (ends[0] - ends[1]) / (2 * step)
