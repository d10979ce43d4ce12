"""Initial value problems whose solution is known: by a closed form, or by SciPy at tight tolerance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp as scipy_solve_ivp
from torch import Tensor


@dataclass(frozen=True)
class InitialValueProblem:
    """dy/dt = field(t, y) from y0 (N, D) at t0 until t1; `field` takes t (n,) and y (n, D)."""

    name: str
    field: Callable[[Tensor, Tensor], Tensor]
    y0: tuple[tuple[float, ...], ...]
    t0: float
    t1: float
    closed_form: Callable[[Tensor, Tensor], Tensor] | None = None  # (t (T,), y0 (N, D)) -> (N, T, D)

    def state(self, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.tensor(self.y0, dtype=dtype)

    def truth(self, t: Tensor, method: str = "DOP853") -> Tensor:
        """Solution (N, T, D) in float64 at increasing times t (T,)."""
        if self.closed_form is not None:
            return self.closed_form(t, self.state())

        def one(time: float, y: np.ndarray) -> np.ndarray:
            return self.field(torch.tensor([time], dtype=torch.float64), torch.from_numpy(y)[None])[0].numpy()

        solved = [
            scipy_solve_ivp(one, (self.t0, self.t1), y, method, t.numpy(), rtol=1e-10, atol=1e-10).y.T
            for y in self.state().numpy()
        ]
        return torch.from_numpy(np.stack(solved))


def _turned(y0: Tensor, angle: Tensor) -> Tensor:
    """y0 (N, 2) turned by angle (N, T) -> (N, T, 2)."""
    c, s, x, y = torch.cos(angle), torch.sin(angle), y0[:, None, 0], y0[:, None, 1]
    return torch.stack([c * x - s * y, s * x + c * y], dim=2)


def _quarter_turn(y: Tensor) -> Tensor:
    return torch.stack([-y[:, 1], y[:, 0]], dim=1)


def _spiral(t: Tensor, y: Tensor) -> Tensor:
    return 2.0 * _quarter_turn(y) - 0.1 * y


def _spiral_closed_form(t: Tensor, y0: Tensor) -> Tensor:
    return torch.exp(-0.1 * t)[:, None] * _turned(y0, 2.0 * t.expand(len(y0), -1))


def _wheel(t: Tensor, y: Tensor) -> Tensor:
    return (y.square().sum(dim=1) * (1.5 + torch.cos(t)))[:, None] * _quarter_turn(y)


def _wheel_closed_form(t: Tensor, y0: Tensor) -> Tensor:
    return _turned(y0, y0.square().sum(dim=1, keepdim=True) * (1.5 * t + torch.sin(t)))


def _riccati(t: Tensor, y: Tensor) -> Tensor:
    return y**2 * torch.cos(t)[:, None]


def _riccati_closed_form(t: Tensor, y0: Tensor) -> Tensor:
    return y0[:, None] / (1 - y0[:, None] * torch.sin(t)[:, None])


# linear, autonomous: turns at rate 2 and shrinks
SPIRAL = InitialValueProblem("spiral", _spiral, ((1.0, 0.0), (0.5, -2.0)), 0.0, 3.0, _spiral_closed_form)

# nonlinear, non-autonomous: turns at rate |y|² (1.5 + cos t)
WHEEL = InitialValueProblem("wheel", _wheel, ((1.0, 0.0), (0.6, -0.7)), 0.0, 2.0, _wheel_closed_form)

# four coordinates mixed by a rotation: WHEEL in the first two, a fast linear system in the others
_MIX = torch.linalg.qr(
    torch.tensor(
        [[1.0, 2.0, 0.5, -1.0], [0.3, -1.0, 1.0, 2.0], [2.0, 0.2, 1.0, 0.5], [-0.7, 1.0, 2.0, 1.0]],
        dtype=torch.float64,
    )
)[0]


def stiff_wheel(damping: float, frequency: float = 0.0) -> InitialValueProblem:
    """WHEEL beside a fast part at rest, u' = -damping u + frequency (quarter turn of u), seen in mixed coordinates.

    Nothing of the fast part is in the solution, but no step beyond its bound of stability may be taken.
    """

    def field(t: Tensor, y: Tensor) -> Tensor:
        slow, fast = (y @ _MIX).split(2, dim=1)
        return torch.cat([_wheel(t, slow), frequency * _quarter_turn(fast) - damping * fast], dim=1) @ _MIX.T

    def closed_form(t: Tensor, y0: Tensor) -> Tensor:
        slow = _wheel_closed_form(t, (y0 @ _MIX)[:, :2])
        return torch.cat([slow, torch.zeros_like(slow)], dim=2) @ _MIX.T

    at_rest = torch.cat([WHEEL.state(), torch.zeros(2, 2, dtype=torch.float64)], dim=1) @ _MIX.T
    y0 = tuple(map(tuple, at_rest.tolist()))
    return InitialValueProblem("stiff wheel", field, y0, WHEEL.t0, WHEEL.t1, closed_form)


# nonlinear, non-autonomous, one dimension: y' = y² cos t
RICCATI = InitialValueProblem("Riccati", _riccati, ((0.5,), (-0.8,)), 0.0, 4.0, _riccati_closed_form)


def _forced(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack([y[:, 1], -4.0 * y[:, 0] - 0.3 * y[:, 1] + torch.sin(3.0 * t)], dim=1)


def _van_der_pol(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack([y[:, 1], (1 - y[:, 0] ** 2) * y[:, 1] - y[:, 0]], dim=1)


def _lorenz(t: Tensor, y: Tensor) -> Tensor:
    x, u, z = y.unbind(dim=1)
    return torch.stack([10 * (u - x), x * (28 - z) - u, x * u - 8 / 3 * z], dim=1)


def _brusselator(t: Tensor, y: Tensor) -> Tensor:
    u, v = y.unbind(dim=1)
    return torch.stack([1 + u**2 * v - 4 * u, 3 * u - u**2 * v], dim=1)


FORCED = InitialValueProblem("forced linear", _forced, ((1.0, 0.0), (-0.5, 2.0)), 0.0, 10.0)
VAN_DER_POL = InitialValueProblem("Van der Pol", _van_der_pol, ((2.0, 0.0), (0.5, 0.5)), 0.0, 10.0)
LORENZ = InitialValueProblem("Lorenz", _lorenz, ((1.0, 1.0, 20.0), (-2.0, 3.0, 15.0)), 0.0, 1.0)
BRUSSELATOR = InitialValueProblem("Brusselator", _brusselator, ((1.5, 3.0), (1.0, 1.0)), 0.0, 10.0)

WITH_CLOSED_FORM = (SPIRAL, WHEEL, RICCATI)
WITH_SCIPY = (FORCED, VAN_DER_POL, LORENZ, BRUSSELATOR)
