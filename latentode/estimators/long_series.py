"""Series that last so long, beside the others of their table, that no solve crosses them."""

from __future__ import annotations

import numpy as np

from latentode.exceptions import warn_user
from latentode.models.latent_ode import FARTHEST
from latentode.series import SeriesTable, TimeScale
from latentode.series.columns import some
from latentode.series.times import Clock


def warn_of_long_series(table: SeriesTable, scale: TimeScale, clock: Clock) -> None:
    """Name the series, in model time, whose states are followed over a part of them only."""
    long = np.flatnonzero(table.spans > FARTHEST)
    if not len(long):
        return
    typical = float(np.median(table.spans[table.spans > 0]))
    unit = "seconds" if clock.in_seconds else "in the unit of the time column"
    warn_user(
        f"series {some(table.ids.take(long))}: as long as {table.spans.max() / typical:.3g} typical series; farther "
        f"than {FARTHEST * scale.unit:.3g} ({unit}) from the row that a state belongs to, the state stays as it is. "
        "Cut such series at their long gaps, leave them out, or train on windows with window="
    )
