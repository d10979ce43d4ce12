"""Fields of flows in general position: away from their first weights, where the last layer is 0."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentode.nn.flow_fields import FLOW_FIELDS, FlowField


def stirred(name: str, n_dims: int = 3, hidden_dim: int = 5, **options) -> FlowField:
    """A field of this name in float64 with weights that are nowhere 0."""
    generator = torch.Generator().manual_seed(0)
    field = FLOW_FIELDS[name](n_dims, hidden_dim, generator=generator, **options).double()
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return field


class OwnField(nn.Module):
    """A user's field: of one hidden layer and time, without products of its own."""

    def __init__(self, n_dims: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.a = nn.Parameter(torch.randn(6, n_dims, generator=generator, dtype=torch.float64))
        self.b = nn.Parameter(0.5 * torch.randn(n_dims, 6, generator=generator, dtype=torch.float64))

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return torch.sin(z @ self.a.T + t[:, None]) @ self.b.T


def all_fields() -> dict[str, nn.Module]:
    return {name: stirred(name) for name in FLOW_FIELDS} | {"own": OwnField()}


def points(n_rows: int = 4, n_dims: int = 3) -> tuple[Tensor, Tensor]:
    """Times (n,) and states (n, D)."""
    generator = torch.Generator().manual_seed(2)
    t = torch.rand(n_rows, generator=generator, dtype=torch.float64)
    return t, torch.randn(n_rows, n_dims, generator=generator, dtype=torch.float64)


def jacobians(field: nn.Module, t: Tensor, z: Tensor) -> Tensor:
    """∂f/∂z (n, D, D) by autograd, row by row."""
    rows = [
        torch.autograd.functional.jacobian(lambda x, at=at: field(at[None], x[None])[0], row)
        for at, row in zip(t, z)
    ]
    return torch.stack(rows)
