"""What the density estimators share, whatever flow they train."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor, nn

from latentode.checks import Whole
from latentode.estimators.array_estimator import ArrayEstimator
from latentode.estimators.row_batches import Rows
from latentode.estimators.row_split import split_rows
from latentode.estimators.whitening import Whitening
from latentode.exceptions import SolverError
from latentode.models.continuous_flow import standard_normal_log_density
from latentode.models.transported import Transported
from latentode.seeding import RandomState, numpy_generator
from latentode.training.loss_parts import LossParts

PIECE = 2**22  # numbers in the widest array of one piece of an answer: 32 MiB


class FlowDensity(DensityMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ArrayEstimator):
    """A density as a standard normal base, carried to the data by an invertible map that is learned.

    Attributes
    ----------
    whitening_ : Whitening
        Mean, spread and correlation of the training rows; the flow leads from white rows to the base.
    n_features_in_ : int
        D.
    """

    validation_fraction: float
    random_state: RandomState

    whitening_: Whitening
    n_features_in_: int

    def _prepare(self, n_rows: int, n_dims: int) -> None:
        """Settle what depends on the number of training rows and columns, before the training."""

    @abstractmethod
    def _flow_plan(self, n_dims: int) -> dict[str, Any]:
        """What `_build` needs."""

    @abstractmethod
    def _loss(self, flow: nn.Module, batch: Rows, generator: torch.Generator) -> LossParts:
        """The loss of a batch (white rows, weights), in units of X."""

    @abstractmethod
    def _transport(self, flow: nn.Module, points: Tensor, *, to_base: bool) -> Transported:
        """Carry points (n, D), in float64, as exactly as an answer should be."""

    @property
    @abstractmethod
    def _row_cost(self) -> int:
        """Numbers per row in the widest array of an answer."""

    def _facts(self) -> dict[str, Any]:
        parts = ("mean", "scale", "root")
        return {
            **super()._facts(),
            **{name: getattr(self.whitening_, name).ravel().tolist() for name in parts},
        }

    def _adopt_facts(self, facts: Mapping[str, Any]) -> None:
        super()._adopt_facts(facts)
        if self.n_features_in_ != self._plan["n_dims"]:
            raise ValueError("n_features_in is not the number of dimensions of the plan")
        self.whitening_ = Whitening.checked(facts["mean"], facts["scale"], facts["root"], self.n_features_in_)

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn the density of rows.

        Parameters
        ----------
        X : array-like (N, D)
            Numbers without NaN, in any units: they are made white by the training rows inside.
        y : ignored
        sample_weight : array-like (N,), optional
            Non-negative weights; a row of weight 0 is left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For fewer than two rows, NaN or infinite numbers, columns that are constant or combinations of
            others, and parameters out of range.
        SolverError
            When the differential equation could not be solved even after three restarts of the training.
        """
        self._check_parameters()
        rows = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        weight = _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)
        beginning = self._beginning((rows, weight))
        rows, weight = rows[weight > 0], weight[weight > 0]
        if len(rows) < 2:
            raise ValueError(f"at least 2 rows need a positive sample_weight; got {len(rows)}")
        split = split_rows(len(rows), self.validation_fraction, beginning.rng)
        self.whitening_ = Whitening.of(rows[split.train], weight[split.train])
        white = torch.as_tensor(self.whitening_.apply(rows), dtype=torch.float32)
        weights = torch.as_tensor(weight / weight.mean(), dtype=torch.float32)
        train, validation = ((white[which], weights[which]) for which in split)
        self._prepare(len(split.train), rows.shape[1])
        try:
            self._train(
                self._flow_plan(rows.shape[1]),
                self._loss,
                train,
                validation if len(split.validation) else None,
                beginning,
            )
        except SolverError as error:
            raise SolverError(
                "the flow could not be solved in training: try a smaller lr, or larger kinetic and jacobian; rows that "
                f"lie on a line or repeat exactly have no density to find ({error})"
            ) from error
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Log density of every row, in nats, per unit of X.

        Parameters
        ----------
        X : array-like (N, D)

        Returns
        -------
        array (N,)
        """
        return self._answer(self._white(X), self._log_density) - self.whitening_.log_scale

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Total log density of the rows, in nats, as `KernelDensity.score`.

        Parameters
        ----------
        X : array-like (N, D)
        y : ignored

        Returns
        -------
        float
        """
        return float(self.score_samples(X).sum())

    def sample(self, n_samples: int = 1, random_state: RandomState = None) -> NDArray[np.float64]:
        """Draw rows from the density.

        Parameters
        ----------
        n_samples : int, default 1
            0 or more.
        random_state : int, numpy Generator or RandomState, or None
            None draws other rows in every call.

        Returns
        -------
        array (n_samples, D)
        """
        check_is_fitted(self, "model_")
        if not Whole(0).allows(n_samples):
            raise ValueError(f"n_samples must be an int of at least 0; got {n_samples!r}")
        base = numpy_generator(random_state).standard_normal((n_samples, self.n_features_in_))
        return self._from_base(base)

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Carry rows to the base, where they are about standard normal.

        Parameters
        ----------
        X : array-like (N, D)

        Returns
        -------
        array (N, D)
        """
        return self._answer(self._white(X), lambda flow, x: self._transport(flow, x, to_base=True).points)

    def inverse_transform(self, Z: ArrayLike) -> NDArray[np.float64]:
        """Carry points of the base back: `inverse_transform(transform(X))` is X.

        Parameters
        ----------
        Z : array-like (N, D)

        Returns
        -------
        array (N, D)
        """
        check_is_fitted(self, "model_")
        base = np.asarray(Z, dtype=np.float64)
        if base.ndim != 2 or base.shape[1] != self.n_features_in_:
            raise ValueError(f"Z must have shape (N, {self.n_features_in_}); got {base.shape}")
        if not np.isfinite(base).all():
            raise ValueError("Z must be finite; it holds NaN or infinity")
        return self._from_base(base)

    @property
    def _n_features_out(self) -> int:
        return self.n_features_in_

    def _white(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self, "model_")
        return self.whitening_.apply(validate_data(self, X, dtype=np.float64, reset=False))

    def _log_density(self, flow: nn.Module, x: Tensor) -> Tensor:
        z, log_det = self._transport(flow, x, to_base=True)
        return standard_normal_log_density(z) + log_det

    def _from_base(self, base: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.whitening_.undo(
            self._answer(base, lambda flow, z: self._transport(flow, z, to_base=False).points)
        )

    def _answer(self, points: NDArray[np.float64], answer: Any) -> NDArray[np.float64]:
        """`answer(flow, piece)` by the flow in float64, so that rows do not feel their company."""
        flow = copy.deepcopy(self.model_).double()
        return self._in_pieces(lambda piece: answer(flow, piece), points, max(PIECE // self._row_cost, 1))
