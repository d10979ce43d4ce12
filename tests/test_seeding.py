"""Generators of our own, from what scikit-learn calls a random state."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from latentode.seeding import generator_state, numpy_generator, set_generator_state, torch_generator


def draws(rng: np.random.Generator) -> list[float]:
    return rng.random(4).tolist()


@pytest.mark.parametrize("seed", [0, 7, 2**40, np.int64(7), np.uint8(7)])
def test_an_int_gives_the_same_numbers_each_time(seed):
    assert (
        draws(numpy_generator(seed))
        == draws(numpy_generator(seed))
        == draws(np.random.default_rng(int(seed)))
    )


def test_other_ints_give_other_numbers():
    assert draws(numpy_generator(0)) != draws(numpy_generator(1))


def test_a_generator_is_used_as_it_is_and_moves_on():
    rng = np.random.default_rng(3)
    assert numpy_generator(rng) is rng
    assert draws(numpy_generator(rng)) != draws(numpy_generator(rng))


def test_a_legacy_state_is_drawn_from_once():
    state = np.random.RandomState(3)
    one, two = draws(numpy_generator(state)), draws(numpy_generator(state))
    assert one != two
    assert draws(numpy_generator(np.random.RandomState(3))) == one
    expected = np.random.RandomState(3)
    expected.randint(2**31 - 1, size=2)
    assert state.rand() == expected.rand()


def test_none_is_fresh_entropy():
    assert draws(numpy_generator(None)) != draws(numpy_generator(None))


@pytest.mark.parametrize("given", ["0", 1.0, [1], np.random, object])
def test_anything_else_is_refused(given):
    text = re.escape(f"random_state must be an int, a numpy Generator or RandomState, or None; got {given!r}")
    with pytest.raises(ValueError, match=text):
        numpy_generator(given)


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="random_state must be non-negative; got -1"):
        numpy_generator(-1)


def test_torch_generators_follow_the_numpy_generator():
    one, again = (torch_generator(np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(torch.rand(5, generator=one), torch.rand(5, generator=again))
    rng = np.random.default_rng(5)
    first, second = torch_generator(rng), torch_generator(rng)  # each takes a draw
    assert not torch.equal(torch.rand(5, generator=first), torch.rand(5, generator=second))
    assert first.device == torch.device("cpu")


def test_no_global_state_is_read_or_moved():
    numpy_state, torch_state = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    torch.rand(3, generator=torch_generator(numpy_generator(0)))
    numpy_generator(None).random()
    assert np.random.get_state()[1].tolist() == numpy_state  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_states_of_all_generators_survive_json(kind):
    rng = np.random.Generator(kind(3))
    rng.integers(5, dtype=np.int32)  # half of a 64-bit number stays behind
    kept = json.loads(json.dumps(generator_state(rng)))
    expected = rng.integers(2**31, size=5, dtype=np.int32).tolist()
    other = np.random.Generator(kind(4))
    set_generator_state(other, kept)
    assert other.integers(2**31, size=5, dtype=np.int32).tolist() == expected


def test_the_state_of_another_kind_of_generator_is_refused():
    with pytest.raises(ValueError, match="state must be for a PCG64"):
        set_generator_state(
            np.random.default_rng(0), generator_state(np.random.Generator(np.random.SFC64(0)))
        )
