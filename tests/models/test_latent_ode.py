"""The model against closed forms: states of linear fields, the bound put together by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import linalg, special, stats
from tolerances import TIGHT
from torch import nn

from latentode.exceptions import SolverError
from latentode.models.build import build_latent_ode
from latentode.models.latent_ode import LatentODE, LossOptions, SolveOptions
from latentode.nn.decoders import MLPDecoder
from latentode.nn.encoders import GRUEncoder
from latentode.nn.fields import MLPField
from latentode.nn.likelihoods import GaussianLikelihood
from latentode.nn.normal import Normal
from latentode.series import SeriesBatch, anchored, cut_pieces

K, N, T, L, D = 3, 4, 6, 2, 3
EXACT = SolveOptions(rtol=1e-10, atol=1e-10)
A = torch.tensor([[-0.1, 1.3], [-1.0, -0.1]], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


class Linear(nn.Module):
    """dz/dt = A z."""

    time_dependent = False

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(A.clone())

    def forward(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return z @ self.a.T


class Clock(nn.Module):
    """dz/dt = t - z, with z(t) = t - 1 + (z0 - t0 + 1) exp(t0 - t)."""

    time_dependent = True

    def forward(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return t[:, None] - z


class FixedPosterior(nn.Module):
    """The same posterior whatever is read; remembers what that was."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(normal(N, L, seed=1))
        self.std = nn.Parameter(normal(N, L, seed=2).abs() + 0.1)
        self.read: list[tuple[torch.Tensor, ...]] = []

    def forward(self, *read: torch.Tensor) -> Normal:
        self.read.append(read)
        return Normal(self.mean, self.std)


class LinearDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Parameter(normal(D, L, seed=3))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z @ self.c.T


def linear_model(field: nn.Module | None = None, **options: Any) -> LatentODE:
    chosen = SolveOptions(**{**vars(EXACT), **options})
    likelihood = GaussianLikelihood(D).double()
    with torch.no_grad():
        likelihood.log_noise.copy_(torch.tensor([-1.0, -0.5, 0.2]))
    return LatentODE(FixedPosterior(), field or Linear(), LinearDecoder(), likelihood, chosen)


def batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> SeriesBatch:
    """Series of lengths 1 to T with missing cells; times begin at 10."""
    lengths = torch.tensor([T, 1, 3, 5])
    times = 10 + torch.rand(N, T, generator=generator(seed), dtype=torch.float64).cumsum(1)
    last = times.gather(1, lengths[:, None] - 1)
    valid = torch.arange(T) < lengths[:, None]
    times = torch.where(valid, times, last)
    mask = (torch.rand(N, T, D, generator=generator(seed + 1)) < 0.7) & valid[..., None]
    values = torch.where(mask, normal(N, T, D, seed=seed + 2), 0.0).to(dtype)
    return SeriesBatch(times, values, mask, lengths)


def small_model(time_dependent: bool = False, **options: Any) -> LatentODE:
    """A model of standard parts in float64."""
    return build(time_dependent=time_dependent, options=SolveOptions(**options)).double()


def build(seed: int = 0, **arguments: Any) -> LatentODE:
    defaults = {
        "encoder": GRUEncoder,
        "field": MLPField,
        "likelihood": GaussianLikelihood(D),
        "decoder": MLPDecoder,
        "latent_dim": L,
        "hidden_dim": 7,
        "depth": 1,
        "activation": "tanh",
        "encoder_dim": 5,
        "time_dependent": False,
        "backwards": True,
        "n_static": 0,
        "n_controls": 0,
        "event_rates": [],
        "options": SolveOptions(),
        "generator": generator(seed),
    }
    return build_latent_ode(**(defaults | arguments))


@pytest.mark.parametrize("solver", ["dopri5", "tsit5"])
@pytest.mark.parametrize("gradient", ["backprop", "discrete_adjoint"])
def test_states_of_a_linear_field_are_its_matrix_exponential(solver, gradient):
    z0, times = normal(K, N, L), 2 * normal(N, T, seed=5)  # before and after the origin, in any order
    states = linear_model(solver=solver, gradient=gradient).trajectory(z0, times, normal(N, seed=6)).z
    assert states.shape == (K, N, T, L)
    for k, n, t in np.ndindex(K, N, T):
        expected = linalg.expm(A.numpy() * times[n, t].item()) @ z0[k, n].numpy()
        np.testing.assert_allclose(states[k, n, t].detach(), expected, rtol=0, atol=TIGHT)


def test_an_autonomous_field_does_not_see_the_origin():
    z0, times = normal(K, N, L), normal(N, T, seed=5)
    one, other = (linear_model().trajectory(z0, times, torch.full((N,), at)).z for at in (0.0, 1e6))
    assert torch.equal(one, other)


