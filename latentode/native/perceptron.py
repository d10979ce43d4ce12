"""The form of a field that the kernels know."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Perceptron:
    """dy/dt = MLP([y, t, inputs]), or softplus(raw_speed) · tanh(MLP([y, t, inputs])), for N series.

    A field says that it is one by a method `as_perceptron(y0)`, which `solve_ivp` asks; the tensors must be the very
    ones that the field uses, so that gradients reach them.

    Parameters
    ----------
    weights : tuple of Tensor (n_out, n_in)
        Of the linear maps, in the order of their use; the first one reads the D moving numbers of a state, then t where
        `time_input`, then the inputs; the last one returns D numbers.
    biases : tuple of Tensor (n_out,) or None
    activation : str
        After every linear map but the last: "tanh", "softplus", "elu", "silu" or "relu".
    time_input : bool, default False
    inputs : Tensor (N, C), optional
        What the field sees of each series beside its state and time.
    raw_speed : Tensor (D,), optional
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    activation: str = "tanh"
    time_input: bool = False
    inputs: Tensor | None = None
    raw_speed: Tensor | None = None

    @property
    def dim(self) -> int:
        """D, the numbers of a state that move; those behind them have derivative 0."""
        return len(self.weights[-1])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors that gradients may be wanted for, without the inputs."""
        speed = () if self.raw_speed is None else (self.raw_speed,)
        return (*self.weights, *(bias for bias in self.biases if bias is not None), *speed)
