from __future__ import annotations

import math

import pytest
import torch
from training_stubs import Parts

from latentode.training import History
from latentode.training.loss_parts import WeightedMean


def history_of(*losses: float) -> History:
    history = History()
    for epoch, loss in enumerate(losses, start=1):
        history.append({"epoch": epoch, "validation_loss": loss})
    return history


def test_a_small_last_batch_counts_by_its_weight():
    mean = WeightedMean()
    mean.add(Parts(torch.tensor(2.0), {"kl": 1.0, "log_lik": torch.tensor(-4.0)}, weight=30))
    mean.add(Parts(torch.tensor(6.0), {"kl": 5.0, "log_lik": torch.tensor(-8.0)}, weight=torch.tensor(10)))
    assert mean.means("train") == {"train_loss": 3.0, "train_kl": 2.0, "train_log_lik": -5.0}


def test_splitting_a_batch_leaves_the_mean():
    cells = torch.arange(1.0, 8.0)
    whole, split = WeightedMean(), WeightedMean()
    whole.add(Parts(cells.mean(), weight=7))
    for piece in cells.split((4, 2, 1)):
        split.add(Parts(piece.mean(), weight=len(piece)))
    assert split.means("train")["train_loss"] == pytest.approx(whole.means("train")["train_loss"])


def test_a_part_is_averaged_over_the_batches_that_have_it():
    mean = WeightedMean()
    mean.add(Parts(torch.tensor(1.0), {}, weight=100))
    mean.add(Parts(torch.tensor(1.0), {"kl": 7.0}, weight=2))
    assert mean.means("train")["train_kl"] == 7.0


def test_means_keep_no_graph():
    mean = WeightedMean()
    mean.add(Parts(torch.ones((), requires_grad=True) * 2, {"a": torch.ones((), requires_grad=True) * 3}))
    assert all(isinstance(value, float) for value in mean.means("train").values())


def test_a_pass_without_weight_is_refused():
    mean = WeightedMean()
    mean.add(Parts(torch.tensor(1.0), weight=0))
    with pytest.raises(ValueError, match=r"weights of the train batches sum to 0\.0: nothing was observed"):
        mean.means("train")


def test_a_pass_without_batches_is_refused():
    with pytest.raises(ValueError, match="validation_batches gave no batch: at least one series is needed"):
        WeightedMean().means("validation")


def test_counts_are_summed_whatever_the_batches_weigh():
    mean = WeightedMean()
    mean.add(Parts(torch.tensor(1.0), {}, 30, {"retried": torch.tensor(2)}))
    mean.add(Parts(torch.tensor(1.0), {}, 0.5, {"retried": 1, "other": 5}))
    assert mean.means("train") == {"train_loss": 1.0, "train_retried": 3, "train_other": 5}


def test_a_part_cannot_take_the_name_of_the_total():
    with pytest.raises(ValueError, match='"loss" is the name of the total'):
        WeightedMean().add(Parts(torch.tensor(1.0), {"loss": 2.0}))


def test_best_epoch_is_the_first_of_the_lowest():
    assert history_of(3.0, 1.0, 2.0, 1.0).best_epoch == 2


def test_best_epoch_is_none_without_validation():
    history = History()
    assert history.best_epoch is None
    history.append({"epoch": 1, "train_loss": 1.0})
    assert history.best_epoch is None


def test_table_has_columns_of_equal_length():
    history = history_of(3.0, 1.0)
    history.append({"epoch": 3, "validation_loss": 2.0, "validation_kl": 0.5})
    table = history.as_table()
    assert list(table) == ["epoch", "validation_loss", "validation_kl"]
    assert table["epoch"] == [1, 2, 3]
    assert [math.isnan(value) for value in table["validation_kl"]] == [True, True, False]


def test_history_reads_like_a_list():
    history = history_of(3.0, 1.0)
    assert len(history) == 2
    assert history[-1]["epoch"] == 2
    assert [record["epoch"] for record in history] == [1, 2]
