"""Long tables of irregular series, and the padded batches that models read."""

from latentode.series.batch import BatchSource, SeriesBatch, pad
from latentode.series.categories import Categories
from latentode.series.controls import ControlPaths
from latentode.series.covariates import CovariateScaler
from latentode.series.forms import TableForm, open_table
from latentode.series.layout import TableLayout
from latentode.series.loader import SeriesLoader
from latentode.series.scaling import SCALERS, Affine, TimeScale, ValueScaler, scale_table
from latentode.series.split import Piece, anchored, cut_pieces, draw_windows, split_series, split_time
from latentode.series.table import SeriesTable
from latentode.series.times import Clock

__all__ = [
    "SCALERS",
    "Affine",
    "BatchSource",
    "Categories",
    "Clock",
    "ControlPaths",
    "CovariateScaler",
    "Piece",
    "SeriesBatch",
    "SeriesLoader",
    "SeriesTable",
    "TableForm",
    "TableLayout",
    "TimeScale",
    "ValueScaler",
    "anchored",
    "cut_pieces",
    "draw_windows",
    "open_table",
    "pad",
    "scale_table",
    "split_series",
    "split_time",
]
