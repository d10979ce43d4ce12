"""Forms that a field says it has, and that it has not: they are found out, and torch solves."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from latentode import solve_ivp
from latentode.exceptions import LatentODEWarning
from latentode.native import Perceptron
from latentode.native.library import library
from latentode.native.solve import NativeSolve

pytestmark = pytest.mark.skipif(library() is None, reason="the native kernels are not built here")

TIMES = [0.0, 0.5, 1.0]


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2))
        self.one, self.zero = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)

    def as_perceptron(self, y0: Tensor) -> Perceptron | None:
        return Perceptron.of(self.net)

    @property
    def tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        layers = self.net[::2]
        return [layer.weight for layer in layers], [layer.bias for layer in layers]


def starts() -> Tensor:
    return torch.linspace(-1, 1, 12).reshape(6, 2).requires_grad_()


OTHER_FORWARDS = {
    "sign": lambda self, t, y: -self.net(y),
    "a little more": lambda self, t, y: 1.003 * self.net(y),
    "time, which is 0 at first": lambda self, t, y: self.net(y) * t.cos()[:, None],
    "time, later": lambda self, t, y: torch.where(t[:, None] > 0.9, -1, 1) * self.net(y),
    "some series": lambda self, t, y: torch.where(y > 0.9, 0.0, self.net(y)),
    "shape": lambda self, t, y: self.net(y)[:, :1],
}


@pytest.mark.parametrize("name", OTHER_FORWARDS)
def test_another_forward(name, monkeypatch):
    monkeypatch.setattr(Plain, "forward", OTHER_FORWARDS[name])
    field, y0 = Plain(), starts()
    why = (
        "gives slopes"
        if name == "shape"
        else r"something else than its forward: for series \d at t = .* forward makes it"
    )
    with pytest.raises(
        ValueError, match=f"engine='native' cannot solve this, because Plain.as_perceptron .*{why}"
    ):
        solve_ivp(field, y0, TIMES, engine="native")
    if name == "shape":
        return
    expected = solve_ivp(field, y0, TIMES, engine="torch").y
    for _ in range(2):  # a warning each time: it is not forgotten
        with pytest.warns(
            LatentODEWarning, match=f"torch solves in the place of the native kernels, because .*{why}"
        ):
            assert torch.equal(solve_ivp(field, y0, TIMES).y, expected)


@pytest.mark.parametrize(
    "forward", [lambda self, t, y: self.one * self.net(y), lambda self, t, y: self.net(y) + self.zero * y]
)
def test_a_parameter_that_the_form_leaves_out(forward, monkeypatch):
    """At first it changes nothing, but it would never learn."""
    monkeypatch.setattr(Plain, "forward", forward)
    field, y0 = Plain(), starts()
    why = r"Plain\.forward uses a tensor of shape \(\), which requires a gradient and of which its as_"
    with pytest.raises(ValueError, match=why):
        solve_ivp(field, y0, TIMES, engine="native")
    with pytest.warns(LatentODEWarning, match=why):
        solve_ivp(field, y0, TIMES).y.sum().backward()
    assert any(x.grad is not None and float(x.grad) for x in (field.one, field.zero))


def test_a_parameter_that_is_used_later_is_seen_later(monkeypatch):
    """Held against the field again where other parameters are to learn."""
    monkeypatch.setattr(Plain, "forward", lambda self, t, y: self.one * self.net(y))
    field, y0 = Plain(), starts()
    field.one.requires_grad_(False)
    solve_ivp(field, y0, TIMES, engine="native")
    field.one.requires_grad_()
    with pytest.raises(ValueError, match="of which its as_perceptron says nothing"):
        solve_ivp(field, y0, TIMES, engine="native")


def test_unused_parameters_are_no_contradiction():
    field, y0 = Plain(), starts()
    solve_ivp(field, y0, TIMES, engine="native").y.sum().backward()
    assert field.one.grad is None or float(field.one.grad) == 0.0


def forms(field: Plain) -> dict[str, tuple[Perceptron | None, str, bool]]:
    """What `as_perceptron` may wrongly return, why it cannot be solved, and whether that is a fault of the author's."""
    weights, biases = field.tensors
    no_biases = 2 * (None,)
    return {
        "none": (
            None,
            r"returned None, as Perceptron.of does for anything but an nn.Sequential of nn.Linear",
            False,
        ),
        "activation": (Perceptron(weights, biases, "Tanh"), r"got 'Tanh' \(did you mean 'tanh'", False),
        "no layers": (Perceptron((), ()), "one to 16 layers; got 0 weights", False),
        "biases": (Perceptron(weights, biases[:1]), "returned 2 weights and 1 biases", True),
        "bias": (Perceptron(weights, biases[::-1]), r"biases\[0\] must have shape \(5,\); got \(2,\)", True),
        "weight": (
            Perceptron((weights[0], weights[0]), no_biases),
            r"weights\[1\] must have shape \(n, 5\); got \(5, 2\)",
            True,
        ),
        "axes": (
            Perceptron((biases[0], weights[1]), no_biases),
            r"weights\[0\] must have shape \(n_out, n_in\)",
            True,
        ),
        "speed": (
            Perceptron(weights, biases, raw_speed=biases[0]),
            r"raw_speed must have shape \(2,\); got \(5,\)",
            True,
        ),
        "time": (
            Perceptron(weights, biases, time_input=True),
            r"must return the 2 that move, and read these and the time",
            True,
        ),
        "inputs": (
            Perceptron(weights, biases, inputs=torch.ones(2, 3)),
            r"inputs must have shape \(6, C\); got \(2, 3\)",
            True,
        ),
    }


