"""Vector fields of continuous normalizing flows, with the products of their Jacobians."""

from latentode.nn.flow_fields.concatsquash import ConcatSquashField
from latentode.nn.flow_fields.flow_field import FlowField, Pushed, identity_tangents
from latentode.nn.flow_fields.gated import GatedUnitsField
from latentode.nn.flow_fields.planar import PlanarField

FLOW_FIELDS: dict[str, type[FlowField]] = {
    "concatsquash": ConcatSquashField,
    "gated": GatedUnitsField,
    "planar": PlanarField,
}

__all__ = [
    "FLOW_FIELDS",
    "ConcatSquashField",
    "FlowField",
    "GatedUnitsField",
    "PlanarField",
    "Pushed",
    "identity_tangents",
]
