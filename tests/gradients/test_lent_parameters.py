"""Parameters that `torch.func.functional_call` lends a module for one call: the backward pass comes after it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from engine_stubs import Swirl
from tolerances import EXACT_GRADIENT
from torch import nn
from torch.func import functional_call

from latentode import solve_ivp
from latentode.gradients import GRADIENTS
from latentode.nn.fields import MLPField

T_EVAL = [0.0, 0.4, 0.9]
BY_REPLAY = [name for name in GRADIENTS if name != "backprop"]
TIGHT = {"rtol": 1e-11, "atol": 1e-11, "engine": "torch"}
ADJOINT_ERROR = 1e-7  # of the continuous adjoint at these tolerances


class Shifted(nn.Module):
    """A field whose buffer counts too."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
        self.register_buffer("shift", torch.zeros(2, dtype=torch.float64))

    def forward(self, t, y):
        return self.net(y) + self.shift


class Holder:
    def __init__(self, inner):
        self.inner = inner

    def __call__(self, t, y):
        return self.inner(t, y)


FORMS = {
    "module": lambda field: field,
    "bound method": lambda field: field.forward,
    "closure": lambda field: lambda t, y: field(t, y),
    "closure of a closure": lambda field: FORMS["closure"](FORMS["closure"](field)),
    "partial": lambda field: partial(lambda inner, t, y: inner(t, y), field),
    "attribute": Holder,
    "hidden in a list": lambda field: [fields := [field], lambda t, y: fields[0](t, y)][1],
}


class Outer(nn.Module):
    """A model that solves inside of its forward."""

    def __init__(self, field, form="module", **options):
        super().__init__()
        self.field = field
        self.form, self.options = form, options

    def forward(self, y0):
        field = FORMS[self.form](self.field)
        params = list(self.field.parameters())
        return solve_ivp(field, y0, T_EVAL, params=params, **{**TIGHT, **self.options}).y


def made_field():
    torch.manual_seed(3)
    return Shifted()


def lent(field, scale=1.7):
    """Other values for all that the field holds, the parameters being leaves."""
    parameters = {
        f"field.{name}": (scale * p.detach()).requires_grad_() for name, p in field.named_parameters()
    }
    return parameters, {f"field.{name}": b + 0.3 for name, b in field.named_buffers()}


def gradients(form, gradient, *, through=None, field=None):
    """Of y0 and the lent parameters; the field's own must get none and stay where they are."""
    field = made_field() if field is None else field
    before = dict(field.named_parameters())
    outer = Outer(field, form, gradient=gradient)
    parameters, buffers = lent(field)
    y0 = torch.tensor([[0.3, -0.2], [1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    used = parameters if through is None else {name: through(p) for name, p in parameters.items()}
    loss = functional_call(outer, {**used, **buffers}, (y0,)).square().sum()
    found = torch.autograd.grad(loss, [y0, *parameters.values()], allow_unused=True)
    assert all(p is before[name] and p.grad is None for name, p in field.named_parameters())
    return found


def assert_equal(found, expected, gradient):
    assert all(one is not None for one in found)
    tolerance = ADJOINT_ERROR if gradient == "adjoint" else EXACT_GRADIENT
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("gradient", BY_REPLAY)
@pytest.mark.parametrize("form", [name for name in FORMS if name != "hidden in a list"])
def test_lent_parameters_get_the_gradient_of_backprop(form, gradient):
    assert_equal(gradients(form, gradient), gradients(form, "backprop"), gradient)


@pytest.mark.parametrize("gradient", BY_REPLAY)
def test_lent_results_of_a_computation(gradient):
    """As in meta-learning, where the lent ones are those after a step of training."""
    found = gradients("module", gradient, through=torch.tanh)
    assert_equal(found, gradients("module", "backprop", through=torch.tanh), gradient)


@pytest.mark.parametrize("gradient", BY_REPLAY)
def test_the_state_has_its_gradient_where_nothing_of_the_field_has(gradient):
    def frozen(gradient):
        field = made_field().requires_grad_(False)
        outer = Outer(field, gradient=gradient)
        y0 = torch.tensor([[0.3, -0.2]], dtype=torch.float64, requires_grad=True)
        with torch.no_grad():
            parameters, buffers = lent(field)
            parameters = {name: p.detach() for name, p in parameters.items()}
        loss = functional_call(outer, {**parameters, **buffers}, (y0,)).square().sum()
        return torch.autograd.grad(loss, [y0])

    assert_equal(frozen(gradient), frozen("backprop"), gradient)


@pytest.mark.parametrize("gradient", BY_REPLAY)
def test_a_module_that_is_not_found_is_an_error_and_no_wrong_gradient(gradient):
    with pytest.raises(
        RuntimeError, match=r"a parameter of shape \(.*functional_call.*use gradient='backprop'"
    ):
        gradients("hidden in a list", gradient)


def test_a_module_that_is_not_found_solves_without_functional_call():
    field = made_field()
    found = []
    for form in ("hidden in a list", "module"):
        loss = Outer(field, form)(torch.ones(1, 2, dtype=torch.float64)).sum()
        found.append(torch.autograd.grad(loss, list(field.parameters())))
    torch.testing.assert_close(*found, rtol=EXACT_GRADIENT, atol=EXACT_GRADIENT)


@pytest.mark.parametrize("gradient", BY_REPLAY)
def test_a_parameter_that_nothing_uses_is_no_reason_to_refuse(gradient):
    field = Swirl()
    field.spare = nn.Parameter(torch.ones(2, dtype=torch.float64))
    y0 = torch.ones(1, 2, dtype=torch.float64)
    solve_ivp(field, y0, T_EVAL, gradient=gradient, engine="torch").y.sum().backward()
    assert field.spare.grad is None
    assert field.pull.grad is not None


@pytest.mark.parametrize("gradient", BY_REPLAY)
def test_the_modules_own_parameters_are_back_after_an_error(gradient):
    """Whatever happens in the backward pass."""
    field = made_field()
    outer = Outer(field, gradient=gradient)
    parameters, _ = lent(field)
    loss = functional_call(outer, parameters, (torch.ones(1, 2, dtype=torch.float64),)).sum()
    own = dict(field.named_parameters())

    def broken(module, inputs):
        raise KeyError("broken")

    field.net[0].register_forward_pre_hook(broken)
    with pytest.raises(KeyError, match="broken"):
        loss.backward()
    assert all(p is own[name] for name, p in field.named_parameters())


def test_both_engines_agree_on_lent_parameters():
    def gradients(engine):
        field = MLPField(2, 4, generator=torch.Generator().manual_seed(1)).double()
        outer = Outer(field, engine=engine)
        parameters, _ = lent(outer.field)
        loss = functional_call(outer, parameters, (torch.ones(2, 2, dtype=torch.float64),)).square().sum()
        return torch.autograd.grad(loss, list(parameters.values()))

    torch.testing.assert_close(gradients("auto"), gradients("torch"), rtol=1e-8, atol=1e-10)
