"""The fused recurrent encoder of the native library, on tensors: no autograd, no checks of shapes."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from latentode.native.library import library

MAX_THREADS = 64  # as the kernels have it
PRODUCTS_PER_THREAD = 300_000  # some 10 µs: below, waking another thread costs more than it saves


class GRUWeights(NamedTuple):
    """Of torch.nn.GRU: (3 H, F), (3 H, H), (3 H,), (3 H,), with the gates in the order reset, update, candidate."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor


class Rows(NamedTuple):
    """The observations that are read, as an encoder gets them; `lengths` between 0 and T."""

    times: Tensor  # (N, T)
    values: Tensor  # (N, T, D), in the dtype of the weights
    mask: Tensor  # (N, T, D), bool
    lengths: Tensor  # (N,), int64


class Way(NamedTuple):
    """How rows are read."""

    backwards: bool
    gap_input: bool  # the time since the row read before is an input, after values and mask
    skip_empty: bool  # a row without an observed cell leaves the state as it is


class _Problem(ctypes.Structure):
    """`latentode_gru` of kernels/gru_api.h."""

    _fields_ = [
        *[(name, ctypes.c_int32) for name in ("is_double", *Way._fields, "n_threads", "keep")],
        *[(name, ctypes.c_int64) for name in ("n_series", "n_targets", "hidden")],
        *[(name, ctypes.c_void_p) for name in ("times", "values", "mask")],
        ("times_strides", ctypes.c_int64 * 2),
        ("values_strides", ctypes.c_int64 * 3),
        ("mask_strides", ctypes.c_int64 * 3),
        *[(name, ctypes.c_void_p) for name in ("lengths", "order", *GRUWeights._fields, "states")],
        *[(name, ctypes.c_void_p) for name in ("d_states", *(f"d_{name}" for name in GRUWeights._fields))],
        *[(name, ctypes.c_void_p) for name in ("saved", "scratch")],
        *[(name, ctypes.c_int64) for name in ("saved_bytes", "forward_bytes", "backward_bytes")],
    ]


class _Call:
    """A problem and the tensors that its pointers point into."""

    def __init__(self, rows: Rows, weights: GRUWeights, way: Way, keep: bool) -> None:
        self.rows = Rows(rows.times.double(), rows.values, rows.mask, rows.lengths.contiguous())
        self.weights = GRUWeights(*(w.detach().contiguous() for w in weights))
        n, _, d = rows.values.shape
        self.problem = _Problem(
            is_double=rows.values.dtype == torch.float64,
            **way._asdict(),
            n_threads=_n_threads(rows, weights),
            keep=keep,
            n_series=n,
            n_targets=d,
            hidden=weights.weight_hh.shape[1],
            times_strides=self.rows.times.stride(),
            values_strides=rows.values.stride(),
            mask_strides=rows.mask.stride(),
        )
        order = rows.lengths.argsort(descending=True, stable=True)
        self.point(order=order, **self.rows._asdict(), **self.weights._asdict())
        self.run("plan")

    def point(self, **tensors: Tensor) -> None:
        """Let pointers of the problem point to tensors, which stay alive with the call."""
        for name, tensor in tensors.items():
            setattr(self.problem, name, tensor.data_ptr())
            setattr(self, f"_{name}", tensor)

    def run(self, name: str) -> None:
        function = getattr(library(), f"latentode_gru_{name}")
        function.restype = None
        function(ctypes.byref(self.problem))


def gru_forward(rows: Rows, weights: GRUWeights, way: Way, *, keep: bool) -> tuple[Tensor, Tensor]:
    """States (N, H) after the last row of each series, 0 where it has none, and what `gru_backward` needs of them."""
    call = _Call(rows, weights, way, keep)
    states = rows.values.new_empty(len(rows.values), weights.weight_hh.shape[1])
    saved = _memory(call.problem.saved_bytes)
    call.point(states=states, saved=saved, scratch=_memory(call.problem.forward_bytes))
    call.run("forward")
    return states, saved


def gru_backward(
    d_states: Tensor, saved: Tensor, rows: Rows, weights: GRUWeights, way: Way
) -> GRUWeights:
    """Gradients of the weights from the cotangent (N, H) of the states."""
    call = _Call(rows, weights, way, keep=True)
    gradients = {f"d_{name}": torch.zeros_like(w) for name, w in call.weights._asdict().items()}
    call.point(d_states=d_states.contiguous(), saved=saved, scratch=_memory(call.problem.backward_bytes))
    call.point(**gradients)
    call.run("backward")
    return GRUWeights(*gradients.values())


def _memory(n_bytes: int) -> Tensor:
    return torch.empty(n_bytes, dtype=torch.uint8)


def _n_threads(rows: Rows, weights: GRUWeights) -> int:
    """As many as torch would take, and fewer for little work; never by what else runs, so that sums keep their order."""
    worth = int(rows.lengths.sum()) * (weights.weight_ih.numel() + weights.weight_hh.numel()) // PRODUCTS_PER_THREAD
    return max(1, min(torch.get_num_threads(), worth, len(rows.lengths) // 4, MAX_THREADS))
