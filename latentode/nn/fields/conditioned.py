"""A field with inputs as a field on a state that carries them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from latentode.native import Perceptron
from latentode.nn.fields.field import Field


class Conditioned(nn.Module):
    """dz/dt = field(t, z, inputs), du/dt = 0 on the state (z, u), for `latentode.solve_ivp`.

    The inputs u of every series are a part of its state, so that they stay with it whichever series are still being
    solved, and gradients reach them. The error of a step is measured over both parts.

    Parameters
    ----------
    field : Field
        Such as `MLPField(latent_dim, hidden_dim, n_static=C)`.

    Examples
    --------
    >>> import torch
    >>> from latentode import solve_ivp
    >>> from latentode.nn.fields import Conditioned, MLPField
    >>> field = Conditioned(MLPField(2, 16, n_static=3))
    >>> z0, inputs = torch.zeros(5, 2), torch.randn(5, 3)
    >>> z, _ = solve_ivp(field, (z0, inputs), [0.0, 1.0, 2.0]).y
    >>> z.shape
    torch.Size([5, 3, 2])
    """

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = field

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Derivatives of z (n, L) and of the inputs (n, C)."""
        z, inputs = state
        return self.field(t, z, inputs), torch.zeros_like(inputs)

    def as_perceptron(self, y0: Tensor) -> Perceptron | None:
        """What the native kernels solve in the place of `forward`, for states y0 (N, L + C)."""
        form_of = getattr(self.field, "as_perceptron", None)
        split = self.field.latent_dim
        form = None if form_of is None else form_of(y0[:, :split], y0[:, split:])
        return None if form is None else replace(form, n_still=y0.shape[1] - split)
