"""Peak memory of a solve and its gradient against the number of steps, for the four gradients.

dy/dt = MLP(y), 128 → 128 → 128, 4 series, reversible Heun with 10 to 10,000 fixed steps (the same computed solution for
all four), one query time, float32, 1 thread. Every number comes from a process of its own: its largest resident
memory after the solve and its gradient, less the same after ten steps of warming up. What torch does not return to
the system counts, as it does for a user.

    python examples/benchmarks/gradient_memory.py [picture.png]
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from latentode import solve_ivp

GRADIENTS = ("backprop", "discrete_adjoint", "adjoint", "reversible")
STEPS = (10, 100, 1000, 10_000)
SIZE = 128


class Field(nn.Module):
    """A slow field, so that every number of steps solves it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(SIZE, SIZE), nn.Tanh(), nn.Linear(SIZE, SIZE))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in self.parameters():
                weight.normal_(0.0, SIZE**-0.5, generator=generator)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)


def solve_and_differentiate(field: Field, gradient: str, n_steps: int) -> None:
    """One forward and one backward pass."""
    y0 = torch.ones(4, SIZE, requires_grad=True)
    solution = solve_ivp(
        field,
        y0,
        [1.0],
        t0=0.0,
        solver="reversible_heun",
        step_size=1 / n_steps,
        gradient=gradient,
        max_steps=2 * n_steps,
    )
    solution.y.square().mean().backward()


def peak_megabytes() -> float:
    """Largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: there getrusage begins with the memory of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure_here(gradient: str, n_steps: int) -> float:
    """Megabytes that this process needed beyond ten steps."""
    torch.set_num_threads(1)
    field = Field()
    solve_and_differentiate(field, gradient, 10)
    before = peak_megabytes()
    solve_and_differentiate(field, gradient, n_steps)
    return peak_megabytes() - before


def measure(gradient: str, n_steps: int) -> float:
    """`measure_here`, in a new process."""
    command = [sys.executable, __file__, "--measure", gradient, str(n_steps)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def draw(megabytes: dict[str, dict[int, float]], path: str) -> None:
    """One line per gradient."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (gradient, row), marker in zip(megabytes.items(), "osD^"):
        axes.plot(list(row), [max(value, 0.1) for value in row.values()], marker=marker, label=gradient)
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="peak memory beyond ten steps [MB]")
    axes.set_title("Memory of a solve and its gradient (values below 0.1 MB drawn at 0.1)", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(quick: bool = False, path: str | None = None) -> dict[str, dict[int, float]]:
    """Print the table and, given a path, draw it; returns megabytes by gradient and number of steps."""
    steps = (50,) if quick else STEPS
    gradients = GRADIENTS[:1] if quick else GRADIENTS
    megabytes = {gradient: {n: measure(gradient, n) for n in steps} for gradient in gradients}
    print("peak memory in MB beyond ten steps")
    print(f"{'steps':<20}" + "".join(f"{n:>10}" for n in steps))
    for gradient, row in megabytes.items():
        print(f"{gradient:<20}" + "".join(f"{value:>10.1f}" for value in row.values()))
    if path is not None:
        draw(megabytes, path)
    return megabytes


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(measure_here(sys.argv[2], int(sys.argv[3])))
    else:
        main(path=sys.argv[1] if len(sys.argv) > 1 else None)
