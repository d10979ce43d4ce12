"""`solve_ivp`: initial value problems, batch first, a clock per series, differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentode.gradients import GRADIENTS, Gradient, Problem
from latentode.gradients.event import through_event
from latentode.solvers import CONTROLLERS, SOLVERS, FixedStep, Method, Solution
from latentode.solvers.integrate import Integration, integrate
from latentode.solvers.solution import Status
from latentode.solvers.step_size import Controller


def solve_ivp(
    field: Callable[[Tensor, Tensor], Tensor],
    y0: Tensor,
    t_eval: Any,
    *,
    t0: Any = None,
    solver: str | Method = "dopri5",
    rtol: float = 1e-3,
    atol: float = 1e-6,
    step_size: float | None = None,
    controller: str | Controller | None = None,
    first_step: float | None = None,
    min_step: float = 0.0,
    max_step: float = math.inf,
    gradient: str | Gradient = "discrete_adjoint",
    params: Iterable[Tensor] | None = None,
    max_steps: int = 10_000,
    throw: bool = True,
    event: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Solution:
    """Solve dy/dt = field(t, y) for N series at once, each on its own clock.

    Every series has its own time, step size, error and query times: a stiff one does not slow its neighbours down,
    and the number of steps depends on the dynamics, not on how many times are asked for.

    Parameters
    ----------
    field : callable or nn.Module
        `f(t, y) -> dy/dt` with t (n,), y (n, *state) and the result like y, row by row independent, for any number
        n of the series (those that are done leave the batch).
    y0 : Tensor (N, *state)
        Floating point. States at `t0`.
    t_eval : Tensor (T,) or (N, T)
        Query times, the same for all series or their own, in any order, before and after `t0`. NaN asks nothing,
        so that series may have different numbers of query times. Kept in float64.
    t0 : float or Tensor () or (N,), optional
        Initial times; default: the first query time of each series.
    solver : str or Method, default "dopri5"
        A name in `latentode.solvers.SOLVERS` or a method.
    rtol, atol : float, default 1e-3 and 1e-6
        Tolerances of an adaptive solver for the error of a step: atol + rtol · |y|.
    step_size : float, optional
        Take fixed steps of this size, in the unit of time. Required for solvers without an error estimate.
    controller : str or object, optional
        A name in `latentode.solvers.CONTROLLERS`, "i", "pi" (the default) or "pid", or an object, which overrides rtol,
        atol and step_size.
    first_step : float, optional
        First step size of an adaptive solver, in the unit of time; default: found from the field.
    min_step, max_step : float, default 0 and inf
        Bounds of the step sizes of an adaptive solver, in the unit of time. A step of `min_step` is accepted whatever
        its error is (as in torchdiffeq), so that a jump in the field is crossed, but never to a state that is not
        finite.
    gradient : str or callable, default "discrete_adjoint"
        A name in `latentode.gradients.GRADIENTS`. "discrete_adjoint": the exact gradient of the computed solution
        in memory O(steps × state); "backprop": the same through an ordinary graph (second derivatives work);
        "reversible": the exact gradient in constant memory, with the solver made reversible (which changes the
        solution; not for strongly contracting or stiff fields); "adjoint": the continuous adjoint, in constant
        memory, exact up to the tolerances. `gradients.Adjoint(rtol=, atol=, method=, controller=)` sets how it
        solves backwards.
    params : iterable of Tensor, optional
        The tensors that the field uses and that gradients are wanted for; default: those of the module.
    max_steps : int, default 10_000
        Steps, accepted or not, that a series may take.
    throw : bool, default True
        Whether a series that cannot be solved raises; otherwise its `status` says so and the values that it did not
        reach are NaN.
    event : callable, optional
        `g(t, y) -> (n,)` with t and y as for the field: every series stops where the sign of its own number changes,
        or at once where it is 0 at t0. The change is seen between the ends of an accepted step, and its time found on
        the dense output. The query times must lie on one side of t0; those beyond the event are answered with NaN.
        The solve is done twice, first to find the events. Their times have first derivatives with respect to
        all, also to what `g` uses.

    Returns
    -------
    Solution
        t (N, T), y (N, T, *state), status, t_reached and stats per series; with `event`, event_times (N,) and
        event_states (N, *state).

    Raises
    ------
    ValueError
        For arguments that do not fit together.
    SolverError
        With `throw`, when a series cannot be solved.

    References
    ----------
    Chen, Rubanova, Bettencourt, Duvenaud (2018), Neural Ordinary Differential Equations.

    Examples
    --------
    >>> import torch
    >>> from latentode import solve_ivp
    >>> y0 = torch.ones(2, 1, dtype=torch.float64)
    >>> solution = solve_ivp(lambda t, y: -y, y0, [[0.0, 1.0], [0.0, 2.0]], rtol=1e-8, atol=1e-8)
    >>> [round(y, 5) for y in solution.y[:, 1, 0].tolist()]
    [0.36788, 0.13534]
    """
    state = _check_state(y0)
    t_eval, t0 = _check_times(y0, t_eval, t0)
    if not (isinstance(max_steps, int) and max_steps > 0):
        raise ValueError(f"max_steps must be a positive int; got {max_steps!r}")
    method = by_name(solver, SOLVERS, "solver")
    problem = Problem(
        field=_FlatField(field, y0.shape[1:], y0.dtype),
        params=_parameters(field, params),
        method=method,
        controller=_controller(
            method,
            solver,
            controller,
            {"rtol": rtol, "atol": atol},
            step_size,
            {"initial_step": first_step, "min_step": min_step, "max_step": max_step},
        ),
        max_steps=max_steps,
    )
    differentiate = by_name(gradient, GRADIENTS, "gradient")
    _check_transforms((y0, t0, t_eval, *problem.params), by_graph=differentiate is GRADIENTS["backprop"])
    if len(y0):
        _check_field(problem, y0, t0, needs_params=differentiate is not GRADIENTS["backprop"])
    times = states = None
    if event is None:
        answer = _solve_sides(differentiate, problem, state, t0, t_eval)
    else:
        flat_event = _FlatEvent(event, y0.shape[1:], y0.dtype)
        answer, times, states = _solve_to_event(differentiate, problem, flat_event, state, t0, t_eval)
        states = states.reshape(y0.shape)
    solution = Solution(
        t=t_eval,
        y=answer.y.reshape(*t_eval.shape, *y0.shape[1:]),
        status=answer.status,
        t_reached=answer.t_reached,
        stats={"n_steps": answer.n_steps, "n_accepted": answer.n_accepted, "n_evals": answer.n_evals},
        event_times=times,
        event_states=states,
    )
    return solution.raise_for_status() if throw else solution


def by_name(choice: Any, table: dict[str, Any], what: str) -> Any:
    """An object as it is, or the entry of that name."""
    if not isinstance(choice, str):
        return choice
    if choice in table:
        return table[choice]
    close = get_close_matches(choice, table, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(f"unknown {what} {choice!r}{hint}: expected one of {', '.join(map(repr, table))}")


class _FlatField:
    """The user's field on a flat state, with time in the dtype of the state."""

    def __init__(
        self, field: Callable[[Tensor, Tensor], Tensor], shape: torch.Size, dtype: torch.dtype
    ) -> None:
        self.field, self.shape, self.dtype = field, shape, dtype

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        if len(self.shape) == 1:
            return self.field(t.to(self.dtype), y)
        return self.field(t.to(self.dtype), y.reshape(len(y), *self.shape)).reshape(y.shape)


