"""`ODENet`: its shapes, its blocks against each other, its size, and where its weights come from."""

from __future__ import annotations

import pytest
import torch
from tolerances import ROUNDING
from torch.nn import functional

from latentode.models.ode_net import ODENet
from latentode.models.row_loss import MeanLater
from latentode.nn.ode_block import ODEBlock

BLOCKS = ["ode", "rk", "resnet"]
every_block = pytest.mark.parametrize("block", BLOCKS)
SHAPES = [(1, 1, 1), (1, 3, 5), (3, 8, 8), (1, 28, 28), (2, 9, 30), (1,), (4,)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def net(shape=(3,), block="ode", n_outputs=2, seed=0, **options):
    """A small network; `block="rk"` as the estimators make it."""
    fixed = {"solver": "rk4", "step_size": 0.5, "gradient": "backprop"} if block == "rk" else {}
    width = shape[0]
    defaults = {
        "hidden_dim": 6,
        "depth": 1,
        "activation": "tanh",
        "n_blocks": 3,
        "augment_dim": 0,
        "solver": "dopri5",
        "tolerance": 1e-3,
        "step_size": None,
        "gradient": "discrete_adjoint",
        "mean": [0.0] * width,
        "std": [1.0] * width,
        "target_mean": [0.0] * n_outputs,
        "target_std": [1.0] * n_outputs,
    }
    return ODENet(shape, n_outputs, block=block, generator=generator(seed), **(defaults | fixed | options))


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def double(model):
    """In float64 throughout: the layer of scales answers float32 otherwise."""
    model.scale.forward = lambda x: x
    model.target_scale.forward = lambda x: x
    return model.double()


# --- shapes


@every_block
@pytest.mark.parametrize("augment_dim", [0, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_row_of_outputs_for_every_input(shape, augment_dim, block):
    model = net(shape, block, n_outputs=3, augment_dim=augment_dim)
    found = model(randn(4, *shape))
    assert found.shape == (4, 3)
    assert found.dtype == torch.float32


@every_block
@pytest.mark.parametrize("shape", [(1, 3, 5), (2, 8, 8), (4,)], ids=str)
def test_rows_depend_on_neither_company_nor_order(shape, block):
    model, x = double(net(shape, block, augment_dim=1)), randn(5, *shape)
    rows = [3, 0]
    torch.testing.assert_close(model(x[rows]), model(x)[rows], rtol=1e-9, atol=1e-9)


def test_paths_begin_at_the_features_and_end_where_the_head_reads():
    model, x = (
        net((3,), augment_dim=2, tolerance=1e-6, mean=[1.0, 2.0, 3.0], std=[2.0, 2.0, 2.0]),
        randn(4, 3),
    )
    path = model.path(x, [0.0, 1.0])
    start = (x - torch.tensor([1.0, 2.0, 3.0])) / 2
    torch.testing.assert_close(path[:, 0], functional.pad(start, (0, 2)).float())
    torch.testing.assert_close(model.head(path[:, 1]), model(x), rtol=1e-4, atol=1e-4)


def test_paths_of_images_have_those_of_the_stem():
    model, x = net((1, 8, 8)), randn(2, 1, 8, 8)
    path = model.path(x, [0.0, 0.5, 1.0])
    assert path.shape == (2, 3, 6, 4, 4)
    torch.testing.assert_close(path[:, 0], model.stem(x.float()))


def test_residual_blocks_have_no_path():
    with pytest.raises(ValueError, match="residual blocks has no states between them: take block='ode'"):
        net(block="resnet").path(randn(2, 3), [0.0, 1.0])


# --- the same field, solved in two ways


@pytest.mark.parametrize("shape", [(1, 3, 5), (2, 8, 8), (4,)], ids=str)
def test_rk_is_ode_with_the_same_fixed_steps(shape):
    """Values and gradients; one differentiates through the steps, the other replays them."""
    models = [double(net(shape, "rk")), double(net(shape, "ode", solver="rk4", step_size=0.5))]
    labels, weight = torch.tensor([0, 1, 1]), torch.tensor([1.0, 0.5, 2.0])
    found = []
    for model in models:
        x = randn(3, *shape).requires_grad_()
        model.classification_loss(x, labels, weight).total.backward()
        found.append([model(x), x.grad, *(p.grad for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=ROUNDING, atol=ROUNDING)
        assert one.abs().max() > 0


def test_rk_takes_steps_of_its_field_from_0_to_1():
    """One step of Heun's method, by hand."""
    model = double(net((3,), "rk", solver="heun2", step_size=1.0))
    field, y, t = model.block.field, randn(4, 3), torch.zeros(4, dtype=torch.float64)
    first = field(t, y)
    end = y + (first + field(t + 1, y + first)) / 2
    torch.testing.assert_close(model(y), model.head(end), rtol=ROUNDING, atol=ROUNDING)


def test_resnet_adds_one_change_after_another():
    model = net((3,), "resnet", n_blocks=2, augment_dim=1)
    x = randn(4, 3)
    y = functional.pad(x.float(), (0, 1))
    for residual in list(model.block)[1:]:
        y = y + residual.mlp(y)
    torch.testing.assert_close(model(x), model.head(y))
    assert len(model.block) == 3


def test_a_solve_takes_a_tolerance():
    model, x = net((4,), "ode", hidden_dim=32), 3 * randn(6, 4)
    with torch.no_grad():
        for parameter in model.block.parameters():
            parameter.mul_(2)
        assert not torch.equal(model(x, tolerance=1e-6), model(x, tolerance=1e-1))


@pytest.mark.parametrize("block", ["rk", "resnet"])
def test_only_an_adaptive_solve_takes_a_tolerance(block):
    with pytest.raises(ValueError, match="tolerance is for adaptive solvers"):
        net((4,), block)(randn(6, 4), tolerance=1e-6)


# --- size


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_the_ode_net_has_a_third_of_the_parameters_of_the_residual_one():
    """As in table 1 of Chen et al., with their 64 channels and six blocks on MNIST."""
    sizes = {
        block: count(net((1, 28, 28), block, hidden_dim=64, n_blocks=6, n_outputs=10)) for block in BLOCKS
    }
    convolution, norm = 64 * 64 * 9 + 64, 2 * 64
    around = (16 * 64 + 64) + norm + (16 * 64 * 64 + 64) + norm + (64 * 10 + 10)
    time = 64 * 9
    assert sizes["ode"] == sizes["rk"] == around + 2 * (convolution + time) + 3 * norm
    assert sizes["resnet"] == around + 6 * 2 * (convolution + norm)
    assert sizes["ode"] / sizes["resnet"] < 1 / 3


def test_the_number_of_residual_blocks_is_their_depth():
    sizes = [count(net((1, 8, 8), "resnet", n_blocks=n)) for n in (1, 2, 3)]
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] > 0


# --- first weights


@every_block
@pytest.mark.parametrize("shape", [(1, 8, 8), (4,)], ids=str)
def test_first_weights_come_from_the_generator_alone(shape, block):
    before = torch.random.get_rng_state()
    one, same, other = (list(net(shape, block, seed=seed).parameters()) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one, same))
    assert any((a != b).any() for a, b in zip(one, other))


@every_block
def test_it_can_be_built_without_memory(block):
    with torch.device("meta"):
        model = net((1, 8, 8), block, hidden_dim=100_000)
    assert all(value.is_meta for value in model.state_dict().values())


# --- losses


def logits_of(model, x):
    with torch.no_grad():
        return model(x)


@every_block
def test_the_classification_loss_is_the_weighted_mean_entropy(block):
    model, x = net((4,), block, n_outputs=3), randn(5, 4)
    labels, weight = torch.tensor([0, 2, 1, 1, 0]), torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0])
    probability = logits_of(model, x).double().softmax(1)
    found = model.classification_loss(x, labels, weight)
    by_hand = -(weight * probability[range(5), labels].log()).sum() / 5
    torch.testing.assert_close(found.total.double(), by_hand, rtol=1e-5, atol=0)
    assert float(found.parts["accuracy"]) == (probability.argmax(1) == labels).double().mean()
    assert found.weight == 5


@every_block
def test_the_regression_loss_is_the_weighted_mean_square_in_scaled_targets(block):
    scales = {"target_mean": [10.0, -1.0], "target_std": [2.0, 0.5]}
    model, x, targets = net((4,), block, **scales), randn(5, 4), 10 * randn(5, 2, seed=7)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0])
    scaled = (targets - torch.tensor(scales["target_mean"])) / torch.tensor(scales["target_std"])
    by_hand = (weight * (logits_of(model, x) - scaled).square().mean(1)).sum() / 5
    found = model.regression_loss(x, targets, weight)
    torch.testing.assert_close(found.total.double(), by_hand, rtol=1e-5, atol=0)


