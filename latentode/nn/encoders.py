"""Recognition networks: from a series' observations to the posterior of its latent state."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.nn.initialisation import generator_or_fresh, gru
from latentode.nn.mlp import MLP
from latentode.nn.normal import Normal

STD_FLOOR = 1e-4  # keeps log(std) and 1/std harmless in float32
INITIAL_STD = 0.3  # well inside the prior, so that the first samples already tell the series apart


class PosteriorHead(nn.Module):
    """One hidden layer, then mean and standard deviation of z.

    The hidden tanh layer bounds both: a summary the network has never seen cannot make the spread explode.

    Parameters
    ----------
    n_in : int
        Size of the encoder's summary of a series.
    latent_dim : int
        L, the size of the latent state.
    generator : torch.Generator
        Source of the first weights.
    """

    def __init__(self, n_in: int, latent_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.mlp = MLP(n_in, n_in, 2 * latent_dim, generator=generator)

    def forward(self, summary: Tensor) -> Normal:
        """Posterior (N, L) from the summary (N, n_in)."""
        mean, raw = self.mlp(summary).chunk(2, dim=-1)
        shift = math.log(math.expm1(INITIAL_STD))  # softplus(shift) = INITIAL_STD
        return Normal(mean, functional.softplus(raw + shift) + STD_FLOOR)


class GRUEncoder(nn.Module):
    """A gated recurrent unit over the observations of each series, knowing the gaps between them.

    The input of a step is (value where observed, mask, Δt to the row read just before). The cost grows with
    the longest series of the batch: group series of similar length.

    Parameters
    ----------
    n_targets : int
        D, the columns of `values`.
    hidden_dim : int
        Size of the recurrent state and of the hidden layer of the posterior head.
    latent_dim : int
        L, the size of the latent state.
    backwards : bool, default True
        Read from the last row to the first, for a posterior at the first; False reads towards the last.
    generator : torch.Generator, optional
        Source of the first weights; None takes fresh entropy.

    References
    ----------
    Chen et al. (2018), "Neural ordinary differential equations", section 5 and figure 6; for mask and Δt as
    inputs Che et al. (2018), "Recurrent neural networks for multivariate time series with missing values".
    """

    def __init__(
        self,
        n_targets: int,
        hidden_dim: int,
        latent_dim: int,
        *,
        backwards: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        generator = generator_or_fresh(generator)
        self.backwards = backwards
        self.gru = gru(2 * n_targets + 1, hidden_dim, generator)
        self.head = PosteriorHead(hidden_dim, latent_dim, generator)

    def forward(self, times: Tensor, values: Tensor, mask: Tensor, lengths: Tensor) -> Normal:
        """Posterior of the latent state of each series.

        Parameters
        ----------
        times : Tensor (N, T)
            In the model's unit of time; only gaps matter.
        values : Tensor (N, T, D)
            Scaled values; what stands in unobserved cells is never used.
        mask : Tensor (N, T, D), bool
            True where a value was observed; may be all False in a row.
        lengths : Tensor (N,), int64
            Rows of each series; a series of length 0 gets the network's answer to no data.

        Returns
        -------
        Normal
            mean (N, L), std (N, L), in the dtype of `values`.
        """
        inputs = gru_inputs(times, values, mask, lengths, backwards=self.backwards)
        # Padding is read too and then ignored: on a CPU half the time of packed sequences, backward included.
        states, _ = self.gru(inputs)  # (N, T, H)
        return self.head(_last_valid(states, lengths))


def gru_inputs(times: Tensor, values: Tensor, mask: Tensor, lengths: Tensor, *, backwards: bool) -> Tensor:
    """(value where observed, mask, Δt) in the order of reading, zeros in the padding: (N, T, 2 D + 1)."""
    valid, order = _reading_order(lengths, times.shape[1], backwards)
    observed = mask & valid[..., None]
    gaps = _gaps(times.gather(1, order), valid, backwards).to(values.dtype)
    cells = torch.cat([torch.where(observed, values, 0.0), observed.to(values.dtype)], dim=-1)
    rows = cells.gather(1, order[..., None].expand_as(cells))
    return torch.cat([rows, gaps[..., None]], dim=-1)


def _reading_order(lengths: Tensor, n_times: int, backwards: bool) -> tuple[Tensor, Tensor]:
    """Which steps read a row (N, T), and which row each of them reads (N, T); padding stays where it is."""
    position = torch.arange(n_times, device=lengths.device)
    valid = position < lengths[:, None]
    if not backwards:
        return valid, position.expand_as(valid)
    return valid, torch.where(valid, lengths[:, None] - 1 - position, position)


def _gaps(times: Tensor, valid: Tensor, backwards: bool) -> Tensor:
    """Time between a row and the one read before it, 0 for the first and in the padding: (N, T)."""
    gaps = torch.diff(times, dim=1, prepend=times[:, :1])  # before any rounding of the times to float32
    return torch.where(valid, -gaps if backwards else gaps, 0.0)


def _last_valid(states: Tensor, lengths: Tensor) -> Tensor:
    """The state after the last row read, or zeros where no row was: (N, H)."""
    last = (lengths - 1).clamp(min=0)
    picked = states[torch.arange(len(states), device=states.device), last]
    return torch.where((lengths > 0)[:, None], picked, 0.0)


ENCODERS = {"gru": GRUEncoder}