class _FlatEvent:
    """The user's event function on a flat state, with time in the dtype of the state."""

    def __init__(
        self, event: Callable[[Tensor, Tensor], Tensor], shape: torch.Size, dtype: torch.dtype
    ) -> None:
        self.event, self.shape, self.dtype = event, shape, dtype

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        value = self.event(t.to(self.dtype), y.reshape(len(y), *self.shape))
        if not isinstance(value, Tensor) or value.shape != t.shape or not value.is_floating_point():
            got = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"event(t, y) must return one floating-point number per series, {tuple(t.shape)}; it returned {got}"
            )
        return value


def _check_state(y0: Tensor) -> Tensor:
    """The state as (N, D)."""
    if not isinstance(y0, Tensor):
        raise TypeError(f"y0 must be a torch.Tensor (N, *state); got {type(y0).__name__}")
    if not y0.is_floating_point():
        raise ValueError(f"y0 must be floating point; got {y0.dtype}: use y0.float() or y0.double()")
    if y0.ndim == 0:
        raise ValueError(
            "y0 must have shape (N, *state) with the series first; got a scalar: use y0.reshape(1, 1)"
        )
    return y0.reshape(len(y0), math.prod(y0.shape[1:]))  # -1 would be ambiguous for N = 0


def _check_times(y0: Tensor, t_eval: Any, t0: Any) -> tuple[Tensor, Tensor]:
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


