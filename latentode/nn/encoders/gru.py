"""A gated recurrent unit as recognition network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentode.native.gru import Rows, Way
from latentode.nn.encoders.fused_gru import fused_states, gru_weights, serves
from latentode.nn.encoders.head import PosteriorHead
from latentode.nn.encoders.reading import gaps_between, reading_order
from latentode.nn.initialisation import generator_or_fresh, gru
from latentode.nn.normal import Normal


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

    Attributes
    ----------
    engine : {"auto", "torch", "native"}, default "auto"
        What reads the rows: the native kernels or torch, with equal results. "auto" takes the kernels where they
        know all that is asked for, up to a `hidden_dim` of 256; "native" raises ValueError where they do not.

    References
    ----------
    Chen et al. (2018), "Neural ordinary differential equations", section 5 and figure 6; for mask and Δt as
    inputs Che et al. (2018), "Recurrent neural networks for multivariate time series with missing values".
    """

    engine: str = "auto"

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
        return self.head(self._states(Rows(times, values, mask, lengths)))

    def _states(self, rows: Rows) -> Tensor:
        weights = gru_weights(self.gru)
        if weights is not None and weights[0].shape[1] != 2 * rows.values.shape[-1] + 1:
            weights = None
        if serves(self.engine, [self.gru], weights, rows):
            assert weights is not None
            way = Way(self.backwards, gap_input=True, skip_empty=False)
            return fused_states(rows, weights, way, self._states_of_weights)
        if not rows.values.numel():  # nothing to read, which torch's GRU refuses
            return rows.values.new_zeros(len(rows.values), self.gru.hidden_size)
        # Padding is read too and then ignored: on a CPU half the time of packed sequences, backward included.
        states, _ = self.gru(gru_inputs(*rows, backwards=self.backwards))  # (N, T, H)
        return _last_valid(states, rows.lengths)

    def _states_of_weights(self, rows: Rows, weights: Sequence[Tensor]) -> Tensor:
        inputs = gru_inputs(*rows, backwards=self.backwards)
        start = inputs.new_zeros(1, len(inputs), weights[1].shape[1])
        states, _ = torch.gru(inputs, start, list(weights), True, 1, 0.0, False, False, True)
        return _last_valid(states, rows.lengths)


def gru_inputs(times: Tensor, values: Tensor, mask: Tensor, lengths: Tensor, *, backwards: bool) -> Tensor:
    """(value where observed, mask, Δt) in the order of reading, zeros in the padding: (N, T, 2 D + 1)."""
    valid, order = reading_order(lengths, times.shape[1], backwards)
    observed = mask & valid[..., None]
    gaps = gaps_between(times.gather(1, order), valid, backwards).to(values.dtype)
    cells = torch.cat([torch.where(observed, values, 0.0), observed.to(values.dtype)], dim=-1)
    rows = cells.gather(1, order[..., None].expand_as(cells))
    return torch.cat([rows, gaps[..., None]], dim=-1)


def _last_valid(states: Tensor, lengths: Tensor) -> Tensor:
    """The state after the last row read, or zeros where no row was: (N, H)."""
    last = (lengths - 1).clamp(min=0)
    picked = states[torch.arange(len(states), device=states.device), last]
    return torch.where((lengths > 0)[:, None], picked, 0.0)
