"""What every gradient is given: one initial value problem per series, with a flat state and sorted query times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentode.solvers.integrate import integrate
from latentode.solvers.integration import Integration, Observer, Pace
from latentode.solvers.lockstep import integrate_in_lockstep, suits_lockstep
from latentode.solvers.method import Field, Method
from latentode.solvers.step_size import Controller

Tally = Callable[[Tensor | slice, Tensor], object]  # positions (n,) of series, or all of them; as many counts


@dataclass(frozen=True)
class Problem:
    """A field with the parameters that it uses, and how it is to be solved.

    `tally` is told of the evaluations of the field in a backward pass. `pace` is that of a solve which this one goes on
    from.
    """

    field: Field
    params: Sequence[Tensor]
    method: Method
    controller: Controller
    max_steps: int
    tally: Tally | None = None
    pace: Pace | None = None

    def integrate(
        self,
        y0: Tensor,
        t0: Tensor,
        t_eval: Tensor,
        *,
        keep_steps: bool,
        observe: Observer | None = None,
        pace: Pace | None = None,
    ) -> Integration:
        """`solvers.integrate`; it builds a graph where gradients are enabled. In lockstep where that is quicker."""
        pace = self.pace if pace is None else pace
        if observe is None and suits_lockstep(self.field, y0, self.method, self.controller):
            return integrate_in_lockstep(
                self.field,
                y0,
                t0,
                t_eval,
                method=self.method,
                controller=self.controller,
                max_steps=self.max_steps,
                keep_steps=keep_steps,
                pace=pace,
            )
        return integrate(
            self.field,
            y0,
            t0,
            t_eval,
            method=self.method,
            controller=self.controller,
            max_steps=self.max_steps,
            keep_steps=keep_steps,
            observe=observe,
            pace=pace,
        )

    def count(self, rows: Tensor, each: int, more: Tensor | None = None) -> None:
        """Count `each` evaluations, and `more` (n,), for the series at these positions (n,)."""
        if self.tally is not None:
            counts = torch.full_like(rows, each)
            self.tally(rows, counts if more is None else counts + more)

    def wants_gradient(self, *inputs: Tensor) -> bool:
        """Whether anything of what a solution depends on asks for its gradient now."""
        if not torch.is_grad_enabled():
            return False
        return any(x.requires_grad for x in self.params) or any(x.requires_grad for x in inputs)


def refuse_second_derivatives(who: str) -> None:
    """Raise in a backward pass that is asked to build a graph."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{who} has first derivatives only; for second derivatives (create_graph=True) solve with "
            "gradient='backprop'"
        )
