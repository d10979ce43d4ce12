"""Tables as strange as users have them, with options to fit them: strategies for hypothesis.

The shape of a table (kinds of columns, sizes, what is wrong with it) is drawn by hypothesis, so that a failure shrinks
to few of these; its cells come from a generator with a drawn seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from numpy.typing import NDArray
from table_forms import arrow_dtypes, nullable, polars_of

Rng = np.random.Generator
SEEDS = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Case:
    """A table, what to fit it with, and the times to ask about; `n_series` counts its ids."""

    table: Any
    params: dict[str, Any]
    times: list[Any] | None
    n_series: int


IDS: dict[str, Callable[[NDArray], Any]] = {
    "integers": lambda codes: codes,
    "negative": lambda codes: -codes,
    "huge": lambda codes: codes + 2**62,
    "floats": lambda codes: codes / 4,
    "texts": lambda codes: [f"patient {code}" for code in codes],
    "empty text": lambda codes: ["" if code == 0 else str(code) for code in codes],
    "categories": lambda codes: pd.Categorical([f"c{code}" for code in codes], [f"c{i}" for i in range(9)]),
    "mixed": lambda codes: pd.Series([code if code % 2 else f"s{code}" for code in codes], dtype=object),
    "truths": lambda codes: codes % 2 == 0,
    "dates": lambda codes: pd.Timestamp("2020-01-01") + pd.to_timedelta(codes, unit="D"),
    "nullable": lambda codes: pd.array(codes, dtype="Int64"),
    "missing": lambda codes: np.where(codes == 0, np.nan, codes),
}

START = pd.Timestamp("2021-03-27 23:00")


def _dates(unit: str, zone: str | None = None) -> Callable[[NDArray], Any]:
    def of(t: NDArray) -> Any:
        index = (START + pd.to_timedelta(np.round(t * 1e5).clip(-1e9, 1e9), unit="s")).as_unit(unit)
        return index if zone is None else index.tz_localize("UTC").tz_convert(zone)

    return of


NUMERIC_TIMES: dict[str, Callable[[NDArray], Any]] = {
    "floats": lambda t: t,
    "tiny": lambda t: t * 1e-30,
    "vast": lambda t: t * 1e30,
    "late": lambda t: 1e15 + np.round(t * 8) / 8,
    "later than their digits": lambda t: 1e18 + t,
    "large and small": lambda t: np.where(t > np.median(t), t * 1e30, t),
    "float32": lambda t: t.astype(np.float32),
    "integers": lambda t: np.round(t * 10).astype(np.int64),
    "nullable": lambda t: pd.array(t, dtype="Float64"),
    "one time": lambda t: np.full_like(t, 3.0),
    "infinite": lambda t: np.where(t == t.max(), np.inf, t),
    "missing": lambda t: np.where(t == t.max(), np.nan, t),
}
CALENDAR_TIMES: dict[str, Callable[[NDArray], Any]] = {
    "seconds": _dates("s"),
    "nanoseconds": _dates("ns"),
    "in a zone": _dates("us", "Europe/Berlin"),
    "timedeltas": lambda t: pd.to_timedelta(np.round(t * 1e5).clip(-1e9, 1e9), unit="s"),
    "periods": lambda t: _dates("ns")(t).to_period("h"),
    "months": lambda t: _dates("ns")(t * 30).to_period("M"),
    "centuries": lambda t: pd.DatetimeIndex(
        np.datetime64("0100-01-01", "s") + np.round(t * 1e8).astype(np.int64)
    ),
}
OTHER_TIMES: dict[str, Callable[[NDArray], Any]] = {
    "texts": lambda t: _dates("s")(t).strftime("%Y-%m-%d %H:%M:%S"),
    "truths": lambda t: t > 1,
}
TIMES = NUMERIC_TIMES | CALENDAR_TIMES | OTHER_TIMES

TARGETS: dict[str, Callable[[Rng, int], Any]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "tiny": lambda rng, n: rng.normal(size=n) * 1e-30,
    "vast": lambda rng, n: rng.normal(size=n) * 1e30,
    "all magnitudes": lambda rng, n: rng.choice([-1, 1], n) * 10 ** rng.uniform(-30, 30, n),
    "an outlier": lambda rng, n: np.where(np.arange(n) == n // 2, 1e30, rng.normal(size=n)),
    "far from 0": lambda rng, n: 1e30 + rng.normal(size=n) * 1e15,
    "zero": lambda rng, n: np.zeros(n),
    "constant": lambda rng, n: np.full(n, 1e30),
    "tiny constant": lambda rng, n: np.full(n, 1e-30),
    "gaps": lambda rng, n: np.where(rng.random(n) < 0.6, np.nan, rng.normal(size=n)),
    "one cell": lambda rng, n: np.where(np.arange(n) == n // 2, 2.0, np.nan),
    "never": lambda rng, n: np.full(n, np.nan),
    "infinite": lambda rng, n: np.where(rng.random(n) < 0.2, -np.inf, rng.normal(size=n)),
    "integers": lambda rng, n: rng.integers(-5, 5, n),
    "huge integers": lambda rng, n: rng.integers(-(2**62), 2**62, n),
    "counts": lambda rng, n: rng.poisson(3, n),
    "small unsigned": lambda rng, n: rng.integers(0, 255, n).astype(np.uint8),
    "truths": lambda rng, n: rng.random(n) < 0.5,
    "float32": lambda rng, n: (rng.normal(size=n) * 1e30).astype(np.float32),
    "float16": lambda rng, n: rng.normal(size=n).astype(np.float16),
    "nullable integers": lambda rng, n: pd.array(
        np.where(rng.random(n) < 0.3, None, rng.integers(0, 3, n)), dtype="Int64"
    ),
    "nullable truths": lambda rng, n: pd.array(
        np.where(rng.random(n) < 0.3, None, rng.random(n) < 0.5), dtype="boolean"
    ),
    "texts": lambda rng, n: rng.choice(["low", "high"], n).astype(object),
    "categories": lambda rng, n: pd.Categorical(
        rng.choice(["low", "high"], n), ["low", "high"], ordered=True
    ),
    "complex": lambda rng, n: rng.normal(size=n) + 1j,
}

OF_SERIES: dict[str, Callable[[Rng, NDArray], Any]] = {  # static columns
    "normal": lambda rng, codes: rng.normal(size=9)[codes],
    "vast": lambda rng, codes: rng.normal(size=9)[codes] * 1e30,
    "all magnitudes": lambda rng, codes: (10 ** rng.uniform(-30, 30, 9))[codes],
    "truths": lambda rng, codes: codes % 2 == 0,
    "constant": lambda rng, codes: np.full(len(codes), 1e-30),
    "some missing": lambda rng, codes: np.where(codes == 0, np.nan, codes),
    "varying": lambda rng, codes: rng.normal(size=len(codes)),
    "never": lambda rng, codes: np.full(len(codes), np.nan),
    "nullable": lambda rng, codes: pd.array(codes, dtype="Int64"),
}
CONTROLS = [
    "normal",
    "tiny",
    "vast",
    "an outlier",
    "zero",
    "gaps",
    "never",
    "truths",
    "nullable integers",
    "texts",
]
ERRORS: dict[str, Callable[[Rng, int], Any]] = {
    "ones": lambda rng, n: np.ones(n),
    "zeros": lambda rng, n: np.zeros(n),
    "all magnitudes": lambda rng, n: 10 ** rng.uniform(-30, 30, n),
    "negative": lambda rng, n: -np.ones(n),
}

FORMS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "long": lambda df: df,
    "keys in the index": lambda df: df.set_index(["id", "time"]),
    "an index with repeats": lambda df: df.set_axis([7] * len(df)),
    "nullable": nullable,
    "pyarrow dtypes": arrow_dtypes,
    "polars": polars_of,
}

# mostly the usual value, so that strange ones meet each other rarely
OPTIONS = {
    "scaler": ["standard", "robust", "minmax", "series"],
    "anchor": ["end", "start"],
    "encoder": ["gru", "odernn"],
    "field": ["mlp", "gated", "linear"],
    "context": ["random", "all", 0.5],
    "time_dependent": [False, True],
    "event_times": [None, "poisson", "poisson_per_target"],
    "validation_fraction": [0.3, 0.0],
    "calibrate": [False, True],
    "n_samples": [1, 2],
    "control_interpolation": ["linear", "step"],
}
LIKELIHOODS = [
    "gaussian",
    "gaussian_heteroscedastic",
    "student_t",
    "poisson",
    "negative_binomial",
    "bernoulli",
    "categorical",
]
TINY = {"latent_dim": 2, "hidden_dim": 4, "depth": 1, "max_epochs": 1, "batch_size": 3, "verbose": 0}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A table with the columns id, time, targets and perhaps others, and the parameters that tell their roles."""
    seed = draw(SEEDS)
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, draw(st.integers(1, 5)))
    lengths[0] = draw(_seldom([5, 1, 2, 12]))
    codes = np.repeat(np.arange(len(lengths)), lengths)
    n_rows, time_kind = len(codes), draw(_seldom(["floats", *TIMES], 1))
    t = _times(rng, lengths, ties=draw(st.booleans()), gap=draw(_seldom([1.0, 1e4, 1e9], 9)))
    id_kind = draw(_seldom(["integers", *IDS]))
    df = pd.DataFrame({"id": IDS[id_kind](codes), "time": TIMES[time_kind](t)})
    params: dict[str, Any] = {**TINY, "random_state": seed % 1000}
    targets = [f"x{d}" for d in range(draw(st.integers(1, 3)))]
    for name in targets:
        df[name] = TARGETS[draw(_seldom(["normal", *TARGETS], 1))](rng, n_rows)
    if draw(_seldom([False, True])):
        df["s"] = OF_SERIES[draw(st.sampled_from(sorted(OF_SERIES)))](rng, codes)
        params["static_cols"] = ["s"]
    if draw(_seldom([False, True])):
        df["u"] = TARGETS[draw(st.sampled_from(CONTROLS))](rng, n_rows)
        params["control_cols"] = ["u"]
    if draw(_seldom([False, True])):
        df["e"] = ERRORS[draw(st.sampled_from(sorted(ERRORS)))](rng, n_rows)
        params["error_cols"] = {"x0": "e"}
    if draw(_seldom([False, True])):
        df = pd.concat([df, df.iloc[rng.integers(0, n_rows, 3)]], ignore_index=True)
    if draw(st.booleans()):
        df = df.iloc[rng.permutation(len(df))]
    params |= draw(_options(targets, time_kind))
    form = draw(_seldom(["long", *FORMS]))
    times = draw(_asked(rng, df["time"], time_kind))
    if form != "long" and not _can_be(df, form):
        form = "long"
    return Case(FORMS[form](df), params, times, df["id"].nunique())