def _controller(
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


def _parameters(field: object, params: Iterable[Tensor] | None) -> tuple[Tensor, ...]:
    """The tensors that gradients are wanted for."""
    owner = getattr(field, "__self__", field)  # a module's own method counts as the module
    if params is None:
        params = owner.parameters() if isinstance(owner, nn.Module) else ()
    return tuple(param for param in params if param.requires_grad)


def _check_transforms(inputs: Iterable[Tensor], *, by_graph: bool) -> None:
    """Say what works inside torch.func, before torch says it in words of its own machinery."""
    inputs = tuple(inputs)
    if any(map(torch._C._functorch.is_batchedtensor, inputs)):
        raise RuntimeError(
            "solve_ivp does not run inside torch.func.vmap, as the number of steps depends on the values; it takes "
            "many series at once: stack them along the first axis of y0"
        )
    if not by_graph and any(map(torch._C._functorch.is_gradtrackingtensor, inputs)):
        raise RuntimeError("inside torch.func.grad, vjp, jvp and jacrev, solve with gradient='backprop'")


def _check_field(problem: Problem, y0: Tensor, t0: Tensor, *, needs_params: bool) -> None:
    """Evaluate the field once, on the first two series, and say what is wrong with the answer or its graph."""
    probe = y0.detach()[:2]
    flat: _FlatField = problem.field  # type: ignore[assignment]
    with torch.set_grad_enabled(torch.is_grad_enabled() and needs_params):
        dy = flat.field(t0.detach()[:2].to(y0.dtype), probe)
    if not isinstance(dy, Tensor) or dy.shape != probe.shape or dy.dtype != probe.dtype:
        got = f"{tuple(dy.shape)} {dy.dtype}" if isinstance(dy, Tensor) else type(dy).__name__
        raise ValueError(
            f"field(t, y) must return dy/dt like y; for y of shape {tuple(probe.shape)} {probe.dtype} it "
            f"returned {got}"
        )
    if dy.device != probe.device:
        raise ValueError(f"y0 is on {probe.device} but the field answers on {dy.device}: move one of them")
    for leaf in _leaves_behind(dy, problem.params):
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


class _Answer(NamedTuple):
    y: Tensor
    status: Tensor
    t_reached: Tensor
    n_steps: Tensor
    n_accepted: Tensor
    n_evals: Tensor


def _solve_sides(gradient: Gradient, problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor) -> _Answer:
    """Query times after t0 and before it are two problems of one batch; a series may have both."""
    before = t_eval.detach() < t0.detach()[:, None]
    if not bool(before.any()):
        y, run = _solve_in_order(gradient, problem, y0, t0, t_eval)
        return _Answer(y, run.status, run.t_reached, run.n_steps, run.n_accepted, run.n_evals)
    backward = torch.nonzero(before.any(dim=1))[:, 0]
    forward = torch.nonzero((~before & ~torch.isnan(t_eval)).any(dim=1))[:, 0]
    rows = torch.cat([backward, forward])  # this way round `_merge` keeps the later time reached
    mine = torch.cat([before[backward], ~before[forward]])
    queries = torch.where(mine, t_eval[rows], torch.nan)
    y, run = _solve_in_order(gradient, problem, y0[rows], t0[rows], queries)
    row, column = torch.nonzero(mine & ~torch.isnan(queries), as_tuple=True)
    unasked = torch.full((*t_eval.shape, y.shape[2]), torch.nan, dtype=y.dtype, device=y.device)
    whole = unasked.index_put((rows[row], column), y[row, column])
    return _merge(whole, run, rows, t0)


def _merge(y: Tensor, run: Integration, rows: Tensor, t0: Tensor) -> _Answer:
    """Status and counts of both sides of a series as one: a failure and its time, the sum of the counts."""
    n = len(t0)

    def total(x: Tensor) -> Tensor:
        return torch.zeros(n, dtype=x.dtype, device=x.device).index_add(0, rows, x)

    failed = run.status > 0
    status = torch.zeros(n, dtype=torch.int64, device=y.device)
    status[rows[failed]] = run.status[failed]
    t_reached = t0.detach().clone()
    t_reached[rows] = run.t_reached
    t_reached[rows[failed]] = run.t_reached[failed]
    return _Answer(y, status, t_reached, total(run.n_steps), total(run.n_accepted), total(run.n_evals))


def _solve_in_order(
    gradient: Gradient, problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor
) -> tuple[Tensor, Integration]:
    """Sort each series' query times away from t0, solve, and put the answers back in the caller's order."""
    distance = (t_eval.detach() - t0.detach()[:, None]).abs().nan_to_num(nan=torch.inf)
    if not bool((distance[:, 1:] < distance[:, :-1]).any()):
        return gradient(problem, y0, t0, t_eval)
    order = distance.argsort(dim=1, stable=True)
    y, run = gradient(problem, y0, t0, t_eval.gather(1, order))
    back = order.argsort(dim=1)[..., None].expand(*order.shape, y.shape[2])
    return y.gather(1, back), run


def _solve_to_event(
    gradient: Gradient, problem: Problem, event: _FlatEvent, y0: Tensor, t0: Tensor, t_eval: Tensor
) -> tuple[_Answer, Tensor, Tensor]:
    """The answer up to the events, and the times (N,) and flat states (N, D) of these, NaN where there are none."""
    way = (t_eval - t0[:, None]).detach()
    if bool(((way < 0).any(dim=1) & (way > 0).any(dim=1)).any()):
        raise ValueError(
            "with event= the query times of a series must lie on one side of its t0: solve both sides one by one"
        )
    search = _search(problem, event, y0, t0, t_eval, way)
    found = search.status == int(Status.EVENT)
    stop = torch.where(found, search.t_reached, torch.nan)
    beyond = way.abs() > (stop - t0.detach()).abs()[:, None]
    queries = torch.cat([t_eval.masked_fill(beyond, torch.nan), stop[:, None]], dim=1)
    answer = _solve_sides(gradient, problem, y0, t0, queries)
    rows = torch.nonzero(found & (answer.status == 0))[:, 0]
    times, states = torch.full_like(t0, torch.nan), torch.full_like(y0, torch.nan)
    if len(rows):
        time, state = through_event(event, problem.field, t0[rows], stop[rows], answer.y[rows, -1])
        times, states = times.index_copy(0, rows, time), states.index_copy(0, rows, state)
    status = torch.where(answer.status == 0, search.status, answer.status)
    until = _Answer(
        answer.y[:, :-1],
        status,
        torch.where(status == 0, answer.t_reached, torch.where(found, stop, answer.t_reached)),
        answer.n_steps + search.n_steps,
        answer.n_accepted + search.n_accepted,
        answer.n_evals + search.n_evals,
    )
    return until, times, states


@torch.no_grad()
def _search(
    problem: Problem, event: _FlatEvent, y0: Tensor, t0: Tensor, t_eval: Tensor, way: Tensor
) -> Integration:
    """Solve to the last query time or the event, whichever comes first."""
    if not t_eval.shape[1]:
        t_eval, way = t0[:, None] * torch.nan, t0[:, None] * torch.nan
    last = way.abs().nan_to_num(nan=-1.0).argmax(dim=1, keepdim=True)
    return integrate(
        problem.field,
        y0,
        t0,
        t_eval.gather(1, last),
        method=problem.method,
        controller=problem.controller,
        max_steps=problem.max_steps,
        keep_steps=False,
        event=event,
    )
