"""Which engine solves: where the kernels cannot do all of it, torch does, and engine="native" says why not."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from both_engines import Conditioned, difference, make_case, make_field
from torch import Tensor, nn

from latentode import solve_ivp
from latentode.native import Perceptron, library
from latentode.nn.fields import MLPField
from latentode.solvers import PIController

pytestmark = pytest.mark.skipif(library() is None, reason="the native kernels are not built here")

HOOKED = "has a hook, or a `forward` of its own"


@dataclass
class Situation:
    """Something that only torch can do; `calls` counts what must be called."""

    field: nn.Module
    why: str
    options: dict[str, Any]
    dtype: torch.dtype = torch.float64
    around: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    calls: list[int] | None = None


def plain() -> MLPField:
    return make_field("mlp", 2, 5)


def forward_hook(on_layer: bool) -> Situation:
    field, calls = plain(), []

    def double(module, inputs, output):
        calls.append(len(output))
        return 2 * output

    (field.mlp.layers[1] if on_layer else field).register_forward_hook(double)
    return Situation(field, HOOKED, {}, calls=calls)


def forward_pre_hook() -> Situation:
    field, calls = plain(), []

    def shift(module, inputs):
        calls.append(1)
        return (inputs[0] + 1,)

    field.mlp.register_forward_pre_hook(shift)
    return Situation(field, HOOKED, {}, calls=calls)


def backward_hook() -> Situation:
    field, calls = plain(), []

    def double(module, of_inputs, of_outputs):
        calls.append(1)
        return tuple(None if g is None else 2 * g for g in of_inputs)

    field.mlp.layers[1].register_full_backward_hook(double)
    return Situation(field, HOOKED, {}, calls=calls)


def backward_pre_hook() -> Situation:
    field, calls = plain(), []
    field.mlp.register_full_backward_pre_hook(lambda module, of_outputs: calls.append(1))
    return Situation(field, HOOKED, {}, calls=calls)


def global_hook() -> Situation:
    calls = []

    @contextlib.contextmanager
    def around():
        handle = nn.modules.module.register_module_forward_hook(lambda *_: calls.append(1))
        try:
            yield
        finally:
            handle.remove()

    return Situation(plain(), HOOKED, {}, around=around, calls=calls)


def instance_forward() -> Situation:
    field, calls = plain(), []
    original = field.forward

    def forward(t, z):
        calls.append(1)
        return 2 * original(t, z)

    field.forward = forward
    return Situation(field, HOOKED, {}, calls=calls)


def instance_forward_of_a_part(*path: str | int) -> Situation:
    field, calls = plain(), []
    part = field.mlp if not path else field.mlp.layers[path[0]]
    original = part.forward

    def forward(x):
        calls.append(1)
        return 2 * original(x)

    part.forward = forward
    return Situation(field, "native", {}, calls=calls)


class Doubled(MLPField):
    def forward(self, t: Tensor, z: Tensor, inputs: Tensor | None = None) -> Tensor:
        return 2 * super().forward(t, z, inputs)


class Called(MLPField):
    def __call__(self, t: Tensor, z: Tensor) -> Tensor:
        return 2 * super().__call__(t, z)


def subclass(kind: type[MLPField]) -> Situation:
    return Situation(kind(2, 5).double(), HOOKED, {})


def replaced_layer() -> Situation:
    field = plain()
    field.mlp.layers[1] = nn.Sequential(nn.Linear(5, 5).double(), nn.Tanh())
    return Situation(field, "not those of a plain perceptron", {})


def parametrized() -> Situation:
    field = plain()
    nn.utils.parametrizations.weight_norm(field.mlp.layers[1])
    return Situation(field, "not those of a plain perceptron", {})


def bounded_steps() -> Situation:
    field, calls = plain(), []

    def largest_step(t, y, direction):
        calls.append(1)
        return torch.full_like(t, 0.1)

    field.largest_step = largest_step
    return Situation(field, "largest_step", {}, calls=calls)


def any_function() -> Situation:
    field = plain()

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = field

        def forward(self, t, z):
            return self.inner(t, z)

    return Situation(Wrapped(), "multilayer perceptrons alone.*got a Wrapped", {})


def other_tensors() -> Situation:
    """Params that are not the ones of the field."""
    return Situation(plain(), "not among its params", {"params": []})


def other_activation() -> Situation:
    class Sine(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 4), nn.Linear(4, 2)]).double()

        def forward(self, t, z):
            return self.layers[1](self.layers[0](z).sin())

        def as_perceptron(self, y0):
            return Perceptron(tuple(x.weight for x in self.layers), tuple(x.bias for x in self.layers), "sin")

    return Situation(Sine(), "tanh, softplus, elu, silu, relu", {})


class OwnController(PIController):
    pass


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


SITUATIONS = {
    "hook on the field": lambda: forward_hook(False),
    "hook on a layer": lambda: forward_hook(True),
    "hook before": forward_pre_hook,
    "backward hook": backward_hook,
    "backward hook before": backward_pre_hook,
    "global hook": global_hook,
    "forward of the instance": instance_forward,
    "forward of the network's instance": instance_forward_of_a_part,
    "forward of a layer's instance": lambda: instance_forward_of_a_part(1),
    "subclass with a forward": lambda: subclass(Doubled),
    "subclass with a call": lambda: subclass(Called),
    "replaced layer": replaced_layer,
    "weight norm": parametrized,
    "largest_step": bounded_steps,
    "any function": any_function,
    "other params": other_tensors,
    "other activation": other_activation,
    "too many layers": lambda: Situation(make_field("mlp", 2, 3, depth=16), "up to 16 layers", {}),
    "linear field": lambda: Situation(make_field("linear", 2), "multilayer perceptrons alone.*LinearField", {}),
    "bfloat16": lambda: Situation(plain().bfloat16(), "float32 and float64; got torch.bfloat16", {}, torch.bfloat16),
    "field in another dtype": lambda: Situation(plain(), "not all tensors of the field are torch.float32", {}, torch.float32),
    "autocast": lambda: Situation(plain(), "autocast", {}, around=autocast),
    "adjoint": lambda: Situation(plain(), "'discrete_adjoint' alone", {"gradient": "adjoint"}),
    "reversible": lambda: Situation(plain(), "'discrete_adjoint' alone", {"gradient": "reversible"}),
    "backprop": lambda: Situation(plain(), "'discrete_adjoint' alone", {"gradient": "backprop"}),
    "implicit solver": lambda: Situation(plain(), "explicit Runge-Kutta", {"solver": "kvaerno5"}),
    "Adams": lambda: Situation(plain(), "explicit Runge-Kutta", {"solver": "explicit_adams", "step_size": 0.2}),
    "own controller": lambda: Situation(
        plain(), "step-size controllers", {"controller": OwnController(order=5, rtol=1e-4, atol=1e-4)}
    ),
    "event": lambda: Situation(plain(), "no events", {"event": lambda t, y: y[:, 0] - 0.5, "first_step": 0.1}),
}  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_torch_solves_what_the_kernels_cannot(situation):
    made = SITUATIONS[situation]()
    generator = torch.Generator().manual_seed(2)
    y0 = torch.rand(3, 2, generator=generator).to(made.dtype)
    t_eval = torch.rand(3, 4, dtype=torch.float64, generator=generator).sort(dim=1).values

    def solve(engine: str) -> list[Tensor]:
        leaf = y0.clone().requires_grad_()
        y = solve_ivp(made.field, leaf, t_eval, t0=0.0, engine=engine, **made.options).y
        return [y, *torch.autograd.grad(y.nan_to_num().square().sum(), [leaf, *used])]

    used = [] if "params" in made.options else list(made.field.parameters())
    if situation == "field in another dtype":
        for engine in ("auto", "torch"):
            with pytest.raises(ValueError, match=r"the field must|dtype"):
                solve(engine)
        with pytest.raises(ValueError, match=made.why):
            solve("native")
        return
    with made.around():
        expected = solve("torch")
        if made.calls is not None:
            made.calls.clear()
        for found, one in zip(solve("auto"), expected):
            assert torch.equal(found, one) or difference(found, one) == 0
        assert made.calls is None or made.calls
        with pytest.raises(ValueError, match=f"(?s)engine='native' cannot solve this, because .*{made.why}"):
            solve("native")
