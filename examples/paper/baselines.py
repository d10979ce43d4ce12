"""What a latent ODE is compared with: three recurrent networks for irregular series, as estimators on the same tables.

- "RNN-Δt" (the baseline of Chen et al. 2018, section 5.1): a GRU that is fed a row and the time to the next one, and
  predicts that; where nothing was observed it is fed its own prediction.
- "GRU-D" (Che et al. 2018, "trainable decays"): between observations inputs decay to the mean and the state to zero.
- "RNN-VAE" (as in Rubanova et al. 2019, section 4): a GRU reads the series backwards into q(z0), another one, started
  at z0 and driven by Δt alone, goes to the wanted times.

All are trained on the same task: of each series a random part is shown, and all of it is to be predicted. Rows without
observations are strewn in: a recurrent network that never saw rows as close as those of a dense question fails on them
(RNN-Δt on the spirals of protocol A without them: extrapolation RMSE 2.4 at all times, 0.4 at every fourth). The epoch
with the smallest error on hidden cells of validation series is kept.

    model = Baseline("GRU-D", random_state=0).fit(table)
    forecast = model.predict(context, times)
"""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.series import (
    SeriesBatch,
    SeriesLoader,
    SeriesTable,
    TableLayout,
    TimeScale,
    ValueScaler,
    pad,
    scale_table,
)

SHOWN = 0.7  # of the rows before a random cut: enough gaps to learn to fill some
EMPTY_ROWS = 3  # at most, per row of a series: a question may be that dense
KL_WARMUP = 0.1  # of the epochs


class RNNDelta(nn.Module):
    """A GRU from row to row that is told the time to the next one and predicts it."""

    def __init__(self, n_targets: int, hidden_dim: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2 * n_targets + 1, hidden_dim)
        self.read_out = nn.Linear(hidden_dim, n_targets)
        self.first = nn.Parameter(torch.zeros(hidden_dim))

    def forward(self, batch: SeriesBatch, seen: Tensor) -> Tensor:
        """Means (N, T, D) at all rows, each from the rows before it; only cells where `seen` are read."""
        gap = torch.diff(batch.times, append=batch.times[:, -1:]).to(batch.values.dtype)
        state = self.first.expand(len(batch), -1)
        means = []
        for j in range(batch.times.shape[1]):
            means.append(self.read_out(state))
            # its own mean where nothing was observed
            value = torch.where(seen[:, j], batch.values[:, j], means[-1])
            state = self.cell(torch.cat([value, seen[:, j], gap[:, [j]]], dim=-1), state)
        return torch.stack(means, dim=1)

    def loss(self, batch: SeriesBatch, seen: Tensor, kl_weight: float) -> Tensor:
        return mean_square(self(batch, seen), batch, batch.mask)


class GRUD(nn.Module):
    """A GRU whose state, and whose inputs where nothing was observed, decay with time."""

    def __init__(self, n_targets: int, hidden_dim: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2 * n_targets, hidden_dim)
        self.read_out = nn.Linear(hidden_dim, n_targets)
        self.input_rate = nn.Parameter(
            torch.full((n_targets,), 0.1)
        )  # at 0 the rectifier below passes no gradient
        self.input_shift = nn.Parameter(torch.zeros(n_targets))
        self.state_decay = nn.Linear(n_targets, hidden_dim)

    def forward(self, batch: SeriesBatch, seen: Tensor) -> Tensor:
        """Means (N, T, D) at all rows, each from the rows before it; only cells where `seen` are read."""
        gap = torch.diff(batch.times, prepend=batch.times[:, :1]).to(batch.values.dtype)
        last = since = torch.zeros_like(batch.values[:, 0])
        state = since.new_zeros(len(batch), self.cell.hidden_size)
        means = []
        for j in range(batch.times.shape[1]):
            since = since + gap[:, [j]]  # time since each target was last seen
            state = state * torch.exp(-functional.relu(self.state_decay(since)))
            means.append(self.read_out(state))
            rate = functional.relu(self.input_rate * since + self.input_shift)
            decayed = last * torch.exp(-rate)  # towards the mean of scaled values, 0
            value = torch.where(seen[:, j], batch.values[:, j], decayed)
            state = self.cell(torch.cat([value, seen[:, j]], dim=-1), state)
            last = torch.where(seen[:, j], batch.values[:, j], last)
            since = torch.where(seen[:, j], 0.0, since)
        return torch.stack(means, dim=1)

    def loss(self, batch: SeriesBatch, seen: Tensor, kl_weight: float) -> Tensor:
        return mean_square(self(batch, seen), batch, batch.mask)


