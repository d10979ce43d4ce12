"""`ODEBlock` as a layer: its values, its gradients, its counts, and what it refuses."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from clear_errors import complaints_about
from solver_groups import PRECISE
from tolerances import EXACT_GRADIENT, ROUNDING, TIGHT
from torch import nn
from torch.autograd import gradcheck

from latentode import ODEBlock, solve_ivp
from latentode.exceptions import SolverError
from latentode.gradients import GRADIENTS

TOLERANCES = {"rtol": 1e-9, "atol": 1e-9}
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Turning(nn.Module):
    """A small field that depends on time and has parameters of its own."""

    def __init__(self, size: int = 2, seed: int = 1) -> None:
        super().__init__()
        self.inner = nn.Parameter(randn(size, size, seed=seed))
        self.outer = nn.Parameter(randn(size, size, seed=seed + 1))

    def forward(self, t, y):
        return torch.tanh(y @ self.inner.T + torch.cos(t)[:, None]) @ self.outer.T


def linear_block(matrix, **options):
    layer = nn.Linear(len(matrix), len(matrix), bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(matrix)
    return ODEBlock(layer, takes_time=False, **(TOLERANCES | options))


# --- values


@pytest.mark.parametrize("end_time", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("solver", PRECISE)
def test_a_linear_field_gives_the_matrix_exponential(solver, end_time):
    matrix, y = randn(3, 3), randn(4, 3, seed=1)
    block = linear_block(matrix, solver=solver, end_time=end_time)
    expected = y @ torch.linalg.matrix_exp(end_time * matrix).T
    torch.testing.assert_close(block(y), expected, rtol=0, atol=1e-6)


def test_images_pass_with_their_shape():
    """dy/dt = -y on every pixel."""
    images = randn(2, 3, 4, 5)
    block = ODEBlock(lambda t, y: -y, **TOLERANCES)
    expected = images * torch.exp(torch.tensor(-1.0, dtype=torch.float64))
    torch.testing.assert_close(block(images), expected, rtol=0, atol=TIGHT)


def test_it_is_solve_ivp_from_0_to_end_time():
    field, y = Turning(), randn(5, 2)
    block = ODEBlock(field, end_time=1.5, rtol=1e-4, atol=1e-6, solver="tsit5")
    direct = solve_ivp(field, y, [1.5], t0=0.0, rtol=1e-4, atol=1e-6, solver="tsit5")
    assert torch.equal(block(y), direct.y[:, 0])
    assert torch.equal(block.n_evals, direct.stats["n_evals"])


def test_fixed_steps_are_those_asked_for():
    """Two steps of Euler's method, by hand."""
    y = randn(3, 2)
    block = ODEBlock(lambda t, y: y * (1 + t[:, None]), solver="euler", step_size=0.5)
    torch.testing.assert_close(block(y), y * 1.5 * (1 + 0.5 * 1.5), rtol=ROUNDING, atol=ROUNDING)


def test_path_passes_through_start_and_end():
    block, y = ODEBlock(Turning(), **TOLERANCES), randn(3, 2)
    path = block.path(y, [0.0, 0.25, 1.0])
    assert torch.equal(path[:, 0], y)
    torch.testing.assert_close(path[:, 2], block(y), rtol=0, atol=TIGHT)
    shorter = ODEBlock(block.field, end_time=0.25, **TOLERANCES)
    torch.testing.assert_close(path[:, 1], shorter(y), rtol=0, atol=1e-7)


def test_rows_know_nothing_of_their_company():
    block, y = ODEBlock(Turning()), randn(6, 2)
    together, rows = block(y), [4, 1]
    counts = block.n_evals
    torch.testing.assert_close(block(y[rows]), together[rows], rtol=0, atol=ROUNDING)
    assert torch.equal(block.n_evals, counts[rows])


# --- room for crossing paths


def test_augmented_zeros_come_on_axis_1():
    seen = []

    def field(t, y):
        seen.append(y.shape[1:])
        return torch.ones_like(y)

    vectors, images = randn(4, 2), randn(4, 2, 3, 3)
    for y in (vectors, images):
        found = ODEBlock(field, augment_dim=3, **TOLERANCES)(y)
        expected = torch.cat([y, torch.zeros(4, 3, *y.shape[2:], dtype=y.dtype)], dim=1) + 1
        torch.testing.assert_close(found, expected, rtol=0, atol=TIGHT)
    assert set(seen) == {(5,), (5, 3, 3)}


