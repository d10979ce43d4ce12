"""Gradients by backpropagation through the accepted steps: exact, and with second derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from latentode.gradients.problem import Problem
from latentode.gradients.replay import at_start, last_query_time, pad_columns, replay
from latentode.solvers.integrate import Integration


def backprop(problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor) -> tuple[Tensor, Integration]:
    """Solve, and build the graph of the accepted steps.

    Memory grows with steps × the activations of the field. The graph is an ordinary one: every derivative that
    torch can take of the field can be taken of the solution.

    Returns
    -------
    Tensor (N, T, D), Integration
    """
    run = problem.integrate(y0, t0, t_eval, keep_steps=torch.is_grad_enabled())
    if not torch.is_grad_enabled():
        return run.y, run
    answers = _Answers(y0, t_eval)
    row, column = at_start(t0, t_eval)
    y, carry = y0, problem.method.start(problem.field, t0, y0)
    answers.add(row, column, y0[row] + (t_eval[row, column] - t0[row]).to(y0.dtype)[:, None] * carry[row])
    t_last = last_query_time(t_eval)
    t_padded = pad_columns(t_eval)
    for steps in run.steps:
        rows, column = steps.rows, steps.covered.column
        t_query = t_padded[rows[:, None], column]
        step, answer = replay(
            problem.method, problem.field, steps, t0[rows], y[rows], carry[rows], t_query, t_last[rows]
        )
        y, carry = y.index_copy(0, rows, step.y), carry.index_copy(0, rows, step.carry)
        answers.add(rows[:, None], column, answer)
    return answers.assemble(), run


class _Answers:
    """Solutions at query times, put in their places by one gather at the end: the graph holds no (N, T, D) per step."""

    def __init__(self, y0: Tensor, t_eval: Tensor) -> None:
        self.parts = [y0.new_full((1, y0.shape[1]), torch.nan)]  # what was not reached or not asked
        self.place = torch.zeros(len(t_eval), t_eval.shape[1] + 1, dtype=torch.int64, device=y0.device)
        self.count = 1

    def add(self, row: Tensor, column: Tensor, answer: Tensor) -> None:
        """`answer` (*shape, D) belongs to t_eval[row, column], both broadcast to `shape`."""
        answer = answer.flatten(0, -2)
        places = torch.arange(self.count, self.count + len(answer), device=column.device)
        self.place[row, column] = places.reshape(column.shape)
        self.parts.append(answer)
        self.count += len(answer)

    def assemble(self) -> Tensor:
        """(N, T, D)."""
        place = self.place[:, :-1]
        return torch.cat(self.parts)[place.flatten()].unflatten(0, place.shape)
