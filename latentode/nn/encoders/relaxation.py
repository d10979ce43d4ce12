"""How the state of a recurrent network flows while nothing is observed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.nn.initialisation import inverse_softplus, log_spread
from latentode.nn.mlp import MLP

INITIAL_RATE = (0.03, 1.0)  # per model time, where series last 5 to 80 and turn about every 2


class Relaxation(nn.Module):
    """dh/dt = rate · (tanh(MLP(h)) - h), with a learned rate of each unit.

    A continuous-time recurrent network. From |h| <= 1, where a GRU keeps its state, no gap however long leads out.

    Parameters
    ----------
    hidden_dim : int
        H, the size of the state.
    field_dim : int
        Width of the hidden layer.
    generator : torch.Generator
        Source of the first weights.

    References
    ----------
    Funahashi & Nakamura (1993), "Approximation of dynamical systems by continuous time recurrent neural networks":
    such a network approximates any finite piece of a trajectory.
    """

    def __init__(self, hidden_dim: int, field_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.raw_rate = nn.Parameter(inverse_softplus(log_spread(hidden_dim, *INITIAL_RATE, generator)))
        self.mlp = MLP(hidden_dim, field_dim, hidden_dim, generator=generator)

    @property
    def rate(self) -> Tensor:
        """Per model time, (H,)."""
        return functional.softplus(self.raw_rate)

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        """dh/dt (n, H) of h (n, H), whatever the time t (n,)."""
        return self.rate * (self.goal(h) - h)

    def goal(self, h: Tensor) -> Tensor:
        """Where the state is drawn to."""
        return self.mlp(h).tanh()

    def plain_weights(self) -> list[Tensor] | None:
        """All weights, of a network with one hidden layer; None where it is something else."""
        layers = self.mlp.plain_layers() if type(self) is Relaxation and type(self.mlp) is MLP else None
        if layers is None or len(layers[0]) != 2 or self.mlp.activation != "tanh":
            return None
        found = [x for pair in zip(*layers) for x in pair if x is not None]
        return [self.raw_rate, *found] if len(found) == 4 else None

    def keeps(self, span: Tensor) -> Tensor:
        """Share of h that is left after a `span` (...) of model time towards a fixed goal, (..., H)."""
        return (-self.rate * span[..., None]).exp()

    def step(self, h: Tensor, half: Tensor, whole: Tensor) -> Tensor:
        """A step of the exponential midpoint rule; `half`, `whole` (n, H) are `keeps` of half of it and all of it.

        A convex combination of h and two goals, so that any step is stable: bounded where the flow is, and h itself
        where no time passes. Its error is of third order in the step (Hochbruck & Ostermann 2010, section 2.3).
        """
        midway = torch.lerp(self.goal(h), h, half)
        return torch.lerp(self.goal(midway), h, whole)
