"""Whether what a file says can be a trained model at all: every value within the range that `fit` could have left.

A file may be made by anybody, with a fitting checksum. What is checked here bounds the time and memory that loading it
can take, and makes sure that no part contradicts another: a model that loads also predicts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode.checks import Constraint, Number, OneOf, Whole, check_parameters
from latentode.estimators.arrays import OneSeries, SeriesPerRow
from latentode.estimators.blueprint import Blueprint
from latentode.estimators.calibration import Calibration
from latentode.estimators.learned import Learned
from latentode.estimators.parameters import CONSTRAINTS
from latentode.nn.encoders import ENCODERS
from latentode.nn.fields import FIELDS
from latentode.nn.likelihoods import LIKELIHOODS
from latentode.series import SCALERS, CovariateScaler, TableLayout, ValueScaler
from latentode.series.columns import check_names
from latentode.series.times import Clock, time_kind

MOST_LAYERS = 10_000  # of a field: each costs time before its weights can be compared
_TIME_DTYPE = re.compile(r"[A-Za-z0-9_\[\], /:+=-]{1,100}")
_OWN = OneOf([None])
_YES_NO = OneOf([True, False])
_POSITIVE = Number(0, open_low=True)

_BLUEPRINT: dict[str, tuple[Constraint, ...]] = {
    "encoder": (OneOf(ENCODERS), _OWN),
    "field": (OneOf(FIELDS), _OWN),
    **{
        name: CONSTRAINTS[name]
        for name in ("latent_dim", "hidden_dim", "depth", "activation", "time_dependent")
    },
    "encoder_dim": (Whole(1),),
    "backwards": (_YES_NO,),
    "n_static": (Whole(0),),
    "n_controls": (Whole(0),),
}
_OPTIONS: dict[str, tuple[Constraint, ...]] = {
    **{name: CONSTRAINTS[name] for name in ("solver", "rtol", "atol", "step_size", "gradient", "engine")},
    "max_steps": (Whole(1),),
}
_LEARNED: dict[str, tuple[Constraint, ...]] = {
    **{name: CONSTRAINTS[name] for name in ("anchor", "context", "event_times")},
    "window": (_POSITIVE, OneOf([None])),
    "span": (_POSITIVE,),  # no training without two different times in one series
}


def check_learned(learned: Learned) -> None:
    """Refuse what no training could have left; own parts are still None.

    Raises
    ------
    ValueError
    """
    layout, blueprint = learned.layout, learned.blueprint
    check_parameters("learned", _fields(learned, _LEARNED), _LEARNED)
    _check_layout(layout)
    _check_clock(layout.clock)
    _check_blueprint(blueprint, learned)
    _check_targets(blueprint, layout)
    scale = learned.time_scale
    check_parameters("time_scale", vars(scale), {"origin": (Number(),), "unit": (_POSITIVE,)})
    _check_scaler(learned.scaler, blueprint.likelihoods)
    _check_covariates(learned.covariates, layout, blueprint)
    if learned.calibration is not None:
        _check_calibration(learned.calibration, len(layout.target_cols))
    if learned.arrays is not None:
        _check_arrays(learned.arrays, layout)


def check_classes(classes: Any) -> NDArray[Any]:
    """The classes of a file: two or more different ones in increasing order.

    Raises
    ------
    ValueError
    """
    several = isinstance(classes, np.ndarray) and len(classes) > 1
    _require(
        several and bool((classes[:-1] < classes[1:]).all()),
        "the classes must be two or more, in increasing order",
    )
    return classes


def _fields(of: Any, names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(of, name) for name in names}


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _check_layout(layout: TableLayout) -> None:
    errors, targets = layout.error_cols, set(layout.target_cols)
    others = {name: getattr(layout, name) for name in ("static_cols", "control_cols")}
    check_names(
        layout.id_col, layout.time_col, layout.target_cols, {**others, "error_cols": list(errors.values())}
    )
    _require(None not in (layout.id_col, layout.time_col), "id and time column have no name")
    interpolation = {"control_interpolation": layout.control_interpolation}
    check_parameters("layout", interpolation, {"control_interpolation": CONSTRAINTS["control_interpolation"]})
    _require(targets >= set(errors), "error_cols names a column that is no target")
    _require(targets >= set(layout.categories), "categories name a column that is no target")
    for labels in layout.categories.values():
        _require(len(set(labels.labels)) == len(labels) > 1, "a category has too few or repeated labels")
        flags = {"is_categorical": labels.is_categorical, "ordered": labels.ordered}
        check_parameters("categories", flags, dict.fromkeys(flags, (_YES_NO,)))


def _check_clock(clock: Clock) -> None:
    plain = (
        isinstance(clock.dtype, str) and _TIME_DTYPE.fullmatch(clock.dtype) and "dateutil" not in clock.dtype
    )
    _require(bool(plain), f"{str(clock.dtype)[:100]!r} is no dtype of times")
    kind, aware = time_kind(pd.Series(dtype=clock.dtype))
    _require((kind, aware) == (clock.kind, clock.aware), f"{clock.dtype} is no dtype of {clock.kind} times")
    _require(Whole(-(2**62)).allows(clock.epoch) and clock.epoch < 2**62, "the epoch is no number of seconds")


def _check_blueprint(blueprint: Blueprint, learned: Learned) -> None:
    check_parameters("blueprint", _fields(blueprint, _BLUEPRINT), _BLUEPRINT)
    check_parameters("options", blueprint.options.arguments(), _OPTIONS)
    check_layers(blueprint.depth)
    _require(
        blueprint.backwards == (learned.anchor == "start"), "anchor and direction of the encoder disagree"
    )
    n_rates = {None: 0, "poisson": 1, "poisson_per_target": len(learned.layout.target_cols)}[
        learned.event_times
    ]
    _require(len(blueprint.event_rates) == n_rates, "event_times and the number of event rates disagree")
    _require(all(_POSITIVE.allows(rate) for rate in blueprint.event_rates), "event rates must be positive")


def _check_targets(blueprint: Blueprint, layout: TableLayout) -> None:
    names, facts = blueprint.likelihoods, blueprint.target_facts
    _require(len(names) == len(facts) == len(layout.target_cols), "targets and likelihoods differ in number")
    for target, name, fact in zip(layout.target_cols, names, facts):
        _require(name in LIKELIHOODS, f"unknown likelihood {str(name)[:100]!r}")
        _require((name == "categorical") == (target in layout.categories), "a category has no labels")
        _require(Number().allows(fact.level), "the level of a target is no number")
        n_labels = len(layout.categories.get(target, (0, 1)))
        _require(fact.n_categories == n_labels, "the labels of a category differ in number")


def _check_scaler(scaler: ValueScaler, likelihoods: tuple[str, ...]) -> None:
    width = len(likelihoods)
    _require(scaler.kind in SCALERS, f"unknown scaler {str(scaler.kind)[:100]!r}")
    _check_numbers(width, level=scaler.loc, spread=(scaler.scale, scaler.within))
    _require(
        scaler.scaled.tolist() == [LIKELIHOODS[name].scaled for name in likelihoods], "scaled targets differ"
    )
    own = ~scaler.scaled  # targets in their own units
    plain = (
        (scaler.loc[own] == 0).all() and (scaler.scale[own] == 1).all() and (scaler.within[own] == 1).all()
    )
    _require(bool(plain), "targets that are not scaled have scales")


def _check_covariates(covariates: CovariateScaler, layout: TableLayout, blueprint: Blueprint) -> None:
    _check_numbers(len(layout.static_cols), level=covariates.static_loc, spread=(covariates.static_scale,))
    _check_numbers(len(layout.control_cols), level=covariates.control_loc, spread=(covariates.control_scale,))
    _require(covariates.flagged.shape == covariates.static_loc.shape, "static columns differ in number")
    _require(covariates.columns == layout.static_cols, "static columns differ in name")
    widths = (covariates.n_static if layout.static_cols else 0, len(layout.control_cols))
    _require((blueprint.n_static, blueprint.n_controls) == widths, "inputs of the field differ in number")


def _check_numbers(width: int, *, level: NDArray, spread: tuple[NDArray, ...]) -> None:
    for numbers in (level, *spread):
        _require(numbers.shape == (width,), f"expected {width} scales, got {numbers.shape}")
        _require(bool(np.isfinite(numbers).all()), "scales must be finite")
    _require(all((numbers > 0).all() for numbers in spread), "scales must be positive")


def _check_calibration(calibration: Calibration, width: int) -> None:
    """Knots that increase from 0 or more, and a factor at each."""
    _require(
        len(calibration.horizons) == len(calibration.factors) == width, "calibrated targets differ in number"
    )
    for knots, factors in zip(calibration.horizons, calibration.factors):
        _require(knots.ndim == 1 and knots.shape == factors.shape and len(knots) > 0, "factors need knots")
        _require(bool(np.isfinite(knots).all() and np.isfinite(factors).all()), "factors must be finite")
        _require(bool((knots >= 0).all() and (np.diff(knots) >= 0).all()), "horizons must increase")
        _require(bool((factors >= 0).all()), "factors must be at least 0")


def _check_arrays(arrays: OneSeries | SeriesPerRow, layout: TableLayout) -> None:
    """Arrays whose columns are those of the layout."""
    _require(Whole(1).allows(arrays.n_features), "arrays have no columns")
    _require(arrays.columns == (layout.target_cols, layout.control_cols), "arrays differ from the columns")


def check_layers(n_layers: int) -> None:
    """Refuse a network of so many layers that building it takes long before its weights can be compared.

    Raises
    ------
    ValueError
    """
    _require(n_layers <= MOST_LAYERS, f"more than {MOST_LAYERS:,} layers cannot be loaded")
