"""Density estimation with continuous normalizing flows, as a scikit-learn estimator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from latentode.checks import Constraint, Number, OneOf, That, Whole, check_parameters
from latentode.estimators.flow_density import FlowDensity
from latentode.estimators.flow_picture import FlowFrames, frame_box
from latentode.estimators.parameters import CONSTRAINTS, suggests_names
from latentode.estimators.row_batches import Rows
from latentode.estimators.saved_checks import check_layers
from latentode.models.continuous_flow import TRACES, ContinuousFlow
from latentode.models.flow_loss import ContinuousFlowLoss
from latentode.models.solve_options import SolveOptions
from latentode.models.transported import Transported
from latentode.nn.flow_fields import FLOW_FIELDS
from latentode.nn.smooth import SMOOTH_ACTIVATIONS
from latentode.plotting import plot_density_path
from latentode.seeding import RandomState
from latentode.training import Callback
from latentode.training.loss_parts import LossParts

# answers are those of the exact flow, whatever solver and trace were good enough for training
ANSWERS: dict[str, Any] = {
    "solver": "dopri5",
    "rtol": 1e-5,
    "atol": 1e-5,
    "step_size": None,
    "gradient": "discrete_adjoint",
}
SOLVING = ("solver", "rtol", "atol", "step_size", "gradient")
PRIOR_ROWS = 45.0  # per dimension: the penalty that served two moons and digits in 8 dimensions best
LARGEST_PENALTY = 0.3
DEPTHS = {"concatsquash": 2, "gated": 1}
OWN_CONSTRAINTS: dict[str, tuple[Constraint, ...]] = {
    "field": (OneOf(FLOW_FIELDS), That(lambda value: isinstance(value, nn.Module), "an nn.Module f(t, z)")),
    "depth": (Whole(1), OneOf([None])),
    "n_blocks": (Whole(1),),
    "activation": (OneOf(SMOOTH_ACTIVATIONS),),
    "trace": (OneOf(TRACES),),
    "n_probes": (Whole(1),),
    "jacobian": (Number(0), OneOf(["auto"])),
}
PLAN: dict[str, tuple[Constraint, ...]] = {
    "n_dims": (Whole(1),),
    **{
        name: OWN_CONSTRAINTS[name]
        for name in ("field", "depth", "n_blocks", "activation", "trace", "n_probes")
    },
    **{name: CONSTRAINTS[name] for name in ("hidden_dim", *SOLVING)},
}


class ContinuousFlowDensity(FlowDensity):
    """Density of rows by a continuous normalizing flow: smooth, sampled and evaluated by one network.

    Good for a few thousand rows and more in up to some dozens of dimensions, where clusters, bends and holes matter; it
    takes minutes where `sklearn.neighbors.KernelDensity` and Gaussian mixtures take a second: with some hundreds of
    rows take those. Not for counts, categories and other columns with repeated values, which have no density; heavy
    tails and far outliers need a transformation first (a logarithm, `QuantileTransformer`).

    Answers are solved at rtol = atol = 1e-5 with the exact trace, whatever the training takes.

    Parameters
    ----------
    field : {"concatsquash", "gated", "planar"} or nn.Module, default "concatsquash"
        dz/dt = f(t, z): a network whose layers time gates and shifts (FFJORD); a sum of gated units, and one of units
        without gates and time (Chen et al.); or your own f(t (n,), z (n, D)) -> (n, D), row by row independent, which
        is copied, into float32. The exact trace of "gated" and "planar" costs no more than the field, in any number of
        dimensions.
    hidden_dim : int, default 64
        Width of the hidden layers, or number of units.
    depth : int, optional
        Number of hidden layers, by default 2; of the gates' network for "gated", by default 1; not for others.
    n_blocks : int, default 1
        Number of fields with weights of their own that the flow goes through one after the other, a unit of time each.
        From some dozens of units on, several narrow "planar" fields, which are the same at all times, bend space more
        sharply than a wide one of as many parameters; the time of training grows with their number.
    activation : {"tanh", "softplus"}, default "tanh"
    trace : {"auto", "exact", "hutchinson"}, default "auto"
        In training: the exact trace of ∂f/∂z, or Hutchinson's unbiased estimate for many dimensions; "auto" is exact up
        to 10 dimensions, and for "gated" and "planar".
    n_probes : int, default 1
        Random vectors of Hutchinson's estimate.
    kinetic : float, default 0.0
        Weight of ∫|f|² dt in the loss (Finlay et al.): straight paths in fewer evaluations; 0.01 is a beginning.
    jacobian : float or "auto", default "auto"
        Weight of ∫|∂f/∂z|² dt in the loss (Finlay et al.): even maps, which keep few rows from being learned by heart.
        "auto" is 45 D / (training rows), at most 0.3, as for a prior; and 0 for "gated" and "planar", whose cheap trace
        it would spoil.
    solver, rtol, atol, step_size, gradient
        Of training, as in :func:`latentode.solve_ivp`; defaults "dopri5", 1e-3, 1e-3, None and "backprop", the
        fastest for fields of this size; for wide ones in little memory "discrete_adjoint". Time goes from 0 to 1.
    max_epochs : int, optional
        Default: as many as make about 800 optimiser steps.
    batch_size : int, default 512
        Rows.
    lr : float, default 0.02
        Highest learning rate of Adam.
    early_stopping : bool, default True
        Whether to stop after `patience` epochs without a better validation loss.
    validation_fraction : float in [0, 1), default 0.1
        Rows that choose the best epoch; none where that is less than one row.
    patience : int, optional
        Epochs; default: half of `max_epochs`, at least 10.
    callbacks : list, optional
        `latentode.training.Callback` objects or functions of each epoch's record; True stops.
    checkpoint_dir : path, optional
        Folder from which an interrupted fit goes on.
    device : str, default "auto"
    random_state : int, numpy Generator or RandomState, or None
    verbose : int, default 1
        0 is silent, 1 shows a progress bar.

    Attributes
    ----------
    model_ : ContinuousFlow
        Between white rows (t = 1) and the standard normal base (t = 0).
    history_ : DataFrame
        `validation_loss` and `train_nats` are mean -log p in nats, in units of X; `train_loss` holds the penalties,
        too.
        `train_n_evals` and `train_n_evals_backward` count evaluations of the field per row; with "backprop" there
        are none backwards.
    jacobian_ : float
        `jacobian` as it was used.
    whitening_ : Whitening
        Mean, scale and correlation of the training rows.
    best_epoch_, stop_reason_, n_features_in_
        As the names say.

    References
    ----------
    Chen, Rubanova, Bettencourt, Duvenaud (2018), "Neural ordinary differential equations", section 4.
    Grathwohl et al. (2019), "FFJORD". Finlay et al. (2020), "How to train your neural ODE".

    Examples
    --------
    >>> import numpy as np
    >>> from latentode import ContinuousFlowDensity
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> flow = ContinuousFlowDensity(max_epochs=5, random_state=0, verbose=0).fit(X)
    >>> flow.score_samples(X[:3]).shape, flow.sample(4, random_state=0).shape
    ((3,), (4, 2))
    """

    _constraints = OWN_CONSTRAINTS
    _plan_constraints = PLAN
    _own_parts = ("field",)
    _default_steps = 800

    jacobian_: float

    @suggests_names
    def __init__(
        self,
        *,
        field: str | nn.Module = "concatsquash",
        hidden_dim: int = 64,
        depth: int | None = None,
        n_blocks: int = 1,
        activation: str = "tanh",
        trace: str = "auto",
        n_probes: int = 1,
        kinetic: float = 0.0,
        jacobian: float | str = "auto",
        solver: str = "dopri5",
        rtol: float = 1e-3,
        atol: float = 1e-3,
        step_size: float | None = None,
        gradient: str = "backprop",
        max_epochs: int | None = None,
        batch_size: int = 512,
        lr: float = 2e-2,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        callbacks: Iterable[Callback | Callable[[dict[str, Any]], bool | None]] | None = None,
        checkpoint_dir: Any = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 1,
    ) -> None:
        self.field = field
        self.hidden_dim = hidden_dim
        self.depth = depth
        self.n_blocks = n_blocks
        self.activation = activation
        self.trace = trace
        self.n_probes = n_probes
        self.kinetic = kinetic
        self.jacobian = jacobian
        self.solver = solver
        self.rtol = rtol
        self.atol = atol
        self.step_size = step_size
        self.gradient = gradient
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def plot_flow(self, X: ArrayLike | None = None, times: int | Iterable[float] = 5) -> Any:
        """Draw the density over the flow's time, from the base (t = 0) to the data (t = 1), for D = 2.

        All in units of X: the base is the normal distribution with the mean and covariance of the training rows.

        Parameters
        ----------
        X : array-like (N, 2), optional
            Rows to draw as dots, carried along; by default none, and the last panel shows the density alone.
        times : int or sequence of floats in [0, 1], default 5
            Number of panels, or their times.

        Returns
        -------
        array of matplotlib Axes

        Raises
        ------
        ValueError
            For other than two dimensions, and times outside of [0, 1].
        """
        check_is_fitted(self, "model_")
        if self.n_features_in_ != 2:
            raise ValueError(
                f"plot_flow draws densities of 2 dimensions; this one has {self.n_features_in_}: fit two columns, or "
                "draw a scatter of sample() instead"
            )
        moments = _moments(times)
        rows = (
            self.sample(500, random_state=0)
            if X is None
            else validate_data(self, X, dtype=np.float64, reset=False)
        )
        flow = copy.deepcopy(self.model_).double()
        assert isinstance(flow, ContinuousFlow)
        frames = FlowFrames(flow, self.whitening_, moments)
        box = frame_box(rows, self.whitening_)
        with torch.no_grad():
            densities = frames.densities(box, self._device)
            dots = None if X is None else frames.carried(rows, self._device)
        return plot_density_path(
            moments,
            densities,
            extent=(box[0, 0], box[1, 0], box[0, 1], box[1, 1]),
            points=dots,
            names=getattr(self, "feature_names_in_", ("", "")),
        )

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.depth is not None and self.field not in DEPTHS:
            name = repr(self.field) if isinstance(self.field, str) else "of your own"
            raise ValueError(
                f"ContinuousFlowDensity: depth is for the fields {', '.join(map(repr, DEPTHS))}; the field {name} "
                "takes none: leave it out"
            )

    def _prepare(self, n_rows: int, n_dims: int) -> None:
        if self.jacobian == "auto":
            by_formula = isinstance(self.field, str) and FLOW_FIELDS[self.field].trace_has_formula
            self.jacobian_ = 0.0 if by_formula else min(PRIOR_ROWS * n_dims / n_rows, LARGEST_PENALTY)
        else:
            self.jacobian_ = float(self.jacobian)

    def _flow_plan(self, n_dims: int) -> dict[str, Any]:
        names = ("field", "hidden_dim", "depth", "n_blocks", "activation", "trace", "n_probes", *SOLVING)
        return {"n_dims": n_dims} | {name: getattr(self, name) for name in names}

    @classmethod
    def _check_plan(cls, plan: Mapping[str, Any]) -> None:
        check_layers(plan["n_blocks"] * (plan["depth"] or 1))

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "jacobian": self.jacobian_}

    def _adopt_facts(self, facts: Mapping[str, Any]) -> None:
        super()._adopt_facts(facts)
        self.jacobian_ = facts["jacobian"]
        check_parameters("facts", {"jacobian": self.jacobian_}, {"jacobian": (Number(0),)})

    @staticmethod
    def _build(plan: Mapping[str, Any], generator: torch.Generator) -> nn.Module:
        return ContinuousFlow(
            [_field(plan, generator) for _ in range(plan["n_blocks"])],
            plan["n_dims"],
            trace=plan["trace"],
            n_probes=plan["n_probes"],
            options=SolveOptions(**{name: plan[name] for name in SOLVING}),
        )

    def _loss(self, flow: nn.Module, batch: Rows, generator: torch.Generator) -> LossParts:
        assert isinstance(flow, ContinuousFlow)
        loss = ContinuousFlowLoss(self.kinetic, self.jacobian_, self.whitening_.log_scale)
        x, weight = batch
        return loss(flow, x, weight, generator)

    def _transport(self, flow: nn.Module, points: Tensor, *, to_base: bool) -> Transported:
        assert isinstance(flow, ContinuousFlow)
        carry = flow.to_base if to_base else flow.from_base
        return carry(points, trace="exact", **ANSWERS)

    @property
    def _row_cost(self) -> int:
        return self.n_features_in_ * max(self.hidden_dim, self.n_features_in_)


def _field(plan: Mapping[str, Any], generator: torch.Generator) -> nn.Module:
    name = plan["field"]
    if not isinstance(name, str):
        return copy.deepcopy(name).float()
    options = {"activation": plan["activation"], "generator": generator}
    if name in DEPTHS:
        options["depth"] = plan["depth"] or DEPTHS[name]
    return FLOW_FIELDS[name](plan["n_dims"], plan["hidden_dim"], **options)


def _moments(times: int | Iterable[float]) -> list[float]:
    if isinstance(times, (int, np.integer)):
        if times < 1:
            raise ValueError(
                f"times must be a number of panels of at least 1, or times in [0, 1]; got {times}"
            )
        return [float(t) for t in np.linspace(0, 1, times)] if times > 1 else [1.0]
    moments = [float(t) for t in times]
    if not moments or not all(0 <= t <= 1 for t in moments):
        raise ValueError(f"times must be a number of panels, or times in [0, 1]; got {times!r}")
    return moments
