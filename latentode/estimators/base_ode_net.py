"""What the ODE-Nets that classify and those that regress share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from latentode.checks import Constraint, Number, OneOf, That, Whole, check_parameters
from latentode.estimators.array_estimator import ArrayEstimator, as_rows
from latentode.estimators.beginning import Beginning
from latentode.estimators.input_shape import as_network_inputs, level_and_spread, reread_inputs, with_channels
from latentode.estimators.parameters import CONSTRAINTS
from latentode.estimators.row_batches import Rows
from latentode.estimators.row_split import RowSplit
from latentode.estimators.saved_checks import check_layers
from latentode.exceptions import SolverError
from latentode.gradients import GRADIENTS
from latentode.models.ode_net import ODENet
from latentode.nn.mlp import ACTIVATIONS
from latentode.nn.ode_block import ODEBlock
from latentode.solvers import SOLVERS

BLOCKS = ("ode", "rk", "resnet")
STEP_SIZE = 0.5  # of fixed steps, in the unit of time that a block takes
VECTOR_AUGMENT = 5  # features that vectors get beside their own
PIECE = 256  # rows that are answered at a time
TOLERANCE = (Number(0, open_low=True),)
_NONE = OneOf([None])


_LEVELS = That(
    lambda value: isinstance(value, list) and all(map(Number().allows, value)), "a list of finite numbers"
)
_SPREADS = That(
    lambda value: isinstance(value, list) and all(map(Number(0, open_low=True).allows, value)),
    "a list of positive numbers",
)
PLAN: dict[str, tuple[Constraint, ...]] = {
    "shape": (That(lambda value: _is_shape(value) and len(value) in (1, 3), "the shape of an input"),),
    "n_outputs": (Whole(1),),
    "block": (OneOf(BLOCKS),),
    **{
        name: CONSTRAINTS[name]
        for name in ("hidden_dim", "depth", "activation", "solver", "gradient", "step_size")
    },
    "n_blocks": (Whole(1),),
    "augment_dim": (Whole(0),),
    "tolerance": TOLERANCE,
    "mean": (_LEVELS,),
    "std": (_SPREADS,),
    "target_mean": (_LEVELS,),
    "target_std": (_SPREADS,),
}


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(map(Whole(1).allows, value))


class BaseODENet(ArrayEstimator):
    """Training of an `ODENet`, and what its block did."""

    _constraints: ClassVar[Mapping[str, tuple[Constraint, ...]]] = {
        "block": (OneOf(BLOCKS),),
        "n_blocks": (Whole(1),),
        "augment_dim": (Whole(0), _NONE),
        "solver": (OneOf(SOLVERS), _NONE),
        "tolerance": TOLERANCE,
        "gradient": (OneOf(GRADIENTS), _NONE),
        "activation": (OneOf(ACTIVATIONS),),
    }
    _default_steps: ClassVar[int] = 1500
    _most_epochs: ClassVar[int | None] = 200  # few rows would go on for minutes after they are learned
    _plan_constraints: ClassVar[Mapping[str, tuple[Constraint, ...]]] = PLAN

    block: str
    hidden_dim: int
    depth: int
    activation: str
    n_blocks: int
    augment_dim: int | None
    solver: str | None
    tolerance: float
    step_size: float | None
    gradient: str | None
    validation_fraction: float

    model_: ODENet
    n_features_in_: int
    _input_shape: tuple[int, ...]

    @staticmethod
    def _build(plan: Mapping[str, Any], generator: torch.Generator) -> ODENet:
        return ODENet(**plan, generator=generator)

    def evaluations(self, X: Any, *, tolerance: float | None = None) -> NDArray[np.int64]:
        """How many evaluations of the field each input takes: (n,); with `block="resnet"` the number of blocks.

        Parameters
        ----------
        X : array
            As in `fit`.
        tolerance : float, optional
            As in `predict`.
        """
        X = self._reread(X, tolerance)
        block = self.model_.block
        if not isinstance(block, ODEBlock):
            return np.full(len(X), self._plan["n_blocks"])

        def count(x: Tensor) -> Tensor:
            self.model_(x, tolerance=tolerance)
            return block.n_evals

        return self._answers(count, X, tolerance)

    def trajectories(
        self, X: Any, times: Any = None, *, tolerance: float | None = None
    ) -> NDArray[np.float32]:
        """The path of each input through the block.

        Parameters
        ----------
        X : array
            As in `fit`.
        times : sequence of T numbers, optional
            Between 0, where the block begins, and 1, where the head reads its state; default: 0, 0.05, ..., 1.
        tolerance : float, optional
            As in `predict`.

        Returns
        -------
        array (n, T, p + augment_dim) for vectors, (n, T, C, h, w) for images
            States; those of vectors begin at the standardised features, zeros beside them.

        Raises
        ------
        ValueError
            With `block="resnet"`, which has no time, and for times outside of [0, 1].
        """
        X = self._reread(X, tolerance)
        times = np.linspace(0.0, 1.0, 21) if times is None else np.asarray(times, dtype=np.float64)
        if times.ndim != 1 or not ((times >= 0) & (times <= 1)).all():
            raise ValueError(
                f"times must be a sequence of numbers from 0, the beginning of the block, to 1, its end; got {times}"
            )
        return self._answers(lambda x: self.model_.path(x, times, tolerance=tolerance), X, tolerance)

    def _plan_for(self, X: NDArray[Any], n_outputs: int) -> dict[str, Any]:
        """The plan of the network for inputs (N, D) or (N, C, H, W), but for the scale of its targets."""
        is_image = X.ndim == 4
        mean, std = level_and_spread(X)
        augment_dim = (0 if is_image else VECTOR_AUGMENT) if self.augment_dim is None else self.augment_dim
        solver, gradient = self._solver()
        fixed = self.block == "rk" or SOLVERS[solver].error_order is None
        return {
            "shape": list(X.shape[1:]),
            "n_outputs": n_outputs,
            "block": self.block,
            "hidden_dim": int(self.hidden_dim),
            "depth": int(self.depth),
            "activation": self.activation,
            "n_blocks": int(self.n_blocks),
            "augment_dim": int(augment_dim),
            "solver": solver,
            "tolerance": float(self.tolerance),
            "step_size": (self.step_size or STEP_SIZE) if fixed else self.step_size,
            "gradient": gradient,
            "mean": mean,
            "std": std,
            "target_mean": [0.0] * n_outputs,
            "target_std": [1.0] * n_outputs,
        }

    def _solver(self) -> tuple[str, str]:
        """Names of solver and gradient.

        Raises
        ------
        ValueError
            For a gradient that is not that of the block.
        """
        if self.block != "rk":
            return self.solver or "dopri5", self.gradient or "discrete_adjoint"
        if self.gradient not in (None, "backprop"):
            raise ValueError(
                f"{type(self).__name__}: block='rk' is differentiated by backprop; for gradient={self.gradient!r} take "
                "block='ode' with the same solver= and step_size="
            )
        return self.solver or "rk4", "backprop"

    def _fit_network(
        self,
        plan: Mapping[str, Any],
        X: NDArray[Any],
        targets: NDArray[Any],
        weight: NDArray[np.float64],
        split: RowSplit,
        beginning: Beginning,
        loss: Callable[[ODENet, Tensor, Tensor, Tensor], Any],
    ) -> None:
        rows: Rows = (as_rows(X), as_rows(targets), as_rows(weight).float())
        train, validation = (tuple(part[torch.as_tensor(index)] for part in rows) for index in split)
        self._train(
            plan,
            lambda model, batch, generator: loss(model, *batch),  # type: ignore[arg-type]
            train,
            validation if len(split.validation) else None,
            beginning,
        )

    def _adopt(self, plan: Mapping[str, Any], model: torch.nn.Module) -> None:
        super()._adopt(plan, model)
        self._forget_counts()

    @classmethod
    def _check_plan(cls, plan: Mapping[str, Any]) -> None:
        if not len(plan["mean"]) == len(plan["std"]) == plan["shape"][0]:
            raise ValueError("inputs and their scales differ in number")
        if not len(plan["target_mean"]) == len(plan["target_std"]) == plan["n_outputs"]:
            raise ValueError("outputs and their scales differ in number")
        check_layers(plan["depth"] * (plan["n_blocks"] if plan["block"] == "resnet" else 1))
        fixed = plan["block"] == "rk" or SOLVERS[plan["solver"]].error_order is None
        if fixed and plan["step_size"] is None:
            raise ValueError("fixed steps have no step_size")

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "input_shape": list(self._input_shape)}

    def _adopt_facts(self, facts: Mapping[str, Any]) -> None:
        super()._adopt_facts(facts)
        shape = facts["input_shape"]
        if not _is_shape(shape) or len(shape) > 3 or shape[0] != self.n_features_in_:
            raise ValueError("input_shape is no shape of an input")
        self._input_shape = tuple(shape)
        if with_channels(self._input_shape) != tuple(self._plan["shape"]):
            raise ValueError("input_shape is not the one of the plan")

    def _forget_counts(self) -> None:
        """The counts of the last batch, which are no part of what was learned."""
        if isinstance(self.model_.block, ODEBlock):
            self.model_.block.n_evals = self.model_.block.n_evals_backward = torch.empty(0, dtype=torch.int64)

    def _outputs(self, X: Any, tolerance: float | None) -> NDArray[np.float64]:
        """Logits, or targets in their own unit, (n, n_outputs)."""
        X = self._reread(X, tolerance)

        def outputs(x: Tensor) -> Tensor:
            return self.model_.target_scale.undo(self.model_(x, tolerance=tolerance))

        return self._answers(outputs, X, tolerance)

    def _answers(
        self, answer: Callable[[Tensor], Tensor], X: NDArray[Any], tolerance: float | None
    ) -> NDArray[Any]:
        """`answer` for all of X; the model is left as it was."""
        try:
            return self._in_pieces(answer, X, PIECE)
        except SolverError as error:
            raise SolverError(self._unsolved(tolerance, error)) from error
        finally:
            self._forget_counts()

    def _unsolved(self, tolerance: float | None, reason: SolverError) -> str:
        """What a caller can do about inputs that the block could not solve."""
        step_size = self._plan["step_size"]
        if step_size is not None:
            way = f"with step_size={step_size:g}: check the scale of X against that of fit, or fit with a smaller one"
        else:
            used = self._plan["tolerance"] if tolerance is None else tolerance
            way = f"at tolerance={used:g}: raise tolerance, or check the scale of X against that of fit"
        return f"an input could not be solved {way} ({reason})"

    def _reread(self, X: Any, tolerance: float | None) -> NDArray[Any]:
        """X as the network reads it: (n, D) or (n, C, H, W)."""
        check_is_fitted(self, "model_")
        if tolerance is not None:
            check_parameters("predict", {"tolerance": tolerance}, {"tolerance": TOLERANCE})
            if not isinstance(self.model_.block, ODEBlock) or self.model_.block.step_size is not None:
                raise ValueError(
                    "tolerance is for adaptive solvers: this model takes fixed steps or has residual blocks; fit it "
                    "with block='ode' and without step_size="
                )
        return as_network_inputs(reread_inputs(self, X, self._input_shape))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