def test_without_room_the_line_keeps_its_order_and_with_room_it_does_not():
    """Solutions in one dimension never cross; a turn by π through an added one swaps them (Dupont et al. 2019)."""
    turn = torch.pi * torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    torch.testing.assert_close(linear_block(turn, augment_dim=1)(y)[:, :1], -y, rtol=0, atol=1e-6)
    flow = ODEBlock(Turning(1), **TOLERANCES)(y).flatten()
    assert (flow.diff() > 0).all()


@pytest.mark.parametrize("augment_dim", [-1, 1.5, None])
def test_room_that_is_no_count_is_refused(augment_dim):
    with pytest.raises(
        ValueError, match="augment_dim must be a number of features or channels, 0 or more; got"
    ):
        ODEBlock(Turning(), augment_dim=augment_dim)


def test_room_needs_an_axis():
    with pytest.raises(ValueError, match=r"needs an axis 1 to append to; the input has shape \(3,\)"):
        ODEBlock(lambda t, y: y, augment_dim=1)(randn(3))


# --- gradients


@every_gradient
def test_gradients_agree_with_finite_differences(gradient):
    """With respect to the input and every parameter; fixed steps, so that the block is smooth.

    By `functional_call`, whose tensors gradients must reach although they are in the module only while it is called.
    """
    block = ODEBlock(Turning(), gradient=gradient, step_size=0.1)
    y = randn(2, 2, seed=5).requires_grad_()
    params = [p.detach().clone().requires_grad_() for p in block.parameters()]
    names = [name for name, _ in block.named_parameters()]

    def answer(y, *params):
        return torch.func.functional_call(block, dict(zip(names, params)), (y,))

    assert len(names) == 2
    assert gradcheck(answer, (y, *params), rtol=1e-5, atol=1e-7)


def gradients_of(block, y):
    y = y.clone().requires_grad_()
    block.zero_grad()
    (block(y) * randn(len(y), y.shape[1] + block.augment.n, seed=9)).sum().backward()
    return [y.grad, *(p.grad.clone() for p in block.parameters())]


@every_gradient
def test_the_gradients_are_those_of_the_matrix_exponential(gradient):
    matrix, y = randn(3, 3), randn(4, 2, seed=1)
    block = linear_block(matrix, augment_dim=1, gradient=gradient)
    weight = matrix.clone().requires_grad_()
    start = y.clone().requires_grad_()
    padded = torch.cat([start, torch.zeros(4, 1, dtype=torch.float64)], dim=1)
    out = padded @ torch.linalg.matrix_exp(weight).T
    expected = torch.autograd.grad((out * randn(4, 3, seed=9)).sum(), (start, weight))
    for found, exact in zip(gradients_of(block, y), expected, strict=True):
        torch.testing.assert_close(found, exact, rtol=EXACT_GRADIENT, atol=EXACT_GRADIENT)


@every_gradient
@pytest.mark.parametrize("takes_time", [True, False])
def test_every_gradient_reaches_every_parameter_of_a_sequence(gradient, takes_time):
    torch.manual_seed(0)
    field = Turning(3) if takes_time else nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    block = ODEBlock(field, takes_time=takes_time, augment_dim=1, gradient=gradient, **TOLERANCES)
    expected = gradients_of(ODEBlock(field, takes_time=takes_time, augment_dim=1, **TOLERANCES), randn(4, 2))
    for found, reference in zip(gradients_of(block, randn(4, 2)), expected, strict=True):
        torch.testing.assert_close(found, reference, rtol=EXACT_GRADIENT, atol=EXACT_GRADIENT)
        assert found.abs().max() > 0


