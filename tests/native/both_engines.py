"""A solve and its gradients by the native kernels and by torch, side by side."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentode import solve_ivp
from latentode.native import Perceptron
from latentode.nn.fields import FIELDS, Field
from latentode.nn.mlp import MLP
from latentode.solvers import SOLVERS, ExplicitRK, Solution

EXPLICIT = {name: method for name, method in SOLVERS.items() if type(method) is ExplicitRK}
ADAPTIVE = [name for name, method in EXPLICIT.items() if method.tableau.b_error is not None]
COUNTS = ("n_steps", "n_accepted", "n_evals", "n_evals_backward")


class Conditioned(nn.Module):
    """States [z, u], of which u stays as it is: dz/dt = MLP([z, t, u])."""

    def __init__(
        self, dim: int, n_inputs: int, hidden_dim: int = 7, *, time_dependent: bool = False, **options: Any
    ) -> None:
        super().__init__()
        self.dim, self.time_dependent = dim, time_dependent
        self.mlp = MLP(dim + time_dependent + n_inputs, hidden_dim, dim, **options)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        z, u = y[:, : self.dim], y[:, self.dim :]
        clock = [t.to(y.dtype)[:, None]] if self.time_dependent else []
        return torch.cat([self.mlp(torch.cat([z, *clock, u], dim=1)), torch.zeros_like(u)], dim=1)

    def as_perceptron(self, y0: Tensor) -> Perceptron:
        weights, biases = self.mlp.plain_layers()
        inputs = y0[:, self.dim :]
        return Perceptron(
            weights, biases, self.mlp.activation, self.time_dependent, inputs, n_still=inputs.shape[1]
        )


class Case(NamedTuple):
    """What is solved: y0 (N, D), query times (N, T), t0 (N,)."""

    field: nn.Module
    y0: Tensor
    t_eval: Tensor
    t0: Tensor


class Answer(NamedTuple):
    solution: Solution
    gradients: dict[str, Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_field(
    kind: str, dim: int = 3, hidden_dim: int = 7, *, dtype=torch.float64, seed: int = 0, **options: Any
) -> Field:
    """A field of `FIELDS` whose weights and biases (which begin as 0) are all random."""
    generator = seeded(seed)
    field = FIELDS[kind](dim, hidden_dim, generator=generator, **options).to(dtype)
    with torch.no_grad():
        for name, parameter in field.named_parameters():
            if not name.endswith("weight"):
                parameter += 0.3 * torch.randn(parameter.shape, dtype=dtype, generator=generator)
    return field


def make_case(
    field: nn.Module,
    n: int = 5,
    n_times: int = 6,
    *,
    dim: int | None = None,
    span: float = 2.0,
    seed: int = 1,
) -> Case:
    """States of size 1; unsorted query times on both sides of t0, one of them t0 itself and one of them twice."""
    generator = seeded(seed)
    dtype = next(field.parameters()).dtype
    dim = field.latent_dim if dim is None else dim
    y0 = torch.randn(n, dim, dtype=dtype, generator=generator)
    t0 = torch.rand(n, dtype=torch.float64, generator=generator)
    t_eval = span * (torch.rand(n, n_times, dtype=torch.float64, generator=generator) - 0.3) + t0[:, None]
    if n_times > 3:
        t_eval[:, 1], t_eval[:, 3] = t0, t_eval[:, 2]
    return Case(field, y0, t_eval, t0)


def solve(case: Case, engine: str, *, t0: bool = True, **options: Any) -> Answer:
    """Solve, and pull a random cotangent of the answers that are there back to everything."""
    leaves = {"y0": case.y0, "t_eval": case.t_eval, **({"t0": case.t0} if t0 else {})}
    leaves = {name: x.clone().requires_grad_() for name, x in leaves.items()}
    wanted = leaves | dict(case.field.named_parameters())
    solution = solve_ivp(
        case.field, leaves["y0"], leaves["t_eval"], t0=leaves.get("t0"), engine=engine, throw=False, **options
    )
    y = solution.y
    weights = torch.randn(y.shape, dtype=y.dtype, generator=seeded(9))
    total = (torch.where(y.isfinite(), y, 0) * weights).sum()
    found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    gradients = {name: torch.zeros_like(x) if g is None else g for (name, x), g in zip(wanted.items(), found)}
    return Answer(solution, gradients)


def difference(found: Tensor, expected: Tensor, at_least: float = 0.0) -> float:
    """Largest difference over the largest number (or `at_least`); infinite where not the same entries are finite."""
    if not torch.equal(found.isfinite(), expected.isfinite()):
        return float("inf")
    found, expected = (x.detach().double().nan_to_num(0, 0, 0) for x in (found, expected))
    if not expected.numel() or torch.equal(found, expected):
        return 0.0
    return float((found - expected).abs().max()) / max(float(expected.abs().max()), at_least)


def assert_same(case: Case, values: float, gradients: float, **options: Any) -> Answer:
    """Both engines take the same steps and agree within these differences; the answer is that of torch."""
    native, torchs = solve(case, "native", **options), solve(case, "torch", **options)
    one, other = native.solution, torchs.solution
    assert torch.equal(one.t.nan_to_num(), other.t.nan_to_num())
    assert torch.equal(one.status, other.status), (one.status, other.status)
    for count in COUNTS:
        assert torch.equal(one.stats[count], other.stats[count]), (
            count,
            one.stats[count],
            other.stats[count],
        )
    assert difference(one.t_reached, other.t_reached) <= max(
        values, 1e-7
    )  # of steps whose sizes rounding reaches
    assert difference(one.y, other.y) <= values
    sizes = [float(x.abs().max()) for x in torchs.gradients.values() if x.numel()]
    summed = 0.1 * max(sizes, default=0.0)  # a gradient may be small as the sum of terms of either sign
    for name, expected in torchs.gradients.items():
        assert difference(native.gradients[name], expected, summed) <= gradients, name
    return torchs
