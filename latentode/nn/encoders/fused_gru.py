"""Recurrent encoders by the native kernels, where these know all that is asked for: one call for a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latentode.native.gru import Rows, Way, gru_backward, gru_forward
from latentode.native.library import library, why_absent
from latentode.solve.engine import check_engine
from latentode.solve.only_torch import is_changed, why_only_torch
from latentode.solvers.method import is_batched

WIDEST_FASTER = 256  # H up to which the kernels beat torch's products of matrices; measured near a tie at 512

ByTorch = Callable[[Rows, Sequence[Tensor]], Tensor]  # (rows, weights) -> states (N, H), with a graph


def serves(engine: str, parts: Sequence[nn.Module], weights: Sequence[Tensor] | None, rows: Rows) -> bool:
    """Whether the native kernels read these rows.

    Parameters
    ----------
    engine : {"auto", "torch", "native"}
    parts : sequence of nn.Module
        All that torch would call; the first one is the GRU.
    weights : sequence of Tensor or None
        Of the parts, as `latentode.native.gru` wants them; None where a part is of another form than its kernels know.
    rows : Rows

    Raises
    ------
    ValueError
        With engine="native", where the kernels cannot; it says why.
    """
    check_engine(engine)
    if engine == "torch":
        return False
    why_not = _why_not(parts, weights, rows)
    if why_not is None and engine == "auto":
        assert weights is not None
        return weights[1].shape[1] <= WIDEST_FASTER
    if why_not and engine == "native":
        raise ValueError(f"engine='native' cannot read these series, because {why_not}: use engine='auto'")
    return why_not is None


def gru_weights(gru: nn.Module) -> list[Tensor] | None:
    """Weights of a GRU with one layer in one direction; None of anything else."""
    if type(gru) is not nn.GRU or gru.num_layers != 1 or gru.bidirectional or not gru.bias:
        return None
    return list(gru.all_weights[0])


def fused_states(rows: Rows, weights: Sequence[Tensor], way: Way, by_torch: ByTorch) -> Tensor:
    """States (N, H) after the last row of each series, with gradients of all orders to the weights.

    Parameters
    ----------
    rows : Rows
    weights : sequence of Tensor
    way : Way
    by_torch : callable
        The same in torch, for second derivatives.
    """
    if torch.is_grad_enabled() and any(weight.requires_grad for weight in weights):
        return _FusedStates.apply(way, by_torch, *rows, *weights)
    return gru_forward(rows, weights, way)[0]


class _FusedStates(torch.autograd.Function):
    """From the weights to the states."""

    @staticmethod
    def forward(ctx: Any, way: Way, by_torch: ByTorch, *tensors: Tensor) -> Tensor:
        rows, weights = Rows(*tensors[:4]), tensors[4:]
        states, saved = gru_forward(rows, weights, way, keep=True)
        ctx.way, ctx.by_torch = way, by_torch
        ctx.save_for_backward(saved, *tensors)  # so that torch notices a change in place
        return states

    @staticmethod
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        saved, *tensors = ctx.saved_tensors
        rows, weights = Rows(*tensors[:4]), tensors[4:]
        if torch.is_grad_enabled() or is_batched(d_states):  # create_graph, is_grads_batched
            wanted = ctx.needs_input_grad[-len(weights) :]
            return (None,) * 6 + _with_graph(ctx.by_torch, rows, weights, wanted, d_states)
        return (None,) * 6 + gru_backward(d_states, saved, rows, weights, ctx.way)


def _with_graph(
    by_torch: ByTorch, rows: Rows, weights: Sequence[Tensor], wanted: Sequence[bool], d_states: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients as part of a graph, through torch's own way to the states."""
    inputs = [weight for weight, wants in zip(weights, wanted) if wants]
    with torch.enable_grad():
        states = by_torch(rows, weights)
    found = iter(torch.autograd.grad(states, inputs, d_states, create_graph=torch.is_grad_enabled()))
    return tuple(next(found) if wants else None for wants in wanted)


def _why_not(parts: Sequence[nn.Module], weights: Sequence[Tensor] | None, rows: Rows) -> str | None:
    """What the kernels do not know about these rows and weights; None where they know all."""
    if library() is None:
        return f"there are no native kernels ({why_absent()})"
    if weights is None or any(map(is_changed, parts)):
        return (
            "its kernels know a torch.nn.GRU of one layer in one direction, and for an ODE-RNN the fixed-step solver "
            "'exponential' and one hidden layer, all without hooks"
        )
    if torch.is_grad_enabled() and (rows.times.requires_grad or rows.values.requires_grad):
        return "gradients to times or values are wanted"
    return why_only_torch((*rows, *weights)) or _why_not_rows(weights, rows)


def _why_not_rows(weights: Sequence[Tensor], rows: Rows) -> str | None:
    times, values, mask, lengths = rows
    if values.dtype not in _DTYPES or any(x.dtype != values.dtype for x in weights):
        return "its kernels know values and weights that are all float32 or all float64"
    if times.dtype not in _DTYPES or mask.dtype != torch.bool or lengths.dtype != torch.int64:
        return "its kernels know times of float32 or float64, masks of bool and lengths of int64"
    shape = values.shape
    if values.ndim != 3 or mask.shape != shape or times.shape != shape[:2] or lengths.shape != shape[:1]:
        return "its kernels know times (N, T), values and mask (N, T, D) and lengths (N,)"
    if len(lengths) and not 0 <= int(lengths.min()) <= int(lengths.max()) <= shape[1]:
        return f"lengths must be between 0 and T = {shape[1]}"
    return None


_DTYPES = (torch.float32, torch.float64)
