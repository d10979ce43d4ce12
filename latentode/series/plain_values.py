"""Names, labels and other small values of a caller as JSON, and back in their own types.

JSON has texts, finite numbers, booleans, null and lists; everything else becomes an object with one key that names its
type, such as `{"tuple": ["x", 1]}`. What comes back equals what went in, and hashes alike where it hashes.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LARGEST_TEXTS = 2**28  # bytes of an array of texts, which are all as long as the longest
_DTYPE = re.compile(r"\|?b1|[<>|=]?[iu][1248]|[<>=]?f[248]|[<>=]?[Mm]8\[(Y|M|W|D|h|m|s|ms|us|ns)\]|\|?O|U")


def as_plain(value: Any) -> Any:
    """The value as JSON can hold it.

    Raises
    ------
    ValueError
        For a value of a type that has no form there.
    """
    if isinstance(value, np.generic) and not isinstance(value, (np.datetime64, np.timedelta64)):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if type(value) in (str, int):
        return value
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, list):
        return [as_plain(part) for part in value]
    for name, (kind, to_plain, _) in _KINDS.items():
        if isinstance(value, kind) and value is not pd.NaT:
            return {name: to_plain(value)}
    raise ValueError(
        f"{value!r}, of type {type(value).__name__}, has no form in a file: use texts, numbers, booleans, dates or "
        "tuples of them"
    )


def from_plain(plain: Any) -> Any:
    """The value that `as_plain` was given.

    Raises
    ------
    ValueError
        For an object that `as_plain` does not make.
    """
    if isinstance(plain, list):
        return [from_plain(part) for part in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) != 1 or next(iter(plain)) not in _KINDS:
        raise ValueError(f"expected one key of {', '.join(_KINDS)}; got {str(plain)[:100]}")
    ((name, content),) = plain.items()
    return _KINDS[name][2](content)


def _mapping(plain: Any) -> dict[Any, Any]:
    found = {from_plain(key): from_plain(value) for key, value in plain}
    if len(found) < len(plain):
        raise ValueError("a key comes twice")
    return found


def _array(array: NDArray) -> dict[str, Any]:
    if array.ndim != 1:
        raise ValueError(f"an array must have one dimension; got {array.ndim}")
    if array.dtype.kind in "mM":
        return {"dtype": array.dtype.str, "values": array.view(np.int64).tolist()}
    dtype = "U" if array.dtype.kind == "U" else array.dtype.str
    return {"dtype": dtype, "values": [as_plain(value) for value in array.tolist()]}


def _array_from(plain: Any) -> NDArray:
    dtype, values = str(plain["dtype"]), [from_plain(value) for value in plain["values"]]
    if not _DTYPE.fullmatch(dtype):
        raise ValueError(f"unknown dtype {dtype[:40]!r}")
    if dtype == "U":
        if 4 * len(values) * max(map(len, values), default=0) > LARGEST_TEXTS:
            raise ValueError("an array of texts is too large")
        return np.array(values, dtype=np.str_)
    if dtype.endswith("O"):
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    if dtype.lstrip("<>=")[0] in "mM":
        return np.array(values, dtype=np.int64).view(dtype)
    return np.array(values, dtype=dtype)


def _timestamp(value: pd.Timestamp) -> list[Any]:
    zone = None if value.tzinfo is None else str(value.tzinfo)
    return [
        value.tz_localize(None).isoformat() if zone is None else value.tz_convert("UTC").isoformat(),
        value.unit,
        zone,
    ]


def _timestamp_from(plain: Any) -> pd.Timestamp:
    text, unit, zone = plain
    found = pd.Timestamp(str(text)).as_unit(unit)
    return found if zone is None else found.tz_convert(_zone(zone))


def _zone(name: str) -> str:
    """A name that pandas cannot take for the path of a file."""
    if not re.fullmatch(r"[A-Za-z0-9_+:-]+(/[A-Za-z0-9_+-]+)*", name) or name.startswith("dateutil"):
        raise ValueError(f"unknown time zone {name[:40]!r}")
    return name


def _since(value: np.datetime64 | np.timedelta64) -> list[Any]:
    unit, step = np.datetime_data(value.dtype)
    if step != 1 or unit == "generic":
        raise ValueError(f"{value!r} has the unit {step} {unit}: convert it to one such as 'ns'")
    return [int(value.astype(np.int64)), unit]


def _of_ticks(kind: Any, plain: Any) -> Any:
    ticks, unit = plain
    return kind(int(ticks), str(unit))


_MICROSECOND = datetime.timedelta(microseconds=1)
# Subclasses before their bases. Texts, numbers and lists have no entry.
_KINDS: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "float": ((), str, lambda plain: {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}[plain]),
    "tuple": (
        tuple,
        lambda value: [as_plain(part) for part in value],
        lambda plain: tuple(map(from_plain, plain)),
    ),
    "mapping": (
        Mapping,
        lambda value: [[as_plain(key), as_plain(entry)] for key, entry in value.items()],
        _mapping,
    ),
    "array": (np.ndarray, _array, _array_from),
    "index": (
        pd.Index,
        lambda value: [as_plain(part) for part in value],
        lambda plain: pd.Index(from_plain(plain)),
    ),
    "timestamp": (pd.Timestamp, _timestamp, _timestamp_from),
    "datetime": (datetime.datetime, lambda v: v.isoformat(), lambda p: datetime.datetime.fromisoformat(p)),
    "date": (
        datetime.date,
        lambda value: value.isoformat(),
        lambda plain: datetime.date.fromisoformat(plain),
    ),
    "datetime64": (np.datetime64, _since, lambda plain: _of_ticks(np.datetime64, plain)),
    "timedelta": (
        pd.Timedelta,
        lambda value: [int(value.asm8.astype(np.int64)), value.unit],
        lambda plain: pd.Timedelta(_of_ticks(np.timedelta64, plain)),
    ),
    "pytimedelta": (
        datetime.timedelta,
        lambda value: value // _MICROSECOND,
        lambda plain: int(plain) * _MICROSECOND,
    ),
    "timedelta64": (np.timedelta64, _since, lambda plain: _of_ticks(np.timedelta64, plain)),
    "interval": (
        pd.Interval,
        lambda value: [as_plain(value.left), as_plain(value.right), value.closed],
        lambda plain: pd.Interval(from_plain(plain[0]), from_plain(plain[1]), closed=plain[2]),
    ),
}
