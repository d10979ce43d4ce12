"""Data sets: generated (`make_*`), shipped (`load_*`), downloaded and verified (`fetch_*`).

Series come as long tables; images and points in the plane, which have no time, as arrays in scikit-learn's form.
"""

from __future__ import annotations

from latentode.datasets.damped_oscillators import make_damped_oscillators
from latentode.datasets.driven_pendulum import make_driven_pendulum
from latentode.datasets.event_times import make_event_times
from latentode.datasets.lotka_volterra import make_lotka_volterra
from latentode.datasets.mnist import fetch_mnist
from latentode.datasets.pbc import fetch_pbc
from latentode.datasets.physionet2012 import PHYSIONET2012_CHANNELS, fetch_physionet2012
from latentode.datasets.plane import (
    eight_gaussians_log_density,
    make_eight_gaussians,
    make_pinwheel,
    make_two_spirals,
)
from latentode.datasets.shipped import load_co2
from latentode.datasets.synthetic import make_spirals

__all__ = [
    "PHYSIONET2012_CHANNELS",
    "eight_gaussians_log_density",
    "fetch_mnist",
    "fetch_pbc",
    "fetch_physionet2012",
    "load_co2",
    "make_damped_oscillators",
    "make_driven_pendulum",
    "make_eight_gaussians",
    "make_event_times",
    "make_lotka_volterra",
    "make_pinwheel",
    "make_spirals",
    "make_two_spirals",
]
