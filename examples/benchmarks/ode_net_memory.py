"""Peak memory of training on images against depth: residual blocks, and evaluations of an ODE-Net by four gradients.

One step of training on 32 images of 28 x 28 pixels with 32 channels, 1 thread: `n` residual blocks; or one solve by
reversible Heun with `n` fixed steps (the same computed solution for all gradients, one evaluation a step). Every number
comes from a process of its own: its largest resident memory after that step, less the same after a step with n = 2.

    python examples/benchmarks/ode_net_memory.py [picture.png]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from gradient_memory import peak_megabytes
from torch.nn import functional

from latentode.models.ode_net import ODENet

KINDS = ("resnet", "backprop", "discrete_adjoint", "adjoint", "reversible")
DEPTHS = (6, 25, 100, 400)
N_IMAGES, CHANNELS = 32, 32


def network(kind: str, depth: int) -> ODENet:
    """A network of so many blocks or evaluations."""
    return ODENet(
        (1, 28, 28),
        10,
        block="resnet" if kind == "resnet" else "ode",
        hidden_dim=CHANNELS,
        depth=2,
        activation="tanh",
        n_blocks=depth,
        augment_dim=0,
        solver="reversible_heun",
        tolerance=1e-3,
        step_size=1 / depth,
        gradient="backprop" if kind == "resnet" else kind,
        mean=[0.0],
        std=[1.0],
        target_mean=[0.0] * 10,
        target_std=[1.0] * 10,
        generator=torch.Generator().manual_seed(0),
    )


def train_once(kind: str, depth: int) -> None:
    """One forward and one backward pass."""
    images = torch.linspace(-1, 1, N_IMAGES * 28**2).reshape(N_IMAGES, 1, 28, 28)
    labels = torch.arange(N_IMAGES) % 10
    functional.cross_entropy(network(kind, depth)(images), labels).backward()


def measure_here(kind: str, depth: int) -> float:
    """Megabytes that this process needed beyond a network of depth 2."""
    torch.set_num_threads(1)
    train_once(kind, 2)
    before = peak_megabytes()
    train_once(kind, depth)
    return peak_megabytes() - before


def measure(kind: str, depth: int) -> float:
    """`measure_here`, in a new process."""
    command = [sys.executable, __file__, "--measure", kind, str(depth)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def draw(megabytes: dict[str, dict[int, float]], path: str | Path) -> None:
    """One line per kind."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (kind, row), marker in zip(megabytes.items(), "osD^v"):
        label = "ResNet" if kind == "resnet" else f"ODE-Net, {kind}"
        axes.plot(list(row), [max(value, 1.0) for value in row.values()], marker=marker, label=label)
    axes.set(xscale="log", yscale="log", xlabel="residual blocks, or evaluations of the field")
    axes.set_ylabel("peak memory beyond depth 2 [MB]")
    axes.set_title("Memory of one step of training (values below 1 MB drawn at 1)", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(quick: bool = False, path: str | None = None) -> dict[str, dict[int, float]]:
    """Print the table and, given a path, draw it; returns megabytes by kind and depth."""
    depths = (4,) if quick else DEPTHS
    kinds = KINDS[:1] if quick else KINDS
    megabytes = {kind: {depth: measure(kind, depth) for depth in depths} for kind in kinds}
    print("peak memory in MB beyond depth 2")
    print(f"{'depth':<20}" + "".join(f"{depth:>10}" for depth in depths))
    for kind, row in megabytes.items():
        print(f"{kind:<20}" + "".join(f"{value:>10.1f}" for value in row.values()))
    if path is not None:
        draw(megabytes, path)
    return megabytes


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(measure_here(sys.argv[2], int(sys.argv[3])))
    else:
        main(path=sys.argv[1] if len(sys.argv) > 1 else None)
