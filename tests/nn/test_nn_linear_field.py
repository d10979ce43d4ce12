"""The linear field: its closed form against matrix exponentials, solvers, and its own derivative."""

from __future__ import annotations

import numpy as np
import pytest
import tolerances
import torch
from scipy.linalg import expm

from latentode import solve_ivp
from latentode.nn.fields import LinearField
from latentode.nn.fields.linear import INITIAL_DAMPING, INITIAL_FREQUENCY
from latentode.nn.fields.phi import NEAR, phi_functions
from latentode.nn.inputs import Inputs
from latentode.series.controls import ControlPaths

K, N, S, C = 2, 3, 2, 2
TIMES = torch.tensor([[0.0, 2.5, -1.5, 7.0], [0.3, 0.3, 9.0, -0.2], [-2.0, 4.0, 1.0, 12.0]]).double()
START = torch.tensor([0.0, 3.0, -2.0]).double()
# expm works on matrices of norm up to 50 here, and backwards states grow tenfold
MATRIX = {"rtol": 1e-10, "atol": 1e-10}
SOLVED = {"rtol": tolerances.TIGHT, "atol": tolerances.TIGHT}  # states of order 1, solved at 1e-11
SINGLE = {"rtol": 2e-5, "atol": 2e-5}  # states in float32; what depends on time is float64

each_size = pytest.mark.parametrize("latent_dim", [1, 2, 5], ids="L{}".format)
each_interpolation = pytest.mark.parametrize("interpolation", ["linear", "step"])
both_clocks = pytest.mark.parametrize("time_dependent", [True, False], ids=["timed", "autonomous"])


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def field_of(latent_dim, *, n_static=0, n_controls=0, time_dependent=True):
    g = torch.Generator().manual_seed(latent_dim)
    field = LinearField(
        latent_dim,
        4,
        n_static=n_static,
        n_controls=n_controls,
        time_dependent=time_dependent,
        generator=g,
    ).double()
    with torch.no_grad():  # some weights start at 0, where forgetting them would not show
        field.bias += randn(latent_dim, seed=1)
        if time_dependent:
            field.drift += 0.1 * randn(latent_dim, seed=2)
    return field


def inputs_of(interpolation=None, n_knots=4, n_static=S):
    """Knots begin after, at and before the origin of the three series."""
    paths = None
    if interpolation:
        knots = (0.3 + randn(N, n_knots, seed=3).abs()).cumsum(1) * 6 / n_knots
        knots += torch.tensor([[1.0], [0.0], [-3.0]]).double() - knots[:, :1]
        offsets = torch.arange(N + 1) * n_knots
        knots = (knots + START[:, None]).flatten()
        paths = ControlPaths.of(knots, randn(N * n_knots, C, seed=4), offsets, interpolation)
    return Inputs(randn(N, n_static, seed=5), paths, START)


def matrix(damping, frequency, latent_dim):
    """The blocks written out."""
    a = np.zeros((2 * len(damping), 2 * len(damping)))
    for i, (d, w) in enumerate(zip(damping, frequency)):
        a[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[-d, w], [-w, -d]]
    return a[:latent_dim, :latent_dim]


def dynamics_by_hand(field, static):
    """A, b of one series, from the parameters."""
    setting = torch.cat([field.raw_damping, field.frequency, field.bias])
    if field.net is not None:
        setting = setting + field.net(static)
    n, half = field.latent_dim, len(field.raw_damping)
    raw, frequency, bias = np.split(setting.detach().numpy(), [half, half + len(field.frequency)])
    frequency = np.append(frequency, [0.0] * (half - len(frequency)))
    return matrix(np.log1p(np.exp(raw)), frequency, n), bias


def control_by_hand(inputs, series, t):
    """u at a time that is no knot, from the knots themselves."""
    paths = inputs.paths
    rows = slice(paths.offsets[series], paths.offsets[series + 1])
    knots, values = (paths.knots[rows] - START[series]).numpy(), paths.values[rows].numpy()
    if paths.interpolation == "step":
        return values[max(int((knots <= t).sum()) - 1, 0)]
    return np.array([np.interp(t, knots, column) for column in values.T])


def knots_between(inputs, series, end):
    if inputs is None or inputs.paths is None:
        return []
    paths = inputs.paths
    knots = (paths.knots[paths.offsets[series] : paths.offsets[series + 1]] - START[series]).tolist()
    inside = [k for k in knots if min(0, end) < k < max(0, end)]
    return sorted(inside, reverse=end < 0)


