"""Vector fields of the latent differential equation dz/dt = f(t, z)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentode.nn.mlp import MLP


class MLPField(nn.Module):
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
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.time_dependent = time_dependent
        n_in = latent_dim + int(time_dependent)
        self.mlp = MLP(n_in, hidden_dim, latent_dim, depth=depth, activation=activation, generator=generator)

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        """Derivative of the state.

        Parameters
        ----------
        t : Tensor (N,)
            The clock of each series, in the model's unit of time.
        z : Tensor (N, L)

        Returns
        -------
        Tensor (N, L)
        """
        if self.time_dependent:
            z = torch.cat([z, t.to(z.dtype)[:, None]], dim=-1)
        return self.mlp(z)


FIELDS = {"mlp": MLPField}
