"""Residual blocks, the discrete peers of an ODE block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.nn.fields.convolutional import group_norm
from latentode.nn.initialisation import conv2d
from latentode.nn.mlp import MLP


class ConvResidual(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))) on images (N, C, H, W) (He et al. 2016, full pre-activation)."""

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.norms = nn.ModuleList(group_norm(channels) for _ in range(2))
        self.convolutions = nn.ModuleList(
            conv2d(channels, channels, 3, generator, padding=1) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        change = x
        for norm, convolution in zip(self.norms, self.convolutions):
            change = convolution(functional.relu(norm(change)))
        return x + change


class VectorResidual(nn.Module):
    """x + MLP(x) on vectors (N, D)."""

    def __init__(
        self, size: int, hidden_dim: int, depth: int, activation: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.mlp = MLP(size, hidden_dim, size, depth=depth, activation=activation, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        return x + self.mlp(x)
