"""What the caller asks for, checked and brought into the engine's form."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentode.checks import did_you_mean
from latentode.drop_in.adams import GrowingAdams, adams_of
from latentode.drop_in.control import Callbacks
from latentode.drop_in.errors import ArgumentError
from latentode.drop_in.state import StateLayout, root_mean_square
from latentode.drop_in.three_eighths import RK4_38
from latentode.exceptions import LatentODEWarning
from latentode.solvers import SOLVERS, Method

# those of torchdiffeq, until after 0.2.5; a method of the engine's without an error estimate is another one
ON_A_GRID = (
    "euler",
    "midpoint",
    "heun2",
    "heun3",
    "rk4",
    "explicit_adams",
    "implicit_adams",
    "implicit_euler",
    "implicit_midpoint",
    "trapezoid",
    "radauIIA3",
    "radauIIA5",
    "gl4",
    "gl6",
    "sdirk2",
    "trbdf2",
)
ALIASES = {"fixed_adams": "implicit_adams"}
OWN: dict[str, Method] = {  # where a name means another method than in the engine
    "rk4": RK4_38,
    "explicit_adams": GrowingAdams(corrector=False),
    "implicit_adams": GrowingAdams(corrector=True),
}

ADAPTIVE_OPTIONS = (
    "first_step",
    "min_step",
    "max_step",
    "step_t",
    "jump_t",
    "safety",
    "ifactor",
    "dfactor",
    "max_num_steps",
    "dtype",
)
GRID_OPTIONS = ("step_size", "grid_constructor", "interp", "perturb")
ADAMS_OPTIONS = {"explicit_adams": ("max_order",), "implicit_adams": ("max_order", "max_iters")}
SCIPY = "scipy_solver"  # not one of the engine's: see `scipy_solver`


@dataclass(frozen=True)
class Request:
    """One solve: `row` (1, D) from t[0] to the times t (T,), float64 and monotone."""

    func: Callable[..., Any]
    y0: Any
    layout: StateLayout
    row: Tensor
    t_given: Tensor
    t: Tensor
    rtol: float | Tensor
    atol: float | Tensor
    method: Method
    on_a_grid: bool
    options: dict[str, Any]
    norm: Callable[..., Any]
    callbacks: Callbacks

    def field(self, t: Tensor, rows: Tensor) -> Tensor:
        """The caller's function as a field on rows, asked with a scalar time; gradients may ask for many times."""
        if rows.shape[0] > 1:
            return torch.cat([self.field(*pair) for pair in zip(t.split(1), rows.split(1))])
        slope = self.func(t.reshape(()).to(self.layout.real_dtype), self.layout.state(rows))
        return self.layout.pack(slope, "func(t, y)")


def method_named(name: str | None) -> tuple[str, Method, bool]:
    """A solver by torchdiffeq's name, or by the engine's, and whether it takes fixed steps.

    Raises
    ------
    ValueError
        With all names.
    """
    name = "dopri5" if name is None else name
    table = {**SOLVERS, **OWN}
    table.update({alias: table[of] for alias, of in ALIASES.items() if of in table})
    if name not in table:
        known = [*table, SCIPY]
        names = ", ".join(f'"{name}"' for name in known)
        raise ValueError(f'Invalid method "{name}"{did_you_mean(name, known)}. Must be one of {{{names}}}.')
    name = ALIASES.get(name, name)
    return name, table[name], name in ON_A_GRID or table[name].error_order is None


def with_options(
    name: str, solver: Method, options: dict[str, Any], rtol: float | Tensor, atol: float | Tensor
) -> Method:
    """The solver of a name, after the options that are its own; these are taken out of `options`."""
    own = ADAMS_OPTIONS.get(name)
    if own is None:
        return solver
    return adams_of(
        name, {option: int(options.pop(option)) for option in own if option in options}, rtol, atol
    )


