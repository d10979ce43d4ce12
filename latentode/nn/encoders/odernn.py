"""A recurrent network whose state flows between the observations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from latentode.native.gru import Rows, Way
from latentode.nn.encoders.fused_gru import fused_states, gru_weights, serves
from latentode.nn.encoders.head import PosteriorHead
from latentode.nn.encoders.reading import gaps_between, reading_order
from latentode.nn.encoders.relaxation import Relaxation
from latentode.nn.initialisation import generator_or_fresh, gru
from latentode.nn.normal import Normal
from latentode.solve import solve_ivp

EXPONENTIAL = "exponential"  # the fixed-step solver; all others are names of `latentode.solvers`


class ODERNNEncoder(nn.Module):
    """An ODE-RNN: the state follows its own differential equation from row to row, and a GRU cell reads each row.

    Good for gaps of very different lengths, which a GRU only sees as a number; costs several times a GRU. A row without
    any observed cell changes nothing: the state just flows on.

    Parameters
    ----------
    n_targets : int
        D, the columns of `values`.
    hidden_dim : int
        H, the size of the recurrent state and of the hidden layer of the posterior head.
    latent_dim : int
        L, the size of the latent state.
    backwards : bool, default True
        Read from the last row to the first, for a posterior at the first; False reads towards the last.
    field_dim : int, optional
        Width of the hidden layer of the state's differential equation; default: `hidden_dim`.
    n_steps : int, default 1
        Steps per gap of the exponential midpoint rule, which is stable for gaps of any length.
    solver : str, default "exponential"
        Or an adaptive one of `latentode.solve_ivp`, for a flow within tolerances; some ten times slower.
    rtol, atol : float, default 1e-3 and 1e-4
        Tolerances of an adaptive solver.
    generator : torch.Generator, optional
        Source of the first weights; None takes fresh entropy.

    Attributes
    ----------
    engine : {"auto", "torch", "native"}, default "auto"
        What reads the rows: the native kernels or torch, with equal results. "auto" takes the kernels where they
        know all that is asked for, up to a `hidden_dim` of 256; "native" raises ValueError where they do not, as for
        adaptive solvers.

    Raises
    ------
    ValueError
        When `n_steps` is not positive.

    References
    ----------
    Rubanova et al. (2019), "Latent ordinary differential equations for irregularly-sampled time series", algorithm 1.
    """

    engine: str = "auto"

    def __init__(
        self,
        n_targets: int,
        hidden_dim: int,
        latent_dim: int,
        *,
        backwards: bool = True,
        field_dim: int | None = None,
        n_steps: int = 1,
        solver: str = EXPONENTIAL,
        rtol: float = 1e-3,
        atol: float = 1e-4,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if n_steps < 1:
            raise ValueError(f"n_steps must be a number of steps per gap, 1 or more; got {n_steps}")
        generator = generator_or_fresh(generator)
        self.backwards = backwards
        self.n_steps = n_steps
        self.solver, self.rtol, self.atol = solver, rtol, atol
        self.flow = Relaxation(hidden_dim, field_dim or hidden_dim, generator)
        self.gru = gru(2 * n_targets, hidden_dim, generator)
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

        Raises
        ------
        SolverError
            When an adaptive solver fails in a gap.
        """
        rows = Rows(times, values, mask, lengths)
        weights = self._weights(values.shape[-1])
        if not serves(self.engine, [self.gru, self.flow], weights, rows):
            return self.head(self._states(rows))
        assert weights is not None
        way = Way(self.backwards, gap_input=False, skip_empty=True, flow_steps=self.n_steps)
        return self.head(fused_states(rows, weights, way, self._states_of_weights))

    def _weights(self, n_targets: int) -> list[Tensor] | None:
        """What the native kernels want; None where they do not know this network."""
        of_cell, of_flow = gru_weights(self.gru), self.flow.plain_weights()
        if of_cell is None or of_flow is None or self.solver != EXPONENTIAL:
            return None
        return None if of_cell[0].shape[1] != 2 * n_targets else of_cell + of_flow

    def _states_of_weights(self, rows: Rows, weights: Sequence[Tensor]) -> Tensor:
        named = zip(_WEIGHTS, weights)
        return functional_call(_Reader(self), {f"encoder.{name}": weight for name, weight in named}, (rows,))

    def _states(self, rows: Rows) -> Tensor:
        """States after the last row read, (N, H)."""
        by_length = rows.lengths.argsort(descending=True, stable=True)
        states = self._read(*(x[by_length] for x in rows))
        return states[by_length.argsort()]

    def _read(self, times: Tensor, values: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """States after the last row read, (N, H), of series in the order of falling length."""
        valid, order = reading_order(lengths, times.shape[1], self.backwards)
        # of each step: how many series, the longest ones, still have a row
        sizes = [n for n in valid.sum(0).tolist() if n]
        step, series = valid.T.nonzero(as_tuple=True)  # the R rows that there are, step after step
        row = order[series, step]
        gaps = gaps_between(times.gather(1, order), valid, self.backwards)[series, step]
        reading = self._reading(values[series, row], mask[series, row])
        columns = [x.split(sizes) for x in (*reading, *self._spans(gaps, values.dtype))]
        h, finished = values.new_zeros(len(values), self.gru.hidden_size), []
        for j, (n, gates, candidate, *span) in enumerate(zip(sizes, *columns)):
            if n < len(h):
                h, shorter = h.tensor_split([n])
                finished.append(shorter)
            if j:
                h = self._flowed(h, *span)
            h = self._updated(h, gates, candidate)
        return torch.cat([h, *reversed(finished)])

    def _reading(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What R rows add to the gates (R, 2 H) and to the candidate (R, H), in one product for all of them."""
        cells = torch.cat([torch.where(mask, values, 0.0), mask.to(values.dtype)], dim=-1)
        weight, _, bias, _ = self.gru.all_weights[0]
        read = functional.linear(cells, weight, bias)
        reset, update, candidate = read.chunk(3, dim=-1)
        # An update gate held wide open keeps the state to the last bit, in the loop at no cost.
        update = update.masked_fill(~mask.any(-1, keepdim=True), math.inf)
        return torch.cat([reset, update], dim=-1), candidate

    def _updated(self, h: Tensor, gates: Tensor, candidate: Tensor) -> Tensor:
        """The GRU cell on the states (n, H) of the series that have a row (Cho et al. 2014, as torch has it)."""
        width = h.shape[1]
        _, weight, _, bias = self.gru.all_weights[0]
        recurrent = functional.linear(h, weight, bias)
        own_gates, own_candidate = recurrent.split([2 * width, width], dim=-1)
        reset, update = (gates + own_gates).sigmoid().chunk(2, dim=-1)
        return torch.lerp(torch.addcmul(candidate, reset, own_candidate).tanh(), h, update)

    def _spans(self, gaps: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """What `_flowed` needs of the gaps (R,), for all rows at once."""
        if self.solver != EXPONENTIAL:
            return (gaps,)
        half = self.flow.keeps((gaps / (2 * self.n_steps)).to(dtype))
        return half, half.square()

    def _flowed(self, h: Tensor, *span: Tensor) -> Tensor:
        """States (n, H) at the next row."""
        if self.solver == EXPONENTIAL:
            half, whole = span
            for _ in range(self.n_steps):
                h = self.flow.step(h, half, whole)
            return h
        (gaps,) = span
        return solve_ivp(
            self.flow,
            h,
            gaps[:, None],
            t0=torch.zeros_like(gaps),
            solver=self.solver,
            rtol=self.rtol,
            atol=self.atol,
        ).y[:, 0]


class _Reader(nn.Module):
    """The recurrent part of an encoder alone."""

    def __init__(self, encoder: ODERNNEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, rows: Rows) -> Tensor:
        return self.encoder._states(rows)


_WEIGHTS = (  # in the order of `latentode.native.gru`
    *(f"gru.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    "flow.raw_rate",
    *(f"flow.mlp.layers.{layer}.{name}" for layer in (0, 1) for name in ("weight", "bias")),
)
