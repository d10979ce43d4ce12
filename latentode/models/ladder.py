"""A solve that does not give up at once: the series that fail are tried again, with more and more patient solvers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentode.exceptions import SolverError
from latentode.models.solve_options import SolveOptions
from latentode.solve import solve_ivp
from latentode.solvers import Status

FIRST_STEP = 1e-6  # model time, in which a series lasts 5 to 80: it grows tenfold per step where it may
TIGHTER = 0.1  # of a fixed step
LAST_STEP = 0.05  # model time; half of the step that solvers with fixed steps have by default
IMPLICIT_STEPS = 500  # where Newton's iteration hardly converges, each costs as much as 50 explicit ones

_REPAIRS = {
    Status.MAX_STEPS: "loosen rtol and atol, ask for times nearer to the observations, or try another solver",
    Status.STEP_UNDERFLOW: "loosen rtol and atol, or take fixed steps with step_size=",
    Status.NON_FINITE: (
        "the states grow without bound: train with a smaller lr, ask for times nearer to the observations, or change "
        "anchor=, since what decays forwards in time grows backwards"
    ),
    Status.NEWTON_DIVERGED: "take a smaller step_size=, or an adaptive solver",
}


@dataclass(frozen=True)
class Rung:
    """One more try: arguments of `solve_ivp`, what it is called, and whether it helps where steps ran out."""

    name: str
    arguments: dict[str, Any]
    when_steps_ran_out: bool = True


def ladder(options: SolveOptions) -> list[Rung]:
    """What is tried, one after the other, with a series that a solver could not solve.

    First the same solver with a smaller (first) step. Then an implicit solver at the same tolerances. An adaptive
    solver is at last replaced by fixed steps, which cross whatever stops the control of the error, and promise nothing
    about it. All are differentiated as they were computed: what is stiff or diverges has no way back for the
    continuous adjoint and for reversible solvers.
    """
    gradient = options.gradient if options.gradient == "backprop" else "discrete_adjoint"
    # what is tried now may be beyond the native kernels
    engine = "auto" if options.engine == "native" else options.engine
    options = replace(options, gradient=gradient, engine=engine)
    patient = replace(options, step_size=None)
    implicit = "kvaerno3" if options.solver == "kvaerno5" else "kvaerno5"
    steps = min(options.max_steps, IMPLICIT_STEPS)
    rung = Rung(implicit, replace(patient, solver=implicit, max_steps=steps).arguments())
    if options.step_size is not None:
        size = TIGHTER * options.step_size
        smaller = replace(options, step_size=size).arguments()
        return [Rung(f"{options.solver} with steps of {size:g}", smaller, False), rung]
    careful = options.arguments() | {"first_step": FIRST_STEP}
    fixed = replace(patient, solver="rk4", step_size=LAST_STEP).arguments()
    return [
        Rung(f"{options.solver} with a first step of {FIRST_STEP:g}", careful, False),
        rung,
        Rung(f"rk4 with steps of {LAST_STEP:g}", fixed),
    ]


class Solved(NamedTuple):
    """States (M, T, D) at the query times, evaluations of the field (M,), whether a series was solved in a second try
    (M,), and whether only fixed steps solved it, with an error that nobody controlled (M,)."""

    y: Tensor
    n_evals: Tensor
    retried: Tensor
    uncontrolled: Tensor


class InitialValues(NamedTuple):
    """States (M, D) of M problems at their initial times (M,), and the query times (M, T)."""

    state: Tensor
    t0: Tensor
    times: Tensor

    def only(self, rows: Tensor) -> InitialValues:
        return InitialValues(*(part.index_select(0, rows) for part in self))


def solve_patiently(
    field: Any,
    asked: InitialValues,
    options: SolveOptions,
    *,
    params: Sequence[Tensor] | None,
    names: Sequence[object] | None,
    n_samples: int = 1,
) -> Solved:
    """Solve all, and those that fail again by the `ladder`; the others keep their results bit for bit.

    Parameters
    ----------
    field
        As that of `solve_ivp`.
    asked : InitialValues
        Of M = K N problems, the samples of one series N apart.
    params
        As that of `solve_ivp`.
    names : sequence of N objects or None
        What the series are called in errors; None: their position.
    n_samples : int
        K.

    Raises
    ------
    SolverError
        When the last rung did not help either.
    """
    first = solve_ivp(
        field, asked.state, asked.times, t0=asked.t0, params=params, throw=False, **options.arguments()
    )
    if not bool((first.status > 0).any()):
        nowhere = torch.zeros_like(first.status, dtype=torch.bool)
        return Solved(first.y, first.stats["n_evals"], nowhere, nowhere)
    status, n_evals = first.status.clone(), first.stats["n_evals"].clone()
    rung_of = torch.zeros_like(status)
    y, reached = first.y, first.t_reached.clone()
    if torch.is_grad_enabled():
        y = _without_the_failed(field, asked, options, params, y, status)
    rungs = ladder(options)
    for number, rung in enumerate(rungs, start=1):
        rows = _worth_a_try(status, asked.state, rung)
        if not len(rows):
            continue
        part = asked.only(rows)
        again = solve_ivp(
            field, part.state, part.times, t0=part.t0, params=params, throw=False, **rung.arguments
        )
        n_evals[rows] += again.stats["n_evals"]
        done = torch.nonzero(again.status <= 0)[:, 0]
        status[rows[done]], rung_of[rows[done]] = 0, number
        y = y.index_copy(0, rows[done], again.y.index_select(0, done))
    if bool((status > 0).any()):
        raise _failure(status, reached - asked.t0, options, n_samples, names)
    fixed = options.step_size is None
    return Solved(y, n_evals, rung_of > 0, (rung_of == len(rungs)) & fixed)


def _without_the_failed(
    field: Any,
    asked: InitialValues,
    options: SolveOptions,
    params: Sequence[Tensor] | None,
    y: Tensor,
    status: Tensor,
) -> Tensor:
    """The same states, with a graph of the sound series alone: next to a pole a gradient of 0 becomes 0 · inf.

    A series that does not succeed a second time, as rounding may have it, counts as failed in `status` from now on.
    """
    sound = torch.nonzero(status <= 0)[:, 0]
    values = y.detach()
    if not len(sound):
        return values
    part = asked.only(sound)
    alone = solve_ivp(
        field, part.state, part.times, t0=part.t0, params=params, throw=False, **options.arguments()
    )
    status[sound] = alone.status
    kept = torch.nonzero(alone.status <= 0)[:, 0]
    way = alone.y.index_select(0, kept)
    rows = sound[kept]
    return values.index_copy(0, rows, values.index_select(0, rows) + (way - way.detach()))


def _worth_a_try(status: Tensor, state: Tensor, rung: Rung) -> Tensor:
    """Rows of the series that failed and may succeed on this rung."""
    hopeful = (status > 0) & torch.isfinite(state.detach()).all(dim=1)
    if not rung.when_steps_ran_out:
        hopeful &= status != int(Status.MAX_STEPS)
    return torch.nonzero(hopeful)[:, 0]


def _failure(
    status: Tensor, way: Tensor, options: SolveOptions, n_samples: int, names: Sequence[object] | None
) -> SolverError:
    """An error that counts series and not samples, with what was tried and what a user can change."""
    of_series = status.reshape(n_samples, -1)  # (K, N)
    worst = of_series.argmax(dim=0)
    failed = torch.nonzero(of_series.amax(dim=0) > 0)[:, 0].tolist()
    first = failed[0]
    sample = int(worst[first])
    kind = Status(int(of_series[sample, first]))
    others = f" (and {len(failed) - 1} more series)" if len(failed) > 1 else ""
    name = first if names is None else names[first]
    distance = float(way.reshape(n_samples, -1)[sample, first])
    tried = ", ".join([options.solver, *(rung.name for rung in ladder(options))])
    return SolverError(
        f"series {name!r}{others} could not be solved beyond {distance:.6g} units of model time from its anchor "
        f"[{kind.name}], with any of {tried}: {_REPAIRS[kind]}"
    )
