"""What decides a training, as a short text: two fits with the same one learn the same weights."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from latentode.series import SeriesTable

NOT_DECISIVE = (
    "calibrate",
    "callbacks",
    "checkpoint_dir",
    "device",
    "engine",
    "random_state",
    "verbose",
)  # random_state by what it gives


def fingerprint(
    owner: str, params: Mapping[str, Any], random: Any, data: SeriesTable | Sequence[np.ndarray]
) -> str:
    """A hash of the parameters of an estimator of this name, of its randomness and of its data.

    Parameters
    ----------
    owner : str
        Class of the estimator.
    params : mapping
        Its parameters; those that do not decide the weights are left out.
    random
        State of the generator that the fit begins with; None where that is left to chance.
    data : SeriesTable or sequence of arrays
        A table in the order in which it is trained on, whatever the order of the caller's rows; or the arrays of `fit`.
    """
    digest = hashlib.sha256()
    decisive = {name: value for name, value in params.items() if name not in NOT_DECISIVE}
    for part in (owner, *_parts(decisive), *_parts(random), *_parts(data)):
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little") + content)
    return f"{owner}-{digest.hexdigest()[:32]}"


def _table(table: SeriesTable) -> Iterator[str | bytes]:
    yield from _parts(table.ids)
    for name in ("offsets", "times", "values", "errors", "row_labels", "static", "labels"):
        yield name
        yield from _parts(getattr(table, name))
    if table.paths is not None:
        for name in ("knots", "values", "offsets", "index", "interpolation"):
            yield from _parts(getattr(table.paths, name))


def _parts(value: Any) -> Iterator[str | bytes]:
    """The content of a value, the same in every process."""
    if isinstance(value, nn.Module):
        yield from _module(value)
    elif isinstance(value, SeriesTable):
        yield from _table(value)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield repr(key)
            yield from _parts(value[key])
    elif isinstance(value, Tensor):
        yield from _parts(value.detach().cpu().numpy())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype.str} {value.shape}"
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, (list, tuple, pd.Index, np.ndarray)):
        yield f"{len(value)}"
        for one in value.tolist() if isinstance(value, (pd.Index, np.ndarray)) else value:
            yield from _parts(one)
    else:
        yield repr(value.item() if isinstance(value, np.generic) else value)


def _module(module: nn.Module) -> Iterator[str | bytes]:
    """Structure, weights and, where it can be found, the code of a module and of those in it."""
    yield repr(module)
    for kind in dict.fromkeys(type(part) for part in module.modules()):
        yield f"{kind.__module__}.{kind.__qualname__}"
        try:
            yield inspect.getsource(kind)
        except (OSError, TypeError):  # made in a console
            continue
    for name, weight in module.state_dict().items():
        yield name
        yield from _parts(weight)
