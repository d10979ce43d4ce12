"""Which fields are perceptrons, for the native kernels: the form that a field says it has, held against the field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from latentode.checks import did_you_mean
from latentode.gradients import Problem
from latentode.native import Perceptron
from latentode.native.structures import ACTIVATIONS, MAX_LAYERS
from latentode.solve.flat import FlatField
from latentode.solve.graph import leaves_behind, newest_node
from latentode.solve.only_torch import is_changed, overrides, why_only_torch_of

SERIES_COMPARED = 8  # of which a form must say what its field says, at three times each


class Mistake(str):
    """Why a field is left to torch, where that is a fault of the field's that its author should hear of."""


def own_field(problem: Problem) -> Any:
    """The caller's field."""
    return problem.field.field if isinstance(problem.field, FlatField) else problem.field


def form_or_why_not(problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor) -> Perceptron | str:
    """The form of a field that has a method `as_perceptron`, or why the kernels cannot solve it.

    Raises
    ------
    TypeError
        Where the method returns something else.
    """
    field = own_field(problem)
    if getattr(field, "largest_step", None) is not None:
        return "the field bounds its steps by `largest_step`, as the controls of a table do"
    if any(map(is_changed, _modules_of(field))) or overrides(type(field), "as_perceptron"):  # type: ignore[arg-type]
        return "the field, or a part of it, has a hook, or a `forward` of its own beside `as_perceptron`"
    form = field.as_perceptron(y0)
    if form is None:
        return _why_none(field)
    if not isinstance(form, Perceptron):
        raise TypeError(
            f"{type(field).__name__}.as_perceptron must return a latentode.native.Perceptron, such as "
            f"Perceptron.of(self.net), or None; got {type(form).__name__}"
        )
    why_not = (
        _why_not_tensors(form, problem, y0) or _why_not_layers(form) or _why_not_states(form, problem, y0)
    )
    if why_not is None and len(y0) and not _is_trusted(field):
        why_not = _why_not_sound(field, form, problem, y0, t0, t_eval)
    return form if why_not is None else why_not


def _is_trusted(field: object) -> bool:
    """The dynamics of the models, made anew for every solve, say what their field says."""
    return _is_ours(field) and not isinstance(field, nn.Module)


def _is_ours(field: object) -> bool:
    return type(field).__module__.split(".")[0] == __name__.split(".")[0]


def _why_none(field: object) -> str:
    if _is_trusted(field):
        return "its kernels know no controls and no event times, and only the networks of latentode.nn.fields"
    if _is_ours(field):
        return "a layer of the field's network is no plain nn.Linear (any more)"
    return (
        f"{type(field).__name__}.as_perceptron returned None, as Perceptron.of does for anything but an nn.Sequential "
        "of nn.Linear, then pairs of an activation (the same in all: nn.Tanh, nn.Softplus, nn.ELU, nn.SiLU or nn.ReLU, "
        "with torch's arguments) and nn.Linear, each as wide as the one before returns"
    )


def _why_not_tensors(form: Perceptron, problem: Problem, y0: Tensor) -> str | None:
    tensors = form.tensors if form.inputs is None else (*form.tensors, form.inputs)
    known = set(map(id, problem.params))
    dtype = y0.dtype
    for x in form.tensors:
        if x.requires_grad and id(x) not in known:
            return (
                f"its `as_perceptron` returned a tensor of shape {tuple(x.shape)} that requires a gradient and is not "
                "among the params: return the field's own parameters, not copies, or pass them as params="
            )
    for x in tensors:
        if x.dtype is not dtype or not x.is_cpu:
            return f"not all tensors of the field are {dtype} on {y0.device}, as y0 is"
    return why_only_torch_of(tensors)


def _why_not_layers(form: Perceptron) -> str | None:
    """Whether every layer reads what the one before it returns."""
    weights, biases = form.weights, form.biases
    if form.activation not in ACTIVATIONS:
        hint = did_you_mean(form.activation, ACTIVATIONS)
        return f"its kernels know the activations {', '.join(ACTIVATIONS)}; got {form.activation!r}{hint}"
    if not 0 < len(weights) <= MAX_LAYERS:
        return f"its kernels know one to {MAX_LAYERS} layers; got {len(weights)} weights"
    if len(biases) != len(weights):
        return Mistake(f"its `as_perceptron` returned {len(weights)} weights and {len(biases)} biases")
    width = weights[0].shape[-1] if weights[0].ndim else 0
    for i, (weight, bias) in enumerate(zip(weights, biases)):
        if weight.ndim != 2 or not weight.numel() or weight.shape[1] != width:
            expected = f"(n, {width})" if i else "(n_out, n_in)"
            return Mistake(f"its weights[{i}] must have shape {expected}; got {tuple(weight.shape)}")
        width = weight.shape[0]
        if bias is not None and bias.shape != (width,):
            return Mistake(f"its biases[{i}] must have shape ({width},); got {tuple(bias.shape)}")
    if form.raw_speed is not None and form.raw_speed.shape != (width,):
        return Mistake(f"its raw_speed must have shape ({width},); got {tuple(form.raw_speed.shape)}")
    return None


