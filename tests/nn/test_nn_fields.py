"""What every field promises: its inputs, its clock, its rows, and where its randomness comes from."""

from __future__ import annotations

import pytest
import tolerances
import torch

from latentode.nn.fields import FIELDS, GatedField, MLPField

L, H, S, C, N = 3, 5, 2, 1, 4
EXACT = {"rtol": tolerances.ROUNDING, "atol": tolerances.ROUNDING}

each_field = pytest.mark.parametrize("name", FIELDS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=1, scale=1.0):
    return scale * torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def field_of(name, *, latent_dim=L, n_static=S, n_controls=C, time_dependent=True, **options):
    field = FIELDS[name](
        latent_dim,
        H,
        n_static=n_static,
        n_controls=n_controls,
        time_dependent=time_dependent,
        generator=generator(),
        **options,
    ).double()
    with torch.no_grad():  # some weights start at 0, where forgetting them would not show
        for i, parameter in enumerate(field.parameters()):
            parameter += randn(*parameter.shape, seed=10 + i, scale=0.3)
    return field


def arguments():
    return randn(N, seed=2).abs(), randn(N, L, seed=3), randn(N, S + C, seed=4)


@each_field
def test_each_input_matters_to_its_own_row_only(name):
    field, (t, z, inputs) = field_of(name), arguments()
    before = field(t, z, inputs)
    for column in range(S + C):
        changed = inputs.clone()
        changed[1, column] += 1
        differs = (field(t, z, changed) != before).any(1)
        assert differs.tolist() == [False, True, False, False]


@each_field
def test_rows_may_come_in_any_order_and_company(name):
    field, (t, z, inputs) = field_of(name), arguments()
    rows = torch.tensor([3, 1])
    torch.testing.assert_close(field(t[rows], z[rows], inputs[rows]), field(t, z, inputs)[rows], **EXACT)


@each_field
@pytest.mark.parametrize("time_dependent", [True, False])
def test_only_a_time_dependent_field_looks_at_the_clock(name, time_dependent):
    field, (t, z, inputs) = field_of(name, time_dependent=time_dependent), arguments()
    assert field.time_dependent == time_dependent
    same = torch.equal(field(t, z, inputs), field(t + 1, z, inputs))
    assert same != time_dependent


@each_field
def test_without_inputs_none_are_needed(name):
    field, (t, z, _) = field_of(name, n_static=0, n_controls=0), arguments()
    assert field.n_inputs == 0
    assert torch.equal(field(t, z), field(t, z, torch.zeros(N, 0, dtype=torch.float64)))


@each_field
@pytest.mark.parametrize(("n_static", "n_controls"), [(S, 0), (0, C)], ids=["static", "controls"])
def test_either_kind_of_input_alone(name, n_static, n_controls):
    field, (t, z, _) = field_of(name, n_static=n_static, n_controls=n_controls), arguments()
    inputs = randn(N, n_static + n_controls, seed=5)
    assert not torch.allclose(field(t, z, inputs), field(t, z, inputs + 1))


@each_field
@pytest.mark.parametrize("given", [None, torch.zeros(N, S + C + 1)], ids=["none", "too wide"])
def test_inputs_of_another_width_are_refused(name, given):
    field, (t, z, _) = field_of(name), arguments()
    got = "none" if given is None else "width 4"
    with pytest.raises(
        ValueError, match=rf"inputs of width 3 \(2 static covariates, 1 controls\); got {got}"
    ):
        field(t, z, given)


@each_field
def test_inputs_to_a_field_without_any_are_refused(name):
    field, (t, z, inputs) = field_of(name, n_static=0, n_controls=0), arguments()
    with pytest.raises(ValueError, match=r"inputs of width 0 .* got width 3"):
        field(t, z, inputs)


@each_field
def test_gradients_reach_everything(name):
    field, (t, z, inputs) = field_of(name), arguments()
    sources = [x.requires_grad_() for x in (t, z, inputs)]
    # gradcheck moves the parameters in place, so that the field need not take them as arguments
    assert torch.autograd.gradcheck(lambda *a: field(*a[:3]), (*sources, *field.parameters()))


@each_field
def test_the_state_keeps_its_dtype(name):
    field, (t, z, inputs) = field_of(name).float(), arguments()
    assert field(t, z.float(), inputs).dtype == torch.float32


@each_field
def test_global_random_state_is_neither_read_nor_set(name):
    before = torch.get_rng_state()
    FIELDS[name](L, H, n_static=S, n_controls=C, time_dependent=True)
    assert torch.equal(torch.get_rng_state(), before)


@each_field
def test_first_weights_come_from_the_generator_alone(name):
    first, again, other = (
        FIELDS[name](L, H, n_static=S, n_controls=C, generator=generator(seed)).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_mlp_sees_state_then_clock_then_inputs():
    field, (t, z, inputs) = field_of("mlp"), arguments()
    assert isinstance(field, MLPField)
    expected = field.mlp(torch.cat([z, t[:, None], inputs], dim=1))
    torch.testing.assert_close(field(t, z, inputs), expected, **EXACT)


def test_gated_is_the_formula():
    field, (t, z, inputs) = field_of("gated"), arguments()
    seen = torch.cat([z, t[:, None], inputs], dim=1)
    expected = (1 + field.raw_speed.exp()).log() * field.mlp(seen).tanh()
    torch.testing.assert_close(field(t, z, inputs), expected, **EXACT)


def test_gated_never_exceeds_its_speed():
    field = GatedField(L, H, generator=generator()).double()
    torch.testing.assert_close(field.speed.detach(), torch.ones(L, dtype=torch.float64), rtol=1e-6, atol=0)
    with torch.no_grad():
        field.raw_speed.copy_(torch.tensor([-5.0, 0.0, 5.0]))
        for parameter in field.mlp.parameters():
            parameter *= 100
    dz = field(torch.zeros(1000), randn(1000, L, scale=1e6))
    assert (dz.abs() <= field.speed).all()
    assert (dz.abs().amax(0) > 0.99 * field.speed).all()  # and nothing slower is meant by it
