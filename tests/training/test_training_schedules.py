from __future__ import annotations

import numpy as np
import pytest

from latentode.training.schedules import SCHEDULES, constant, linear, one_cycle, schedule_for


def test_one_cycle_starts_low_peaks_at_the_end_of_the_warmup_and_ends_lower():
    assert one_cycle(0.0) == pytest.approx(1 / 25)
    assert one_cycle(0.2) == pytest.approx(1.0)
    assert one_cycle(1.0) == pytest.approx(1 / 1000)
    assert one_cycle(0.1) == pytest.approx((1 + 1 / 25) / 2)  # half of the rise: the middle of the cosine
    assert one_cycle(0.6) == pytest.approx((1 + 1 / 1000) / 2)


def test_one_cycle_rises_then_falls():
    fractions = np.linspace(0, 1, 201)
    factors = np.array([one_cycle(fraction, warmup=0.3, start=0.1, end=0.01) for fraction in fractions])
    rising = fractions[1:] <= 0.3
    assert (np.diff(factors)[rising] > 0).all()
    assert (np.diff(factors)[~rising] < 0).all()
    assert factors[0] == pytest.approx(0.1)
    assert factors[-1] == pytest.approx(0.01)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_a_factor_of_the_learning_rate(name):
    factors = [schedule_for(name)(fraction) for fraction in np.linspace(0, 1, 101)]
    assert min(factors) > 0
    assert max(factors) == pytest.approx(1.0)


def test_linear_reaches_one_after_n_and_stays():
    assert [linear(step, 4) for step in (0, 1, 2, 4, 9)] == [0.0, 0.25, 0.5, 1.0, 1.0]
    assert linear(1, 4, start=0.2) == pytest.approx(0.4)
    assert linear(0, 0) == 1.0


def test_a_schedule_is_a_name_or_a_function():
    assert schedule_for("constant") is constant
    assert schedule_for(linear) is linear


def test_unknown_schedule_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of \['constant', 'one_cycle'\] or a function.*got 'cosine'"):
        schedule_for("cosine")


def test_negative_warmup_is_refused():
    with pytest.raises(ValueError, match="must be at least 0; got -1"):
        linear(1, -1)
