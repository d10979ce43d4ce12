"""Order conditions, stability and dense output of every implicit tableau."""

from __future__ import annotations

import numpy as np
import pytest
from test_tableaus import THETA, dense_weights, density, order, stage_weights, trees, up_to
from tolerances import TABLEAU

from latentode.solvers import IMPLICIT_TABLEAUS

DENSE_ORDER = {  # where it is neither the method's own order nor that of a cubic
    "radauIIA3": 2,
    "radauIIA5": 3,
    "gl4": 3,
    "gl6": 3,
    "kvaerno5": 4,
}
L_STABLE = {"implicit_euler", "sdirk2", "trbdf2", "radauIIA3", "radauIIA5", "kvaerno3", "kvaerno5"}
KEEPS_SIZE = {"implicit_midpoint", "trapezoid", "gl4", "gl6"}  # |R(iy)| = 1: turns neither grow nor shrink
OWN_POLYNOMIAL = {"implicit_euler", "sdirk2", "radauIIA3", "radauIIA5"}

every_tableau = pytest.mark.parametrize("tableau", IMPLICIT_TABLEAUS.values(), ids=IMPLICIT_TABLEAUS)


def stability(tableau, z: complex) -> complex:
    """R(z): the factor of one step on y' = λy with z = hλ."""
    a, one = np.array(tableau.a), np.ones(tableau.stages)
    return 1 + z * np.array(tableau.b) @ np.linalg.solve(np.eye(tableau.stages) - z * a, one)


@every_tableau
def test_shapes_and_consistency(tableau):
    assert np.shape(tableau.a) == (tableau.stages, tableau.stages)
    assert len(tableau.b) == len(tableau.interpolant) == tableau.stages
    np.testing.assert_allclose([sum(row) for row in tableau.a], tableau.c, atol=TABLEAU)


@every_tableau
def test_the_first_stage_is_at_the_beginning_and_the_last_one_at_the_end(tableau):
    assert not any(tableau.a[0])
    assert tableau.c[0] == 0.0
    assert tableau.a[-1] == tableau.b
    assert tableau.c[-1] == pytest.approx(1.0, abs=TABLEAU)


@every_tableau
def test_solution_meets_all_conditions_of_its_order(tableau):
    for tree in up_to(tableau.order):
        assert tableau.b @ stage_weights(tableau, tree) == pytest.approx(1 / density(tree), abs=TABLEAU), tree


@every_tableau
def test_order_is_not_understated(tableau):
    residuals = [tableau.b @ stage_weights(tableau, t) - 1 / density(t) for t in trees(tableau.order + 1)]
    assert np.abs(residuals).max() > 1e-5


@pytest.mark.parametrize(
    "tableau", [t for t in IMPLICIT_TABLEAUS.values() if t.b_error], ids=lambda t: t.name
)
def test_embedded_solution_meets_all_conditions_of_its_order_and_no_more(tableau):
    for tree in up_to(tableau.error_order):
        assert np.dot(tableau.b_error, stage_weights(tableau, tree)) == pytest.approx(0, abs=TABLEAU), tree
    beyond = [np.dot(tableau.b_error, stage_weights(tableau, t)) for t in trees(tableau.error_order + 1)]
    assert np.abs(beyond).max() > 1e-5, "the estimate would see no error"


@pytest.mark.parametrize(
    "tableau", [t for t in IMPLICIT_TABLEAUS.values() if t.b_error], ids=lambda t: t.name
)
def test_the_error_estimate_stays_bounded_for_ever_stiffer_fields(tableau):
    """The embedded solution is stable too, so that h shrinks for the error and not for the stiffness.

    Up to three times (`caution`) the size of what is damped.
    """
    a, one, z = np.array(tableau.a), np.ones(tableau.stages), -1e9
    error = z * np.array(tableau.b_error) @ np.linalg.solve(np.eye(tableau.stages) - z * a, one)
    assert abs(error) <= 3


@every_tableau
def test_interpolant_meets_all_continuous_conditions_of_its_order(tableau):
    dense_order = DENSE_ORDER.get(tableau.name, tableau.order)
    for tree in up_to(dense_order):
        found = dense_weights(tableau, THETA) @ stage_weights(tableau, tree)
        np.testing.assert_allclose(
            found, THETA ** order(tree) / density(tree), atol=TABLEAU, err_msg=str(tree)
        )


@every_tableau
def test_interpolant_joins_its_neighbours(tableau):
    """All with the step's ends; those with the slopes of both ends join smoothly, the others at the end."""
    matrix = tableau.interpolant_matrix
    np.testing.assert_allclose(matrix.sum(axis=1), tableau.b, atol=TABLEAU)
    first, last = np.eye(tableau.stages)[[0, -1]]
    powers = np.arange(1, matrix.shape[1] + 1)
    np.testing.assert_allclose(matrix @ powers, last, atol=TABLEAU)
    if tableau.name in OWN_POLYNOMIAL:
        assert not matrix[0].any(), "f(t, y), huge in a transient that the step does not resolve"
    else:
        np.testing.assert_allclose(matrix[:, 0], first, atol=TABLEAU)


@every_tableau
def test_a_stable_in_the_left_half_plane(tableau):
    """On the imaginary axis |R| <= 1, and no pole to the left of it."""
    on_axis = [abs(stability(tableau, 1j * y)) for y in np.logspace(-3, 4, 200)]
    assert max(on_axis) <= 1 + 1e-9
    inside = [
        abs(stability(tableau, x + 1j * y)) for x in -np.logspace(-3, 4, 20) for y in np.linspace(0, 50, 20)
    ]
    assert max(inside) <= 1


def test_every_tableau_damps_or_keeps():
    assert set(IMPLICIT_TABLEAUS) == L_STABLE | KEEPS_SIZE


@pytest.mark.parametrize("name", sorted(L_STABLE))
def test_infinitely_stiff_parts_vanish_in_one_step(name):
    assert abs(stability(IMPLICIT_TABLEAUS[name], -1e9)) < 1e-6


@pytest.mark.parametrize("name", sorted(KEEPS_SIZE))
def test_turns_keep_their_size(name):
    for y in (0.1, 1.0, 30.0):
        assert abs(stability(IMPLICIT_TABLEAUS[name], 1j * y)) == pytest.approx(1.0, abs=1e-12)
