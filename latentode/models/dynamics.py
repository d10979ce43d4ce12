"""The latent differential equation as the solver sees it: one flat state per series, driven by its own inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from latentode.native import Perceptron
from latentode.nn.inputs import Inputs
from latentode.nn.point_process import Intensity

HIDDEN = 2.0**100  # a power of two: positions up to 16 million stay exact in float32


def slope(field: nn.Module, t: Tensor, z: Tensor, inputs: Tensor | None) -> Tensor:
    """dz/dt (n, L); a field without inputs is called with two arguments."""
    return field(t, z) if inputs is None else field(t, z, inputs)


@dataclass(frozen=True, eq=False)
class Dynamics:
    """Latent state, expected number of events so far, and position of the series, (n, L + E + 1), as one state.

    The position never changes; from it the field finds the inputs of the series, whichever of them are still being
    solved. It is written so small that no choice of a step can depend on it.

    Parameters
    ----------
    field : nn.Module
        (t (n,), z (n, L)) or (t, z, inputs (n, S + C)) -> dz/dt (n, L).
    latent_dim : int
        L.
    intensity : Intensity, optional
        z (n, L) -> log rates (n, E) of events; their integral is solved with the state.
    inputs : Inputs, optional
        Of the N series.
    """

    field: nn.Module
    latent_dim: int
    intensity: Intensity | None
    inputs: Inputs | None

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        z = state[:, : self.latent_dim]
        inputs = None if self.inputs is None else self.inputs.at(self._series(state), t)
        parts = [slope(self.field, t, z, inputs)]
        if self.intensity is not None:
            parts.append(self.intensity(z).exp())
        parts.append(torch.zeros_like(state[:, :1]))
        return torch.cat(parts, dim=1)

    @property
    def largest_step(self) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        """To the next turn of the controls, for `solve_ivp`: no step may pass over a pulse."""
        inputs = self.inputs
        if inputs is None or inputs.paths is None:
            return None
        return lambda t, state, direction: inputs.to_next_turn(self._series(state), t, direction)

    def as_perceptron(self, y0: Tensor) -> Perceptron | None:
        """What the native kernels solve in the place of these dynamics, for states (N, L + 1); None where they cannot.

        They know fields with static covariates, but no controls and no intensity.
        """
        form_of = getattr(self.field, "as_perceptron", None)
        if (
            form_of is None
            or self.intensity is not None
            or self.inputs is None
            or self.inputs.paths is not None
        ):
            return None
        form = form_of(y0[:, : self.latent_dim], self.inputs.static[self._series(y0)])
        return None if form is None else replace(form, n_still=1)

    def _series(self, state: Tensor) -> Tensor:
        assert self.inputs is not None
        position = (state[:, -1].detach() * HIDDEN).round().long()  # of a state that blew up it is any number
        return position.clamp(0, len(self.inputs) - 1)

    def first_state(self, z0: Tensor) -> Tensor:
        """State (K N, L + E + 1) of latent states z0 (K, N, L)."""
        n_samples, n_series, _ = z0.shape
        n_processes = 0 if self.intensity is None else self.intensity.n_processes
        position = torch.arange(n_series, dtype=z0.dtype, device=z0.device) / HIDDEN
        position = position.expand(n_samples, -1)[..., None]
        return torch.cat([z0, z0.new_zeros(n_samples, n_series, n_processes), position], dim=-1).flatten(0, 1)

    def parameters(self) -> list[Tensor]:
        """What the state depends on."""
        own = [] if self.intensity is None else list(self.intensity.parameters())
        return [*self.field.parameters(), *own]
