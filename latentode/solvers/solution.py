"""What a solve returns: values, a status per series, and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from latentode.exceptions import SolverError


class Status(IntEnum):
    """How the integration of one series ended: positive where it failed."""

    EVENT = -1
    SUCCESS = 0
    MAX_STEPS = 1
    STEP_UNDERFLOW = 2
    NON_FINITE = 3
    NEWTON_DIVERGED = 4

    @property
    def message(self) -> str:
        """What happened, and how to repair it."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.EVENT: "stopped at its event",
    Status.SUCCESS: "solved",
    Status.MAX_STEPS: (
        "the maximum number of steps was reached: raise max_steps or loosen rtol and atol (or raise step_size); "
        "take an implicit solver, such as 'kvaerno5', if the field is stiff; or check that the field and the time span "
        "have sensible units"
    ),
    Status.STEP_UNDERFLOW: (
        "the step size fell below the resolution of time: loosen rtol and atol, use float64, "
        "or check the field for a jump or a singularity near this time"
    ),
    Status.NON_FINITE: (
        "the state or the field became infinite or NaN: check y0 and the field's values near this time, "
        "or bound the field's output"
    ),
    Status.NEWTON_DIVERGED: (
        "the equations of an implicit step could not be solved by Newton's iteration: lower step_size, use an "
        "adaptive solver, or check that the field is smooth and differentiable in y near this time"
    ),
}


@dataclass(frozen=True)
class Solution:
    """Solution of N initial value problems at T query times each.

    Attributes
    ----------
    t : Tensor (N, T)
        Query times, as given.
    y : Tensor (N, T, *state), or a tuple of such tensors where y0 is one
        Solution; NaN at query times that a failed series did not reach, and where the query time is NaN.
    status : Tensor (N,), int64
        `latentode.solvers.Status` of every series: 0 solved, -1 stopped at its event, positive where it failed.
    t_reached : Tensor (N,)
        Time up to which the solution is known.
    stats : dict of Tensor (N,), int64
        `n_steps` attempted, `n_accepted`, `n_evals` of the field in the forward pass, and `n_evals_backward`, those
        that a backward pass differentiates, which grows when one is run.
    event_times : Tensor (N,) or None
        Where an event was asked for: its time, NaN where there was none.
    event_states : Tensor (N, *state), tuple or None
        The state there.
    engine : str
        The one that solved: "torch" or "native".
    """

    t: Tensor
    y: Any
    status: Tensor
    t_reached: Tensor
    stats: dict[str, Tensor]
    event_times: Tensor | None = None
    event_states: Any = None
    engine: str = "torch"

    @property
    def success(self) -> bool:
        """Whether every series was solved, to its end or its event."""
        return not bool((self.status > 0).any())

    def raise_for_status(self, names: Sequence[object] | None = None) -> Solution:
        """Return self, or raise if a series was not solved.

        Parameters
        ----------
        names : sequence of N objects, optional
            What the series are called in the message; default: their position.

        Raises
        ------
        SolverError
            With the series, the time reached, the status and the repair.
        """
        failed = torch.nonzero(self.status > 0)[:, 0].tolist()
        if not failed:
            return self
        first = failed[0]
        others = f" (and {len(failed) - 1} more series)" if len(failed) > 1 else ""
        name = first if names is None else names[first]
        status = Status(int(self.status[first]))
        raise SolverError(
            f"series {name!r}{others} could not be solved beyond t={self.t_reached[first].item():.6g} "
            f"[{status.name}]: {status.message}"
        )
