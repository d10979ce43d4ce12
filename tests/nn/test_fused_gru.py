"""Encoders by the native kernels, against the same encoders by torch."""

from __future__ import annotations

import sys
from itertools import product

import pytest
import torch
import torch.nn.utils.parametrize
from instruction_sets import libraries
from torch import nn

from latentode.native.gru import Rows, Way, gru_forward
from latentode.native.library import library, why_absent
from latentode.nn.encoders import ENCODERS
from latentode.nn.encoders.fused_gru import gru_weights

needs_native = pytest.mark.skipif(library() is None, reason=f"no native kernels: {why_absent()}")

EXACT = {"rtol": 1e-12, "atol": 1e-13}  # float64: sums of up to 200 products in another order
SINGLE = {"rtol": 1e-5, "atol": 2e-6}  # the same in float32, over up to 40 steps
CLOSE = {torch.float64: EXACT, torch.float32: SINGLE}

each_encoder = pytest.mark.parametrize("name", ENCODERS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
both_ways = pytest.mark.parametrize("backwards", [True, False])

SHAPES = [  # N, T, D, H
    (0, 5, 2, 3),
    (1, 1, 1, 1),
    (3, 0, 2, 4),
    (1, 40, 1, 3),
    (7, 5, 3, 5),
    (17, 40, 2, 25),
    (33, 34, 5, 16),
    (100, 6, 2, 64),
    (16, 65, 20, 12),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def encoder_of(name="gru", n_targets=2, hidden=6, *, backwards=True, dtype=torch.float64, **options):
    encoder = ENCODERS[name](n_targets, hidden, 3, backwards=backwards, generator=generator(), **options)
    with torch.no_grad():  # biases start at zero, where a forgotten one would not show
        for param in encoder.parameters():
            param.add_(torch.randn(param.shape, generator=generator(len(param))), alpha=0.1)
    return encoder.to(dtype)


def batch(n=17, n_times=9, n_targets=2, dtype=torch.float64, seed=1):
    """Ragged series, some without any row, some rows and all of series 2 without an observed cell."""
    g = generator(seed)
    times = torch.rand(n, n_times, generator=g, dtype=torch.float64).cumsum(1)
    lengths = torch.randint(0, n_times + 1, (n,), generator=g)
    lengths[:1] = n_times
    mask = torch.rand(n, n_times, n_targets, generator=g) < 0.5
    mask[2:3] = False
    return times, torch.randn(n, n_times, n_targets, generator=g, dtype=dtype), mask, lengths


def posterior(encoder, engine, *inputs):
    encoder.engine = engine
    q = encoder(*inputs)
    return torch.stack([q.mean, q.std])


def answers(encoder, engine, *inputs):
    """The posterior and the gradients of a weighted sum of it."""
    out = posterior(encoder, engine, *inputs)
    weights = torch.randn(out.shape, generator=generator(2), dtype=out.dtype)
    params = list(encoder.parameters())
    found = torch.autograd.grad((weights * out).sum(), params, allow_unused=True)
    return out, [torch.zeros_like(p) if g is None else g for p, g in zip(params, found)]


def assert_same(ours, theirs, dtype):
    close = CLOSE[dtype]
    torch.testing.assert_close(ours[0], theirs[0], **close)
    for our, their in zip(ours[1], theirs[1], strict=True):
        scale = (
            float(their.abs().max()) if their.numel() else 0.0
        )  # sums over rows and series, in parts of the largest
        torch.testing.assert_close(our, their, rtol=0, atol=close["atol"] + 2 * close["rtol"] * scale)


@needs_native
@each_encoder
@each_dtype
@both_ways
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_torch(name, dtype, backwards, shape):
    n, n_times, n_targets, hidden = shape
    encoder = encoder_of(name, n_targets, hidden, backwards=backwards, dtype=dtype)
    inputs = batch(n, n_times, n_targets, dtype)
    assert_same(answers(encoder, "native", *inputs), answers(encoder, "torch", *inputs), dtype)


@needs_native
@pytest.mark.parametrize(("field_dim", "n_steps"), [(1, 1), (5, 2), (13, 3)])
def test_flows_of_other_widths_and_more_steps(field_dim, n_steps):
    encoder = encoder_of("odernn", hidden=6, field_dim=field_dim, n_steps=n_steps)
    inputs = batch(19, 40)
    assert_same(answers(encoder, "native", *inputs), answers(encoder, "torch", *inputs), torch.float64)


@needs_native
@each_encoder
def test_times_in_single_precision_and_strides_of_any_kind(name):
    encoder = encoder_of(name, dtype=torch.float32)
    times, values, mask, lengths = batch(dtype=torch.float32)
    turned = values.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    picked = torch.stack([mask, ~mask], dim=-1)[..., 0]
    spread = torch.stack([lengths, lengths], dim=1)[:, 0]
    inputs = times.float().T.contiguous().T, turned, picked, spread
    assert_same(answers(encoder, "native", *inputs), answers(encoder, "torch", *inputs), torch.float32)


@needs_native
@each_encoder
@both_ways
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e30])
def test_padding_and_masked_cells_cannot_reach_the_result(name, backwards, junk):
    encoder = encoder_of(name, backwards=backwards)
    times, values, mask, lengths = batch()
    padding = torch.arange(times.shape[1]) >= lengths[:, None]
    spoiled = times.masked_fill(padding, junk), values.masked_fill(padding[..., None] | ~mask, junk)
    noisy = mask | padding[..., None]
    clean = answers(encoder, "native", times, values, mask, lengths)
    dirty = answers(encoder, "native", *spoiled, noisy, lengths)
    torch.testing.assert_close(dirty, clean, rtol=0, atol=0)