@every_gradient
def test_it_trains_as_a_layer_among_others(gradient):
    torch.manual_seed(0)
    field = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
    block = ODEBlock(field, takes_time=False, augment_dim=1, gradient=gradient)
    network = nn.Sequential(nn.Linear(2, 2), block, nn.Linear(3, 1))
    before = [p.detach().clone() for p in network.parameters()]
    x = randn(32, 2).float()
    target = torch.sin(x.sum(1, keepdim=True))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.03)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = (network(x) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all((p != old).any() for p, old in zip(network.parameters(), before))


# --- tolerance and counts


def test_more_tolerance_takes_fewer_evaluations_and_errs_more():
    matrix, y = 3 * randn(3, 3), randn(8, 3, seed=1)
    block = linear_block(matrix)
    exact = y @ torch.linalg.matrix_exp(matrix).T
    evaluations, errors = [], []
    for tolerance in (1e-8, 1e-5, 1e-2):
        errors.append((block(y, tolerance=tolerance) - exact).abs().max().item())
        evaluations.append(block.n_evals.sum().item())
    assert evaluations == sorted(evaluations, reverse=True)
    assert errors == sorted(errors)
    assert errors[0] < 1e-4 * errors[2]
    assert evaluations[0] > 2 * evaluations[2]


def test_a_tolerance_is_for_one_call():
    block, y = ODEBlock(Turning(), rtol=1e-6, atol=1e-7), randn(3, 2)
    own = block(y)
    assert not torch.equal(block(y, tolerance=0.1), own)
    assert torch.equal(block(y), own)
    assert (block.rtol, block.atol) == (1e-6, 1e-7)


@pytest.mark.parametrize("own", [{"rtol": 1e-8}, {"atol": 1e-8}], ids=str)
def test_a_tolerance_is_both_the_relative_and_the_absolute_one(own):
    y = randn(6, 2)
    together = ODEBlock(Turning(), rtol=1e-2, atol=1e-2)
    alone = ODEBlock(Turning(), **{"rtol": 1e-2, "atol": 1e-2, **own})
    assert torch.equal(alone(y, tolerance=1e-2), together(y))
    assert torch.equal(alone.n_evals, together.n_evals)


@every_gradient
def test_evaluations_are_counted_forwards_and_backwards(gradient):
    """A field that counts the rows it is asked for gives the same sums."""
    field, rows = Turning(), [0]

    def counts(module, given):
        rows[0] += len(given[1])

    field.register_forward_pre_hook(counts)
    block = ODEBlock(field, gradient=gradient, step_size=0.25)
    assert block.n_evals.shape == block.n_evals_backward.shape == (0,)
    y = randn(5, 2).requires_grad_()
    out = block(y)
    assert block.n_evals.dtype == torch.int64
    assert block.n_evals.tolist() == [block.n_evals[0].item()] * 5
    assert block.n_evals[0] >= 4 * 6
    assert (block.n_evals_backward == 0).all()
    rows[0] = 0
    out.sum().backward()
    assert block.n_evals_backward.shape == (5,)
    if gradient == "backprop":  # through the graph, which asks no field
        assert rows[0] == block.n_evals_backward.sum() == 0
    else:
        assert (block.n_evals_backward >= 4 * 5).all()
        assert rows[0] == pytest.approx(block.n_evals_backward.sum().item(), rel=0.5)


def test_counts_are_those_of_each_row():
    """A field that is stiffer in one row takes more evaluations there, and only there."""
    y = torch.tensor([[1.0, 0.1], [1.0, 50.0]], dtype=torch.float64)  # state and its own rate
    block = ODEBlock(lambda t, y: torch.stack([-y[:, 0] * y[:, 1], torch.zeros_like(t)], dim=1))
    block(y)
    one, other = block.n_evals.tolist()
    assert other > 3 * one
    block(y[:1])
    assert block.n_evals.tolist() == [one]


# --- under autocast


def low_precision():
    return torch.autocast("cpu", dtype=torch.bfloat16)


@every_gradient
@pytest.mark.parametrize("takes_time", [True, False])
def test_autocast_changes_neither_answers_nor_gradients(gradient, takes_time):
    """With the input that a layer in half precision gives; to the last digit."""
    torch.manual_seed(0)
    field = Turning(3).float() if takes_time else nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
    block = ODEBlock(field, takes_time=takes_time, augment_dim=1, gradient=gradient, rtol=1e-5, atol=1e-5)
    y = randn(6, 2).bfloat16()
    expected = gradients_of(block, y.float())
    expected[0] = expected[0].bfloat16()  # the gradient of an input has its dtype
    start = y.clone().requires_grad_()
    block.zero_grad()
    with low_precision():
        assert (y.float() @ y.float().T).dtype == torch.bfloat16
        answer = block(start)
    assert answer.dtype == torch.float32
    assert torch.equal(answer, block(y.float()))
    (answer * randn(6, 3, seed=9)).sum().backward()
    for found, exact in zip([start.grad, *(p.grad for p in block.parameters())], expected, strict=True):
        assert torch.equal(found, exact)


def test_the_dtype_under_autocast_is_that_of_the_field():
    cases = [
        (Turning(), torch.bfloat16, torch.float64),
        (Turning(), torch.float32, torch.float64),
        (Turning().float(), torch.float64, torch.float32),
        (lambda t, y: -y, torch.bfloat16, torch.float32),
        (lambda t, y: -y, torch.float64, torch.float64),
    ]
    for field, given, expected in cases:
        with low_precision():
            assert ODEBlock(field)(randn(3, 2).to(given)).dtype == expected


@every_gradient
def test_a_network_trains_under_autocast(gradient):
    torch.manual_seed(0)
    field = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
    block = ODEBlock(field, takes_time=False, augment_dim=1, gradient=gradient)
    network = nn.Sequential(nn.Linear(2, 2), block, nn.Linear(3, 1))
    with low_precision():
        out = network(randn(8, 2).float())
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


# --- a module as others


def test_state_and_copies():
    block, y = ODEBlock(Turning(seed=1), augment_dim=0, end_time=0.7), randn(4, 2)
    block(y.clone().requires_grad_()).sum().backward()
    assert list(block.state_dict()) == ["field.inner", "field.outer"]
    other = ODEBlock(Turning(seed=5), end_time=0.7)
    assert not torch.equal(other(y), block(y))
    other.load_state_dict(block.state_dict())
    for copied in (other, copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert torch.equal(copied(y), block(y))
        assert copied.field is not block.field


def test_its_text_names_the_options():
    text = repr(ODEBlock(Turning(), solver="tsit5", augment_dim=2))
    assert "solver='tsit5'" in text
    assert "(augment): Augment(2)" in text


# --- what is refused


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.BatchNorm1d(3), "BatchNorm1d at '0.1': use GroupNorm or LayerNorm"),
        (nn.SyncBatchNorm(3), "SyncBatchNorm at '0.1': use GroupNorm"),
        (nn.LazyBatchNorm2d(), "LazyBatchNorm2d at '0.1'"),
        (nn.Dropout(0.1), "Dropout at '0.1': put it before or behind the block"),
        (nn.AlphaDropout(), "AlphaDropout at '0.1': put it before"),
        (nn.RReLU(), "RReLU at '0.1': put it before"),
    ],
)
def test_layers_that_mix_rows_or_draw_are_refused_with_their_place(layer, name):
    field = nn.Sequential(nn.Sequential(nn.Linear(3, 3), layer))
    with pytest.raises(ValueError, match=name):
        ODEBlock(field, takes_time=False)