def _why_not_states(form: Perceptron, problem: Problem, y0: Tensor) -> str | None:
    n_series, n_columns = y0.shape
    if not form.n_still and isinstance(problem.field, FlatField) and not problem.field.layout.is_flat:
        return "its kernels know states y0 of shape (N, D): neither tuples nor more axes"
    if form.inputs is not None and (form.inputs.ndim != 2 or len(form.inputs) != n_series):
        return Mistake(f"its inputs must have shape ({n_series}, C); got {tuple(form.inputs.shape)}")
    n_inputs = 0 if form.inputs is None else form.inputs.shape[1]
    n_read = form.weights[0].shape[1]
    n_seen = form.dim + form.time_input + n_inputs
    if n_read != n_seen or n_columns != form.dim + form.n_still:
        moving = n_columns - form.n_still
        also = f"{' and the time' if form.time_input else ''}{f' and {n_inputs} inputs' if n_inputs else ''}"
        why_not = (
            f"the field's network reads {n_read} numbers and returns {form.dim}, for states (N, D) of {n_columns}: it "
            f"must return the {moving} that move, and read these{also}"
        )
        return Mistake(why_not) if moving == form.dim else why_not
    if form.inputs is not None and form.inputs.requires_grad and not form.n_still:
        return "the field has inputs that require a gradient and are no part of the state"
    return None


def _why_not_sound(
    field: Any, form: Perceptron, problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor
) -> str | None:
    """Hold a form against the field that has it, once for every field and kind of solve."""
    with_graph = problem.wants_gradient(y0, t0, t_eval)
    kind = (y0.dtype, y0.shape[1], form.n_still, with_graph and len(problem.params))
    try:
        known = _FOUND_SOUND.setdefault(field, set())
    except TypeError:  # of a kind that cannot be remembered
        known = set()
    if kind in known:
        return None
    t0, t_eval, y0 = (x.detach()[:SERIES_COMPARED] for x in (t0, t_eval, y0))
    compared = 0
    for t in _some_times(t0, t_eval):
        found = _compare(field, form, problem, t, y0, with_graph=with_graph)
        if isinstance(found, str):
            return found
        compared += found
    if compared:
        known.add(kind)
    return None


_FOUND_SOUND: WeakKeyDictionary[Any, set[object]] = WeakKeyDictionary()


def _some_times(t0: Tensor, t_eval: Tensor) -> Iterator[Tensor]:
    """The initial times, and those of a middle and the last column of the query times, where there are such."""
    yield t0
    n_times = t_eval.shape[1]
    for column in sorted({n_times // 2, n_times - 1}) if n_times else ():
        asked = t_eval[:, column]
        yield torch.where(torch.isfinite(asked), asked, t0)


def _compare(
    field: Any, form: Perceptron, problem: Problem, t: Tensor, y: Tensor, *, with_graph: bool
) -> bool | str:
    """What differs between a form and its field; otherwise whether there were finite numbers to compare."""
    born = newest_node()
    try:
        with torch.set_grad_enabled(with_graph):
            slope: object = problem.field(t, y.clone())
    except Exception:  # torch's check of the field says better what is wrong
        return "the field cannot be evaluated"
    if not isinstance(slope, Tensor):
        return "the field returns no tensor"
    name = type(field).__name__
    for leaf in leaves_behind(slope, form.tensors, born):
        what = (
            "a tensor that was computed outside" if leaf is None else f"a tensor of shape {tuple(leaf.shape)}"
        )
        return Mistake(
            f"{name}.forward uses {what}, which requires a gradient and of which its as_perceptron says nothing"
        )
    with torch.no_grad():
        expected = form.slope(t, y)
    if slope.shape != expected.shape:
        return Mistake(
            f"{name}.as_perceptron gives slopes {tuple(expected.shape)}, its forward {tuple(slope.shape)}"
        )
    scale = slope.detach().abs().max()
    if not torch.isfinite(scale):
        return False
    apart = (slope.detach() - expected).abs()
    if bool((apart <= torch.finfo(y.dtype).eps ** 0.5 * scale).all()):
        return True
    row, column = divmod(int(apart.nan_to_num(nan=torch.inf).argmax()), apart.shape[1])
    return Mistake(
        f"{name}.as_perceptron says something else than its forward: for series {row} at t = {t[row]:.4g} "
        f"it makes dy/dt[{column}] {expected[row, column]:.4g}, forward makes it {slope[row, column]:.4g}"
    )


def _modules_of(field: Any) -> list[nn.Module]:
    """The field, or the modules that it holds, where it is none itself."""
    if isinstance(field, nn.Module):
        return [field]
    return [part for part in vars(field).values() if isinstance(part, nn.Module)]
