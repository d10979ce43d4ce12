"""Protocol F, and who solves it: latentode, torchdiffeq, torchode and diffrax, with the gradient of the same loss.

dy/dt = MLP(y), 4 → 20 → 20 → 4, 100 query times in [0, 2π], rtol 1e-3, atol 1e-4, dopri5, float32; the gradient of a
mean-square loss with respect to the parameters and y0.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from latentode import solve_ivp
from latentode.nn.fields import MLPField

RTOL, ATOL = 1e-3, 1e-4

Gradient = list[np.ndarray]  # of the parameters and y0
Solve = Callable[[nn.Module, Tensor, Tensor], Tensor]  # the answers (N, T, D), or in any other order


class SolveProblem(NamedTuple):
    """What is solved."""

    field: MLPField
    y0: Tensor  # (N, 4)
    times: Tensor  # (T,)


Side = Callable[
    [SolveProblem], Callable[[], Gradient]
]  # everything that is prepared once stays outside the call


def protocol_f(n_series: int, n_times: int = 100) -> SolveProblem:
    """The problem for a number of series."""
    field = MLPField(4, 20, depth=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in field.parameters():
            weight.normal_(0.0, 1 / math.sqrt(max(weight.shape[-1], 4)), generator=generator)
    y0 = torch.randn(n_series, 4, generator=torch.Generator().manual_seed(1))
    return SolveProblem(field, y0, torch.linspace(0.0, 2 * math.pi, n_times))


def by_torch(solve: Solve) -> Side:
    """A solve by torch, and its gradient."""

    def side(problem: SolveProblem) -> Callable[[], Gradient]:
        field, y0, times = problem
        y0 = y0.clone().requires_grad_()
        wanted = [*field.parameters(), y0]

        def call() -> Gradient:
            loss = solve(field, y0, times).square().mean()
            return [part.numpy() for part in torch.autograd.grad(loss, wanted)]

        return call

    return side


def ours(engine: str = "auto", gradient: str = "discrete_adjoint") -> Side:
    """`solve_ivp`."""

    def solve(field: nn.Module, y0: Tensor, times: Tensor) -> Tensor:
        return solve_ivp(field, y0, times, rtol=RTOL, atol=ATOL, gradient=gradient, engine=engine).y

    return by_torch(solve)


def torchdiffeq(function: str) -> Side:
    """`torchdiffeq.odeint` or `odeint_adjoint`."""
    odeint = getattr(importlib.import_module("torchdiffeq"), function)

    def solve(field: nn.Module, y0: Tensor, times: Tensor) -> Tensor:
        return odeint(field, y0, times, rtol=RTOL, atol=ATOL, method="dopri5")

    return by_torch(solve)


def torchode() -> Side:
    """torchode with backpropagation through its loop."""
    to = importlib.import_module("torchode")

    def solve(field: nn.Module, y0: Tensor, times: Tensor) -> Tensor:
        term = to.ODETerm(field)
        controller = to.IntegralController(atol=ATOL, rtol=RTOL, term=term)
        adjoint = to.AutoDiffAdjoint(to.Dopri5(term=term), controller)
        return adjoint.solve(to.InitialValueProblem(y0=y0, t_eval=times.expand(len(y0), -1))).ys

    return by_torch(solve)


def diffrax(adjoint: str, *, own_clocks: bool, max_steps: int = 4096) -> Side:
    """diffrax, compiled by JAX at its first call: every series with a clock of its own, or one for the batch.

    `max_steps` is that of diffrax by default; its checkpoints are planned for so many.
    """
    dfx, jax = importlib.import_module("diffrax"), importlib.import_module("jax")
    tanh = jax.numpy.tanh

    def network(layers: list[tuple[Any, Any]], y: Any) -> Any:
        *hidden, (weight, bias) = layers
        for w, b in hidden:
            y = tanh(y @ w.T + b)
        return y @ weight.T + bias

    def solve(y0: Any, layers: Any, times: Any) -> Any:
        return dfx.diffeqsolve(
            dfx.ODETerm(lambda t, y, layers: network(layers, y)),
            dfx.Dopri5(),
            times[0],
            times[-1],
            None,
            y0,
            args=layers,
            saveat=dfx.SaveAt(ts=times),
            stepsize_controller=dfx.PIDController(rtol=RTOL, atol=ATOL),
            adjoint=getattr(dfx, adjoint)(),
            max_steps=max_steps,
        ).ys

    batched = jax.vmap(solve, in_axes=(0, None, None)) if own_clocks else solve
    gradient = jax.jit(jax.grad(lambda layers, y0, times: (batched(y0, layers, times) ** 2).mean(), (0, 1)))

    def side(problem: SolveProblem) -> Callable[[], Gradient]:
        field, y0, times = problem
        weights = [jax.numpy.asarray(w.detach().numpy()) for w in field.parameters()]
        layers = list(zip(weights[::2], weights[1::2]))
        given = jax.numpy.asarray(y0.numpy()), jax.numpy.asarray(times.numpy())

        def call() -> Gradient:
            found = jax.block_until_ready(gradient(layers, *given))
            return [np.asarray(part) for part in jax.tree_util.tree_leaves(found)]

        return call

    return side


def is_installed(package: str) -> bool:
    """Whether a peer takes part; says so where it does not."""
    if importlib.util.find_spec(package) is None:
        print(f"({package} is not installed, and left out)")
        return False
    return True


def distance(gradient: Gradient, reference: Gradient) -> float:
    """Relative Euclidean distance of two gradients."""
    one, other = (np.concatenate([part.ravel() for part in parts]) for parts in (gradient, reference))
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))
