"""Where a training stands between two epochs, as one tree that memory and disk can keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from latentode.training.callbacks import Callback, FitState

Tree = dict[str, Any]  # dicts and lists of tensors, str, int, float, bool and None; keys are str


class Stateful(Protocol):
    """Something whose state a training depends on, such as a source of random numbers."""

    def state_dict(self) -> Tree: ...

    def load_state_dict(self, tree: Tree) -> None: ...


def take_snapshot(state: FitState, callbacks: Sequence[Callback], sources: Sequence[Stateful]) -> Tree:
    """Everything that decides how the training goes on, copied; `sources` are what it draws from."""
    moments = state.optimiser.state_dict()["state"]
    return {
        "epoch": state.epoch,
        "step": state.step,
        "lr_factor": state.lr_factor,
        "restarts": state.restarts,
        "stopped": state.stopped,
        "stop_reason": state.history.stop_reason,
        "records": [dict(record) for record in state.history],
        "model": copied(state.model.state_dict()),
        "optimiser": {str(place): copied(entry) for place, entry in moments.items()},
        "callbacks": {_place(i, callback): callback.state_dict() for i, callback in enumerate(callbacks)},
        "sources": [source.state_dict() for source in sources],
    }


def go_back(tree: Tree, state: FitState, callbacks: Sequence[Callback]) -> None:
    """Model, optimiser, history and callbacks as they were; the sources of random numbers go on.

    What is drawn next is new, so that a batch that failed by an unlucky draw is not met again, and yet repeatable.
    """
    state.epoch, state.step, state.batch = tree["epoch"], tree["step"], 0
    state.lr_factor, state.restarts, state.stopped = tree["lr_factor"], tree["restarts"], tree["stopped"]
    state.history.records = [dict(record) for record in tree["records"]]
    state.history.stop_reason = tree["stop_reason"]
    state.model.load_state_dict(tree["model"])
    moments = {int(place): copied(entry) for place, entry in tree["optimiser"].items()}
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    for i, callback in enumerate(callbacks):
        own = tree["callbacks"].get(_place(i, callback))
        if own:
            callback.load_state_dict(own)


def resume(tree: Tree, state: FitState, callbacks: Sequence[Callback], sources: Sequence[Stateful]) -> None:
    """Everything as it was, the sources of random numbers too."""
    if len(tree["sources"]) != len(sources):
        raise ValueError(f"{len(tree['sources'])} sources of random numbers for {len(sources)}")
    go_back(tree, state, callbacks)
    for source, own in zip(sources, tree["sources"]):
        source.load_state_dict(own)


def _place(number: int, callback: Callback) -> str:
    """Only callbacks of the same kind at the same place understand each other's state."""
    return f"{number} {type(callback).__name__}"


def copied(tree: Tree) -> Tree:
    """The tensors of a flat tree as copies without a graph."""
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in tree.items()
    }
