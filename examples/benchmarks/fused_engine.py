"""The native engine beside torch's, torchdiffeq, torchode and diffrax: one script for all figures of speed.

All sides run in this process (the demo in one of its own) and take turns, A B A B ...; medians with quartiles, and
ratios, since the milliseconds of one machine mean nothing on another. Peers that are not installed are left out.

- F: a solve of protocol F with its gradient (solve_sides.py), and its distance to the floor set by arithmetic
- threads: the same with 1 and 2 threads
- sizes: the same for 16 to 100,000 series
- G: a whole step of training diffrax's latent ODE of oscillators (training_step.py, jax_latent_ode.py)
- profile: which part of a training step takes how long (step_profile.py), on protocols G and A
- D: an epoch of `LatentODERegressor` on PhysioNet 2012 (downloaded where LATENTODE_DATA_HOME has it not)
- demo: from the command `latentode demo` to its picture

    python examples/benchmarks/fused_engine.py --only F G --rounds 21 --threads 2
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jax_latent_ode import JaxLatentODE
from solve_sides import (
    ATOL,
    RTOL,
    Side,
    SolveProblem,
    diffrax,
    distance,
    is_installed,
    ours,
    protocol_f,
    torchdiffeq,
    torchode,
)
from step_profile import BACKWARD, FORWARD, MODEL_PARTS, PARTS, timed_step
from training_step import (
    SOLVES,
    TrainingTask,
    oscillator_task,
    oscillators,
    spirals_task,
    training_step,
)
from turns import Timing, clocked, markdown, milliseconds, take_turns
from whole_runs import PHYSIONET_SIZES, Epochs, demo, stays

from latentode import solve_ivp
from latentode.datasets import make_spirals
from latentode.versions import engine_line

NATIVE, TORCH = "latentode, native", "latentode, torch"
ENGINES = {NATIVE: "native", TORCH: "torch"}


class Sizes(NamedTuple):
    """How much is run."""

    rounds: int
    peers: bool
    full: bool
    solve: tuple[int, ...] = (64, 1000)
    times: int = 100
    threads: tuple[int, ...] = (64, 1000, 10_000)
    sizes: tuple[int, ...] = (16, 64, 256, 1000, 4000, 16_000, 100_000)
    oscillators: int = 10_000
    batch: int = 256
    spirals: int = 800
    spirals_batch: int = 50  # the estimator's
    stays: int = 400
    matrix: int = 1024


QUICK = Sizes(
    rounds=1,
    peers=False,
    full=False,
    solve=(8,),
    times=5,
    threads=(8,),
    sizes=(4, 8),
    oscillators=16,
    batch=8,
    spirals=12,
    spirals_batch=6,
    stays=0,
    matrix=64,
)


def solves(sizes: Sizes) -> Any:
    """Protocol F: ratios to native, and the distance to the floor."""
    return {n: _solve_table(protocol_f(n, sizes.times), sizes) for n in sizes.solve}


def _solve_table(problem: SolveProblem, sizes: Sizes) -> dict[str, Timing]:
    calls = {name: side(problem) for name, side in _solve_sides(sizes.peers).items()}
    gradients = {name: call() for name, call in calls.items()}
    timings = take_turns(calls, sizes.rounds)
    best = timings[NATIVE].median
    rows = [
        [
            name,
            milliseconds(timing),
            f"{timing.median / best:.1f}",
            f"{distance(gradients[name], gradients[NATIVE]):.1e}",
        ]
        for name, timing in timings.items()
    ]
    heading = [f"N = {len(problem.y0)}", "ms (quartiles)", "of native", "difference of the gradient"]
    _show(heading, rows)
    _best_rival(timings)
    _floor(problem, best, sizes)
    return timings


def _solve_sides(peers: bool) -> dict[str, Side]:
    sides = {name: ours(engine) for name, engine in ENGINES.items()}
    if peers and is_installed("torchdiffeq"):
        sides["torchdiffeq, backprop"] = torchdiffeq("odeint")
    if peers and is_installed("torchode"):
        sides["torchode, backprop"] = torchode()
    if peers and is_installed("diffrax"):
        for own_clocks, clocks in ((True, "a clock per series"), (False, "one clock")):
            for max_steps in (4096, 64):  # its default, and one that spares checkpoints
                side = diffrax("RecursiveCheckpointAdjoint", own_clocks=own_clocks, max_steps=max_steps)
                sides[f"diffrax, {clocks}, max_steps={max_steps}"] = side
    return sides


def _best_rival(timings: Mapping[str, Timing]) -> None:
    """Ratios to the fastest side of every peer."""
    for peer in ("diffrax", "torchdiffeq", "torchode"):
        medians = {name: timing.median for name, timing in timings.items() if name.startswith(peer)}
        if medians:
            name = min(medians, key=medians.__getitem__)
            print(f"native takes {timings[NATIVE].median / medians[name]:.3f} of {name}")


def _floor(problem: SolveProblem, seconds: float, sizes: Sizes) -> None:
    """What the products of weights and states alone would take at the speed of a large product."""
    field, y0, times = problem
    evaluations = float(solve_ivp(field, y0, times, rtol=RTOL, atol=ATOL).stats["n_evals"].double().mean())
    products = sum(layer.weight.numel() for layer in field.mlp.layers)
    flop = 3 * 2 * products * evaluations * len(y0)  # the gradient costs two times the solve
    speed = _attainable_flops(sizes.matrix)
    of_one = 2 * products * len(y0)
    print(
        f"floor: {evaluations:.1f} evaluations x {of_one / 1e6:.3g} MFLOP x 3 = {flop / 1e6:.3g} MFLOP, at "
        f"{speed / 1e9:.3g} GFLOP/s (a product of {sizes.matrix} x {sizes.matrix} matrices) "
        f"{1e3 * flop / speed:.3g} ms; native takes {seconds * speed / flop:.1f} times that"
    )


def _attainable_flops(size: int) -> float:
    """Floating-point operations per second of a large product in float32, with as many threads; the best of ten."""
    matrix = torch.randn(size, size)
    return 2 * size**3 / min(clocked(lambda: torch.mm(matrix, matrix)) for _ in range(10))


def threads(sizes: Sizes) -> Any:
    """Native with 1 and 2 threads."""
    found, rows = {}, []
    for n in sizes.threads:
        call = ours("native")(protocol_f(n, sizes.times))
        with _threads_kept():
            calls = {str(count): _with_threads(count, call) for count in (1, 2)}
            found[n] = take_turns(calls, sizes.rounds)
        one, two = found[n].values()
        rows.append([str(n), milliseconds(one), milliseconds(two), f"{one.median / two.median:.2f}"])
    _show(["N", "1 thread, ms", "2 threads, ms", "gain"], rows)
    return found


def _with_threads(count: int, call: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)
        return call()

    return run


@contextmanager
def _threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def batch_sizes(sizes: Sizes) -> Any:
    """Native's time per series against the number of series."""
    calls = {str(n): ours("native")(protocol_f(n, sizes.times)) for n in sizes.sizes}
    found = take_turns(calls, sizes.rounds)
    rows = [[n, milliseconds(t), f"{1e6 * t.median / int(n):.2f}"] for n, t in found.items()]
    _show(["N", "ms (quartiles)", "µs per series"], rows)
    return found


