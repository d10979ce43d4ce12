"""`solve_ivp`: the engine's front door."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from latentode.gradients import GRADIENTS, Gradient, Problem
from latentode.solve.arguments import (
    arrange_times,
    by_name,
    check_field,
    check_finite,
    check_transforms,
    controller_for,
    parameters_of,
)
from latentode.solve.engine import fused, solve_fused
from latentode.solve.flat import FlatEvent, FlatField, State, StateLayout
from latentode.solve.sides import solve_sides
from latentode.solve.to_event import solve_to_event
from latentode.solvers import SOLVERS, ImplicitRK, Method, Solution
from latentode.solvers.step_size import Controller


def solve_ivp(
    field: Callable[[Tensor, State], State],
    y0: State,
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
    params: Iterable[Tensor] | Tensor | nn.Module | None = None,
    max_steps: int = 10_000,
    throw: bool = True,
    event: Callable[[Tensor, State], Tensor] | None = None,
    engine: str = "auto",
) -> Solution:
    """Solve dy/dt = field(t, y) for N series at once, each on its own clock.

    Every series has its own time, step size, error and query times: a stiff one does not slow its neighbours down,
    and the number of steps depends on the dynamics, not on how many times are asked for.

    Parameters
    ----------
    field : callable or nn.Module
        `f(t, y) -> dy/dt` with t (n,), y (n, *state) and the result like y, row by row independent, for any number
        n of the series (those that are done leave the batch). What differs between series belongs into the state: a
        part of a tuple with derivative 0. A field that jumps or has short pulses at known times may have an attribute
        `largest_step`, a function (t (n,), y, direction (n,)) -> (n,) with the largest sensible step of each series
        from there, forwards (1) or backwards (-1); adaptive solvers keep to it.
    y0 : Tensor (N, *state), or tuple of such tensors
        Floating point. States at `t0`. With a tuple, the field gets and returns tuples, and so is the answer.
    t_eval : Tensor (T,) or (N, T)
        Query times, the same for all series or their own, in any order, before and after `t0`. NaN asks nothing,
        so that series may have different numbers of query times. Kept in float64, and given to the field in the dtype
        of the state: with float32 states, count times from a near origin.
    t0 : float or Tensor () or (N,), optional
        Initial times; default: the first query time of each series, which then must not be NaN.
    solver : str or Method, default "dopri5"
        A name in `latentode.solvers.SOLVERS` or a method. With an error estimate, so that they choose their steps:
        "dopri5", "tsit5", "dopri8", "bosh3", "adaptive_heun" and "fehlberg2" (whose errors are up to 100 tolerances);
        "kvaerno3" and "kvaerno5", implicit, for stiff fields; "reversible_heun". With steps of `step_size`, these and:
        "euler", "midpoint", "heun2", "heun3", "rk4"; Adams methods "explicit_adams" and "implicit_adams"; implicit
        Runge-Kutta methods "implicit_euler", "implicit_midpoint", "trapezoid", "sdirk2", "trbdf2", "radauIIA3",
        "radauIIA5", "gl4" and "gl6".
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
        "reversible": the exact gradient in at most 32 bytes per series and step, with the solver made reversible (which
        changes the solution; not for strongly contracting or stiff fields); "adjoint": the continuous adjoint, in
        constant memory, exact up to the tolerances. `gradients.Adjoint(rtol=, atol=, method=, controller=)` sets how
        it solves backwards.
    params : iterable of Tensor, Tensor or nn.Module, optional
        The tensors that the field uses and that gradients are wanted for, all of them; default: the parameters of the
        module that the field is.
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
    engine : {"auto", "torch", "native"}, default "auto"
        "native": compiled kernels, for multilayer perceptrons (`latentode.nn.fields`, or a field with a method
        `as_perceptron`, see `latentode.native.Perceptron`) by explicit Runge-Kutta methods on the CPU, with the
        gradient "discrete_adjoint" or none (for `create_graph=True` torch solves once more); beside the steps they keep
        up to 16 MB of evaluations, in all solves whose gradients wait. "torch": everything else, and the same answers
        up to rounding. "auto" takes the kernels where they can do all that is asked for, and torch without a word where
        they cannot (states of more than two axes, events, hooks on the field, autocast, transforms of torch.func) or
        are slower (layers of 512 units and more). `Solution.engine` says which one solved.

    Returns
    -------
    Solution
        t (N, T), y (N, T, *state) or a tuple, status, t_reached and stats per series; with `event`, event_times (N,)
        and event_states (N, *state); engine, the one that solved.

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
    layout = StateLayout.of(y0)
    state = layout.flatten(y0)
    t_eval, t0 = arrange_times(state, t_eval, t0)
    if not (isinstance(max_steps, int) and max_steps > 0):
        raise ValueError(f"max_steps must be a positive int; got {max_steps!r}")
    method = by_name(solver, SOLVERS, "solver")
    flat_field = FlatField(field, layout)
    n_evals_backward = torch.zeros(len(state), dtype=torch.int64, device=state.device)

    def tally(rows: Tensor | slice, counts: Tensor) -> None:
        if isinstance(rows, slice):
            n_evals_backward[rows] += counts
        else:
            n_evals_backward.index_add_(0, rows, counts)

    problem = Problem(
        field=flat_field,
        params=parameters_of(field, params),
        method=method,
        controller=controller_for(
            method,
            solver,
            controller,
            {"rtol": rtol, "atol": atol},
            step_size,
            {"initial_step": first_step, "min_step": min_step, "max_step": max_step},
        ),
        max_steps=max_steps,
        tally=tally,
    )
    if isinstance(method, ImplicitRK) and torch.finfo(layout.dtype).bits < 32:
        raise ValueError(
            f"solver {solver!r} needs float32 or float64 states; got {layout.dtype}: use y0.float()"
        )
    differentiate = by_name(gradient, GRADIENTS, "gradient")
    by_graph = differentiate is GRADIENTS["backprop"]
    check_transforms((state, t0, t_eval, *problem.params), by_graph=by_graph, with_event=event is not None)
    quick = fused(engine, problem, differentiate, state, t0, t_eval, with_event=event is not None)
    if quick is None:
        check_finite(t_eval, t0)
    if len(state) and quick is None:
        check_field(flat_field, problem.params, state, t0, needs_params=not by_graph)
    times = states = None
    if quick is not None:
        answer = solve_fused(quick, problem)
    elif event is None:
        answer = solve_sides(differentiate, problem, state, t0, t_eval)
    else:
        answer, times, states = solve_to_event(
            differentiate, problem, FlatEvent(event, layout), state, t0, t_eval
        )
        states = layout.shaped(states)
    solution = Solution(
        t=t_eval,
        y=layout.shaped(answer.y),
        status=answer.status,
        t_reached=answer.t_reached,
        stats={
            "n_steps": answer.n_steps,
            "n_accepted": answer.n_accepted,
            "n_evals": answer.n_evals,
            "n_evals_backward": n_evals_backward,
        },
        event_times=times,
        event_states=states,
        engine="torch" if quick is None else "native",
    )
    return solution.raise_for_status() if throw and answer.failed is not False else solution
