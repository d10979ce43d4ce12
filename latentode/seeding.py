"""From scikit-learn's `random_state` to generators of our own: no global random state is read or set."""

from __future__ import annotations

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
