"""`method="scipy_solver"`: SciPy's solvers on the caller's state, as numbers without a graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.integrate
import torch
from torch import Tensor

from latentode.drop_in.control import Callbacks
from latentode.drop_in.errors import ArgumentError, IntegrationError
from latentode.drop_in.request import SCIPY, Request, known_options, prepare
from latentode.drop_in.state import StateLayout
from latentode.exceptions import LatentODEWarning

OPTIONS = ("solver", "min_step", "max_step")


def request_of_scipy(
    func: Callable[..., Any],
    y0: Any,
    t: Any,
    rtol: Any,
    atol: Any,
    options: dict[str, Any] | None,
    event_fn: Callable[..., Tensor] | None,
) -> tuple[Request, dict[str, Any]]:
    """The arguments of `odeint`, checked, and the options that SciPy is given.

    Raises
    ------
    ArgumentError, TypeError, ValueError
        As `prepare`, and for an event function.
    """
    if event_fn is not None:
        raise ArgumentError(f"method {SCIPY!r} finds no events: take an adaptive method of this package")
    given = known_options(SCIPY, OPTIONS, options, stacklevel=4)
    given.pop("norm", None)  # SciPy has its own
    unheard = sorted(Callbacks.of(func, StateLayout.of(y0)).functions)
    if unheard:
        warnings.warn(
            f"method {SCIPY!r} does not support callbacks {unheard}", LatentODEWarning, stacklevel=3
        )
    return prepare(func, y0, t, rtol, atol, None, None), given


@torch.no_grad()
def solve_by_scipy(request: Request, options: dict[str, Any]) -> Tensor:
    """Rows (T, D) at the times of a request.

    Real and imaginary parts are numbers of their own to SciPy, so that all its solvers take complex states.

    Raises
    ------
    IntegrationError
        With SciPy's message.
    """
    row, t = request.row.detach(), request.t.detach()
    if len(t) == 1:
        return row

    def slope(time: float, y: np.ndarray) -> np.ndarray:
        state = torch.from_numpy(y).to(row)[None]
        return request.field(t.new_tensor([time]), state)[0].detach().cpu().double().numpy()

    times, solver = t.double().cpu().numpy(), options.get("solver", "LSODA")
    found = scipy.integrate.solve_ivp(
        slope,
        (times[0], times[-1]),
        row[0].cpu().double().numpy(),
        method=solver,
        t_eval=times,
        rtol=_per_number(request, request.rtol),
        atol=_per_number(request, request.atol),
        **{name: options[name] for name in ("min_step", "max_step") if name in options},
    )
    if not found.success:
        reached = found.t[-1] if len(found.t) else times[0]
        raise IntegrationError(
            f"SciPy's {solver} could not go beyond t={reached:.6g}: {found.message} Loosen rtol and atol, take another "
            "solver, or check the field near this time"
        )
    return torch.from_numpy(found.y.T).to(row)


def _per_number(request: Request, tolerance: float | Tensor) -> float | np.ndarray:
    """A tolerance as SciPy takes it, one for each number of the row where it is not one for all."""
    if not isinstance(tolerance, Tensor):
        return tolerance
    parts = 2 if request.layout.dtype.is_complex else 1
    return tolerance.repeat_interleave(parts).cpu().double().numpy()
