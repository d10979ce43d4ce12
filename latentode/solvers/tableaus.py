"""Butcher tableaus of explicit Runge-Kutta methods, as data.

Every tableau ends with the stage f(t + h, y(t + h)): its row of `a` equals `b`. It is the first stage of the
next step (and so costs nothing), and it gives every method a dense output: its own, or the cubic Hermite
polynomial, which is linear in the stages too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from latentode.solvers import dopri8

Row = tuple[float, ...]


@dataclass(frozen=True)
class Tableau:
    """Coefficients of an explicit Runge-Kutta method with S stages.

    Parameters
    ----------
    name : str
    order : int
        Order of the solution that is carried on.
    c : tuple of S floats
        Nodes: stage i is evaluated at t + c_i h.
    a : tuple of S rows
        Row i holds the i weights of the stages before it; the last row equals `b`.
    b : tuple of S floats
        Weights of the solution; the last one is 0.
    b_error : tuple of S floats or None
        `b` minus the weights of the embedded solution: h Σ b_error_i k_i estimates the local error.
        None for a method without an embedded one (fixed steps only).
    interpolant : tuple of S rows
        y(t + θh) = y + h Σ_i k_i Σ_j interpolant[i][j - 1] θ^j for θ in [0, 1].
    error_order : int
        Order of the embedded solution.
    """

    name: str
    order: int
    c: Row
    a: tuple[Row, ...]
    b: Row
    b_error: Row | None
    interpolant: tuple[Row, ...]
    error_order: int = 0

    @property
    def stages(self) -> int:
        return len(self.c)

    @cached_property
    def interpolant_matrix(self) -> np.ndarray:
        """`interpolant` as an array (S, degree)."""
        return np.array(self.interpolant)


def _hermite(b: Row) -> tuple[Row, ...]:
    """The cubic Hermite polynomial through both ends of a step, written as weights of the stages.

    y + (3θ² - 2θ³)(y1 - y) + h (θ - 2θ² + θ³) k_first + h (θ³ - θ²) k_last, with y1 - y = h Σ b_i k_i.
    """
    weights = np.outer(b, [0.0, 3.0, -2.0])
    weights[0] += [1.0, -2.0, 1.0]
    weights[-1] += [0.0, -1.0, 1.0]
    return tuple(tuple(row) for row in weights)


def _first_same_as_last(
    name: str, order: int, c: Row, a: tuple[Row, ...], b: Row, b_embedded: Row = (), error_order: int = 0
) -> Tableau:
    """A tableau with the closing stage f(t + h, y1) and Hermite output added; fixed steps if nothing is embedded."""
    b_error = (*(x - y for x, y in zip(b, b_embedded)), 0.0) if b_embedded else None
    b = (*b, 0.0)
    return Tableau(name, order, (*c, 1.0), (*a, b[:-1]), b, b_error, _hermite(b), error_order)


EULER = _first_same_as_last("euler", 1, (0.0,), ((),), (1.0,))

MIDPOINT = _first_same_as_last("midpoint", 2, (0.0, 1 / 2), ((), (1 / 2,)), (0.0, 1.0))

HEUN2 = _first_same_as_last("heun2", 2, (0.0, 1.0), ((), (1.0,)), (1 / 2, 1 / 2))

HEUN3 = _first_same_as_last(
    "heun3", 3, (0.0, 1 / 3, 2 / 3), ((), (1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4)
)

RK4 = _first_same_as_last(
    "rk4",
    4,
    (0.0, 1 / 2, 1 / 2, 1.0),
    ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
    (1 / 6, 1 / 3, 1 / 3, 1 / 6),
)

# Heun's method with Euler's inside.
ADAPTIVE_HEUN = _first_same_as_last(
    "adaptive_heun", 2, (0.0, 1.0), ((), (1.0,)), (1 / 2, 1 / 2), b_embedded=(1.0, 0.0), error_order=1
)

# Fehlberg (1969), RK1(2). The estimate is that of the solution of order 1 with its small constant, 1/512, while the
# one of order 2 is carried on: the error may be many tolerances.
FEHLBERG2 = _first_same_as_last(
    "fehlberg2",
    2,
    (0.0, 1 / 2, 1.0),
    ((), (1 / 2,), (1 / 256, 255 / 256)),
    (1 / 512, 255 / 256, 1 / 512),
    b_embedded=(1 / 256, 255 / 256, 0.0),
    error_order=1,
)

# Bogacki and Shampine (1989).
_BOSH3_B = (2 / 9, 1 / 3, 4 / 9, 0.0)

BOSH3 = Tableau(
    name="bosh3",
    order=3,
    error_order=2,
    c=(0.0, 1 / 2, 3 / 4, 1.0),
    a=((), (1 / 2,), (0.0, 3 / 4), _BOSH3_B[:-1]),
    b=_BOSH3_B,
    b_error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
    interpolant=_hermite(_BOSH3_B),
)

# Dormand and Prince (1980); dense output of order 4 by Shampine (1986).
DOPRI5 = Tableau(
    name="dopri5",
    order=5,
    error_order=4,
    c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
    b_error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    interpolant=(
        (1.0, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
        (0.0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
        (0.0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
        (0.0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
        (0.0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
    ),
)


def _quartic(factor: float, *roots: float) -> Row:
    """Coefficients of θ¹ to θ⁴ in factor · Π (θ - root)."""
    return tuple(factor * np.poly(roots)[::-1][1:])


def _quartic_with_pair(factor: float, roots: tuple[float, float], linear: float, constant: float) -> Row:
    """Coefficients of θ¹ to θ⁴ in factor · Π (θ - root) · (θ² + linear θ + constant)."""
    return tuple(factor * np.polymul(np.poly(roots), [1.0, linear, constant])[::-1][1:])


_TSIT5_B = (
    0.09646076681806523,
    0.01,
    0.4798896504144996,
    1.379008574103742,
    -3.290069515436081,
    2.324710524099774,
)

# Tsitouras (2011), with its own dense output of order 4.
TSIT5 = Tableau(
    name="tsit5",
    order=5,
    error_order=4,
    c=(0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
    a=(
        (),
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (
            5.86145544294642,
            -12.92096931784711,
            8.159367898576159,
            -0.071584973281401,
            -0.028269050394068383,
        ),
        _TSIT5_B,
    ),
    b=(*_TSIT5_B, 0.0),
    b_error=(
        -0.00178001105222577714,
        -0.0008164344596567469,
        0.007880878010261995,
        -0.1447110071732629,
        0.5823571654525552,
        -0.45808210592918697,
        0.015151515151515152,
    ),
    interpolant=(
        _quartic_with_pair(
            -1.0530884977290216, (0.0, 1.3299890189751412), -1.4364028541716351, 0.7139816917074209
        ),
        _quartic_with_pair(0.1017, (0.0, 0.0), -2.1966568338249754, 1.2949852507374631),
        _quartic_with_pair(2.490627285651252793, (0.0, 0.0), -2.38535645472061657, 1.57803468208092486),
        _quartic(-16.54810288924490272, 0.0, 0.0, 1.21712927295533244, 0.61620406037800089),
        _quartic(47.37952196281928122, 0.0, 0.0, 1.203071208372362603, 0.658047292653547382),
        _quartic(-34.87065786149660974, 0.0, 0.0, 1.2, 0.666666666666666667),
        _quartic(2.5, 0.0, 0.0, 1.0, 0.6),
    ),
)

# Prince and Dormand (1981).
DOPRI8 = replace(
    _first_same_as_last("dopri8", 8, dopri8.C, dopri8.A, dopri8.B, dopri8.B_EMBEDDED, error_order=7),
    interpolant=dopri8.INTERPOLANT,
)

_ALL = (EULER, MIDPOINT, HEUN2, HEUN3, RK4, ADAPTIVE_HEUN, FEHLBERG2, BOSH3, DOPRI5, TSIT5, DOPRI8)

TABLEAUS: dict[str, Tableau] = {tableau.name: tableau for tableau in _ALL}
