"""Encoders: against a plain loop, and what must not matter to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentode.nn.encoders import ENCODERS, INITIAL_STD, STD_FLOOR, GRUEncoder, PosteriorHead

N, T, D, H, L = 5, 7, 2, 6, 3
LENGTHS = torch.tensor([7, 1, 4, 6, 2])
EXACT = {"rtol": 1e-12, "atol": 1e-12}  # the same formula in float64
REGROUPED = {"rtol": 1e-5, "atol": 1e-6}  # float32 sums in another order: other shapes take other kernels

both_ways = pytest.mark.parametrize("backwards", [True, False])
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
each_encoder = pytest.mark.parametrize("name", ENCODERS)


def encoder_of(name="gru", *, backwards=True, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    return ENCODERS[name](D, H, L, backwards=backwards, generator=g).to(dtype)


def batch(dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    times = torch.rand(N, T, generator=g, dtype=torch.float64).cumsum(1)
    mask = torch.rand(N, T, D, generator=g) < 0.7
    mask &= (torch.arange(T) < LENGTHS[:, None])[..., None]
    values = torch.where(mask, torch.randn(N, T, D, generator=g, dtype=dtype), 0.0)
    return times, values, mask, LENGTHS


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_by_hand(weights, rows):
    h = np.zeros(H)
    for x in rows:
        gx = weights["gru.weight_ih_l0"] @ x + weights["gru.bias_ih_l0"]
        gh = weights["gru.weight_hh_l0"] @ h + weights["gru.bias_hh_l0"]
        (xr, xz, xn), (hr, hz, hn) = np.split(gx, 3), np.split(gh, 3)
        r, z = sigmoid(xr + hr), sigmoid(xz + hz)
        h = (1 - z) * np.tanh(xn + r * hn) + z * h
    return h


def posterior_by_hand(encoder, times, values, mask, length):
    weights = {key: value.numpy() for key, value in encoder.state_dict().items()}
    order = range(length - 1, -1, -1) if encoder.backwards else range(length)
    rows, previous = [], None
    for i in order:
        gap = 0.0 if previous is None else abs(float(times[i]) - float(times[previous]))
        rows.append([*(values[i] * mask[i]).tolist(), *mask[i].double().tolist(), gap])
        previous = i
    hidden = np.tanh(
        weights["head.mlp.layers.0.weight"] @ gru_by_hand(weights, np.array(rows))
        + weights["head.mlp.layers.0.bias"]
    )
    out = weights["head.mlp.layers.1.weight"] @ hidden + weights["head.mlp.layers.1.bias"]
    return out[:L], np.log1p(np.expm1(INITIAL_STD) * np.exp(out[L:])) + STD_FLOOR


@both_ways
def test_gru_against_a_plain_loop(backwards):
    encoder = encoder_of(backwards=backwards)
    with torch.no_grad():  # biases start at zero, where a forgotten one would not show
        encoder.gru.bias_ih_l0.copy_(torch.linspace(-1, 1, 3 * H))
        encoder.gru.bias_hh_l0.copy_(torch.linspace(1, -0.5, 3 * H))
    times, values, mask, lengths = batch()
    q = encoder(times, values, mask, lengths)
    for i in range(N):
        mean, std = posterior_by_hand(encoder, times[i], values[i], mask[i], int(lengths[i]))
        np.testing.assert_allclose(q.mean[i].detach(), mean, **EXACT)
        np.testing.assert_allclose(q.std[i].detach(), std, **EXACT)


@each_encoder
@both_ways
@each_dtype
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30])
def test_unobserved_cells_and_padding_cannot_matter(name, backwards, dtype, poison):
    encoder = encoder_of(name, backwards=backwards, dtype=dtype)
    times, values, mask, lengths = batch(dtype)
    padding = torch.arange(T) >= lengths[:, None]
    poisoned = (
        times.masked_fill(padding, poison),
        values.masked_fill(~mask, poison),
        mask | padding[..., None],
    )
    results = []
    for t, v, m in ((times, values, mask), poisoned):
        v = v.clone().requires_grad_()
        q = encoder(t, v, m, lengths)
        grads = torch.autograd.grad((q.mean.sum() + q.std.sum()), [v, *encoder.parameters()])
        results.append([*q, *grads])
    for clean, dirty in zip(*results):
        assert torch.equal(clean, dirty)
    assert results[0][0].dtype == dtype


@each_encoder
@both_ways
def test_more_padding_and_other_company_change_nothing(name, backwards):
    encoder = encoder_of(name, backwards=backwards, dtype=torch.float32)
    times, values, mask, lengths = batch(torch.float32)
    q = encoder(times, values, mask, lengths)
    for i, length in enumerate(lengths.tolist()):
        row, rest = slice(i, i + 1), slice(0, length)
        alone = encoder(times[row, rest], values[row, rest], mask[row, rest], lengths[row])
        torch.testing.assert_close(alone.mean[0], q.mean[i], **REGROUPED)
        torch.testing.assert_close(alone.std[0], q.std[i], **REGROUPED)


@each_encoder
@both_ways
def test_only_gaps_matter_and_they_are_taken_in_float64(name, backwards):
    encoder = encoder_of(name, backwards=backwards, dtype=torch.float32)
    times, values, mask, lengths = batch(torch.float32)
    times = (
        times * 2**20
    ).round() / 2**20  # so that the shift below is exact in float64, and far beyond float32
    q, shifted = encoder(times, values, mask, lengths), encoder(times + 2.0**30, values, mask, lengths)
    assert torch.equal(q.mean, shifted.mean)
    stretched = encoder(2 * times, values, mask, lengths)
    assert not torch.allclose(q.mean[0], stretched.mean[0], atol=1e-3)


@each_encoder
def test_the_directions_differ_unless_there_is_one_row(name):
    data = batch()
    ways = [encoder_of(name, backwards=backwards)(*data).mean for backwards in (True, False)]
    same = torch.isclose(*ways).all(1)
    assert torch.equal(same, LENGTHS == 1)


@each_encoder
@both_ways
def test_reading_backwards_is_reading_the_mirrored_series(name, backwards):
    times, values, mask, _ = batch()
    lengths = torch.full((N,), T)
    q = encoder_of(name, backwards=backwards)(times, values, mask, lengths)
    mirrored = encoder_of(name, backwards=not backwards)(
        -times.flip(1), values.flip(1), mask.flip(1), lengths
    )
    torch.testing.assert_close(q.mean, mirrored.mean, **EXACT)


@each_encoder
def test_nothing_observed_at_all_is_legal(name):
    encoder = encoder_of(name)
    times, values, mask, lengths = batch()
    nothing = encoder(times, values, torch.zeros_like(mask), lengths)
    assert torch.isfinite(nothing.mean).all()


def test_a_series_without_rows_leaves_the_first_state_as_it_is():
    encoder = encoder_of()
    with torch.no_grad():
        encoder.gru.bias_ih_l0.fill_(0.5)  # so that reading anything, even zeros, would show
    times, values, mask, lengths = batch()
    empty = encoder(times, values, mask, torch.zeros_like(lengths))
    expected = encoder.head(torch.zeros(N, H, dtype=torch.float64))
    torch.testing.assert_close(empty.mean, expected.mean, **EXACT)
    torch.testing.assert_close(empty.std, expected.std, **EXACT)


@each_encoder
@both_ways
def test_gradients(name, backwards):
    encoder = encoder_of(name, backwards=backwards)
    times, values, mask, lengths = batch()
    inputs = (times.requires_grad_(), values.requires_grad_())
    assert torch.autograd.gradcheck(lambda t, v: encoder(t, v, mask, lengths), inputs)


def test_the_first_spread_is_moderate():
    g = torch.Generator().manual_seed(3)
    encoder = GRUEncoder(41, 40, 20, generator=g)
    mask = torch.rand(50, 60, 41, generator=g) < 0.2
    values = torch.randn(50, 60, 41, generator=g)
    times = torch.rand(50, 60, generator=g, dtype=torch.float64).cumsum(1)
    q = encoder(times, values, mask, torch.full((50,), 60))
    assert q.std.min() > 0.1
    assert q.std.max() < 1


@pytest.mark.parametrize("size", [1.0, 1e30])
def test_the_spread_is_positive_and_bounded_whatever_is_read(size):
    head = PosteriorHead(H, L, torch.Generator().manual_seed(0))
    with torch.no_grad():
        head.mlp.layers[1].bias.fill_(-1e4)
    q = head(torch.full((1, H), size))
    assert (q.std >= STD_FLOOR).all()
    assert torch.isfinite(q.kl()).all()


def test_gradients_stay_finite_on_wild_values():
    encoder = encoder_of(dtype=torch.float32)
    times, values, mask, lengths = batch(torch.float32)
    q = encoder(1e6 * times, 1e6 * values, mask, lengths)
    q.kl().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())
