"""Flows of several blocks against products of matrix exponentials, and against flows of one block in a row."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from latentode.models.continuous_flow import ContinuousFlow
from latentode.models.flow_legs import legs
from latentode.models.flow_loss import ContinuousFlowLoss
from latentode.models.solve_options import SolveOptions
from latentode.nn.flow_fields import PlanarField

TIGHT = SolveOptions(rtol=1e-10, atol=1e-10)
SOLVED = 1e-8  # two solves at 1e-10 in float64
END = 0.8
MATRICES = torch.tensor(
    [[[0.3, -1.1], [0.7, -0.4]], [[0.1, 0.5], [-0.9, 0.2]], [[-0.5, 0.0], [0.6, 0.3]]], dtype=torch.float64
)


class Linear(nn.Module):
    """dz/dt = (1 + t) A z, solved by exp((t + t²/2) A)."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, t, z):
        return (1 + t)[:, None] * (z @ self.matrix.T)


def flow(**options):
    return ContinuousFlow([Linear(a) for a in MATRICES], 2, end_time=END, **({"options": TIGHT} | options))


def rows(n=4):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def map_to(t):
    """From the base to flow time t, each block in its own time: (2, 2)."""
    found = torch.eye(2, dtype=torch.float64)
    for block, matrix in enumerate(MATRICES):
        own = min(max(3 * t - block * END, 0.0), END)
        found = torch.linalg.matrix_exp((own + own**2 / 2) * matrix) @ found
    return found


def test_blocks_follow_each_other_from_the_base_to_the_data():
    z = rows()
    x, log_det = flow().from_base(z)
    torch.testing.assert_close(x, z @ map_to(END).T, rtol=0, atol=SOLVED)
    expected = torch.linalg.slogdet(map_to(END)).logabsdet.expand(4)
    torch.testing.assert_close(log_det, expected, rtol=0, atol=SOLVED)
    back, back_log_det = flow().to_base(x)
    torch.testing.assert_close(back, z, rtol=0, atol=SOLVED)
    torch.testing.assert_close(back_log_det, -expected, rtol=0, atol=SOLVED)


@pytest.mark.parametrize(
    "shares",
    [
        (0.0, 1.0),
        (0.0, 0.2, 0.5, 1.0),
        (1.0, 0.9, 0.1, 0.0),
        (0.4, 0.5, 0.6),  # within the second block
        (0.5, 2 / 3, 0.7),
        (1 / 3, 0.2),
        (1.0, 1.0, 2 / 3, 2 / 3, 1 / 3, 0.0, 0.0),
        (1.0, 1.0),
        (1 / 3, 1 / 3),
        (0.0, 1.5),  # beyond its end, the last block goes on
    ],
)
def test_a_way_through_any_times(shares):
    z = rows()
    times = [share * END for share in shares]
    path = flow().travel(z, times)
    assert path.points.shape == (4, len(times), 2)
    assert torch.equal(path.points[:, 0], z)
    for place, t in enumerate(times):
        if t > END:
            own = 3 * t - 2 * END
            last = torch.linalg.matrix_exp((own + own**2 / 2 - END - END**2 / 2) * MATRICES[2])
            matrix = last @ map_to(END)
        else:
            matrix = map_to(t) @ torch.linalg.inv(map_to(times[0]))
        torch.testing.assert_close(path.points[:, place], z @ matrix.T, rtol=0, atol=SOLVED)
        log_det = torch.linalg.slogdet(matrix).logabsdet.expand(4)
        torch.testing.assert_close(path.log_det[:, place], log_det, rtol=0, atol=SOLVED)


def test_each_block_is_solved_once_and_only_where_it_is_passed():
    assert [leg.block for leg in legs([0.0, 1.0], 1.0, 4)] == [0, 1, 2, 3]
    assert [leg.block for leg in legs([0.7, 0.3], 1.0, 4)] == [2, 1]
    assert [leg.block for leg in legs([0.5, 1.0], 1.0, 4)] == [2, 3]
    assert legs([2 / 3, 0.0], 1.0, 3)[0].times == [1.0, 0.0]  # rounding makes no leg of its own


