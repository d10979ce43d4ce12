"""Every gradient of `odeint` and `odeint_adjoint` beside finite differences: parts of y0, times and parameters."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import latentode.drop_in as ours

# steps of 1e-4 in solves to 1e-11: 1e-7 of noise, 1e-8 of curvature, and 1e-6 where the dense output has a seam
DIFFERENCES = {"eps": 1e-4, "atol": 3e-6, "rtol": 1e-5}
TOLERANCES = {"rtol": 1e-11, "atol": 1e-11}
METHODS = {  # no time but the ends on a knot: there the interpolated solution has a kink
    "dopri5": TOLERANCES,
    "rk4": {"options": {"step_size": 0.11, "interp": "cubic"}},
    "gl4": {"options": {"step_size": 0.17, "interp": "cubic"}},
    "implicit_adams": {"options": {"step_size": 0.037}},
}
UP = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)


def leaves(dtype):
    generator = torch.Generator().manual_seed(5)
    shapes = [(2,), (1, 2), (2, 2), ()]  # a and b of the state; weight and rate of the field
    return [torch.randn(shape, dtype=dtype, generator=generator).requires_grad_() for shape in shapes]


def solution(interface, method, a, b, t, weight, rate):
    """A tuple of two coupled parts; the field is analytic, and moves with time."""

    def field(t, y):
        a, b = y
        return torch.sin(weight @ a) + torch.cos(rate * t) * b[0], (a * b).sum() * 0.3 - rate * b

    options = {"adjoint_params": (weight, rate)} if interface == "odeint_adjoint" else {}
    return getattr(ours, interface)(field, (a, b), t, method=method, **METHODS[method], **options)


TYPES = {"real up": (torch.float64, UP), "complex down": (torch.complex128, UP.flip(0))}
OF_EACH_METHOD = {  # all four for one of them, each pair for the others
    "dopri5": [(interface, kind) for interface in ("odeint", "odeint_adjoint") for kind in TYPES],
    "rk4": [("odeint", "real up"), ("odeint_adjoint", "complex down")],
    "gl4": [("odeint", "complex down"), ("odeint_adjoint", "real up")],
    "implicit_adams": [("odeint", "real up"), ("odeint_adjoint", "complex down")],
}


@pytest.mark.parametrize(
    ("method", "interface", "kind"),
    [(method, *chosen) for method, cases in OF_EACH_METHOD.items() for chosen in cases],
)
def test_tuples(interface, method, kind):
    dtype, t = TYPES[kind]
    a, b, weight, rate = leaves(dtype)
    inputs = (a, b, t.clone().requires_grad_(), weight, rate)
    assert gradcheck(
        lambda *given: solution(interface, method, *given), inputs, **DIFFERENCES, fast_mode=True
    )


@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
def test_every_entry_of_the_jacobian(interface):
    a, b, weight, rate = leaves(torch.float64)
    inputs = (a, b, UP.clone().requires_grad_(), weight, rate)
    assert gradcheck(lambda *given: solution(interface, "dopri5", *given), inputs, **DIFFERENCES)


@pytest.mark.parametrize("method", ["rk4", "gl4"])
@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
def test_second_derivatives_through_fixed_steps(method, interface):
    a, b, weight, rate = leaves(torch.float64)
    inputs = (a, b, UP.clone().requires_grad_(), weight, rate)
    assert gradgradcheck(
        lambda *given: solution(interface, method, *given), inputs, **DIFFERENCES, fast_mode=True
    )
