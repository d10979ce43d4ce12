"""Which solver, which gradient? Four measurements: accuracy, stiffness, and time and memory of a gradient.

1. Error against work on a smooth problem, one point per tolerance (or fixed step size); lower left is better.
2. Time of a solve against stiffness: Van der Pol on its slow branch. Explicit steps must stay short for stability
   alone; implicit ones need not.
3. and 4. Time and peak memory of a solve and its gradient over many steps of reversible Heun, which computes the
   same solution for all four gradients (`benchmarks/gradient_memory.py` has the details).

What to take from it:

- `dopri5` or `tsit5` for three to eight digits; `dopri8` for more, or where an evaluation is expensive; `bosh3` or
  `adaptive_heun` for one or two.
- Stiff fields (an explicit solver runs into max_steps, or takes longer the stiffer it is): `kvaerno5`; `kvaerno3`
  for two digits; `radauIIA5` with fixed steps.
- Fixed steps only where the work per series must be known beforehand.
- `discrete_adjoint` unless second derivatives are wanted (then `backprop`). It keeps a few states per step, `backprop`
  the activations of all evaluations too: more than twice as much here, where the hidden layer is no wider than the
  state, and many times as much where it is.
- `reversible` or `adjoint` where the states of all steps do not fit into memory.

    python examples/choose_solver.py
"""

from __future__ import annotations

import runpy
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from latentode import solve_ivp
from latentode.exceptions import SolverError
from latentode.gradients import GRADIENTS
from latentode.solvers import IMPLICIT_TABLEAUS, SOLVERS

MEMORY = runpy.run_path(str(Path(__file__).parent / "benchmarks" / "gradient_memory.py"))

# colours of Okabe and Ito, which colour-blind readers tell apart; the other solvers are grey
STYLES = {
    "dopri5": ("#0072B2", "o"),
    "tsit5": ("#56B4E9", "v"),
    "dopri8": ("#000000", "s"),
    "bosh3": ("#E69F00", "^"),
    "rk4": ("#CC79A7", "P"),
    "explicit_adams": ("#B8AD00", "X"),
    "kvaerno3": ("#D55E00", "<"),
    "kvaerno5": ("#009E73", "D"),
    "radauIIA5": ("#7A4FBF", ">"),
}
FOR_STIFFNESS = ("dopri5", "tsit5", "kvaerno3", "kvaerno5", "radauIIA5")
ORBIT_START, ORBIT_SPAN = [0.7, 0.0, 0.0, (1.3 / 0.7) ** 0.5], 6.0

Curve = list[tuple[float, float]]


def orbit(t: Tensor, y: Tensor) -> Tensor:
    """A planet on an ellipse: smooth."""
    place, speed = y[:, :2], y[:, 2:]
    return torch.cat([speed, -place / place.norm(dim=1, keepdim=True) ** 3], dim=1)


