"""Milliseconds of the drop-in `odeint` and `odeint_adjoint` beside torchdiffeq's (where installed).

dy/dt = MLP(y) on y0 (64, 4), a whole batch with one clock; dopri5, float32, in [0, 2π]: forward, with the gradient of a
mean-square loss, and with the gradient by the adjoint. At many loose query times most of the work lies between the
steps, at two tight ones in them. The libraries take turns (A B A B ...); medians, and their ratio.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

import latentode.drop_in

PROBLEMS = {  # query times, rtol, atol
    "100 times, rtol 1e-3": (100, 1e-3, 1e-4),
    "10 times, rtol 1e-3": (10, 1e-3, 1e-4),
    "2 times, rtol 1e-6": (2, 1e-6, 1e-7),
}
TASKS = {  # function, whether its gradient is taken
    "odeint": ("odeint", False),
    "odeint + gradient": ("odeint", True),
    "odeint_adjoint + gradient": ("odeint_adjoint", True),
}


class Field(nn.Module):
    """An autonomous field: the same network for both libraries."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 4))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                weight.normal_(0.0, 1 / math.sqrt(max(weight.shape[-1], 4)), generator=generator)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)


def libraries() -> dict[str, Any]:
    """The drop-in, and what it stands in for."""
    found: dict[str, Any] = {"latentode": latentode.drop_in}
    if importlib.util.find_spec("torchdiffeq"):
        found["torchdiffeq"] = importlib.import_module("torchdiffeq")
    return found


def seconds(library: Any, task: str, problem: str, field: nn.Module, y0: Tensor) -> float:
    """One solve, with its gradient where the task has one."""
    (function, gradient), (n_times, rtol, atol) = TASKS[task], PROBLEMS[problem]
    times = torch.linspace(0.0, 2 * math.pi, n_times)
    y0 = y0.clone().requires_grad_(gradient)
    begin = time.perf_counter()
    with torch.set_grad_enabled(gradient):
        y = getattr(library, function)(field, y0, times, rtol=rtol, atol=atol, method="dopri5")
        if gradient:
            y.square().mean().backward()
    return time.perf_counter() - begin


def compare(task: str, problem: str, rounds: int) -> dict[str, float]:
    """Median seconds by library."""
    field = Field()
    y0 = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    taken: dict[str, list[float]] = {name: [] for name in libraries()}
    for turn in range(rounds + 1):
        for name, library in libraries().items():
            duration = seconds(library, task, problem, field, y0)
            if turn:  # the first turn warms up
                taken[name].append(duration)
    return {name: statistics.median(values) for name, values in taken.items()}


def main(quick: bool = False) -> dict[tuple[str, str], dict[str, float]]:
    """Print the table; returns the medians in seconds by problem, task and library."""
    results = {}
    print(f"{torch.get_num_threads()} thread(s)")
    for problem in list(PROBLEMS)[-1:] if quick else PROBLEMS:
        print(problem)
        for task in TASKS:
            medians = results[problem, task] = compare(task, problem, rounds=1 if quick else 11)
            columns = "".join(f"  {name} {1e3 * median:7.1f} ms" for name, median in medians.items())
            ratio = f"{medians['latentode'] / medians['torchdiffeq']:8.2f}" if len(medians) > 1 else ""
            print(f"  {task:<28}{columns}{ratio}")
    return results


if __name__ == "__main__":
    main()
