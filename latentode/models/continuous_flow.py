"""A continuous normalizing flow: a density as the standard normal one, carried along a differential equation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentode.gradients import Adjoint
from latentode.models.flow_dynamics import FlowDynamics, WatchedColumns
from latentode.models.flow_legs import legs
from latentode.models.solve_options import SolveOptions
from latentode.models.transported import Transported
from latentode.nn.divergence import rademacher
from latentode.nn.initialisation import generator_or_fresh
from latentode.solve import solve_ivp
from latentode.solvers import SOLVERS
from latentode.solvers.solution import Solution
from latentode.solvers.step_size import PIController

TRACES = ("auto", "exact", "hutchinson")
MANY_DIMS = 10  # from which on "auto" estimates a trace that has no formula


class Path(NamedTuple):
    """What a flow does between two ends of its time.

    points (N, T, D) and log_det (N, T) at T times, log_det of the map from the beginning to there; kinetic = ∫|f|² dt
    and jacobian = ∫|∂f/∂z|² dt (N,) up to the last time, or None where not asked for; n_evals (N,) of the fields, and
    n_evals_backward, a count (N,) per block that was passed, which a backward pass counts in.
    """

    points: Tensor
    log_det: Tensor
    kinetic: Tensor | None
    jacobian: Tensor | None
    n_evals: Tensor
    n_evals_backward: list[Tensor]


class ContinuousFlow(nn.Module):
    """dz/dt = f(t, z) between a standard normal base at t = 0 and the data at t = `end_time`.

    Good for densities of a few dimensions to some dozens, where one network has to answer both ways: how likely is
    this point, and draw another. Along the flow d log p/dt = -tr ∂f/∂z.

    Parameters
    ----------
    field : nn.Module, or sequence of them
        f(t (n,), z (n, D)) -> (n, D), row by row independent and twice differentiable: of
        `latentode.nn.flow_fields.FLOW_FIELDS`, or any other, whose derivatives autograd then finds. Several are the
        blocks of a chain, from the base to the data: they share the flow's time evenly, and each goes through all of
        [0, end_time] in its own.
    n_dims : int
        D.
    end_time : float, default 1.0
        Where the data are, in the flow's own time.
    trace : {"auto", "exact", "hutchinson"}, default "auto"
        "exact" costs D products with the Jacobian; "hutchinson" estimates it without bias by `n_probes` products;
        "auto" is exact up to 10 dimensions and for fields with a formula of their own.
    n_probes : int, default 1
        Of Hutchinson's estimator.
    options : SolveOptions, optional
        Solver, tolerances and gradient.

    References
    ----------
    Chen, Rubanova, Bettencourt, Duvenaud (2018), "Neural ordinary differential equations", section 4.
    Grathwohl et al. (2019), "FFJORD". Finlay et al. (2020), "How to train your neural ODE".
    """

    def __init__(
        self,
        field: nn.Module | Sequence[nn.Module],
        n_dims: int,
        *,
        end_time: float = 1.0,
        trace: str = "auto",
        n_probes: int = 1,
        options: SolveOptions | None = None,
    ) -> None:
        super().__init__()
        if trace not in TRACES:
            raise ValueError(f"trace must be one of {', '.join(TRACES)}; got {trace!r}")
        fields = nn.ModuleList([field] if isinstance(field, nn.Module) else field)
        if not len(fields):
            raise ValueError("field must be a module, or a sequence of at least one; got none")
        if not 0 < end_time < math.inf:
            raise ValueError(f"end_time must be positive and finite; got {end_time!r}")
        if n_probes < 1:
            raise ValueError(f"n_probes must be at least 1; got {n_probes!r}")
        self.field = fields  # by the name that a part of a user's own has in files
        self.n_dims = n_dims
        self.end_time = float(end_time)
        self.trace = trace
        self.n_probes = n_probes
        self.options = SolveOptions() if options is None else options

    def to_base(self, x: Tensor, **options: Any) -> Transported:
        """From data x (N, D) to the base, log_det = log|det dz/dx|; options as `travel`."""
        return _end(self.travel(x, (self.end_time, 0.0), **options))

    def from_base(self, z: Tensor, **options: Any) -> Transported:
        """From the base z (N, D) to data, log_det = log|det dx/dz|; options as `travel`."""
        return _end(self.travel(z, (0.0, self.end_time), **options))

    def log_density(self, x: Tensor, **options: Any) -> Tensor:
        """log p(x) (N,) in nats, of x (N, D); options as `travel`."""
        z, log_det = self.to_base(x, **options)
        return standard_normal_log_density(z) + log_det

    def travel(
        self,
        points: Tensor,
        times: Sequence[float],
        *,
        trace: str | None = None,
        kinetic: bool = False,
        jacobian: bool = False,
        generator: torch.Generator | None = None,
        **solving: Any,
    ) -> Path:
        """Carry points from the first of some times through the others.

        Parameters
        ----------
        points : Tensor (N, D)
            At the first time.
        times : sequence of T floats
            In the flow's time, increasing or decreasing.
        trace : str, optional
            In place of the flow's own.
        kinetic, jacobian : bool, default False
            Whether to integrate |f|² and the squared Frobenius norm of ∂f/∂z; the norm is exact where the trace is, and
            estimated by the same products otherwise. They do not take part in the choice of steps, except where the
            gradient is "adjoint", backwards.
        generator : torch.Generator, optional
            Of the probes, on the CPU; None takes fresh entropy.
        **solving
            Fields of `SolveOptions` in place of the flow's own, such as rtol.

        Returns
        -------
        Path

        Raises
        ------
        ValueError
            For points that are not (N, D).
        SolverError
            When the field cannot be solved from some point.
        """
        if points.ndim != 2 or points.shape[1] != self.n_dims:
            raise ValueError(f"points must have shape (N, {self.n_dims}); got {tuple(points.shape)}")
        probes = self._probes(points, self.trace if trace is None else trace, generator)
        options = replace(self.options, **solving)
        pieces: list[Path] = []
        asked: list[list[int]] = []
        for leg in legs(times, self.end_time, len(self.field)):
            dynamics = FlowDynamics(self.field[leg.block], self.n_dims, probes, kinetic, jacobian)
            solution = self._solve(dynamics, points, leg.times, options)
            pieces.append(self._path(solution, dynamics, backwards=times[-1] < times[0]))
            points = pieces[-1].points[:, -1]
            asked.append(leg.asked)
        return _joined(pieces, asked)

    def _probes(self, points: Tensor, trace: str, generator: torch.Generator | None) -> Tensor | None:
        """(K, N, D), or None for the exact trace."""
        if trace not in TRACES:
            raise ValueError(f"trace must be one of {', '.join(TRACES)}; got {trace!r}")
        by_formula = all(getattr(field, "trace_has_formula", False) for field in self.field)
        if trace == "exact" or (trace == "auto" and (by_formula or self.n_dims <= MANY_DIMS)):
            return None
        return rademacher(self.n_probes, points.detach(), generator_or_fresh(generator))

    def _solve(self, dynamics: FlowDynamics, points: Tensor, times: Any, options: SolveOptions) -> Solution:
        arguments = options.arguments()
        method = SOLVERS[options.solver]
        if options.step_size is None and method.error_order is not None:
            watched = PIController(options.rtol, options.atol, order=method.error_order + 1)
            arguments["controller"] = WatchedColumns(watched, dynamics.n_watched)
            if options.gradient == "adjoint":  # its state is another one, of which all columns count
                arguments["gradient"] = Adjoint(controller=watched)
        return solve_ivp(
            dynamics,
            dynamics.first_state(points),
            torch.as_tensor(times, dtype=torch.float64, device=points.device),
            params=dynamics.field.parameters(),
            **arguments,
        )

    def _path(self, solution: Solution, dynamics: FlowDynamics, *, backwards: bool) -> Path:
        d = self.n_dims
        energies = solution.y[:, -1, d + 1 :]
        if backwards:  # integrals of what is positive are wanted from the lower time to the upper
            energies = -energies
        return Path(
            points=solution.y[..., :d],
            log_det=solution.y[..., d],
            kinetic=energies[:, 0] if dynamics.kinetic else None,
            jacobian=energies[:, int(dynamics.kinetic)] if dynamics.jacobian else None,
            n_evals=solution.stats["n_evals"],
            n_evals_backward=[solution.stats["n_evals_backward"]],
        )


def _joined(pieces: list[Path], asked: list[list[int]]) -> Path:
    """One path of its pieces, with the points that were asked for."""
    points, log_dets = [], []
    log_det = torch.zeros_like(pieces[0].log_det[:, :1])
    for piece, places in zip(pieces, asked):
        points.append(piece.points[:, places])
        log_dets.append(log_det + piece.log_det[:, places])
        log_det = log_det + piece.log_det[:, -1:]
    return Path(
        points=torch.cat(points, dim=1),
        log_det=torch.cat(log_dets, dim=1),
        kinetic=_total([piece.kinetic for piece in pieces]),
        jacobian=_total([piece.jacobian for piece in pieces]),
        n_evals=torch.stack([piece.n_evals for piece in pieces]).sum(0),
        n_evals_backward=[count for piece in pieces for count in piece.n_evals_backward],
    )


def _total(energies: list[Tensor | None]) -> Tensor | None:
    known = [energy for energy in energies if energy is not None]
    return torch.stack(known).sum(0) if known else None


def standard_normal_log_density(z: Tensor) -> Tensor:
    """log N(z; 0, I) (N,) of z (N, D)."""
    return -0.5 * z.square().sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)


def _end(path: Path) -> Transported:
    return Transported(path.points[:, -1], path.log_det[:, -1])
