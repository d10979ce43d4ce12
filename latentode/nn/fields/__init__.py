"""Vector fields of the latent differential equation dz/dt = f(t, z, inputs)."""

from latentode.nn.fields.conditioned import Conditioned
from latentode.nn.fields.field import Field
from latentode.nn.fields.gated import GatedField
from latentode.nn.fields.linear import LinearField
from latentode.nn.fields.mlp import MLPField

FIELDS: dict[str, type[Field]] = {"mlp": MLPField, "gated": GatedField, "linear": LinearField}

__all__ = ["FIELDS", "Conditioned", "Field", "GatedField", "LinearField", "MLPField"]
