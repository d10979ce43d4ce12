"""The Gaussian log likelihood by the native kernels, against torch's and against SciPy."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.func import jacrev, vmap

from latentode.native import gaussian
from latentode.native.library import library, why_absent
from latentode.nn.likelihoods import GaussianLikelihood, fused_gaussian
from latentode.nn.likelihoods.fused_gaussian import gaussian_log_lik

pytestmark = pytest.mark.skipif(library() is None, reason=f"no native kernels: {why_absent()}")

CLOSE = {  # sums of up to 160 cells in another order
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 2e-5, "atol": 2e-5},
}
SHAPES = [(1, 0, 3, 2), (2, 3, 0, 2), (1, 1, 1, 1), (3, 5, 7, 2), (1, 17, 20, 8)]


def cells(k=2, n=3, t=4, d=2, dtype=torch.float64):
    """Means, noise, values and mask; NaN, infinite and huge numbers where nothing was observed."""
    g = torch.Generator().manual_seed(0)
    params, values = (torch.randn(*shape, t, d, generator=g, dtype=dtype) for shape in ((k, n), (n,)))
    mask = torch.rand(n, t, d, generator=g) < 0.6
    junk = torch.tensor([math.nan, math.inf, 1e30], dtype=dtype)
    rubbish = junk[torch.randint(0, 3, (n, t, d), generator=g)]
    noise = torch.rand(d, generator=g, dtype=dtype) + 0.1
    return params.requires_grad_(), noise.requires_grad_(), torch.where(mask, values, rubbish), mask


def answers(given, engine):
    log_lik = gaussian_log_lik(*given, engine)
    weights = torch.linspace(-1, 2, log_lik.numel(), dtype=log_lik.dtype).reshape(log_lik.shape)
    return [log_lik.detach(), *torch.autograd.grad((weights * log_lik).sum(), given[:2])]


@pytest.fixture
def calls(monkeypatch):
    """How often the kernels were called."""
    counted = []
    run = gaussian._run
    monkeypatch.setattr(gaussian, "_run", lambda *given: (counted.append(1), run(*given))[1])
    return counted


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_torch(shape, dtype, calls):
    given = cells(*shape, dtype)
    ours, theirs = answers(given, "native"), answers(given, "torch")
    assert len(calls) == 2
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **CLOSE[dtype])


def test_is_the_sum_of_log_densities():
    params, noise, values, mask = (x.detach() for x in cells())
    density = stats.norm.logpdf(values.nan_to_num(0, 0, 0), params, noise)
    expected = torch.where(mask, torch.as_tensor(density), 0.0).sum((-2, -1))
    torch.testing.assert_close(gaussian_log_lik(params, noise, values, mask, "native"), expected)


def test_gradients_by_finite_differences():
    params, noise, values, mask = cells()
    values = torch.where(mask, values, 0.0)

    def log_lik(params, noise):
        return gaussian_log_lik(params, noise, values, mask, "native")

    assert torch.autograd.gradcheck(log_lik, (params, noise))
    assert torch.autograd.gradgradcheck(log_lik, (params, noise))


def test_one_gradient_alone_and_many_at_once():
    params, noise, values, mask = cells()
    total = gaussian_log_lik(params.detach(), noise, values, mask, "native").sum()
    expected = gaussian_log_lik(params.detach(), noise, values, mask, "torch").sum()
    torch.testing.assert_close(torch.autograd.grad(total, noise), torch.autograd.grad(expected, noise))
    directions = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    one, other = (
        torch.autograd.grad(
            gaussian_log_lik(params, noise, values, mask, engine),
            (params, noise),
            directions,
            is_grads_batched=True,
        )
        for engine in ("native", "torch")
    )
    torch.testing.assert_close(one, other)


def test_strides_of_any_kind(calls):
    params, noise, values, mask = cells()
    turned = params.detach().permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0).requires_grad_()
    spread = [torch.stack([x, x], -1)[..., 0] for x in (values, mask)]
    ours = answers((turned, noise, *spread), "auto")
    torch.testing.assert_close(ours, answers((params, noise, values, mask), "torch"))
    assert len(calls) == 2


def test_what_only_torch_knows_is_left_to_it(calls):
    params, noise, values, mask = cells()
    values = torch.where(mask, values, 0.0)
    gaussian_log_lik(params, noise, values.requires_grad_(), mask, "native").sum().backward()
    assert (values.grad[mask] != 0).all()
    values = values.detach()
    single = gaussian_log_lik(params.detach().float(), noise.detach(), values, mask, "native")
    assert single.dtype == torch.float64
    by_sample = vmap(lambda x: gaussian_log_lik(x[None], noise, values, mask, "native")[0])(params)
    torch.testing.assert_close(by_sample, gaussian_log_lik(params, noise, values, mask, "torch"))
    assert jacrev(lambda x: gaussian_log_lik(params, x, values, mask, "native"))(noise).shape == (2, 3, 2)
    assert not calls


def test_the_likelihood_asks_its_engine(calls, monkeypatch):
    likelihood = GaussianLikelihood(2).double()
    params, _, values, mask = cells()
    likelihood.log_prob(params, values, mask).sum().backward()
    assert len(calls) == 2
    likelihood.log_prob(params, torch.where(mask, values, 0.0), mask, torch.ones_like(values))
    likelihood.engine = "torch"
    likelihood.log_prob(params, values, mask)
    likelihood.engine = "auto"
    monkeypatch.setattr(fused_gaussian, "library", lambda: None)
    likelihood.log_prob(params, values, mask)
    assert len(calls) == 2
    likelihood.engine = "nativ"
    with pytest.raises(ValueError, match="unknown engine 'nativ'"):
        likelihood.log_prob(params, values, mask)


def test_memory_that_runs_out_is_told(monkeypatch):
    class Poor:
        def latentode_run_gaussian(self, problem):
            return 1

    monkeypatch.setattr(gaussian, "library", Poor)
    with pytest.raises(MemoryError, match="the native kernels found no memory for a likelihood"):
        gaussian_log_lik(*cells(), "native")