class RNNVAE(nn.Module):
    """A variational autoencoder whose encoder and decoder are GRUs; z0 is as large as their states."""

    def __init__(self, n_targets: int, hidden_dim: int) -> None:
        super().__init__()
        self.encoder = nn.GRU(2 * n_targets + 1, hidden_dim, batch_first=True)
        self.posterior = nn.Linear(hidden_dim, 2 * hidden_dim)
        self.start = nn.Linear(hidden_dim, hidden_dim)
        self.decoder = nn.GRU(1, hidden_dim, batch_first=True)
        self.read_out = nn.Linear(hidden_dim, n_targets)
        self.log_noise = nn.Parameter(torch.full((n_targets,), -1.0))

    def forward(self, batch: SeriesBatch, seen: Tensor) -> Tensor:
        """Means (N, T, D) at all rows, from all cells where `seen`, at the mean of the posterior."""
        mean, _, origin = self.encode(batch, seen)
        return self.decode(mean, batch.times, origin)

    def loss(self, batch: SeriesBatch, seen: Tensor, kl_weight: float) -> Tensor:
        """Minus the ELBO, per observed cell."""
        mean, log_std, origin = self.encode(batch, seen)
        z0 = mean + log_std.exp() * torch.randn_like(mean)
        scaled = (batch.values - self.decode(z0, batch.times, origin)) / self.log_noise.exp()
        log_density = -0.5 * scaled.square() - self.log_noise - 0.5 * np.log(2 * np.pi)
        kl = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum()
        return (kl_weight * kl - log_density[batch.mask].sum()) / batch.mask.sum()

    def encode(self, batch: SeriesBatch, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log standard deviation (N, H) of z0 at the first seen row, and the time of that row (N, 1)."""
        visible = seen.any(-1)  # (N, T)
        n_seen = visible.sum(1, keepdim=True)
        position = torch.arange(visible.shape[1])
        backwards = torch.where(visible, -position, 1).argsort(
            1
        )  # the last seen row first, unseen rows at the end
        times = batch.times.gather(1, backwards)
        rows = torch.cat([torch.where(seen, batch.values, 0.0), seen], dim=-1)
        rows = rows.gather(1, backwards[..., None].expand_as(rows))
        gaps = torch.diff(times, prepend=times[:, :1])[..., None].to(rows.dtype)
        states, _ = self.encoder(torch.cat([rows, gaps], dim=-1))
        last = (n_seen - 1).clamp(min=0)
        summary = states[torch.arange(len(states)), last[:, 0]]
        mean, raw = self.posterior(summary).chunk(2, dim=-1)
        return mean, raw - 1.0, times.gather(1, last)

    def decode(self, z0: Tensor, times: Tensor, origin: Tensor) -> Tensor:
        gaps = torch.diff(times, prepend=origin)[..., None].to(z0.dtype)
        states, _ = self.decoder(gaps, torch.tanh(self.start(z0))[None])
        return self.read_out(states)


BASELINES: dict[str, type[nn.Module]] = {"RNN-Δt": RNNDelta, "GRU-D": GRUD, "RNN-VAE": RNNVAE}


class Baseline:
    """`fit(df)` and `predict(df, times)` on long tables, as `LatentODERegressor`, for one of `BASELINES`."""

    def __init__(
        self,
        name: str,
        *,
        hidden_dim: int = 25,
        max_epochs: int = 200,
        batch_size: int = 50,
        lr: float = 1e-2,
        validation_fraction: float = 0.1,
        random_state: int = 0,
    ) -> None:
        self.name = name
        self.hidden_dim = hidden_dim
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, df: pd.DataFrame) -> Baseline:
        """Learn from all series of a long table (columns `id`, `time`, targets)."""
        self.layout_ = TableLayout.infer(df)
        table = self.layout_.read(df)
        rng = np.random.default_rng(self.random_state)
        order = rng.permutation(len(table))
        n_held_out = max(1, round(self.validation_fraction * len(table)))
        train = table.take(order[n_held_out:])
        self.time_scale_, self.scaler_ = TimeScale.fit(train), ValueScaler.fit(train)
        held_out = self._scaled(table.take(order[:n_held_out]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            self.model_ = BASELINES[self.name](table.n_targets, self.hidden_dim)
            self._train(SeriesLoader(self._scaled(train), self.batch_size, rng=rng), pad(held_out))
        return self

    def predict(self, df: pd.DataFrame, times: object) -> pd.DataFrame:
        """Means at `times`, one sequence for all series or a table (id, time), given the observations `df`."""
        known = self.layout_.read(df)
        asked = self.layout_.read_queries(times, known)
        nothing = np.full((asked.n_rows, known.n_targets), np.nan)
        both = SeriesTable.from_rows(  # at equal times the observation comes first, and is read first
            known.ids,
            np.concatenate([known.series, asked.series]),
            np.concatenate([known.times, asked.times]),
            np.concatenate([known.values, nothing]),
        )
        batch = pad(self._scaled(both))
        with torch.no_grad():
            means = self.model_(batch, batch.mask)
        answers = both.in_row_order(both.flatten(means.double().numpy()))[known.n_rows :]
        answers = asked.in_row_order(self.scaler_.loc + self.scaler_.scale * answers)
        keys = self.layout_.query_keys(times, known)
        return self.layout_.write(keys, dict(zip(self.layout_.target_cols, answers.T)))

    def _scaled(self, table: SeriesTable) -> SeriesTable:
        return scale_table(table, self.time_scale_, self.scaler_)

    def _train(self, batches: SeriesLoader, held_out: SeriesBatch) -> None:
        optimiser = torch.optim.Adam(self.model_.parameters(), lr=self.lr)
        n_steps = self.max_epochs * len(batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.lr, total_steps=n_steps)
        held_out = with_empty_rows(held_out)
        shown = show_a_part(held_out)
        best, weights = np.inf, self.model_.state_dict()
        for epoch in range(self.max_epochs):
            kl_weight = min(1.0, epoch / (KL_WARMUP * self.max_epochs))
            for _, observed in batches:
                batch = with_empty_rows(observed)
                optimiser.zero_grad()
                self.model_.loss(batch, show_a_part(batch), kl_weight).backward()
                nn.utils.clip_grad_norm_(self.model_.parameters(), 1.0)
                optimiser.step()
                schedule.step()
            with torch.no_grad():
                error = float(mean_square(self.model_(held_out, shown), held_out, held_out.mask & ~shown))
            if error < best:
                best, weights = error, copy.deepcopy(self.model_.state_dict())
        self.model_.load_state_dict(weights)


def with_empty_rows(batch: SeriesBatch) -> SeriesBatch:
    """The batch with rows at random times between the first and the last one, in which nothing is observed."""
    n_rows = batch.times.shape[1]
    n_empty = int(torch.randint(EMPTY_ROWS * n_rows + 1, ()))
    first, last = batch.times[:, :1], batch.times[:, -1:]
    empty = first + (last - first) * torch.rand(len(batch), n_empty, dtype=torch.float64)
    times, order = torch.cat([batch.times, empty], dim=1).sort(dim=1, stable=True)  # padding stays at the end

    def strewn(cells: Tensor) -> Tensor:
        nothing = cells.new_zeros(len(cells), n_empty, cells.shape[2])
        both = torch.cat([cells, nothing], dim=1)
        return both.gather(1, order[..., None].expand_as(both))

    return SeriesBatch(times, strewn(batch.values), strewn(batch.mask), batch.lengths + n_empty)


def show_a_part(batch: SeriesBatch) -> Tensor:
    """Cells (N, T, D) that a network may see: most of the rows before a random cut, at least the first row."""
    cut = (1 + (torch.rand(len(batch)) * batch.lengths).long())[:, None]
    visible = (torch.arange(batch.times.shape[1]) < cut) & (torch.rand(batch.times.shape) < SHOWN)
    visible[:, 0] |= ~(batch.mask.any(-1) & visible).any(1)
    return batch.mask & visible[..., None]


def mean_square(means: Tensor, batch: SeriesBatch, cells: Tensor) -> Tensor:
    return (means - batch.values)[cells].square().mean()
