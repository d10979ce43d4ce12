"""Data sets as long tables: generated (`make_*`), shipped (`load_*`), downloaded and verified (`fetch_*`)."""

from __future__ import annotations

from latentode.datasets.damped_oscillators import make_damped_oscillators
from latentode.datasets.driven_pendulum import make_driven_pendulum
from latentode.datasets.event_times import make_event_times
from latentode.datasets.lotka_volterra import make_lotka_volterra
from latentode.datasets.pbc import fetch_pbc
from latentode.datasets.physionet2012 import PHYSIONET2012_CHANNELS, fetch_physionet2012
from latentode.datasets.shipped import load_co2
from latentode.datasets.synthetic import make_spirals

__all__ = [
    "PHYSIONET2012_CHANNELS",
    "fetch_pbc",
    "fetch_physionet2012",
    "load_co2",
    "make_damped_oscillators",
    "make_driven_pendulum",
    "make_event_times",
    "make_lotka_volterra",
    "make_spirals",
]
