"""A vector field of bounded speed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.native import Perceptron
from latentode.nn.fields.field import Field
from latentode.nn.initialisation import inverse_softplus
from latentode.nn.mlp import MLP

INITIAL_SPEED = 1.0  # of a latent dimension per model time; states of a series are of order 1


class GatedField(Field):
    """dz/dt = speed · tanh(MLP([z, t, inputs])), with a learned bound of the speed of each dimension.

    Good for long spans and for forecasts far beyond training: a state grows at most linearly, whatever the network
    says outside the region it has seen. Not for exponential growth.

    Parameters
    ----------
    latent_dim : int
        L, the size of the state.
    hidden_dim : int
        Width of the hidden layers.
    depth : int, default 2
        Number of hidden layers.
    activation : str, default "tanh"
        A name of `latentode.nn.mlp.ACTIVATIONS`; smooth ones let the solver take longer steps.
    time_dependent : bool, default False
        Whether the field also sees t.
    n_static, n_controls : int, default 0
        S and C, the static covariates and controls that the field sees.
    generator : torch.Generator, optional
        Source of the first weights; None takes fresh entropy.

    References
    ----------
    Kidger et al. (2020), "Neural controlled differential equations for irregular time series", for the tanh that
    keeps a learned field from blowing up.
    """

    def __init__(
        self,
        latent_dim: int,
        hidden_dim: int,
        *,
        depth: int = 2,
        activation: str = "tanh",
        time_dependent: bool = False,
        n_static: int = 0,
        n_controls: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.time_dependent = time_dependent
        self.n_static, self.n_controls = n_static, n_controls
        self.mlp = MLP(
            self.n_seen, hidden_dim, latent_dim, depth=depth, activation=activation, generator=generator
        )
        self.raw_speed = nn.Parameter(inverse_softplus(torch.full((latent_dim,), INITIAL_SPEED)))

    @property
    def speed(self) -> Tensor:
        """Largest |dz/dt| of each dimension, (L,), per model time."""
        return functional.softplus(self.raw_speed)

    def forward(self, t: Tensor, z: Tensor, inputs: Tensor | None = None) -> Tensor:
        """speed · tanh(MLP([z, t, inputs])), as `Field.forward`."""
        return self.speed * self.mlp(self.seen(t, z, inputs)).tanh()

    def as_perceptron(self, y0: Tensor, inputs: Tensor | None = None) -> Perceptron | None:
        """What the fused engine solves in the place of `forward`, for states y0 (N, L) and inputs (N, S + C)."""
        return self.perceptron_of(self.mlp, inputs, raw_speed=self.raw_speed)
