"""Data sets as long tables: generated (`make_*`), shipped (`load_*`), downloaded and verified (`fetch_*`)."""

from __future__ import annotations

from latentode.datasets.physionet2012 import PHYSIONET2012_CHANNELS, fetch_physionet2012
from latentode.datasets.shipped import load_co2
from latentode.datasets.synthetic import make_spirals

__all__ = ["PHYSIONET2012_CHANNELS", "fetch_physionet2012", "load_co2", "make_spirals"]
