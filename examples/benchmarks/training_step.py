"""Whole steps of training, ours: protocol G (diffrax's latent ODE of oscillators) and protocol A (spirals).

A step picks a batch, encodes, samples, solves, decodes, scores, differentiates, and updates by Adam, with the parts
that the estimators use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentode import LatentODERegressor
from latentode.datasets import make_spirals
from latentode.models.build import build_latent_ode
from latentode.models.latent_ode import LatentODE
from latentode.models.solve_options import SolveOptions
from latentode.nn.decoders import MLPDecoder
from latentode.nn.encoders import ENCODERS
from latentode.nn.fields import FIELDS
from latentode.nn.likelihoods import GaussianLikelihood
from latentode.series import (
    SeriesBatch,
    SeriesLoader,
    TableLayout,
    TimeScale,
    ValueScaler,
    anchored,
    cut_pieces,
    scale_table,
)
from latentode.series.split import Piece

LR = 1e-2
OSCILLATOR = np.array([[-0.1, 1.3], [-1.0, -0.1]])
SOLVES: dict[str, dict[str, Any]] = {  # of protocol G
    "tsit5, fixed steps of 0.4": {"solver": "tsit5", "step_size": 0.4},  # as in diffrax's example
    "dopri5, adaptive": {"solver": "dopri5", "rtol": 1e-3, "atol": 1e-4},
}


def oscillators(n_series: int = 10_000, n_times: int = 20, seed: int = 0) -> SeriesBatch:
    """Protocol G's data: dy/dt = A y from N(0, I), at irregular times of each series within 2 + U(0, 1)."""
    rng = np.random.default_rng(seed)
    ends = 2 + rng.uniform(size=(n_series, 1))
    times = np.sort(ends * rng.uniform(size=(n_series, n_times)), axis=1)
    eigenvalues, vectors = np.linalg.eig(OSCILLATOR)
    modes = np.linalg.solve(vectors, rng.normal(size=(n_series, 2)).T.astype(complex))  # (2, N)
    grown = np.exp(eigenvalues * times[..., None]) * modes.T[:, None]  # (N, T, 2)
    values = torch.as_tensor((grown @ vectors.T).real, dtype=torch.float32)
    everywhere = torch.ones_like(values, dtype=torch.bool)
    return SeriesBatch(torch.as_tensor(times), values, everywhere, torch.full((n_series,), n_times))


class TrainingTask(NamedTuple):
    """A model, an endless stream of batches for it, and the random numbers of its samples."""

    model: LatentODE
    pieces: Iterator[Piece]
    generator: torch.Generator
    optimiser: torch.optim.Optimizer


def oscillator_task(data: SeriesBatch, batch_size: int, engine: str, solve: str) -> TrainingTask:
    """Protocol G's model: latent = hidden = width = 16, two hidden layers in the field, a GRU as encoder."""
    model = latent_ode(
        SolveOptions(**SOLVES[solve], engine=engine), latent_dim=16, hidden_dim=16, backwards=True
    )
    return _task(model.run_on(engine), oscillator_pieces(data, batch_size))


def spirals_task(n_series: int, batch_size: int, engine: str) -> TrainingTask:
    """Protocol A at 30 points, the model and the pieces as `LatentODERegressor` has them by default."""
    default = LatentODERegressor().get_params()
    options = SolveOptions(default["solver"], default["rtol"], default["atol"], engine=engine)
    sizes = {name: default[name] for name in ("latent_dim", "hidden_dim", "depth", "activation")}
    model = latent_ode(options, backwards=default["anchor"] == "start", **sizes)
    return _task(
        model.run_on(engine), spirals_pieces(n_series, batch_size, default["context"], default["anchor"])
    )


def latent_ode(
    options: SolveOptions,
    *,
    latent_dim: int,
    hidden_dim: int,
    backwards: bool,
    depth: int = 2,
    activation: str = "tanh",
) -> LatentODE:
    """The standard parts, for two targets; the same first weights each time."""
    return build_latent_ode(
        encoder=ENCODERS["gru"],
        field=FIELDS["mlp"],
        likelihood=GaussianLikelihood(2),
        decoder=MLPDecoder,
        latent_dim=latent_dim,
        hidden_dim=hidden_dim,
        depth=depth,
        activation=activation,
        encoder_dim=hidden_dim,
        time_dependent=False,
        backwards=backwards,
        n_static=0,
        n_controls=0,
        event_rates=(),
        options=options,
        generator=torch.Generator().manual_seed(0),
    )


def oscillator_pieces(data: SeriesBatch, batch_size: int) -> Iterator[Piece]:
    """Random batches, each series read and reconstructed as a whole from its first time on."""
    for index in random_indices(len(data), batch_size):
        yield cut_pieces(data.select(torch.as_tensor(index)), "all")


def random_indices(n_series: int, batch_size: int) -> Iterator[np.ndarray]:
    """The same batches for every side."""
    rng = np.random.default_rng(0)
    while True:
        yield rng.choice(n_series, batch_size, replace=False)


def spirals_pieces(n_series: int, batch_size: int, context: str, anchor: str) -> Iterator[Piece]:
    """Random pieces of scaled spirals, epoch after epoch."""
    df = make_spirals(n_series, 30, random_state=0)
    table = TableLayout.infer(df).read(df, require_observed=True)
    scaled = scale_table(table, TimeScale.fit(table), ValueScaler.fit(table, "standard"))
    loader = SeriesLoader(scaled, batch_size, rng=np.random.default_rng(0))
    draws = torch.Generator().manual_seed(0)
    while True:
        for _, batch in loader:
            yield anchored(cut_pieces(batch, context, draws), anchor)


def _task(model: LatentODE, pieces: Iterator[Piece]) -> TrainingTask:
    optimiser = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    return TrainingTask(model, pieces, torch.Generator().manual_seed(0), optimiser)


def training_step(task: TrainingTask) -> Callable[[], Tensor]:
    """A step, from the batch to the new weights; its loss."""

    def step() -> Tensor:
        loss = task.model.loss(next(task.pieces), generator=task.generator).total
        task.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        task.optimiser.step()
        return loss.detach()

    return step
