"""The ODE-Net of Chen et al. (2018), section 3, and its discrete peers, for images and for vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.models.row_loss import MeanLater, RowLoss
from latentode.nn.augment import Augment
from latentode.nn.fields import MLPField
from latentode.nn.fields.convolutional import ConvField, group_norm
from latentode.nn.image_stem import ImageStem
from latentode.nn.initialisation import generator_or_fresh, linear
from latentode.nn.ode_block import ODEBlock
from latentode.nn.residual import ConvResidual, VectorResidual
from latentode.nn.standardise import Standardise

MAX_STEPS = 1000  # of a solve over a unit of time: a field that needs more has gone astray


class PixelMean(nn.Module):
    """The mean over the pixels: (N, C, H, W) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class ODENet(nn.Module):
    """Stem, block, head: the block is one solve, or a stack of residual blocks.

    Parameters
    ----------
    shape : sequence of int
        Of an input: (C, H, W) of an image, or (D,) of a vector. Images pass two convolutions first; vectors enter the
        block as they are.
    n_outputs : int
        Logits or targets.
    block : {"ode", "rk", "resnet"}
        "ode" and "rk" are one solve of the same field; "resnet" has `n_blocks` residual blocks in its place.
    hidden_dim : int
        Channels of the block for images, width of the hidden layers of its field for vectors.
    depth : int
        Hidden layers of a field or residual block on vectors.
    activation : str
        Of the field on vectors, a name of `latentode.nn.mlp.ACTIVATIONS`; images have relu.
    n_blocks : int
    augment_dim : int
        Zero channels or features that the block gets beside its input.
    mean, std : sequence of float
        Level and spread of the channels or features; of the targets in `target_mean` and `target_std`.
    solver, tolerance, step_size, gradient
        As in `ODEBlock`; `tolerance` is rtol and atol.
    generator : torch.Generator, optional
        Source of the first weights; None takes fresh entropy.
    """

    def __init__(
        self,
        shape: Sequence[int],
        n_outputs: int,
        *,
        block: str,
        hidden_dim: int,
        depth: int,
        activation: str,
        n_blocks: int,
        augment_dim: int,
        solver: str,
        tolerance: float,
        step_size: float | None,
        gradient: str,
        mean: Sequence[float],
        std: Sequence[float],
        target_mean: Sequence[float],
        target_std: Sequence[float],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        generator = generator_or_fresh(generator)
        is_image = len(shape) == 3
        self.scale = Standardise(mean, std)
        self.target_scale = Standardise(target_mean, target_std)
        self.stem: nn.Module = nn.Identity()
        if is_image:
            channels, height, width = shape
            self.stem = ImageStem((channels, height, width), hidden_dim, generator)
        size = (hidden_dim if is_image else shape[0]) + augment_dim
        self.block: nn.Module
        if block == "resnet":
            residual = [
                ConvResidual(size, generator)
                if is_image
                else VectorResidual(size, hidden_dim, depth, activation, generator)
                for _ in range(n_blocks)
            ]
            self.block = nn.Sequential(Augment(augment_dim), *residual)
        else:
            field = (
                ConvField(size, generator=generator)
                if is_image
                else MLPField(
                    size,
                    hidden_dim,
                    depth=depth,
                    activation=activation,
                    time_dependent=True,
                    generator=generator,
                )
            )
            self.block = ODEBlock(
                field,
                augment_dim=augment_dim,
                solver=solver,
                rtol=tolerance,
                atol=tolerance,
                step_size=step_size,
                gradient=gradient,
                max_steps=MAX_STEPS,
            )
        to_outputs = linear(size, n_outputs, generator)
        self.head: nn.Module = to_outputs
        if is_image:
            self.head = nn.Sequential(group_norm(size), nn.ReLU(), PixelMean(), to_outputs)

    def forward(self, x: Tensor, *, tolerance: float | None = None) -> Tensor:
        """Logits, or scaled targets, (N, n_outputs) of inputs (N, *shape), in float32.

        Raises
        ------
        ValueError
            For a tolerance of residual blocks or of fixed steps.
        """
        features = self.stem(self.scale(x))
        if isinstance(self.block, ODEBlock):
            return self.head(self.block(features, tolerance=tolerance))
        if tolerance is not None:
            raise ValueError("tolerance is for adaptive solvers: residual blocks are not solved")
        return self.head(self.block(features))

    def path(self, x: Tensor, times: Any, *, tolerance: float | None = None) -> Tensor:
        """States (N, T, *state) of the block at `times` (T,) between 0 and 1.

        Raises
        ------
        ValueError
            For residual blocks, which have no time.
        """
        if not isinstance(self.block, ODEBlock):
            raise ValueError("a network of residual blocks has no states between them: take block='ode'")
        return self.block.path(self.stem(self.scale(x)), times, tolerance=tolerance)

    def classification_loss(self, x: Tensor, labels: Tensor, weight: Tensor) -> RowLoss:
        """Cross-entropy of labels (N,), each row times its weight (N,), as a mean over the rows; and the accuracy."""
        logits = self(x)
        entropy = functional.cross_entropy(logits, labels, reduction="none")
        accuracy = (logits.detach().argmax(1) == labels).double().mean()
        return RowLoss((weight * entropy).mean(), {"accuracy": accuracy, **self._evaluations()}, len(labels))

    def regression_loss(self, x: Tensor, targets: Tensor, weight: Tensor) -> RowLoss:
        """Squared error of scaled targets (N, n_outputs), each row times its weight (N,), as a mean over the rows."""
        error = (self(x) - self.target_scale(targets)).square().mean(1)
        return RowLoss((weight * error).mean(), self._evaluations(), len(targets))

    def _evaluations(self) -> dict[str, SupportsFloat]:
        """Evaluations of the field per row, forwards and, once it was run, backwards."""
        if not isinstance(self.block, ODEBlock):
            return {}
        counts: dict[str, SupportsFloat] = {"n_evals": self.block.n_evals.double().mean()}
        if torch.is_grad_enabled():
            counts["n_evals_backward"] = MeanLater([self.block.n_evals_backward])
        return counts
