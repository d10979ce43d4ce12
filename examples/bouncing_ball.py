"""Learn gravity and bounciness from nothing but the times at which balls hit the floor.

Every ball is a series of its own: `solve_ivp(..., event=)` stops each at its own landing, and the gradients of the
landing times flow through all bounces before.

    python examples/bouncing_ball.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from latentode import solve_ivp

HEIGHTS = torch.tensor([1.0, 2.0, 3.5], dtype=torch.float64)  # metres, three balls at rest
LONGEST = 10.0  # seconds that a flight may last
TRUE_GRAVITY, TRUE_BOUNCE = 9.81, 0.8
FIRST_GUESS = (6.0, 0.6)


def landings(
    gravity: Tensor, bounce: Tensor, n_bounces: int, frames: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """Times of the landings (3, n_bounces), and frames of a film of the flights (3, F): times and heights."""

    def field(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[:, 1], -gravity.expand(len(y))], dim=1)

    def touches_floor(t: Tensor, y: Tensor) -> Tensor:
        return torch.where(y[:, 1] < 0, y[:, 0], 1.0)  # only on the way down: a ball may leave the floor

    t, y = torch.zeros(3, dtype=torch.float64), torch.stack([HEIGHTS, 0 * HEIGHTS], dim=1)
    times, film, heights = [], [], []
    for _ in range(n_bounces):
        film.append(t.detach()[:, None] + torch.linspace(0, LONGEST, frames, dtype=torch.float64))
        flight = solve_ivp(field, y, film[-1], t0=t, event=touches_floor, params=[gravity])
        t, speed = flight.event_times, flight.event_states[:, 1]
        times.append(t)
        heights.append(flight.y[..., 0].detach())
        y = torch.stack([torch.zeros_like(speed), -bounce * speed], dim=1)
    return torch.stack(times, dim=1), torch.cat(film, dim=1), torch.cat(heights, dim=1)


def observed(n_bounces: int) -> Tensor:
    """Landing times (3, n_bounces) by the closed form."""
    powers = TRUE_BOUNCE ** torch.arange(1, n_bounces, dtype=torch.float64)
    flights = torch.cat([torch.ones(1, dtype=torch.float64), 2 * powers])  # in units of the first fall
    return torch.sqrt(2 * HEIGHTS / TRUE_GRAVITY)[:, None] * flights.cumsum(dim=0)


def learn(times: Tensor, n_rounds: int) -> tuple[Tensor, Tensor, list[float]]:
    """Gravity and bounciness that explain the times, and the error (seconds) of every attempt."""
    logs = torch.tensor(FIRST_GUESS, dtype=torch.float64).log().requires_grad_()  # so that both stay positive
    optimizer = torch.optim.LBFGS([logs], lr=1.0, max_iter=n_rounds, line_search_fn="strong_wolfe")
    errors = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (landings(*logs.exp(), times.shape[1])[0] - times).square().mean()
        loss.backward()
        errors.append(loss.item() ** 0.5)
        return loss

    optimizer.step(closure)
    gravity, bounce = logs.detach().exp()
    return gravity, bounce, errors


def draw(times: Tensor, guesses: list[tuple[str, Tensor, Tensor]], path: Path) -> None:
    """Heights over time: the landings that were given, and the flights of each guess."""
    figure = Figure(figsize=(9, 5), dpi=150, layout="constrained")
    panels = figure.subplots(len(guesses), 1, sharex=True)
    for ax, (name, gravity, bounce) in zip(panels, guesses):
        _, t, height = landings(gravity, bounce, times.shape[1], frames=1500)
        for ball, color in enumerate(("#0072B2", "#D55E00", "#009E73")):
            ax.plot(t[ball], height[ball], color=color, linewidth=1.3)
            ax.plot(times[ball], [0.0] * times.shape[1], "o", color=color, markersize=6, clip_on=False)
        ax.set_title(f"{name}: gravity {gravity:.2f} m/s², bounciness {bounce:.2f}", loc="left", fontsize=11)
        ax.set_ylabel("height, m")
        ax.set_ylim(0, 1.05 * HEIGHTS.max().item())
        ax.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("time, s (dots: the landings that were observed)")
    figure.savefig(path)


def main(quick: bool = False, path: Path = Path("bouncing_ball.png")) -> tuple[float, float]:
    """Learn, say what was learned, and draw it."""
    times = observed(n_bounces=2 if quick else 5)
    gravity, bounce, errors = learn(times, n_rounds=12 if quick else 30)
    print(
        f"error of the landing times: {errors[0]:.3f} s at first, {errors[-1]:.2g} s after {len(errors)} solves"
    )
    print(f"gravity {gravity:.4f} (true {TRUE_GRAVITY}), bounciness {bounce:.4f} (true {TRUE_BOUNCE})")
    guess = torch.tensor(FIRST_GUESS, dtype=torch.float64)
    draw(times, [("first guess", *guess), ("learned", gravity, bounce)], path)
    return gravity.item(), bounce.item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two bounces instead of five")
    parser.add_argument("--path", type=Path, default=Path("bouncing_ball.png"), help="where the picture goes")
    arguments = parser.parse_args()
    main(arguments.quick, arguments.path)
