"""Adam for small models: torch's fused update without the bookkeeping around it, which takes longer than the update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import optimizer as all_optimisers


class _Update(NamedTuple):
    """The arguments of the fused update, for all parameters at once."""

    params: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]
    all_steps: Tensor  # (P,), of which `steps` are views


class SmallAdam(torch.optim.Adam):
    """torch.optim.Adam with `fused=True`, with the same numbers, for one group of parameters.

    Good for models of some dozen small tensors on a CPU, where it takes a third of the time; wherever a parameter has
    no gradient, not all tensors are dense and of one type, or this torch has another fused update than is known here,
    torch's own step serves.

    Parameters
    ----------
    parameters : list of nn.Parameter
    lr : float

    Raises
    ------
    RuntimeError
        Where torch has no fused update for the device of the parameters.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, lr=lr, fused=True)
        self._known: tuple[Any, _Update] | None = None  # with the state that it was made of

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As that of torch."""
        if not set_to_none:
            return super().zero_grad(set_to_none)
        for group in self.param_groups:
            for param in group["params"]:
                param.grad = None
        return None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """As that of torch."""
        update = None if closure is not None or self._has_hooks() else self._update()
        params = [] if update is None else update.params
        grads = [grad for param in params if (grad := param.grad) is not None and not grad.is_sparse]
        if update is None or len(grads) < len(params):
            return super().step(closure)
        with torch.no_grad():
            update.all_steps.add_(1)
            _apply(update, grads, self.param_groups[0])
        return None

    step.hooked = True  # type: ignore[attr-defined]  # else torch wraps it, and hooks would hear of its own step twice

    def _has_hooks(self) -> bool:
        own = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        return bool(
            own or all_optimisers._global_optimizer_pre_hooks or all_optimisers._global_optimizer_post_hooks
        )

    def _update(self) -> _Update | None:
        """The arguments of the update; None before torch has made its state, and where it is of another kind."""
        if self._known is None or self._known[0] is not self.state:
            made = self._made_update()
            if made is None:
                return None
            self._known = self.state, made  # `load_state_dict` puts another one in its place
        return self._known[1]

    def _made_update(self) -> _Update | None:
        (group,) = self.param_groups
        params, state = list(group["params"]), self.state
        plain = not group["amsgrad"] and not isinstance(group["lr"], Tensor) and _is_known_here()
        kinds = {(param.dtype, param.device, param.is_complex()) for param in params}
        if not plain or len(kinds) > 1 or params[0].is_complex() or any(not state.get(x) for x in params):
            return None
        steps = torch.stack([state[param]["step"] for param in params])
        for param, step in zip(params, steps.unbind()):
            state[param]["step"] = step  # torch's own step adds to it here as well
        of = {key: [state[param][key] for param in params] for key in ("exp_avg", "exp_avg_sq", "step")}
        return _Update(params, of["exp_avg"], of["exp_avg_sq"], of["step"], steps)


def _apply(update: _Update, grads: list[Tensor], group: Mapping[str, Any]) -> None:
    torch._fused_adam_(
        update.params,
        grads,
        update.means,
        update.squares,
        [],
        update.steps,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=group["maximize"],
        grad_scale=None,
        found_inf=None,
    )


@cache
def _is_known_here() -> bool:
    """Whether this torch has the fused update, which is none of its public functions, with the arguments used here."""
    param = nn.Parameter(torch.ones(1, dtype=torch.float32, device="cpu"))
    (group,) = torch.optim.Adam([param]).param_groups
    one, mean, square, step = (torch.ones_like(param.detach()) for _ in range(4))
    try:
        _apply(_Update([param.detach()], [mean], [square], [step], step), [one], group)
    except (AttributeError, TypeError, RuntimeError):
        return False
    return True


def gradient_norm(parameters: list[nn.Parameter], max_norm: float) -> float:
    """Euclidean norm of all gradients together, which are then scaled down to `max_norm` where it is more.

    The numbers are those of `torch.nn.utils.clip_grad_norm_`.
    """
    grads = [param.grad for param in parameters if param.grad is not None]
    if not grads:
        return 0.0
    with torch.no_grad():
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))))
    if norm > max_norm * (1 - 1e-3):  # torch's own factor is a little below max_norm / norm
        nn.utils.clip_grad_norm_(parameters, max_norm)
    return norm