def test_a_field_that_is_such_a_layer_is_named():
    with pytest.raises(ValueError, match="it has BatchNorm1d: use GroupNorm"):
        ODEBlock(nn.BatchNorm1d(3), takes_time=False)
    ODEBlock(nn.Sequential(nn.LayerNorm(3), nn.GroupNorm(1, 3)), takes_time=False)


def test_running_statistics_are_refused():
    """In training the answer is the same without them, but they move with every evaluation and answer in evaluation."""
    for name, layer in {"InstanceNorm1d": nn.InstanceNorm1d, "InstanceNorm2d": nn.InstanceNorm2d}.items():
        field = nn.Sequential(nn.Identity(), layer(3, track_running_stats=True))
        text = (
            f"must not change while it is asked.* it has {name} at '1' with running statistics: use track_run"
        )
        with pytest.raises(ValueError, match=text):
            ODEBlock(field, takes_time=False)
        ODEBlock(layer(3), takes_time=False)


def three(t, y, u):
    return y


@pytest.mark.parametrize(
    ("field", "takes_time", "message"),
    [
        (
            nn.Sequential(nn.Linear(2, 2)),
            True,
            r"with takes_time=True the field is called as field\(t, y\), but Sequential takes \(input\): give "
            r"takes_time=False for a field that is called as field\(y\)",
        ),
        (nn.Tanh(), True, r"but Tanh takes \(input\): give takes_time=False"),
        (torch.nn.functional.gelu, True, None),  # built in: what it takes is not told
        (lambda y: -y, True, r"but <lambda> takes \(y\): give takes_time=False"),
        (
            Turning(),
            False,
            r"with takes_time=False the field is called as field\(y\), but Turning takes \(t, y\): give "
            r"takes_time=True for a field that is called as field\(t, y\)",
        ),
        (three, True, r"but three takes \(t, y, u\): write it so that it can be called so"),
        (three, False, r"but three takes \(t, y, u\): write it so"),
        (partial(three, u=1), False, r"but partial takes \(t, y, .*u=1\): give takes_time=True"),
        (partial(three, u=1), True, None),
        (lambda t, y=None: y, False, None),
        (lambda *args: args[-1], True, None),
        (lambda *args: args[-1], False, None),
    ],
)
def test_a_field_is_called_as_takes_time_says(field, takes_time, message):
    if message is None:
        ODEBlock(field, takes_time=takes_time)
        return
    with pytest.raises(ValueError, match=message) as caught:
        ODEBlock(field, takes_time=takes_time)
    assert not complaints_about(caught.value)


