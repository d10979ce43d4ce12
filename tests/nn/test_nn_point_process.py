"""The point process against closed forms, finite differences, quadrature and simulated events."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from latentode import solve_ivp
from latentode.nn.point_process import LOG_RANGE, Intensity, poisson_log_lik

EXACT = 1e-12  # closed forms in float64
SOLVED = 1e-7  # a solve at rtol = atol = 1e-10, rates of order 10
SIGNIFICANCE = 1e-4  # of a test on simulated events with a fixed seed


def intensity(seed=0, n_latent=2, n_processes=3, **options):
    """A trained-looking module in float64: its last layer is no longer zero."""
    g = torch.Generator().manual_seed(seed)
    module = Intensity(n_latent, 8, n_processes, generator=g, **options).double()
    with torch.no_grad():
        module.mlp.layers[-1].weight.normal_(generator=g)
        module.mlp.layers[-1].bias.normal_(generator=g)
    return module


def solve_with_state(field, log_rate, z0, times):
    """States (N, T, L) and integrals of the rates from 0 (N, T, E), solved together."""
    n_latent, n_processes = z0.shape[1], log_rate(z0).shape[1]

    def both(t, state):
        z = state[:, :n_latent]
        return torch.cat([field(t, z), log_rate(z).exp()], dim=-1)

    y0 = torch.cat([z0, z0.new_zeros(len(z0), n_processes)], dim=-1)
    t0 = torch.zeros(len(z0), dtype=torch.float64)
    y = solve_ivp(both, y0, times, t0=t0, rtol=1e-10, atol=1e-10, gradient="backprop").y
    return y[..., :n_latent], y[..., n_latent:]


# ---- the module -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.5, torch.tensor([0.01, 1.0, 300.0])], ids=["shared", "per process"])
def test_untrained_rates_are_the_level_everywhere(level):
    module = Intensity(4, 8, 3, level=level, generator=torch.Generator().manual_seed(0))
    z = 10 * torch.randn(2, 5, 7, 4, generator=torch.Generator().manual_seed(1))
    expected = torch.as_tensor(level).expand(2, 5, 7, 3)
    torch.testing.assert_close(module(z).exp(), expected, rtol=1e-6, atol=0)


def test_untrained_rates_still_learn():
    module = Intensity(4, 8, 3, generator=torch.Generator().manual_seed(0))
    module(torch.ones(1, 4)).sum().backward()
    assert module.mlp.layers[-1].weight.grad.abs().min() > 0


@pytest.mark.parametrize("size", [1e3, -1e3, 1e30, -1e30])
def test_rates_stay_in_range_and_keep_a_gradient(size):
    module = Intensity(1, 8, 1, depth=0, level=2.0)
    with torch.no_grad():
        module.mlp.layers[0].weight.fill_(1.0)
    z = torch.full((1, 1), size, requires_grad=True)
    moved = module(z) - math.log(2.0)
    assert moved.abs() <= LOG_RANGE * (1 + 1e-6)
    assert torch.sign(moved) == np.sign(size)
    moved.sum().backward()
    assert torch.isfinite(z.grad)
    if (
        abs(size) == 1e3
    ):  # (1 + 100²)^(-3/2), to the rounding of 1 - 1e-4; a tanh has e^-200 there: 0 in float32
        assert float(z.grad) == pytest.approx(1e-6, rel=1e-2)


def test_moderate_rates_are_hardly_bent():
    module = Intensity(1, 8, 1, depth=0).double()
    with torch.no_grad():
        module.mlp.layers[0].weight.fill_(1.0)
        x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
        bent = module(x) / x.where(x != 0, torch.ones_like(x))
    assert (bent[x != 0] - 1).abs().max() < 0.02  # 1 / sqrt(1 + 0.2²) = 0.98


def test_same_generator_same_weights():
    first, again = (Intensity(2, 4, 1, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))


def test_levels_travel_with_the_state_dict():
    other = Intensity(2, 8, 3)
    other.load_state_dict(intensity(level=5.0).state_dict())
    torch.testing.assert_close(other.log_level, torch.full((3,), math.log(5.0)))


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (0.0, "level must be positive and finite; got 0.0"),
        (math.inf, "level must be positive and finite; got inf"),
        (torch.tensor([1.0, -1.0, 1.0]), r"level must be positive and finite; got \[1.0, -1.0, 1.0\]"),
        (torch.ones(2), r"level must be one number or one per process, \(3,\); got shape \(2,\)"),
    ],
    ids=["zero", "infinite", "negative", "too few"],
)
def test_levels_that_make_no_sense_are_refused(level, text):
    with pytest.raises(ValueError, match=text):
        Intensity(2, 4, 3, level=level)


# ---- the likelihood ---------------------------------------------------------------------------------------------


def test_homogeneous_processes_have_the_closed_form():
    n_events = torch.tensor([[3.0, 1.0], [0.0, 2.0], [5.0, 0.0]], dtype=torch.float64)  # (N, E)
    rates, window = torch.tensor([0.7, 2.5]).double(), torch.tensor([2.0, 4.0, 1.0]).double()
    events = torch.arange(6)[:, None] < n_events[:, None]  # (N, T, E)
    cumulative = (window[:, None] * rates).expand(2, 3, 2)
    found = poisson_log_lik(rates.log().expand(2, 3, 6, 2), events, cumulative)
    expected = (n_events * rates.log() - window[:, None] * rates).sum(-1)
    torch.testing.assert_close(found, expected.expand(2, 3), rtol=EXACT, atol=EXACT)


def test_the_number_of_events_of_a_homogeneous_process_is_poisson():
    # integrated over the ordered times in the window, the density is the probability of the count
    rate, window, n_events = 1.3, 2.0, 4
    log_rate = torch.full((1, 1, n_events, 1), math.log(rate), dtype=torch.float64)
    events = torch.ones(1, n_events, 1, dtype=torch.bool)
    found = poisson_log_lik(log_rate, events, torch.full((1, 1, 1), rate * window, dtype=torch.float64))
    log_volume = n_events * math.log(window) - math.lgamma(n_events + 1)
    assert float(found) + log_volume == pytest.approx(
        stats.poisson(rate * window).logpmf(n_events), abs=EXACT
    )


def test_an_exponential_rate_has_the_closed_form_when_solved_with_the_state():
    a, b, end = 0.8, 0.6, 3.0
    times = torch.tensor([[0.3, 1.1, 2.0, end]], dtype=torch.float64)
    z, integral = solve_with_state(
        lambda t, z: torch.ones_like(z),  # z is the time
        lambda z: math.log(a) + b * z,
        torch.zeros(1, 1, dtype=torch.float64),
        times,
    )
    events = torch.tensor([True, True, True, False])[None, :, None]  # the last row is the end of the window
    found = poisson_log_lik((math.log(a) + b * z)[None], events, integral[None, :, -1])
    expected = 3 * math.log(a) + b * (0.3 + 1.1 + 2.0) - a / b * math.expm1(b * end)
    assert float(found) == pytest.approx(expected, abs=SOLVED)


def test_the_integral_of_the_module_is_that_of_quadrature():
    module, end = intensity(), 2.5
    start = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    with torch.no_grad():
        _, integral = solve_with_state(
            lambda t, z: torch.tensor([[1.0, 0.5]], dtype=z.dtype).expand_as(z),
            module,
            start,
            torch.tensor([[end]], dtype=torch.float64),
        )
        for process in range(3):

            def rate(t, process=process):
                z = start + t * torch.tensor([[1.0, 0.5]], dtype=torch.float64)
                return float(module(z).exp()[0, process])

            expected = integrate.quad(rate, 0, end, epsabs=1e-11, epsrel=1e-11)[0]
            assert float(integral[0, 0, process]) == pytest.approx(expected, rel=SOLVED)


def test_gradients_are_those_of_finite_differences():
    module = intensity()
    field = torch.tensor([[-0.1, 1.0], [-1.0, -0.1]], dtype=torch.float64)
    events = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(2)) < 0.5
    times = torch.tensor([[0.2, 0.5, 1.1, 1.5], [0.1, 0.9, 1.0, 2.0]], dtype=torch.float64)
    names = [name for name, _ in module.named_parameters()]

    def log_lik(z0, *weights):
        def log_rate(z):
            return torch.func.functional_call(module, dict(zip(names, weights)), (z,))

        z, integral = solve_with_state(lambda t, z: z @ field.T, log_rate, z0, times)
        return poisson_log_lik(log_rate(z)[None], events, integral[None, :, -1])

    z0 = torch.tensor([[1.0, 0.0], [-0.5, 0.7]], dtype=torch.float64, requires_grad=True)
    # along random directions, which saves hundreds of solves
    assert torch.autograd.gradcheck(log_lik, (z0, *module.parameters()), fast_mode=True)


def test_cells_without_an_event_cannot_leak():
    g = torch.Generator().manual_seed(0)
    log_rate = torch.randn(2, 3, 5, 2, generator=g, dtype=torch.float64)
    events = torch.rand(3, 5, 2, generator=g) < 0.4
    cumulative = torch.rand(2, 3, 2, generator=g, dtype=torch.float64)
    clean = poisson_log_lik(log_rate, events, cumulative)
    for rubbish in (math.nan, math.inf, 1e30):
        dirty = torch.where(events, log_rate, rubbish).requires_grad_()
        found = poisson_log_lik(dirty, events, cumulative)
        found.sum().backward()
        assert torch.equal(found, clean)
        assert torch.equal(dirty.grad, events.expand_as(dirty).double())


def test_series_and_samples_are_independent():
    g = torch.Generator().manual_seed(0)
    log_rate, cumulative = torch.randn(2, 3, 5, 2, generator=g), torch.rand(2, 3, 2, generator=g)
    events = torch.rand(3, 5, 2, generator=g) < 0.4
    whole = poisson_log_lik(log_rate, events, cumulative)
    for k in range(2):
        for n in range(3):
            one = poisson_log_lik(log_rate[[k], n : n + 1], events[[n]], cumulative[[k], n : n + 1])
            assert torch.equal(one[0, 0], whole[k, n])


# ---- simulated events -------------------------------------------------------------------------------------------


def simulated(rng, module, curve, end, highest):
    """Event times in [0, end] of process 0 at states curve(t), by thinning a homogeneous process."""
    candidates = np.sort(rng.uniform(0, end, rng.poisson(highest * end)))
    with torch.no_grad():
        rates = module(curve(torch.as_tensor(candidates))).exp()[:, 0].numpy()
    assert rates.max() <= highest
    return candidates[rng.uniform(0, highest, len(candidates)) < rates]


def test_rescaled_by_their_integral_simulated_events_are_a_unit_process():
    # time rescaling: Λ(t_i) of the events of a Poisson process is a Poisson process of rate 1
    module, end = intensity(n_processes=1, level=0.5), 10.0
    with torch.no_grad():
        module.mlp.layers[-1].weight.mul_(6)  # rates that change tenfold, so that the check can fail
    field = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)

    def curve(t):
        return torch.stack([torch.cos(t), -torch.sin(t)], dim=-1)  # solves z' = field z from (1, 0)

    times = simulated(np.random.default_rng(5), module, curve, end, highest=400.0)
    assert len(times) > 200
    with torch.no_grad():
        z0 = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        _, integral = solve_with_state(lambda t, z: z @ field.T, module, z0, torch.as_tensor(times)[None])
    gaps = np.diff(integral[0, :, 0].numpy(), prepend=0.0)
    assert stats.kstest(gaps, "expon").pvalue > SIGNIFICANCE
    unscaled = np.diff(times, prepend=0.0)
    assert stats.kstest(unscaled / unscaled.mean(), "expon").pvalue < SIGNIFICANCE


def test_the_likelihood_is_highest_at_the_rate_that_made_the_events():
    rng, a, b, end = np.random.default_rng(0), 0.5, 0.7, 4.0
    total = a / b * np.expm1(b * end)
    n_series = 2000
    counts = rng.poisson(total, n_series)
    events = torch.as_tensor(np.arange(counts.max()) < counts[:, None])[..., None]
    uniform = rng.uniform(0, total, (n_series, counts.max()))
    times = torch.as_tensor(np.log1p(b * uniform / a) / b)[..., None]  # inverse of the integral

    log_a, slope = (torch.tensor(x, dtype=torch.float64) for x in (math.log(a), b))

    def each(log_a, slope):
        integral = log_a.exp() / slope * torch.expm1(slope * end)
        return poisson_log_lik((log_a + slope * times)[None], events, integral.expand(1, n_series, 1))[0]

    score = torch.autograd.functional.jacobian(each, (log_a, slope))  # (N,) twice
    for found in score:  # the expected score is 0 at the truth, within five standard errors
        assert abs(found.mean()) < 5 * found.std() / n_series**0.5


@pytest.mark.parametrize(
    ("log_rate", "events", "cumulative"),
    [
        ((2, 3, 4), (3, 4), (2, 3)),
        ((2, 3, 4, 1), (3, 5, 1), (2, 3, 1)),
        ((2, 3, 4, 1), (3, 4, 1), (2, 3)),
        ((2, 3, 4, 1), (3, 4, 1), (3, 1)),
    ],
    ids=["no processes", "other times", "integral without processes", "integral without samples"],
)
def test_shapes_that_do_not_fit_are_refused(log_rate, events, cumulative):
    with pytest.raises(ValueError, match=r"expected log_rate \(K, N, T, E\), bool events"):
        poisson_log_lik(torch.zeros(log_rate), torch.zeros(events, dtype=torch.bool), torch.zeros(cumulative))


def test_events_that_are_not_boolean_are_refused():
    with pytest.raises(ValueError, match=r"got log_rate \(1, 1, 1, 1\), torch.float32 events"):
        poisson_log_lik(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
