"""Noise with heavy tails."""

from __future__ import annotations

import math

import torch
from scipy import special
from torch import Tensor, nn

from latentode.nn.likelihoods.gaussian import INITIAL_NOISE, NOISE_FLOOR
from latentode.nn.likelihoods.likelihood import Likelihood
from latentode.nn.likelihoods.numpy_draws import draw_with_numpy
from latentode.nn.likelihoods.stirling import stirling_error
from latentode.nn.normal import HALF_LOG_2PI
from latentode.nn.symmetric_mixture import Symmetric, symmetric_mixture_quantiles

DF_LOW = 2.1  # from 2 down the standard deviation is infinite
DF_HIGH = 1000.0  # hardly a Gaussian's difference; without a bound, weak gradients let it grow for ever
INITIAL_DF = 5.0  # heavy enough that first outliers do not move the fit
LOG_DF_RANGE = math.log(DF_HIGH / DF_LOW)


class StudentTLikelihood(Likelihood):
    """Student's t noise; its scale and its degrees of freedom are learned per target, the decoder gives the location.

    Good for continuous targets with outliers: one that is far away costs its logarithm, not its square. Without
    outliers it comes to `gaussian`, which is faster.

    Parameters
    ----------
    n_targets : int
        D, the columns of `values`.

    References
    ----------
    Lange, Little & Taylor (1989), "Robust statistical modeling using the t distribution", equation 1.
    """

    scaled = True

    def __init__(self, n_targets: int) -> None:
        super().__init__()
        self.n_targets = n_targets
        self.log_scale = nn.Parameter(torch.full((n_targets,), math.log(INITIAL_NOISE - NOISE_FLOOR)))
        share = math.log(INITIAL_DF / DF_LOW) / LOG_DF_RANGE
        self.raw_df = nn.Parameter(torch.full((n_targets,), math.log(share / (1 - share))))

    @property
    def scale(self) -> Tensor:
        """Scale of the noise of each target, (D,); its standard deviation is sqrt(df / (df - 2)) times that."""
        return self.log_scale.exp() + NOISE_FLOOR

    @property
    def df(self) -> Tensor:
        """Degrees of freedom of each target, (D,), between `DF_LOW` and `DF_HIGH`."""
        return DF_LOW * (LOG_DF_RANGE * self.raw_df.sigmoid()).exp()

    def mean(self, params: Tensor) -> Tensor:
        return params

    def std(self, params: Tensor) -> Tensor:
        return (self.scale * (self.df / (self.df - 2)).sqrt()).expand_as(params)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        df = self.df.detach().cpu().double().numpy()
        noise = draw_with_numpy(lambda rng: rng.standard_t(df, size=params.shape), generator)
        return params + self.scale.to(params.device) * noise.to(params)

    def cdf(self, params: Tensor, values: Tensor) -> Tensor:
        u = ((values - params) / self.scale).detach()
        return _upper_tail(-u, self.df).mean(0)

    def _log_density(self, params: Tensor, values: Tensor, errors: Tensor | None) -> Tensor:
        scale, df = self.scale, self.df
        squares = ((values - params) / scale).square()
        return _log_normaliser(df) - scale.log() - 0.5 * (df + 1) * (squares / df).log1p()

    def _quantiles(self, params: Tensor, levels: list[float]) -> Tensor:
        # In float64, for SciPy's sake; target by target, since each has a distribution of its own.
        units = (params / self.scale).double()
        found = [
            symmetric_mixture_quantiles(_standard(df), units[..., d].flatten(1), levels)
            for d, df in enumerate(self.df.tolist())
        ]
        shape = (len(levels), *params.shape[1:])
        return self.scale * torch.stack(found, dim=-1).reshape(shape).to(params.dtype)


def _log_normaliser(df: Tensor) -> Tensor:
    """log of Gamma((df + 1) / 2) / (Gamma(df / 2) sqrt(pi df)), without differences of large numbers."""
    half = 0.5 * df
    ratio = half * (0.5 / half).log1p() - 0.5  # what is left of the two Stirling formulas
    return stirling_error(half + 0.5) - stirling_error(half) + ratio - HALF_LOG_2PI


def _upper_tail(u: Tensor, df: Tensor | float) -> Tensor:
    """P(X > u) of the standard distribution."""
    freedom = df.detach().cpu().double().numpy() if isinstance(df, Tensor) else df
    return torch.as_tensor(special.stdtr(freedom, -u.cpu().double().numpy())).to(u)


def _standard(df: float) -> Symmetric:
    return Symmetric(
        upper_tail=lambda u: _upper_tail(u, df),
        relative_density=lambda u: (-0.5 * (df + 1) * (u.square() / df).log1p()).exp(),
        peak=float(_log_normaliser(torch.tensor(df, dtype=torch.float64)).exp()),
        quantile=lambda level: float(special.stdtrit(df, level)),
    )
