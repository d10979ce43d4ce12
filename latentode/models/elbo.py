"""The bound on the log evidence that training maximises."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


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


def _log_mean_exp(log_weights: Tensor) -> Tensor:
    """Log of the mean importance weight, (K, N) -> (N,).

    Only log ratios belong in here. The reference code puts the analytic KL: by Jensen's inequality that
    exceeds the ELBO without being importance weighting, and it can exceed the log evidence.
    """
    # In float32 the gradient, exp(log_weight - result), would be off by the rounding of a large result.
    top = log_weights.detach().amax(0)
    return top + (log_weights - top).logsumexp(0) - math.log(len(log_weights))
