"""What may happen to the graph of a native solve between the answers and their gradients."""

from __future__ import annotations

import gc

import pytest
import torch
from both_engines import make_field
from torch import Tensor, nn

from latentode import solve_ivp
from latentode.native import Perceptron
from latentode.native.library import library
from latentode.native.solve import AcceptedSteps

pytestmark = pytest.mark.skipif(library() is None, reason="the native kernels are not built here")

TIMES = torch.tensor([0.3, 1.0], dtype=torch.float64)


def start(n: int = 3) -> Tensor:
    return torch.linspace(-1, 1, 2 * n, dtype=torch.float64).reshape(n, 2).requires_grad_()


def answers(field: nn.Module, y0: Tensor) -> Tensor:
    return solve_ivp(field, y0, TIMES, t0=0.0, engine="native").y


def n_kept() -> int:
    gc.collect()
    return sum(type(one) is AcceptedSteps for one in gc.get_objects())


def test_kept_steps_go_with_the_graph_though_the_loss_stays():
    before = n_kept()
    loss = answers(make_field("mlp", 2, 4), start()).sum()
    loss.backward(retain_graph=True)
    assert n_kept() == before + 1
    loss.backward()
    assert n_kept() == before
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_tensors_that_are_saved_elsewhere():
    field, y0 = make_field("mlp", 2, 4), start()
    expected = torch.autograd.grad(answers(field, y0).square().sum(), [y0, *field.parameters()])
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x.numpy().copy(), torch.from_numpy):
        loss = answers(field, y0).square().sum()
    torch.testing.assert_close(torch.autograd.grad(loss, [y0, *field.parameters()]), expected, rtol=0, atol=0)


@pytest.mark.parametrize("lent", [False, True])
def test_second_derivatives_of_lent_parameters_are_refused(lent):
    field, y0 = make_field("mlp", 2, 4), start()
    others = {name: (2 * x).detach().requires_grad_() for name, x in field.named_parameters()}

    class Solve(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.field = field

        def forward(self) -> Tensor:
            return answers(self.field, y0)

    own = {f"field.{name}": x for name, x in field.named_parameters()}
    given = {f"field.{name}": x for name, x in others.items()} if lent else own
    y = torch.func.functional_call(Solve(), given, ())
    if lent:
        with pytest.raises(
            RuntimeError, match="parameters were replaced since the solve: use gradient='backprop'"
        ):
            torch.autograd.grad(y.sum(), list(given.values()), create_graph=True)
    else:
        assert torch.autograd.grad(y.sum(), list(given.values()), create_graph=True)[0].requires_grad


class WithOwnInputs(nn.Module):
    """dy/dt = net([y, u]), with inputs that the field holds itself."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        self.register_buffer("u", torch.linspace(0, 1, n, dtype=torch.float64)[:, None])

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(torch.cat([y, self.u[: len(y)]], dim=1))

    def as_perceptron(self, y0: Tensor) -> Perceptron | None:
        return Perceptron.of(self.net, inputs=self.u)


def test_inputs_that_were_given_other_data():
    field, y0 = WithOwnInputs(3), start()
    loss = answers(field, y0).sum()
    field.u.data = field.u.data.clone()
    with pytest.raises(RuntimeError, match="given other data between the solve and its gradient"):
        loss.backward()