def state_by_expm(field, z, series, end, inputs):
    """From knot to knot by the exponential of an augmented matrix, for a forcing f + g s."""
    static = None if inputs is None else inputs.static[series]
    a, bias = dynamics_by_hand(field, static)
    n = field.latent_dim
    drift = field.drift.detach().numpy() if field.time_dependent else np.zeros(n)

    def forcing(t):
        driven = 0.0
        if field.n_controls:
            driven = field.control.detach().numpy() @ control_by_hand(inputs, series, t)
        return bias + drift * (t + float(START[series])) + driven

    here, state = 0.0, z.numpy()
    for there in [*knots_between(inputs, series, end), end]:
        third = (there - here) / 3  # two points inside the piece give its line
        slope = (forcing(there - third) - forcing(here + third)) / third if third else np.zeros(n)
        augmented = np.zeros((n + 2, n + 2))
        augmented[:n, :n], augmented[:n, n] = a, slope
        augmented[:n, n + 1], augmented[n, n + 1] = forcing(here + third) - slope * third, 1
        state = (expm(augmented * (there - here)) @ [*state, 0, 1])[:n]
        here = there
    return state


def check_against_expm(field, inputs):
    z0 = randn(K, N, field.latent_dim, seed=6)
    states = field.flow(z0, TIMES, inputs, START).detach()
    assert states.shape == (K, N, TIMES.shape[1], field.latent_dim)
    for k, i, j in np.ndindex(*states.shape[:3]):
        expected = state_by_expm(field, z0[k, i], i, float(TIMES[i, j]), inputs)
        np.testing.assert_allclose(states[k, i, j], expected, **MATRIX)


@each_size
@both_clocks
def test_flow_is_the_matrix_exponential(latent_dim, time_dependent):
    check_against_expm(field_of(latent_dim, time_dependent=time_dependent), None)


@each_size
def test_static_covariates_set_the_dynamics_of_their_series(latent_dim):
    check_against_expm(field_of(latent_dim, n_static=S), inputs_of())


@each_size
@each_interpolation
@pytest.mark.parametrize("n_knots", [1, 2, 11], ids="{} knots".format)
def test_controls_force_exactly(latent_dim, interpolation, n_knots):
    field = field_of(latent_dim, n_static=S, n_controls=C)
    check_against_expm(field, inputs_of(interpolation, n_knots))


@each_size
@both_clocks
def test_forward_is_the_formula(latent_dim, time_dependent):
    field = field_of(latent_dim, n_static=S, n_controls=C, time_dependent=time_dependent)
    t, z, u, static = randn(N, seed=7), randn(N, latent_dim, seed=8), randn(N, C, seed=9), randn(N, S)
    dz = field(t, z, torch.cat([static, u], dim=1)).detach()
    for i in range(N):
        a, expected = dynamics_by_hand(field, static[i])
        expected = expected + a @ z[i].numpy() + (field.control @ u[i]).detach().numpy()
        if time_dependent:
            expected += (field.drift * t[i]).detach().numpy()
        np.testing.assert_allclose(dz[i], expected, rtol=tolerances.ROUNDING, atol=tolerances.ROUNDING)


@each_size
@each_interpolation
def test_the_flow_obeys_the_field(latent_dim, interpolation):
    """Its derivative by the time, from autograd, is `forward` of it, between and beyond the knots."""
    field, inputs = field_of(latent_dim, n_static=S, n_controls=C), inputs_of(interpolation)
    times = TIMES.clone().requires_grad_()
    states = field.flow(randn(1, N, latent_dim, seed=6), times, inputs, START)[0]
    slopes = [
        torch.autograd.grad(states[..., i].sum(), times, retain_graph=True)[0] for i in range(latent_dim)
    ]
    series = torch.arange(N).repeat_interleave(TIMES.shape[1])
    u = inputs.at(series, TIMES.flatten())
    expected = field(TIMES.flatten() + START[series], states.flatten(0, 1), u)
    torch.testing.assert_close(torch.stack(slopes, -1).flatten(0, 1), expected, **MATRIX)