def test_a_time_dependent_field_sees_the_clock_of_each_series():
    z0, times = normal(K, N, L), 2 * normal(N, T, seed=5)
    origin = torch.tensor([0.0, 3.0, -5.0, 100.0], dtype=torch.float64)
    states = linear_model(Clock()).trajectory(z0, times, origin).z
    t0 = origin[:, None, None]
    t = t0 + times[..., None]
    expected = t - 1 + (z0[:, :, None] - t0 + 1) * torch.exp(t0 - t)
    torch.testing.assert_close(states, expected, rtol=1e-8, atol=1e-8)


def test_forward_decodes_the_states_of_reparametrised_draws():
    model, posterior = linear_model(), Normal(normal(N, L), normal(N, L, seed=1).abs())
    eps, times = normal(K, 1, L, seed=2), normal(N, T, seed=3)
    params = model(posterior, eps, times, torch.zeros(N))
    z0 = posterior.mean + posterior.std * eps
    assert torch.equal(params, model.trajectory(z0, times, torch.zeros(N)).z @ model.decoder.c.T)


def test_a_series_that_cannot_be_solved_is_named_once_for_all_samples():
    model = linear_model(max_steps=1)
    with pytest.raises(SolverError, match=r"series 0 .*could not be solved"):
        model.trajectory(normal(K, N, L), 50 + normal(N, T).abs(), torch.zeros(N))
    names = ["p", "q", "r", "s"]
    times = torch.zeros(N, T, dtype=torch.float64)
    times[2] = 50.0
    with pytest.raises(SolverError, match=r"series 'r' could not be solved"):
        model.trajectory(normal(K, N, L), times, torch.zeros(N), names=names)
    of_one_sample = normal(K, N, L)
    of_one_sample[1, 3] = math.nan
    with pytest.raises(SolverError, match="series 's' could not be solved"):
        linear_model().trajectory(of_one_sample, normal(N, T), torch.zeros(N), names=names)


def test_the_posterior_reads_the_context():
    model, context = linear_model(), batch()
    posterior = model.posterior(context, torch.zeros(N))
    assert posterior.mean is model.encoder.mean
    for part, name in zip(model.encoder.read[0], ("times", "values", "mask", "lengths")):
        assert torch.equal(part, getattr(context, name)), name


def by_hand(model: LatentODE, piece, eps: np.ndarray, kl_weight: float) -> dict[str, float]:
    """Loss and parts in NumPy and SciPy, cell by cell."""
    mean, std = (p.detach().numpy() for p in (model.encoder.mean, model.encoder.std))
    noise, c = model.likelihood.noise_std.detach().numpy(), model.decoder.c.detach().numpy()
    z0 = mean + std * eps
    log_lik = np.zeros(z0.shape[:2])
    target = piece.target
    for k, n, t, d in np.ndindex(*z0.shape[:2], *target.mask.shape[1:]):
        if target.mask[n, t, d]:
            state = linalg.expm(A.numpy() * target.times[n, t].item()) @ z0[k, n]
            log_lik[k, n] += stats.norm.logpdf(target.values[n, t, d].item(), (c @ state)[d], noise[d])
    cells = int(target.mask.sum())
    if len(z0) == 1:
        kl = 0.5 * (mean**2 + std**2 - 1 - 2 * np.log(std)).sum(-1)
        bound = (log_lik[0] - kl_weight * kl).sum()
    else:
        ratio = (stats.norm.logpdf(z0, mean, std) - stats.norm.logpdf(z0)).sum(-1)
        bound = (special.logsumexp(log_lik - kl_weight * ratio, axis=0) - math.log(len(z0))).sum()
        kl = ratio.mean(0)
    return {
        "loss": -bound / cells,
        "log_lik": log_lik.mean(0).sum() / cells,
        "kl": kl.sum() / cells,
        "cells": cells,
    }


@pytest.mark.parametrize("n_samples", [1, 2, 5])
@pytest.mark.parametrize("kl_weight", [1.0, 0.3, 0.0])
@pytest.mark.parametrize("anchor", ["start", "end"])
def test_the_loss_is_the_bound_per_observed_cell(n_samples, kl_weight, anchor):
    """K = 1: the ELBO with its KL in closed form. K > 1: the importance-weighted bound."""
    model = linear_model()
    piece = anchored(cut_pieces(batch(), 0.5), anchor)
    found = model.loss(piece, generator=generator(7), options=LossOptions(n_samples), kl_weight=kl_weight)
    eps = normal(n_samples, N, L, seed=7).numpy()
    expected = by_hand(model, piece, eps, kl_weight)
    assert found.total.item() == pytest.approx(expected["loss"], abs=TIGHT)
    assert found.parts["log_lik"].item() == pytest.approx(expected["log_lik"], abs=TIGHT)
    assert found.parts["kl"].item() == pytest.approx(expected["kl"], abs=TIGHT)
    assert found.weight.item() == expected["cells"]


def test_the_kl_weight_is_1_and_one_sample_is_drawn_by_default():
    model, piece = linear_model(), cut_pieces(batch(), "all")
    default = model.loss(piece, generator=generator(1))
    explicit = model.loss(piece, generator=generator(1), options=LossOptions(1), kl_weight=1.0)
    assert torch.equal(default.total, explicit.total)