def van_der_pol(mu: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Slow until t = 0.8 μ, with a fast direction of rate 3 μ at its beginning."""
    return lambda t, y: torch.stack([y[:, 1], mu * (1 - y[:, 0] ** 2) * y[:, 1] - y[:, 0]], dim=1)


def is_adaptive(solver: str) -> bool:
    return SOLVERS[solver].error_order is not None


def error_against_work(solver: str, truth: Tensor, levels: list[int]) -> Curve:
    """Evaluations and relative error: a tolerance of 10^-level, or 20 · 2^level fixed steps."""
    y0 = torch.tensor([ORBIT_START], dtype=torch.float64)
    curve = []
    for level in levels:
        fixed = {"step_size": ORBIT_SPAN / (20 * 2**level)}
        adaptive = {"rtol": 10.0**-level, "atol": 10.0**-level}
        options = adaptive if is_adaptive(solver) else fixed
        try:
            solution = solve_ivp(orbit, y0, [0.0, ORBIT_SPAN], solver=solver, max_steps=2000, **options)
        except SolverError:  # too many steps, or (implicit Euler) a planet that falls into the sun
            break
        error = float((solution.y[0, 1] - truth).norm() / truth.norm())
        if error < 10:
            curve.append((float(solution.stats["n_evals"]), error))
    return curve


def time_against_stiffness(solver: str, stiffness: list[float], limit: int) -> Curve:
    """μ and seconds, as far as `limit` steps suffice: a tolerance of 1e-5, or a hundred fixed steps."""
    y0 = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    curve = []
    for mu in stiffness:
        span = 0.5 * mu
        options = {"rtol": 1e-5, "atol": 1e-5} if is_adaptive(solver) else {"step_size": span / 100}
        begin = time.perf_counter()
        solution = solve_ivp(
            van_der_pol(mu), y0, [0.0, span], solver=solver, max_steps=limit, throw=False, **options
        )
        if not solution.success:
            break
        curve.append((mu, time.perf_counter() - begin))
    return curve


def milliseconds_of(gradient: str, n_steps: int) -> float:
    """Of one forward and one backward pass, after a short one."""
    field = MEMORY["Field"]()
    MEMORY["solve_and_differentiate"](field, gradient, 10)
    begin = time.perf_counter()
    MEMORY["solve_and_differentiate"](field, gradient, n_steps)
    return 1e3 * (time.perf_counter() - begin)


def draw_curves(ax: Axes, curves: dict[str, Curve]) -> None:
    """In grey first, so that those with a colour lie above."""
    for solver, curve in sorted(curves.items(), key=lambda item: item[0] in STYLES):
        colour, marker = STYLES.get(solver, ("0.8", "."))
        label = solver if solver in STYLES else f"_{solver}"
        style = {"color": colour, "marker": marker, "ms": 6, "lw": 1.6 if solver in STYLES else 1.0}
        ax.loglog([x for x, _ in curve], [y for _, y in curve], label=label, **style)
    ax.grid(alpha=0.3)


def draw_bars(ax: Axes, numbers: dict[str, float], unit: str, digits: int) -> None:
    bars = ax.barh(list(numbers), list(numbers.values()), color="#0072B2", height=0.6)
    ax.bar_label(bars, [f"{number:,.{digits}f} {unit}" for number in numbers.values()], padding=4)
    ax.invert_yaxis()
    ax.margins(x=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def measured_orbit(quick: bool) -> dict[str, Curve]:
    y0, tight = torch.tensor([ORBIT_START], dtype=torch.float64), 1e-5 if quick else 1e-12
    truth = solve_ivp(orbit, y0, [0.0, ORBIT_SPAN], solver="dopri8", rtol=tight, atol=tight).y[0, 1]
    levels = {
        solver: [2, 3, 4, 5] if solver in IMPLICIT_TABLEAUS else [2, 3, 4, 5, 6, 8, 10] for solver in STYLES
    }
    return {
        solver: error_against_work(solver, truth, [2] if quick else levels.get(solver, [2, 3]))
        for solver in SOLVERS
    }


def main(quick: bool = False, picture: str | Path = "choose_solver.png") -> Path:
    """Measure, draw, and return the path of the picture."""
    stiffness, limit, n_steps = (
        ([1.0], 50, 10) if quick else ([1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0], 8000, 1000)
    )
    figure, axes = plt.subplots(2, 2, figsize=(11, 8.2), height_ratios=[2.2, 1], layout="constrained")
    ax = axes[0, 0]
    draw_curves(ax, measured_orbit(quick))
    ax.set(
        title="Smooth: a planet's orbit",
        xlabel="evaluations of the field",
        ylabel="relative error at the end",
    )
    ax.plot([], [], ".-", color="0.8", label="all others")
    ax.set_xlim(right=6e4)  # room for the names
    ax.legend(fontsize=9, loc="upper right")

    ax = axes[0, 1]
    draw_curves(ax, {s: time_against_stiffness(s, stiffness, limit) for s in FOR_STIFFNESS})
    ax.set(
        title="Stiff: Van der Pol's slow branch, to t = μ/2",
        xlabel="stiffness μ",
        ylabel="time of a solve [s]",
    )
    ax.text(
        0.97,
        0.78,
        f"dopri5, tsit5\nbeyond: more\nthan {limit:,} steps",
        transform=ax.transAxes,
        ha="right",
    )
    ax.legend(fontsize=9, loc="upper left")

    draw_bars(axes[1, 0], {g: milliseconds_of(g, n_steps) for g in GRADIENTS}, "ms", 0)
    axes[1, 0].set(title=f"Time of a solve and its gradient, {n_steps} steps", xlabel="milliseconds")
    memory_of = MEMORY["measure_here" if quick else "measure"]  # in a process of its own, of some seconds
    draw_bars(axes[1, 1], {g: memory_of(g, n_steps) for g in GRADIENTS}, "MB", 1)
    axes[1, 1].set(
        title=f"Peak memory of both, {n_steps} steps", xlabel="megabytes beyond those of ten steps"
    )
    figure.savefig(picture, dpi=90)
    plt.close(figure)
    print(f"wrote {picture}")
    return Path(picture)


if __name__ == "__main__":
    main()
