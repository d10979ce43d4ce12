"""What drives the latent state beside itself: inputs, event rates, penalties; against closed forms and SciPy."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import nn

from latentode.exceptions import SolverError
from latentode.gradients import GRADIENTS
from latentode.models.latent_ode import LatentODE, LossOptions, SolveOptions, inputs_of
from latentode.models.regularisation import penalties
from latentode.nn.decoders import MLPDecoder
from latentode.nn.encoders import GRUEncoder
from latentode.nn.fields import LinearField, MLPField
from latentode.nn.inputs import Inputs
from latentode.nn.likelihoods import GaussianLikelihood
from latentode.nn.normal import Normal
from latentode.series import ControlPaths, SeriesBatch, cut_pieces

EXACT = SolveOptions(rtol=1e-9, atol=1e-9)
SOLVED = 1e-7  # a hundred tolerances, over some hundred steps
K, N, L = 2, 3, 2


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Pushed(nn.Module):
    """dz/dt = -rate z + mass + u(t), with one covariate and one control."""

    time_dependent = False

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, t: torch.Tensor, z: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        return -self.rate * z + inputs.sum(1, keepdim=True)


class CalendarPushed(Pushed):
    """The same, and pushed by the clock itself."""

    time_dependent = True

    def forward(self, t: torch.Tensor, z: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(t, z, inputs) + torch.sin(t)[:, None]


class LogRate(nn.Module):
    """Log rate = scale * first state + shift: closed forms for exponential growth."""

    n_processes = 1

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.shift = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.scale * z[..., :1] + self.shift


class Drift(nn.Module):
    """dz/dt = speed: z grows in a straight line."""

    def __init__(self) -> None:
        super().__init__()
        self.speed = nn.Parameter(torch.tensor([0.4, -0.2], dtype=torch.float64))

    def forward(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return self.speed.expand_as(z)


class Reading(nn.Module):
    """A posterior that depends on all that is read."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(
        self, times: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor
    ) -> Normal:
        total = torch.where(mask, values, 0.0).sum((1, 2))
        mean = self.weight * total[:, None].expand(-1, L)
        return Normal(mean, torch.full_like(mean, 0.5))


def batch(interpolation: str = "linear") -> SeriesBatch:
    """Three series at times from 10 on, with knots around and beyond them."""
    times = 10 + torch.tensor([[0.0, 0.5, 1.2, 2.0], [0.0, 1.0, 1.5, 1.5], [0.0, 0.1, 0.2, 3.0]]).double()
    mask = torch.ones(N, 4, 1, dtype=torch.bool)
    mask[1, 3] = False
    knots = torch.tensor([9.0, 10.7, 11.9, 10.2, 10.0, 11.0, 12.0, 14.0]).double()
    controls = normal(8, 1, seed=3)
    paths = ControlPaths.of(knots, controls, torch.tensor([0, 3, 4, 8]), interpolation)
    values = torch.where(mask, normal(N, 4, 1, seed=4), 0.0)
    return SeriesBatch(times, values, mask, torch.tensor([4, 3, 4]), static=normal(N, 1, seed=5), paths=paths)


def model(field: nn.Module, intensity: Any = None, **options: Any) -> LatentODE:
    likelihood = GaussianLikelihood(1).double()
    decoder = MLPDecoder(L, 3, 1, generator=torch.Generator().manual_seed(0)).double()
    return LatentODE(
        Reading(), field, decoder, likelihood, SolveOptions(**{**vars(EXACT), **options}), intensity
    )


def pushed_by_hand(one: SeriesBatch, series: int, z0: np.ndarray, at: float, calendar: bool) -> np.ndarray:
    """SciPy's answer at `at` after the origin 10, its steps broken at the knots."""

    def slope(t: float, z: np.ndarray) -> np.ndarray:
        push = float(one.paths.at(torch.tensor([series]), torch.tensor([10.0 + t]).double())[0, 0])
        return -0.7 * z + push + float(one.static[series, 0]) + (math.sin(10.0 + t) if calendar else 0.0)

    ends = [
        0.0,
        *(
            float(k) - 10
            for k in one.paths.knots
            if 0 < abs(float(k) - 10) < abs(at) and (k > 10) == (at > 0)
        ),
        at,
    ]
    ends = sorted(set(ends), reverse=at < 0)
    for begin, end in pairwise(ends):
        inside = 1e-12 * (end - begin)  # a step of the controls belongs to the side that is being crossed
        z = integrate.solve_ivp(slope, (begin + inside, end - inside), z0, rtol=1e-10, atol=1e-12).y[:, -1]
        z0 = z
    return z0


