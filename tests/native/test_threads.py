"""The same numbers on any number of threads, and from several callers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from both_engines import Answer, difference, make_case, make_field, solve

from latentode.native.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="the native kernels are not built here")


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def on_threads(n_threads: int, dtype: torch.dtype) -> Answer:
    torch.set_num_threads(n_threads)
    return solve(make_case(make_field("gated", time_dependent=True, dtype=dtype), n=101), "native")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_same_bits_each_time_and_on_any_number_of_threads(dtype):
    one = on_threads(1, dtype)
    for n_threads in (1, 2, 3):
        first, second = (on_threads(n_threads, dtype) for _ in range(2))
        assert torch.equal(first.solution.y, one.solution.y)
        for name, gradient in first.gradients.items():
            assert torch.equal(gradient, second.gradients[name])
            assert difference(gradient, one.gradients[name]) < (1e-12 if dtype == torch.float64 else 1e-5)
            if name in ("y0", "t0", "t_eval"):  # of one series each
                assert torch.equal(gradient, one.gradients[name])


def test_several_callers_at_once():
    torch.set_num_threads(2)
    cases = [make_case(make_field("mlp", 2 + i, 5 + 4 * i), n=20 + 7 * i, seed=i) for i in range(6)]
    alone = [solve(case, "native") for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: solve(case, "native"), cases * 4))
    for i, answer in enumerate(together):
        expected = alone[i % len(cases)]
        assert torch.equal(answer.solution.y, expected.solution.y)
        for name, gradient in answer.gradients.items():
            assert torch.equal(gradient, expected.gradients[name])
