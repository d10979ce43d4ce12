"""The planar flow against Jacobians by autograd, quadrature, SciPy's root finder and the paper's own formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from tolerances import ROUNDING
from torch import nn

from latentode.models.planar_flow import PlanarFlow, _invertible, _solve

DOUBLE = torch.float64
# Rounding errors of a layer grow by the Lipschitz constants of the layers; a handful of operations in each.
PER_LIPSCHITZ = 20
# The trapezoid rule on a smooth density is exact beyond any power of its step, once the step resolves the bends.
RESOLVED, STEEP = 1e-6, 2e-3


def made(n_dims=2, n_layers=4, scale=1.0, seed=0, dtype=DOUBLE) -> PlanarFlow:
    """A flow whose weights are all of the spread `scale`."""
    generator = torch.Generator().manual_seed(seed)
    flow = PlanarFlow(n_dims, n_layers=n_layers, generator=generator).to(dtype)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=DOUBLE))
    return flow


def layer(w, u, b=0.3, dtype=DOUBLE) -> PlanarFlow:
    """A flow of one layer."""
    flow = PlanarFlow(len(w), n_layers=1).to(dtype)
    with torch.no_grad():
        for parameter, value in zip((flow.w, flow.u, flow.b), ([w], [u], [b]), strict=True):
            parameter.copy_(torch.tensor(value, dtype=dtype))
    return flow


def normal(*shape, seed=1, dtype=DOUBLE):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def lipschitz(flow) -> float:
    """Upper bound of the product of the Lipschitz constants of the layers."""
    u, _ = _invertible(flow.u.detach(), flow.w.detach())
    return (1 + u.norm(dim=-1) * flow.w.detach().norm(dim=-1)).prod().item()


EXTREME = {
    "folded almost": layer([3.0, 0.0], [-12.0, 2.0]),
    "folded to rounding": layer([30.0, 1.0], [-12.0, 2.0]),
    "steep": layer([1.0, 1.0], [20.0, 20.0]),
    "sheared": layer([1.0, 0.0], [0.0, 30.0]),
    "short w": layer([1e-9, 1e-9], [3.0, -1.0]),
    "w = 0": layer([0.0, 0.0], [3.0, -1.0]),
}
FLOWS = {
    **{f"{n_dims} dimensions": made(n_dims, 5, seed=n_dims) for n_dims in (1, 2, 5)},
    "large weights": made(2, 2, scale=6.0, seed=3),
    **EXTREME,
}
every_flow = pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS.keys())


# --- the contract of flows


@every_flow
@pytest.mark.parametrize("way", ["to_base", "from_base"])
def test_log_det_is_that_of_the_jacobian(flow, way):
    x = normal(6, flow.n_dims)
    found = getattr(flow, way)(x)
    for n, row in enumerate(x):
        jacobian = torch.autograd.functional.jacobian(
            lambda row: getattr(flow, way)(row[None]).points[0], row
        )
        # the Jacobian's own rounding: its entries may be much larger than its determinant
        size = torch.linalg.cond(jacobian).item()
        expected = torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(found.log_det[n], expected, rtol=ROUNDING, atol=1e-14 * (10 + size))


@every_flow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_there_and_back(flow, dtype):
    flow = _copy(flow, dtype)
    z = 3 * normal(500, flow.n_dims, dtype=dtype)
    with torch.no_grad():
        back = flow.from_base(z)
        there = flow.to_base(back.points)
    allowed = PER_LIPSCHITZ * torch.finfo(dtype).eps * lipschitz(flow) * (1 + z.abs().max().item())
    torch.testing.assert_close(there.points, z, rtol=0, atol=allowed)


def _copy(flow, dtype):
    copy = PlanarFlow(flow.n_dims, n_layers=len(flow.b)).to(dtype)
    copy.load_state_dict(flow.state_dict())
    return copy


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_log_dets_of_both_ways_cancel(seed, dtype):
    flow = made(3, 6, seed=seed, dtype=dtype)
    z = normal(200, 3, dtype=dtype)
    back = flow.from_base(z)
    there = flow.to_base(back.points)
    assert back.points.dtype == there.log_det.dtype == dtype
    allowed = PER_LIPSCHITZ * torch.finfo(dtype).eps * lipschitz(flow)
    torch.testing.assert_close(there.log_det, -back.log_det, rtol=0, atol=allowed)


def test_points_do_not_mix_and_there_may_be_none():
    flow = made(3, 4)
    x = normal(9, 3)
    for way in (flow.to_base, flow.from_base):
        together = way(x)
        for n in range(9):
            alone = way(x[n : n + 1])
            torch.testing.assert_close(alone.points[0], together.points[n], rtol=ROUNDING, atol=ROUNDING)
            torch.testing.assert_close(alone.log_det[0], together.log_det[n], rtol=ROUNDING, atol=ROUNDING)
        none = way(x[:0])
        assert none.points.shape == (0, 3)
        assert none.log_det.shape == (0,)


# --- the density


@torch.no_grad()
def mass(flow, n=1201) -> float:
    """Integral of the density over a square that holds all points within 6 of the base's origin, and more."""
    circle = torch.linspace(0, 2 * math.pi, 400, dtype=DOUBLE)
    edge = flow.from_base(6 * torch.stack([circle.cos(), circle.sin()], dim=1)).points.abs().max()
    axis = torch.linspace(-1, 1, n, dtype=DOUBLE) * edge
    z, log_det = flow.to_base(torch.cartesian_prod(axis, axis))
    density = (log_det - 0.5 * z.square().sum(-1)).exp() / (2 * math.pi)
    return (density.sum() * (axis[1] - axis[0]) ** 2).item()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("n_layers", "scale", "allowed"),
    [(8, 0.3, RESOLVED), (4, 1.0, RESOLVED), (1, 10.0, RESOLVED), (2, 6.0, STEEP)],
)
def test_the_density_integrates_to_one(n_layers, scale, allowed, seed):
    assert mass(made(2, n_layers, scale, seed)) == pytest.approx(1.0, abs=allowed)


