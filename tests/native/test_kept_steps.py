"""Gradients from the evaluations that a solve keeps, without those of the times: these have them made again."""

from __future__ import annotations

import pytest
import torch
from both_engines import Case, Conditioned, difference, make_case, make_field, seeded
from torch import Tensor, nn

from latentode import solve_ivp
from latentode.native import Perceptron
from latentode.native.library import library
from latentode.nn.mlp import ACTIVATIONS

pytestmark = pytest.mark.skipif(library() is None, reason="the native kernels are not built here")

GRADIENT = 1e-10  # sums over all evaluations in float64, of either sign
SUMMED = 1e-5  # the same in float32, in another order


def answers(case: Case, y0: Tensor, engine: str = "native", **options: object) -> Tensor:
    return solve_ivp(case.field, y0, case.t_eval, t0=case.t0, engine=engine, **options).y


def gradients(case: Case, y: Tensor, y0: Tensor) -> list[Tensor]:
    """Of a random sum of the answers, to y0 and the parameters."""
    weights = torch.randn(y.shape, dtype=y.dtype, generator=seeded(9))
    return list(torch.autograd.grad((y * weights).sum(), [y0, *case.field.parameters()]))


def assert_as_torch(case: Case, **options: object) -> None:
    found, expected = (
        gradients(case, answers(case, y0, engine, **options), y0)
        for engine in ("native", "torch")
        for y0 in [case.y0.clone().requires_grad_()]
    )
    largest = max(float(x.abs().max()) for x in expected)
    for one, other in zip(found, expected):
        assert difference(one, other, 0.1 * largest) <= GRADIENT


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["mlp", "gated"])
def test_what_is_kept_of_an_evaluation(kind, activation):
    field = make_field(kind, 5, 9, activation=activation, time_dependent=True)
    assert_as_torch(make_case(field, n=21, n_times=9), solver="dopri5", step_size=0.2)


def test_inputs():
    case = make_case(Conditioned(2, 3, time_dependent=True).double(), n=21, dim=5)
    assert_as_torch(case, solver="rk4", step_size=0.2)


@pytest.mark.parametrize("dim", [2, 19, 40])
@pytest.mark.parametrize("n_times", [1, 3, 200])
def test_answers_of_any_number_and_width(dim, n_times):
    case = make_case(make_field("mlp", dim, 6), n=18, n_times=n_times)
    assert_as_torch(case, solver="bosh3", step_size=1.5)


def test_steps_that_some_lanes_reject():
    case = make_case(make_field("mlp", activation="elu"), n=40, span=5.0)
    case.field.mlp.layers[0].weight.data *= 3
    assert_as_torch(case, first_step=2.0, rtol=1e-5)


def overflowing_case(n: int) -> Case:
    """The first state stays where it is negative, and every third series begins where a step takes it to infinity."""
    case = make_case(make_field("mlp", 3, 6, activation="relu", depth=1), n=n)
    first, last = (layer for layer in case.field.mlp.layers if hasattr(layer, "weight"))
    with torch.no_grad():
        for row in (first.weight[0], first.bias[:1], last.weight[0], last.bias[:1]):
            row.zero_()
        first.weight[0, 0], last.weight[0, 0] = 1.0, 1e70
    case.y0[:, 0] = torch.where(torch.arange(n) % 3 == 0, 1.0, -1.0)
    return case


def test_steps_that_some_lanes_reject_as_they_overflow():
    """What is left of such a step is infinite, and its cotangents are 0."""
    case = overflowing_case(24)
    fine = case.y0[:, 0] < 0
    y0 = case.y0.clone().requires_grad_()
    y = answers(case, y0, throw=False)
    assert not y[~fine].isfinite().all()
    assert y[fine].isfinite().all()
    found = torch.autograd.grad(y[fine].sum(), [y0, *case.field.parameters()])
    alone = Case(case.field, case.y0[fine], case.t_eval[fine], case.t0[fine])
    y0 = alone.y0.clone().requires_grad_()
    expected = torch.autograd.grad(answers(alone, y0).sum(), [y0, *case.field.parameters()])
    assert torch.equal(found[0][fine], expected[0])
    for one, other in zip(found[1:], expected[1:]):
        assert difference(one, other) <= GRADIENT


def test_more_than_is_kept():
    """The memory for evaluations has a limit, for all solves together; beyond, gradients stay what they are."""
    case = make_case(make_field("mlp", 4, 64, depth=2, dtype=torch.float32), n=500, n_times=20, span=5.0)
    leaves = [case.y0.clone().requires_grad_() for _ in range(8)]
    solves = [answers(case, y0, rtol=1e-4) for y0 in leaves]  # of some 10 MB each, all held
    first = gradients(case, solves[0], leaves[0])
    for y, y0 in zip(solves[1:], leaves[1:]):
        found = gradients(case, y, y0)
        assert torch.equal(found[0], first[0])
        for one, other in zip(found, first):
            assert difference(one, other) <= SUMMED


class InfiniteAtZero(nn.Module):
    """Finite from y = 1 on; at y = 0, where no series is, the second layer overflows."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
        numbers = {"0.weight": -2e25, "0.bias": 1e25, "4.weight": 0.5, "4.bias": 0.1}
        with torch.no_grad():
            for name, number in numbers.items():
                self.net.get_parameter(name).fill_(number)
            self.net[2].weight.copy_(torch.tensor([[1e25], [0.0]]))
            self.net[2].bias.copy_(torch.tensor([0.0, 1.0]))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)

    def as_perceptron(self, y0: Tensor) -> Perceptron | None:
        return Perceptron.of(self.net)


@pytest.mark.parametrize("wants_times", [False, True])
@pytest.mark.parametrize("n", [1, 19])
def test_idle_lanes_add_nothing(n, wants_times):
    """Neither at t0, nor in steps of some lanes alone, whose evaluations are kept or (for the times) made again."""
    first, last = torch.ones(n, 1), torch.linspace(0.5, 1.0, n, dtype=torch.float64)[:, None]

    def found(engine: str) -> tuple[Tensor, ...]:
        field, y0, t_eval = (
            InfiniteAtZero(),
            first.clone().requires_grad_(),
            last.clone().requires_grad_(wants_times),
        )
        y = solve_ivp(field, y0, t_eval, t0=0.0, solver="rk4", step_size=0.25, engine=engine).y
        inputs = [y0, *field.parameters(), *([t_eval] if wants_times else [])]
        return torch.autograd.grad(y.sum(), inputs)

    torch.testing.assert_close(found("native"), found("torch"), rtol=SUMMED, atol=0.0)
