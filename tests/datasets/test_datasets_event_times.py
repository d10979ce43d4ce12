"""Events against the statistics of a Poisson process."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from latentode.datasets import make_event_times

EXACT = 1e-9  # quadrature against a closed form
SIGNIFICANCE = 1e-4  # of a test on simulated events with a fixed seed


@pytest.fixture(scope="module")
def made():
    return make_event_times(400, period=(3.0, 6.0), random_state=0, return_truth=True)


def test_cumulative_is_the_integral_of_the_intensity(made):
    for n in (0, 7):

        def intensity(t, n=n):
            period, phase = made.series.loc[n, ["period", "phase"]]
            return 3.0 * (1 + 0.9 * np.sin(2 * np.pi * t / period + phase))

        for end in (0.0, 2.2, 10.0, 14.0):
            truth = made.truth_at([end]).loc[n]
            assert truth["intensity"] == pytest.approx(intensity(end), abs=EXACT)
            assert truth["cumulative"] == pytest.approx(integrate.quad(intensity, 0, end)[0], abs=EXACT)


def test_counts_are_poisson_with_the_integral_as_mean(made):
    for begin, end in ((0.0, 10.0), (2.0, 3.0)):
        within = made.data[made.data["time"].between(begin, end)]
        counts = within.groupby("id").size().reindex(made.series["id"], fill_value=0).to_numpy()
        mean = np.diff(made.truth_at([begin, end])["cumulative"].to_numpy().reshape(-1, 2))[:, 0]
        z = (counts - mean) / np.sqrt(mean)
        assert abs(z.mean()) < 5 / np.sqrt(len(z))
        assert abs((z**2).mean() - 1) < 5 * np.sqrt(
            (2 + (1 / mean).mean()) / len(z)
        )  # kurtosis of a Poisson count


def test_rescaled_by_the_integral_events_are_a_unit_process(made):
    truth = made.truth_at(made.data)
    before = truth.groupby("id")["cumulative"].shift(fill_value=0.0)
    total = made.truth_at([made.span])["cumulative"].to_numpy()[truth["id"]]
    # given that it comes before the end, the next event of a unit process is a truncated exponential
    left = -np.expm1(before - total)
    uniform = -np.expm1(before - truth["cumulative"]) / left
    assert stats.kstest(uniform, "uniform").pvalue > SIGNIFICANCE
    assert stats.kstest(truth["time"] / made.span, "uniform").pvalue > SIGNIFICANCE  # phases are uniform
    one_phase = make_event_times(100, phase=(0.0, 0.0), random_state=0)
    assert stats.kstest(one_phase["time"] / 10.0, "uniform").pvalue < SIGNIFICANCE


def test_without_amplitude_the_process_is_homogeneous():
    data = make_event_times(1000, base=2.0, span=3.0, amplitude=0.0, phase=(0.0, 0.0), random_state=1)
    counts = data.groupby("id").size().reindex(range(1000), fill_value=0)
    assert abs(counts.mean() - 6.0) < 5 * np.sqrt(6.0 / 1000)
    assert stats.kstest(data["time"] / 3.0, "uniform").pvalue > SIGNIFICANCE


def test_marks_follow_the_wave_that_drives_the_intensity(made):
    truth = made.truth_at(made.data)
    np.testing.assert_allclose(truth["intensity"], 3.0 * (1 + 0.9 * truth["mark"]), rtol=1e-12)
    assert np.corrcoef(truth["mark"], made.data["mark"])[0, 1] > 0.95  # noise 0.1 beside a wave of 0.6


def test_periods_and_phases_fill_their_range_or_are_shared(made):
    assert set(((made.series["period"] - 3.0) / 0.3).astype(int)) == set(range(10))
    assert set((made.series["phase"] / (0.2 * np.pi)).astype(int)) == set(range(10))
    shared = make_event_times(5, period=(2.0, 2.0), phase=(1.0, 1.0), return_truth=True).series
    assert (shared["period"] == 2.0).all()
    assert (shared["phase"] == 1.0).all()