@pytest.mark.parametrize("flow", EXTREME.values(), ids=EXTREME.keys())
def test_the_density_of_extreme_weights_integrates_to_one(flow):
    assert mass(flow) == pytest.approx(1.0, abs=STEEP)


def test_maximum_likelihood_finds_two_lumps():
    """0.5 N(-2, 0.5²) + 0.5 N(2, 0.5²), whose differential entropy is that of one lump plus log 2, to 1e-3."""
    side = torch.sign(normal(2000, 1, seed=2))
    x = 2 * side + 0.5 * normal(2000, 1, seed=3)
    flow = PlanarFlow(1, n_layers=8, generator=torch.Generator().manual_seed(0)).double()
    optimiser = torch.optim.Adam(flow.parameters(), lr=0.03)

    def score(points):
        z, log_det = flow.to_base(points)
        return (log_det - 0.5 * z.square().sum(-1) - 0.5 * math.log(2 * math.pi)).mean()

    for _ in range(200):
        optimiser.zero_grad()
        loss = -score(x[:1000])
        loss.backward()
        optimiser.step()
    best = -(0.5 * math.log(2 * math.pi * math.e * 0.25) + math.log(2))
    # the best score, within the sampling error of 1000 points (0.03) and what 8 layers and 200 steps leave over
    assert score(x[1000:]).item() == pytest.approx(best, abs=0.12)


# --- derivatives


class Way(nn.Module):
    """One way through a flow as a module, so that its parameters can be arguments."""

    def __init__(self, flow, name):
        super().__init__()
        self.flow, self.name = flow, name

    def forward(self, x):
        return tuple(getattr(self.flow, self.name)(x))


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@pytest.mark.parametrize("way", ["to_base", "from_base"])
def test_derivatives_by_points_and_by_weights(way, check):
    flow = made(2, 3, seed=5)
    names = ("w", "u", "b")

    def function(x, *weights):
        named = {f"flow.{name}": weight for name, weight in zip(names, weights, strict=True)}
        return torch.func.functional_call(Way(flow, way), named, (x,))

    weights = [getattr(flow, name).detach().clone().requires_grad_() for name in names]
    assert check(function, (normal(3, 2).requires_grad_(), *weights))


