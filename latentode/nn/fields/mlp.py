"""A multilayer perceptron as vector field."""

from __future__ import annotations

import torch
from torch import Tensor

from latentode.native import Perceptron
from latentode.nn.fields.field import Field
from latentode.nn.mlp import MLP


class MLPField(Field):
    """A multilayer perceptron as vector field.

    Good for most dynamics on spans comparable to training; nothing bounds its growth far beyond them.

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
    Chen et al. (2018), "Neural ordinary differential equations", section 5.
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

    def forward(self, t: Tensor, z: Tensor, inputs: Tensor | None = None) -> Tensor:
        """MLP([z, t, inputs]), as `Field.forward`."""
        return self.mlp(self.seen(t, z, inputs))

    def as_perceptron(self, y0: Tensor, inputs: Tensor | None = None) -> Perceptron | None:
        """What the fused engine solves in the place of `forward`, for states y0 (N, L) and inputs (N, S + C)."""
        return self.perceptron_of(self.mlp, inputs)
