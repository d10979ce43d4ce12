"""The latent ODE: encoder, field, decoder and likelihood put together, and their bound per batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from latentode.exceptions import SolverError
from latentode.models.dynamics import Dynamics
from latentode.models.elbo import active_dims, elbo, free_bits_kl
from latentode.models.ladder import InitialValues, solve_patiently
from latentode.models.regularisation import penalties
from latentode.models.solve_options import FARTHEST as FARTHEST
from latentode.models.solve_options import MAX_STEPS as MAX_STEPS
from latentode.models.solve_options import SolveOptions
from latentode.nn.decoders import MLPDecoder
from latentode.nn.encoders import ENCODERS
from latentode.nn.inputs import Inputs
from latentode.nn.likelihoods import Likelihood
from latentode.nn.normal import Normal
from latentode.nn.point_process import Intensity, poisson_log_lik
from latentode.series.batch import SeriesBatch
from latentode.series.split import Piece

PENALTY_TIMES = 4  # random times per series and step at which the dynamics are penalised


@dataclass(frozen=True)
class LossOptions:
    """What the loss is made of.

    Parameters
    ----------
    n_samples : int
        Posterior samples K: 1 gives the evidence lower bound, more the importance-weighted one.
    free_bits : float
        As `free_bits_kl`; only with K = 1.
    kinetic, jacobian : float
        Weights of the penalties on the dynamics, as means over time.
    """

    n_samples: int = 1
    free_bits: float = 0.0
    kinetic: float = 0.0
    jacobian: float = 0.0


BOUND_ALONE = LossOptions()


class Trajectory(NamedTuple):
    """Latent states (K, N, T, L) at the query times, expected events since the origin (K, N, T, E) where the model has
    an intensity, and evaluations of the field per series (N,). Then, (N,) bool, which series were solved in a second
    try, and which of them by fixed steps alone, with an error that nobody controlled."""

    z: Tensor
    expected_events: Tensor | None
    n_evals: Tensor
    retried: Tensor
    uncontrolled: Tensor


class LatentODELoss(NamedTuple):
    """Loss of one batch per observed target cell, its parts for the history, the number of these cells, and how many
    series were solved in a second try."""

    total: Tensor
    parts: Mapping[str, Tensor]
    weight: Tensor
    counts: Mapping[str, Tensor]


class Passage(NamedTuple):
    """What one pass over a batch leaves: posterior, samples z0 (K, N, L), trajectory at the target rows, log likelihood
    (K, N), and the penalties on the dynamics by name."""

    posterior: Normal
    z0: Tensor
    trajectory: Trajectory
    log_lik: Tensor
    penalties: Mapping[str, Tensor]


class LatentODE(nn.Module):
    """z(t0) ~ q(z | context), dz/dt = field(t, z), x(t) ~ likelihood(decoder(z(t))).

    Parameters
    ----------
    encoder : nn.Module
        (times (N, T), values (N, T, F), mask (N, T, F), lengths (N,)) -> Normal (N, L), the posterior of the state
        at the first row. The F columns are the features of the likelihood, then static covariates and controls.
    field : nn.Module
        (t (n,), z (n, L)) -> dz/dt (n, L), with an attribute `time_dependent`. In batches with static covariates or
        controls it is called with a third argument, their values (n, S + C) at t. A field that knows its solution has
        a method `flow(z0 (K, N, L), times (N, T), inputs, start (N,))` -> (K, N, T, L), and no solver is used.
    decoder : nn.Module
        z (K, N, T, L) -> params (K, N, T, n_out).
    likelihood : Likelihood
        As `latentode.nn.likelihoods`.
    options : SolveOptions
    intensity : Intensity, optional
        Rates at which rows (or observations of each target) occur, decoded from z(t): the times of the observations
        are then part of what is modelled.

    References
    ----------
    Chen et al. (2018), section 5; Rubanova et al. (2019), section 3 and appendix.
    """

    def __init__(
        self,
        encoder: nn.Module,
        field: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        options: SolveOptions,
        intensity: Intensity | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.field = field
        self.decoder = decoder
        self.likelihood = likelihood
        self.options = options
        self.intensity = intensity

    def run_on(self, engine: str) -> LatentODE:
        """Encode, solve and decode by this engine from now on: "auto", "torch" or "native", as in `solve_ivp`; returns
        self."""
        self.options = replace(self.options, engine=engine)
        for part in self.modules():
            if isinstance(part, (*ENCODERS.values(), MLPDecoder)):
                part.engine = engine  # type: ignore[assignment]
        return self

    def posterior(self, context: SeriesBatch, origin: Tensor) -> Normal:
        """Posterior of the state at the first row of each context, (N, L), whose times count from `origin` (N,)."""
        values, mask = self.read(context, origin)
        return self.encoder(context.times, values, mask, context.lengths)

    def read(self, context: SeriesBatch, origin: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder reads of each context: values (N, T, F), and the mask of those that are known."""
        values, mask = self.likelihood.features(context.values, context.mask)
        inputs = inputs_of(context, origin)
        if inputs is not None:
            known = _at_rows(inputs, context)  # (N, T, S + C)
            real = (~context.padding)[..., None].expand_as(known)
            return torch.cat([values, known], dim=-1), torch.cat([mask, real], dim=-1)
        return values, mask

    def trajectory(
        self,
        z0: Tensor,
        times: Tensor,
        origin: Tensor,
        inputs: Inputs | None = None,
        names: Sequence[object] | None = None,
    ) -> Trajectory:
        """Latent states at the query times.

        Parameters
        ----------
        z0 : Tensor (K, N, L)
            States at the origin of each series.
        times : Tensor (N, T), float64
            Query times since the origin, in model time, in any order, also before it. Beyond `FARTHEST` the state
            stays as it is there.
        origin : Tensor (N,), float64
            Model time of the origins; a time-dependent field sees it.
        inputs : Inputs, optional
            Of the N series, with their clocks at 0 at the origin.
        names : sequence of N objects, optional
            What the series are called in errors; default: their position.

        Raises
        ------
        SolverError
            When a series cannot be solved, not even by the `ladder` of solvers that are tried in turn.
        """
        n_samples, n_series, latent_dim = z0.shape
        times = times.clamp(-FARTHEST, FARTHEST)
        start = origin if getattr(self.field, "time_dependent", False) else torch.zeros_like(origin)
        flow = getattr(self.field, "flow", None)
        if flow is not None and self.intensity is None:
            never = torch.zeros(n_series, dtype=torch.bool, device=times.device)
            states = _finite(flow(z0, times, inputs, start), names)
            return Trajectory(states, None, times.new_zeros(n_series), never, never)
        dynamics = Dynamics(
            self.field,
            latent_dim,
            self.intensity,
            None if inputs is None else replace(inputs, origin=inputs.origin - start),
        )
        plain = inputs is None and self.intensity is None
        solved = solve_patiently(
            self.field if plain else dynamics,
            InitialValues(
                z0.flatten(0, 1) if plain else dynamics.first_state(z0),
                start.repeat(n_samples),
                (times + start[:, None]).repeat(n_samples, 1),
            ),
            self.options,
            params=None if plain else dynamics.parameters(),
            names=names,
            n_samples=n_samples,
        )
        states = solved.y.reshape(n_samples, n_series, times.shape[1], -1)
        n_evals = solved.n_evals.reshape(n_samples, n_series).double().mean(0)
        retried, uncontrolled = (
            of_problems.reshape(n_samples, n_series).any(0)
            for of_problems in (solved.retried, solved.uncontrolled)
        )
        events = None if self.intensity is None else states[..., latent_dim:-1]
        return Trajectory(states[..., :latent_dim], events, n_evals, retried, uncontrolled)

    def forward(
        self,
        posterior: Normal,
        eps: Tensor,
        times: Tensor,
        origin: Tensor,
        inputs: Inputs | None = None,
        names: Sequence[object] | None = None,
    ) -> Tensor:
        """Likelihood parameters (K, N, T, n_out) at the query times, for standard normal `eps` (K, N or 1, L)."""
        return self.decoder(self.trajectory(posterior.sample(eps), times, origin, inputs, names).z)

    def passage(
        self,
        piece: Piece,
        options: LossOptions,
        generator: torch.Generator,
        names: Sequence[object] | None = None,
    ) -> Passage:
        """Encode the context, draw states, carry them to the target rows, and score those."""
        target = piece.target
        inputs = inputs_of(target, piece.origin)
        posterior = self.posterior(piece.context, piece.origin)
        shape = (options.n_samples, *posterior.mean.shape)
        eps = torch.randn(shape, generator=generator, dtype=posterior.mean.dtype, device=generator.device)
        z0 = posterior.sample(eps.to(posterior.mean.device))
        regularised = options.kinetic > 0 or options.jacobian > 0
        times = [target.times, _random_times(target, generator)] if regularised else [target.times]
        solved = self.trajectory(z0, torch.cat(times, dim=1), piece.origin, inputs, names)
        n_rows = target.times.shape[1]
        at_rows = solved._replace(z=solved.z[:, :, :n_rows])
        if solved.expected_events is not None:
            at_rows = at_rows._replace(expected_events=solved.expected_events[:, :, :n_rows])
        params = self.decoder(at_rows.z)
        log_lik = self.likelihood.log_prob(params, target.values, target.mask, target.errors)  # (K, N)
        if self.intensity is not None:
            log_lik = log_lik + self._event_log_lik(at_rows, target)
        found: dict[str, Tensor] = {}
        if regularised:
            extra = solved.z[:, :, n_rows:]  # (K, N, M, L)
            found = self._penalties(extra, times[1], piece.origin, inputs, generator, options.jacobian > 0)
        return Passage(posterior, z0, at_rows, log_lik, found)

    def loss(
        self,
        piece: Piece,
        *,
        generator: torch.Generator,
        options: LossOptions = BOUND_ALONE,
        kl_weight: float = 1.0,
        names: Sequence[object] | None = None,
    ) -> LatentODELoss:
        """Minus the bound on the log evidence of the targets given that the posterior sees the contexts.

        The sum over series is divided by one number, the observed target cells of the batch, so that the size of
        gradients does not depend on how much was observed. K = 1 is the ELBO with its KL in closed form, K > 1 the
        importance-weighted bound. Penalties on the dynamics come on top. `names` are those of the series, for errors.
        """
        return self.loss_of(self.passage(piece, options, generator, names), piece.target, options, kl_weight)

    def loss_of(
        self, passage: Passage, target: SeriesBatch, options: LossOptions, kl_weight: float
    ) -> LatentODELoss:
        """The loss of a pass over a batch with these targets."""
        posterior = passage.posterior
        if options.n_samples == 1:
            kl = free_bits_kl(posterior.kl_per_dim(), options.free_bits)
        else:
            kl = posterior.log_ratio(passage.z0)
        bound = elbo(passage.log_lik, kl, kl_weight)
        cells = target.n_observed.sum()
        per_cell = cells.clamp(min=1)
        total = bound.loss / per_cell
        for name, value in passage.penalties.items():
            total = total + getattr(options, name) * value
        parts = {
            "log_lik": bound.log_lik / per_cell,
            "kl": bound.kl / per_cell,
            "active_dims": active_dims(posterior.mean),
            "n_evals": passage.trajectory.n_evals.mean(),
            **{name: value.detach() for name, value in passage.penalties.items()},
        }
        return LatentODELoss(total, parts, cells, {"retried": passage.trajectory.retried.sum()})

    def _event_log_lik(self, at_rows: Trajectory, target: SeriesBatch) -> Tensor:
        """Log likelihood (K, N) of the times of the rows after the first one of each series."""
        assert self.intensity is not None
        assert at_rows.expected_events is not None
        observed = target.mask
        if self.intensity.n_processes == 1:  # rows, whatever was observed in them
            observed = observed.any(dim=-1, keepdim=True)
        later = torch.arange(observed.shape[1], device=observed.device)[None, :, None] > 0
        if self.intensity.n_processes == 1:  # rows at one time are one event
            moved = torch.diff(target.times, dim=1, prepend=target.times[:, :1]) > 0
            later = later & moved[..., None]
        expected = (
            at_rows.expected_events[:, :, -1] - at_rows.expected_events[:, :, 0]
        )  # padding repeats the last time
        return poisson_log_lik(self.intensity(at_rows.z), observed & later, expected)

    def _penalties(
        self,
        z: Tensor,
        times: Tensor,
        origin: Tensor,
        inputs: Inputs | None,
        generator: torch.Generator,
        jacobian: bool,
    ) -> dict[str, Tensor]:
        """Penalties at states z (K, N, M, L) at these times (N, M)."""
        n_samples, n_series, n_times, latent_dim = z.shape
        clock = times + origin[:, None] if getattr(self.field, "time_dependent", False) else times
        t = clock.flatten().repeat(n_samples)
        at = None
        if inputs is not None:
            series = torch.arange(n_series, device=z.device).repeat_interleave(n_times).repeat(n_samples)
            at = inputs.at(series, times.flatten().repeat(n_samples))
        return penalties(
            self.field, t.to(z.dtype), z.reshape(-1, latent_dim), at, generator, jacobian=jacobian
        )


