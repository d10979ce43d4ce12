"""Layers whose first weights come from a generator of ours.

The constructors of torch draw from its global random state; these neither read nor advance it, so that an
estimator with a `random_state` gives the same numbers whatever else its caller does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from latentode.seeding import numpy_generator, torch_generator


def generator_or_fresh(generator: torch.Generator | None) -> torch.Generator:
    """The generator itself, or for None one seeded from the operating system's entropy."""
    return torch_generator(numpy_generator(None)) if generator is None else generator


@contextmanager
def single_precision() -> Iterator[None]:
    """What is made inside has float32 weights, whatever the caller's default is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """Linear layer, weights and biases uniform in ±1/sqrt(n_in) as torch has them, made on the CPU."""
    layer = nn.Linear(n_in, n_out, device="meta").to_empty(device=_birthplace())
    for parameter in (layer.weight, layer.bias):
        _uniform_(parameter, n_in, generator)
    return layer


def conv2d(
    n_in: int, n_out: int, size: int, generator: torch.Generator, *, stride: int = 1, padding: int = 0
) -> nn.Conv2d:
    """Convolution with square kernels, weights and biases uniform in ±1/sqrt(n_in · size²), made on the CPU."""
    layer = nn.Conv2d(n_in, n_out, size, stride, padding, device="meta").to_empty(device=_birthplace())
    assert layer.bias is not None
    for parameter in (layer.weight, layer.bias):
        _uniform_(parameter, n_in * size**2, generator)
    return layer


def gru(n_in: int, n_hidden: int, generator: torch.Generator) -> nn.GRU:
    """One-layer batch-first GRU, made on the CPU.

    Input weights are uniform in ±1/sqrt(n_hidden); each gate's recurrent matrix is orthogonal, which keeps
    what was read first over long series (Saxe et al. 2014); biases are 0.
    """
    layer = nn.GRU(n_in, n_hidden, batch_first=True, device="meta").to_empty(device=_birthplace())
    weights = dict(layer.named_parameters())
    _uniform_(weights["weight_ih_l0"], n_hidden, generator)
    for gate in weights["weight_hh_l0"].detach().chunk(3):
        nn.init.orthogonal_(gate, generator=generator)
    nn.init.zeros_(weights["bias_ih_l0"])
    nn.init.zeros_(weights["bias_hh_l0"])
    return layer


def _birthplace() -> str:
    """The CPU, where generators are; under `torch.device("meta")` no memory at all, for who asks only for shapes."""
    return "meta" if torch.get_default_device().type == "meta" else "cpu"


def _uniform_(parameter: Tensor, fan: int, generator: torch.Generator) -> None:
    bound = fan**-0.5
    with torch.no_grad():
        parameter.uniform_(-bound, bound, generator=generator)


def log_spread(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """n positive numbers from `low` to `high`, increasing: one log-uniform draw from each n-th of the range."""
    share = (torch.arange(n) + torch.rand(n, generator=generator)) / max(n, 1)
    return low * (high / low) ** share


def normal(shape: tuple[int, ...], std: float, generator: torch.Generator) -> nn.Parameter:
    """Parameter from N(0, std²), made on the CPU."""
    return nn.Parameter(torch.empty(shape, device=_birthplace()).normal_(0.0, std, generator=generator))


def inverse_softplus(x: Tensor) -> Tensor:
    """The number whose softplus is `x` > 0."""
    return x.expm1().log()
