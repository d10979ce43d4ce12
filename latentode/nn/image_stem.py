"""From images to the smaller ones that a block of layers works on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.nn.fields.convolutional import group_norm
from latentode.nn.initialisation import conv2d

SMALLEST = 8  # side in pixels that is still halved


class ImageStem(nn.Module):
    """Two convolutions with normalisation and relu between, each of which halves the image (4 x 4, stride 2).

    An image whose smaller side has fewer than 8 pixels is not halved (3 x 3, stride 1).

    Parameters
    ----------
    shape : (int, int, int)
        Channels, height and width of the images.
    channels : int
        Of the answer.
    generator : torch.Generator
    """

    def __init__(self, shape: tuple[int, int, int], channels: int, generator: torch.Generator) -> None:
        super().__init__()
        n_in, height, width = shape
        convolutions = []
        for source in (n_in, channels):
            halves = min(height, width) >= SMALLEST
            size, stride = (4, 2) if halves else (3, 1)
            convolutions.append(conv2d(source, channels, size, generator, stride=stride, padding=1))
            height, width = (height // 2, width // 2) if halves else (height, width)
        self.first, self.second = convolutions
        self.norm = group_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, channels, h, w)."""
        return self.second(functional.relu(self.norm(self.first(x))))