@pytest.mark.parametrize("calendar", [False, True])
@pytest.mark.parametrize("interpolation", ["linear", "step"])
def test_a_field_is_driven_by_the_inputs_of_its_own_series(interpolation, calendar):
    one = batch(interpolation)
    origin = torch.full((N,), 10.0, dtype=torch.float64)
    z0 = normal(K, N, L, seed=6)
    times = torch.tensor([[0.5, 2.0, -0.8], [0.3, 1.5, -1.0], [3.0, 6.0, 0.9]]).double()
    made = model(CalendarPushed() if calendar else Pushed())
    found = made.trajectory(z0, times, origin, inputs_of(one, origin)).z
    for k, n, t in np.ndindex(K, N, 3):
        expected = pushed_by_hand(one, n, z0[k, n].numpy(), times[n, t].item(), calendar)
        # a jump of the controls is smeared over some millionths of the time, which are about 1e-4
        tolerance = 2e-4 if interpolation == "step" else 1e-6
        np.testing.assert_allclose(found[k, n, t].detach(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_all_gradients_see_the_driven_field(gradient):
    one, origin = batch(), torch.full((N,), 10.0, dtype=torch.float64)
    times = torch.tensor([[0.5, 2.0], [0.3, 1.5], [3.0, 0.9]]).double()
    z0 = normal(K, N, L, seed=6).requires_grad_()

    def slopes(name: str) -> tuple[torch.Tensor, ...]:
        made = model(Pushed(), LogRate(), gradient=name)
        found = made.trajectory(z0, times, origin, inputs_of(one, origin))
        total = found.z.square().sum() + found.expected_events.square().sum()
        return torch.autograd.grad(total, [z0, made.field.rate, made.intensity.scale, made.intensity.shift])

    for one_slope, other in zip(slopes(gradient), slopes("backprop")):
        torch.testing.assert_close(one_slope, other, rtol=1e-5, atol=1e-5)


def test_the_order_of_series_and_their_company_change_nothing():
    one, order = batch(), torch.tensor([2, 0])
    origin = torch.full((N,), 10.0, dtype=torch.float64)
    z0, times = normal(K, N, L), normal(N, 4, seed=1)
    made = model(Pushed())
    together = made.trajectory(z0, times, origin, inputs_of(one, origin)).z
    apart = made.trajectory(
        z0[:, order], times[order], origin[order], inputs_of(one.select(order), origin[order])
    ).z
    torch.testing.assert_close(apart, together[:, order], rtol=1e-9, atol=1e-9)


def test_expected_events_are_the_integral_of_the_rate():
    """log λ = s z + c on z = z0 + v t: ∫ λ = λ0 (exp(s v t) - 1) / (s v), also backwards."""
    made = model(Drift(), LogRate())
    z0, times = normal(K, N, L), normal(N, 4, seed=2)
    found = made.trajectory(z0, times, torch.zeros(N, dtype=torch.float64)).expected_events[..., 0]
    growth = 0.5 * 0.4
    expected = torch.exp(0.5 * z0[:, :, :1] + 0.3) * torch.expm1(growth * times) / growth
    torch.testing.assert_close(found.detach(), expected, rtol=SOLVED, atol=SOLVED)


def test_the_bound_counts_the_times_of_rows_after_the_first():
    """Against the sum of log rates at the rows minus the closed form of the integral, series by series."""
    one = batch()
    one = SeriesBatch(one.times, one.values, one.mask, one.lengths)
    piece = cut_pieces(one, "all")
    made = model(Drift(), LogRate())
    without = model(Drift())
    options, generator = LossOptions(), torch.Generator
    passage = made.passage(piece, options, generator().manual_seed(1))
    plain = without.passage(piece, options, generator().manual_seed(1))
    z0 = passage.z0[0, :, :1]
    later = piece.target.mask[..., 0] & (torch.arange(4) > 0)
    log_rates = 0.5 * (z0 + 0.4 * piece.target.times) + 0.3
    span = piece.target.times[:, -1:]
    area = torch.exp(0.5 * z0 + 0.3) * torch.expm1(0.2 * span) / 0.2
    expected = (log_rates * later).sum(1) - area[:, 0]
    torch.testing.assert_close((passage.log_lik - plain.log_lik)[0], expected, rtol=SOLVED, atol=SOLVED)


def test_the_encoder_reads_covariates_and_controls_beside_the_features():
    one = batch()
    origin = torch.tensor([10.0, 10.0, 10.0], dtype=torch.float64)
    piece = cut_pieces(one, "all")
    seen: list[tuple[torch.Tensor, ...]] = []
    made = model(Pushed())
    made.encoder.register_forward_hook(lambda module, read, answer: seen.append(read))
    made.posterior(piece.context, origin)
    _, values, mask, _ = seen[0]
    assert values.shape == (N, 4, 3)
    torch.testing.assert_close(values[:, :, 1], one.static.expand(-1, 4))
    for n in range(N):
        expected = one.paths.at(torch.full((4,), n), one.times[n])[:, 0]
        torch.testing.assert_close(values[n, :, 2], expected)
    assert mask[..., 1:].all(dim=-1).tolist() == (~one.padding).tolist()


def test_penalties_of_a_linear_field_are_its_norms():
    a = normal(L, L, seed=7)

    class Linear(nn.Module):
        def forward(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return z @ a.T

    z = normal(20_000, L, seed=8)
    found = penalties(Linear(), torch.zeros(20_000), z, None, torch.Generator().manual_seed(0), jacobian=True)
    assert found["kinetic"].item() == pytest.approx((z @ a.T).square().sum(1).mean().item())
    # a mean of 20,000 values whose spread is of the order of their mean
    assert found["jacobian"].item() == pytest.approx(a.square().sum().item(), rel=0.05)


@pytest.mark.parametrize("name", ["kinetic", "jacobian"])
def test_penalties_enter_the_loss_with_their_weight_and_have_exact_gradients(name):
    made = model(Pushed(), solver="rk4", step_size=0.05)  # smooth in the rate, unlike a choice of steps
    piece = cut_pieces(batch(), "all")

    def loss(weight: float) -> torch.Tensor:
        options = LossOptions(**{name: weight})
        return made.loss(piece, generator=torch.Generator().manual_seed(2), options=options).total

    found = made.loss(piece, generator=torch.Generator().manual_seed(2), options=LossOptions(**{name: 1.0}))
    assert (loss(2.0) - loss(1.0)).item() == pytest.approx(found.parts[name].item())
    made.zero_grad()
    loss(1.0).backward()
    rate, h = made.field.rate, 1e-5
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            rate.add_(sign * h)
        sides.append(loss(1.0).item())
        with torch.no_grad():
            rate.sub_(sign * h)
    assert rate.grad.item() == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-5)


def test_penalties_are_seen_without_gradients_too():
    made, piece = model(Pushed()), cut_pieces(batch(), "all")
    with torch.no_grad():
        found = made.loss(
            piece, generator=torch.Generator().manual_seed(2), options=LossOptions(kinetic=1.0, jacobian=1.0)
        )
    assert found.parts["jacobian"].item() == pytest.approx(
        2 * 0.7**2, rel=0.9
    )  # a noisy estimate of its norm
    assert not found.total.requires_grad


def test_measurement_errors_reach_the_likelihood():
    one = batch()
    made, options = model(Pushed()), LossOptions()

    def log_lik(errors: torch.Tensor | None) -> torch.Tensor:
        given = SeriesBatch(**{**vars(one), "errors": errors})
        return made.passage(cut_pieces(given, "all"), options, torch.Generator().manual_seed(3)).log_lik

    none, zero, large = (
        log_lik(None),
        log_lik(torch.zeros(N, 4, 1).double()),
        log_lik(torch.full((N, 4, 1), 3.0).double()),
    )
    torch.testing.assert_close(none, zero)
    assert not torch.allclose(none, large)


@pytest.mark.parametrize("dirt", [math.nan, 1e30])
def test_cells_that_were_not_observed_cannot_matter_with_inputs_and_events(dirt):
    clean = cut_pieces(batch(), "all")
    made = LatentODE(
        GRUEncoder(3, 4, L, generator=torch.Generator().manual_seed(0)).double(),
        Pushed(),
        MLPDecoder(L, 3, 1, generator=torch.Generator().manual_seed(0)).double(),
        GaussianLikelihood(1).double(),
        EXACT,
        LogRate(),
    )

    def found(piece) -> list[torch.Tensor]:
        made.zero_grad()
        loss = made.loss(piece, generator=torch.Generator().manual_seed(2), options=LossOptions(2)).total
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in made.parameters())]

    expected = found(clean)
    dirty = cut_pieces(batch(), "all")
    for part in (dirty.context, dirty.target):
        object.__setattr__(part, "values", torch.where(part.mask, part.values, dirt))
    for one, other in zip(found(dirty), expected):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_flow_that_leaves_the_numbers_is_an_error_with_the_series():
    field = LinearField(L, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        field.raw_damping.fill_(1.0)  # backwards e^1.3 per unit, for the 2,000 that times are held within
    made = model(field)
    times = torch.tensor([[0.0], [-1e9], [1e9]]).double()
    with pytest.raises(SolverError, match="series 'q': the states are not finite"):
        made.trajectory(torch.ones(K, N, L), times, torch.zeros(N).double(), names=["p", "q", "r"])


class Sink(nn.Module):
    """dz/dt = -0.5 z + u."""

    def forward(self, t: torch.Tensor, z: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        return -0.5 * z + inputs


@pytest.mark.parametrize("solver", ["dopri5", "bosh3", "kvaerno3"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("width", [0.5, 0.01, 1e-3])
def test_no_step_passes_over_a_short_dose(solver, backwards, width):
    """A dose of area 1 at different times: z(t) = ∫ exp(-0.5 (t - s)) u(s) ds, in closed form."""
    begins = torch.tensor([0.37, 3.11, 7.73, 8.0, 0.05]).double()
    begins = -begins - width if backwards else begins
    knots = torch.stack([begins - 20, begins, begins + width], dim=1)
    doses = torch.tensor([0.0, 1 / width, 0.0]).double().repeat(5)[:, None]
    paths = ControlPaths.of(knots.flatten(), doses, torch.arange(0, 16, 3), "step")
    zeros = torch.zeros(5, dtype=torch.float64)
    made = model(Sink(), solver=solver, rtol=1e-6, atol=1e-6)
    end = -10.0 if backwards else 10.0
    inputs = Inputs(torch.zeros(5, 0, dtype=torch.float64), paths, zeros)
    times = torch.full((5, 1), end, dtype=torch.float64)
    found = made.trajectory(torch.zeros(1, 5, 1).double(), times, zeros, inputs).z[0, :, 0, 0].detach()
    area = (torch.exp(0.5 * (begins + width)) - torch.exp(0.5 * begins)) / (0.5 * width)
    expected = math.copysign(1, end) * math.exp(-0.5 * end) * area
    # each jump is smeared over some millionths of the time: a share of about 1e-5 / width of the dose
    torch.testing.assert_close(found, expected, rtol=1e-4 + 4e-5 / width, atol=1e-5)


def test_the_place_in_the_batch_changes_no_step():
    """All series alike: the same answers, whatever their position."""
    paths = ControlPaths.of(torch.arange(4.0).double(), normal(4, 1, seed=9), torch.tensor([0, 4]))
    paths = paths.take(torch.zeros(64, dtype=torch.int64)).with_dtype(torch.float32)
    inputs = Inputs(torch.full((64, 1), 0.3), paths, torch.zeros(64, dtype=torch.float64))
    field = MLPField(L, 8, n_static=1, n_controls=1, generator=torch.Generator().manual_seed(0))
    made = model(field, rtol=1e-3, atol=1e-4)
    z0 = normal(1, 1, L, seed=10).float().expand(1, 64, L)
    times = torch.tensor([1.0, 5.0, -3.0]).double().expand(64, 3)
    z = made.trajectory(z0, times, torch.zeros(64, dtype=torch.float64), inputs).z
    # rows of a matrix product may differ in the last bit of float32 by their place, but no decision on a step does
    torch.testing.assert_close(z, z[:, :1].expand_as(z), rtol=0, atol=2e-6)