def test_what_is_no_field_is_refused():
    with pytest.raises(ValueError, match=r"must be an instance.* got the class Turning: make one first"):
        ODEBlock(Turning)
    with pytest.raises(
        ValueError, match=r"field must be an nn.Module or another callable; got an object of Tensor"
    ):
        ODEBlock(torch.eye(2))


def test_a_hook_may_change_what_a_field_takes():
    field = nn.Linear(2, 2).double()
    field.register_forward_pre_hook(lambda module, given: given[1:])
    assert ODEBlock(field)(randn(3, 2)).shape == (3, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"end_time": 0.0}, "end_time must be a number greater than 0; got 0.0"),
        ({"end_time": float("inf")}, "end_time must be a number greater than 0; got inf"),
        ({"solver": "dopri"}, "solver must be one of .*; got 'dopri' .did you mean 'dopri"),
        ({"gradient": "adjiont"}, "gradient must be one of .*did you mean 'adjoint'"),
        ({"rtol": 0}, "rtol must be a number greater than 0; got 0"),
        ({"atol": -1.0}, "atol must be a number greater than 0; got -1.0"),
        ({"step_size": 0.0}, "step_size must be a number greater than 0, or None; got 0.0"),
        ({"max_steps": 0}, "max_steps must be an int of at least 1; got 0"),
        ({"takes_time": "no"}, "takes_time must be one of True, False; got 'no'"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused_when_it_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        ODEBlock(Turning(), **options)


@pytest.mark.parametrize("solver", ["dopri5", "rk4"])
def test_fixed_steps_take_no_tolerance(solver):
    block = ODEBlock(Turning(), solver=solver, step_size=0.25)
    with pytest.raises(
        ValueError, match=r"tolerance is for adaptive solvers: this block takes fixed steps of 0\.25"
    ):
        block(randn(3, 2), tolerance=0.1)


@pytest.mark.parametrize("tolerance", [0.0, -1.0])
def test_a_tolerance_is_positive(tolerance):
    with pytest.raises(ValueError, match=r"rtol and atol are both 0|rtol must be non-negative; got -1"):
        ODEBlock(Turning())(randn(3, 2), tolerance=tolerance)


def test_a_solver_without_error_estimate_needs_a_step_size():
    with pytest.raises(ValueError, match="'rk4' has no error estimate and needs step_size="):
        ODEBlock(Turning(), solver="rk4")(randn(2, 2))


def test_a_row_that_cannot_be_solved_is_an_error():
    """dy/dt = y² from 2 leaves all bounds at t = 1/2."""
    block = ODEBlock(lambda t, y: y**2, max_steps=200)
    with pytest.raises(SolverError):
        block(torch.tensor([[0.1], [2.0]], dtype=torch.float64))
