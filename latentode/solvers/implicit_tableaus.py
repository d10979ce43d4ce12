"""Butcher tableaus of implicit Runge-Kutta methods, as data.

As in `tableaus`, the first stage is f(t, y), which the step before has left behind, and the last one is
f(t + h, y(t + h)), so that its row of `a` equals `b`. Collocation methods get both as stages without weight. Rows
of `a` have all S entries.

Dense output: methods that damp the stiff parts of a solution (L-stable) without an explicit first stage have the
polynomial of their own implicit stages, so that a large f(t, y) in a transient that the step does not resolve moves
nothing; `kvaerno5` has an extension of order 4; all others the cubic Hermite polynomial.

References
----------
Hairer, Wanner: Solving Ordinary Differential Equations II, IV.5, IV.6. Kværnø (2004), Singly diagonally implicit
Runge-Kutta methods with an explicit first stage, BIT 44. Alexander (1977). Hosea, Shampine (1996), TR-BDF2.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from latentode.solvers.tableaus import Row, Tableau, _hermite


def _rows(matrix: np.ndarray) -> tuple[Row, ...]:
    return tuple(tuple(map(float, row)) for row in matrix)


def _polynomial_weights(c: np.ndarray) -> np.ndarray:
    """∫_0^θ of the Lagrange polynomials to the nodes c: (len(c), len(c)), columns θ¹, θ², ..."""
    powers = np.arange(len(c))
    return np.linalg.inv(np.vander(c, increasing=True)).T / (powers + 1)


def _collocation(name: str, order: int, nodes: list[float]) -> Tableau:
    """The collocation method to the nodes, all of them implicit stages."""
    c, n = np.array(nodes), len(nodes)
    weights = _polynomial_weights(c)
    a = (c[:, None] ** np.arange(1, n + 1)) @ weights.T
    ends_at_a_stage = nodes[-1] == 1.0
    size = n + 1 + (not ends_at_a_stage)
    whole = np.zeros((size, size))
    whole[1 : n + 1, 1 : n + 1] = a
    if not ends_at_a_stage:
        whole[-1, 1 : n + 1] = weights.sum(axis=1)
    interpolant = np.zeros((size, n))
    interpolant[1 : n + 1] = weights
    b = tuple(whole[-1])
    c_all = (0.0, *nodes) if ends_at_a_stage else (0.0, *nodes, 1.0)
    return Tableau(
        name, order, c_all, _rows(whole), b, None, _rows(interpolant) if ends_at_a_stage else _hermite(b)
    )


def _diagonal(
    name: str,
    order: int,
    gamma: float,
    rows: list[list[float]],
    error_order: int = 0,
    dense_order: int = 3,
    caution: float = 1.0,
) -> Tableau:
    """A method with an explicit first stage and γ on the diagonal of all others; given is what stands left of it.

    With `error_order`, the last but one stage is the embedded solution; its distance is multiplied by `caution`.
    """
    size = len(rows) + 1
    a = np.zeros((size, size))
    for i, row in enumerate(rows, start=1):
        a[i, :i], a[i, i] = row, gamma
    b = tuple(map(float, a[-1]))
    error = tuple(map(float, caution * (a[-1] - a[-2]))) if error_order else None
    interpolant = _hermite(b) if dense_order == 3 else _rows(_extension(a))
    return Tableau(
        name, order, tuple(map(float, a.sum(axis=1))), _rows(a), b, error, interpolant, error_order
    )


def _extension(a: np.ndarray) -> np.ndarray:
    """Weights (S, 4) of a dense output of order 4: the smallest that join the steps with their slopes.

    All stages have order 2, so that five conditions are left of the eight; they hold for every power of θ.
    """
    size, c = len(a), a.sum(axis=1)
    conditions = np.stack([np.ones(size), c, c**2, c**3, a @ c**2])  # (5, S)
    targets = np.zeros((5, 4))
    targets[[0, 1, 2, 3, 4], [0, 1, 2, 3, 3]] = [1, 1 / 2, 1 / 3, 1 / 4, 1 / 12]
    unit = np.eye(4)
    of_powers = np.concatenate([np.kron(conditions, unit[[m]]) for m in range(4)])
    at_ends = [np.kron(np.eye(size), row) for row in (np.ones((1, 4)), unit[[0]], np.arange(1.0, 5.0)[None])]
    first, last = np.eye(size)[[0, -1]]
    right = np.concatenate([*targets.T, a[-1], first, last])
    return np.linalg.lstsq(np.concatenate([of_powers, *at_ends]), right, rcond=None)[0].reshape(size, 4)


_ROOT_2, _ROOT_3, _ROOT_6, _ROOT_15 = sqrt(2), sqrt(3), sqrt(6), sqrt(15)

IMPLICIT_EULER = _collocation("implicit_euler", 1, [1.0])
IMPLICIT_MIDPOINT = _collocation("implicit_midpoint", 2, [1 / 2])
GL4 = _collocation("gl4", 4, [1 / 2 - _ROOT_3 / 6, 1 / 2 + _ROOT_3 / 6])
GL6 = _collocation("gl6", 6, [1 / 2 - _ROOT_15 / 10, 1 / 2, 1 / 2 + _ROOT_15 / 10])
RADAU_IIA_3 = _collocation("radauIIA3", 3, [1 / 3, 1.0])
RADAU_IIA_5 = _collocation("radauIIA5", 5, [2 / 5 - _ROOT_6 / 10, 2 / 5 + _ROOT_6 / 10, 1.0])

TRAPEZOID = _diagonal("trapezoid", 2, 1 / 2, [[1 / 2]])

_SDIRK_GAMMA = 1 - _ROOT_2 / 2

# Alexander (1977). Two stages determine the quadratic dense output.
SDIRK2 = Tableau(
    name="sdirk2",
    order=2,
    c=(0.0, _SDIRK_GAMMA, 1.0),
    a=((0.0, 0.0, 0.0), (0.0, _SDIRK_GAMMA, 0.0), (0.0, 1 - _SDIRK_GAMMA, _SDIRK_GAMMA)),
    b=(0.0, 1 - _SDIRK_GAMMA, _SDIRK_GAMMA),
    b_error=None,
    interpolant=((0.0, 0.0), *_rows(_polynomial_weights(np.array([_SDIRK_GAMMA, 1.0])))),
)

TRBDF2 = _diagonal("trbdf2", 2, _SDIRK_GAMMA, [[_SDIRK_GAMMA], [_ROOT_2 / 4, _ROOT_2 / 4]])

_G = 0.43586652150845899942  # the root of γ³ - 3γ² + 3/2 γ - 1/6 that makes the method L-stable

KVAERNO3 = _diagonal(
    "kvaerno3",
    3,
    _G,
    [
        [_G],
        [(-4 * _G**2 + 6 * _G - 1) / (4 * _G), (1 - 2 * _G) / (4 * _G)],
        [(6 * _G - 1) / (12 * _G), -1 / ((24 * _G - 12) * _G), (-6 * _G**2 + 6 * _G - 1) / (6 * _G - 3)],
    ],
    error_order=2,
)

KVAERNO5 = _diagonal(
    "kvaerno5",
    5,
    0.26,
    [
        [0.26],
        [0.13, 0.84033320996790809],
        [0.22371961478320505, 0.47675532319799699, -0.06470895363112615],
        [0.16648564323248321, 0.10450018841591720, 0.03631482272098715, -0.13090704451073998],
        [0.13855640231268224, 0.0, -0.04245337201752043, 0.02446657898003141, 0.61943039072480676],
        [
            0.13659751177640291,
            0.0,
            -0.05496908796538376,
            -0.04118626728321046,
            0.62993304899016403,
            0.06962479448202728,
        ],
    ],
    error_order=4,
    dense_order=4,
    caution=3.0,  # its own is a fifth of the error of non-stiff solutions: of dopri5's at the same tolerance
)

IMPLICIT_TABLEAUS: dict[str, Tableau] = {
    tableau.name: tableau
    for tableau in (
        IMPLICIT_EULER,
        IMPLICIT_MIDPOINT,
        TRAPEZOID,
        SDIRK2,
        TRBDF2,
        RADAU_IIA_3,
        RADAU_IIA_5,
        GL4,
        GL6,
        KVAERNO3,
        KVAERNO5,
    )
}
