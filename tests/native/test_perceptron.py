"""`Perceptron.of`: which networks it takes, and that a field of one's own is then solved by the kernels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from latentode import solve_ivp
from latentode.native import Perceptron
from latentode.native.library import library
from latentode.native.solve import NativeSolve, evaluate
from latentode.nn.fields import MLPField

needs_native = pytest.mark.skipif(library() is None, reason="the native kernels were not built")


class Own(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, t, y):
        return self.net(y)

    def as_perceptron(self, y0):
        return Perceptron.of(self.net)


@needs_native
@pytest.mark.parametrize("activation", [nn.Tanh, nn.Softplus, nn.ELU, nn.SiLU, nn.ReLU])
def test_a_field_of_ones_own_is_solved_by_the_kernels(activation):
    torch.manual_seed(0)
    field = Own(
        nn.Linear(3, 7), activation(), nn.Linear(7, 5, bias=False), activation(), nn.Linear(5, 3)
    ).double()
    y0, times = torch.randn(9, 3, dtype=torch.float64), [0.0, 0.5, 1.0]
    answers, gradients = [], []
    for engine in ("torch", "native"):
        y = solve_ivp(field, y0, times, solver="rk4", step_size=0.1, engine=engine).y
        answers.append(y.detach())
        gradients.append(torch.autograd.grad(y.square().sum(), field.parameters()))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)],
        [nn.Linear(3, 4), nn.Tanh()],
        [nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3)],
        [nn.Linear(3, 4), nn.Softplus(beta=2.0), nn.Linear(4, 3)],
        [nn.Linear(3, 4), nn.ELU(alpha=0.5), nn.Linear(4, 3)],
        [nn.Linear(3, 4), nn.Tanh(), nn.Bilinear(4, 4, 3)],
        [nn.Linear(3, 5), nn.Tanh(), nn.Linear(4, 3)],
        [],
    ],
)
def test_other_networks_are_left_to_torch(layers):
    assert Perceptron.of(nn.Sequential(*layers)) is None


def test_one_linear_layer_is_a_perceptron():
    linear = nn.Linear(3, 3)
    assert Perceptron.of(nn.Sequential(linear)).weights == (linear.weight,)


class Returned(Own):
    def as_perceptron(self, y0):
        return self.net


def plain(kind=Own):
    return kind(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2))


class Faster(MLPField):
    """Overrides a part of what `forward` is made of."""

    def seen(self, t, z, inputs):
        return 2 * super().seen(t, z, inputs)


class Held:
    """A field that is no module, around one."""

    def __init__(self):
        self.net = plain().net.requires_grad_(False)

    def __call__(self, t, y):
        return self.net(y)

    def as_perceptron(self, y0):
        return Perceptron.of(self.net)


def hooked():
    held = Held()
    held.net.register_forward_hook(lambda module, args, out: 3 * out)
    return held


@needs_native
@pytest.mark.parametrize(
    ("field", "why"),
    [
        (lambda: Faster(2, 5), "of its own beside `as_perceptron`"),
        (hooked, "has a hook"),
    ],
    ids=["overridden part", "hook of a part"],
)
def test_a_form_that_is_not_the_field_is_left_alone(field, why):
    field, y0 = field(), torch.ones(3, 2)
    one, other = (solve_ivp(field, y0, [0.0, 1.0], engine=engine).y for engine in ("auto", "torch"))
    assert torch.equal(one, other)
    with pytest.raises(ValueError, match=why):
        solve_ivp(field, y0, [0.0, 1.0], engine="native")


@needs_native
def test_lazy_negation_is_seen():
    field, y0 = plain(), torch.ones(4, 2)
    negative = torch._neg_view(-y0)
    assert negative.is_neg()
    expected = solve_ivp(field, y0, [0.0, 1.0], engine="torch").y
    torch.testing.assert_close(solve_ivp(field, negative, [0.0, 1.0]).y, expected)
    y0.requires_grad_()
    y = solve_ivp(field, y0, [0.0, 1.0], engine="native").y
    ones = torch.ones_like(y)
    one, other = (
        torch.autograd.grad(y, y0, of, retain_graph=True)[0] for of in (ones, torch._neg_view(-ones))
    )
    torch.testing.assert_close(one, other)


@needs_native
def test_another_default_device():
    field, y0, times = (
        plain(),
        torch.ones(4, 2, requires_grad=True),
        torch.tensor([0.0, 1.0], dtype=torch.float64),
    )
    t0 = torch.zeros(4, dtype=torch.float64)
    expected = torch.autograd.grad(solve_ivp(field, y0, times, t0=t0).y.sum(), y0)[0]
    with torch.device("meta"):
        y = solve_ivp(field, y0, times, t0=t0, engine="native", throw=False).y
        (found,) = torch.autograd.grad(y, y0, torch.ones(y.shape, device="cpu"))
    assert torch.equal(found, expected)


@needs_native
def test_auto_leaves_wide_networks_to_torch(monkeypatch):
    wide = Own(nn.Linear(2, 600), nn.Tanh(), nn.Linear(600, 2))
    called = []
    monkeypatch.setattr(NativeSolve, "forward", lambda *args, **options: called.append(1))
    solve_ivp(wide, torch.ones(3, 2), [0.0, 1.0])
    assert not called


@needs_native
@pytest.mark.parametrize("x", [9.5, 20.0, 1e30, torch.inf])
def test_a_saturated_tanh_has_no_slope(x):
    assert evaluate("tanh", torch.tensor([x, -x])).tolist() == [1, -1]
    assert evaluate("tanh", torch.tensor([3 * x, -3 * x], dtype=torch.float64)).tolist() == [1, -1]


@needs_native
def test_a_form_of_another_type_is_refused():
    with pytest.raises(
        TypeError, match=r"return a latentode.native.Perceptron, such as Perceptron.of\(self.net\)"
    ):
        solve_ivp(plain(Returned), torch.ones(3, 2), [0.0, 1.0])


@needs_native
def test_states_of_several_axes_and_of_other_widths_are_torchs():
    y0 = torch.randn(4, 3, 2)
    one, other = (solve_ivp(plain(), y0, [0.0, 1.0], engine=engine).y for engine in ("auto", "torch"))
    assert one.shape == other.shape == (4, 2, 3, 2)
    field = plain()
    torch.testing.assert_close(
        solve_ivp(field, y0, [0.0, 1.0]).y, solve_ivp(field, y0, [0.0, 1.0], engine="torch").y, rtol=0, atol=0
    )
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        solve_ivp(field, torch.ones(4, 3), [0.0, 1.0])
    with pytest.raises(ValueError, match=r"for states \(N, D\) of 3: it must return the 3 that move"):
        solve_ivp(field, torch.ones(4, 3), [0.0, 1.0], engine="native")
    with pytest.raises(TypeError):
        solve_ivp(field, (torch.ones(4, 1), torch.ones(4, 1)), [0.0, 1.0])


@needs_native
def test_inputs_that_are_no_part_of_the_state_are_left_to_torch():
    class Driven(Own):
        def forward(self, t, y):
            return self.net(torch.cat([y, self.inputs[: len(y)]], dim=1))

        def as_perceptron(self, y0):
            return Perceptron.of(self.net, inputs=self.inputs)

    field = Driven(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    field.inputs = torch.ones(4, 1, requires_grad=True)
    with pytest.raises(ValueError, match="is none of its parameters"):
        solve_ivp(field, torch.ones(4, 2), [0.0, 1.0])


@pytest.mark.parametrize("network", [nn.Linear(2, 2), nn.Tanh()])
def test_what_is_no_sequence_is_no_perceptron(network):
    assert Perceptron.of(network) is None
