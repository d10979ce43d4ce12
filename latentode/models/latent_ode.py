"""The latent ODE: encoder, field, decoder and likelihood put together, and their bound per batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentode.models.elbo import elbo
from latentode.nn.likelihoods import GaussianLikelihood
from latentode.nn.normal import Normal
from latentode.series.batch import SeriesBatch
from latentode.series.split import Piece
from latentode.solve import solve_ivp


@dataclass(frozen=True)
class SolveOptions:
    """How the latent differential equation is solved; `solve_ivp`'s arguments of the same names.

    `step_size` is in model time; None for adaptive solvers.
    """

    solver: str = "dopri5"
    rtol: float = 1e-3
    atol: float = 1e-4
    step_size: float | None = None
    gradient: str = "discrete_adjoint"
    max_steps: int = 10_000

    def arguments(self) -> dict[str, Any]:
        return dict(vars(self))


class LatentODELoss(NamedTuple):
    """Loss of one batch per observed target cell, its parts for the history, and the number of these cells."""

    total: Tensor
    parts: Mapping[str, Tensor]
    weight: Tensor


class LatentODE(nn.Module):
    """z(t0) ~ q(z | context), dz/dt = field(t, z), x(t) ~ likelihood(decoder(z(t))).

    Parameters
    ----------
    encoder : nn.Module
        (times (N, T), values (N, T, D), mask (N, T, D), lengths (N,)) -> Normal (N, L), the posterior of the state
        at the first row.
    field : nn.Module
        (t (n,), z (n, L)) -> dz/dt (n, L), with an attribute `time_dependent`.
    decoder : nn.Module
        z (K, N, T, L) -> params (K, N, T, n_out).
    likelihood : nn.Module
        As `latentode.nn.likelihoods`.
    options : SolveOptions

    References
    ----------
    Chen et al. (2018), section 5; Rubanova et al. (2019), section 3.
    """

    def __init__(
        self,
        encoder: nn.Module,
        field: nn.Module,
        decoder: nn.Module,
        likelihood: GaussianLikelihood,
        options: SolveOptions,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.field = field
        self.decoder = decoder
        self.likelihood = likelihood
        self.options = options

    def posterior(self, context: SeriesBatch) -> Normal:
        """Posterior of the state at the first row of each context, (N, L)."""
        return self.encoder(context.times, context.values, context.mask, context.lengths)

    def states(
        self, z0: Tensor, times: Tensor, origin: Tensor, names: Sequence[object] | None = None
    ) -> Tensor:
        """Latent states at the query times.

        Parameters
        ----------
        z0 : Tensor (K, N, L)
            States at the origin of each series.
        times : Tensor (N, T), float64
            Query times since the origin, in model time, in any order, also before it.
        origin : Tensor (N,), float64
            Model time of the origins; a time-dependent field sees it.
        names : sequence of N objects, optional
            What the series are called in errors; default: their position.

        Returns
        -------
        Tensor (K, N, T, L)

        Raises
        ------
        SolverError
            When a series cannot be solved.
        """
        n_samples, n_series, latent_dim = z0.shape
        start = origin if getattr(self.field, "time_dependent", False) else torch.zeros_like(origin)
        solution = solve_ivp(
            self.field,
            z0.reshape(-1, latent_dim),
            (times + start[:, None]).repeat(n_samples, 1),
            t0=start.repeat(n_samples),
            throw=False,
            **self.options.arguments(),
        )
        solution.raise_for_status(list(range(n_series) if names is None else names) * n_samples)
        return solution.y.reshape(n_samples, n_series, times.shape[1], latent_dim)

    def forward(
        self,
        posterior: Normal,
        eps: Tensor,
        times: Tensor,
        origin: Tensor,
        names: Sequence[object] | None = None,
    ) -> Tensor:
        """Likelihood parameters (K, N, T, n_out) at the query times, for standard normal `eps` (K, N or 1, L)."""
        return self.decoder(self.states(posterior.sample(eps), times, origin, names))

    def loss(
        self,
        piece: Piece,
        *,
        generator: torch.Generator,
        n_samples: int = 1,
        kl_weight: float = 1.0,
    ) -> LatentODELoss:
        """Minus the bound on the log evidence of the targets given that the posterior sees the contexts.

        The sum over series is divided by one number, the observed target cells of the batch, so that the size of
        gradients does not depend on how much was observed. K = 1 is the ELBO with its KL in closed form, K > 1 the
        importance-weighted bound.
        """
        posterior = self.posterior(piece.context)
        shape = (n_samples, *posterior.mean.shape)
        eps = torch.randn(shape, generator=generator, dtype=posterior.mean.dtype, device=generator.device)
        z0 = posterior.sample(eps.to(posterior.mean.device))
        params = self.decoder(self.states(z0, piece.target.times, piece.origin))
        log_lik = self.likelihood.log_prob(params, piece.target.values, piece.target.mask)  # (K, N)
        bound = elbo(log_lik, posterior.kl() if n_samples == 1 else posterior.log_ratio(z0), kl_weight)
        cells = piece.target.n_observed.sum()
        per_cell = cells.clamp(min=1)
        parts = {"log_lik": bound.log_lik / per_cell, "kl": bound.kl / per_cell}
        return LatentODELoss(bound.loss / per_cell, parts, cells)


def build_latent_ode(
    n_targets: int,
    *,
    encoder: type[nn.Module],
    field: type[nn.Module],
    likelihood: type[GaussianLikelihood],
    decoder: type[nn.Module],
    latent_dim: int,
    hidden_dim: int,
    depth: int,
    encoder_dim: int,
    time_dependent: bool,
    backwards: bool,
    options: SolveOptions,
    generator: torch.Generator,
) -> LatentODE:
    """A latent ODE of standard parts; the first weights come from `generator`, on the CPU.

    `backwards` is whether the encoder reads from the last row to the first, for a state at the first.
    """
    noise = likelihood(n_targets)
    return LatentODE(
        encoder=encoder(n_targets, encoder_dim, latent_dim, backwards=backwards, generator=generator),
        field=field(latent_dim, hidden_dim, depth=depth, time_dependent=time_dependent, generator=generator),
        decoder=decoder(latent_dim, hidden_dim, noise.n_out, generator=generator),
        likelihood=noise,
        options=options,
    )
