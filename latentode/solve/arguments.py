"""What `solve_ivp` is asked, checked and completed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from latentode.solve.flat import FlatField
from latentode.solvers import CONTROLLERS, SOLVERS, FixedStep, Method
from latentode.solvers.step_size import Controller


def by_name(choice: Any, table: dict[str, Any], what: str) -> Any:
    """An object as it is, or the entry of that name."""
    if not isinstance(choice, str):
        return choice
    if choice in table:
        return table[choice]
    close = get_close_matches(choice, table, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(f"unknown {what} {choice!r}{hint}: expected one of {', '.join(map(repr, table))}")


def check_times(y0: Tensor, t_eval: Any, t0: Any) -> tuple[Tensor, Tensor]:
    """Query times (N, T) and initial times (N,) in float64 on the device of y0."""
    n = len(y0)
    t_eval = torch.as_tensor(t_eval, dtype=_time_dtype(y0.device), device=y0.device)
    if t_eval.ndim == 0 or t_eval.ndim > 2 or (t_eval.ndim == 2 and len(t_eval) != n):
        raise ValueError(
            f"t_eval must have shape (T,) or (N, T) with N = {n} (the length of y0); got {tuple(t_eval.shape)}"
        )
    t_eval = t_eval.expand(n, -1) if t_eval.ndim == 1 else t_eval
    if bool(torch.isinf(t_eval).any()):
        raise ValueError("t_eval must be finite (NaN asks nothing); got an infinite query time")
    if t0 is None:
        if t_eval.shape[1] == 0 or bool(torch.isnan(t_eval[:, 0]).any()):
            raise ValueError("t0 is needed where a series has no first query time: pass t0=")
        return t_eval, t_eval[:, 0]
    t0 = torch.as_tensor(t0, dtype=t_eval.dtype, device=y0.device)
    if t0.ndim > 1 or (t0.ndim == 1 and len(t0) != n):
        raise ValueError(f"t0 must be a scalar or have shape (N,) with N = {n}; got {tuple(t0.shape)}")
    t0 = t0.expand(n)
    if not bool(torch.isfinite(t0).all()):
        raise ValueError("t0 must be finite")
    return t_eval, t0


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


def parameters_of(field: object, params: Iterable[Tensor] | None) -> tuple[Tensor, ...]:
    """The tensors that gradients are wanted for."""
    owner = getattr(field, "__self__", field)  # a module's own method counts as the module
    if params is None:
        params = owner.parameters() if isinstance(owner, nn.Module) else ()
    return tuple(param for param in params if param.requires_grad)


def check_transforms(inputs: Iterable[Tensor], *, by_graph: bool) -> None:
    """Say what works inside torch.func, before torch says it in words of its own machinery."""
    inputs = tuple(inputs)
    if any(map(torch._C._functorch.is_batchedtensor, inputs)):
        raise RuntimeError(
            "solve_ivp does not run inside torch.func.vmap, as the number of steps depends on the values; it takes "
            "many series at once: stack them along the first axis of y0"
        )
    if not by_graph and any(map(torch._C._functorch.is_gradtrackingtensor, inputs)):
        raise RuntimeError("inside torch.func.grad, vjp, jvp and jacrev, solve with gradient='backprop'")


def check_field(
    field: FlatField, params: Iterable[Tensor], y0: Tensor, t0: Tensor, *, needs_params: bool
) -> None:
    """Evaluate the field once, on the first two series, and say what is wrong with the answer or its graph."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and needs_params):
        slope = field.check(t0.detach()[:2], y0.detach()[:2])
    for leaf in _leaves_behind(slope, params):
        raise ValueError(
            f"the field uses a tensor of shape {tuple(leaf.shape)} that requires a gradient and is none of its "
            "parameters: pass params=(...), make the field an nn.Module that owns it, or use gradient='backprop'"
        )


def _leaves_behind(output: Tensor, known: Iterable[Tensor]) -> list[Tensor]:
    """Leaf tensors that require a gradient, reached from `output` without passing a known tensor."""
    leaves = {id(x) for x in known}
    seen: set[Any] = {None, *(x.grad_fn for x in known)}
    queue: list[Any] = [output.grad_fn]
    found = []
    while queue:
        node = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in leaves:
            found.append(variable)
        queue += [next_node for next_node, _ in node.next_functions]
    return found
