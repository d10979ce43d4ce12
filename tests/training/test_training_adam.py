"""Adam of the trainer against torch's."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from latentode.training import adam
from latentode.training.adam import SmallAdam, gradient_norm


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


def take_steps(
    model: nn.Module, optimiser: torch.optim.Optimizer, n: int, first: int = 0
) -> list[torch.Tensor]:
    for i in range(first, first + n):
        optimiser.zero_grad()
        x = torch.randn(7, 3, generator=torch.Generator().manual_seed(i))
        model(x).square().sum().backward()
        optimiser.param_groups[0]["lr"] = 0.1 / (1 + i)
        optimiser.step()
    return [param.detach().clone() for param in model.parameters()]


def small(model: nn.Module) -> SmallAdam:
    return SmallAdam(list(model.parameters()), 0.1)


def fused(model: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=0.1, fused=True)


def test_the_weights_are_those_of_torch():
    ours, theirs = network(), network()
    torch.testing.assert_close(
        take_steps(ours, small(ours), 6), take_steps(theirs, fused(theirs), 6), rtol=0, atol=0
    )


def test_a_state_goes_from_one_to_the_other_and_back():
    model, other = network(), network()
    optimiser = small(model)
    take_steps(model, optimiser, 3)
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimiser.state_dict())
    expected = take_steps(model, optimiser, 3, first=3)
    for make in (fused, small):
        other.load_state_dict(weights)
        again = make(other)
        again.load_state_dict(copy.deepcopy(state))
        torch.testing.assert_close(take_steps(other, again, 3, first=3), expected, rtol=0, atol=0)
    model.load_state_dict(weights)
    optimiser.load_state_dict(copy.deepcopy(state))  # into one that has taken steps already
    torch.testing.assert_close(take_steps(model, optimiser, 3, first=3), expected, rtol=0, atol=0)


def test_what_has_no_gradient_stays_and_its_steps_do_not_count():
    def run(make):
        model = network()
        optimiser = make(model)
        take_steps(model, optimiser, 2)
        for frozen in (True, False):  # by torch's own step, then by ours again
            model[0].weight.requires_grad_(not frozen)
            take_steps(model, optimiser, 2, first=2)
        steps = [float(optimiser.state[param]["step"]) for param in model.parameters()]
        return steps, [param.detach() for param in model.parameters()]

    ours, theirs = run(small), run(fused)
    assert ours[0] == theirs[0] == [4, 6, 6, 6]
    torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=0)


@pytest.fixture
def other_torch(monkeypatch):
    """A torch whose fused update wants something else."""

    def fused_adam(*tensors, lr, betas):
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(torch, "_fused_adam_", fused_adam)
        adam._is_known_here.cache_clear()
        assert not adam._is_known_here()
    yield
    adam._is_known_here.cache_clear()


def test_another_fused_update_is_left_to_torch(other_torch, monkeypatch):
    monkeypatch.setattr(adam, "_apply", None)  # would raise
    ours, theirs = network(), network()
    torch.testing.assert_close(
        take_steps(ours, small(ours), 3), take_steps(theirs, fused(theirs), 3), rtol=0, atol=0
    )


def test_hooks_on_steps_and_closures_are_heard():
    model, heard = network(), []
    optimiser = small(model)
    take_steps(model, optimiser, 2)
    optimiser.register_step_post_hook(lambda *_: heard.append("hook"))
    take_steps(model, optimiser, 1)
    assert optimiser.step(lambda: 3.0) == 3.0
    assert heard == ["hook", "hook"]


def test_gradients_can_be_cleared_in_both_ways():
    model = network()
    optimiser = small(model)
    model(torch.ones(1, 3)).sum().backward()
    optimiser.zero_grad(set_to_none=False)
    assert all((param.grad == 0).all() for param in model.parameters())
    optimiser.zero_grad()
    assert all(param.grad is None for param in model.parameters())


@pytest.mark.parametrize("share", [0.5, 0.9995, 1.0, 1.0005, 2.0, math.inf])
def test_the_norm_and_the_clipped_gradients_are_those_of_torch(share):
    model, other = network(), network()
    for one in (model, other):
        one(torch.ones(4, 3)).square().sum().backward()
    largest = share * gradient_norm(list(model.parameters()), math.inf)
    ours = gradient_norm(list(model.parameters()), largest)
    theirs = float(nn.utils.clip_grad_norm_(other.parameters(), largest))
    assert ours == theirs
    for one, two in zip(model.parameters(), other.parameters()):
        assert torch.equal(one.grad, two.grad)


def test_no_gradients_have_no_norm():
    assert gradient_norm(list(network().parameters()), 1.0) == 0.0
