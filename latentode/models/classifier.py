"""A latent ODE whose states also tell the class of a series, or of each of its rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.models.latent_ode import LatentODE, LatentODELoss, LossOptions
from latentode.nn.initialisation import generator_or_fresh
from latentode.nn.mlp import MLP
from latentode.series.batch import SeriesBatch
from latentode.series.split import Piece


class ClassifyingLatentODE(nn.Module):
    """Logits from the latent state at the anchor, or from the states at the rows; learned together with the bound.

    Parameters
    ----------
    model : LatentODE
    latent_dim, hidden_dim : int
        Width of the state and of the head's hidden layer.
    class_weights : Tensor (C,)
        Weight of a label of each class in the loss.
    label_weight : float
        Weight of the cross-entropy beside the bound per observed cell.
    per_row : bool
        Whether labels belong to rows.
    generator : torch.Generator, optional
        Source of the first weights; None takes fresh entropy.

    References
    ----------
    Rubanova et al. (2019), section 4.4: a classifier on the posterior of the latent state, trained jointly.
    """

    class_weights: Tensor

    def __init__(
        self,
        model: LatentODE,
        latent_dim: int,
        hidden_dim: int,
        class_weights: Tensor,
        *,
        label_weight: float,
        per_row: bool,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.head = MLP(latent_dim, hidden_dim, len(class_weights), generator=generator_or_fresh(generator))
        self.register_buffer("class_weights", class_weights)
        self.label_weight = label_weight
        self.per_row = per_row

    def loss(
        self,
        piece: Piece,
        *,
        generator: torch.Generator,
        options: LossOptions,
        kl_weight: float,
        names: Sequence[object] | None = None,
    ) -> LatentODELoss:
        """The loss of the latent ODE plus the weighted mean cross-entropy of the labels of the batch."""
        passage = self.model.passage(piece, options, generator, names)
        bound = self.model.loss_of(passage, piece.target, options, kl_weight)
        logits = self.head(passage.trajectory.z if self.per_row else passage.z0)  # (K, N, (T,) C)
        entropy, accuracy = self._scores(logits, piece.target)
        parts = {**bound.parts, "cross_entropy": entropy.detach(), "accuracy": accuracy}
        return LatentODELoss(bound.total + self.label_weight * entropy, parts, bound.weight, bound.counts)

    def _scores(self, logits: Tensor, batch: SeriesBatch) -> tuple[Tensor, Tensor]:
        """Weighted mean cross-entropy, over the posterior samples too, and the share of right labels; 0 without any."""
        labels = batch.row_labels if self.per_row else batch.labels
        assert labels is not None
        labelled = labels >= 0
        found, truth = logits[:, labelled], labels[labelled]  # (K, n, C), (n,)
        if not len(truth):
            return logits.sum() * 0.0, logits.new_zeros(())
        logits, repeated = found.flatten(0, 1), truth.repeat(len(found))
        # divided by the number of labels: a sum of weights would cancel them in a batch of one class
        entropy = functional.cross_entropy(logits, repeated, self.class_weights, reduction="sum") / len(
            repeated
        )
        right = found.detach().softmax(-1).mean(0).argmax(-1) == truth
        return entropy, right.double().mean()

    def probabilities(self, z: Tensor) -> Tensor:
        """Probability of each class, mixed over the posterior samples: (K, ..., L) -> (..., C)."""
        return torch.softmax(self.head(z), dim=-1).mean(0)
