"""Gradients by backpropagation through the accepted steps: exact, and with second derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from latentode.gradients.problem import Problem
from latentode.gradients.replay import at_start, last_query_time, replay
from latentode.solvers.integrate import Integration


def backprop(problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor) -> tuple[Tensor, Integration]:
    """Solve, and build the graph of the accepted steps.

    Memory grows with steps × the activations of the field. The graph is an ordinary one: every derivative that
    torch can take of the field can be taken of the solution.

    Returns
    -------
    Tensor (N, T, D), Integration
    """
    run = problem.integrate(y0, t0, t_eval, keep_steps=True)
    t_last = last_query_time(t_eval)
    y, carry = y0, problem.method.start(problem.field, t0, y0)
    row, column = at_start(t0, t_eval)
    answers = [y0[row] + (t_eval[row, column] - t0[row]).to(y0.dtype)[:, None] * carry[row]]
    answer_rows, answer_columns = [row], [column]
    for steps in run.steps:
        rows = steps.rows
        t = t0[rows] + (steps.t - t0[rows]).detach()
        query = (rows[steps.query_row], steps.query_column)
        step, answer = replay(
            problem.method, problem.field, steps, t, y[rows], carry[rows], t_eval[query], t_last[rows]
        )
        y, carry = y.index_copy(0, rows, step.y), carry.index_copy(0, rows, step.carry)
        answers.append(answer)
        answer_rows.append(query[0])
        answer_columns.append(query[1])
    where = (torch.cat(answer_rows), torch.cat(answer_columns))
    unreached = torch.full_like(run.y, torch.nan)
    return unreached.index_put(where, torch.cat(answers)), run
