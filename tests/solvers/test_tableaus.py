"""Order conditions of every tableau, by rooted trees (Hairer, Nørsett, Wanner, II.2 and II.6)."""

from __future__ import annotations

from functools import cache
from itertools import combinations_with_replacement

import numpy as np
import pytest
from scipy.integrate import RK45
from tolerances import TABLEAU

from latentode.solvers import TABLEAUS

Tree = tuple  # the subtrees of the root, sorted

DENSE_ORDER = {"dopri5": 4, "tsit5": 4, "dopri8": 5}  # of the methods with an interpolant of their own
THETA = np.linspace(0.0, 1.0, 7)

every_tableau = pytest.mark.parametrize("tableau", TABLEAUS.values(), ids=TABLEAUS)


def order(tree: Tree) -> int:
    return 1 + sum(map(order, tree))


def density(tree: Tree) -> int:
    return order(tree) * int(np.prod([density(child) for child in tree], dtype=int))


@cache
def forest(total: int, largest: int) -> list[tuple[Tree, ...]]:
    """Multisets of trees, each of order at most `largest`, with `total` nodes together."""
    if total == 0:
        return [()]
    found = []
    for size in range(min(total, largest), 0, -1):
        for count in range(total // size, 0, -1):
            for chosen in combinations_with_replacement(trees(size), count):
                found += [chosen + rest for rest in forest(total - count * size, size - 1)]
    return found


@cache
def trees(n: int) -> list[Tree]:
    """Rooted trees with n nodes."""
    return forest(n - 1, n - 1)


def stage_weights(tableau, tree: Tree) -> np.ndarray:
    """The tree's elementary weight at each stage."""
    a = np.array([list(row) + [0.0] * (tableau.stages - len(row)) for row in tableau.a])
    weights = np.ones(tableau.stages)
    for child in tree:
        weights = weights * (a @ stage_weights(tableau, child))
    return weights


def up_to(highest: int) -> list[Tree]:
    return [tree for n in range(1, highest + 1) for tree in trees(n)]


def dense_order(tableau) -> int:
    return DENSE_ORDER.get(tableau.name, min(tableau.order, 3))


def dense_weights(tableau, theta) -> np.ndarray:
    """b_i(θ), (len(θ), S)."""
    degree = tableau.interpolant_matrix.shape[1]
    return np.asarray(theta)[:, None] ** np.arange(1, degree + 1) @ tableau.interpolant_matrix.T


def test_the_trees_are_all_there():
    assert [len(trees(n)) for n in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]
    assert sorted(map(density, trees(4))) == [4, 8, 12, 24]


@every_tableau
def test_shapes_and_consistency(tableau):
    assert len(tableau.a) == len(tableau.b) == len(tableau.interpolant) == tableau.stages
    assert [len(row) for row in tableau.a] == list(range(tableau.stages))
    np.testing.assert_allclose([sum(row) for row in tableau.a], tableau.c, atol=TABLEAU)


@every_tableau
def test_the_last_stage_is_the_first_of_the_next_step(tableau):
    assert (tableau.a[-1], 0.0, 1.0) == (tableau.b[:-1], tableau.b[-1], tableau.c[-1])


@every_tableau
def test_solution_meets_all_conditions_of_its_order(tableau):
    for tree in up_to(tableau.order):
        assert tableau.b @ stage_weights(tableau, tree) == pytest.approx(1 / density(tree), abs=TABLEAU), tree


@every_tableau
def test_order_is_not_understated(tableau):
    residuals = [tableau.b @ stage_weights(tableau, t) - 1 / density(t) for t in trees(tableau.order + 1)]
    assert np.abs(residuals).max() > 1e-6  # dopri8: 8e-6


@pytest.mark.parametrize("tableau", [t for t in TABLEAUS.values() if t.b_error], ids=lambda t: t.name)
def test_embedded_solution_meets_all_conditions_of_its_order_and_no_more(tableau):
    for tree in up_to(tableau.error_order):
        assert np.dot(tableau.b_error, stage_weights(tableau, tree)) == pytest.approx(0, abs=TABLEAU), tree
    beyond = [np.dot(tableau.b_error, stage_weights(tableau, t)) for t in trees(tableau.error_order + 1)]
    assert np.abs(beyond).max() > 1e-5, "the estimate would see no error"


@every_tableau
def test_interpolant_meets_all_continuous_conditions_of_its_order(tableau):
    for tree in up_to(dense_order(tableau)):
        found = dense_weights(tableau, THETA) @ stage_weights(tableau, tree)
        np.testing.assert_allclose(
            found, THETA ** order(tree) / density(tree), atol=TABLEAU, err_msg=str(tree)
        )


@every_tableau
def test_interpolant_joins_its_neighbours_with_their_slopes(tableau):
    matrix = tableau.interpolant_matrix
    np.testing.assert_allclose(matrix.sum(axis=1), tableau.b, atol=TABLEAU)  # θ = 1: the step itself
    first, last = np.eye(tableau.stages)[[0, -1]]
    np.testing.assert_allclose(matrix[:, 0], first, atol=TABLEAU)  # slope at θ = 0: f(t, y)
    powers = np.arange(1, matrix.shape[1] + 1)
    digits = TABLEAU * max(1.0, np.abs(matrix).max())  # lost in the sum of coefficients of size 100
    np.testing.assert_allclose(matrix @ powers, last, atol=digits)  # slope at θ = 1: f(t + h, y1)


def test_dopri5_is_scipys_rk45():
    ours = TABLEAUS["dopri5"]
    np.testing.assert_allclose(ours.interpolant_matrix, RK45.P, atol=TABLEAU)
    np.testing.assert_allclose(ours.b[:-1], RK45.B, atol=TABLEAU)
    np.testing.assert_allclose(np.abs(ours.b_error), np.abs(RK45.E), atol=TABLEAU)