def prepare(
    func: Callable[..., Any],
    y0: Any,
    t: Any,
    rtol: Any,
    atol: Any,
    method: str | None,
    options: dict[str, Any] | None,
) -> Request:
    """Check the arguments of `odeint`.

    Raises
    ------
    ArgumentError, TypeError, ValueError
        As torchdiffeq does in the same place.
    """
    layout = StateLayout.of(y0)
    name, solver, on_a_grid = method_named(method)
    row = layout.pack(y0)
    callbacks = Callbacks.of(func, layout)
    options = check_options(name, on_a_grid, options, callbacks)
    norm = options.pop("norm", None) or root_mean_square
    tolerances = layout.tolerance("rtol", rtol, row.device), layout.tolerance("atol", atol, row.device)
    solver = with_options(name, solver, options, *tolerances)
    t = check_times(t)
    if t.device != row.device:
        warnings.warn("t is not on the same device as y0: it is moved there", LatentODEWarning, stacklevel=3)
        t = t.to(row.device)
    return Request(
        func=func,
        y0=y0,
        layout=layout,
        row=row,
        t_given=t,
        t=t.to(torch.float32 if row.device.type == "mps" else torch.float64),
        rtol=tolerances[0],
        atol=tolerances[1],
        method=solver,
        on_a_grid=on_a_grid,
        options=options,
        norm=norm,
        callbacks=callbacks,
    )


def check_times(t: Any) -> Tensor:
    """Times as they are: a floating-point vector, strictly increasing or decreasing."""
    if not isinstance(t, Tensor):
        raise ArgumentError(f"t must be a torch.Tensor; got {type(t).__name__}: use torch.as_tensor(t)")
    if not t.is_floating_point():
        raise TypeError(f"t must be a floating point Tensor but is {t.dtype}: use t.float() or t.double()")
    if t.ndim != 1 or len(t) == 0:
        raise ArgumentError(f"t must be one dimensional with at least one entry; got shape {tuple(t.shape)}")
    ahead = t[1:] > t[:-1]
    back = t[1:] < t[:-1]
    if not bool(ahead.all() | back.all()):
        place = int(torch.nonzero(~(ahead if bool(ahead[0]) else back))[0]) + 1
        raise ArgumentError(
            f"t must be strictly increasing or decreasing; t[{place - 1}] = {t[place - 1].item():g} is followed "
            f"by t[{place}] = {t[place].item():g}: sort t and drop duplicates (torch.unique)"
        )
    return t


def check_options(
    name: str, on_a_grid: bool, options: dict[str, Any] | None, callbacks: Callbacks
) -> dict[str, Any]:
    """The options that the method has; a warning for others, and for callbacks that it never calls."""
    known = (*GRID_OPTIONS, *ADAMS_OPTIONS.get(name, ())) if on_a_grid else ADAPTIVE_OPTIONS
    options = known_options(name, known, options, stacklevel=5)
    unheard = sorted(set(callbacks.functions) - {"callback_step"})
    if on_a_grid and unheard:
        warnings.warn(
            f"method {name!r} takes fixed steps and does not support callbacks {unheard}",
            LatentODEWarning,
            stacklevel=4,
        )
    if on_a_grid and options.get("interp", "linear") not in ("linear", "cubic"):
        raise ArgumentError(f"interp must be 'linear' or 'cubic'; got {options['interp']!r}")
    return options


def known_options(
    name: str, known: tuple[str, ...], options: dict[str, Any] | None, stacklevel: int
) -> dict[str, Any]:
    """A copy of the options, without those that are not known; for each of them a warning."""
    options = dict(options or {})
    for option in [option for option in options if option not in (*known, "norm")]:
        del options[option]
        hint = "" if option in GRID_OPTIONS + ADAPTIVE_OPTIONS else did_you_mean(option, known)
        warnings.warn(
            f"method {name!r} has no option {option!r}{hint}: it is ignored; "
            f"its options are {', '.join(known)}, norm",
            LatentODEWarning,
            stacklevel=stacklevel,
        )
    return options