@each_interpolation
def test_flow_is_what_a_solver_finds(interpolation):
    field, inputs = field_of(3, n_static=S, n_controls=C), inputs_of(interpolation)

    def driven(t, state):
        z, number = state
        series = number[:, 0].round().long()
        return field(t + START[series], z, inputs.at(series, t)), torch.zeros_like(number)

    z0 = randn(1, N, 3, seed=6)
    number = torch.arange(N).double()[:, None]
    # A step of 2e-6 may cross a jump of the controls with whatever error: some 1e-6 times its height.
    z, _ = solve_ivp(
        driven, (z0[0], number), TIMES, t0=torch.zeros(N), rtol=1e-10, atol=1e-10, min_step=2e-6,
        params=[], gradient="backprop",
    ).y  # fmt: skip
    torch.testing.assert_close(field.flow(z0, TIMES, inputs, START)[0], z, rtol=1e-5, atol=1e-5)


def test_flow_is_what_a_solver_finds_to_rounding_where_nothing_jumps():
    field = field_of(5)
    z0 = randn(1, N, 5, seed=6)
    z = solve_ivp(field, z0[0], TIMES + START[:, None], t0=START, solver="dopri8", rtol=1e-11, atol=1e-11).y
    torch.testing.assert_close(field.flow(z0, TIMES, None, START)[0], z, **SOLVED)


@each_interpolation
@pytest.mark.parametrize("degenerate", [False, True], ids=["ordinary", "no damping, no frequency"])
def test_gradients(interpolation, degenerate):
    field, inputs = field_of(3, n_controls=C), inputs_of(interpolation, n_static=0)
    if degenerate:
        with torch.no_grad():
            field.raw_damping.fill_(-800.0)  # softplus is 0 to the last bit
            field.frequency.zero_()
    times = TIMES[:, :3].clone()
    times[0, 0] = 1e-3  # at 0 sharp a knot may lie, where a step has no derivative
    sources = [randn(1, N, 3, seed=6).requires_grad_(), times.requires_grad_()]
    # gradcheck moves the parameters in place, so that the flow need not take them as arguments
    assert torch.autograd.gradcheck(
        lambda z, t, *_: field.flow(z, t, inputs, START), (*sources, *field.parameters())
    )


def test_gradients_reach_the_net_of_static_covariates():
    field, inputs = field_of(3, n_static=S), inputs_of()
    z0 = randn(1, N, 3, seed=6)
    assert torch.autograd.gradcheck(
        lambda *_: field.flow(z0, TIMES[:, :2], inputs, START), tuple(field.parameters())
    )


def test_a_trend_is_exact():
    field = field_of(3)
    with torch.no_grad():
        field.raw_damping.fill_(-800.0)
        field.frequency.zero_()
    z0 = randn(K, N, 3, seed=6)
    t = TIMES[..., None]
    expected = field.bias * t + field.drift * (t * START[:, None, None] + t.square() / 2)
    states = field.flow(z0, TIMES, None, START)
    torch.testing.assert_close(states, z0[:, :, None] + expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_state_can_explode_forwards(dtype):
    for seed in range(20):
        field = LinearField(7, 4, generator=torch.Generator().manual_seed(seed)).to(dtype)
        with torch.no_grad():
            for i, parameter in enumerate((field.raw_damping, field.frequency)):
                parameter.copy_(10 * randn(*parameter.shape, seed=2 * seed + i))
        z0 = randn(1, 1, 7, seed=seed).to(dtype)
        far = torch.tensor([[1e2, 1e4]]).double()
        states = field.flow(z0, far, None, torch.zeros(1).double())
        bound = z0.norm(dim=-1)[..., None] * (1 + tolerances.ROUNDING_SINGLE)
        assert (states.norm(dim=-1) <= bound).all()


def test_single_precision_keeps_the_phase_over_long_spans():
    field = field_of(4, time_dependent=False).float()
    z0 = randn(K, N, 4, seed=6)
    times = torch.tensor([[1e4, 3e4]] * N).double()
    with torch.no_grad():
        field.raw_damping.fill_(-30.0)  # undamped, or nothing would be left to compare
        field.bias.zero_()
    single = field.flow(z0.float(), times, None, START)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), field.double().flow(z0, times, None, START), **SINGLE)


@each_interpolation
def test_series_do_not_meet(interpolation):
    field, inputs = field_of(3, n_static=S, n_controls=C), inputs_of(interpolation)
    z0, rows = randn(K, N, 3, seed=6), torch.tensor([2, 0])
    some = Inputs(inputs.static[rows], inputs.paths.take(rows), START[rows])
    states = field.flow(z0, TIMES, inputs, START)
    assert not torch.allclose(
        states[:, 0], field.flow(z0[:, [0, 0, 0]], TIMES[[0, 0, 0]], inputs, START)[:, 1]
    )
    torch.testing.assert_close(
        field.flow(z0[:, rows], TIMES[rows], some, START[rows]), states[:, rows], **MATRIX
    )


