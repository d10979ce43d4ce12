"""The tensors that a field was solved with, for the backward pass that evaluates it again.

`torch.func.functional_call` lends a module other parameters for one call. A backward pass comes later, when the module
has its own ones again: replayed with those, the steps would be other steps, and the lent parameters have no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

_DEEPEST = 3  # the engine's own wrapper, the caller's function, and one that this one calls


class HeldTensors:
    """Which parameters and buffers the modules of a field hold now.

    Parameters
    ----------
    field : callable
        A module, or what holds modules: an object in its attributes, a function in its closure, a bound method, a
        partial. A module in a list or in a global name is not found.
    """

    def __init__(self, field: Any) -> None:
        modules = {id(part): part for module in _modules_of(field, _DEEPEST) for part in module.modules()}
        tables: list[dict[str, Any]] = [
            table for part in modules.values() for table in (part._parameters, part._buffers)
        ]
        self._entries = [(table, name, tensor) for table in tables for name, tensor in table.items()]
        self._searched = False

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """For a while, the modules hold what they held when the field was solved."""
        other = [
            (table, name, tensor, table[name])
            for table, name, tensor in self._entries
            if name in table and table[name] is not tensor
        ]
        try:
            for table, name, then, _ in other:
                table[name] = then
            yield
        finally:
            for table, name, _, now in other:
                table[name] = now

    def check(
        self, outputs: Sequence[Tensor], leaves: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> None:
        """Refuse evaluations that used parameters in the place of those that were solved with.

        Looked for once, and only where a leaf has no gradient.

        Raises
        ------
        RuntimeError
        """
        if self._searched or all(gradient is not None for gradient in gradients):
            return
        self._searched = True
        known = {id(tensor) for tensor in (*leaves, *(tensor for _, _, tensor in self._entries))}
        strangers = [leaf for leaf in _leaves_behind(outputs) if id(leaf) not in known]
        if strangers:
            raise RuntimeError(
                f"in the backward pass the field uses a parameter of shape {tuple(strangers[0].shape)} that it was not "
                "solved with, as happens where torch.func.functional_call is around the solve and the field finds "
                "its module in a list or a global name: pass the module itself as the field, or use "
                "gradient='backprop'"
            )


def _modules_of(holder: Any, depth: int) -> Iterator[nn.Module]:
    if isinstance(holder, nn.Module):
        yield holder
    elif depth:
        for part in _parts_of(holder):
            yield from _modules_of(part, depth - 1)


def _parts_of(holder: Any) -> list[Any]:
    if isinstance(holder, MethodType):
        return [holder.__self__, holder.__func__]
    if isinstance(holder, partial):
        return [holder.func, *holder.args, *holder.keywords.values()]
    if isinstance(holder, FunctionType):
        cells = [*(holder.__closure__ or ()), *(holder.__defaults__ or ())]
        return [_content(cell) for cell in cells]
    if isinstance(holder, (Tensor, type, ModuleType)):
        return []
    return list(getattr(holder, "__dict__", {}).values())


def _content(cell: Any) -> Any:
    try:
        return getattr(cell, "cell_contents", cell)
    except ValueError:  # a name of the closure that has no value yet
        return None


def _leaves_behind(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The leaf tensors that require a gradient, reached from outputs."""
    queue: list[Any] = [output.grad_fn for output in outputs]
    seen: set[Any] = {None}
    leaves = []
    while queue:
        node = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves.append(leaf)
        queue += [following for following, _ in node.next_functions]
    return leaves
