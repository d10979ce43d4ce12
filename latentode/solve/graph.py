"""What a graph of autograd hangs from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def newest_node() -> int:
    """Autograd numbers the nodes of its graphs as they come."""
    with torch.inference_mode(False), torch.enable_grad():
        return int((torch.ones((), requires_grad=True) * 1).grad_fn._sequence_nr())  # type: ignore[union-attr]


def leaves_behind(output: Tensor, known: Iterable[Tensor], born: int) -> list[Tensor | None]:
    """Leaf tensors that require a gradient, reached from `output` without passing a known tensor.

    None stands for nodes that are older than `born`: results of a computation that came before.
    """
    leaves = {id(x) for x in known}
    seen: set[Any] = {None, *(x.grad_fn for x in known)}
    queue: list[Any] = [output.grad_fn]
    found: list[Tensor | None] = []
    while queue:
        node = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            if id(variable) not in leaves:
                found.append(variable)
        elif node._sequence_nr() <= born:
            found.append(None)
            continue
        queue += [next_node for next_node, _ in node.next_functions]
    return found
