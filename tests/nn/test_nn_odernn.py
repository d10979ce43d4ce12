"""The ODE-RNN encoder: against a loop over one series at a time, and what must not matter to it."""

from __future__ import annotations

import numpy as np
import pytest
import tolerances
import torch
from scipy.integrate import solve_ivp as scipy_solve

from latentode.nn.encoders import ODERNNEncoder
from latentode.nn.encoders.relaxation import Relaxation

D, H, F, L, T = 2, 6, 5, 3, 7
LENGTHS = torch.tensor([3, 7, 1, 0, 6])
EXACT = {"rtol": 1e-12, "atol": 1e-12}  # the same formula in float64
REGROUPED = {"rtol": 1e-5, "atol": 1e-6}  # float32 sums in another order: other shapes take other kernels
SOLVED = {"rtol": tolerances.SCIPY, "atol": tolerances.SCIPY}  # both solve to 1e-10

both_ways = pytest.mark.parametrize("backwards", [True, False], ids=["backwards", "forwards"])
each_scheme = pytest.mark.parametrize(
    "options", [{}, {"n_steps": 3}, {"solver": "dopri5"}], ids=["one step", "three steps", "dopri5"]
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def encoder_of(*, backwards=True, dtype=torch.float64, **options):
    encoder = ODERNNEncoder(D, H, L, backwards=backwards, field_dim=F, generator=generator(), **options)
    with torch.no_grad():  # biases start at zero, where a forgotten one would not show
        encoder.gru.bias_ih_l0.copy_(torch.linspace(-1, 1, 3 * H))
        encoder.gru.bias_hh_l0.copy_(torch.linspace(1, -0.5, 3 * H))
    return encoder.to(dtype)


def batch(dtype=torch.float64):
    """Two rows at one time, and rows without any observed cell, also at the ends."""
    g = generator(1)
    times = 2 * torch.rand(len(LENGTHS), T, generator=g, dtype=torch.float64).cumsum(1)
    times[1, 3] = times[1, 2]
    mask = torch.rand(len(LENGTHS), T, D, generator=g) < 0.7
    mask &= (torch.arange(T) < LENGTHS[:, None])[..., None]
    mask[1, 0] = mask[1, 6] = mask[1, 4] = False
    values = torch.where(mask, torch.randn(*mask.shape, generator=g, dtype=dtype), 0.0)
    return times, values, mask, LENGTHS


def goal(encoder, h):
    weights = {key: value.numpy() for key, value in encoder.flow.mlp.state_dict().items()}
    hidden = np.tanh(weights["layers.0.weight"] @ h + weights["layers.0.bias"])
    return np.tanh(weights["layers.1.weight"] @ hidden + weights["layers.1.bias"])


def rate(encoder):
    return np.log1p(np.exp(encoder.flow.raw_rate.detach().numpy()))


def stepped(encoder, h, gap):
    """The exponential midpoint rule."""
    step = gap / encoder.n_steps
    for _ in range(encoder.n_steps):
        half, whole = np.exp(-rate(encoder) * step / 2), np.exp(-rate(encoder) * step)
        midway = half * h + (1 - half) * goal(encoder, h)
        h = whole * h + (1 - whole) * goal(encoder, midway)
    return h


def solved(encoder, h, gap):
    if gap == 0:
        return h
    answer = scipy_solve(
        lambda _, h: rate(encoder) * (goal(encoder, h) - h),
        (0, gap),
        h,
        rtol=1e-11,
        atol=1e-11,
        method="DOP853",
    )
    return answer.y[:, -1]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_cell(encoder, h, x):
    w = {key: value.numpy() for key, value in encoder.gru.state_dict().items()}
    gx = w["weight_ih_l0"] @ x + w["bias_ih_l0"]
    gh = w["weight_hh_l0"] @ h + w["bias_hh_l0"]
    (xr, xz, xn), (hr, hz, hn) = np.split(gx, 3), np.split(gh, 3)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    return (1 - z) * np.tanh(xn + r * hn) + z * h


def summary_by_hand(encoder, flow, times, values, mask, length):
    """Algorithm 1 of Rubanova et al. on one series."""
    h, previous = np.zeros(H), None
    for i in range(length - 1, -1, -1) if encoder.backwards else range(length):
        if previous is not None:
            h = flow(encoder, h, abs(float(times[i] - times[previous])))
        if mask[i].any():
            h = gru_cell(encoder, h, np.array([*(values[i] * mask[i]).tolist(), *mask[i].double().tolist()]))
        previous = i
    return torch.from_numpy(h)


@both_ways
@pytest.mark.parametrize(
    ("options", "flow", "tolerance"),
    [
        ({}, stepped, EXACT),
        ({"n_steps": 3}, stepped, EXACT),
        ({"n_steps": 2000}, solved, {"rtol": 1e-6, "atol": 1e-6}),  # second order: (gap / 2000)²
        ({"solver": "dopri5", "rtol": 1e-10, "atol": 1e-10}, solved, SOLVED),
    ],
    ids=["one step", "three steps", "many steps", "dopri5"],
)
def test_against_a_loop_over_each_series(options, flow, tolerance, backwards):
    encoder = encoder_of(backwards=backwards, **options)
    times, values, mask, lengths = batch()
    with torch.no_grad():
        q = encoder(times, values, mask, lengths)
        for i, length in enumerate(lengths.tolist()):
            h = summary_by_hand(encoder, flow, times[i], values[i], mask[i], length)
            expected = encoder.head(h[None])
            torch.testing.assert_close(q.mean[i], expected.mean[0], **tolerance)
            torch.testing.assert_close(q.std[i], expected.std[0], **tolerance)


@both_ways
@each_scheme
@pytest.mark.parametrize("poison", [torch.nan, 1e30])
def test_unobserved_cells_and_padding_cannot_matter(options, backwards, poison):
    encoder = encoder_of(backwards=backwards, **options)
    times, values, mask, lengths = batch()
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
        results.append([*q, *torch.autograd.grad(q.mean.sum() + q.std.sum(), [v, *encoder.parameters()])])
    for clean, dirty in zip(*results):
        assert torch.equal(clean, dirty)


@both_ways
@each_scheme
def test_order_company_and_padding_change_nothing(options, backwards):
    encoder = encoder_of(backwards=backwards, dtype=torch.float32, **options)
    times, values, mask, lengths = batch(torch.float32)
    q = encoder(times, values, mask, lengths)
    rows = torch.tensor([4, 3, 1, 0, 2])
    shuffled = encoder(times[rows], values[rows], mask[rows], lengths[rows])
    torch.testing.assert_close(shuffled.mean, q.mean[rows], **REGROUPED)
    for i, length in enumerate(lengths.tolist()):
        row, rest = slice(i, i + 1), slice(0, max(length, 1))
        alone = encoder(times[row, rest], values[row, rest], mask[row, rest], lengths[row])
        torch.testing.assert_close(alone.mean[0], q.mean[i], **REGROUPED)
        torch.testing.assert_close(alone.std[0], q.std[i], **REGROUPED)


@both_ways
@each_scheme
def test_gradients(options, backwards):
    encoder = encoder_of(backwards=backwards, **options)
    times, values, mask, lengths = batch()
    times[1, 3] += 0.1  # the gap of two rows at one time has a derivative on one side only
    if "solver" in options:
        times, values, mask, lengths = (
            x[:1] for x in (times, values, mask, lengths)
        )  # seconds for all of them
    sources = [times.requires_grad_(), values.requires_grad_()]
    # gradcheck moves the parameters in place, so that the encoder need not take them as arguments
    some = (encoder.flow.raw_rate, encoder.gru.bias_hh_l0, encoder.gru.bias_ih_l0)
    assert torch.autograd.gradcheck(lambda t, v, *_: encoder(t, v, mask, lengths), (*sources, *some))


@each_scheme
def test_a_row_without_observed_cells_only_lets_time_pass(options):
    """Rows at the time of their neighbour, with nothing in them, leave the answer as it is."""
    encoder = encoder_of(**options)
    times, values, mask, _ = (x[1:2, [1, 2]] if x.ndim > 1 else x for x in batch())
    lengths = torch.tensor([2])
    mask[:] = True
    q = encoder(times, values, mask, lengths)
    with_empty = [x[:, [0, 0, 0, 1, 1]] for x in (times, values, mask)]
    with_empty[2][:, [0, 2, 4]] = False
    more = encoder(*with_empty, torch.tensor([5]))
    torch.testing.assert_close(more.mean, q.mean, **EXACT)
    torch.testing.assert_close(more.std, q.std, **EXACT)


def test_gaps_matter_but_not_where_time_begins():
    encoder = encoder_of(dtype=torch.float32)
    times, values, mask, lengths = batch(torch.float32)
    times = (times * 2**20).round() / 2**20  # the shift is exact in float64, and far beyond float32
    q, shifted = (encoder(times + shift, values, mask, lengths) for shift in (0, 2.0**30))
    assert torch.equal(q.mean, shifted.mean)
    assert not torch.allclose(q.mean[0], encoder(3 * times, values, mask, lengths).mean[0], atol=1e-3)


@pytest.mark.parametrize("gap", [0.0, 1e-6, 1.0, 1e3, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_gap_leads_out_of_the_range_of_the_state(dtype, gap):
    flow = Relaxation(H, F, generator()).to(dtype)
    with torch.no_grad():
        for parameter in flow.mlp.parameters():
            parameter *= 30  # steep: an explicit step of this length would leave
    h = 2 * torch.rand(50, H, generator=generator(), dtype=dtype) - 1
    h.requires_grad_()
    half = flow.keeps(torch.full((50,), gap / 2, dtype=dtype))
    after = flow.step(h, half, half.square())
    assert (after.abs() <= 1).all()
    grads = torch.autograd.grad(after.sum(), [h, *flow.parameters()])
    assert all(torch.isfinite(grad).all() for grad in grads)
    if gap == 0:
        assert torch.equal(after, h)


def test_the_step_is_of_second_order():
    flow = Relaxation(H, F, generator()).double()
    h = torch.rand(1, H, generator=generator(), dtype=torch.float64)

    def end(n):
        half = flow.keeps(torch.full((1,), 2.0 / n / 2, dtype=torch.float64))
        state = h
        for _ in range(n):
            state = flow.step(state, half, half.square())
        return state

    exact = end(4096)
    errors = [float((end(n) - exact).norm().detach()) for n in (8, 16, 32, 64)]
    slope = np.polyfit(np.log([8, 16, 32, 64]), np.log(errors), 1)[0]
    assert slope == pytest.approx(-2, abs=tolerances.SLOPE)


def test_work_follows_the_number_of_rows(monkeypatch):
    """No step computes a series whose rows have ended."""
    sizes = []
    updated = ODERNNEncoder._updated

    def counted(self, h, *read):
        sizes.append(len(h))
        return updated(self, h, *read)

    monkeypatch.setattr(ODERNNEncoder, "_updated", counted)
    encoder = encoder_of()
    encoder.engine = "torch"
    encoder(*batch())
    assert sizes == [4, 3, 3, 2, 2, 2, 1]  # of lengths 7, 6, 3, 1 and 0
    assert sum(sizes) == int(LENGTHS.sum())


def test_steps_are_counted_from_one():
    with pytest.raises(ValueError, match="n_steps must be a number of steps per gap, 1 or more; got 0"):
        ODERNNEncoder(D, H, L, n_steps=0)


@pytest.mark.parametrize("given", [True, False], ids=["generator", "none"])
def test_global_random_state_is_neither_read_nor_set(given):
    before = torch.get_rng_state()
    ODERNNEncoder(D, H, L, generator=generator() if given else None)(*batch(torch.float32))
    assert torch.equal(torch.get_rng_state(), before)
