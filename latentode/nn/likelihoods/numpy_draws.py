"""Random numbers of distributions that torch has no public sampler for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def draw_with_numpy(
    draw: Callable[[np.random.Generator], NDArray], generator: torch.Generator | None
) -> Tensor:
    """Draws of a NumPy generator that one number of the torch generator (None: torch's own) has seeded."""
    device = "cpu" if generator is None else generator.device
    seed = torch.randint(2**62, (), generator=generator, device=device)
    return torch.as_tensor(draw(np.random.default_rng(int(seed))))
