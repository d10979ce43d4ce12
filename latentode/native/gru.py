"""The fused recurrent encoders of the native library on tensors: no autograd, and nothing is checked."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from latentode.native.library import library

GRU_WEIGHTS = (
    "weight_ih",
    "weight_hh",
    "bias_ih",
    "bias_hh",
)  # (3 H, F), (3 H, H), (3 H,), (3 H,): torch.nn.GRU's
FLOW_WEIGHTS = (  # (H,), (P, H), (P,), (H, P), (H,), of dh/dt = softplus(rate) · (tanh(MLP(h)) - h)
    "rate",
    "flow_weight_in",
    "flow_bias_in",
    "flow_weight_out",
    "flow_bias_out",
)
WEIGHTS = GRU_WEIGHTS + FLOW_WEIGHTS
RATE = WEIGHTS.index("rate")

MAX_THREADS = 64  # the kernels' own
PRODUCTS_PER_THREAD = 300_000  # some 10 µs: waking a thread for less costs more than it saves


class Rows(NamedTuple):
    """The observations to read, as an encoder gets them; `lengths` from 0 to T."""

    times: Tensor  # (N, T)
    values: Tensor  # (N, T, D), in the dtype of the weights
    mask: Tensor  # (N, T, D), bool
    lengths: Tensor  # (N,), int64


class Way(NamedTuple):
    """How rows are read."""

    backwards: bool
    gap_input: bool  # the time since the row read before is an input of the cell, after values and mask
    skip_empty: bool  # a row without an observed cell leaves the state as it is
    flow_steps: int = 0  # of the state's own differential equation between two rows; 0: the state rests


def _fields(kind: type, *names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names]


class _Problem(ctypes.Structure):
    """`latentode_gru` of kernels/gru_api.h."""

    _fields_ = [
        *_fields(ctypes.c_int32, "is_double", "backwards", "gap_input", "skip_empty", "n_threads", "keep"),
        *_fields(ctypes.c_int64, "n_series", "n_targets", "hidden", "flow_steps", "field"),
        *_fields(ctypes.c_void_p, "times", "values", "mask"),
        *_fields(ctypes.c_int64 * 2, "times_strides"),
        *_fields(ctypes.c_int64 * 3, "values_strides", "mask_strides"),
        *_fields(ctypes.c_void_p, "lengths", "order", *WEIGHTS, "states", "d_states"),
        *_fields(ctypes.c_void_p, *(f"d_{name}" for name in WEIGHTS), "saved", "scratch"),
        *_fields(ctypes.c_int64, "saved_bytes", "forward_bytes", "backward_bytes"),
    ]


class _Call:
    """A problem, with the tensors that its pointers point into."""

    def __init__(self, rows: Rows, weights: Sequence[Tensor], way: Way, *, keep: bool) -> None:
        times, values, mask, lengths = rows
        times = times.to(torch.float64)
        self.weights = [weight.detach().contiguous() for weight in weights]
        if way.flow_steps:
            self.weights[RATE] = functional.softplus(self.weights[RATE])
        self.problem = _Problem(
            is_double=values.dtype == torch.float64,
            backwards=way.backwards,
            gap_input=way.gap_input,
            skip_empty=way.skip_empty,
            flow_steps=way.flow_steps,
            n_threads=_n_threads(lengths, weights),
            keep=keep,
            n_series=values.shape[0],
            n_targets=values.shape[2],
            hidden=weights[1].shape[1],
            field=len(weights[RATE + 1]) if way.flow_steps else 0,
            times_strides=times.stride(),
            values_strides=values.stride(),
            mask_strides=mask.stride(),
        )
        self.pointed: list[Tensor] = []
        order = lengths.argsort(descending=True, stable=True)
        self.point(
            times=times, values=values, mask=mask, lengths=lengths.contiguous(), order=order,
            **dict(zip(WEIGHTS, self.weights)),
        )  # fmt: skip
        self.run("plan")

    def point(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            setattr(self.problem, name, tensor.data_ptr())
        self.pointed += tensors.values()

    def run(self, step: str) -> None:
        found = library()
        assert found is not None, "asked for native kernels that are not there"
        getattr(found, f"latentode_gru_{step}")(ctypes.byref(self.problem))


def gru_forward(
    rows: Rows, weights: Sequence[Tensor], way: Way, *, keep: bool = False
) -> tuple[Tensor, Tensor]:
    """States (N, H) after the last row of each series, 0 where it has none.

    Parameters
    ----------
    rows : Rows
        On the CPU.
    weights : sequence of Tensor
        Those of `GRU_WEIGHTS`, and with a flow those of `FLOW_WEIGHTS`, float32 or float64.
    way : Way
    keep : bool, default False
        Whether `gru_backward` will be called.

    Returns
    -------
    states : Tensor (N, H)
    saved : Tensor
        Bytes that `gru_backward` needs.
    """
    call = _Call(rows, weights, way, keep=keep)
    states = rows.values.new_empty(len(rows.values), weights[1].shape[1])
    saved = _memory(call.problem.saved_bytes)
    call.point(states=states, saved=saved, scratch=_memory(call.problem.forward_bytes))
    call.run("forward")
    return states, saved


def gru_backward(
    d_states: Tensor, saved: Tensor, rows: Rows, weights: Sequence[Tensor], way: Way
) -> tuple[Tensor, ...]:
    """Gradients of the weights, from the cotangent (N, H) of the states."""
    call = _Call(rows, weights, way, keep=True)
    gradients = tuple(torch.zeros_like(weight) for weight in call.weights)
    call.point(
        d_states=d_states.resolve_neg().contiguous(),
        saved=saved,
        scratch=_memory(call.problem.backward_bytes),
    )
    call.point(**{f"d_{name}": gradient for name, gradient in zip(WEIGHTS, gradients)})
    call.run("backward")
    if way.flow_steps:
        gradients[RATE].mul_(weights[RATE].detach().sigmoid())
    return gradients


def _memory(n_bytes: int) -> Tensor:
    return torch.empty(n_bytes, dtype=torch.uint8, device="cpu")


def _n_threads(lengths: Tensor, weights: Sequence[Tensor]) -> int:
    """As torch has them, but not for little work; by the problem alone, since sums of gradients depend on it."""
    products = int(lengths.sum()) * sum(weight.numel() for weight in weights)
    return max(1, min(torch.get_num_threads(), products // PRODUCTS_PER_THREAD, MAX_THREADS))
