"""The engine on a GPU: the CPU's numbers, there where y0 is."""

from __future__ import annotations

import warnings

import pytest
import torch
from engine_stubs import Swirl
from solver_groups import steps_for, with_gradients
from tolerances import EXACT_GRADIENT, TIGHT

from latentode import solve_ivp
from latentode.drop_in import odeint
from latentode.gradients import GRADIENTS
from latentode.solvers import SOLVERS, TABLEAUS, FixedStep, PIController, Status, lockstep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

Y0 = torch.tensor([[0.4, -0.2], [1.0, 0.7], [-0.5, 0.3]], dtype=torch.float64)
T_EVAL = torch.tensor([[0.0, 0.3, 0.9], [0.0, -0.5, -1.0], [0.0, 0.6, torch.nan]], dtype=torch.float64)
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS)


def answers(device: str, dtype: torch.dtype = torch.float64, **options) -> list[torch.Tensor]:
    """Values, counts, and gradients with respect to y0, the query times and the parameters; on the CPU."""
    field = Swirl(dtype).to(device)
    y0 = Y0.to(device, dtype).requires_grad_()
    t_eval = T_EVAL.to(device).requires_grad_()
    solution = solve_ivp(field, y0, t_eval, **options)
    assert {x.device.type for x in (solution.y, solution.status, *solution.stats.values())} == {device}
    loss = solution.y.nan_to_num(nan=0.0).square().sum()
    gradients = torch.autograd.grad(loss, [y0, t_eval, *field.parameters()])
    return [x.detach().cpu() for x in (solution.y, solution.stats["n_steps"], *gradients)]


def check_like_the_cpu(tolerance: float, **options) -> None:
    for there, here in zip(answers("cuda", **options), answers("cpu", **options)):
        torch.testing.assert_close(there, here, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver(solver):
    check_like_the_cpu(TIGHT, solver=solver, **steps_for(solver, 0.1))


@pytest.mark.parametrize(("solver", "gradient"), with_gradients(["dopri5", "kvaerno5", "reversible_heun"]))
def test_every_gradient(solver, gradient):
    check_like_the_cpu(TIGHT, solver=solver, gradient=gradient, **steps_for(solver, 0.1))


@pytest.mark.parametrize("gradient", ["discrete_adjoint", "adjoint"])
@pytest.mark.parametrize("solver", TABLEAUS)
def test_both_loops(solver, gradient, monkeypatch):
    """That in lockstep, which serves on a GPU, and that of the CPU."""
    options = {"solver": solver, "gradient": gradient, **steps_for(solver, 0.1)}
    in_lockstep = answers("cuda", **options)
    monkeypatch.setattr(lockstep, "DEVICES", set())
    for one, other in zip(in_lockstep, answers("cuda", **options)):
        torch.testing.assert_close(one, other, rtol=TIGHT, atol=TIGHT, equal_nan=True)


def waits(n_rounds: int, controller: FixedStep | PIController) -> int:
    """How often torch says that the host waits for the device, in a solve of so many rounds."""
    y0 = torch.ones(5, 1, dtype=torch.float64, device="cuda")
    t0, t_eval = y0[:, 0] - 1.0, 0.1 * n_rounds * y0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run = lockstep.integrate_in_lockstep(
                lambda t, y: -y,
                y0,
                t0,
                t_eval,
                method=SOLVERS["dopri5"],
                controller=controller,
                max_steps=1000,
            )
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert run.n_steps.tolist() == [n_rounds] * 5
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in said)


@pytest.mark.parametrize(
    "controller",
    [FixedStep(0.1), PIController(1.0, 1.0, 5, initial_step=0.1, max_step=0.1)],
    ids=["fixed", "pi"],
)
def test_the_host_waits_once_every_eight_rounds(controller):
    waits(8, controller)  # what is computed once and kept
    few, many = waits(8, controller), waits(80, controller)
    assert few > 0
    assert many - few == 80 // 8 - 1


@every_gradient
def test_single_precision(gradient):
    """With fixed steps: by rounding alone an adaptive solve may take another number of them."""
    check_like_the_cpu(1e-4, dtype=torch.float32, gradient=gradient, step_size=0.1)


@every_gradient
def test_events(gradient):
    """exp(-t) falls to a quarter at log 4, with derivative 1 / y0 by y0."""
    y0 = torch.ones(2, 1, dtype=torch.float64, device="cuda", requires_grad=True)
    options = {"event": lambda t, y: y[:, 0] - 0.25, "gradient": gradient, "rtol": 1e-9, "atol": 1e-9}
    solution = solve_ivp(lambda t, y: -y, y0, [0.0, 3.0], **options)
    assert solution.status.tolist() == [Status.EVENT] * 2
    solution.event_times.sum().backward()
    expected = torch.full((2,), 4.0, dtype=torch.float64).log()
    torch.testing.assert_close(solution.event_times.detach().cpu(), expected, rtol=TIGHT, atol=0)
    torch.testing.assert_close(y0.grad.cpu(), torch.ones(2, 1).double(), rtol=EXACT_GRADIENT, atol=0)


def test_odeint():
    y0, times = Y0.cuda().requires_grad_(), torch.linspace(0, 1, 5, dtype=torch.float64, device="cuda")
    y = odeint(lambda t, y: torch.cos(t) * y, y0, times, rtol=1e-9, atol=1e-9)
    y[-1].sum().backward()
    growth = torch.exp(torch.sin(times)).cpu()
    assert y0.grad.is_cuda
    torch.testing.assert_close(y.detach().cpu(), growth[:, None, None] * Y0, rtol=EXACT_GRADIENT, atol=0)
    torch.testing.assert_close(y0.grad.cpu(), growth[-1].expand(3, 2), rtol=EXACT_GRADIENT, atol=0)


def test_a_field_left_on_the_cpu():
    with pytest.raises(ValueError, match="y0 is on cuda:0 but the field answers on cpu: move one of them"):
        solve_ivp(lambda t, y: -y.cpu(), Y0.cuda(), [0.0, 1.0])
