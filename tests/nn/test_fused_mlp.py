"""Perceptrons of decoders by the native kernels, against the same by torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.utils.parametrize
from torch import nn
from torch.func import functional_call, jacrev, vmap

from latentode.native import dense
from latentode.native.library import library, why_absent
from latentode.native.structures import ACTIVATIONS
from latentode.nn import fused_mlp
from latentode.nn.decoders import MLPDecoder
from latentode.nn.fused_mlp import WIDEST_FASTER, perceptron
from latentode.nn.mlp import MLP

needs_native = pytest.mark.skipif(library() is None, reason=f"no native kernels: {why_absent()}")
pytestmark = needs_native

CLOSE = {  # sums of up to 300 rows in another order, of numbers of size 1 to 10
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 1e-5, "atol": 3e-5},
}
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SHAPES = [  # rows, n_in, n_hidden, n_out, depth
    (0, 3, 5, 2, 1),
    (1, 1, 1, 1, 1),
    (5, 3, 7, 2, 0),
    (64, 16, 16, 2, 1),
    (65, 2, 33, 17, 2),
    (300, 20, 8, 40, 3),
]


@pytest.fixture(autouse=True)
def few_products(monkeypatch):
    """The kernels serve for networks of any size."""
    monkeypatch.setattr(fused_mlp, "FEWEST_PRODUCTS", 0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mlp_of(n_in=3, n_hidden=5, n_out=2, *, dtype=torch.float64, **options) -> MLP:
    made = MLP(n_in, n_hidden, n_out, generator=generator(), **options)
    with torch.no_grad():  # biases start at zero, where a forgotten one would not show
        for param in made.parameters():
            param.add_(torch.randn(param.shape, generator=generator(len(param))), alpha=0.1)
    return made.to(dtype)


def rows_of(n=7, n_in=3, dtype=torch.float64):
    return torch.randn(n, n_in, generator=generator(1), dtype=dtype).requires_grad_()


def answers(mlp, x, engine):
    """What it maps x to, and the gradients of a weighted sum of that."""
    y = perceptron(mlp, x, engine)
    weights = torch.randn(y.shape, generator=generator(2), dtype=y.dtype)
    return [y.detach(), *torch.autograd.grad((weights * y).sum(), [x, *mlp.parameters()])]


@pytest.fixture
def calls(monkeypatch):
    """How often the kernels were called."""
    counted = []
    run = dense._run
    monkeypatch.setattr(dense, "_run", lambda *given: (counted.append(1), run(*given))[1])
    return counted


@each_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_torch(shape, activation, dtype, calls):
    n, n_in, n_hidden, n_out, depth = shape
    mlp = mlp_of(n_in, n_hidden, n_out, depth=depth, activation=activation, dtype=dtype)
    x = rows_of(n, n_in, dtype)
    ours = answers(mlp, x, "native")
    assert len(calls) == 2
    for one, other in zip(ours, answers(mlp, x, "torch"), strict=True):
        torch.testing.assert_close(one, other, **CLOSE[dtype])
    assert len(calls) == 2


@pytest.mark.parametrize("bias", ["first", "last"])
def test_layers_without_a_bias(bias, calls):
    mlp = mlp_of()
    mlp.layers[0 if bias == "first" else -1].bias = None
    x = rows_of()
    torch.testing.assert_close(answers(mlp, x, "auto"), answers(mlp, x, "torch"))
    assert len(calls) == 2


def test_rows_in_any_arrangement_of_axes_and_strides(calls):
    mlp, x = mlp_of(), rows_of(24).detach().reshape(2, 3, 4, 3).permute(2, 0, 1, 3).requires_grad_()
    ours = answers(mlp, x, "auto")
    assert ours[0].shape == (4, 2, 3, 2)
    torch.testing.assert_close(ours, answers(mlp, x, "torch"))
    mlp.layers[0].weight = nn.Parameter(mlp.layers[0].weight.detach().T.contiguous().T)
    torch.testing.assert_close(answers(mlp, x, "auto"), answers(mlp, x, "torch"))
    assert len(calls) == 4


def test_a_row_does_not_see_its_neighbours():
    mlp, x = mlp_of(16, 25, 3, dtype=torch.float32), rows_of(200, 16, torch.float32).detach()
    some = torch.tensor([199, 3, 64, 0])
    assert torch.equal(perceptron(mlp, x[some], "native"), perceptron(mlp, x, "native")[some])


def test_gradients_by_finite_differences(calls):
    mlp, x = mlp_of(n_hidden=2, depth=2), rows_of(4)
    first = dict(mlp.named_parameters())

    def y(x, *values):
        return perceptron_with(mlp, dict(zip(first, values)), x)

    values = [param.detach().requires_grad_() for param in first.values()]
    assert torch.autograd.gradcheck(y, (x, *values))
    assert len(calls) > 10
    assert torch.autograd.gradgradcheck(y, (x, *values))


class _Native(nn.Module):
    def __init__(self, mlp):
        super().__init__()
        self.mlp = mlp

    def forward(self, x):
        return perceptron(self.mlp, x, "native")


def perceptron_with(mlp, params, x):
    return functional_call(_Native(mlp), {f"mlp.{name}": value for name, value in params.items()}, (x,))


def test_jacobians_of_all_rows_at_once():
    mlp, x = mlp_of(), rows_of()
    directions = torch.randn(4, 7, 2, dtype=torch.float64, generator=generator())
    of = [x, *mlp.parameters()]
    one, other = (
        torch.autograd.grad(perceptron(mlp, x, engine), of, directions, is_grads_batched=True)
        for engine in ("native", "torch")
    )
    torch.testing.assert_close(one, other)


def test_what_is_frozen_gets_no_gradient(calls):
    mlp, x = mlp_of(), rows_of()
    mlp.requires_grad_(False)
    perceptron(mlp, x, "auto").sum().backward()
    assert all(param.grad is None for param in mlp.parameters())
    expected = torch.autograd.grad(perceptron(mlp, x, "torch").sum(), x)[0]
    torch.testing.assert_close(x.grad, expected)
    mlp.layers[0].bias.requires_grad_(True)
    perceptron(mlp, x.detach(), "auto").sum().backward()
    assert mlp.layers[0].weight.grad is None
    torch.testing.assert_close(
        mlp.layers[0].bias.grad,
        torch.autograd.grad(perceptron(mlp, x, "torch").sum(), mlp.layers[0].bias)[0],
    )
    assert len(calls) == 4


def test_without_gradients_nothing_is_kept(calls):
    with torch.no_grad():
        y = perceptron(mlp_of(), rows_of(), "auto")
    assert y.grad_fn is None
    assert len(calls) == 1


def test_a_weight_changed_in_place_is_noticed():
    mlp = mlp_of()
    loss = perceptron(mlp, rows_of(), "native").sum()
    with torch.no_grad():
        mlp.layers[0].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


class OwnMLP(MLP):
    def forward(self, x):
        return 3 * super().forward(x)


class Wrapped(torch.Tensor):
    pass


def hooked(mlp):
    mlp.layers[0].register_forward_hook(lambda module, given, y: 2 * y)
    return mlp


def parametrised(mlp):
    nn.utils.parametrize.register_parametrization(mlp.layers[0], "weight", Doubled())
    return mlp


def with_other_layer(mlp):
    mlp.layers[0] = nn.Sequential(mlp.layers[0], Doubled())
    return mlp


def with_own_forward(mlp):
    plain = mlp.forward
    mlp.forward = lambda x: 5 * plain(x)
    return mlp


@pytest.mark.parametrize("change", [hooked, parametrised, with_other_layer, with_own_forward])
def test_what_a_module_does_beside_is_left_to_torch(change, calls):
    mlp, x = change(mlp_of()), rows_of()
    torch.testing.assert_close(perceptron(mlp, x, "native"), mlp(x), rtol=0, atol=0)
    assert not calls


def test_classes_of_their_own_are_left_to_torch(calls):
    mlp, x = OwnMLP(3, 5, 2, generator=generator()), rows_of(dtype=torch.float32)
    assert torch.equal(perceptron(mlp, x, "native"), mlp(x))
    found = perceptron(mlp_of(dtype=torch.float32), x.detach().as_subclass(Wrapped), "native")
    assert type(found) is Wrapped
    assert not calls


def test_surroundings_that_only_torch_knows(calls):
    mlp, x = mlp_of(dtype=torch.float32), rows_of(dtype=torch.float32).detach()
    with torch.autocast("cpu", torch.bfloat16):
        assert perceptron(mlp, x, "native").dtype == torch.bfloat16
    torch.testing.assert_close(vmap(lambda row: perceptron(mlp, row[None], "native")[0])(x), mlp(x))
    assert jacrev(lambda x: perceptron(mlp, x, "native"))(x).shape == (7, 2, 7, 3)
    assert not calls


def test_widths_and_types_beyond_the_kernels_are_left_to_torch(calls):
    wide = mlp_of(n_hidden=WIDEST_FASTER + 1)
    perceptron(wide, rows_of(), "native")
    perceptron(mlp_of().bfloat16(), rows_of(dtype=torch.bfloat16), "native")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):  # torch says what is wrong
        perceptron(mlp_of(), rows_of(n_in=4), "native")
    with pytest.raises(RuntimeError, match="same dtype"):
        perceptron(mlp_of(), rows_of(dtype=torch.float32), "native")
    assert not calls


def test_little_work_is_left_to_torch(calls, monkeypatch):
    monkeypatch.setattr(fused_mlp, "FEWEST_PRODUCTS", 7 * (3 * 5 + 5 * 2))
    mlp = mlp_of()
    perceptron(mlp, rows_of(6).detach(), "native")
    assert not calls
    perceptron(mlp, rows_of(7).detach(), "native")
    assert len(calls) == 1


def test_other_engines_are_refused():
    with pytest.raises(ValueError, match=r"unknown engine 'naive' \(did you mean 'native'"):
        perceptron(mlp_of(), rows_of(), "naive")


def test_decoders_use_it(calls):
    decoder = MLPDecoder(3, 5, 2)
    decoder(torch.zeros(1, 2, 6, 3))
    assert len(calls) == 1
    decoder.engine = "torch"
    decoder(torch.zeros(1, 2, 6, 3))
    assert len(calls) == 1


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@each_dtype
def test_threads(dtype, threads):
    """The same numbers twice; with more threads the same answers, and gradients summed in another order."""
    mlp, x = mlp_of(30, 50, 7, dtype=dtype), rows_of(1000, 30, dtype)
    threads(1)
    one = answers(mlp, x, "native")
    threads(3)
    three, again = (answers(mlp, x, "native") for _ in range(2))
    torch.testing.assert_close(three, again, rtol=0, atol=0)
    assert torch.equal(one[0], three[0])
    for first, other in zip(one, three):
        scale = float(first.abs().max())
        torch.testing.assert_close(first, other, rtol=0, atol=scale * CLOSE[dtype]["rtol"])


def test_memory_that_runs_out_is_told(monkeypatch):
    class Poor:
        def latentode_run_dense(self, problem):
            return 1

    monkeypatch.setattr(dense, "library", Poor)
    with pytest.raises(MemoryError, match="the native kernels found no memory for a perceptron"):
        perceptron(mlp_of(), rows_of(), "native")


def test_without_kernels_torch_serves(monkeypatch, calls):
    monkeypatch.setattr(fused_mlp, "library", lambda: None)
    mlp, x = mlp_of(), rows_of()
    assert torch.equal(perceptron(mlp, x, "native"), mlp(x))
    assert not calls
