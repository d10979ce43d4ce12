"""What `solve_ivp` is asked, checked and completed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from latentode.checks import did_you_mean
from latentode.solve.flat import FlatField
from latentode.solve.graph import leaves_behind, newest_node
from latentode.solvers import CONTROLLERS, SOLVERS, FixedStep, Method
from latentode.solvers.method import inside_torch_func
from latentode.solvers.step_size import Controller

NO_START = "t0 is needed where a series has no first query time: pass t0="
NO_TIMES = "t_eval is empty: pass at least one query time, or t0="


def by_name(choice: Any, table: dict[str, Any], what: str) -> Any:
    """An object as it is, or the entry of that name."""
    if not isinstance(choice, str):
        if choice is None or isinstance(choice, (int, float)):
            names = ", ".join(map(repr, table))
            raise TypeError(f"{what} must be a name, one of {names}, or an object; got {choice!r}")
        return choice
    if choice in table:
        return table[choice]
    names = ", ".join(map(repr, table))
    raise ValueError(f"unknown {what} {choice!r}{did_you_mean(choice, table)}: expected one of {names}")


def arrange_times(y0: Tensor, t_eval: Any, t0: Any) -> tuple[Tensor, Tensor]:
    """Query times (N, T) and initial times (N,) in float64 on the device of y0, for `check_finite`."""
    n = len(y0)
    dtype = _time_dtype(y0.device)
    try:
        t_eval = torch.as_tensor(t_eval, dtype=dtype, device=y0.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"t_eval must be numbers of shape (T,) or (N, T): pad shorter rows with NaN, and turn dates into numbers; "
            f"got {type(t_eval).__name__}: {error}"
        ) from error
    shape = t_eval.shape
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[0] != n):
        raise ValueError(
            f"t_eval must have shape (T,) or (N, T) with N = {n} (the length of y0); got {tuple(shape)}"
            + (": a single time is [time]" if not shape else "")
        )
    if len(shape) == 1:
        t_eval = t_eval.expand(n, -1)
    if t0 is None:
        if shape[-1] == 0:
            raise ValueError(NO_TIMES)
        return t_eval, t_eval.select(1, 0)
    t0 = torch.as_tensor(t0, dtype=dtype, device=y0.device)
    if t0.ndim > 1 or (t0.ndim == 1 and len(t0) != n):
        raise ValueError(f"t0 must be a scalar or have shape (N,) with N = {n}; got {tuple(t0.shape)}")
    return t_eval, t0.expand(n)


def check_finite(t_eval: Tensor, t0: Tensor) -> None:
    """Refuse infinite query times, and initial times that are infinite or NaN."""
    infinite = torch.nonzero(torch.isinf(t_eval))
    if len(infinite):
        row, column = infinite[0].tolist()
        time = float(t_eval[row, column])
        raise ValueError(
            f"t_eval must be finite (NaN asks nothing); got an infinite query time, {time} for series {row}"
        )
    wrong = torch.nonzero(~torch.isfinite(t0))
    if len(wrong):
        row = int(wrong[0])
        given = f"t0 must be finite; got {float(t0[row])} for series {row}"
        raise ValueError(NO_START if _is_first(t0, t_eval) else given)


def _is_first(t0: Tensor, t_eval: Tensor) -> bool:
    """Whether the initial times are the first query times, which they are where none were given."""
    return t_eval.shape[1] > 0 and t0.data_ptr() == t_eval.data_ptr()


def _time_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def controller_for(
    method: Method,
    name: object,
    choice: str | Controller | None,
    tolerances: dict[str, float],
    step_size: float | None,
    bounds: dict[str, Any],
) -> Controller:
    if isinstance(choice, str) and step_size is not None:
        raise ValueError(
            f"controller={choice!r} chooses steps and step_size= fixes them: leave one of them out"
        )
    if bounds["initial_step"] is not None and not bounds["initial_step"] > 0:
        raise ValueError(f"first_step must be positive; got {bounds['initial_step']}")
    chosen = by_name(choice or "pi", CONTROLLERS, "controller")
    named = chosen in CONTROLLERS.values()
    if named and step_size is None:
        if method.error_order is None:
            adaptive = [key for key, other in SOLVERS.items() if other.error_order is not None]
            raise ValueError(
                f"solver {name!r} has no error estimate and needs step_size=; adaptive solvers are {adaptive}"
            )
        return chosen(**tolerances, order=method.error_order + 1, **bounds)
    if bounds != {"initial_step": None, "min_step": 0.0, "max_step": math.inf}:
        raise ValueError(
            "first_step, min_step and max_step are for adaptive steps: leave them out beside step_size=, or give "
            "them to the controller itself"
        )
    return FixedStep(step_size) if named and step_size is not None else chosen


def parameters_of(field: object, params: Iterable[Tensor] | Tensor | nn.Module | None) -> tuple[Tensor, ...]:
    """The tensors that gradients are wanted for."""
    owner = getattr(field, "__self__", field)  # a module's own method counts as the module
    if params is None:
        params = _parameters_of_module(owner) if isinstance(owner, nn.Module) else ()
    if isinstance(params, nn.Module):
        params = params.parameters()
    params = (params,) if isinstance(params, Tensor) else tuple(params)
    for param in params:
        if not isinstance(param, Tensor):
            raise TypeError(
                f"params must be tensors, [*module.parameters(), tensor, ...]; got a {type(param).__name__} among them"
            )
    return tuple({id(param): param for param in params if param.requires_grad}.values())  # each once


def _parameters_of_module(module: nn.Module) -> Iterable[Tensor]:
    """As `module.parameters()`, whose generators take longer than a small solve."""
    kind = type(module)
    if kind.parameters is not nn.Module.parameters or kind.named_parameters is not nn.Module.named_parameters:
        return module.parameters()
    found: list[Tensor] = []
    _collect(module, found)
    return found


def _collect(module: nn.Module, found: list[Tensor]) -> None:
    found += [param for param in module._parameters.values() if param is not None]
    for part in module._modules.values():
        if part is not None:
            _collect(part, found)


def check_transforms(inputs: Iterable[Tensor], *, by_graph: bool, with_event: bool) -> None:
    """Say what works inside torch.func, before torch says it in words of its own machinery."""
    inputs = tuple(inputs)
    if any(map(torch._C._functorch.is_batchedtensor, inputs)):
        raise RuntimeError(
            "solve_ivp does not run inside torch.func.vmap, as the number of steps depends on the values; it takes "
            "many series at once: stack them along the first axis of y0"
        )
    if with_event and inside_torch_func():
        raise RuntimeError(
            "events do not work inside the transforms of torch.func: differentiate with torch.autograd, as by "
            "event_times.sum().backward()"
        )
    if not by_graph and any(map(torch._C._functorch.is_gradtrackingtensor, inputs)):
        raise RuntimeError("inside torch.func.grad, vjp, jvp and jacrev, solve with gradient='backprop'")


_FOUND_SOUND: WeakKeyDictionary[object, set[object]] = WeakKeyDictionary()


def check_field(
    field: FlatField, params: Sequence[Tensor], y0: Tensor, t0: Tensor, *, needs_params: bool
) -> None:
    """Evaluate the field on the first two series, and say what is wrong with the answer or its graph.

    The graph is looked at in every solve, as a module may use another tensor each time; the answers of a module are
    tried once per kind of state.
    """
    asked = (*field.layout.shapes, field.layout.is_tuple, y0.dtype, y0.device, min(len(y0), 2))
    known = _FOUND_SOUND.setdefault(field.field, set()) if isinstance(field.field, nn.Module) else set()
    if asked in known and not (needs_params and torch.is_grad_enabled()):
        return
    _check_answers(field, params, y0, t0, needs_params=needs_params, rows_too=asked not in known)
    known.add(asked)


def _check_answers(
    field: FlatField, params: Sequence[Tensor], y0: Tensor, t0: Tensor, *, needs_params: bool, rows_too: bool
) -> None:
    t, y = t0.detach()[:2], y0.detach()[:2]
    born = newest_node()
    untouched = y.clone()
    try:
        with torch.set_grad_enabled(torch.is_grad_enabled() and needs_params):
            slope = field.check(t, untouched)
        if not torch.equal(untouched.nan_to_num(), y.nan_to_num()):
            raise ValueError("the field changes y in place: return a new tensor")
        if rows_too and len(y) == 2:
            _check_rows(field, t, y, slope.detach())
    except Exception as error:
        error.add_note(_how_it_was_called(field, y0))
        raise
    for leaf in leaves_behind(slope, params, born):
        if leaf is None:
            raise ValueError(
                "the field uses a tensor that was computed outside of it from one that requires a gradient: compute "
                "it inside the field, pass it as one of params=(...), or use gradient='backprop'"
            )
        raise ValueError(
            f"the field uses a tensor of shape {tuple(leaf.shape)} that requires a gradient and is none of its "
            "parameters: pass params=(...), make the field an nn.Module that owns it, or use gradient='backprop'"
        )


@torch.no_grad()
def _check_rows(field: FlatField, t: Tensor, y: Tensor, slope: Tensor) -> None:
    """A row of the batch must not depend on the others; noise, as of dropout, is let through."""
    tolerance = 100 * torch.finfo(y.dtype).eps ** 0.5
    repair = (
        ": index along the second axis, y[:, 0], and give times and sums an axis to broadcast along, t[:, None] and "
        "y.sum(dim=1, keepdim=True)"
    )
    try:
        alone = field.check(t[:1], y[:1].clone())
    except Exception as error:
        raise ValueError(
            f"the field must treat every series by itself; for the first one alone it raised {type(error).__name__} "
            f"({error}){repair}"
        ) from error
    scale = float(torch.maximum(alone.abs().max(), slope.abs().max())) if slope.numel() else 0.0

    def apart(one: Tensor, other: Tensor) -> bool:
        return not torch.allclose(one, other, rtol=0.0, atol=tolerance * scale, equal_nan=True)

    if math.isfinite(scale) and apart(alone, slope[:1]) and not apart(field.check(t, y.clone()), slope):
        raise ValueError(
            f"the field must treat every series by itself; for the first one alone it returned {_some(alone)}, but "
            f"{_some(slope[:1])} beside another one{repair}"
        )


def _some(row: Tensor) -> str:
    numbers = [f"{x:.4g}" for x in row.flatten().tolist()]
    return f"({', '.join(numbers[:4])}{', ...' if len(numbers) > 4 else ''})"


def _how_it_was_called(field: FlatField, y0: Tensor) -> str:
    n = min(2, len(y0))
    state = field.layout.shaped(y0.detach()[:n])
    shapes = " and ".join(str(tuple(part.shape)) for part in (state if field.layout.is_tuple else (state,)))
    note = (
        f"while field(t, y) was tried with t ({n},) and y {shapes}, {y0.dtype}: {n} of the {len(y0)} series. It must "
        "work for any number of them; what differs between series belongs into the state, as one more part of a tuple "
        "with derivative 0."
    )
    if not field.layout.is_tuple and not field.layout.shapes[0]:
        note += f" y0 of shape ({len(y0)},) means series of one number; one series of {len(y0)} is y0[None]."
    return note
