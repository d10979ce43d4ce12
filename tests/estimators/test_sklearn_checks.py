"""scikit-learn's own estimator checks, unpatched, on arrays in its form."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from latentode import (
    ContinuousFlowDensity,
    LatentODEClassifier,
    LatentODERegressor,
    ODENetClassifier,
    ODENetRegressor,
    PlanarFlowDensity,
)

TINY = {"latent_dim": 2, "hidden_dim": 8, "random_state": 0, "verbose": 0}
NET = {"hidden_dim": 8, "depth": 1, "solver": "rk4", "step_size": 1.0, "random_state": 0, "verbose": 0}
ESTIMATORS = [
    LatentODERegressor(max_epochs=1, solver="rk4", step_size=0.5, **TINY),
    LatentODEClassifier(
        max_epochs=15,
        lr=0.05,
        field="linear",
        batch_size=100,
        validation_fraction=0,
        label_weight=10.0,
        **TINY,
    ),
    ODENetClassifier(max_epochs=12, lr=0.1, batch_size=100, **NET),
    ODENetRegressor(max_epochs=10, lr=0.05, batch_size=32, **NET),
    ContinuousFlowDensity(hidden_dim=4, max_epochs=2, solver="rk4", step_size=0.5, random_state=0, verbose=0),
    PlanarFlowDensity(n_layers=2, max_epochs=2, random_state=0, verbose=0),
]
ROUNDING = "float32 matrix products of other batches round otherwise, by 1e-7 of the probabilities"
WEIGHTS = (
    "weights are factors of losses: batches and validation rows are drawn and features scaled by row, so that a row of "
    "weight 2 is not the same as two rows; one of weight 0 is the same as none"
)
EXPECTED_FAILURES = {  # at most three each, by class and check
    "LatentODERegressor": {
        "check_methods_subset_invariance": "columns after the first are controls, a path through all rows that are "
        "asked for; and a solver's last step ends at the last of their times: without controls the answers agree "
        "within its tolerances, not to 1e-7",
    },
    "LatentODEClassifier": {
        "check_methods_subset_invariance": ROUNDING,
        "check_methods_sample_order_invariance": ROUNDING,
    },
    "ContinuousFlowDensity": {"check_sample_weight_equivalence_on_dense_data": WEIGHTS},
    "PlanarFlowDensity": {"check_sample_weight_equivalence_on_dense_data": WEIGHTS},
    "ODENetClassifier": {
        "check_methods_subset_invariance": ROUNDING,
        "check_methods_sample_order_invariance": ROUNDING,
        "check_sample_weight_equivalence_on_dense_data": WEIGHTS,
    },
    "ODENetRegressor": {
        "check_methods_subset_invariance": ROUNDING,
        "check_methods_sample_order_invariance": ROUNDING,
        "check_sample_weight_equivalence_on_dense_data": WEIGHTS,
    },
}


@pytest.mark.filterwarnings("ignore::latentode.exceptions.LatentODEWarning")
@parametrize_with_checks(
    ESTIMATORS,
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES[type(estimator).__name__],
    xfail_strict=False,  # rounding differs between machines
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_there_are_few_exceptions():
    assert max(map(len, EXPECTED_FAILURES.values())) <= 3
