"""Which solver, which gradient? Error against work for every solver, time and memory of every gradient.

Left and middle: relative error at the end against evaluations of the field, one point per tolerance (or fixed step
size), on a smooth problem and on a stiff-ish one. Lower left is better. Right: milliseconds of a forward and a backward
pass, and the numbers that autograd saves between them. What to take from it:

- `dopri5` or `tsit5` for three to eight digits; `dopri8` for more; `bosh3` or `adaptive_heun` for one or two.
- Fixed steps only where the work per series must be known beforehand.
- `discrete_adjoint` unless second derivatives are wanted (then `backprop`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from latentode import solve_ivp
from latentode.exceptions import SolverError
from latentode.gradients import GRADIENTS
from latentode.solvers import SOLVERS

Field = Callable[[Tensor, Tensor], Tensor]
Point = tuple[int, float]  # evaluations, error


def orbit(t: Tensor, y: Tensor) -> Tensor:
    """A planet on an ellipse: smooth."""
    place, speed = y[:, :2], y[:, 2:]
    return torch.cat([speed, -place / place.norm(dim=1, keepdim=True) ** 3], dim=1)


def van_der_pol(t: Tensor, y: Tensor) -> Tensor:
    """Slow stretches with sudden jumps between them: stiff-ish."""
    return torch.stack([y[:, 1], 10 * (1 - y[:, 0] ** 2) * y[:, 1] - y[:, 0]], dim=1)


PROBLEMS: dict[str, tuple[Field, list[float], float]] = {
    "orbit (smooth)": (orbit, [0.7, 0.0, 0.0, (1.3 / 0.7) ** 0.5], 6.0),
    "Van der Pol, μ = 10 (stiff-ish)": (van_der_pol, [2.0, 0.0], 20.0),
}


def work_and_precision(
    solver: str, problem: str, truth: Tensor, levels: list[int], limit: int
) -> list[Point]:
    """One point per level, as far as `limit` steps suffice: a tolerance of 10^-level, or 20 · 2^level fixed steps."""
    field, start, span = PROBLEMS[problem]
    y0 = torch.tensor([start], dtype=torch.float64)
    points = []
    for level in levels:
        fixed = {"step_size": span / (20 * 2**level)}
        adaptive = {"rtol": 10.0**-level, "atol": 10.0**-level}
        try:
            solution = solve_ivp(field, y0, [0.0, span], solver=solver, max_steps=limit, **adaptive)
        except ValueError:  # it has no error estimate
            solution = solve_ivp(field, y0, [0.0, span], solver=solver, max_steps=limit, throw=False, **fixed)
        except SolverError:  # too many steps for so small a tolerance
            break
        error = float((solution.y[0, 1] - truth).norm() / truth.norm())
        if error < 1:  # neither lost nor, being NaN, unfinished
            points.append((int(solution.stats["n_evals"]), error))
    return points


def cost_of_gradient(gradient: str, rounds: int) -> tuple[float, int]:
    """Milliseconds of forward and backward (the best of some rounds), and numbers that autograd saves between them."""
    torch.manual_seed(0)
    field = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 4)).double()
    y0 = torch.randn(64, 4, dtype=torch.float64)
    kept: dict[int, int] = {}
    best = float("inf")

    def keep(x: Tensor) -> Tensor:
        kept[x.data_ptr()] = x.numel()
        return x

    for _ in range(rounds):
        kept.clear()
        begin = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            y = solve_ivp(
                lambda t, y: field(y), y0, [0.0, 5.0], gradient=gradient, params=field.parameters()
            ).y
        y.square().mean().backward()
        best = min(best, time.perf_counter() - begin)
    return 1e3 * best, sum(kept.values())


def draw_work(ax: Axes, problem: str, curves: dict[str, list[Point]]) -> None:
    for i, (solver, points) in enumerate(curves.items()):
        evaluations, errors = (
            zip(*points) if points else ((), ())
        )  # without points it still stands in the legend
        style = {"marker": "osv^D"[i // 10 % 5], "color": f"C{i % 10}", "ms": 4, "lw": 1.2}
        ax.loglog(evaluations, errors, label=solver, **style)
    ax.set(title=problem, xlabel="evaluations of the field", ylabel="relative error at the end")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7, ncols=2)


def draw_gradients(ax: Axes, costs: dict[str, tuple[float, int]]) -> None:
    for i, (gradient, (milliseconds, numbers)) in enumerate(costs.items()):
        ax.loglog([milliseconds], [numbers], "o", ms=9, color=f"C{i}", label=gradient)
    ax.set(title="gradients", xlabel="forward and backward, ms", ylabel="numbers that autograd saves")
    ax.margins(0.4)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)


def main(quick: bool = False, picture: str | Path = "choose_solver.png") -> Path:
    """Measure, draw, and return the path of the picture."""
    levels, limit = ([2, 3], 100) if quick else ([2, 3, 4, 6, 8, 10], 2000)
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained")
    for ax, problem in zip(axes, PROBLEMS):
        field, start, span = PROBLEMS[problem]
        y0, tight = torch.tensor([start], dtype=torch.float64), 1e-6 if quick else 1e-12
        truth = solve_ivp(field, y0, [0.0, span], solver="dopri8", rtol=tight, atol=tight).y[0, 1]
        draw_work(ax, problem, {s: work_and_precision(s, problem, truth, levels, limit) for s in SOLVERS})
    draw_gradients(axes[2], {g: cost_of_gradient(g, rounds=1 if quick else 5) for g in GRADIENTS})
    figure.savefig(picture, dpi=120)
    plt.close(figure)
    print(f"wrote {picture}")
    return Path(picture)


if __name__ == "__main__":
    main()
