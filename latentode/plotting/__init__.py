"""Pictures of forecasts and trainings: long tables and arrays in, matplotlib Axes out.

Nothing here is shown or saved, and no global setting of matplotlib is changed. ``plot_*`` draw on the Axes
given or on a new pyplot figure; ``*_picture`` compose a whole Figure of 1600 x 900 pixels, unknown to pyplot.
"""

from __future__ import annotations

from latentode.plotting.calibration import plot_calibration
from latentode.plotting.demo_pictures import channels_picture, long_series_picture, spirals_picture
from latentode.plotting.density import plot_density_path
from latentode.plotting.forecast_panels import plot_forecast_panels
from latentode.plotting.history import plot_history
from latentode.plotting.plane import plot_plane

__all__ = [
    "channels_picture",
    "long_series_picture",
    "plot_calibration",
    "plot_density_path",
    "plot_forecast_panels",
    "plot_history",
    "plot_plane",
    "spirals_picture",
]
