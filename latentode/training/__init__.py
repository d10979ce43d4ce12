"""The training loop and what hangs on it; it is given a module and a loss and knows no model by name."""

from latentode.training.callbacks import BestWeights, Callback, EarlyStopping, FitState, ProgressBar
from latentode.training.checkpoint import Checkpoint
from latentode.training.history import History
from latentode.training.loss_parts import LossParts
from latentode.training.non_finite import NonFiniteLossError
from latentode.training.schedules import KL_SCHEDULES, SCHEDULES, constant, cyclic, linear, one_cycle
from latentode.training.trainer import Trainer

__all__ = [
    "KL_SCHEDULES",
    "SCHEDULES",
    "BestWeights",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "FitState",
    "History",
    "LossParts",
    "NonFiniteLossError",
    "ProgressBar",
    "Trainer",
    "constant",
    "cyclic",
    "linear",
    "one_cycle",
]