def _seldom(values: list[Any], usual: int = 3) -> st.SearchStrategy[Any]:
    """The first value in `usual` and one draws, on average, for every draw of the others together."""
    return st.integers(0, usual).flatmap(lambda at: st.just(values[0]) if at else st.sampled_from(values))


def _times(rng: Rng, lengths: NDArray, *, ties: bool, gap: float) -> NDArray:
    """Increasing times of order 1 in each series; some fall together, some come after a long gap."""
    parts = []
    for length in lengths:
        steps = rng.exponential(size=length)
        if ties:
            steps[rng.random(length) < 0.3] = 0.0
        steps[-1] *= gap
        parts.append(np.cumsum(steps))
    return np.concatenate(parts)


@st.composite
def _options(draw: st.DrawFn, targets: list[str], time_kind: str) -> dict[str, Any]:
    options = {name: draw(_seldom(values)) for name, values in OPTIONS.items()}
    likelihood = draw(_seldom(LIKELIHOODS))
    if draw(st.booleans()):
        options["likelihood"] = likelihood
    else:
        options["likelihood"] = {targets[0]: likelihood}
    if draw(_seldom([False, True])):
        calendar = time_kind in CALENDAR_TIMES
        options["window"] = draw(st.sampled_from(["2D", "1h"] if calendar else [2.0, 1e-30, 1e30]))
    if draw(_seldom([False, True], 9)):
        options |= {"solver": "rk4", "step_size": 0.5}
    return options


@st.composite
def _asked(draw: st.DrawFn, rng: Rng, column: pd.Series, kind: str) -> list[Any] | None:
    """None for the rows of the table, or times before, inside and beyond, in the kind of the column."""
    if draw(st.booleans()) or kind in OTHER_TIMES:
        return None
    known = column.dropna()
    if kind in NUMERIC_TIMES:
        low, high = float(known.min()), float(known[known < np.inf].max())
        span = max(high - low, 1.0)
        shares = draw(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.5, 50.0]), min_size=1, max_size=3))
        return [low + share * span for share in shares]
    return draw(st.sampled_from([[known.min()], [known.max(), known.min()], [known.iloc[0]] * 2]))


def _can_be(df: pd.DataFrame, form: str) -> bool:
    """Whether other libraries than pandas hold such columns at all."""
    try:
        FORMS[form](df)
    except Exception:  # of pandas, pyarrow or polars, before anything reaches this package
        return False
    return True
