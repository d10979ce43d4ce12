"""Which engine solves: where the kernels cannot do all of it, torch does, and engine="native" says why not."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from both_engines import Conditioned, difference, make_field
from torch import Tensor, nn
from torch.autograd import forward_ad

from latentode import solve_ivp
from latentode.exceptions import SolverError
from latentode.native import Perceptron
from latentode.native.library import library
from latentode.native.solve import NativeSolve
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
    return Situation(field, HOOKED, {}, calls=calls)


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
    return Situation(field, "a layer of the field's network is no plain nn.Linear", {})


def parametrized() -> Situation:
    field = plain()
    nn.utils.parametrizations.weight_norm(field.mlp.layers[1])
    return Situation(field, "a layer of the field's network is no plain nn.Linear", {})


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
    "other activation": other_activation,
    "too many layers": lambda: Situation(make_field("mlp", 2, 3, depth=16), "one to 16 layers; got 17 weights", {}),
    "linear field": lambda: Situation(make_field("linear", 2), "multilayer perceptrons alone.*LinearField", {}),
    "bfloat16": lambda: Situation(plain().bfloat16(), "float32 and float64; got torch.bfloat16", {}, torch.bfloat16),
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
        return [y, *torch.autograd.grad(y.nan_to_num().square().sum(), [leaf, *made.field.parameters()])]

    with made.around():
        expected = solve("torch")
        if made.calls is not None:
            made.calls.clear()
        for found, one in zip(solve("auto"), expected):
            assert difference(found, one) == 0
        assert made.calls is None or made.calls
        with pytest.raises(ValueError, match=f"(?s)engine='native' cannot solve this, because .*{made.why}"):
            solve("native")


def small_problem(dtype: torch.dtype = torch.float64) -> tuple[MLPField, Tensor, Tensor]:
    field = make_field("mlp", 2, 5, dtype=dtype)
    return (
        field,
        torch.tensor([[0.3, -0.2], [1.0, 0.5]], dtype=dtype),
        torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64),
    )


def uses_kernels(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every native solve."""
    calls = []
    own = NativeSolve.forward

    def counted(*arguments, **options):
        calls.append(1)
        return own(*arguments, **options)

    monkeypatch.setattr(NativeSolve, "forward", counted)
    return calls


@pytest.mark.parametrize("engine", ["auto", "native"])
@pytest.mark.parametrize("gradient", ["discrete_adjoint", "backprop", "adjoint"])
def test_without_gradients_these_are_the_same_solve(engine, gradient, monkeypatch):
    calls = uses_kernels(monkeypatch)
    field, y0, t_eval = small_problem()
    with torch.no_grad():
        found, expected = (
            solve_ivp(field, y0, t_eval, t0=0.0, engine=name, gradient=gradient).y
            for name in (engine, "torch")
        )
    assert calls == [1]
    assert difference(found, expected) < 1e-11


def test_auto_takes_the_kernels_where_it_can(monkeypatch):
    calls = uses_kernels(monkeypatch)
    field, y0, t_eval = small_problem()
    assert solve_ivp(field, y0, t_eval, t0=0.0).engine == "native"
    assert calls == [1]
    assert solve_ivp(field, y0, t_eval, t0=0.0, engine="torch").engine == "torch"
    assert solve_ivp(field, y0, t_eval, t0=0.0, solver="kvaerno5").engine == "torch"
    assert calls == [1]


def test_a_state_in_another_dtype_than_the_field(monkeypatch):
    calls = uses_kernels(monkeypatch)
    field, y0, t_eval = small_problem()
    with pytest.raises(ValueError, match=r"not all tensors of the field are torch\.float32 on cpu, as y0 is"):
        solve_ivp(field, y0.float(), t_eval, t0=0.0, engine="native")
    with pytest.raises(RuntimeError, match="dtype"):
        solve_ivp(field, y0.float(), t_eval, t0=0.0)
    assert not calls


