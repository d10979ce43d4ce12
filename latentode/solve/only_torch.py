"""What only torch can do, whatever is to be solved or encoded: asked before native kernels are."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as global_hooks

from latentode.solvers.method import inside_torch_func

_PLAIN, _STRIDED = {Tensor, nn.Parameter}, torch.strided
_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def why_only_torch(tensors: Iterable[Tensor]) -> str | None:
    """What around a call, or about its tensors, only torch can do; None where there is nothing."""
    return why_only_torch_here() or why_only_torch_of(tensors)


def why_only_torch_here() -> str | None:
    """What around a call only torch can do."""
    if inside_torch_func() or forward_ad._current_level >= 0:
        return "it runs inside a transform of torch.func or in forward mode"
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return "it is being compiled or traced"
    return None


def why_only_torch_of(tensors: Iterable[Tensor]) -> str | None:
    """What about the tensors of a call only torch can do."""
    for x in tensors:
        if not x.is_cpu:
            return "its kernels run on the CPU"
        if type(x) not in _PLAIN or x.layout is not _STRIDED or x.is_neg() or x.is_conj():
            return "its tensors are of a type or layout of their own"
    return None


def is_changed(module: nn.Module) -> bool:
    """Whether calling a module may do more than its class says: hooks, and a forward of the instance's own."""
    return any(getattr(global_hooks, name) for name in _GLOBAL_HOOKS) or _is_changed(module)


def _is_changed(module: nn.Module) -> bool:
    own = vars(module)
    if (
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
    ):
        return True
    if "forward" in own:
        return True
    return any(part is not None and _is_changed(part) for part in own["_modules"].values())


@lru_cache(maxsize=256)
def overrides(kind: type, name: str) -> bool:
    """Whether a class changes anything of the one that gave it the method `name`, which may be what that relies on."""
    homes = kind.__mro__
    owner = next((i for i, home in enumerate(homes) if name in vars(home)), len(homes))
    inherited = {key for home in homes[owner : len(homes) - 1] for key in vars(home)}
    changed = {key for home in homes[:owner] for key in vars(home)} & inherited
    return any(key == "__call__" or not key.startswith("__") for key in changed)
