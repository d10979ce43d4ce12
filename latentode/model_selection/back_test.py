"""`cross_validate_forecasts`: what a model would have forecast at each of some past cutoffs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from latentode.checks import OneOf, check_parameters
from latentode.exceptions import DataError
from latentode.model_selection.cutoffs import SHARE, read_cutoffs
from latentode.model_selection.instants import in_dtype_of
from latentode.model_selection.keys import Keys, Mask
from latentode.model_selection.long_table import LongTable
from latentode.model_selection.time_cut import Cut, TimeCutSplit, nothing_to_test
from latentode.series.forms import OpenedTable, TableForm, open_table

CUTOFF = "cutoff"


def cross_validate_forecasts(
    model: Any,
    df: pd.DataFrame,
    cutoffs: Sequence[Any],
    horizon: Any = None,
    *,
    refit: bool = True,
    coverage: float = 0.9,
) -> pd.DataFrame:
    """Forecasts of every series from several cutoffs, beside what happened, in one long table.

    At each cutoff a clone of the model learns from the rows up to it and forecasts, from the past of each series, its
    rows in the horizon after it. The table shows how a model would have done in use, and where it fails; scores come
    from `latentode.metrics`, for instance ``mae(table[[..., "x"]], ..., by="cutoff")``.

    Parameters
    ----------
    model : LatentODERegressor
        Not changed.
    df : DataFrame
        In any form that the model's `fit` takes, rows in any order.
    cutoffs : sequence
        Increasing times of the same kind as those of `df`, the last ones that are known.
    horizon : number, or duration for other times, optional
        How far after each cutoff, the end included; default: all later rows.
    refit : bool, default True
        Whether to learn anew at each cutoff; otherwise once, from the past of the first one, and later forecasts only
        have a longer context.
    coverage : float in (0, 1), default 0.9
        Of the intervals.

    Returns
    -------
    DataFrame
        Of pandas, with keys as columns whatever the form of `df` (and no id where it has none).
        One row per cutoff and row of the horizon, in the order of `df`, with the columns id, time, `cutoff` and for
        each target `<target>` (what happened), `<target>_forecast`, `<target>_lower` and `<target>_upper` (no interval
        for categories without an order). Ids, times and targets keep their dtypes; `cutoff` has
        that of the times where it loses nothing.

    Raises
    ------
    DataError
        When a cutoff leaves nothing to train or to forecast, or a column of the answer has the name of a key.
    ValueError
        When cutoffs or horizon do not fit the times.

    Examples
    --------
    >>> from latentode import LatentODERegressor
    >>> from latentode.datasets import make_spirals
    >>> from latentode.model_selection import cross_validate_forecasts
    >>> df = make_spirals(n_series=10, n_obs=20, random_state=0)
    >>> model = LatentODERegressor(max_epochs=1, random_state=0, verbose=0)
    >>> list(cross_validate_forecasts(model, df, cutoffs=[1.5, 2.5], horizon=1.0).columns)[:6]
    ['id', 'time', 'cutoff', 'x', 'x_forecast', 'x_lower']
    """
    check_parameters(
        "cross_validate_forecasts",
        {"refit": refit, "coverage": coverage},
        {"refit": (OneOf([True, False]),), "coverage": (SHARE,)},
    )
    if not all(hasattr(model, name) for name in ("id_col", "time_col", "predict_interval")):
        raise TypeError(
            f"cross_validate_forecasts needs an estimator of series, such as LatentODERegressor; got {model!r}"
        )
    table = LongTable.of(_open(model, df))
    keys, frame = table.keys, table.frame
    named = in_dtype_of(table.told, read_cutoffs(cutoffs, table.told))
    cuts = list(TimeCutSplit(cutoffs=cutoffs, horizon=horizon).at(table))
    for cut in cuts:  # all of them, before the first training
        if not _asked(cut, keys).any():
            raise DataError(nothing_to_test(cut.name, horizon))
    fitted, parts = None, []
    for place, cut in enumerate(cuts):
        if fitted is None or refit:
            fitted = _learner(model, table.opened.form).fit(frame[cut.past])
        asked = _asked(cut, keys)
        part = _forecast(fitted, table, cut.past & asked, cut.future & asked, coverage)
        part.insert(2, CUTOFF, named.iloc[[place] * len(part)].array)
        parts.append(part)
    answer = pd.concat(parts, ignore_index=True)
    return answer.drop(columns=table.id_col) if table.opened.form.single else answer


def _open(model: Any, df: Any) -> OpenedTable:
    """The table as `fit` of the model opens it."""
    given = (getattr(model, f"{role}_cols", None) or () for role in ("target", "static", "control"))
    return open_table(df, model.id_col, model.time_col, roles={name for names in given for name in names})


def _learner(model: Any, form: TableForm) -> Any:
    """An unfitted clone that finds keys which were in the index in columns of the long table."""
    learner = clone(model)
    if form.keys.levels and not form.is_nixtla:
        learner.set_params(id_col=form.id_col, time_col=form.time_col)
    return learner


def _asked(cut: Cut, keys: Keys) -> np.ndarray:
    """Rows (R,) of the series that have both a past and a future."""
    return (keys.present(cut.past) & keys.present(cut.future))[keys.codes]


def _forecast(model: Any, table: LongTable, past: Mask, asked: Mask, coverage: float) -> pd.DataFrame:
    """Truth, forecast and interval of the rows that are asked for."""
    keys = [table.id_col, table.time_col]
    context, future = table.frame[past], table.frame[asked]
    times = future[[*keys, *model.control_cols]]
    mean, interval = model.predict(context, times), model.predict_interval(context, times, coverage)
    columns: dict[Hashable, Any] = {}
    for target in model.layout_.target_cols:
        new = {target: future[target].array, f"{target}_forecast": mean[target].array}
        for end in (f"{target}_lower", f"{target}_upper"):
            if end in interval:
                new[end] = interval[end].array
        taken = [name for name in new if name in (*keys, CUTOFF, *columns)]
        if taken or CUTOFF in keys:
            raise DataError(
                f"the answer needs the name {(*taken, CUTOFF)[0]!r} twice: rename that of the table"
            )
        columns |= new
    return pd.concat([future[keys].reset_index(drop=True), pd.DataFrame(columns)], axis=1)