def test_params_that_are_not_all(monkeypatch):
    field, y0, t_eval = small_problem()
    with pytest.raises(
        ValueError, match=r"shape \(.*\) that requires a gradient and is not among the params"
    ):
        solve_ivp(field, y0, t_eval, t0=0.0, engine="native", params=[field.mlp.layers[0].weight])
    with pytest.raises(ValueError, match="none of its parameters"):
        solve_ivp(field, y0, t_eval, t0=0.0, params=[field.mlp.layers[0].weight])


@pytest.mark.parametrize(
    ("name", "hint"),
    [("natve", "did you mean 'native'"), ("Torch", "did you mean 'torch'"), ("cuda", "expected one of")],
)
@pytest.mark.parametrize("options", [{}, {"event": lambda t, y: y[:, 0]}])
def test_unknown_engines(name, hint, options):
    field, y0, t_eval = small_problem()
    with pytest.raises(ValueError, match=f"unknown engine '{name}'.*{hint}"):
        solve_ivp(field, y0, t_eval, t0=0.0, engine=name, **options)


def test_without_the_library_torch_solves(monkeypatch):
    field, y0, t_eval = small_problem()
    monkeypatch.setenv("LATENTODE_ENGINE", "torch")
    assert torch.equal(solve_ivp(field, y0, t_eval).y, solve_ivp(field, y0, t_eval, engine="torch").y)
    with pytest.raises(ValueError, match=r"there are no native kernels .*LATENTODE_ENGINE=torch"):
        solve_ivp(field, y0, t_eval, engine="native")


class TestTransforms:
    def test_grad(self):
        field, y0, t_eval = small_problem()

        def loss(y0, engine="auto"):
            return solve_ivp(field, y0, t_eval, t0=0.0, gradient="backprop", engine=engine).y.square().sum()

        leaf = y0.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(leaf, "torch"), leaf)
        assert difference(torch.func.grad(loss)(y0), expected) < 1e-12
        with pytest.raises(ValueError, match=r"a transform of torch\.func|'discrete_adjoint' alone"):
            torch.func.grad(lambda y0: loss(y0, "native"))(y0)

    @pytest.mark.filterwarnings(
        "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
    )  # torch's own, once
    def test_jvp(self):
        field, y0, t_eval = small_problem()
        field.requires_grad_(False)
        direction = torch.ones_like(y0)
        options = {"t0": 0.0, "gradient": "backprop", "solver": "rk4", "step_size": 0.2}

        def solution(y0, engine="auto"):
            return solve_ivp(field, y0, t_eval, engine=engine, **options).y

        _, slope = torch.func.jvp(solution, (y0,), (direction,))
        near = (solution(y0 + 1e-6 * direction, "torch") - solution(y0 - 1e-6 * direction, "torch")) / 2e-6
        assert difference(slope, near) < 1e-8
        with pytest.raises(ValueError, match=r"a transform of torch\.func|'discrete_adjoint' alone"):
            torch.func.jvp(lambda y0: solution(y0, "native"), (y0,), (direction,))

    @pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
    def test_forward_mode(self):
        field, y0, t_eval = small_problem()
        field.requires_grad_(False)
        options = {"t0": 0.0, "gradient": "backprop", "solver": "rk4", "step_size": 0.2}
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(y0, torch.ones_like(y0))
            slope = forward_ad.unpack_dual(solve_ivp(field, dual, t_eval, **options).y).tangent
        expected = torch.func.jvp(
            lambda y0: solve_ivp(field, y0, t_eval, **options).y, (y0,), (torch.ones_like(y0),)
        )[1]
        assert difference(slope, expected) < 1e-12

    def test_functional_call(self):
        """Other parameters than the field's own: values and gradients are theirs."""
        field, y0, t_eval = small_problem()
        names = [name for name, _ in field.named_parameters()]
        others = {name: (1.5 * x).detach().requires_grad_() for name, x in field.named_parameters()}

        class Solved(nn.Module):
            def __init__(self):
                super().__init__()
                self.field = field

            def forward(self, **options):
                return solve_ivp(self.field, y0, t_eval, t0=0.0, rtol=1e-6, **options).y

        under = {f"field.{name}": x for name, x in others.items()}
        by_graph, native = {"engine": "torch", "gradient": "backprop"}, {"engine": "auto"}
        expected, found = (
            torch.func.functional_call(Solved(), under, (), which) for which in (by_graph, native)
        )
        assert difference(found, expected) < 1e-11
        gradients = [
            torch.autograd.grad(y.sum(), [others[name] for name in names]) for y in (expected, found)
        ]
        for one, other in zip(*gradients):
            assert difference(other, one) < 1e-10


