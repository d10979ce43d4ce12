"""What a latent ODE is built from: names and numbers, and a user's own modules where there are such."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from latentode.estimators.own_parts import own_copy, own_field
from latentode.models.build import build_latent_ode
from latentode.models.latent_ode import LatentODE, SolveOptions
from latentode.nn.decoders import MLPDecoder
from latentode.nn.encoders import ENCODERS
from latentode.nn.fields import FIELDS
from latentode.nn.likelihoods import TargetFacts, likelihood_for
from latentode.series.plain_values import as_plain


@dataclass(frozen=True)
class Blueprint:
    """All that decides the shape of a latent ODE; two models of one blueprint can exchange weights.

    Parameters
    ----------
    encoder, field : str or nn.Module
        A module is copied into the model, not trained itself.
    likelihoods : tuple of D names
    target_facts : tuple of D TargetFacts
    latent_dim, hidden_dim, depth, encoder_dim : int
    activation : str
    time_dependent, backwards : bool
    n_static, n_controls : int
        Features of static covariates and of controls.
    event_rates : tuple of float
        Mean rates of the event processes, empty without.
    options : SolveOptions
    """

    encoder: str | nn.Module
    field: str | nn.Module
    likelihoods: tuple[str, ...]
    target_facts: tuple[TargetFacts, ...]
    latent_dim: int
    hidden_dim: int
    depth: int
    activation: str
    encoder_dim: int
    time_dependent: bool
    backwards: bool
    n_static: int
    n_controls: int
    event_rates: tuple[float, ...]
    options: SolveOptions

    def build(self, generator: torch.Generator) -> LatentODE:
        """A new model, on the CPU, its first weights from `generator`."""
        return build_latent_ode(
            encoder=own_copy(self.encoder, ENCODERS),
            field=own_field(self.field, FIELDS, self.time_dependent),
            likelihood=likelihood_for(list(self.likelihoods), list(self.target_facts)),
            decoder=MLPDecoder,
            latent_dim=self.latent_dim,
            hidden_dim=self.hidden_dim,
            depth=self.depth,
            activation=self.activation,
            encoder_dim=self.encoder_dim,
            time_dependent=self.time_dependent,
            backwards=self.backwards,
            n_static=self.n_static,
            n_controls=self.n_controls,
            event_rates=self.event_rates,
            options=self.options,
            generator=generator,
        )

    @property
    def own_parts(self) -> list[str]:
        """Which of encoder and field are modules of a user, that no plain value describes."""
        return [name for name in ("encoder", "field") if isinstance(getattr(self, name), nn.Module)]

    def with_own(self, own: Mapping[str, nn.Module]) -> Blueprint:
        """The same with these modules as its own parts."""
        return replace(self, **own)  # type: ignore[arg-type]

    def state(self) -> dict[str, Any]:
        """Everything as plain values that JSON can hold; None in place of a user's own modules."""
        special = {"likelihoods", "target_facts", "event_rates", "options", *self.own_parts}
        names = [part.name for part in fields(self) if part.name not in special]
        return {
            **{name: as_plain(getattr(self, name)) for name in names},  # NumPy's numbers as Python's
            **dict.fromkeys(self.own_parts),
            "likelihoods": list(self.likelihoods),
            "target_facts": [[facts.level, facts.n_categories] for facts in self.target_facts],
            "event_rates": list(self.event_rates),
            "options": {
                name: as_plain(value)
                for name, value in self.options.arguments().items()
                if name != "engine"  # of a run, not of a model: see `LatentODE.run_on`
            },
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Blueprint:
        """The blueprint that `state()` came from, own parts still None."""
        return cls(
            **dict(state)
            | {
                "likelihoods": tuple(state["likelihoods"]),
                "target_facts": tuple(TargetFacts(*facts) for facts in state["target_facts"]),
                "event_rates": tuple(state["event_rates"]),
                "options": SolveOptions(**state["options"]),
            }
        )
