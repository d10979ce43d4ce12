"""The kernels' functions against mpmath and NumPy, in units in the last place, for every set of instructions."""

from __future__ import annotations

import math
import sys

import mpmath
import numpy as np
import pytest
import torch
from instruction_sets import NAMES, libraries

from latentode.native.solve import evaluate

FUNCTIONS = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "tanh": mpmath.tanh,
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "relu": lambda x: max(x, mpmath.mpf(0)),
}
UNITS = {"relu": 0, "exp": 3, "tanh": 5, "expm1": 4, "elu": 4, "softplus": 4, "silu": 5}  # in the last place
LIMITS = {  # at -inf and inf
    "tanh": (-1, 1), "softplus": (0, math.inf), "elu": (-1, math.inf), "relu": (0, math.inf),
    "silu": (0, math.inf), "exp": (0, math.inf), "expm1": (-1, math.inf),
}  # fmt: skip


@pytest.fixture(params=NAMES)
def isa(request, monkeypatch):
    """The kernels are those of one set of instructions."""
    if request.param not in libraries():
        pytest.skip(f"this machine does not run {request.param}")
    loader = sys.modules["latentode.native.library"]  # the package has a function of that name
    monkeypatch.setattr(loader, "_loaded", lambda: loader._Loaded(libraries()[request.param], None))


def arguments(dtype: torch.dtype) -> torch.Tensor:
    """Of all sizes, either sign, close together near 0."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-12, math.log10(60), 120, dtype=torch.float64)
    near = 4 * torch.randn(150, dtype=torch.float64, generator=generator)
    return torch.cat([-sizes, sizes, near, torch.zeros(1, dtype=torch.float64)]).to(dtype)


def exact(function: str, x: torch.Tensor) -> list[mpmath.mpf]:
    with mpmath.workdps(40):
        return [FUNCTIONS[function](mpmath.mpf(v)) for v in x.tolist()]


def units_apart(found: torch.Tensor, expected: list[mpmath.mpf]) -> float:
    nearest = np.array([float(e) for e in expected]).astype(found.numpy().dtype)
    unit = np.spacing(np.maximum(np.abs(nearest), np.finfo(nearest.dtype).tiny))
    with mpmath.workdps(40):
        return max(
            float(abs(mpmath.mpf(f) - e) / mpmath.mpf(float(u)))
            for f, e, u in zip(found.tolist(), expected, unit)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions(function, dtype, isa):
    x = arguments(dtype)
    assert units_apart(evaluate(function, x), exact(function, x)) <= UNITS[function] + 0.5  # of rounding


def test_logarithm(isa):
    x = torch.logspace(-290, 300, 400, dtype=torch.float64)
    x = torch.cat([x, 1 + torch.linspace(-0.5, 1, 101, dtype=torch.float64)])
    with mpmath.workdps(40):
        assert units_apart(evaluate("log", x), [mpmath.log(mpmath.mpf(v)) for v in x.tolist()]) <= 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("function", LIMITS)
def test_limits(function, dtype, isa):
    below, above = LIMITS[function]
    far = torch.tensor([-math.inf, math.inf, -1e30, 1e30, math.nan], dtype=dtype)
    found = evaluate(function, far).tolist()
    assert math.isnan(found[4])
    for value in (found[0], found[2]):
        if function != "silu":  # -inf · 0: not finite is right too
            assert value == pytest.approx(below, abs=1e-7 if below else 1e-36)
    for value in (found[1], found[3]):
        assert value == pytest.approx(above, abs=1e-7) or (above == math.inf and value > 1e29)


@pytest.mark.parametrize("n", [1, 3, 15, 16, 17])
def test_any_number_of_arguments(n, isa):
    x = torch.linspace(-2, 2, n)
    torch.testing.assert_close(evaluate("tanh", x), torch.tanh(x))
