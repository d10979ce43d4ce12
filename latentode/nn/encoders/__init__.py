"""Recognition networks: from a series' observations to the posterior of its latent state."""

from latentode.nn.encoders.gru import GRUEncoder
from latentode.nn.encoders.head import INITIAL_STD, STD_FLOOR, PosteriorHead
from latentode.nn.encoders.odernn import ODERNNEncoder

ENCODERS = {"gru": GRUEncoder, "odernn": ODERNNEncoder}

__all__ = ["ENCODERS", "INITIAL_STD", "STD_FLOOR", "GRUEncoder", "ODERNNEncoder", "PosteriorHead"]
