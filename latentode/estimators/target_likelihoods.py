"""The likelihood of every target, and the values that it can explain."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from latentode.checks import did_you_mean
from latentode.exceptions import DataError
from latentode.nn.likelihoods import LIKELIHOODS
from latentode.series import SeriesTable, TableLayout
from latentode.series.columns import plain

DEFAULT_LIKELIHOOD = "gaussian"


def named_likelihoods(likelihood: str | Mapping[Hashable, str]) -> dict[Hashable, str]:
    """Likelihoods by target, as far as they are named one by one.

    Raises
    ------
    ValueError
        For a name that is none.
    """
    if isinstance(likelihood, str):
        return {}
    for target, name in likelihood.items():
        if name not in LIKELIHOODS:
            raise ValueError(
                f"likelihood of target {target!r} must be one of {', '.join(map(repr, LIKELIHOODS))}; got "
                f"{name!r}{did_you_mean(name, LIKELIHOODS)}"
            )
    return dict(likelihood)


def categorical_columns(likelihood: str | Mapping[Hashable, str], target_cols: Any) -> list[Hashable]:
    """Targets whose likelihood is "categorical".

    Raises
    ------
    ValueError
        When all targets are to be categories, but are not named: numbers would become labels by accident.
    """
    if likelihood == "categorical":
        if target_cols is None:
            raise ValueError(
                'likelihood="categorical" needs target_cols=, or name the targets: likelihood={"<target>": '
                '"categorical"}'
            )
        return list(target_cols)
    return [target for target, name in named_likelihoods(likelihood).items() if name == "categorical"]


def likelihood_names(likelihood: str | Mapping[Hashable, str], layout: TableLayout) -> dict[Hashable, str]:
    """The likelihood of every target; those that a mapping leaves out are Gaussian.

    Raises
    ------
    ValueError
        When a mapping names a column that is no target, or when a target with measurement errors has a likelihood
        that cannot use them.
    """
    named = named_likelihoods(likelihood)
    unknown = [target for target in named if target not in layout.target_cols]
    if unknown:
        raise ValueError(
            f"likelihood names {unknown[0]!r}, which is no target"
            f"{did_you_mean(unknown[0], map(str, layout.target_cols))}; the targets are {list(layout.target_cols)}"
        )
    default = likelihood if isinstance(likelihood, str) else DEFAULT_LIKELIHOOD
    names = {target: named.get(target, default) for target in layout.target_cols}
    for target in layout.error_cols:
        if not LIKELIHOODS[names[target]].accepts_errors:
            able = [name for name, kind in LIKELIHOODS.items() if kind.accepts_errors]
            raise ValueError(
                f"error_cols gives measurement errors for {target!r}, whose likelihood {names[target]!r} cannot use "
                f"them; those that can are {able}"
            )
    return names


def check_values(table: SeriesTable, names: Mapping[Hashable, str]) -> None:
    """Refuse values that a likelihood gives no probability.

    Raises
    ------
    DataError
        With the target, the value and what its likelihood expects.
    """
    for (target, name), column in zip(names.items(), table.values.T):
        if name == "bernoulli":
            wrong, expected = ~np.isin(column, (0.0, 1.0)), "0 or 1 (or False and True)"
        elif name in ("poisson", "negative_binomial"):
            wrong, expected = (column < 0) | (column != np.round(column)), "whole numbers of at least 0"
        else:
            continue
        wrong &= ~np.isnan(column)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"target {target!r} is {column[row]:g} in series {plain(table.ids[table.series[row]])!r} (row "
                f"{table.rows[row]}), but likelihood {name!r} needs {expected}"
            )
