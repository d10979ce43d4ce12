"""The bound on the log evidence that training maximises."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

ACTIVE_VARIANCE = 0.01  # of the posterior mean over series (Burda et al. 2016, section 5.2)


class Bound(NamedTuple):
    """A bound over N series; sums, not means.

    Parameters
    ----------
    loss : Tensor ()
        Minus the bound, to be minimised.
    log_lik, kl : Tensor ()
        Log likelihood and KL term, averaged over the posterior samples, without gradient, for the history.
        With an analytic KL or one sample `loss = kl_weight * kl - log_lik`; the IWAE loss is lower than that.
    """

    loss: Tensor
    log_lik: Tensor
    kl: Tensor


def elbo(log_lik: Tensor, kl: Tensor, kl_weight: float = 1.0) -> Bound:
    """Lower bound on the log evidence of N series from K posterior samples.

    With the analytic KL, `kl` (N,), this is the evidence lower bound, its expectation over q estimated by the
    mean over samples. With the log ratios log q(z_k) - log p(z_k), `kl` (K, N), it is the importance-weighted
    bound, tighter with every sample more, and for K = 1 the ELBO again.

    Parameters
    ----------
    log_lik : Tensor (K, N)
        log p(x | z_k), summed over observed cells.
    kl : Tensor (N,) or (K, N)
        KL(q || p), or one log ratio per sample.
    kl_weight : float, default 1
        Weight of the KL term; below 1 (warm-up) the result is no bound.

    Returns
    -------
    Bound

    Raises
    ------
    ValueError
        When the shapes do not fit.

    References
    ----------
    Kingma & Welling (2014), equation 3; Burda et al. (2016), "Importance weighted autoencoders", equation 8.
    """
    if log_lik.ndim != 2 or kl.shape not in (log_lik.shape, log_lik.shape[1:]):
        raise ValueError(
            "expected log_lik (K, N) and kl (N,) or (K, N), "
            f"got log_lik {tuple(log_lik.shape)} and kl {tuple(kl.shape)}"
        )
    weighted = log_lik - kl_weight * kl  # (K, N)
    bound = weighted.mean(0) if kl.ndim == 1 else _log_mean_exp(weighted)
    mean_kl = kl if kl.ndim == 1 else kl.mean(0)
    return Bound(-bound.sum(), log_lik.detach().mean(0).sum(), mean_kl.detach().sum())


def free_bits_kl(kl_per_dim: Tensor, free_bits: float) -> Tensor:
    """KL term in which every latent dimension counts for at least `free_bits`, on average over the series.

    A dimension below that costs the same whatever it says, so nothing pushes it back to the prior: good against a
    posterior that collapses early in training. Above 0 the bound it enters is still one, only looser.

    Parameters
    ----------
    kl_per_dim : Tensor (N, L)
        KL(q || p) of each series and dimension in closed form, as `Normal.kl_per_dim`. The log ratios of the
        importance-weighted bound have no such parts.
    free_bits : float
        Nats per dimension, at least 0; 0 gives the sum over L, unchanged.

    Returns
    -------
    Tensor (N,)
        Its sum over series is N Σ_l max(free_bits, mean_n kl_nl). A dimension below `free_bits` adds that number to
        every series, without gradient.

    Raises
    ------
    ValueError
        For a negative or non-finite `free_bits`.

    References
    ----------
    Kingma et al. (2016), "Improved variational inference with inverse autoregressive flow", appendix C.8.
    """
    if not 0 <= free_bits < math.inf:
        raise ValueError(f"free_bits must be a finite number of nats of at least 0; got {free_bits!r}")
    if free_bits == 0:  # a mean that rounding brought below 0 must not be replaced
        return kl_per_dim.sum(-1)
    free = kl_per_dim.detach().mean(0) < free_bits  # (L,)
    return torch.where(free, free_bits, kl_per_dim).sum(-1)


def active_dims(mean: Tensor) -> Tensor:
    """Number of latent dimensions that tell series apart, for the history: int64, ().

    Those whose posterior mean (N, L) varies over the series with a variance above 0.01. In a collapsed dimension
    it hardly moves from the prior's 0; a single series, which differs from nothing, has none.

    References
    ----------
    Burda et al. (2016), "Importance weighted autoencoders", section 5.2.
    """
    return (mean.detach().var(0, correction=0) > ACTIVE_VARIANCE).sum()


def _log_mean_exp(log_weights: Tensor) -> Tensor:
    """Log of the mean importance weight, (K, N) -> (N,).

    Only log ratios belong in here. The reference code puts the analytic KL: by Jensen's inequality that
    exceeds the ELBO without being importance weighting, and it can exceed the log evidence.
    """
    # In float32 the gradient, exp(log_weight - result), would be off by the rounding of a large result.
    top = log_weights.detach().amax(0)
    return top + (log_weights - top).logsumexp(0) - math.log(len(log_weights))