def test_parts_count_the_evaluations_both_ways():
    model, x = net((4,)), randn(5, 4)
    loss = model.classification_loss(x, torch.zeros(5, dtype=torch.int64), torch.ones(5))
    assert isinstance(model.block, ODEBlock)
    assert float(loss.parts["n_evals"]) == model.block.n_evals.double().mean() > 6
    backwards = loss.parts["n_evals_backward"]
    assert isinstance(backwards, MeanLater)
    assert float(backwards) == 0
    loss.total.backward()
    assert float(backwards) == model.block.n_evals_backward.double().mean() > 6


def test_parts_count_nothing_that_is_not_there():
    x, labels, weight = randn(5, 4), torch.zeros(5, dtype=torch.int64), torch.ones(5)
    assert set(net((4,), "resnet").classification_loss(x, labels, weight).parts) == {"accuracy"}
    with torch.no_grad():
        assert set(net((4,)).classification_loss(x, labels, weight).parts) == {"accuracy", "n_evals"}


def test_scales_are_told_in_double_precision():
    """Targets of 1e6 ± 1 are not rounded away: the scale is undone in float64."""
    model = net((4,), target_mean=[1e6, 0.0], target_std=[1e-3, 1.0])
    found = model.target_scale.undo(torch.tensor([[0.5, 0.25]]))
    assert found.dtype == torch.float64
    torch.testing.assert_close(
        found, torch.tensor([[1e6 + 5e-4, 0.25]], dtype=torch.float64), rtol=ROUNDING, atol=0
    )
