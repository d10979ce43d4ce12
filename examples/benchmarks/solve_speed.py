"""Milliseconds of a solve with its gradient, by each of our gradients, beside torchdiffeq, torchode and diffrax.

Protocol F (see solve_sides.py); peers where they are installed. The solvers take turns (A B A B ...), so that a busy
moment of the machine meets all of them; medians and quartiles, and ratios to torchdiffeq's backpropagation.
"discrete_adjoint" is what `solve_ivp` does by default, with the native kernels where they were built; the other
gradients are torch's. diffrax is compiled by JAX beforehand. `fused_engine.py` compares the engines.
"""

from __future__ import annotations

import torch
from solve_sides import Side, diffrax, is_installed, ours, protocol_f, torchdiffeq, torchode
from turns import Timing, markdown, milliseconds, take_turns

REFERENCE = "torchdiffeq backprop"


def sides(peers: bool) -> dict[str, Side]:
    """Everything that is installed, by name."""
    gradients = ("discrete_adjoint", "backprop", "reversible", "adjoint")
    table = {f"latentode {gradient}": ours(gradient=gradient) for gradient in gradients}
    if peers and is_installed("torchdiffeq"):
        table[REFERENCE] = torchdiffeq("odeint")
        table["torchdiffeq adjoint"] = torchdiffeq("odeint_adjoint")
    if peers and is_installed("torchode"):
        table["torchode backprop"] = torchode()
    if peers and is_installed("diffrax"):
        table["diffrax checkpoints"] = diffrax("RecursiveCheckpointAdjoint", own_clocks=True)
        table["diffrax adjoint"] = diffrax("BacksolveAdjoint", own_clocks=True)
    return table


def main(quick: bool = False) -> dict[int, dict[str, Timing]]:
    """Print the tables; returns the seconds by batch size and solver."""
    results = {}
    print(f"{torch.get_num_threads()} thread(s)")
    for n_series in (8,) if quick else (64, 1000):
        problem = protocol_f(n_series, n_times=5 if quick else 100)
        calls = {name: side(problem) for name, side in sides(peers=not quick).items()}
        results[n_series] = take_turns(calls, rounds=1 if quick else 9)
        print(_table(n_series, results[n_series]))
    return results


def _table(n_series: int, timings: dict[str, Timing]) -> str:
    reference = timings.get(REFERENCE)
    rows = [
        [name, milliseconds(timing), f"{timing.median / reference.median:.2f}" if reference else ""]
        for name, timing in timings.items()
    ]
    return "\n" + markdown([f"N = {n_series}", "ms (quartiles)", f"of {REFERENCE}"], rows)


if __name__ == "__main__":
    main()
