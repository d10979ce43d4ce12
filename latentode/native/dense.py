"""The fused perceptron of the native library on tensors: no autograd, and nothing is checked."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentode.native.library import library
from latentode.native.structures import ACTIVATIONS

MAX_THREADS = 64
PRODUCTS_PER_THREAD = 300_000  # some 10 µs: waking a thread for less costs more than it saves


class Layers(NamedTuple):
    """Linear maps with an activation after each but the last."""

    weights: Sequence[Tensor]  # (n_out, n_in) each
    biases: Sequence[Tensor | None]  # (n_out,) each
    activation: str


class DenseGradients(NamedTuple):
    """Cotangents of x and of the layers; None where they were not wanted."""

    x: Tensor | None
    weights: list[Tensor] | None
    biases: list[Tensor | None] | None


class _Problem(ctypes.Structure):
    """`latentode_dense` of kernels/dense_api.h."""

    _fields_ = [
        *[
            (name, ctypes.c_int32)
            for name in ("is_double", "n_threads", "activation", "n_layers", "backward")
        ],
        ("n_rows", ctypes.c_int64),
        ("widths", ctypes.POINTER(ctypes.c_int64)),
        *[(name, ctypes.POINTER(ctypes.c_void_p)) for name in ("weights", "biases")],
        *[(name, ctypes.c_void_p) for name in ("x", "y", "d_y", "d_x")],
        *[(name, ctypes.POINTER(ctypes.c_void_p)) for name in ("d_weights", "d_biases")],
    ]


def dense_forward(x: Tensor, layers: Layers) -> Tensor:
    """What the layers make of the rows of x.

    Parameters
    ----------
    x : Tensor (R, n_in)
        On the CPU, float32 or float64, as the layers.
    layers : Layers

    Returns
    -------
    Tensor (R, n_out)
    """
    y = x.new_empty(len(x), len(layers.weights[-1]))
    _run(x, layers, y)
    return y


def dense_backward(d_y: Tensor, x: Tensor, layers: Layers, *, of_x: bool, of_layers: bool) -> DenseGradients:
    """Gradients from the cotangent (R, n_out) of the answers."""
    d_x = x.new_empty(x.shape) if of_x else None  # contiguous, whatever x is
    d_weights = [x.new_empty(x.shape) for x in layers.weights] if of_layers else None
    d_biases = [None if x is None else x.new_empty(x.shape) for x in layers.biases] if of_layers else None
    d_y = _packed(d_y.resolve_neg())
    _run(x, layers, None, d_y, d_x, d_weights, d_biases)
    return DenseGradients(d_x, d_weights, d_biases)


def _run(
    x: Tensor,
    layers: Layers,
    y: Tensor | None = None,
    d_y: Tensor | None = None,
    d_x: Tensor | None = None,
    d_weights: Sequence[Tensor] | None = None,
    d_biases: Sequence[Tensor | None] | None = None,
) -> None:
    x = _packed(x)
    weights = [_packed(weight) for weight in layers.weights]
    biases = [None if bias is None else _packed(bias) for bias in layers.biases]
    widths = [x.shape[1], *map(len, weights)]
    problem = _Problem(
        x.dtype == torch.float64,
        _n_threads(len(x), widths),
        ACTIVATIONS[layers.activation],
        len(weights),
        y is None,
        len(x),
        (ctypes.c_int64 * len(widths))(*widths),
        _places(weights),
        _places(biases),
        _place(x),
        _place(y),
        _place(d_y),
        _place(d_x),
        None if d_weights is None else _places(d_weights),
        None if d_biases is None else _places(d_biases),
    )
    found = library()
    assert found is not None, "asked for native kernels that are not there"
    if found.latentode_run_dense(ctypes.byref(problem)):
        raise MemoryError("the native kernels found no memory for a perceptron")


def _packed(x: Tensor) -> Tensor:
    return x if x.is_contiguous() else x.detach().contiguous()


def _place(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _places(tensors: Sequence[Tensor | None]) -> Any:
    """An array of pointers."""
    return (ctypes.c_void_p * len(tensors))(*map(_place, tensors))


def _n_threads(n_rows: int, widths: Sequence[int]) -> int:
    """As torch has them, but not for little work; by the problem alone, since sums of gradients depend on it."""
    products = n_rows * sum(n_in * n_out for n_in, n_out in pairwise(widths))
    return max(1, min(torch.get_num_threads(), products // PRODUCTS_PER_THREAD, MAX_THREADS))
