from __future__ import annotations

import numpy as np
import pytest

from latentode.training.schedules import (
    KL_SCHEDULES,
    SCHEDULES,
    constant,
    cyclic,
    linear,
    one_cycle,
    schedule_for,
)


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


def test_cyclic_rises_over_the_first_half_of_every_quarter():
    eighths = [cyclic(step, 16) for step in range(17)]
    assert eighths == [0.0, 0.5, 1.0, 1.0] * 4 + [1.0]
    assert [cyclic(step, 8, cycles=2, rise=0.25) for step in (0, 0.5, 1, 3, 4, 4.5, 8, 9)] == [
        *(0.0, 0.5, 1.0, 1.0, 0.0, 0.5),
        *(1.0, 1.0),
    ]


def test_one_cycle_of_the_weight_is_the_linear_one():
    steps = np.linspace(0, 12, 49)
    assert [cyclic(s, 10, cycles=1, rise=0.3) for s in steps] == pytest.approx([linear(s, 3) for s in steps])


@pytest.mark.parametrize("name", KL_SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.3, 1.0])
def test_every_kl_schedule_is_a_weight_that_ends_at_one(name, warmup):
    weights = [KL_SCHEDULES[name](done, warmup) for done in np.linspace(0, 1, 101)]
    assert 0 <= min(weights) <= max(weights) == 1.0
    assert weights[-1] == 1.0


@pytest.mark.parametrize("warmup", [0.1, 0.4])
def test_warmup_is_the_part_of_the_training_in_which_the_weight_rises(warmup):
    done = np.linspace(0, 1, 1000, endpoint=False)
    for name in ("linear", "cyclic"):
        full = np.mean([KL_SCHEDULES[name](d, warmup) == 1.0 for d in done])
        assert full == pytest.approx(1 - warmup, abs=5e-3)  # one of 1,000 points in each of four cycles
    assert {KL_SCHEDULES["constant"](d, warmup) for d in done} == {1.0}
    assert [KL_SCHEDULES["cyclic"](d, warmup) for d in (0, 0.25, 0.5, 0.75)] == [0.0] * 4


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n": 0}, "n, the length of the training, must be positive; got 0"),
        ({"cycles": 0}, "cycles must be at least 1; got 0"),
        ({"rise": 1.5}, "rise must be a part of a cycle, from 0 to 1; got 1.5"),
        ({"rise": -0.1}, "rise must be a part of a cycle, from 0 to 1; got -0.1"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_cycles_that_make_no_sense_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        cyclic(1, **{"n": 10, **arguments})


def test_a_schedule_is_a_name_or_a_function():
    assert schedule_for("constant") is constant
    assert schedule_for(linear) is linear


def test_unknown_schedule_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of \['constant', 'one_cycle'\] or a function.*got 'cosine'"):
        schedule_for("cosine")


def test_negative_warmup_is_refused():
    with pytest.raises(ValueError, match="must be at least 0; got -1"):
        linear(1, -1)