def training(sizes: Sizes) -> Any:
    """Protocol G, for each way to solve."""
    return {solve: _training_table(solve, sizes) for solve in SOLVES}


def _training_table(solve: str, sizes: Sizes) -> dict[str, Timing]:
    data = oscillators(sizes.oscillators)
    tasks = {name: oscillator_task(data, sizes.batch, engine, solve) for name, engine in ENGINES.items()}
    steps: dict[str, Callable[[], Any]] = {name: training_step(task) for name, task in tasks.items()}
    if sizes.peers and is_installed("diffrax"):
        twin = JaxLatentODE(tasks[NATIVE].model, data, **SOLVES[solve])
        _compare_losses(tasks[NATIVE], twin, data)
        steps["diffrax"] = twin.training_step(sizes.batch)
    timings = take_turns(steps, sizes.rounds)
    best = timings[NATIVE].median
    rows = [
        [name, milliseconds(t), f"{t.median / best:.2f}", f"{max(t.first - t.median, 0):.2g}"]
        for name, t in timings.items()
    ]
    _show(
        [f"step of {sizes.batch} series, {solve}", "ms (quartiles)", "of native", "first step's extra s"],
        rows,
    )
    _best_rival(timings)
    return timings


def _compare_losses(task: TrainingTask, twin: JaxLatentODE, data: Any) -> None:
    """Both sides on one batch, with the same weights and random numbers."""
    index = np.arange(min(len(data), 256))
    eps = torch.randn(1, len(index), 16, generator=torch.Generator().manual_seed(1))
    model = task.model
    with torch.no_grad():
        batch = data.select(torch.as_tensor(index))
        origin = batch.times[:, 0]
        times = batch.times - origin[:, None]
        mean_std = model.encoder(times, batch.values, batch.mask, batch.lengths)
        z = model.trajectory(mean_std.sample(eps), times, origin).z
        log_lik = model.likelihood.log_prob(model.decoder(z), batch.values, batch.mask)
        loss = float((mean_std.kl().sum() - log_lik.sum()) / batch.n_observed.sum())
    print(f"\nloss of one batch: latentode {loss:.6f}, diffrax {twin.loss_at(index, eps[0].numpy()):.6f}")


def profile(sizes: Sizes) -> Any:
    """Shares of the parts of a step, before (torch) and after (native)."""
    data, solve = oscillators(sizes.oscillators), next(iter(SOLVES))
    makers: dict[str, Callable[[str], TrainingTask]] = {
        f"G: {sizes.batch} oscillators, {solve}": lambda engine: oscillator_task(
            data, sizes.batch, engine, solve
        ),
        f"A: {sizes.spirals_batch} spirals, the estimator's defaults": lambda engine: spirals_task(
            sizes.spirals, sizes.spirals_batch, engine
        ),
    }
    return {name: _profile_table(name, make, sizes) for name, make in makers.items()}


