"""What every field of `FIELDS` has in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentode.native import Perceptron
from latentode.nn.mlp import MLP


class Field(nn.Module):
    """A vector field dz/dt = f(t, z, inputs), row by row independent.

    The inputs of a series are its static covariates, then its controls at time t. A field that can be solved without
    a solver also has `flow`, as `LinearField`.
    """

    latent_dim: int
    time_dependent: bool
    n_static: int
    n_controls: int

    @property
    def n_inputs(self) -> int:
        """S + C, the width of `inputs`."""
        return self.n_static + self.n_controls

    def forward(self, t: Tensor, z: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Derivative of the state.

        Parameters
        ----------
        t : Tensor (n,)
            The clock of each series, in the model's unit of time; only a time-dependent field looks at it.
        z : Tensor (n, L)
        inputs : Tensor (n, S + C), optional
            Scaled static covariates, then scaled controls at t; None for a field without inputs.

        Returns
        -------
        Tensor (n, L)

        Raises
        ------
        ValueError
            When the inputs do not have the width of this field's.
        """
        raise NotImplementedError

    def check_width(self, n_static: int, n_controls: int) -> None:
        """Refuse inputs that are not this field's."""
        if (n_static, n_controls) != (self.n_static, self.n_controls):
            raise ValueError(
                f"the field was made for {self.n_static} static covariates and {self.n_controls} controls; "
                f"got {n_static} and {n_controls}"
            )

    def check_inputs(self, inputs: Tensor | None) -> None:
        """Refuse inputs of a call, (n, S + C) or None, that are not this field's."""
        width = 0 if inputs is None else inputs.shape[-1]
        if width != self.n_inputs:
            raise ValueError(
                f"the field was made for inputs of width {self.n_inputs} ({self.n_static} static covariates, "
                f"{self.n_controls} controls); got {'none' if inputs is None else f'width {width}'}"
            )

    def seen(self, t: Tensor, z: Tensor, inputs: Tensor | None) -> Tensor:
        """[z, t where time-dependent, inputs], what a network of a field sees: (n, `n_seen`)."""
        self.check_inputs(inputs)
        parts = [z]
        if self.time_dependent:
            parts.append(t.to(z.dtype)[:, None])
        if inputs is not None:
            parts.append(inputs.to(z.dtype))
        return torch.cat(parts, dim=-1) if len(parts) > 1 else z

    @property
    def n_seen(self) -> int:
        """Width of `seen`."""
        return self.latent_dim + int(self.time_dependent) + self.n_inputs

    def perceptron_of(
        self, mlp: MLP, inputs: Tensor | None, raw_speed: Tensor | None = None
    ) -> Perceptron | None:
        """The form in which the fused engine solves a field that is one network of `seen`; None where it cannot."""
        layers = mlp.plain_layers()
        if layers is None or type(mlp) is not MLP:
            return None
        self.check_inputs(inputs)
        return Perceptron(*layers, mlp.activation, self.time_dependent, inputs, raw_speed)
