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


class Other(Own):
    def forward(self, t, y):
        return -self.net(y)

    def as_perceptron(self, y0):
        return Perceptron.of(self.net)


class Returned(Own):
    def as_perceptron(self, y0):
        return self.net


def plain(kind=Own):
    return kind(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2))


@needs_native
@pytest.mark.parametrize("engine", ["auto", "native"])
def test_a_form_that_is_not_the_field_is_refused(engine):
    with pytest.raises(
        ValueError, match=r"Other.as_perceptron says something else than its forward: at the first"
    ):
        solve_ivp(plain(Other), torch.ones(3, 2), [0.0, 1.0], engine=engine)


@needs_native
def test_a_form_of_another_type_is_refused():
    with pytest.raises(
        TypeError, match=r"return a latentode.native.Perceptron, such as Perceptron.of\(self.net\)"
    ):
        solve_ivp(plain(Returned), torch.ones(3, 2), [0.0, 1.0])


@needs_native
def test_states_of_several_axes_and_of_other_widths_are_torchs():
    y0 = torch.randn(4, 3, 2)
    one, other = (solve_ivp(plain(), y0, [0.0, 1.0], engine=engine).y for engine in ("auto", "torch"))
    assert one.shape == other.shape == (4, 2, 3, 2)
    field = plain()
    torch.testing.assert_close(
        solve_ivp(field, y0, [0.0, 1.0]).y, solve_ivp(field, y0, [0.0, 1.0], engine="torch").y, rtol=0, atol=0
    )
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        solve_ivp(field, torch.ones(4, 3), [0.0, 1.0])
    with pytest.raises(ValueError, match=r"for states .N, D. of 3 numbers"):
        solve_ivp(field, torch.ones(4, 3), [0.0, 1.0], engine="native")
    with pytest.raises(TypeError):
        solve_ivp(field, (torch.ones(4, 1), torch.ones(4, 1)), [0.0, 1.0])


@needs_native
def test_inputs_that_are_no_part_of_the_state_are_left_to_torch():
    class Driven(Own):
        def forward(self, t, y):
            return self.net(torch.cat([y, self.inputs[: len(y)]], dim=1))

        def as_perceptron(self, y0):
            return Perceptron.of(self.net, inputs=self.inputs)

    field = Driven(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    field.inputs = torch.ones(4, 1, requires_grad=True)
    with pytest.raises(ValueError, match="is none of its parameters"):
        solve_ivp(field, torch.ones(4, 2), [0.0, 1.0])


@pytest.mark.parametrize("network", [nn.Linear(2, 2), nn.Tanh()])
def test_what_is_no_sequence_is_no_perceptron(network):
    assert Perceptron.of(network) is None