def _finite(z: Tensor, names: Sequence[object] | None) -> Tensor:
    """States (K, N, T, L) of a flow, refused where they left what floating point can hold."""
    lost = torch.nonzero(~torch.isfinite(z.detach()).all(-1).all(-1).all(0))[:, 0].tolist()
    if lost:
        name = lost[0] if names is None else names[lost[0]]
        others = f" (and {len(lost) - 1} more series)" if len(lost) > 1 else ""
        raise SolverError(
            f"series {name!r}{others}: the states are not finite. What decays forwards in time grows without bound "
            'backwards: ask for times less far before the observations, or use anchor="start"'
        )
    return z


def _at_rows(inputs: Inputs, batch: SeriesBatch) -> Tensor:
    """Covariates and controls at the rows of a batch, (N, T, S + C)."""
    series = torch.arange(len(batch), device=batch.times.device)[:, None].expand_as(batch.times)
    return inputs.at(series.flatten(), batch.times.flatten()).reshape(*batch.times.shape, -1)


def inputs_of(batch: SeriesBatch, origin: Tensor) -> Inputs | None:
    """What drives the series of a batch whose clocks show 0 at `origin` (N,), or None where nothing does."""
    if batch.static is None and batch.paths is None:
        return None
    static = batch.values.new_empty(len(batch), 0) if batch.static is None else batch.static
    return Inputs(static, batch.paths, origin)


def _random_times(target: SeriesBatch, generator: torch.Generator) -> Tensor:
    """Times (N, M) drawn uniformly between the first and the last row of each series."""
    share = torch.rand(
        (len(target), PENALTY_TIMES), generator=generator, dtype=torch.float64, device=generator.device
    )
    return torch.lerp(target.times[:, :1], target.times[:, -1:], share.to(target.times))
