"""Linear dynamics: damped oscillations, relaxations and trends, in closed form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.nn.fields.field import Field
from latentode.nn.fields.forcing import Forcing
from latentode.nn.fields.phi import exponential
from latentode.nn.initialisation import generator_or_fresh, inverse_softplus, linear, log_spread
from latentode.nn.inputs import Inputs
from latentode.nn.mlp import MLP

# A series lasts some 5 to 80 units of model time and turns about every 2.
INITIAL_FREQUENCY = (0.1, 3.0)  # rad per model time: from one turn in the longest series to one in 2
INITIAL_DAMPING = (0.005, 0.05)  # per model time: backwards, no mode grows more than 50-fold over 80


class Modes(NamedTuple):
    """What a series' static covariates set; n is 1 where there are none.

    Parameters
    ----------
    damping, frequency : Tensor (n, P)
        Of the P = ceil(L / 2) blocks, per model time; an odd L has a last block of frequency 0.
    bias : Tensor (n, L)
    """

    damping: Tensor
    frequency: Tensor
    bias: Tensor


class LinearField(Field):
    """dz/dt = A z + b + c t + C u(t), with A of blocks [[-d, w], [-w, -d]], d >= 0: solved without a solver.

    Good for oscillations, relaxations and trends, for long spans and far forecasts: no state can explode forwards in
    time (backwards, damped modes grow). Not for limit cycles, several equilibria or chaos.

    The blocks are no restriction: every diagonalisable real matrix without growing modes is similar to a matrix of such
    blocks (a real mode takes one of frequency 0), and the linear maps around the field, the last of the encoder's head
    and the first of the decoder, absorb the change of coordinates.

    Parameters
    ----------
    latent_dim : int
        L, the size of the state; neighbours (0, 1), (2, 3), ... make a block, an odd last one decays on its own.
    hidden_dim : int
        Width of the one hidden layer by which static covariates shift d, w and b; unused without such.
    depth : int, default 2
        Ignored: the field is linear.
    activation : str, default "tanh"
        Ignored.
    time_dependent : bool, default False
        Whether there is c t, a drift that grows with absolute time.
    n_static, n_controls : int, default 0
        S and C. Static covariates set d, w and b of their series, controls enter as C u(t) only.
    generator : torch.Generator, optional
        Source of the first weights; None takes fresh entropy.

    References
    ----------
    Orvieto et al. (2023), "Resurrecting recurrent neural networks for long sequences", section 3, for the
    diagonalisation; Hochbruck & Ostermann (2010), "Exponential integrators", section 2.1, for the closed form.
    """

    drift: nn.Parameter | None
    control: nn.Parameter | None

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
        generator = generator_or_fresh(generator)
        self.latent_dim = latent_dim
        self.time_dependent = time_dependent
        self.n_static, self.n_controls = n_static, n_controls
        damping = log_spread((latent_dim + 1) // 2, *INITIAL_DAMPING, generator)
        frequency = log_spread(latent_dim // 2, *INITIAL_FREQUENCY, generator)
        self.raw_damping = nn.Parameter(inverse_softplus(damping))
        self.frequency = nn.Parameter(frequency)
        self.bias = nn.Parameter(torch.zeros(latent_dim))
        self.drift = nn.Parameter(torch.zeros(latent_dim)) if time_dependent else None
        # The state that a constant forcing f ends in is f / |d + iw|: forcing of that size gives states of order 1.
        pace = self._padded(frequency).hypot(damping).repeat_interleave(2)[:latent_dim]
        self.net = self._net(hidden_dim, torch.cat([torch.ones_like(damping), frequency, pace]), generator)
        self.control = self._control(pace, generator)

    def _net(self, hidden_dim: int, scale: Tensor, generator: torch.Generator) -> MLP | None:
        """From static covariates to shifts (2 L) of raw damping, frequency and bias, which start in their `scale`."""
        if not self.n_static:
            return None
        net = MLP(self.n_static, hidden_dim, len(scale), generator=generator)
        with torch.no_grad():
            for parameter in net.layers[-1].parameters():
                parameter.mul_(scale.reshape(-1, *[1] * (parameter.ndim - 1)))
        return net

    def _control(self, pace: Tensor, generator: torch.Generator) -> nn.Parameter | None:
        """C (L, C)."""
        if not self.n_controls:
            return None
        return nn.Parameter(
            linear(self.n_controls, self.latent_dim, generator).weight.detach() * pace[:, None]
        )

    def forward(self, t: Tensor, z: Tensor, inputs: Tensor | None = None) -> Tensor:
        """A z + b + c t + C u, as `Field.forward`."""
        self.check_inputs(inputs)
        static, controls = None, None
        if inputs is not None:
            static, controls = inputs.to(z.dtype).split([self.n_static, self.n_controls], dim=-1)
        modes = self._modes(static)
        pairs = self._padded(z).unflatten(-1, (-1, 2))  # (n, P, 2)
        turned = torch.stack([pairs[..., 1], -pairs[..., 0]], dim=-1)
        moved = modes.frequency[..., None] * turned - modes.damping[..., None] * pairs
        return moved.flatten(-2)[..., : self.latent_dim] + self._forcing(modes.bias, t.to(z.dtype), controls)

    def flow(self, z0: Tensor, times: Tensor, inputs: Inputs | None, start: Tensor) -> Tensor:
        """States at any times, in closed form.

        Parameters
        ----------
        z0 : Tensor (K, N, L)
            States where the clock of each series shows 0.
        times : Tensor (N, T), float64
            Finite clock times, in the model's unit, in any order, also negative.
        inputs : Inputs or None
            Of the N series, None for a field without inputs.
        start : Tensor (N,), float64
            Absolute time where the clock shows 0, for c t.

        Returns
        -------
        Tensor (K, N, T, L)
            In the dtype of `z0`; what depends on time is computed in that of `times`.

        Raises
        ------
        ValueError
            When the inputs are not this field's.
        """
        static, paths = (None, None) if inputs is None else (inputs.static.to(z0.dtype), inputs.paths)
        self.check_width(0 if static is None else static.shape[1], 0 if paths is None else paths.n_controls)
        modes = self._modes(static)
        damping, frequency, bias = (x.to(times.dtype) for x in modes)
        asked = torch.cat([times.new_zeros(len(times), 1), times], dim=1)
        forced = self._pieces(bias, asked, inputs, start).response(damping, frequency, asked)
        at_zero, forced = forced.to(z0.dtype.to_complex()).split([1, times.shape[1]], dim=1)
        clock = times[..., None]
        free = exponential(-damping[:, None] * clock, -frequency[:, None] * clock)  # (N, T, P)
        free = free.to(forced.dtype)
        states = free * (self._modal(z0)[:, :, None] - at_zero) + forced
        return torch.view_as_real(states).flatten(-2)[..., : self.latent_dim]

    def _modes(self, static: Tensor | None) -> Modes:
        setting = torch.cat([self.raw_damping, self.frequency, self.bias])[None]
        if self.net is not None:
            setting = setting + self.net(static)
        widths = [len(self.raw_damping), len(self.frequency), len(self.bias)]
        damping, frequency, bias = setting.split(widths, dim=-1)
        return Modes(functional.softplus(damping), self._padded(frequency), bias)

    def _forcing(self, bias: Tensor, t: Tensor, controls: Tensor | None) -> Tensor:
        """b + c t + C u: (..., L), for t (...) and u (..., C)."""
        if self.drift is not None:
            bias = bias + self.drift * t[..., None]
        if self.control is not None and controls is not None:
            bias = bias + functional.linear(controls, self.control.to(controls.dtype))
        return bias

    def _pieces(self, bias: Tensor, times: Tensor, inputs: Inputs | None, start: Tensor) -> Forcing:
        """The forcing in modal coordinates, with a first break before all `times` (N, T), which hold the 0."""
        first, last = (x.detach() for x in times.aminmax(dim=1, keepdim=True))
        breaks, controls, slopes = first, None, None
        if inputs is not None and inputs.paths is not None:
            knots, controls = inputs.controls_between(first[:, 0], last[:, 0])
            # The path keeps its first value before its first knot, where a piece of its own begins.
            breaks = torch.cat([first.minimum(knots[:, :1]), knots], dim=1)
            controls = torch.cat([controls[:, :1], controls], dim=1).to(times.dtype)
            slopes = _slopes(breaks, controls, inputs.paths.interpolation)
        value = self._forcing(bias[:, None], breaks + start[:, None], controls)
        slope = self._forcing(torch.zeros_like(bias[:, None]), torch.ones_like(breaks), slopes)
        return Forcing(breaks, self._modal(value), self._modal(slope))

    def _modal(self, z: Tensor) -> Tensor:
        """A block's two states as one complex number: (..., L) to (..., P)."""
        return torch.view_as_complex(self._padded(z).unflatten(-1, (-1, 2)).contiguous())

    def _padded(self, x: Tensor) -> Tensor:
        """With a 0 for the missing partner of an odd last state."""
        return functional.pad(x, (0, 1)) if self.latent_dim % 2 else x


def _slopes(breaks: Tensor, controls: Tensor, interpolation: str) -> Tensor:
    """Change of the controls (N, M, C) per time after each of the breaks (N, M)."""
    slopes = torch.zeros_like(controls)
    if interpolation == "linear":
        gap = breaks.diff(dim=1)[..., None]
        slopes[:, :-1] = torch.where(gap > 0, controls.diff(dim=1) / gap, 0.0)
    return slopes