@every_flow
@pytest.mark.parametrize("way", ["to_base", "from_base"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_derivatives_are_finite_for_extreme_weights_and_points(flow, way, dtype):
    flow = _copy(flow, dtype)
    x = torch.cat([normal(20, flow.n_dims), torch.zeros(1, flow.n_dims), 1e6 * normal(5, flow.n_dims)])
    x = x.to(dtype).requires_grad_()
    points, log_det = getattr(flow, way)(x)
    (points.sum() + log_det.sum()).backward()
    for tensor in (points, log_det, x.grad, *(parameter.grad for parameter in flow.parameters())):
        assert tensor.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("s", [-3000.0, 3000.0])
def test_weights_whose_exponential_overflows(s, dtype):
    """1 + wᵀû is rounding, or s + log(e - 1): on the hyperplane, that is the whole slope."""
    flow = layer([1.0, 0.0], [s, 0.0], b=0.0, dtype=dtype)
    for way, sign in ((flow.to_base, 1), (flow.from_base, -1)):
        flow.zero_grad()
        x = torch.zeros(1, 2, dtype=dtype, requires_grad=True)
        points, log_det = way(x)
        (points.sum() + log_det.sum()).backward()
        assert points.tolist() == [[0.0, 0.0]]
        expected = math.log(torch.finfo(dtype).eps if s < 0 else s + math.log(math.e - 1))
        assert sign * log_det.item() == pytest.approx(expected, rel=1e-6)
        for tensor in (x, *flow.parameters()):
            assert tensor.grad.isfinite().all()


# --- the layer


def test_a_layer_is_the_papers_formula():
    """Equations 10 to 12, on a u that needs no change: wᵀu = 0."""
    w, u, b = torch.tensor([1.0, 2.0]), torch.tensor([0.6, -0.3]), 0.7
    x = normal(5, 2, dtype=torch.float32)
    found = layer(w.tolist(), u.tolist(), b, dtype=torch.float32).to_base(x)
    inside = x @ w + b
    torch.testing.assert_close(found.points, x + u * torch.tanh(inside)[:, None])
    torch.testing.assert_close(found.log_det, torch.zeros(5))


def test_u_reaches_all_that_the_papers_reaches():
    """Appendix A.1 with m(s) = log(1 + e^s) - 1: the same û for a u that is moved along w."""
    w, u = normal(200, 3, seed=7), 3 * normal(200, 3, seed=8)
    s = (w * u).sum(-1, keepdim=True)
    along = w / w.square().sum(-1, keepdim=True)
    theirs = u + (torch.log1p(s.exp()) - 1 - s) * along
    # our m at s - log(e - 1) is theirs at s
    moved = theirs + (s - math.log(math.e - 1) - (w * theirs).sum(-1, keepdim=True)) * along
    ours, rise = _invertible(moved, w)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(rise, 1 + (w * theirs).sum(-1), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-150, 1e-9, 1e-3, 1.0, 30.0])
def test_u_is_never_lengthened_and_always_invertible(scale):
    w, u = scale * normal(300, 4, seed=9), normal(300, 4, seed=10)
    changed, rise = _invertible(u, w)
    assert (changed.norm(dim=-1) <= u.norm(dim=-1) * (1 + ROUNDING)).all()
    assert (rise > 0).all()
    size = w.norm(dim=-1) * u.norm(dim=-1)
    error = ((w * changed).sum(-1) - (rise - 1)).abs()
    assert (error <= ROUNDING * (1 + size)).all()


def test_u_of_zero_is_the_identity():
    flow = layer([1.0, -2.0], [0.0, 0.0])
    x = normal(5, 2)
    found = flow.to_base(x)
    torch.testing.assert_close(found.points, x, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(found.log_det, torch.zeros(5, dtype=DOUBLE), rtol=0, atol=ROUNDING)


def test_without_a_direction_a_layer_is_a_shift():
    flow = layer([0.0, 0.0], [3.0, -1.0], b=0.5)
    x = normal(5, 2)
    shift = math.tanh(0.5) * torch.tensor([3.0, -1.0], dtype=DOUBLE)
    torch.testing.assert_close(flow.to_base(x).points, x + shift, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(flow.from_base(x).points, x - shift, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("rise", [1e-15, 1e-6, 0.1, 1.0, 3.0, 1e3, 1e8])
def test_roots_against_brent(rise):
    r = np.concatenate([np.logspace(-12, 8, 41), -np.logspace(-12, 8, 11), [0.0]])
    found = _solve(torch.tensor(r), torch.full((len(r),), rise, dtype=DOUBLE)).numpy()

    def residual(v, r):
        return v + (rise - 1) * np.tanh(v) - r

    for value, wanted in zip(found, r, strict=True):
        edge = abs(wanted) + abs(rise - 1) + 1
        expected = brentq(residual, -edge, edge, args=(wanted,), xtol=1e-300, rtol=1e-15, maxiter=2000)
        # four roundings of the largest term; near a fold the root itself is known no better than that
        allowed = (
            4 * np.finfo(float).eps * max(abs(wanted), abs((rise - 1) * np.tanh(expected)), abs(expected))
        )
        assert abs(residual(value, wanted)) <= allowed
        if rise >= 0.1:
            slope = 1 + (rise - 1) / np.cosh(min(abs(expected), 300.0)) ** 2
            assert abs(value - expected) <= 2 * allowed / slope


# --- the module


def test_the_generator_alone_decides_the_first_weights():
    def weights(seed):
        return PlanarFlow(3, generator=torch.Generator().manual_seed(seed)).state_dict()

    before = torch.get_rng_state()
    first, again, other = weights(0), weights(0), weights(1)
    fresh = [PlanarFlow(3).state_dict() for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    for name in first:
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])
        assert not torch.equal(fresh[0][name], fresh[1][name])


def test_first_weights_whatever_the_default_device():
    with torch.device("meta"):
        assert PlanarFlow(2, generator=torch.Generator("cpu").manual_seed(0)).w.is_meta


def test_the_number_of_parameters_is_as_documented():
    flow = PlanarFlow(7, n_layers=5)
    assert flow.n_dims == 7
    assert sum(parameter.numel() for parameter in flow.parameters()) == 5 * (2 * 7 + 1)


def test_the_first_flow_is_near_the_identity():
    x = normal(300, 2, dtype=torch.float32)
    points, log_det = PlanarFlow(2, generator=torch.Generator().manual_seed(0)).to_base(x)
    # 32 layers of a spread of 0.1 each move a point by some 0.1 √32
    assert (points - x).norm(dim=-1).mean() < 1.0
    assert log_det.abs().mean() < 1.0


@pytest.mark.parametrize("arguments", [{"n_dims": 0}, {"n_dims": 2, "n_layers": 0}])
def test_flows_without_dimensions_or_layers_are_refused(arguments):
    with pytest.raises(ValueError, match="n_dims and n_layers must be at least 1; got n_dims="):
        PlanarFlow(**arguments)
