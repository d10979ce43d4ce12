"""`Perceptron.of`: which networks it takes, and that a field of one's own is then solved by the kernels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from latentode import solve_ivp
from latentode.native import Perceptron
from latentode.native.library import library

needs_native = pytest.mark.skipif(library() is None, reason="the native kernels were not built")


class Own(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, t, y):
        return self.net(y)

    def as_perceptron(self, y0):
        return Perceptron.of(self.net)


@needs_native
@pytest.mark.parametrize("activation", [nn.Tanh, nn.Softplus, nn.ELU, nn.SiLU, nn.ReLU])
def test_a_field_of_ones_own_is_solved_by_the_kernels(activation):
    torch.manual_seed(0)
    field = Own(
        nn.Linear(3, 7), activation(), nn.Linear(7, 5, bias=False), activation(), nn.Linear(5, 3)
    ).double()
    y0, times = torch.randn(9, 3, dtype=torch.float64), [0.0, 0.5, 1.0]
    answers, gradients = [], []
    for engine in ("torch", "native"):
        y = solve_ivp(field, y0, times, solver="rk4", step_size=0.1, engine=engine).y
        answers.append(y.detach())
        gradients.append(torch.autograd.grad(y.square().sum(), field.parameters()))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)],
        [nn.Linear(3, 4), nn.Tanh()],
        [nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3)],
        [nn.Linear(3, 4), nn.Softplus(beta=2.0), nn.Linear(4, 3)],
        [nn.Linear(3, 4), nn.ELU(alpha=0.5), nn.Linear(4, 3)],
        [nn.Linear(3, 4), nn.Tanh(), nn.Bilinear(4, 4, 3)],
        [nn.Linear(3, 5), nn.Tanh(), nn.Linear(4, 3)],
        [],
    ],
)
def test_other_networks_are_left_to_torch(layers):
    assert Perceptron.of(nn.Sequential(*layers)) is None


def test_one_linear_layer_is_a_perceptron():
    linear = nn.Linear(3, 3)
    assert Perceptron.of(nn.Sequential(linear)).weights == (linear.weight,)
