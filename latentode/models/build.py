"""A latent ODE from the names, or the modules, of its parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from latentode.models.latent_ode import LatentODE, SolveOptions
from latentode.nn.likelihoods import Likelihood
from latentode.nn.point_process import Intensity


def build_latent_ode(
    *,
    encoder: type[nn.Module] | nn.Module,
    field: type[nn.Module] | nn.Module,
    likelihood: Likelihood,
    decoder: type[nn.Module],
    latent_dim: int,
    hidden_dim: int,
    depth: int,
    activation: str,
    encoder_dim: int,
    time_dependent: bool,
    backwards: bool,
    n_static: int,
    n_controls: int,
    event_rates: Sequence[float],
    options: SolveOptions,
    generator: torch.Generator,
) -> LatentODE:
    """A latent ODE of standard parts, or of a user's own; the first weights come from `generator`, on the CPU.

    `backwards` is whether the encoder reads from the last row to the first, for a state at the first. `event_rates` are
    the mean rates of the event processes, none for a model without.
    """
    if not isinstance(encoder, nn.Module):
        n_read = likelihood.n_features + n_static + n_controls
        encoder = encoder(n_read, encoder_dim, latent_dim, backwards=backwards, generator=generator)
        encoder.engine = options.engine  # type: ignore[assignment]
    if not isinstance(field, nn.Module):
        field = field(
            latent_dim,
            hidden_dim,
            depth=depth,
            activation=activation,
            time_dependent=time_dependent,
            n_static=n_static,
            n_controls=n_controls,
            generator=generator,
        )
    decoded = decoder(latent_dim, hidden_dim, likelihood.n_out, activation=activation, generator=generator)
    intensity = None
    if event_rates:
        level = torch.tensor(event_rates, device="cpu")
        intensity = Intensity(latent_dim, hidden_dim, len(event_rates), level=level, generator=generator)
    return LatentODE(encoder, field, decoded, likelihood, options, intensity)
