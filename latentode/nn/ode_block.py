"""An ordinary differential equation as a layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from latentode.checks import Constraint, Number, OneOf, Whole, check_parameters
from latentode.gradients import GRADIENTS
from latentode.nn.augment import Augment
from latentode.solve import solve_ivp
from latentode.solvers import SOLVERS

MIXES_ROWS = (nn.modules.batchnorm._BatchNorm,)
REMEMBERS = (nn.modules.instancenorm._InstanceNorm,)
DRAWS = (nn.modules.dropout._DropoutNd, nn.RReLU)
_POSITIVE = (Number(0, open_low=True),)
ALLOWED: dict[str, tuple[Constraint, ...]] = {
    "takes_time": (OneOf([True, False]),),
    "end_time": _POSITIVE,
    "solver": (OneOf(SOLVERS),),
    "rtol": _POSITIVE,
    "atol": _POSITIVE,
    "step_size": (*_POSITIVE, OneOf([None])),
    "gradient": (OneOf(GRADIENTS),),
    "max_steps": (Whole(1),),
}


class ODEBlock(nn.Module):
    """y(0) -> y(end_time), where dy/dt = field(t, y): a layer of continuous depth, for any network of yours.

    Put it where a stack of residual blocks would stand: the solver chooses, for every row of the batch by itself, how
    many evaluations of the field it takes. Its output has the shape of its input. A solution cannot cross another one;
    where classes lie inside each other, give the state room by `augment_dim` (Dupont et al. 2019).

    Under `torch.autocast` the block computes with autocast switched off, since steps of half precision meet no
    tolerance: its input is cast to the dtype of the field's parameters (float32 where it has none and the input is of
    less), and that is what it returns. Gradients are those of the block without autocast where `backward` is called
    outside of it, as torch recommends.

    Parameters
    ----------
    field : nn.Module or callable
        `field(t, y) -> dy/dt` with t (n,), y (n, *state) and the result like y, each row by itself, for any number n
        of rows: those that are done leave the batch. So use GroupNorm or LayerNorm, not BatchNorm, and no dropout.
    takes_time : bool, default True
        False for a field that is called as `field(y)`, such as an `nn.Sequential`.
    end_time : float, default 1.0
        Where the solve ends; the unit of time is a matter of the field's scale.
    augment_dim : int, default 0
        Zeros that are appended to axis 1 of the input (features of a vector, channels of an image); the field sees, and
        the block returns, as many more.
    solver : str, default "dopri5"
        A name in `latentode.solvers.SOLVERS`.
    rtol, atol : float, default 1e-3
        Tolerances of an adaptive solver for the error of a step: atol + rtol · |y|.
    step_size : float, optional
        Take fixed steps of this size; required for solvers without an error estimate.
    gradient : str, default "discrete_adjoint"
        A name in `latentode.gradients.GRADIENTS`; "adjoint" and "reversible" take memory that does not grow with the
        number of evaluations.
    max_steps : int, default 10_000
        Steps that a row may take before it counts as failed.

    Attributes
    ----------
    n_evals : Tensor (N,) of int64
        Evaluations of the field by each row in the last forward pass; empty before the first one.
    n_evals_backward : Tensor (N,) of int64
        The same in the backward pass that belongs to it, once that was run.

    Raises
    ------
    ValueError
        For a field with batch normalisation, dropout or running statistics, for one that cannot be called as
        `takes_time` says, and for arguments out of range.

    References
    ----------
    Chen, Rubanova, Bettencourt, Duvenaud (2018), Neural Ordinary Differential Equations, section 3;
    Dupont, Doucet, Teh (2019), Augmented Neural ODEs.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from latentode import ODEBlock
    >>> field = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 3))
    >>> network = nn.Sequential(nn.Linear(5, 2), ODEBlock(field, takes_time=False, augment_dim=1), nn.Linear(3, 1))
    >>> network(torch.zeros(4, 5)).shape
    torch.Size([4, 1])
    """

    n_evals: Tensor
    n_evals_backward: Tensor

    def __init__(
        self,
        field: Callable[..., Tensor],
        *,
        takes_time: bool = True,
        end_time: float = 1.0,
        augment_dim: int = 0,
        solver: str = "dopri5",
        rtol: float = 1e-3,
        atol: float = 1e-3,
        step_size: float | None = None,
        gradient: str = "discrete_adjoint",
        max_steps: int = 10_000,
    ) -> None:
        super().__init__()
        given = {
            "takes_time": takes_time,
            "end_time": end_time,
            "solver": solver,
            "rtol": rtol,
            "atol": atol,
            "step_size": step_size,
            "gradient": gradient,
            "max_steps": max_steps,
        }
        check_parameters("ODEBlock", given, ALLOWED)
        _check_call(field, takes_time)
        _check_rows_apart(field)
        self.field = field
        self.takes_time = takes_time
        self.end_time = float(end_time)
        self.augment = Augment(augment_dim)
        self.solver = solver
        self.rtol, self.atol = rtol, atol
        self.step_size = step_size
        self.gradient = gradient
        self.max_steps = max_steps
        self.n_evals = self.n_evals_backward = torch.empty(0, dtype=torch.int64)

    def forward(self, y: Tensor, *, tolerance: float | None = None) -> Tensor:
        """The state at `end_time` of a start y (N, *state), both with the augmented axis 1 on the way out.

        Parameters
        ----------
        y : Tensor (N, *state)
        tolerance : float, optional
            In place of `rtol` and `atol`, for this call: higher is faster and less accurate.

        Raises
        ------
        ValueError
            For a tolerance of fixed steps, and for one that is not positive.
        SolverError
            When a row cannot be solved.
        """
        return self.path(y, [self.end_time], tolerance=tolerance)[:, 0]

    def path(self, y: Tensor, times: Any, *, tolerance: float | None = None) -> Tensor:
        """The states (N, T, *state) at `times` (T,), which may lie anywhere, of a start y at time 0."""
        if tolerance is not None and self.step_size is not None:
            raise ValueError(
                f"tolerance is for adaptive solvers: this block takes fixed steps of {self.step_size:g}; leave "
                "step_size out"
            )
        device = y.device.type
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return self._solve(y, times, tolerance)
        with torch.autocast(device, enabled=False):
            return self._solve(y.to(self._dtype_for(y)), times, tolerance)

    def _solve(self, y: Tensor, times: Any, tolerance: float | None) -> Tensor:
        field, params = self._field_and_parameters()
        solution = solve_ivp(
            field,
            self.augment(y),
            times,
            t0=0.0,
            solver=self.solver,
            rtol=self.rtol if tolerance is None else tolerance,
            atol=self.atol if tolerance is None else tolerance,
            step_size=self.step_size,
            gradient=self.gradient,
            params=params,
            max_steps=self.max_steps,
        )
        self.n_evals = solution.stats["n_evals"]
        self.n_evals_backward = solution.stats["n_evals_backward"]
        return solution.y

    def extra_repr(self) -> str:
        """The options, for printing."""
        names = ("end_time", "solver", "rtol", "atol", "step_size", "gradient")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    def _dtype_for(self, y: Tensor) -> torch.dtype:
        """Of the solve of an input that may come from a layer under autocast."""
        params = self.field.parameters() if isinstance(self.field, nn.Module) else ()
        own = (p.dtype for p in params if p.is_floating_point())
        return next(own, torch.promote_types(y.dtype, torch.float32))

    def _field_and_parameters(self) -> tuple[Callable[[Tensor, Tensor], Tensor], Any]:
        """The field as a solver calls it, and the tensors that gradients reach."""
        field = self.field if self.takes_time else self._without_time
        if not isinstance(self.field, nn.Module):
            return field, None
        by_name: dict[str, Tensor] = dict(self.field.named_parameters())
        if all(isinstance(tensor, nn.Parameter) for tensor in by_name.values()):
            return field, self.field
        # in `torch.func.functional_call`: they have left the module again when the backward pass asks the field
        own, takes_time = self.field, self.takes_time

        def with_them(t: Tensor, y: Tensor) -> Tensor:
            return torch.func.functional_call(own, by_name, (t, y) if takes_time else (y,))

        return with_them, tuple(by_name.values())

    def _without_time(self, t: Tensor, y: Tensor) -> Tensor:
        return self.field(y)


def _check_call(field: object, takes_time: bool) -> None:
    """Refuse what cannot be called as a solver will call it, as far as its signature tells."""
    if isinstance(field, type):
        raise ValueError(
            f"field must be an instance, which has its own weights; got the class {field.__name__}: make one first"
        )
    if not callable(field):
        raise ValueError(
            f"field must be an nn.Module or another callable; got an object of {type(field).__name__}"
        )
    signature = _signature(field)
    if signature is None or _takes(signature, 2 if takes_time else 1):
        return
    call, told = ("field(t, y)", "takes_time=True") if takes_time else ("field(y)", "takes_time=False")
    way = "write it so that it can be called so"
    if _takes(signature, 1 if takes_time else 2):
        other = "field(y)" if takes_time else "field(t, y)"
        way = f"give takes_time={not takes_time} for a field that is called as {other}"
    names = [str(part.replace(annotation=inspect.Parameter.empty)) for part in signature.parameters.values()]
    raise ValueError(
        f"with {told} the field is called as {call}, but {_name(field)} takes ({', '.join(names)}): {way}"
    )


def _signature(field: Callable[..., Any]) -> inspect.Signature | None:
    """What a field takes; None where that cannot be told: hooks before a module may change what it is called with."""
    if isinstance(field, nn.Module) and field._forward_pre_hooks:
        return None
    try:
        return inspect.signature(field.forward if isinstance(field, nn.Module) else field)
    except (TypeError, ValueError):
        return None


def _takes(signature: inspect.Signature, n: int) -> bool:
    """Whether a call with `n` arguments in order fits."""
    try:
        signature.bind(*range(n))
    except TypeError:
        return False
    return True


def _name(field: Callable[..., Any]) -> str:
    return getattr(field, "__name__", type(field).__name__)


def _check_rows_apart(field: object) -> None:
    """Refuse layers whose answer for a row depends on the other rows, on chance, or on what was asked before."""
    for name, part in field.named_modules() if isinstance(field, nn.Module) else ():
        where = f"{type(part).__name__} at {name!r}" if name else type(part).__name__
        if isinstance(part, MIXES_ROWS):
            raise ValueError(
                f"a field must treat every row by itself, since rows that are done leave the batch; it has {where}: "
                "use GroupNorm or LayerNorm"
            )
        if isinstance(part, REMEMBERS) and part.track_running_stats:
            # in training it mixes nothing, but every stage, rejected step and backward pass moves the statistics that
            # it answers with in evaluation: another field than the one that was trained
            raise ValueError(
                "a field must not change while it is asked, by every stage of every step and again in the backward "
                f"pass; it has {where} with running statistics: use track_running_stats=False"
            )
        if isinstance(part, DRAWS):
            raise ValueError(
                f"a field must give the same answer each time it is asked, or no solver can estimate its error; it has "
                f"{where}: put it before or behind the block"
            )