def test_far_decayed_states_do_not_cancel():
    """Knots that begin long after the origin: the response to them must not be carried backwards in time."""
    field = field_of(2, n_controls=C, time_dependent=False)
    with torch.no_grad():
        field.raw_damping.fill_(3.0)
    paths = ControlPaths.of(torch.tensor([50.0, 60.0]).double(), randn(2, C), torch.tensor([0, 2]))
    zero = torch.zeros(1).double()
    inputs = Inputs(torch.zeros(1, 0).double(), paths, zero)
    z0, times = randn(1, 1, 2), torch.tensor([[0.0, 0.1, 40.0]]).double()
    states = field.flow(z0, times, inputs, zero)
    held = field(zero, states[0, 0, 2:], paths.values[:1])
    torch.testing.assert_close(states[0, 0, 0], z0[0, 0], **MATRIX)
    torch.testing.assert_close(held, torch.zeros_like(held), **MATRIX)  # at rest under the first control


def test_no_times_no_states():
    states = field_of(3).flow(randn(K, N, 3), TIMES[:, :0], None, START)
    assert states.shape == (K, N, 0, 3)


@pytest.mark.parametrize(
    "inputs", [None, inputs_of(), inputs_of("step", n_static=1)], ids=["none", "S", "S - 1"]
)
def test_inputs_of_another_kind_are_refused(inputs):
    field = field_of(3, n_static=S, n_controls=C)
    with pytest.raises(ValueError, match="made for 2 static covariates and 2 controls; got"):
        field.flow(randn(K, N, 3), TIMES, inputs, START)


def test_first_dynamics_cover_the_useful_range():
    field = LinearField(41, 4, generator=torch.Generator().manual_seed(0))
    modes = field._modes(None)
    (slow, fast), (weak, strong) = INITIAL_FREQUENCY, INITIAL_DAMPING
    frequency, damping = modes.frequency[0, :-1], modes.damping[0]
    assert modes.frequency[0, -1] == 0
    assert slow <= frequency.min() < 1.3 * slow
    assert fast / 1.3 < frequency.max() <= fast
    assert ((damping >= 0.999 * weak) & (damping <= 1.001 * strong)).all()  # softplus and back, in float32


def test_first_answers_to_inputs_are_of_order_one():
    """Constant controls of order 1 end in states of order 1, in slow modes and fast ones."""
    field = LinearField(40, 4, n_controls=C, generator=torch.Generator().manual_seed(0)).double()
    inputs = Inputs(
        torch.zeros(1, 0), ControlPaths.of(torch.zeros(1).double(), torch.ones(1, C), torch.tensor([0, 1])),
        torch.zeros(1).double(),
    )  # fmt: skip
    zero = torch.zeros(1, 1, 40).double()
    states = field.flow(zero, torch.tensor([[1e4]]).double(), inputs, torch.zeros(1).double())
    pairs = states.reshape(-1, 2).norm(dim=1)
    assert pairs.max() < 2 * C**0.5  # each entry of C is at most pace / sqrt(C)
    assert pairs.min() > 0.01


X = [0, 1e-12, 1e-5j, -1e-3, 0.01 + 0.02j, NEAR * 0.999j, -NEAR, NEAR * 1.001, -1 + 2j, 3.0, -40 + 100j, -500]


@pytest.mark.parametrize("x", X, ids=str)
def test_phi_functions_against_the_matrix_exponential(x):
    x = complex(x)
    exact = expm(np.array([[x, 1, 0], [0, 0, 1], [0, 0, 0]]))[0]
    phi = phi_functions(*(torch.tensor([part], dtype=torch.float64) for part in (x.real, x.imag)))
    # two quotients by x lose at most 2 / NEAR roundings; expm squares its argument up to ten times
    np.testing.assert_allclose([complex(p) for p in phi], exact, rtol=1e-12, atol=1e-13)


def test_phi_functions_have_derivatives_everywhere():
    x = torch.tensor(X[:9], dtype=torch.complex128)
    parts = [x.real.clone().requires_grad_(), x.imag.clone().requires_grad_()]
    assert torch.autograd.gradcheck(lambda *p: tuple(phi_functions(*p)), parts)