@needs_native
@each_encoder
def test_a_series_does_not_see_its_neighbours(name):
    """Lanes of one vector: the posterior is the same to the last bit in any company and order."""
    encoder = encoder_of(name, hidden=25, dtype=torch.float32)
    inputs = batch(21, dtype=torch.float32)
    states = states_of(encoder, *inputs)
    some = torch.tensor([20, 3, 11, 0])
    assert torch.equal(states_of(encoder, *(x[some] for x in inputs)), states[some])


def states_of(encoder, *inputs):
    weights = gru_weights(encoder.gru)
    if hasattr(encoder, "flow"):
        way = Way(encoder.backwards, gap_input=False, skip_empty=True, flow_steps=encoder.n_steps)
        return gru_forward(Rows(*inputs), weights + encoder.flow.plain_weights(), way)[0]
    return gru_forward(Rows(*inputs), weights, Way(encoder.backwards, gap_input=True, skip_empty=False))[0]


@needs_native
@each_encoder
def test_gradients_by_finite_differences(name):
    """And second derivatives, which torch makes of the same states."""
    encoder = encoder_of(name, 1, 2)
    encoder.engine = "native"
    inputs = batch(3, 4, 1)
    params = {key: param.detach().requires_grad_() for key, param in encoder.named_parameters()}

    def mean(*values):
        for key, value in zip(params, values):
            owner, _, leaf = key.rpartition(".")
            module = encoder.get_submodule(owner)
            module._parameters[leaf] = value  # not functional_call, under which the kernels serve as well
        return encoder(*inputs).mean

    assert torch.autograd.gradcheck(mean, tuple(params.values()))
    assert torch.autograd.gradgradcheck(mean, tuple(params.values()))


@needs_native
@each_encoder
def test_jacobians_of_all_rows_at_once(name):
    encoder = encoder_of(name)
    inputs = batch()
    params = list(encoder.gru.parameters())
    directions = torch.randn(4, 17, 3, dtype=torch.float64, generator=generator())

    def jacobians(engine):
        encoder.engine = engine
        mean = encoder(*inputs).mean
        return torch.autograd.grad(mean, params, directions, is_grads_batched=True)

    torch.testing.assert_close(jacobians("native"), jacobians("torch"), **EXACT)


@needs_native
@each_encoder
def test_frozen_weights_get_no_gradient(name):
    encoder = encoder_of(name)
    encoder.gru.weight_hh_l0.requires_grad_(False)
    others = [param for param in encoder.parameters() if param.requires_grad]
    total = posterior(encoder, "native", *batch()).square().sum()
    graphed = torch.autograd.grad(total, others, create_graph=True)
    total.backward()
    assert encoder.gru.weight_hh_l0.grad is None
    torch.testing.assert_close([param.grad for param in others], list(graphed), **EXACT)


@needs_native
@each_encoder
def test_a_weight_changed_in_place_is_noticed(name):
    encoder = encoder_of(name)
    loss = posterior(encoder, "native", *batch()).sum()
    with torch.no_grad():
        encoder.gru.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@needs_native
@each_encoder
@each_dtype
def test_threads(name, dtype, threads):
    """The same numbers twice; with more threads the same posterior, and gradients summed in another order."""
    encoder = encoder_of(name, hidden=32, dtype=dtype)
    inputs = batch(90, 40, dtype=dtype)
    threads(1)
    one = answers(encoder, "native", *inputs)
    threads(3)
    three, again = (answers(encoder, "native", *inputs) for _ in range(2))
    torch.testing.assert_close(three, again, rtol=0, atol=0)
    assert torch.equal(one[0], three[0])
    assert any(not torch.equal(a, b) for a, b in zip(one[1], three[1]))  # so threads were at work
    assert_same(three, one, dtype)


@needs_native
@pytest.mark.parametrize("isa", ["portable", "avx2"])
def test_other_instruction_sets(isa, monkeypatch):
    """What the tests of this file saw on this machine holds for older ones."""
    if isa not in libraries():
        pytest.skip(f"this machine does not run {isa}")
    loader = sys.modules["latentode.native.library"]  # the package has a function of that name
    monkeypatch.setattr(loader, "_loaded", lambda: loader._Loaded(libraries()[isa], None))
    assert loader.instruction_set() == isa
    for name, dtype, backwards in product(["gru", "odernn"], [torch.float32, torch.float64], [False, True]):
        for shape in SHAPES:
            if 17 in shape:
                test_equals_torch(name, dtype, backwards, shape)
    for field_dim, n_steps in ((1, 1), (5, 2), (13, 3)):
        test_flows_of_other_widths_and_more_steps(field_dim, n_steps)


