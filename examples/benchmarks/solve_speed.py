"""Milliseconds of a solve with its gradient, beside torchdiffeq, torchode and diffrax (where installed).

dy/dt = MLP(y), 4 → 20 → 20 → 4, 100 query times in [0, 2π], rtol 1e-3, atol 1e-4, dopri5, float32: forward, and the
gradient of a mean-square loss with respect to the parameters and y0. The solvers take turns (A B A B ...), so that
a busy moment of the machine meets all of them; medians, and ratios to torchdiffeq's backpropagation. diffrax is
compiled by JAX beforehand, and vectorised over the series.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from latentode import solve_ivp

RTOL, ATOL = 1e-3, 1e-4
REFERENCE = "torchdiffeq backprop"

Solve = Callable[[nn.Module, Tensor, Tensor], Tensor]
Run = Callable[[nn.Module, Tensor, Tensor], object]  # a solve and the gradient of its loss


class Field(nn.Module):
    """An autonomous field: the same network for every solver."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 4))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                weight.normal_(0.0, 1 / math.sqrt(max(weight.shape[-1], 4)), generator=generator)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)


def ours(gradient: str) -> Solve:
    """`solve_ivp`, answers as (N, T, D)."""

    def solve(field: nn.Module, y0: Tensor, times: Tensor) -> Tensor:
        return solve_ivp(field, y0, times, rtol=RTOL, atol=ATOL, gradient=gradient).y

    return solve


def torchdiffeq(function: str) -> Solve:
    """`torchdiffeq.odeint` or `odeint_adjoint`."""
    odeint = getattr(importlib.import_module("torchdiffeq"), function)

    def solve(field: nn.Module, y0: Tensor, times: Tensor) -> Tensor:
        return odeint(field, y0, times, rtol=RTOL, atol=ATOL, method="dopri5").transpose(0, 1)

    return solve


def torchode() -> Solve:
    """torchode with backpropagation through its loop."""
    to = importlib.import_module("torchode")

    def solve(field: nn.Module, y0: Tensor, times: Tensor) -> Tensor:
        term = to.ODETerm(field)
        controller = to.IntegralController(atol=ATOL, rtol=RTOL, term=term)
        adjoint = to.AutoDiffAdjoint(to.Dopri5(term=term), controller)
        return adjoint.solve(to.InitialValueProblem(y0=y0, t_eval=times.expand(len(y0), -1))).ys

    return solve


def by_torch(solve: Solve) -> Run:
    """A solve and its gradient with respect to the parameters and y0."""

    def run(field: nn.Module, y0: Tensor, times: Tensor) -> None:
        solve(field, y0.clone().requires_grad_(), times).square().mean().backward()

    return run


def diffrax(adjoint: str) -> Run:
    """diffrax with one of its adjoints: the same network, every series with a clock of its own."""
    dfx, jax = importlib.import_module("diffrax"), importlib.import_module("jax")

    def network(layers: list[tuple[object, object]], y: object) -> object:
        *hidden, (weight, bias) = layers
        for w, b in hidden:
            y = jax.numpy.tanh(w @ y + b)
        return weight @ y + bias

    def loss(layers: list[tuple[object, object]], y0: object, times: object) -> object:
        def one(y: object, layers: object) -> object:
            return dfx.diffeqsolve(
                dfx.ODETerm(lambda t, y, layers: network(layers, y)),
                dfx.Dopri5(),
                times[0],
                times[-1],
                None,
                y,
                args=layers,
                saveat=dfx.SaveAt(ts=times),
                stepsize_controller=dfx.PIDController(rtol=RTOL, atol=ATOL),
                adjoint=getattr(dfx, adjoint)(),
            ).ys

        return (jax.vmap(one, in_axes=(0, None))(y0, layers) ** 2).mean()

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))

    def run(field: nn.Module, y0: Tensor, times: Tensor) -> None:
        weights = [jax.numpy.asarray(w.detach().numpy()) for w in field.parameters()]
        layers = list(zip(weights[::2], weights[1::2]))
        jax.block_until_ready(
            gradient(layers, jax.numpy.asarray(y0.numpy()), jax.numpy.asarray(times.numpy()))
        )

    return run


def solvers() -> dict[str, Run]:
    """Everything that is installed, by name."""
    table: dict[str, Run] = {
        f"latentode {gradient}": by_torch(ours(gradient))
        for gradient in ("discrete_adjoint", "backprop", "reversible", "adjoint")
    }
    if importlib.util.find_spec("torchdiffeq"):
        table[REFERENCE] = by_torch(torchdiffeq("odeint"))
        table["torchdiffeq adjoint"] = by_torch(torchdiffeq("odeint_adjoint"))
    if importlib.util.find_spec("torchode"):
        table["torchode backprop"] = by_torch(torchode())
    if importlib.util.find_spec("diffrax"):
        table["diffrax checkpoints"] = diffrax("RecursiveCheckpointAdjoint")
        table["diffrax adjoint"] = diffrax("BacksolveAdjoint")
    return table


def seconds(run: Run, field: nn.Module, y0: Tensor, times: Tensor) -> float:
    """One forward pass and its gradient."""
    begin = time.perf_counter()
    run(field, y0, times)
    return time.perf_counter() - begin


def compare(n_series: int, rounds: int) -> dict[str, float]:
    """Median seconds of every solver on a batch of `n_series`."""
    field = Field()
    y0 = torch.randn(n_series, 4, generator=torch.Generator().manual_seed(1))
    times = torch.linspace(0.0, 2 * math.pi, 100)
    table = solvers()
    taken: dict[str, list[float]] = {name: [] for name in table}
    for turn in range(rounds + 1):
        for name, run in table.items():
            duration = seconds(run, field, y0, times)
            if turn:  # the first turn warms up
                taken[name].append(duration)
    return {name: statistics.median(values) for name, values in taken.items()}


def main(quick: bool = False) -> dict[int, dict[str, float]]:
    """Print the table; returns the medians in seconds by batch size and solver."""
    results = {}
    for n_series in (8,) if quick else (64, 1000):
        medians = results[n_series] = compare(n_series, rounds=1 if quick else 9)
        reference = medians.get(REFERENCE)
        print(f"N = {n_series}, {torch.get_num_threads()} thread(s)")
        for name, median in medians.items():
            ratio = f"{median / reference:6.2f} x {REFERENCE}" if reference else ""
            print(f"  {name:<28}{1e3 * median:9.1f} ms  {ratio}")
    return results


if __name__ == "__main__":
    main()