@pytest.mark.parametrize("times", [(0.0, END), (END, 0.0)])
def test_energies_and_evaluations_are_sums(times):
    x, chain = rows(), flow()
    whole = chain.travel(x, times, kinetic=True, jacobian=True)
    points, total = x, torch.zeros(3, 4, dtype=torch.float64)
    for field in chain.field if times[0] == 0 else reversed(chain.field):
        single = ContinuousFlow(field, 2, end_time=END, options=TIGHT)
        part = single.travel(points, times, kinetic=True, jacobian=True)
        points = part.points[:, -1]
        total += torch.stack([part.kinetic, part.jacobian, part.n_evals.double()])
    found = torch.stack([whole.kinetic, whole.jacobian, whole.n_evals.double()])
    torch.testing.assert_close(found, total, rtol=0, atol=1e-12)
    squared = MATRICES.square().sum() * ((1 + END) ** 3 - 1) / 3  # Σ ∫ (1 + t)² |A|² dt
    torch.testing.assert_close(whole.jacobian, squared.expand(4), rtol=0, atol=1e-7)


@pytest.mark.parametrize("gradient", ["discrete_adjoint", "adjoint", "backprop"])
def test_the_gradient_reaches_every_block(gradient):
    chain, x = flow(options=SolveOptions(rtol=1e-9, atol=1e-9, gradient=gradient)), rows()
    chain.log_density(x).sum().backward()
    span = END + END**2 / 2
    exact = MATRICES.clone().requires_grad_()
    map_ = torch.eye(2, dtype=torch.float64)
    for matrix in exact:
        map_ = torch.linalg.matrix_exp(span * matrix) @ map_
    truth = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), map_ @ map_.T)
    (expected,) = torch.autograd.grad(truth.log_prob(x).sum(), exact)
    for block, gradient_of in zip(chain.field, expected):
        torch.testing.assert_close(block.matrix.grad, gradient_of, rtol=0, atol=1e-6)


def test_evaluations_backwards_are_counted_over_all_blocks():
    options = SolveOptions(rtol=1e-5, atol=1e-5, gradient="discrete_adjoint")
    loss = ContinuousFlowLoss(kinetic=0.0, jacobian=0.0, log_scale=0.0)
    counts = []
    for n_blocks in (1, 3):
        chain = ContinuousFlow([Linear(MATRICES[0]) for _ in range(n_blocks)], 2, options=options)
        found = loss(chain, rows(), torch.ones(4, dtype=torch.float64), torch.Generator())
        assert float(found.parts["n_evals_backward"]) == 0
        found.total.backward()
        counts.append(float(found.parts["n_evals_backward"]))
    assert counts[1] > 2 * counts[0] > 0


def test_probes_are_those_of_the_rows_in_every_block():
    """Signs estimate the trace of diagonal fields exactly."""
    fields = [Linear(torch.diag(torch.diagonal(a))) for a in MATRICES]
    chain = ContinuousFlow(fields, 2, options=TIGHT)
    exact = chain.to_base(rows(), trace="exact").log_det
    guess = chain.to_base(rows(), trace="hutchinson", generator=torch.Generator().manual_seed(0)).log_det
    torch.testing.assert_close(guess, exact, rtol=0, atol=SOLVED)
    assert exact[0].item() == pytest.approx(-1.5 * float(sum(a.trace() for a in MATRICES)), abs=SOLVED)


def test_the_density_of_a_chain_of_units_integrates_to_one():
    generator = torch.Generator().manual_seed(0)
    fields = [PlanarField(2, 3, generator=generator).double() for _ in range(3)]
    for field in fields:
        nn.init.normal_(field.units.u, std=0.5, generator=generator)
    chain = ContinuousFlow(fields, 2, options=SolveOptions(rtol=1e-6, atol=1e-6))
    side = torch.linspace(-12, 12, 121, dtype=torch.float64)
    with torch.no_grad():
        density = chain.log_density(torch.cartesian_prod(side, side)).exp()
    assert float(density.sum()) * 0.2**2 == pytest.approx(1.0, abs=1e-3)
    assert not math.isclose(float(density.max()), 1 / (2 * math.pi), rel_tol=0.1)  # it is not the base


def test_a_flow_needs_a_field():
    with pytest.raises(ValueError, match="field must be a module, or a sequence of at least one; got none"):
        ContinuousFlow([], 2)