@pytest.mark.parametrize("name", forms(Plain()))
def test_wrong_forms(name, monkeypatch):
    field, y0 = Plain(), starts()
    form, why, is_mistake = forms(field)[name]
    monkeypatch.setattr(Plain, "as_perceptron", lambda self, y0: form)
    with pytest.raises(ValueError, match=f"engine='native' cannot solve this, because .*{why}"):
        solve_ivp(field, y0, TIMES, engine="native")
    if is_mistake:
        with pytest.warns(LatentODEWarning, match=why):
            solve_ivp(field, y0, TIMES)
    else:
        solve_ivp(field, y0, TIMES)


def test_copies_are_no_parameters(monkeypatch):
    field, y0 = Plain(), starts()
    monkeypatch.setattr(Plain, "as_perceptron", lambda self, y0: Perceptron.of(copy.deepcopy(self.net)))
    with pytest.raises(
        ValueError, match="return the field's own parameters, not copies, or pass them as params="
    ):
        solve_ivp(field, y0, TIMES, engine="native")


@pytest.mark.parametrize("what", ["weights", "biases"])
def test_what_is_no_tensor(what):
    layer = nn.Linear(2, 2)
    given = {"weights": (layer.weight,), "biases": (layer.bias,)} | {what: (layer,)}
    with pytest.raises(TypeError, match=f"the {what} of a Perceptron must be tensors, as .*; got a Linear"):
        Perceptron(**given)


class Held:
    """A field that is no module."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net.requires_grad_(False)

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.net(y)

    def as_perceptron(self, y0: Tensor) -> Perceptron | None:
        return Perceptron.of(self.net)


def test_fields_that_are_no_modules_are_held_against_their_forms_too():
    with pytest.raises(ValueError, match=r"Held\.as_perceptron says something else than its forward"):
        solve_ivp(Held(Plain().net), starts(), TIMES, engine="native")


def test_states_of_other_shapes():
    field = Plain()
    for y0 in (torch.ones(2, 3, 2), (torch.ones(2, 1), torch.ones(2, 1))):
        with pytest.raises(ValueError, match=r"states y0 of shape \(N, D\): neither tuples nor more axes"):
            solve_ivp(field, y0, TIMES, engine="native")


def test_a_form_is_held_against_its_field_once(monkeypatch):
    field, y0, calls = Plain(), starts(), []

    class Counting(Plain):
        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            calls.append(len(y))
            return super().forward(t, y)

        def as_perceptron(self, y0: Tensor) -> Perceptron | None:
            return super().as_perceptron(y0)

    field = Counting()
    solves = []
    own = NativeSolve.forward
    monkeypatch.setattr(
        NativeSolve, "forward", lambda *args, **options: solves.append(1) or own(*args, **options)
    )
    for _ in range(3):
        solve_ivp(field, y0, TIMES)
    assert len(solves) == 3
    assert calls == 3 * [6]  # at three times
