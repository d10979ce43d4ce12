"""Both engines on problems of any shape."""

from __future__ import annotations

import math

import pytest
import torch
from both_engines import ADAPTIVE, EXPLICIT, Conditioned, assert_same, make_case, make_field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentode.native.library import library
from latentode.nn.mlp import ACTIVATIONS

pytestmark = pytest.mark.skipif(library() is None, reason="the native kernels are not built here")

SHAPES = {
    "n": st.integers(0, 40),
    "dim": st.integers(1, 9),
    "depth": st.integers(0, 4),
    "width": st.integers(1, 33),
    "n_inputs": st.integers(0, 3),
    "time_dependent": st.booleans(),
    "gated": st.booleans(),
    "activation": st.sampled_from(list(ACTIVATIONS)),
    "n_times": st.integers(0, 12),
    "missing": st.sampled_from([0.0, 0.4]),
    "single": st.booleans(),
    "fixed": st.booleans(),
    "max_steps": st.sampled_from([2, 10_000]),
    "seed": st.integers(0, 1000),
}
QUIET = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.too_slow]}


def check(data, n, dim, depth, width, n_inputs, time_dependent, gated, activation, n_times, missing, single, fixed, max_steps, seed):  # fmt: skip # noqa: E501
    single = single and activation != "relu"  # whose kinks rounding reaches
    dtype = torch.float32 if single else torch.float64
    options = {"depth": depth, "activation": activation, "time_dependent": time_dependent}
    if n_inputs:
        generator = torch.Generator().manual_seed(seed)
        field = Conditioned(dim, n_inputs, width, **options, generator=generator).to(dtype)
    else:
        field = make_field("gated" if gated else "mlp", dim, width, dtype=dtype, seed=seed, **options)
    case = make_case(field, n, n_times, dim=dim + n_inputs, seed=seed)
    case.t_eval[torch.rand(case.t_eval.shape, generator=torch.Generator().manual_seed(seed)) < missing] = (
        math.nan
    )
    if fixed or single:  # rounding chooses the steps of small errors
        steps = {"solver": data.draw(st.sampled_from(list(EXPLICIT))), "step_size": 0.23}
    else:
        steps = {"solver": data.draw(st.sampled_from(ADAPTIVE)), "rtol": 1e-4, "atol": 1e-5}
    assert_same(case, 2e-5 if single else 1e-10, 2e-4 if single else 1e-8, max_steps=max_steps, **steps)


@settings(max_examples=40, **QUIET)
@given(st.data(), st.fixed_dictionaries(SHAPES))
def test_any_shape(data, shape):
    check(data, **shape)


@pytest.mark.slow
@settings(max_examples=600, **QUIET)
@given(st.data(), st.fixed_dictionaries(SHAPES))
def test_many_shapes(data, shape):
    check(data, **shape)
