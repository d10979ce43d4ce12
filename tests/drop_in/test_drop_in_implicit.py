"""Implicit fixed-step methods by torchdiffeq's names, beside SciPy's solution of the textbook's stage equations.

torchdiffeq has them since after 0.2.5, so that no release can be compared with; and both nodes of its `gl4` are the
first one, which costs it two orders where the field depends on time. Here the textbook is the truth.
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
import torch
from scipy.optimize import root
from test_drop_in_values import DOWN, TOLERANCE, UP, Field, Pair, assert_same, both_ways, states
from test_drop_in_values import values_and_gradients as gradients_of
from tolerances import EXACT_GRADIENT, TIGHT

import latentode.drop_in as ours
from latentode.drop_in.request import method_named
from latentode.solvers import IMPLICIT_TABLEAUS, SOLVERS

R2, R3, R6, R15 = sqrt(2), sqrt(3), sqrt(6), sqrt(15)
G = 1 - R2 / 2

# name: rows of (c, a...), and b. Hairer, Wanner: Solving Ordinary Differential Equations II, IV.5 and IV.6.
TEXTBOOK = {
    "implicit_euler": ([(1, 1)], [1]),
    "implicit_midpoint": ([(1 / 2, 1 / 2)], [1]),
    "trapezoid": ([(0, 0, 0), (1, 1 / 2, 1 / 2)], [1 / 2, 1 / 2]),
    "gl4": (
        [(1 / 2 - R3 / 6, 1 / 4, 1 / 4 - R3 / 6), (1 / 2 + R3 / 6, 1 / 4 + R3 / 6, 1 / 4)],
        [1 / 2, 1 / 2],
    ),
    "gl6": (
        [
            (1 / 2 - R15 / 10, 5 / 36, 2 / 9 - R15 / 15, 5 / 36 - R15 / 30),
            (1 / 2, 5 / 36 + R15 / 24, 2 / 9, 5 / 36 - R15 / 24),
            (1 / 2 + R15 / 10, 5 / 36 + R15 / 30, 2 / 9 + R15 / 15, 5 / 36),
        ],
        [5 / 18, 4 / 9, 5 / 18],
    ),
    "radauIIA3": ([(1 / 3, 5 / 12, -1 / 12), (1, 3 / 4, 1 / 4)], [3 / 4, 1 / 4]),
    "radauIIA5": (
        [
            (2 / 5 - R6 / 10, (88 - 7 * R6) / 360, (296 - 169 * R6) / 1800, (-2 + 3 * R6) / 225),
            (2 / 5 + R6 / 10, (296 + 169 * R6) / 1800, (88 + 7 * R6) / 360, (-2 - 3 * R6) / 225),
            (1, (16 - R6) / 36, (16 + R6) / 36, 1 / 9),
        ],
        [(16 - R6) / 36, (16 + R6) / 36, 1 / 9],
    ),
    "sdirk2": ([(G, G, 0), (1, 1 - G, G)], [1 - G, G]),
    "trbdf2": ([(0, 0, 0, 0), (2 * G, G, G, 0), (1, R2 / 4, R2 / 4, G)], [R2 / 4, R2 / 4, G]),
}
STAGE = 1e-11  # SciPy's solution of the stage equations, beside Newton's iteration down to rounding
GRIDS = {
    "its times": {},
    "step_size": {"step_size": 0.13},
    "cubic": {"step_size": 0.13, "interp": "cubic"},
    "perturb": {"perturb": True},
    "constructor": {
        "grid_constructor": lambda func, y0, t: torch.cat([t[:1], (t[:1] + t[-1:]) / 2, t[-1:]]),
    },
}
every_method = pytest.mark.parametrize("method", TEXTBOOK)
every_interface = pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])


def textbook_step(method, slope, t, y, h):
    """y(t + h) (D,), with the stage equations handed to SciPy; `slope` takes and gives numpy arrays."""
    rows, b = TEXTBOOK[method]
    c, a = np.array([row[0] for row in rows]), np.array([row[1:] for row in rows])

    def residual(k):
        k = k.reshape(len(c), -1)
        return (k - [slope(t + node * h, y + h * weights @ k) for node, weights in zip(c, a)]).ravel()

    found = root(residual, np.tile(slope(t, y), len(c)), tol=1e-14)
    return y + h * np.array(b) @ found.x.reshape(len(c), -1)


def textbook(method, field, y0, t, options):
    """The drop-in's answer, written down for one tensor state."""

    @torch.no_grad()
    def slope(time, y):
        answer = field(torch.as_tensor(time, dtype=torch.float64), torch.as_tensor(y).reshape(y0.shape))
        return answer.numpy().ravel()

    if "step_size" in options:
        way = t[-1] - t[0]
        grid = t[0] + way.sign() * options["step_size"] * torch.arange(
            int(way.abs() // options["step_size"]) + 1
        )
        grid = torch.cat([grid, t[-1:]]).tolist()
    else:
        grid = options.get("grid_constructor", lambda func, y0, t: t)(field, y0, t).tolist()
    times, y, answers = t.tolist(), y0.numpy().ravel(), [y0.numpy().ravel()]
    for begin, end in pairwise(grid):
        h, y1 = end - begin, textbook_step(method, slope, begin, y, end - begin)
        for time in times:
            theta = (time - begin) / h
            if not 0 < theta <= 1:
                continue
            if "interp" in options:
                value = (1 - theta) ** 2 * (1 + 2 * theta) * y + theta**2 * (3 - 2 * theta) * y1
                value = value + h * theta * (1 - theta) ** 2 * slope(begin, y)
                value = value - h * theta**2 * (1 - theta) * slope(end, y1)
            else:
                value = y + theta * (y1 - y)
            answers.append(value)
        y = y1
    return torch.from_numpy(np.stack(answers)).reshape(len(t), *y0.shape)


def test_the_textbook_has_every_implicit_method_of_fixed_steps():
    fixed = {name for name in IMPLICIT_TABLEAUS if method_named(name)[2]}
    assert fixed == set(TEXTBOOK)


@every_method
@both_ways
@pytest.mark.parametrize("options", GRIDS.values(), ids=GRIDS)
def test_the_numbers_are_the_textbook_s(method, t, options):
    field, y0 = Field(), states()[0]
    y = ours.odeint(field, y0, t, method=method, options=options)
    torch.testing.assert_close(y, textbook(method, field, y0, t, options), rtol=STAGE, atol=STAGE)


def test_gl4_looks_at_both_of_its_nodes():
    """y' = cos t is a quadrature; with both nodes at the first one it would be of order 1 only."""
    t = torch.tensor([0.2, 1.0], dtype=torch.float64)
    y = ours.odeint(lambda t, y: torch.cos(t) + 0 * y, torch.zeros(1, dtype=torch.float64), t, method="gl4")
    nodes, weights = np.polynomial.legendre.leggauss(2)
    wanted = 0.4 * weights @ np.cos(0.6 + 0.4 * nodes)
    assert y[-1].item() == pytest.approx(wanted, abs=STAGE)


@every_method
@pytest.mark.parametrize(("interface", "t"), [("odeint", UP[:3]), ("odeint_adjoint", DOWN[:3])])
def test_tuples_and_their_gradients(method, interface, t):
    """Beside finite differences of the computed solution, in a direction of everything at once."""
    solve, options = (  # no time on a knot but the ends: there the solution has a kink
        getattr(ours, interface),
        {"method": method, "options": {"step_size": 0.13, "interp": "cubic"}},
    )
    _, gradients = gradients_of(solve, Pair(), states(), t, **options)
    generator = torch.Generator().manual_seed(3)
    way = [torch.randn(g.shape, dtype=g.dtype, generator=generator) for g in gradients]

    def loss(step):
        a, b, times, rate = (
            x + step * w for x, w in zip([*states(), t, torch.tensor(0.6, dtype=t.dtype)], way)
        )
        field = Pair()
        field.rate.data = rate
        weight = torch.arange(1.0, len(t) + 1, dtype=torch.float64)
        with torch.no_grad():
            y = ours.odeint(field, (a, b), times, **options)
        return sum((weight * part.square().flatten(1).sum(1)).sum().item() for part in y)

    h = 1e-4  # error h⁴ of the five-point formula, and 1e-16 / h of rounding
    numeric = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    analytic = sum((g * w).sum().item() for g, w in zip(gradients, way))
    assert analytic == pytest.approx(numeric, rel=TIGHT)


@every_method
@every_interface
def test_complex_states(method, interface):
    """y' = (i t - 1/2) y by the method's own steps: the imaginary unit written as a matrix gives the same numbers."""
    y0, t = torch.tensor([1.0 + 0.5j, -2.0j], dtype=torch.complex128), UP
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    grids = {"method": method, "options": {"step_size": 0.2}}
    given = {"adjoint_params": ()} if interface == "odeint_adjoint" else {}
    z0, x0 = y0.clone().requires_grad_(), torch.view_as_real(y0).clone().requires_grad_()
    z = getattr(ours, interface)(lambda t, z: (1j * t - 0.5) * z, z0, t, **grids, **given)
    x = ours.odeint(lambda t, x: t * x @ turn.T - 0.5 * x, x0, t, **grids)
    torch.testing.assert_close(torch.view_as_real(z), x, rtol=STAGE, atol=STAGE)
    (of_z,) = torch.autograd.grad((z * (1 + 2j)).real.square().sum(), z0)
    (of_x,) = torch.autograd.grad((x[..., 0] - 2 * x[..., 1]).square().sum(), x0)
    torch.testing.assert_close(torch.view_as_real(of_z), of_x, rtol=STAGE, atol=STAGE)


@pytest.mark.parametrize(
    ("method", "interface", "t"),  # each pair of two of them
    [
        ("kvaerno3", "odeint", UP),
        ("kvaerno3", "odeint_adjoint", DOWN),
        ("kvaerno5", "odeint", DOWN),
        ("kvaerno5", "odeint_adjoint", UP),
    ],
    ids=["kvaerno3-up", "kvaerno3-adjoint-down", "kvaerno5-down", "kvaerno5-adjoint-up"],
)
def test_adaptive_implicit_methods_agree_with_an_explicit_one(method, t, interface):
    tolerance = 1e-6 if method == "kvaerno3" else 1e-8
    options = {"method": method, "rtol": tolerance, "atol": tolerance}
    y, gradients = gradients_of(getattr(ours, interface), Field(), states()[0], t, **options)
    reference = gradients_of(ours.odeint, Field(), states()[0], t, rtol=TOLERANCE, atol=TOLERANCE)
    assert_same(y, reference[0], 100 * tolerance)
    assert_same(gradients, reference[1], 1e4 * tolerance)


@pytest.mark.parametrize("method", ["gl4", "radauIIA5", "trapezoid"])
def test_an_implicit_method_on_the_way_back(method):
    size = 0.005 if method == "trapezoid" else 0.1
    options = {"adjoint_method": method, "adjoint_options": {"step_size": size}}
    _, gradients = gradients_of(
        ours.odeint_adjoint, Field(), states()[0], UP[[0, 3]], rtol=TOLERANCE, atol=TOLERANCE, **options
    )
    _, reference = gradients_of(ours.odeint, Field(), states()[0], UP[[0, 3]], rtol=TOLERANCE, atol=TOLERANCE)
    assert_same(gradients, reference, 10 * EXACT_GRADIENT)


def test_a_stiff_field_in_few_steps():
    """y' = -1000 (y - cos t), from far away: dopri5 needs 3600 evaluations to be stable."""
    y0, t = torch.tensor([5.0], dtype=torch.float64), torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    for options in (
        {"method": "kvaerno5", "rtol": 1e-6, "atol": 1e-6},
        {"method": "radauIIA5", "options": {"step_size": 0.1}},
    ):
        count = []

        def field(t, y, count=count):
            count.append(t)
            return -1000 * (y - torch.cos(t))

        y = ours.odeint(field, y0, t, **options)
        wanted = (1e6 * torch.cos(t[1:]) + 1e3 * torch.sin(t[1:])) / (1e6 + 1)
        torch.testing.assert_close(y[1:, 0], wanted, rtol=1e-4, atol=0)
        assert len(count) < 1500


@both_ways
@pytest.mark.parametrize(
    "method", [name for name in SOLVERS if method_named(name)[2] and "adams" not in name]
)
def test_perturb_lets_the_field_jump_at_the_knots(method, t):
    """y' = 1 before 1.1, which is one of the times, and -2 from there on: exact for every method of single steps."""
    options = {"perturb": True, "interp": "cubic"}
    y = ours.odeint(
        lambda t, y: torch.where(t < 1.1, 1.0, -2.0) + 0 * y, t[:1], t, method=method, options=options
    )
    wanted = torch.where(t < 1.1, t, 1.1 - 2 * (t - 1.1))
    torch.testing.assert_close(y[:, 0], wanted - wanted[0] + t[0], rtol=STAGE, atol=STAGE)
