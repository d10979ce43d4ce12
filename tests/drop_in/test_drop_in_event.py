"""`odeint_event`, and `odeint` with an event function: a falling ball, beside torchdiffeq, in all directions."""

from __future__ import annotations

import re

import pytest
import torch
import torchdiffeq
from tolerances import EXACT_GRADIENT, TIGHT
from torch import nn

import latentode.drop_in as ours

T0 = torch.tensor(0.5, dtype=torch.float64)


class Ball(nn.Module):
    """Height and speed under gravity, a tuple; the floor is at `floor`."""

    def __init__(self):
        super().__init__()
        self.gravity = nn.Parameter(torch.tensor(9.81, dtype=torch.float64))
        self.floor = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, t, y):
        height, speed = y
        return speed, -self.gravity * torch.ones_like(height)

    def landing(self, t, y):
        return y[0] - self.floor

    def start(self):
        return (
            torch.tensor([10.0], dtype=torch.float64, requires_grad=True),
            torch.tensor([2.0], dtype=torch.float64, requires_grad=True),
        )

    def truth(self, height, speed, t0, sign=1.0):
        """Time of landing, and speed there; the earlier root for sign -1."""
        root = torch.sqrt(speed**2 + 2 * self.gravity * (height - self.floor))
        return t0 + (speed + sign * root) / self.gravity, -sign * root


every_interface = pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
every_method = pytest.mark.parametrize(
    "options",
    [{}, {"method": "rk4", "options": {"step_size": 0.05, "interp": "cubic"}}],
    ids=["dopri5", "rk4"],
)


@every_interface
@every_method
@pytest.mark.parametrize("reverse", [False, True])
def test_a_ball_lands(interface, options, reverse):
    ball, t0 = Ball(), T0.clone().requires_grad_()
    height, speed = ball.start()
    time, (heights, speeds) = ours.odeint_event(
        ball,
        (height, speed),
        t0,
        event_fn=ball.landing,
        reverse_time=reverse,
        odeint_interface=getattr(ours, interface),
        **options,
    )
    truth = ball.truth(height, speed, t0, sign=-1.0 if reverse else 1.0)
    assert time.shape == ()
    assert heights.shape == (2, 1)
    torch.testing.assert_close(time, truth[0][0], rtol=TIGHT, atol=0)
    torch.testing.assert_close(speeds[1], truth[1], rtol=TIGHT, atol=0)
    torch.testing.assert_close(
        heights.flatten(), torch.stack([height[0], ball.floor]), rtol=TIGHT, atol=TIGHT
    )
    inputs = [height, speed, t0, ball.gravity, ball.floor]
    for mine, exact in ((time, truth[0][0]), (speeds[1, 0], truth[1][0])):
        got = torch.autograd.grad(mine, inputs, retain_graph=True)
        wanted = torch.autograd.grad(exact, inputs, retain_graph=True, allow_unused=True)
        for g, w in zip(got, wanted):
            torch.testing.assert_close(
                g, torch.zeros_like(g) if w is None else w, rtol=EXACT_GRADIENT, atol=TIGHT
            )


@every_method
def test_beside_torchdiffeq(options):
    found = []
    for library in (ours, torchdiffeq):
        ball = Ball()
        state = ball.start()
        time, (_, speeds) = library.odeint_event(ball, state, T0, event_fn=ball.landing, **options)
        found.append([time, speeds, *torch.autograd.grad(time + speeds[1, 0], [*state, ball.gravity])])
    for mine, other in zip(*found):
        torch.testing.assert_close(mine, other, rtol=EXACT_GRADIENT, atol=TIGHT)


@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
def test_odeint_itself_gives_a_time_and_two_states(interface):
    ball = Ball()
    t = torch.tensor([0.5, 1.0], dtype=torch.float32)
    options = {"rtol": 1e-7, "atol": 1e-9}
    mine, other = (
        getattr(library, interface)(ball, ball.start(), t, event_fn=ball.landing, **options)
        for library in (ours, torchdiffeq)
    )
    assert mine[0].dtype == torch.float32
    assert mine[0].shape == other[0].shape
    torch.testing.assert_close(mine[0], other[0])
    torch.testing.assert_close(mine[1], other[1], rtol=1e-6, atol=1e-6)


def test_one_of_many_events_and_complex_states():
    """|exp((0.1 + i) t)| reaches 2, or its real part 0, whichever comes first."""
    y0 = torch.tensor([1.0 + 0j], dtype=torch.complex128)
    t0 = torch.tensor(0.0, dtype=torch.float64)
    time, y = ours.odeint_event(
        lambda t, y: (0.1 + 1j) * y, y0, t0, event_fn=lambda t, y: torch.cat([2 - y.abs(), y.real])
    )
    assert time.item() == pytest.approx(torch.pi / 2, abs=1e-6)
    assert y.shape == (2, 1)
    assert y.dtype == torch.complex128


def test_an_event_at_the_start():
    state = torch.tensor([0.0], dtype=torch.float64)
    for options in ({}, {"method": "euler", "options": {"step_size": 0.1}}):
        time, y = ours.odeint_event(lambda t, y: y + 1, state, T0, event_fn=lambda t, y: y[0], **options)
        assert time == T0
        assert torch.equal(y, torch.zeros(2, 1, dtype=torch.float64))


def test_a_far_event_and_times_to_land_on():
    calls = []

    def field(t, y):
        calls.append(t.item())
        return torch.where(t < 600.5, 0.0, torch.ones_like(y)) * 1e-3

    y0 = torch.zeros(1, dtype=torch.float64)
    time, _ = ours.odeint_event(
        field, y0, T0, event_fn=lambda t, y: y[0] - 1.0, options={"jump_t": torch.tensor([600.5])}
    )
    assert time.item() == pytest.approx(1600.5, rel=1e-9)
    assert len(calls) < 1000


def test_callbacks_are_called_once_per_step():
    ball, starts = Ball(), []
    ball.callback_accept_step = lambda t, y, dt: starts.append(t.item())
    ours.odeint_event(ball, ball.start(), T0, event_fn=ball.landing)
    assert len(starts) == len(set(starts)) > 0


def test_what_cannot_be_done():
    def refused(message, error):
        return pytest.raises(error, match=re.escape(message))

    ball = Ball()
    with refused("with event_fn, t must have two entries", ValueError):
        ours.odeint(ball, ball.start(), torch.tensor([0.0, 1.0, 2.0]), event_fn=ball.landing)
    with refused("fixed steps to an event need a positive step_size in options; got None", AssertionError):
        ours.odeint_event(ball, ball.start(), T0, event_fn=ball.landing, method="euler")
    with refused("event_fn(t, y) must return a tensor of real numbers; got float", ValueError):
        ours.odeint_event(ball, ball.start(), T0, event_fn=lambda t, y: 1.0)
    with refused("[MAX_STEPS]", RuntimeError):
        ours.odeint_event(
            lambda t, y: torch.cos(t) * torch.ones_like(y),
            torch.zeros(1, dtype=torch.float64),
            T0,
            event_fn=lambda t, y: y[0] - 5,
            options={"max_num_steps": 50},
        )
    time, _ = ours.odeint_event(ball, ball.start(), T0, event_fn=ball.landing)
    with pytest.raises(RuntimeError, match="the time of an event has first derivatives only"):
        torch.autograd.grad(time, ball.gravity, create_graph=True)