# ---- where torch has to serve ---------------------------------------------------------------------------------------


def is_fused(encoder, inputs, engine="auto"):
    """Whether the kernels are called."""
    encoder.engine = engine
    open_, seen = [encoder(*inputs).mean.grad_fn], set()
    while open_:
        node = open_.pop()
        if node is not None and node not in seen:
            seen.add(node)
            open_ += [after for after, _ in node.next_functions]
    return "_FusedStatesBackward" in {node.name() for node in seen}


@needs_native
@each_encoder
def test_auto_takes_the_kernels(name):
    encoder = encoder_of(name)
    assert is_fused(encoder, batch())
    assert not is_fused(encoder, batch(), engine="torch")


def hooked(encoder, inputs):
    encoder.gru.register_forward_hook(lambda *_: None)
    return inputs


def hooked_backward(encoder, inputs):
    encoder.gru.register_full_backward_hook(lambda *_: None)
    return inputs


def parametrised(encoder, inputs):
    nn.utils.parametrize.register_parametrization(encoder.gru, "weight_hh_l0", nn.Identity())
    return inputs


def with_a_forward_of_its_own(encoder, inputs):
    encoder.gru.forward = encoder.gru.forward
    return inputs


def of_two_layers(encoder, inputs):
    encoder.gru = nn.GRU(encoder.gru.input_size, 6, num_layers=2, batch_first=True).double()
    return inputs


def with_gradient_to_values(encoder, inputs):
    times, values, mask, lengths = inputs
    return times, values.requires_grad_(), mask, lengths


def with_gradient_to_times(encoder, inputs):
    times, values, mask, lengths = inputs
    return times.requires_grad_(), values, mask, lengths


TO_TORCH = [
    hooked,
    hooked_backward,
    parametrised,
    with_a_forward_of_its_own,
    with_gradient_to_values,
    with_gradient_to_times,
]


@needs_native
@each_encoder
@pytest.mark.parametrize("change", TO_TORCH)
def test_what_only_torch_can_do_goes_to_torch(name, change):
    encoder = encoder_of(name)
    inputs = change(encoder, batch())
    assert not is_fused(encoder, inputs)
    with pytest.raises(
        ValueError, match=r"engine='native' cannot read these series, because .*: use engine='auto'"
    ):
        is_fused(encoder, inputs, engine="native")


@needs_native
def test_more_layers_go_to_torch():
    encoder = encoder_of()
    assert not is_fused(encoder, of_two_layers(encoder, batch()))


@needs_native
def test_adaptive_solvers_go_to_torch():
    encoder = encoder_of("odernn", solver="dopri5")
    assert not is_fused(encoder, batch())
    with pytest.raises(ValueError, match="the fixed-step solver 'exponential'"):
        is_fused(encoder, batch(), engine="native")


@needs_native
@each_encoder
def test_gradients_to_values_are_those_of_torch(name):
    encoder = encoder_of(name)
    times, values, mask, lengths = batch()
    values.requires_grad_()
    (auto,) = torch.autograd.grad(posterior(encoder, "auto", times, values, mask, lengths).sum(), values)
    (torchs,) = torch.autograd.grad(posterior(encoder, "torch", times, values, mask, lengths).sum(), values)
    torch.testing.assert_close(auto, torchs, **EXACT)
    assert auto.abs().sum() > 0


@needs_native
@each_encoder
def test_transforms_and_forward_mode_go_to_torch(name):
    encoder = encoder_of(name)
    inputs = batch()
    params = dict(encoder.named_parameters())

    def total(params):
        return torch.func.functional_call(encoder, params, inputs).mean.sum()

    encoder.engine = "auto"
    by_func = torch.func.grad(total)(params)
    by_autograd = torch.autograd.grad(total(params), list(params.values()))
    torch.testing.assert_close(list(by_func.values()), list(by_autograd), **EXACT)


@needs_native
def test_autocast_goes_to_torch():
    encoder = encoder_of(dtype=torch.float32)
    inputs = batch(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_fused(encoder, inputs)


@needs_native
@each_encoder
def test_lengths_beyond_the_table_never_reach_the_kernels(name):
    encoder = encoder_of(name)
    times, values, mask, lengths = batch()
    with pytest.raises(ValueError, match="lengths must be between 0 and T = 9"):
        posterior(encoder, "native", times, values, mask, lengths + 9)


@each_encoder
def test_engines_have_names(name):
    encoder = encoder_of(name)
    with pytest.raises(ValueError, match="unknown engine 'nativ'"):
        posterior(encoder, "nativ", *batch())


@each_encoder
def test_without_a_library_torch_serves(name, monkeypatch):
    monkeypatch.setenv("LATENTODE_ENGINE", "torch")
    encoder = encoder_of(name)
    assert not is_fused(encoder, batch())
    with pytest.raises(ValueError, match="there are no native kernels"):
        posterior(encoder, "native", *batch())
