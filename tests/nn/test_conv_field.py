"""The convolutional field: its clock, its rows, its groups."""

from __future__ import annotations

import pytest
import torch
from tolerances import ROUNDING, ROUNDING_SINGLE
from torch.nn import functional

from latentode.nn.fields.convolutional import ConvField, TimeConv2d, group_norm
from latentode.nn.image_stem import ImageStem
from latentode.nn.residual import ConvResidual, VectorResidual

EXACT = {"rtol": ROUNDING, "atol": ROUNDING}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def field_of(channels):
    """Weights and norms of which none is 0 or 1, where forgetting them would not show."""
    field = ConvField(channels, generator=generator()).double()
    with torch.no_grad():
        for seed, parameter in enumerate(field.parameters()):
            parameter += 0.3 * randn(*parameter.shape, seed=seed)
    return field


# --- the clock


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6)], ids=str)
def test_time_is_convolved_as_one_more_channel(size):
    layer = TimeConv2d(3, 4, generator()).double()
    t, x = randn(5), randn(5, 3, *size, seed=1)
    clock = t[:, None, None, None].expand(5, 1, *size)
    kernel = torch.cat([layer.image.weight, layer.time], dim=1)
    expected = functional.conv2d(torch.cat([x, clock], dim=1), kernel, layer.image.bias, padding=1)
    torch.testing.assert_close(layer(t, x), expected, **EXACT)


def test_time_is_weighed_as_one_channel_among_the_others():
    """Of the same spread at the start, whatever the number of channels."""
    layer = TimeConv2d(64, 64, generator())
    bound = (64 * 9) ** -0.5
    for weight in (layer.image.weight, layer.time):
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.95 * bound


def test_each_clock_moves_its_own_row_only():
    field, t, y = field_of(4), randn(3), randn(3, 4, 5, 5, seed=1)
    later = t + torch.tensor([0.0, 1.0, 0.0])
    moved = (field(later, y) != field(t, y)).flatten(1).any(1)
    assert moved.tolist() == [False, True, False]


def test_float32_stays_float32_beside_clocks_in_float64():
    field = ConvField(4, generator=generator())
    assert field(torch.zeros(2, dtype=torch.float64), torch.zeros(2, 4, 3, 3)).dtype == torch.float32


# --- rows


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 64])
def test_rows_depend_on_neither_company_nor_order(channels):
    field, t, y = field_of(channels), randn(5), randn(5, channels, 4, 3, seed=1)
    together = field(t, y)
    assert together.shape == y.shape
    rows = torch.tensor([3, 0, 4])
    torch.testing.assert_close(field(t[rows], y[rows]), together[rows], **EXACT)
    torch.testing.assert_close(field(t[2:3], y[2:3]), together[2:3], **EXACT)


# --- groups


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (7, 1), (9, 3), (64, 32), (66, 22), (96, 32)],
)
def test_groups_have_at_least_two_channels_and_divide_them(channels, groups):
    norm = group_norm(channels)
    assert norm.num_groups == groups
    x = 3 + 5 * randn(2, channels, 4, 4).float()
    grouped = norm(x).view(2, groups, -1)
    torch.testing.assert_close(grouped.mean(2), torch.zeros(2, groups), rtol=0, atol=ROUNDING_SINGLE)
    torch.testing.assert_close(
        grouped.var(2, unbiased=False), torch.ones(2, groups), rtol=0, atol=1e-4
    )  # eps = 1e-5


# --- stem and residual blocks, which share the parts


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 28, 28), (7, 7)),
        ((3, 8, 8), (4, 4)),
        ((2, 16, 9), (8, 4)),
        ((1, 7, 30), (7, 30)),
        ((5, 1, 1), (1, 1)),
    ],
    ids=str,
)
def test_the_stem_halves_what_is_large_enough(shape, expected):
    stem = ImageStem(shape, 6, generator())
    assert stem(torch.zeros(2, *shape)).shape == (2, 6, *expected)


def test_residual_blocks_without_their_last_layer_are_the_identity():
    convolutional, vector = ConvResidual(4, generator()), VectorResidual(3, 8, 2, "tanh", generator())
    for block, last, x in (
        (convolutional, convolutional.convolutions[-1], randn(2, 4, 3, 3).float()),
        (vector, vector.mlp.layers[-1], randn(2, 3).float()),
    ):
        assert not torch.equal(block(x), x)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        assert torch.equal(block(x), x)


def test_weights_come_from_the_generator_alone():
    before = torch.random.get_rng_state()
    made = [
        [
            *ConvField(4, generator=generator(seed)).parameters(),
            *ConvResidual(4, generator(seed)).parameters(),
        ]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(made[0], made[1]))
    assert any((a != b).any() for a, b in zip(made[0], made[2]))
