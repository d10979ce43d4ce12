"""From scikit-learn's `random_state` to generators of our own: no global random state is read or set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

RandomState = int | np.random.Generator | np.random.RandomState | None


def numpy_generator(random_state: RandomState) -> np.random.Generator:
    """NumPy generator for a `random_state`.

    Parameters
    ----------
    random_state : int, numpy Generator, numpy RandomState or None
        An int gives the same numbers each time; a generator is used as it is (and so advances);
        a legacy RandomState is drawn from once; None asks the operating system for entropy.
    """
    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(int(random_state.randint(2**31 - 1)))
    if random_state is not None and not isinstance(random_state, (int, np.integer)):
        raise ValueError(
            f"random_state must be an int, a numpy Generator or RandomState, or None; got {random_state!r}"
        )
    if random_state is not None and random_state < 0:
        raise ValueError(f"random_state must be non-negative; got {random_state}")
    return np.random.default_rng(random_state)


def torch_generator(rng: np.random.Generator, device: torch.device | str = "cpu") -> torch.Generator:
    """Torch generator seeded by one draw from `rng`."""
    generator = torch.Generator(device=device)
    generator.manual_seed(int(rng.integers(2**63 - 1)))
    return generator


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """The state of a NumPy generator of any kind, as JSON can hold it."""
    return _plain(rng.bit_generator.state)


def set_generator_state(rng: np.random.Generator, state: dict[str, Any]) -> None:
    """Put a state from `generator_state` back.

    Raises
    ------
    ValueError
        When it belongs to a generator of another kind.
    """
    rng.bit_generator.state = _restored(state)


def _plain(state: Any) -> Any:
    """Arrays as lists with their dtype, numbers as Python's own."""
    if isinstance(state, dict):
        return {name: _plain(part) for name, part in state.items()}
    if isinstance(state, np.ndarray):
        return {"dtype": state.dtype.str, "values": state.tolist()}
    return state.item() if isinstance(state, np.generic) else state


def _restored(state: Any) -> Any:
    if not isinstance(state, dict):
        return state
    if set(state) == {"dtype", "values"}:
        return np.array(state["values"], dtype=state["dtype"])
    return {name: _restored(part) for name, part in state.items()}
