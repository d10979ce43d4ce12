"""Student's t: its limits, its bounds, and what it is for."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from latentode.nn.likelihoods import GaussianLikelihood, StudentTLikelihood
from latentode.nn.likelihoods.student_t import DF_HIGH, DF_LOW, INITIAL_DF, _log_normaliser

OBSERVED = torch.ones(1, 41, 1, dtype=torch.bool)
VALUES = torch.linspace(-2, 2, 41, dtype=torch.float64).reshape(1, 41, 1)
PARAMS = torch.zeros(1, 1, 41, 1, dtype=torch.float64)


def student_t(df, scale=0.5, dtype=torch.float64):
    likelihood = StudentTLikelihood(1).double()
    share = math.log(df / DF_LOW) / math.log(DF_HIGH / DF_LOW)
    with torch.no_grad():
        likelihood.log_scale.fill_(math.log(scale - 1e-3))
        likelihood.raw_df.fill_(math.log(share / (1 - share)))
    return likelihood.to(dtype)


def test_it_starts_with_heavy_tails():
    torch.testing.assert_close(StudentTLikelihood(2).df, torch.full((2,), INITIAL_DF))
    torch.testing.assert_close(student_t(7.5).df, torch.tensor([7.5], dtype=torch.float64))


@pytest.mark.parametrize("df", [2.2, 5.0, 31.0, 33.0, 999.0])
def test_the_normaliser_loses_no_digits(df):
    with mpmath.workdps(40):
        nu = mpmath.mpf(df)
        exact = float(
            mpmath.loggamma((nu + 1) / 2) - mpmath.loggamma(nu / 2) - mpmath.log(mpmath.pi * nu) / 2
        )
    for dtype, tolerance in ((torch.float64, 1e-14), (torch.float32, 3e-6)):  # of lgamma, up to 17
        found = float(_log_normaliser(torch.tensor(df, dtype=dtype)))
        assert found == pytest.approx(exact, abs=tolerance)


def test_large_df_is_gaussian():
    likelihood, gaussian = student_t(999.999), GaussianLikelihood(1).double()
    with torch.no_grad():
        gaussian.log_noise.fill_(math.log(0.5 - 1e-3))
    found = likelihood.log_predictive(PARAMS, VALUES, OBSERVED)
    # Edgeworth: the next term is (u^4 - 2 u^2 - 1) / (4 df), of u up to 4
    u = VALUES / 0.5
    leading = (u**4 - 2 * u**2 - 1) / (4 * likelihood.df)
    difference = found - gaussian.log_predictive(PARAMS, VALUES, OBSERVED)
    torch.testing.assert_close(
        difference, leading, rtol=0, atol=2e-3
    )  # u^6 / (6 df^2), and half as much again
    q = torch.tensor([0.05, 0.5, 0.9])
    torch.testing.assert_close(
        likelihood.quantile(PARAMS, q), gaussian.quantile(PARAMS, q), rtol=2e-3, atol=1e-12
    )


@pytest.mark.parametrize("raw", [-1e3, 1e3])
def test_the_standard_deviation_exists_whatever_was_learned(raw):
    likelihood = StudentTLikelihood(1)
    with torch.no_grad():
        likelihood.raw_df.fill_(raw)
    assert DF_LOW * 0.999 < float(likelihood.df.detach()) < DF_HIGH * 1.001  # a rounding of exp of log
    assert torch.isfinite(likelihood.std(PARAMS.float())).all()


def test_an_outlier_costs_its_logarithm():
    likelihood = student_t(3.0)
    values = torch.tensor([1e3, 1e6], dtype=torch.float64).reshape(1, 2, 1)
    params = torch.zeros(1, 1, 2, 1, dtype=torch.float64)
    near, far = likelihood.log_predictive(params, values, OBSERVED[:, :2])[0, :, 0].tolist()
    assert near - far == pytest.approx(4 * math.log(1e3), rel=1e-5)  # density as u^-(df + 1)


@pytest.mark.parametrize("df", [2.2, 5.0, 100.0])
def test_quantiles_far_out_in_both_tails(df):
    likelihood, levels = student_t(df), [1e-100, 1e-12, 1 - 1e-12]
    found = likelihood.quantile(PARAMS[:, :, :1], torch.tensor(levels, dtype=torch.float64)).flatten()
    one = stats.t(float(likelihood.df.detach()), 0, float(likelihood.scale.detach()))
    # SciPy's inverse, which is ours for one component; the mirrored level is 1e-12 up to 1e-16
    np.testing.assert_allclose(found[:2], one.ppf(levels[:2]), rtol=1e-11)
    np.testing.assert_allclose(one.sf(found[2]), 1e-12, rtol=1e-3)
    np.testing.assert_allclose(one.cdf(found[:2]), levels[:2], rtol=1e-10)


def test_quantiles_in_float32_are_those_of_float64():
    params = torch.randn(20, 2, 3, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    levels = torch.tensor([0.001, 0.5, 0.999], dtype=torch.float64)
    single = student_t(4.0, dtype=torch.float32).quantile(params.float(), levels)
    assert single.dtype == torch.float32
    expected = student_t(4.0).quantile(params, levels)
    torch.testing.assert_close(single.double(), expected, rtol=5e-6, atol=5e-6)  # df learned in float32
