"""What a gradient keeps between forward and backward, and during backward."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from latentode import solve_ivp


class Wide(nn.Module):
    """Its activations are a hundred times larger than the state."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 200), nn.Tanh(), nn.Linear(200, 2))
        for weight in self.parameters():
            nn.init.constant_(weight, 0.01)

    def forward(self, t, y):
        return self.net(y)


POLYNOMIAL = 4 * 2 + 4  # a cubic of two components, its place in time and in the batch


class Held:
    """Numbers held by graphs: now, and at most at one time."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def pack(self, x):
        return _Saved(self, x.detach())  # an output that held its own graph would never be freed

    def unpack(self, saved):
        return saved.x


class _Saved:
    def __init__(self, held: Held, x) -> None:
        self.held, self.x = held, x
        held.now += x.numel()
        held.peak = max(held.peak, held.now)

    def __del__(self) -> None:
        self.held.now -= self.x.numel()


def numbers_held(gradient: str, n_steps: int) -> tuple[int, int]:
    """(between forward and backward, at most) for a solve of `n_steps` fixed steps."""
    field, y0, held = Wide(), torch.ones(3, 2, requires_grad=True), Held()
    with saved_tensors_hooks(held.pack, held.unpack):
        y = solve_ivp(field, y0, [0.0, 1.0], solver="rk4", step_size=1 / n_steps, gradient=gradient).y
        between = held.now
        y.sum().backward()
    return between, held.peak


def test_discrete_adjoint_holds_the_graph_of_one_step_at_a_time():
    """Beside the polynomials of the steps, which are of the size of the state."""
    (between_few, few), (between_many, many) = (numbers_held("discrete_adjoint", n) for n in (4, 64))
    assert many - between_many == few - between_few
    assert between_many - between_few <= (64 - 4) * 3 * POLYNOMIAL


def test_discrete_adjoint_holds_no_activations_between_forward_and_backward():
    between, peak = numbers_held("discrete_adjoint", 16)
    inputs = sum(p.numel() for p in Wide().parameters()) + 3 * 2 + 3 + 3 * 2
    assert between <= inputs + 3 * 17 * POLYNOMIAL
    assert peak < 2 * numbers_held("backprop", 1)[0]


@pytest.mark.parametrize("n_steps", [4, 64])
def test_the_count_sees_a_graph_of_all_steps(n_steps):
    assert numbers_held("backprop", n_steps)[0] > n_steps * 4 * 3 * 200


def test_nothing_is_left_after_backward():
    field, held = Wide(), Held()
    with saved_tensors_hooks(held.pack, held.unpack):
        y = solve_ivp(field, torch.ones(3, 2), [0.0, 1.0], gradient="discrete_adjoint").y
        y.sum().backward()
        del y
    assert held.now == 0