def _profile_table(
    name: str, make: Callable[[str], TrainingTask], sizes: Sizes
) -> dict[str, dict[str, float]]:
    """Medians over the rounds; both engines take the same batches in turns, the first of them to warm up."""
    engines = ("torch", "native")
    tasks = {engine: make(engine) for engine in engines}
    rounds = [{engine: timed_step(task) for engine, task in tasks.items()} for _ in range(sizes.rounds + 1)]
    medians = {
        engine: {part: float(np.median([found[engine][part] for found in rounds[1:]])) for part in PARTS}
        for engine in engines
    }
    groups = {part: [part + FORWARD, part + BACKWARD] for part in MODEL_PARTS[:3]}
    groups |= {
        "optimiser": ["optimiser"],
        "batch, sample, bound": ["batch", *(MODEL_PARTS[3] + way for way in (FORWARD, BACKWARD))],
    }
    groups["all"] = list(PARTS)
    rows = [
        [group, *(cell for engine in engines for cell in _share(medians[engine], parts))]
        for group, parts in groups.items()
    ]
    _show([name, "torch, ms (forward + backward)", "share", "native, ms (forward + backward)", "share"], rows)
    return medians


def _share(seconds: Mapping[str, float], parts: list[str]) -> list[str]:
    own = [1e3 * seconds[part] for part in parts]
    ways = f" ({own[0]:.2f} + {own[1]:.2f})" if len(own) == 2 else ""
    return [f"{sum(own):.2f}{ways}", f"{sum(own) / sum(seconds.values()) / 10:.0f} %"]


def epochs(sizes: Sizes) -> Any:
    """Protocol D, or a few generated series in its place."""
    table = stays(sizes.stays) if sizes.stays else make_spirals(sizes.spirals, 5, random_state=0)
    model = PHYSIONET_SIZES if sizes.stays else {"latent_dim": 2, "hidden_dim": 4}
    calls = {name: Epochs(table, engine, model) for name, engine in ENGINES.items()}
    found = take_turns(calls, sizes.rounds, turn=0.0, clock=lambda call: call())
    _show_seconds(f"epoch of {table['id'].nunique()} series", found)
    return found


def demos(sizes: Sizes) -> Any:
    """From command to picture; left out of the quick form."""
    if sizes is QUICK:
        return {}
    calls = {name: demo(engine, full=sizes.full) for name, engine in ENGINES.items()}
    found = take_turns(calls, sizes.rounds, turn=0.0)
    _show_seconds("demo" if sizes.full else "demo, quick form", found)
    return found


def _show_seconds(what: str, timings: Mapping[str, Timing]) -> None:
    best = timings[NATIVE].median
    rows = [
        [name, f"{t.median:.2f} ({t.low:.2f} to {t.high:.2f})", f"{t.median / best:.2f}"]
        for name, t in timings.items()
    ]
    _show([what, "s (quartiles)", "of native"], rows)


def _show(heading: list[str], rows: list[list[str]]) -> None:
    print("\n" + markdown(heading, rows))


SECTIONS: dict[str, tuple[Callable[[Sizes], Any], int]] = {  # with the rounds that each has by default
    "F": (solves, 21),
    "threads": (threads, 21),
    "sizes": (batch_sizes, 11),
    "G": (training, 21),
    "profile": (profile, 41),
    "D": (epochs, 5),
    "demo": (demos, 3),
}


def main(
    quick: bool = False,
    only: tuple[str, ...] = tuple(SECTIONS),
    rounds: int | None = None,
    full: bool = False,
    peers: bool = True,
) -> dict[str, Any]:
    """Print the tables of these sections; what they were made of, by section."""
    print(f"{engine_line()}; {torch.get_num_threads()} thread(s) for every side")
    if quick:
        print("quick: one round of tiny sizes shows that all works; its figures mean nothing")
    results = {}
    for name in only:
        section, usual = SECTIONS[name]
        print(f"\n## {name}: {(section.__doc__ or '').splitlines()[0]}")
        results[name] = section(QUICK if quick else Sizes(rounds or usual, peers, full))
    return results


def _share_cores(count: int) -> None:
    """The same cores for every side; JAX has as many threads as it sees cores when it begins."""
    torch.set_num_threads(count)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--rounds", type=int, help="turns of each side; default: enough for each section")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of every side")
    parser.add_argument("--full", action="store_true", help="the demo in full, minutes each")
    parser.add_argument("--no-peers", action="store_true", help="only the engines of latentode")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round, no peers, no demo")
    arguments = parser.parse_args()
    _share_cores(arguments.threads)
    main(arguments.quick, tuple(arguments.only), arguments.rounds, arguments.full, not arguments.no_peers)