@pytest.mark.parametrize("changed", ["parameter", "y0", "t_eval"])
def test_a_change_between_solve_and_gradient_is_noticed(changed):
    field, y0, t_eval = small_problem()
    y0.requires_grad_()
    y = solve_ivp(field, y0, t_eval, t0=0.0, engine="native").y
    with torch.no_grad():
        {"parameter": field.mlp.layers[1].weight, "y0": y0, "t_eval": t_eval}[changed].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("of_field", [True, False])
def test_other_data_between_solve_and_gradient_are_refused(of_field):
    field, y0, t_eval = small_problem()
    y0.requires_grad_()
    y = solve_ivp(field, y0, t_eval, t0=0.0, engine="native").y
    replaced = field.mlp.layers[0].weight if of_field else y0
    replaced.data = replaced.data.clone()  # which torch does not notice
    with pytest.raises(RuntimeError, match="given other data between the solve and its gradient"):
        y.sum().backward()


@pytest.mark.parametrize(
    ("t_eval", "t0", "why"),
    [
        ([[0.0, 1.0], [0.0, torch.inf]], None, "t_eval must be finite .*, inf for series 1"),
        ([[0.0, 1.0], [torch.nan, 1.0]], None, "t0 is needed where a series has no first query time"),
        ([0.0, 1.0], [0.0, torch.nan], "t0 must be finite"),
        ([0.0, 1.0], [0.0, -torch.inf], "t0 must be finite; got -inf for series 1"),
        ([], None, "t_eval is empty: pass at least one query time, or t0="),
    ],
)
@pytest.mark.parametrize("engine", ["torch", "native"])
def test_times_that_cannot_be_solved(engine, t_eval, t0, why):
    field, y0, _ = small_problem()
    with pytest.raises(ValueError, match=why):
        solve_ivp(field, y0, t_eval, t0=t0, engine=engine)


@pytest.mark.parametrize("solver", ["dopri5", "bosh3"])
@pytest.mark.parametrize("engine", ["torch", "native"])
def test_a_failure_is_seen_in_every_row(engine, solver):
    field, y0, t_eval = small_problem()
    for row in range(2):
        bad = y0.clone()
        bad[row] = torch.inf
        with pytest.raises(SolverError, match=f"series {row} could not be solved"):
            solve_ivp(field, bad, t_eval, t0=0.0, engine=engine, solver=solver)
        assert solve_ivp(field, bad, t_eval, t0=0.0, engine=engine, throw=False).status[row] > 0


def test_a_module_may_say_itself_which_its_parameters_are():
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = [nn.Parameter(torch.tensor(2.0, dtype=torch.float64))]

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return -self.hidden[0] * y

        def parameters(self, recurse: bool = True):
            return iter(self.hidden)

    field, y0 = Hidden(), torch.ones(1, 1, dtype=torch.float64)
    solve_ivp(field, y0, [0.0, 1.0], rtol=1e-8, atol=1e-8).y[:, 1].sum().backward()
    assert float(field.hidden[0].grad) == pytest.approx(-math.exp(-2), rel=1e-6)


def test_tensors_of_the_form_must_be_those_of_the_states():
    class Wide(Conditioned):
        def as_perceptron(self, y0: Tensor) -> Perceptron:
            return super().as_perceptron(y0[:, :-1])  # one input less than the network reads

    field = Wide(2, 3).double()
    y0 = torch.rand(4, 5, dtype=torch.float64)
    why = r"reads 5 numbers and returns 2, for states \(N, D\) of 5: it must .* read these and 2 inputs"
    with pytest.raises(ValueError, match=why):
        solve_ivp(field, y0, [0.0, 1.0], engine="native")
    assert solve_ivp(field, y0, [0.0, 1.0]).y.shape == (4, 2, 5)
