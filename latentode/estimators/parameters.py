"""Constructor parameters: what is allowed, and those whose meaning depends on the table or the machine."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import wraps
from numbers import Real
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from latentode.checks import Constraint, Number, OneOf, That, Whole, did_you_mean
from latentode.gradients import GRADIENTS
from latentode.nn.encoders import ENCODERS
from latentode.nn.fields import FIELDS
from latentode.nn.likelihoods import LIKELIHOODS
from latentode.nn.mlp import ACTIVATIONS
from latentode.series import SCALERS, SeriesTable, TableLayout
from latentode.series.controls import INTERPOLATIONS
from latentode.series.times import NAMES
from latentode.solve.engine import ENGINES
from latentode.solvers import SOLVERS
from latentode.training import KL_SCHEDULES

Init = TypeVar("Init", bound=Callable[..., None])


def suggests_names(init: Init) -> Init:
    """The constructor, with a message for names that it does not have: the one that was probably meant."""
    known = [name for name in inspect.signature(init).parameters if name != "self"]

    @wraps(init)
    def checked(self: Any, *args: Any, **parameters: Any) -> None:
        if args:
            raise TypeError(
                f"{type(self).__name__} takes parameters by name only, such as {known[0]}=...; got {args[0]!r} without "
                "a name"
            )
        check_parameter_names(type(self).__name__, parameters, known, TypeError)
        init(self, **parameters)

    return cast(Init, checked)


def check_parameter_names(
    owner: str, given: Iterable[str], known: Sequence[str], error: type[Exception] = ValueError
) -> None:
    """Refuse names that are no parameters.

    Raises
    ------
    ValueError or another error
    """
    unknown = [name for name in given if name not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known) or f"; its parameters are {', '.join(known)}"
        raise error(f"{owner} has no parameter {unknown[0]!r}{hint}")


def window_length(window: Any, layout: TableLayout, table: SeriesTable) -> float | None:
    """`window` in the unit of encoded times: that of the column, or seconds."""
    if window is None:
        return None
    if layout.clock.in_seconds:
        length = _seconds(window, layout)
    elif Number(0, open_low=True).allows(window):
        length = float(window)
    else:
        raise ValueError(
            f"window must be a positive number, in the unit of the time column {layout.time_col!r}; got {window!r}"
        )
    gaps = np.diff(table.times)[np.diff(table.series) == 0]
    if not (gaps[gaps > 0] <= length).any():
        raise ValueError(
            f"window={window!r} is shorter than every gap between two observations: no window would hold two of "
            "them; take one that holds dozens"
        )
    return length


def _seconds(window: Any, layout: TableLayout) -> float:
    is_number = isinstance(window, Real) and not isinstance(window, np.timedelta64)  # NumPy counts it as one
    if is_number or (isinstance(window, str) and window.strip().isdecimal()):
        raise ValueError(
            f"window must be a timedelta such as '3650D', since the time column {layout.time_col!r} holds "
            f"{NAMES[layout.time_kind]}; got {window!r}"
        )
    try:
        seconds = pd.Timedelta(window).total_seconds()
    except ValueError as error:
        raise ValueError(f"window must be a timedelta such as '3650D'; got {window!r}") from error
    if not seconds > 0:
        raise ValueError(f"window must be positive; got {window!r}")
    return seconds


def quantile_levels(quantiles: Sequence[float]) -> list[float]:
    inside = Number(0, 1, open_low=True, open_high=True)
    levels = list(quantiles) if isinstance(quantiles, Iterable) else [quantiles]
    wrong = [level for level in levels if not inside.allows(level)]
    if wrong or not levels:
        raise ValueError(f"quantiles must be numbers strictly between 0 and 1; got {quantiles!r}")
    return [float(level) for level in levels]


def device_of(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # unknown to torch; known, but not on this machine
        raise ValueError(
            f"device must be 'auto' or one that torch has on this machine, such as 'cpu'; got {name!r}"
        ) from error


_ANY = That(lambda value: True, "anything")
_NONE = OneOf([None])
_STRING = That(lambda value: isinstance(value, str), "a str")
_COLUMN = That(lambda value: isinstance(value, Hashable) and value is not None, "a column name")
_NAMES = That(lambda value: isinstance(value, (list, tuple, pd.Index, np.ndarray)), "a list of column names")
_MAPPING = That(lambda value: isinstance(value, Mapping), "a mapping from target to name")
_MODULE = That(lambda value: isinstance(value, nn.Module), "an nn.Module")
_PATH = That(lambda value: isinstance(value, (str, os.PathLike)), "a path")
_POSITIVE = Number(0, open_low=True)
_OPEN_UNIT = Number(0, 1, open_low=True, open_high=True)
_CALLBACKS = That(
    lambda value: isinstance(value, Iterable) and not isinstance(value, str), "a list of callbacks"
)

CONSTRAINTS: dict[str, tuple[Constraint, ...]] = {
    "labels_per": (OneOf(["series", "row"]),),
    "class_weight": (OneOf(["balanced"]), That(lambda value: isinstance(value, Mapping), "a mapping"), _NONE),
    "label_weight": (_POSITIVE,),
    "id_col": (_COLUMN, _NONE),
    "time_col": (_COLUMN,),
    "target_cols": (_NAMES, _NONE),
    "static_cols": (_NAMES,),
    "control_cols": (_NAMES,),
    "control_interpolation": (OneOf(INTERPOLATIONS),),
    "error_cols": (_MAPPING, _NONE),
    "latent_dim": (Whole(1),),
    "hidden_dim": (Whole(1),),
    "depth": (Whole(1),),
    "activation": (OneOf(ACTIVATIONS),),
    "encoder_dim": (Whole(1), _NONE),
    "encoder": (OneOf(ENCODERS), _MODULE),
    "field": (OneOf(FIELDS), _MODULE),
    "likelihood": (OneOf(LIKELIHOODS), _MAPPING),
    "event_times": (OneOf(["poisson", "poisson_per_target"]), _NONE),
    "time_dependent": (OneOf([True, False]),),
    "solver": (OneOf(SOLVERS),),
    "rtol": (_POSITIVE,),
    "atol": (_POSITIVE,),
    "step_size": (_POSITIVE, _NONE),
    "gradient": (OneOf(GRADIENTS),),
    "engine": (OneOf(ENGINES),),
    "context": (OneOf(["random", "all"]), _OPEN_UNIT),
    "context_gaps": (Number(0, 1),),
    "anchor": (OneOf(["start", "end"]),),
    "window": (_ANY,),  # its unit depends on the table: `window_length`
    "n_samples": (Whole(1),),
    "kl_weight": (Number(0),),
    "kl_schedule": (OneOf(KL_SCHEDULES),),
    "kl_warmup": (Number(0, 1),),
    "free_bits": (Number(0),),
    "kinetic": (Number(0),),
    "jacobian": (Number(0),),
    "piece_warmup": (Number(0, 1),),
    "max_epochs": (Whole(1), _NONE),
    "batch_size": (Whole(1),),
    "lr": (_POSITIVE,),
    "early_stopping": (OneOf([True, False]),),
    "validation_fraction": (Number(0, 1, open_high=True),),
    "patience": (Whole(1), _NONE),
    "scaler": (OneOf(SCALERS),),
    "calibrate": (OneOf([True, False]),),
    "callbacks": (_CALLBACKS, _NONE),
    "checkpoint_dir": (_PATH, _NONE),
    "device": (_STRING,),
    "random_state": (_ANY,),  # `numpy_generator` refuses what is none
    "verbose": (Whole(0), OneOf([True, False])),
}

UPDATE_CONSTRAINTS: dict[str, tuple[Constraint, ...]] = {
    "max_epochs": (Whole(1), _NONE),
    "lr": (_POSITIVE, _NONE),
}

TRAINING = (
    "max_epochs",
    "batch_size",
    "lr",
    "early_stopping",
    "patience",
    "kl_weight",
    "kl_schedule",
    "kl_warmup",
    "piece_warmup",
    "verbose",
)
"""Parameters that the training loop takes as they are."""
