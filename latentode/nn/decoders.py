"""From latent states to the parameters of a likelihood."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentode.nn.fused_mlp import perceptron
from latentode.nn.mlp import MLP


class MLPDecoder(nn.Module):
    """A multilayer perceptron, the same at every time.

    Parameters
    ----------
    latent_dim : int
        L, the size of the state.
    hidden_dim : int
        Width of the hidden layers.
    n_out : int
        Parameters of the likelihood at one time: its `n_out`.
    depth : int, default 1
        Number of hidden layers; 0 reads the targets off the state linearly.
    activation : str, default "tanh"
        A name of `latentode.nn.mlp.ACTIVATIONS`.
    generator : torch.Generator, optional
        Source of the first weights; None takes fresh entropy.

    Attributes
    ----------
    engine : {"auto", "torch", "native"}, default "auto"
        What evaluates it, with equal results: "torch", or else the native kernels wherever they can and are faster.
    """

    engine: str = "auto"

    def __init__(
        self,
        latent_dim: int,
        hidden_dim: int,
        n_out: int,
        *,
        depth: int = 1,
        activation: str = "tanh",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.mlp = MLP(latent_dim, hidden_dim, n_out, depth=depth, activation=activation, generator=generator)

    def forward(self, z: Tensor) -> Tensor:
        """Parameters (K, N, T, n_out) for states z (K, N, T, L)."""
        return perceptron(self.mlp, z, self.engine)
