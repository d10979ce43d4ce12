"""A trained model at work: contexts and query times in, decoded predictions out, all in the caller's units."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentode.exceptions import warn_user
from latentode.models.latent_ode import LatentODE, inputs_of
from latentode.nn.normal import Normal
from latentode.series import (
    Affine,
    BatchSource,
    CovariateScaler,
    SeriesTable,
    TimeScale,
    ValueScaler,
    anchored,
    cut_pieces,
    scale_table,
)
from latentode.training.non_finite import listed

BOUNDARY = (
    1e-9  # of a part: a row at the border of two belongs to the earlier one, whatever units round it to
)
CELLS_AT_ONCE = 4_000_000  # posterior samples × series × times × width that one batch of predictions may hold


@dataclass(frozen=True)
class Prediction:
    """Latent states and likelihood parameters of one batch, still in the model's scale.

    z : Tensor (K, n, Q, L)
    params : Tensor (K, n, Q, n_out)
    affine : Affine, level and spread of each series
    rows : Tensor (n, Q), position of each query in the order of the answer; padding repeats the last one
    """

    z: Tensor
    params: Tensor
    affine: Affine
    rows: Tensor


Readout = Callable[[LatentODE, Prediction], Tensor]


@dataclass(frozen=True)
class Forecaster:
    """Everything that a prediction needs, learned in `fit`.

    Parameters
    ----------
    model : LatentODE
    time_scale, scaler, covariates
        From the table's units to the model's and back.
    anchor : {"start", "end"}
        Which row of the context the latent state belongs to.
    window : float or None
        Length of the windows that were trained on, in the table's time: a context is then half a window.
    device : torch.device
    """

    model: LatentODE
    time_scale: TimeScale
    scaler: ValueScaler
    covariates: CovariateScaler
    anchor: str
    window: float | None
    device: torch.device

    @torch.no_grad()
    def posterior(self, table: SeriesTable) -> Normal:
        """Posterior of the state at the anchor of each series' last context, (N, L), on the CPU."""
        contexts, first = self._contexts(table)
        last = np.append(first[1:], len(contexts)) - 1
        source = BatchSource(contexts.take(last))
        parts = []
        for index in np.array_split(np.arange(len(table)), max(1, len(table) // 500)):
            piece = anchored(cut_pieces(source.batch(index).to(self.device), "all"), self.anchor)
            affine = self.scaler.affine(piece.context)
            parts.append(self.model.posterior(affine.apply(piece.context), piece.origin))
        return Normal(*(torch.cat(part).cpu() for part in zip(*parts)))

    @torch.no_grad()
    def predict(
        self, table: SeriesTable, queries: SeriesTable, noise: Callable[[NDArray], Tensor], readout: Readout
    ) -> NDArray:
        """Read-outs at all query times.

        Parameters
        ----------
        table : SeriesTable
            Contexts of N series, in the caller's units.
        queries : SeriesTable
            The same N series with the query times as rows.
        noise : callable
            Positions (n,) of series in `table` -> standard normal draws (K, n or 1, L).
        readout : callable
            (model, Prediction) -> Tensor (..., n, Q, D), of values: globally scaled ones.

        Returns
        -------
        array (..., R, D)
            In the order of the rows of `queries`' own table.
        """
        if queries.n_rows == 0:  # an answer to something says what shape an answer to nothing has
            return self.predict(table, _first_row(table), noise, readout)[..., :0, :]
        contexts, first = self._contexts(table)
        asked, of_context, positions = self._assign(contexts, first, queries)
        source = BatchSource(contexts)
        found, rows, unsure = [], [], []
        for index in self._batches(asked, noise(positions[:1])):
            piece = anchored(cut_pieces(source.batch(of_context[index]).to(self.device), "all"), self.anchor)
            affine = self.scaler.affine(piece.context)
            row, valid = _padded_rows(asked, index)
            posterior = self.model.posterior(affine.apply(piece.context), piece.origin)
            eps = noise(positions[index]).to(self.device, posterior.mean.dtype)
            since = torch.as_tensor(asked.times[row], device=self.device) - piece.origin[:, None]
            inputs = inputs_of(piece.context, piece.origin)
            names = asked.ids[index].tolist()
            solved = self.model.trajectory(posterior.sample(eps), since, piece.origin, inputs, names)
            unsure += [name for name, so in zip(names, solved.uncontrolled.tolist()) if so]
            prediction = Prediction(
                solved.z, self.model.decoder(solved.z), affine, torch.as_tensor(asked.rows[row])
            )
            answer = readout(self.model, prediction).cpu().double().numpy()  # (..., n, Q, D)
            found.append(answer[..., valid, :])
            rows.append(_rows(asked, index))
        _warn_of_unsure(unsure)
        return _in_order(found, rows, asked.n_rows)

    def _contexts(self, table: SeriesTable) -> tuple[SeriesTable, NDArray[np.int64]]:
        """What the encoder reads, in model units, and the position of each series' first context.

        Rows without any observation say nothing and are left out (a series without observations keeps its first
        row). With windows, a series is read in parts of half a window, counted from its end.
        """
        scaled = scale_table(
            ties_by_value(observed_rows(table)), self.time_scale, self.scaler, self.covariates
        )
        if self.window is None:
            return scaled, np.arange(len(scaled))
        half = self.window / self.time_scale.unit / 2
        last = scaled.times[scaled.offsets[1:] - 1][scaled.series]
        part = np.floor((last - scaled.times) / half + BOUNDARY).astype(np.int64)
        new = np.r_[True, (np.diff(scaled.series) != 0) | (np.diff(part) != 0)]
        starts = np.flatnonzero(new)
        stops = np.append(starts[1:], scaled.n_rows)
        of = scaled.series[starts]
        return scaled.take_ranges(of, starts, stops), np.searchsorted(of, np.arange(len(scaled)))

    def _assign(
        self, contexts: SeriesTable, first: NDArray[np.int64], queries: SeriesTable
    ) -> tuple[SeriesTable, NDArray[np.int64], NDArray[np.int64]]:
        """Queries grouped by the context that answers them: the last one that begins no later than the query.

        Returns the grouped queries in model time, and for each group its context and its series.
        """
        scaled = replace(queries, times=self.time_scale.to_model(queries.times))
        begins = contexts.times[contexts.offsets[:-1]]
        n_contexts = np.diff(np.append(first, len(contexts)))
        context = np.repeat(first, scaled.lengths)
        if n_contexts.max(initial=1) > 1:
            # contexts and queries are both sorted by (series, time): count the contexts that begin before a query
            of = np.repeat(np.arange(len(queries)), n_contexts)
            order = np.lexsort(
                (
                    np.r_[np.zeros(len(begins)), np.ones(scaled.n_rows)],
                    np.r_[begins, scaled.times],
                    np.r_[of, scaled.series],
                )
            )
            is_context = order < len(begins)
            latest = np.cumsum(is_context) - 1
            at = order[~is_context] - len(begins)
            context[at] = np.maximum(latest[~is_context], context[at])
        new = np.r_[True, np.diff(context) != 0] if len(context) else np.empty(0, dtype=bool)
        starts = np.flatnonzero(new)
        stops = np.append(starts[1:], scaled.n_rows)[: len(starts)]
        series = scaled.series[starts]
        return scaled.take_ranges(series, starts, stops), context[starts], series

    def _batches(self, asked: SeriesTable, noise: Tensor) -> Iterator[NDArray[np.int64]]:
        """Groups of similar numbers of query times, as many as memory allows at once."""
        order = np.argsort(asked.lengths, kind="stable")
        n_samples, latent_dim = noise.shape[0], noise.shape[2]
        width = n_samples * max(latent_dim, len(self.scaler.loc))
        begin = 0
        while begin < len(order):
            stop = begin + 1
            while stop < len(order) and stop - begin < 512:
                if (stop + 1 - begin) * asked.lengths[order[stop]] * width > CELLS_AT_ONCE:
                    break
                stop += 1
            yield order[begin:stop]
            begin = stop


def observed_rows(table: SeriesTable) -> SeriesTable:
    """The table without rows that observe nothing and have no label; a series without any keeps its first row."""
    keep = np.any(~np.isnan(table.values), axis=1)
    if table.row_labels is not None:
        keep |= table.row_labels >= 0
    observed = np.bincount(table.series[keep], minlength=len(table))
    keep[table.offsets[:-1][observed == 0]] = True
    return table if keep.all() else table.take_rows(keep)


def ties_by_value(table: SeriesTable) -> SeriesTable:
    """The table with rows at one time in the order of their values: the order of the caller's rows means nothing."""
    tied = (np.diff(table.times) == 0) & (np.diff(table.series) == 0)
    if not tied.any():
        return table
    moment = np.cumsum(np.r_[True, ~tied])
    among = np.flatnonzero(np.r_[tied, False] | np.r_[False, tied])
    order = np.arange(table.n_rows)
    values = table.values if table.errors is None else np.concatenate([table.values, table.errors], axis=1)
    order[among] = among[np.lexsort((*values[among].T[::-1], moment[among]))]
    return table.with_rows(order, table.offsets)


def _warn_of_unsure(names: list[Hashable]) -> None:
    """Say which answers only fixed steps could give."""
    series = list(dict.fromkeys(names))
    if series:
        warn_user(
            f"the differential equation of series {listed(series)} could be solved only with fixed steps, whose error "
            "is not known: do not trust these answers far from the observations; training with a smaller lr may help"
        )


def _first_row(table: SeriesTable) -> SeriesTable:
    """Queries: the time of the first row and no other."""
    first = table.take_rows(np.arange(table.n_rows) == 0)
    return replace(first, values=np.empty((1, 0)), rows=np.zeros(1, dtype=np.int64))


def _padded_rows(asked: SeriesTable, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Flat rows (n, Q) of the queries of some groups, the last one repeated, and True where they are real."""
    lengths = asked.lengths[index]
    position = np.arange(lengths.max())
    valid = position < lengths[:, None]
    return asked.offsets[index][:, None] + np.minimum(position, lengths[:, None] - 1), valid


def _rows(asked: SeriesTable, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the caller's table that the queries of these groups come from, in their order."""
    return np.concatenate([asked.rows[asked.offsets[i] : asked.offsets[i + 1]] for i in index])


def _in_order(found: list[NDArray], rows: list[NDArray[np.int64]], n_rows: int) -> NDArray:
    answers = np.concatenate(found, axis=-2)
    ordered = np.empty_like(answers)
    ordered[..., np.concatenate(rows), :] = answers
    return ordered
