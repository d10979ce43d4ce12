"""Where the randomness of a fit comes from, and the checkpoint that it continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latentode.estimators.fingerprint import fingerprint
from latentode.seeding import generator_state, numpy_generator
from latentode.series import SeriesTable
from latentode.training import Checkpoint


class Beginning(NamedTuple):
    """The generator that a fit begins with, and its checkpoint, None without a folder."""

    rng: np.random.Generator
    checkpoint: Checkpoint | None


def beginning_of(
    owner: str, params: Mapping[str, Any], data: SeriesTable | Sequence[np.ndarray]
) -> Beginning:
    """The beginning of a fit of an estimator of this class name, with these parameters, to these data.

    Without a `random_state`, a fit that is continued begins with the seed that chance gave it the first time.
    """
    folder, random_state = params["checkpoint_dir"], params["random_state"]
    rng = numpy_generator(random_state)
    if folder is None:
        return Beginning(rng, None)
    random = None if random_state is None else generator_state(rng)
    checkpoint = Checkpoint(Path(folder).expanduser(), fingerprint(owner, params, random, data))
    checkpoint.sweep()
    if random_state is None:
        saved = checkpoint.saved or {}
        seed = saved.get("seed", np.random.SeedSequence().entropy)
        rng = np.random.default_rng(seed)
        checkpoint.facts["seed"] = seed
    return Beginning(rng, checkpoint)
