"""Events as an inhomogeneous Poisson process whose rate depends on the latent state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentode.nn.mlp import MLP

LOG_RANGE = (
    10.0  # rates stay within e^±10 of their level: exp(.) and its integral are far from overflow in float32
)


class Intensity(nn.Module):
    """Log rates of E kinds of events, such as one per target that may be measured, at a latent state.

    Good where the times of the observations tell something: a clinician who worries measures more often. Not where
    they were planned beforehand. A multilayer perceptron x(z) moves each rate away from its level:
    log λ = log level + x / sqrt(1 + (x / 10)²). The last term stays within ±10 and, other than a clamp or a tanh,
    keeps a gradient that is alive far outside.

    Parameters
    ----------
    latent_dim : int
        L, the size of the state.
    hidden_dim : int
        Width of the hidden layers.
    n_processes : int
        E.
    depth : int, default 1
        Number of hidden layers; 0 lets the state move the log rates linearly.
    generator : torch.Generator, optional
        Source of the first weights; None takes fresh entropy.
    level : float or Tensor (E,), default 1
        Rates of the untrained module at every state, in events per unit of model time; positive. The mean rates of
        the training series are a good start.

    Raises
    ------
    ValueError
        For a level that is not positive and finite, or not one number per process.

    References
    ----------
    Chen et al. (2018), "Neural ordinary differential equations", section 5, "Poisson process likelihoods";
    Rubanova et al. (2019), "Latent ODEs for irregularly-sampled time series", "Poisson process likelihoods".
    """

    log_level: Tensor

    def __init__(
        self,
        latent_dim: int,
        hidden_dim: int,
        n_processes: int,
        *,
        depth: int = 1,
        generator: torch.Generator | None = None,
        level: float | Tensor = 1.0,
    ) -> None:
        super().__init__()
        self.n_processes = n_processes
        self.mlp = MLP(latent_dim, hidden_dim, n_processes, depth=depth, generator=generator)
        last = self.mlp.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)  # x(z) = 0: every rate begins at its level, whatever the first states are
        nn.init.zeros_(last.bias)
        self.register_buffer("log_level", _levels(level, n_processes).log())

    def forward(self, z: Tensor) -> Tensor:
        """Log rates (..., E), in events per unit of model time, at states z (..., L)."""
        x = self.mlp(z)
        # hypot: the square of a large x would overflow
        return self.log_level + x / torch.hypot(x / LOG_RANGE, x.new_ones(()))


def _levels(level: float | Tensor, n_processes: int) -> Tensor:
    levels = torch.as_tensor(level, dtype=torch.get_default_dtype(), device="cpu")
    if levels.shape not in ((), (n_processes,)):
        raise ValueError(
            f"level must be one number or one per process, ({n_processes},); got shape {tuple(levels.shape)}"
        )
    if not bool((torch.isfinite(levels) & (levels > 0)).all()):
        raise ValueError(f"level must be positive and finite; got {levels.tolist()}")
    return levels.expand(n_processes).clone()


def poisson_log_lik(log_rate: Tensor, events: Tensor, cumulative: Tensor) -> Tensor:
    """Log likelihood of the events of each series under each sample, summed over E processes.

    log p = Σ_events log λ(t) − ∫ λ(t) dt over the window in which events could have been seen. A density over times
    in units of model time, so its value, not its differences, changes with that unit.

    Parameters
    ----------
    log_rate : Tensor (K, N, T, E)
        Log rates at the times of the rows, as `Intensity` gives them.
    events : Tensor (N, T, E), bool
        True where an event of that kind happened at the time of the row. What stands in the other cells of
        `log_rate`, even NaN, reaches neither result nor gradient.
    cumulative : Tensor (K, N, E)
        ∫ λ dt over the window of each series: Λ(end) − Λ(begin), where dΛ/dt = exp(log λ(z(t))) is solved beside
        the state.

    Returns
    -------
    Tensor (K, N)

    Raises
    ------
    ValueError
        When the shapes do not fit or `events` is not boolean.

    References
    ----------
    Chen et al. (2018), section 5; Daley & Vere-Jones (2003), "An introduction to the theory of point processes",
    proposition 7.2.III.
    """
    _check_shapes(log_rate, events, cumulative)
    return torch.where(events, log_rate, 0.0).sum((-2, -1)) - cumulative.sum(-1)


def _check_shapes(log_rate: Tensor, events: Tensor, cumulative: Tensor) -> None:
    fits = (
        log_rate.ndim == 4
        and events.shape == log_rate.shape[1:]
        and cumulative.shape == (*log_rate.shape[:2], log_rate.shape[3])
    )
    if not fits or events.dtype != torch.bool:
        raise ValueError(
            "expected log_rate (K, N, T, E), bool events (N, T, E) and cumulative (K, N, E), got log_rate "
            f"{tuple(log_rate.shape)}, {events.dtype} events {tuple(events.shape)} and cumulative "
            f"{tuple(cumulative.shape)}"
        )
