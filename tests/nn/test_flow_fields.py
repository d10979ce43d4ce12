"""Fields of continuous flows: values by their formulas, products by autograd."""

from __future__ import annotations

import pytest
import torch
from flow_field_cases import jacobians, points, stirred
from tolerances import ROUNDING

from latentode.nn.flow_fields import FLOW_FIELDS, identity_tangents
from latentode.nn.smooth import SMOOTH_ACTIVATIONS

NAMES = list(FLOW_FIELDS)


@pytest.mark.parametrize("activation", SMOOTH_ACTIVATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_products_are_those_of_the_jacobian(name, activation):
    field, (t, z) = stirred(name, activation=activation), points()
    tangents = torch.randn(2, *z.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(3))
    slope, products = field.pushed(t, z, tangents)
    expected = torch.einsum("nij,knj->kni", jacobians(field, t, z), tangents)
    torch.testing.assert_close(slope, field(t, z), rtol=0, atol=ROUNDING)
    torch.testing.assert_close(products, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", NAMES)
def test_tangents_of_one_row_are_those_of_all_rows(name):
    field, (t, z) = stirred(name), points()
    unit = identity_tangents(z)
    shared = field.pushed(t, z, unit).products
    repeated = field.pushed(t, z, unit.expand(-1, len(z), -1)).products
    torch.testing.assert_close(shared, repeated, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", NAMES)
def test_trace(name):
    field, (t, z) = stirred(name), points()
    slope, trace = field.with_trace(t, z)
    expected = jacobians(field, t, z).diagonal(dim1=1, dim2=2).sum(-1)
    torch.testing.assert_close(trace, expected, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(slope, field(t, z), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_slope_and_trace(name):
    field, (t, z) = stirred(name, n_dims=2, hidden_dim=3), points(2, 2)
    names, weights = zip(*field.named_parameters())

    def answers(z, *weights):
        return torch.func.functional_call(_WithTrace(field), _under(names, weights), (t, z))

    assert torch.autograd.gradcheck(answers, (z.requires_grad_(), *weights))


class _WithTrace(torch.nn.Module):
    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, t, z):
        return self.field.with_trace(t, z)


def _under(names, weights):
    return {f"field.{name}": weight for name, weight in zip(names, weights)}


def test_concatsquash_is_its_formula():
    """One hidden layer: W₂ tanh((W₁ z + b₁) σ(g₁ t + c₁) + s₁ t) + ..., by hand."""
    field, (t, z) = stirred("concatsquash", depth=1), points()
    x = z
    for layer, activate in ((field.hidden[0], torch.tanh), (field.last, lambda x: x)):
        gate = 1 / (1 + torch.exp(-(t[:, None] * layer.gate_weight + layer.gate_bias)))
        out = (x @ layer.main.weight.T + layer.main.bias) * gate + t[:, None] * layer.shift_weight
        x = activate(out)
    torch.testing.assert_close(field(t, z), x, rtol=0, atol=ROUNDING)


def test_planar_is_the_sum_over_its_units():
    field, (t, z) = stirred("planar"), points()
    units = field.units
    expected = sum(u * torch.tanh(z @ w + b)[:, None] for w, b, u in zip(units.w, units.b, units.u))
    torch.testing.assert_close(field(t, z), expected, rtol=0, atol=ROUNDING)


def test_gates_weigh_the_units():
    field, (t, z) = stirred("gated"), points()
    units, gates = field.units, torch.sigmoid(field.gates(t[:, None]))
    each = zip(units.w, units.b, units.u, gates.T)
    expected = sum(gate[:, None] * u * torch.tanh(z @ w + b)[:, None] for w, b, u, gate in each)
    assert ((gates > 0) & (gates < 1)).all()
    torch.testing.assert_close(field(t, z), expected, rtol=0, atol=ROUNDING)


def test_only_planar_is_without_time():
    t, z = points()
    moved = {name: not torch.equal(stirred(name)(t, z), stirred(name)(t + 1, z)) for name in NAMES}
    assert moved == {"concatsquash": True, "gated": True, "planar": False}


@pytest.mark.parametrize("name", NAMES)
def test_a_new_field_is_zero_and_its_weights_are_the_generators(name):
    t, z = points()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same, other = (
        FLOW_FIELDS[name](3, 5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert not one.double()(t, z).any()
    pairs = [*zip(one.parameters(), same.double().parameters(), other.double().parameters())]
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_an_activation_with_kinks_is_refused(name):
    with pytest.raises(ValueError, match="must be smooth, one of tanh, softplus; got 'relu'"):
        FLOW_FIELDS[name](2, 3, activation="relu")