@pytest.mark.parametrize("gradient", ["backprop", "discrete_adjoint"])
@pytest.mark.parametrize("n_samples", [1, 3])
def test_gradients_of_the_loss_are_its_differences(gradient, n_samples):
    model = linear_model(gradient=gradient)
    piece = anchored(cut_pieces(batch(), 0.5), "end")

    def loss() -> torch.Tensor:
        return model.loss(piece, generator=generator(3), options=LossOptions(n_samples), kl_weight=0.5).total

    loss().backward()
    for name, parameter in model.named_parameters():
        direction = normal(*parameter.shape, seed=11)
        slope = (parameter.grad * direction).sum().item()
        h, sides = 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * h * direction)
                sides.append(loss().item())
                parameter.sub_(sign * h * direction)
        assert slope == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-5, abs=1e-7), name


def loss_and_gradient(model: LatentODE, piece) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad()
    total = model.loss(piece, generator=generator(2), options=LossOptions(2)).total
    total.backward()
    return total.item(), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("anchor", ["start", "end"])
def test_cells_that_were_not_observed_cannot_matter(anchor):
    clean = batch()
    dirty = SeriesBatch(clean.times, torch.where(clean.mask, clean.values, 1e30), clean.mask, clean.lengths)
    model = small_model()
    found = [loss_and_gradient(model, anchored(cut_pieces(b, 0.5), anchor)) for b in (clean, dirty)]
    assert found[0][0] == found[1][0]
    assert all(torch.equal(one, other) for one, other in zip(found[0][1], found[1][1]))
    piece = cut_pieces(clean, 0.5)  # and in a piece itself, whose maker clears such cells
    for name in ("context", "target"):
        part = getattr(piece, name)
        object.__setattr__(part, "values", torch.where(part.mask, part.values, math.nan))
    after = loss_and_gradient(model, piece)
    assert after[0] == pytest.approx(loss_and_gradient(model, cut_pieces(clean, 0.5))[0], abs=TIGHT)
    assert all(torch.isfinite(grad).all() for grad in after[1])


def padded(part: SeriesBatch, extra: int) -> SeriesBatch:
    times = torch.cat([part.times, part.times[:, -1:].expand(-1, extra)], dim=1)
    nothing = torch.zeros(len(part), extra, D, dtype=part.values.dtype)
    values, mask = torch.cat([part.values, nothing], 1), torch.cat([part.mask, nothing.bool()], 1)
    return SeriesBatch(times, values, mask, part.lengths)


@pytest.mark.parametrize("time_dependent", [False, True])
def test_padding_cannot_matter(time_dependent):
    model, piece = small_model(time_dependent), cut_pieces(batch(), 0.5)
    wide = type(piece)(padded(piece.context, 3), padded(piece.target, 5), piece.origin)
    one, other = loss_and_gradient(model, piece), loss_and_gradient(model, wide)
    assert one[0] == pytest.approx(other[0], rel=1e-12)
    for grad, wide_grad in zip(one[1], other[1]):
        torch.testing.assert_close(grad, wide_grad, rtol=1e-9, atol=1e-12)


def test_a_batch_without_observed_cells_has_a_finite_loss():
    model = linear_model()
    piece = cut_pieces(batch(), "all")
    blind = SeriesBatch(
        piece.target.times,
        torch.zeros_like(piece.target.values),
        torch.zeros_like(piece.target.mask),
        piece.target.lengths,
    )
    found = model.loss(type(piece)(piece.context, blind, piece.origin), generator=generator())
    assert found.weight.item() == 0
    assert found.total.item() == pytest.approx(model.posterior(piece.context, piece.origin).kl().sum().item())


def test_the_draws_come_from_the_generator_alone():
    model, piece, state = linear_model(), cut_pieces(batch(), "all"), torch.get_rng_state()
    losses = [model.loss(piece, generator=generator(seed)).total.item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_first_weights_come_from_the_generator_alone():
    state = torch.get_rng_state()
    one, again, other = (build(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one if "weight" in name)


def test_parts_have_the_sizes_and_the_direction_asked_for():
    model = build(depth=3, encoder_dim=9, backwards=False, time_dependent=True)
    assert model.encoder.backwards is False
    assert model.field.time_dependent is True
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    assert shapes["encoder.gru.weight_hh_l0"] == (27, 9)
    assert shapes["field.mlp.layers.0.weight"] == (7, L + 1)
    assert shapes["field.mlp.layers.3.weight"] == (L, 7)
    assert shapes["decoder.mlp.layers.1.weight"] == (D, 7)


def test_options_are_the_arguments_of_solve_ivp():
    options = SolveOptions("rk4", 1e-2, 1e-3, 0.5, "backprop", 7, "torch")
    assert options.arguments() == {
        "solver": "rk4",
        "rtol": 1e-2,
        "atol": 1e-3,
        "step_size": 0.5,
        "gradient": "backprop",
        "max_steps": 7,
        "engine": "torch",
    }
