"""Arrays in place of tables, in scikit-learn's own form: what they mean, and their answers as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode.series.forms import is_table

ROLES = ("target_cols", "static_cols", "control_cols", "error_cols")


@dataclass(frozen=True, eq=False)
class OneSeries:
    """Arrays (X, y) of one series: column 0 of X is the time, further columns are controls, y holds the targets.

    As `GaussianProcessRegressor` over time takes them; the model keeps the series as the context of its predictions.

    Parameters
    ----------
    features : array (R, 1 + C)
        X of `fit`. Of rows at one time, the controls count with their mean.
    targets : array (R, D)
    flat : bool
        Whether y had one dimension; answers then have one, too.
    """

    features: NDArray[np.float64]
    targets: NDArray[np.float64]
    flat: bool

    @classmethod
    def of(cls, X: NDArray[np.float64], y: NDArray) -> OneSeries:
        """The series of X (R, 1 + C) and y (R,) or (R, D)."""
        return cls(X, np.asarray(y, dtype=np.float64).reshape(len(X), -1), y.ndim == 1)

    @property
    def n_features(self) -> int:
        return self.features.shape[1]

    @property
    def control_cols(self) -> list[str]:
        return [f"x{i}" for i in range(1, self.n_features)]

    @property
    def target_cols(self) -> list[str]:
        return [f"y{d}" for d in range(self.targets.shape[1])]

    @property
    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Targets and controls of the long table."""
        return tuple(self.target_cols), tuple(self.control_cols)

    def table(self) -> pd.DataFrame:
        """The series as a long table."""
        targets = pd.DataFrame(self.targets, columns=self.target_cols)
        return pd.concat([self.queries(self.features), targets], axis=1)

    def queries(self, features: NDArray[np.float64]) -> pd.DataFrame:
        """Times and controls (R, 1 + C) as a table of queries."""
        frame = pd.DataFrame(features, columns=["time", *self.control_cols])
        frame.insert(0, "id", 0)
        if self.control_cols:
            frame[self.control_cols] = frame.groupby("time")[self.control_cols].transform("mean")
        return frame

    def write(self, answer: pd.DataFrame, *, at_rows: bool) -> NDArray[np.float64]:
        """A long answer as an array, (R, D) or (R,), in the order of its rows; without the keys."""
        values = answer.drop(columns=["id", "time"]).to_numpy(dtype=np.float64)
        return values[:, 0] if self.flat and values.shape[1] == 1 else values

    def write_stacked(
        self, name: str, labels: Iterable[Any], parts: Iterable[pd.DataFrame]
    ) -> NDArray[np.float64]:
        """Several answers as one array, (len(labels), R, D) or (len(labels), R)."""
        return np.stack([self.write(part, at_rows=False) for part in parts])

    def state(self) -> dict[str, Any]:
        """Everything as plain values that JSON can hold."""
        return {
            "form": "one_series",
            "features": self.features.tolist(),
            "targets": self.targets.tolist(),
            "flat": self.flat,
        }


@dataclass(frozen=True, eq=False)
class SeriesPerRow:
    """An array X of one series per row, observed at the times 0, 1, ..., p − 1; NaN where it was not.

    Parameters
    ----------
    n_features : int
        p.
    """

    n_features: int

    @property
    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Targets and controls of the long table."""
        return ("x",), ()

    def table(self, features: NDArray[np.float64]) -> pd.DataFrame:
        """Series (N, p) as a long table."""
        n, p = features.shape
        return pd.DataFrame(
            {
                "id": np.repeat(np.arange(n), p),
                "time": np.tile(np.arange(p, dtype=np.float64), n),
                "x": features.ravel(),
            }
        )

    def write_series(self, answer: pd.DataFrame, ids: pd.Index) -> NDArray[Any]:
        """One row per series as an array."""
        return answer.to_numpy()

    def write_series_labels(self, labels: NDArray[Any], ids: pd.Index) -> NDArray[Any]:
        """One label per series as an array."""
        return labels

    def state(self) -> dict[str, Any]:
        """Everything as plain values that JSON can hold."""
        return {"form": "series_per_row", "n_features": self.n_features}


def arrays_from_state(state: Mapping[str, Any]) -> OneSeries | SeriesPerRow:
    """The arrays that `state()` came from."""
    if state["form"] == "series_per_row":
        return SeriesPerRow(state["n_features"])
    features, targets = (np.array(state[name], dtype=np.float64) for name in ("features", "targets"))
    if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets) or not features.size:
        raise ValueError("a series of arrays needs features (R, 1 + C) and targets (R, D)")
    return OneSeries(features, targets, bool(state["flat"]))


def is_array(data: Any) -> bool:
    """Whether these are numbers without names of columns (a pandas table may be such a one, too), and no long table."""
    if isinstance(data, pd.DataFrame):
        return all(isinstance(axis, pd.RangeIndex) for axis in data.axes)
    if isinstance(data, (list, tuple)):
        return not any(isinstance(one, pd.Series) or is_table(one) for one in data[:1])
    if hasattr(data, "toarray"):  # sparse ones are refused as such
        return True
    return hasattr(data, "__array__") and not isinstance(data, (pd.Series, pd.Index)) and not is_table(data)


def refuse_roles(parameters: Mapping[str, Any]) -> None:
    """Arrays have no columns to give roles to.

    Raises
    ------
    ValueError
    """
    given = [name for name in ROLES if parameters[name] is not None and len(parameters[name])]
    if isinstance(parameters["likelihood"], Mapping):
        given.append("likelihood")
    if given:
        raise ValueError(
            f"{', '.join(given)} names columns, which arrays do not have: leave it out, or fit a table with columns "
            f"{parameters['id_col']!r} and {parameters['time_col']!r}"
        )
