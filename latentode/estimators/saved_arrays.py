"""What a file says of an `ArrayEstimator`: parameters, the plan of its module and learned facts as JSON, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from latentode.checks import Constraint, check_parameters
from latentode.estimators.saved_model import FORMAT_VERSION, versions
from latentode.estimators.saved_parameters import plain_parameters, read_parameters
from latentode.estimators.saved_training import SavedTraining
from latentode.series.plain_values import as_plain, from_plain
from latentode.storage import Stored


@dataclass(frozen=True)
class SavedArrays:
    """An estimator on arrays, without its weights.

    Parameters
    ----------
    kind : str
        Name of its class.
    parameters : dict
        Of its constructor; None for a user's own modules, and for what no file holds.
    plan : dict
        What its module is built from; None for a user's own modules.
    facts : dict
        What it learned besides, such as the classes of a classifier.
    training : SavedTraining
    """

    kind: str
    parameters: dict[str, Any]
    plan: dict[str, Any]
    facts: dict[str, Any]
    training: SavedTraining

    def own_parts(self, names: Collection[str]) -> list[str]:
        """Which of these parts of a plan a user has to give again."""
        return [name for name in names if self.parameters.get(name, "") is None or self.plan[name] is None]

    def stored(self) -> Stored:
        """Header and the tensors of the history.

        Raises
        ------
        ValueError
            For a value that no file can hold.
        """
        training = self.training.stored()
        header = {
            "kind": self.kind,
            "format_version": FORMAT_VERSION,
            "versions": versions(),
            "parameters": plain_parameters(self.parameters),
            "plan": {
                name: None if isinstance(v, nn.Module) else as_plain(v) for name, v in self.plan.items()
            },
            "facts": plain_facts(self.facts),
            **training.header,
        }
        return Stored(training.tensors, header)

    @classmethod
    def of(
        cls,
        stored: Stored,
        known: Mapping[str, Any],
        constraints: Mapping[str, tuple[Constraint, ...]],
        plan_constraints: Mapping[str, tuple[Constraint, ...]],
        own: Collection[str],
    ) -> SavedArrays:
        """The estimator of header and history, every value within its range.

        Parameters
        ----------
        stored : Stored
        known : mapping
            The parameters of the class with their defaults, for those that a file lacks.
        constraints, plan_constraints : mapping
            What parameters, and entries of the plan, allow.
        own : collection of str
            Parts that may be modules of a user.

        Raises
        ------
        ValueError, KeyError, TypeError and others
            For what `stored()` never gives.
        """
        header = stored.header
        plan, facts = (
            {name: from_plain(v) for name, v in header[part].items()} for part in ("plan", "facts")
        )
        if plan.keys() != plan_constraints.keys():
            raise ValueError(
                f"the plan has entries {sorted(plan)[:50]}, and needs {sorted(plan_constraints)}"
            )
        given = {name: value for name, value in plan.items() if not (name in own and value is None)}
        check_parameters("plan", given, plan_constraints)
        return cls(
            kind=str(header["kind"]),
            parameters=read_parameters(header["parameters"], known, constraints, own),
            plan=plan,
            facts=facts,
            training=SavedTraining.of(stored),
        )


def plain_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as JSON.

    Raises
    ------
    ValueError
        For a value of a type that has no form there, such as some labels.
    """
    found = {}
    for name, value in facts.items():
        try:
            found[name] = as_plain(value)
        except ValueError as error:
            raise ValueError(f"the learned {name} cannot be saved: {error}") from error
    return found
