"""Perceptrons of decoders by the native kernels, where these know all that is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentode.native.dense import Layers, dense_backward, dense_forward
from latentode.native.library import library
from latentode.native.structures import MAX_LAYERS
from latentode.nn.mlp import MLP, linear_maps
from latentode.solve.engine import check_engine
from latentode.solve.only_torch import is_changed, why_only_torch
from latentode.solvers.method import is_batched

WIDEST_FASTER = 256  # width up to which the kernels beat torch's products of matrices, with gradients
FEWEST_PRODUCTS = (
    1_000_000  # of numbers, in all rows: below it the way to the kernels takes as long as they save
)


def perceptron(mlp: MLP, x: Tensor, engine: str) -> Tensor:
    """What `mlp` maps x (..., n_in) to, with gradients of all orders: in one native call each way, where there is one.

    Parameters
    ----------
    mlp : MLP
    x : Tensor (..., n_in)
    engine : {"auto", "torch", "native"}
        "torch" keeps to torch; both others take the kernels where they know all that is asked for and are faster, and
        torch elsewhere.

    Raises
    ------
    ValueError
        For another engine.
    """
    check_engine(engine)
    layers = None if engine == "torch" else _known_layers(mlp, x)
    if layers is None:
        return mlp(x)
    rows = x.reshape(-1, x.shape[-1])
    tensors = (rows, *layers.weights, *layers.biases)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        y = _FusedPerceptron.apply(layers.activation, *tensors)
    else:
        y = dense_forward(rows, layers)
    return y.view(*x.shape[:-1], y.shape[-1])


def _known_layers(mlp: MLP, x: Tensor) -> Layers | None:
    """The layers, where the kernels serve for them and these rows."""
    if library() is None or type(mlp) is not MLP:
        return None
    found = mlp.plain_layers()
    if (
        found is None
        or not _fit(*found, x)
        or is_changed(mlp)
        or why_only_torch((x, *found[0], *_there(found[1])))
    ):
        return None
    return Layers(*found, mlp.activation)


def _there(biases: Sequence[Tensor | None]) -> list[Tensor]:
    return [bias for bias in biases if bias is not None]


def _fit(weights: Sequence[Tensor], biases: Sequence[Tensor | None], x: Tensor) -> bool:
    """Whether all is of one kind, of sizes that belong together, and of those that the kernels are good for."""
    dtype, *before, width = x.dtype, *x.shape
    if dtype not in _DTYPES or not before or len(weights) > MAX_LAYERS:
        return False
    products = 0
    for weight, bias in zip(weights, biases):
        n_out, n_in = weight.shape
        if n_in != width or not 0 < n_in <= WIDEST_FASTER or weight.dtype != dtype:
            return False
        if bias is not None and (bias.dtype != dtype or bias.shape != (n_out,)):
            return False
        products += n_out * n_in
        width = n_out
    return 0 < width <= WIDEST_FASTER and math.prod(before) * products >= FEWEST_PRODUCTS


_DTYPES = (torch.float32, torch.float64)


class _FusedPerceptron(torch.autograd.Function):
    """From x (R, n_in), weights and biases to the answers (R, n_out)."""

    @staticmethod
    def forward(ctx: Any, activation: str, x: Tensor, *tensors: Tensor | None) -> Tensor:
        ctx.activation = activation
        ctx.save_for_backward(x, *tensors)  # so that torch notices a change in place
        return dense_forward(x, _layers(tensors, activation))

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        x, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:]
        layers = _layers(tensors, ctx.activation)
        if torch.is_grad_enabled() or is_batched(d_y):  # create_graph, is_grads_batched
            return None, *_with_graph(layers, x, wanted, d_y)
        found = dense_backward(d_y, x, layers, of_x=wanted[0], of_layers=any(wanted[1:]))
        if found.weights is None or found.biases is None:
            return None, found.x, *len(tensors) * [None]
        return None, found.x, *found.weights, *found.biases


def _layers(tensors: Sequence[Any], activation: str) -> Layers:
    """Layers of their weights, then their biases."""
    n_layers = len(tensors) // 2
    return Layers(tensors[:n_layers], tensors[n_layers:], activation)


def _with_graph(layers: Layers, x: Tensor, wanted: Sequence[bool], d_y: Tensor) -> list[Tensor | None]:
    """The gradients as part of a graph, through torch's own way to the answers."""
    given = (x, *layers.weights, *layers.biases)
    inputs = [tensor for tensor, wants in zip(given, wanted) if wants and tensor is not None]
    with torch.enable_grad():
        y = linear_maps(x, layers.weights, layers.biases, layers.activation)
    found = iter(torch.autograd.grad(y, inputs, d_y, create_graph=torch.is_grad_enabled()))
    return [next(found) if wants else None for wants in wanted]
