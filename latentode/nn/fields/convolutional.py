"""A vector field on images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.nn.initialisation import conv2d, generator_or_fresh


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with at most 32 groups of at least two channels (one, where there is only one)."""
    groups = next(n for n in range(min(32, max(channels // 2, 1)), 0, -1) if channels % n == 0)
    return nn.GroupNorm(groups, channels)


class TimeConv2d(nn.Module):
    """A 3 x 3 convolution of an image and of a channel that holds the time everywhere.

    Time is the same at every pixel, so its channel is convolved once per call, for a time of 1, and scaled by the clock
    of each row; the number of channels stays one that the processor likes.

    Parameters
    ----------
    n_in, n_out : int
        Channels, without that of time.
    generator : torch.Generator
    """

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.image = conv2d(n_in, n_out, 3, generator, padding=1)
        time = conv2d(1, n_out, 3, generator)
        self.time = nn.Parameter(
            time.weight.detach() / n_in**0.5
        )  # (n_out, 1, 3, 3), as one channel of n_in + 1

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """(n, n_in, H, W) at times (n,) -> (n, n_out, H, W)."""
        of_time = functional.conv2d(x.new_ones(1, 1, *x.shape[2:]), self.time, padding=1)  # (1, n_out, H, W)
        return torch.addcmul(self.image(x), t.to(x.dtype)[:, None, None, None], of_time)


class ConvField(nn.Module):
    """dy/dt of images (n, C, H, W): norm, relu, convolution with time, twice, and a last norm.

    The field of the ODE-Net of Chen et al. (2018), section 3. Group normalisation keeps every row by itself.

    Parameters
    ----------
    channels : int
        C
    generator : torch.Generator, optional
        Source of the first weights; None takes fresh entropy.
    """

    def __init__(self, channels: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        generator = generator_or_fresh(generator)
        self.norms = nn.ModuleList(group_norm(channels) for _ in range(3))
        self.convolutions = nn.ModuleList(TimeConv2d(channels, channels, generator) for _ in range(2))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """Derivative (n, C, H, W) at times (n,)."""
        *norms, last = self.norms
        for norm, convolution in zip(norms, self.convolutions):
            y = convolution(t, functional.relu(norm(y)))
        return last(y)
