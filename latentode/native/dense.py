"""The fused perceptron of the native library on tensors: no autograd, and nothing is checked."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
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
        *[(name, ctypes.c_void_p) for name in ("widths", "weights", "biases", "x", "y")],
        *[(name, ctypes.c_void_p) for name in ("d_y", "d_x", "d_weights", "d_biases")],
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
    _run(x, layers, y=y)
    return y


def dense_backward(d_y: Tensor, x: Tensor, layers: Layers, *, of_x: bool, of_layers: bool) -> DenseGradients:
    """Gradients from the cotangent (R, n_out) of the answers."""
    d_x = torch.empty_like(x, memory_format=torch.contiguous_format) if of_x else None
    d_weights = [torch.empty_like(x) for x in layers.weights] if of_layers else None
    d_biases = [None if x is None else torch.empty_like(x) for x in layers.biases] if of_layers else None
    d_y = d_y.resolve_neg().contiguous()
    _run(x, layers, backward=True, d_y=d_y, d_x=d_x, d_weights=d_weights, d_biases=d_biases)
    return DenseGradients(d_x, d_weights, d_biases)


def _run(
    x: Tensor,
    layers: Layers,
    *,
    backward: bool = False,
    d_weights: Sequence[Tensor] | None = None,
    d_biases: Sequence[Tensor | None] | None = None,
    **results: Tensor | None,
) -> None:
    x = x.detach().contiguous()
    weights = [weight.detach().contiguous() for weight in layers.weights]
    biases = [None if bias is None else bias.detach().contiguous() for bias in layers.biases]
    widths = (ctypes.c_int64 * (len(weights) + 1))(x.shape[1], *map(len, weights))
    tables = [_places(tensors) for tensors in (weights, biases, d_weights, d_biases)]
    problem = _Problem(
        x.dtype == torch.float64,
        _n_threads(x, weights),
        ACTIVATIONS[layers.activation],
        len(weights),
        backward,
        len(x),
        ctypes.addressof(widths),
        _address(tables[0]),
        _address(tables[1]),
        x.data_ptr(),
        d_weights=_address(tables[2]),
        d_biases=_address(tables[3]),
        **{name: tensor.data_ptr() for name, tensor in results.items() if tensor is not None},
    )
    found = library()
    assert found is not None, "asked for native kernels that are not there"
    if found.latentode_run_dense(ctypes.byref(problem)):
        raise MemoryError("the native kernels found no memory for a perceptron")


def _places(tensors: Sequence[Tensor | None] | None) -> Any:
    """An array of pointers, or None."""
    if tensors is None:
        return None
    return (ctypes.c_void_p * len(tensors))(*[None if x is None else x.data_ptr() for x in tensors])


def _address(array: Any) -> int | None:
    return None if array is None else ctypes.addressof(array)


def _n_threads(x: Tensor, weights: Sequence[Tensor]) -> int:
    """As torch has them, but not for little work; by the problem alone, since sums of gradients depend on it."""
    products = len(x) * sum(weight.numel() for weight in weights)
    return max(1, min(torch.get_num_threads(), products // PRODUCTS_PER_THREAD, MAX_THREADS))
