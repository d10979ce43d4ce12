"""MLP, fields and decoder against the formula written out, and where their first weights come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentode.nn.decoders import MLPDecoder
from latentode.nn.encoders import ENCODERS
from latentode.nn.fields import FIELDS, MLPField
from latentode.nn.initialisation import gru
from latentode.nn.likelihoods import LIKELIHOODS
from latentode.nn.mlp import ACTIVATIONS, MLP

FORMULAS = {
    "tanh": np.tanh,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
}
EXACT = {"rtol": 1e-12, "atol": 1e-12}  # the same formula in float64

BUILDERS = {
    "mlp": lambda g: MLP(3, 5, 2, depth=2, generator=g),
    "decoder": lambda g: MLPDecoder(3, 5, 2, generator=g),
    **{f"field {name}": lambda g, cls=cls: cls(3, 5, generator=g) for name, cls in FIELDS.items()},
    **{f"encoder {name}": lambda g, cls=cls: cls(2, 5, 3, generator=g) for name, cls in ENCODERS.items()},
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_hand(mlp, x, activation):
    *hidden, last = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in mlp.layers]
    for w, b in hidden:
        x = FORMULAS[activation](x @ w.T + b)
    return x @ last[0].T + last[1]


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_is_the_formula(activation, depth):
    mlp = MLP(3, 5, 2, depth=depth, activation=activation, generator=generator()).double()
    x = 2 * torch.randn(4, 6, 3, generator=generator(), dtype=torch.float64)
    np.testing.assert_allclose(mlp(x).detach(), by_hand(mlp, x.numpy(), activation), **EXACT)
    assert len(mlp.layers) == depth + 1


def test_unknown_activation_names_the_known_ones():
    with pytest.raises(ValueError, match=r"activation must be one of tanh, softplus, .*; got 'tahn'"):
        MLP(3, 5, 2, activation="tahn")


def test_negative_depth_is_refused():
    with pytest.raises(ValueError, match="depth must be a number of hidden layers, 0 or more; got -1"):
        MLP(3, 5, 2, depth=-1)


def test_an_autonomous_field_ignores_time():
    field = MLPField(3, 5, generator=generator())
    z = torch.randn(4, 3, generator=generator())
    assert torch.equal(field(torch.zeros(4), z), field(torch.full((4,), torch.nan), z))


def test_a_time_dependent_field_sees_each_series_own_time():
    field = MLPField(3, 5, time_dependent=True, generator=generator()).double()
    z = torch.randn(4, 3, generator=generator(), dtype=torch.float64)
    t = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    expected = by_hand(field.mlp, np.concatenate([z, t[:, None]], axis=1), "tanh")
    np.testing.assert_allclose(field(t, z).detach(), expected, **EXACT)


def test_a_float32_field_takes_float64_times():
    field = MLPField(3, 5, time_dependent=True, generator=generator())
    assert field(torch.zeros(4, dtype=torch.float64), torch.zeros(4, 3)).dtype == torch.float32


@pytest.mark.parametrize("name", FIELDS)
def test_field_gradients(name):
    field = FIELDS[name](2, 4, time_dependent=True, generator=generator()).double()
    t = torch.rand(3, generator=generator(), dtype=torch.float64, requires_grad=True)
    z = torch.randn(3, 2, generator=generator(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(field, (t, z))


def test_the_decoder_is_the_same_at_every_time():
    decoder = MLPDecoder(3, 5, 2, generator=generator()).double()
    z = torch.randn(2, 4, 6, 3, generator=generator(), dtype=torch.float64)
    out = decoder(z)
    assert out.shape == (2, 4, 6, 2)
    np.testing.assert_allclose(out.detach(), by_hand(decoder.mlp, z.numpy(), "tanh"), **EXACT)


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("given", [True, False])
def test_global_random_state_is_neither_read_nor_set(name, given):
    before = torch.get_rng_state()
    BUILDERS[name](generator() if given else None)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_draw_nothing(name):
    before = torch.get_rng_state()
    LIKELIHOODS[name](3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", BUILDERS)
def test_first_weights_come_from_the_generator_alone(name):
    build = BUILDERS[name]
    first = weights(build(generator(1)))
    assert torch.isfinite(first).all()
    assert torch.equal(first, weights(build(generator(1))))
    assert not torch.equal(first, weights(build(generator(2))))
    assert not torch.equal(weights(build(None)), weights(build(None)))


def test_linear_layers_are_uniform_in_their_fan_in():
    layer = MLP(100, 200, 1, generator=generator()).layers[0]
    for parameter in (layer.weight.detach(), layer.bias.detach()):
        assert parameter.abs().max() <= 0.1
        assert parameter.abs().max() > 0.095
        # a uniform variable's standard deviation, four standard errors of 200 draws wide
        assert float(parameter.std()) == pytest.approx(0.1 / 3**0.5, rel=0.15)


def test_recurrent_gates_are_orthogonal():
    layer = gru(3, 6, generator())
    for gate in layer.weight_hh_l0.detach().chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6))
    assert layer.weight_ih_l0.abs().max() <= 6**-0.5
