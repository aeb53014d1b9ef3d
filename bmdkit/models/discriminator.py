"""Judges of whether a projection belongs to a radiograph: patch by patch, at several scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bmdkit.models.blocks import initialise
from bmdkit.models.norms import make_norm


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Size of the discriminators.

    Attributes:
        filters: Channels of the first layer (ndf).
        layers: Strided layers of each.
        scales: Number of discriminators, each at half the resolution of the one before.
    """

    filters: int = 64
    layers: int = 3
    scales: int = 3

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("filters", "layers", "scales"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


class PatchDiscriminator(nn.Module):
    """PatchGAN: 4x4 convolutions with padding 2 and LeakyReLU 0.2; gives the maps of all its layers, scores last.

    Source: Isola et al. 2017, doi 10.1109/CVPR.2017.632; Wang et al. 2018, doi 10.1109/CVPR.2018.00917.
    """

    def __init__(self, inputs: int, filters: int = 64, layers: int = 3) -> None:
        """Make the layers."""
        super().__init__()
        steps = [nn.Sequential(nn.Conv2d(inputs, filters, 4, stride=2, padding=2), nn.LeakyReLU(0.2))]
        width = filters
        for n in range(1, layers + 1):
            wider = min(2 * width, 8 * filters)
            stride = 2 if n < layers else 1
            convolution = nn.Conv2d(width, wider, 4, stride=stride, padding=2)
            steps.append(nn.Sequential(convolution, make_norm(wider), nn.LeakyReLU(0.2)))
            width = wider
        steps.append(nn.Sequential(nn.Conv2d(width, 1, 4, padding=2)))
        self.steps = nn.ModuleList(steps)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, H, W) to the maps of all layers, scores last."""
        maps = []
        for step in self.steps:
            x = step(x)
            maps.append(x)
        return maps


class MultiScaleDiscriminator(nn.Module):
    """Equal PatchGANs, each on the input average-pooled once more than the one before."""

    def __init__(self, inputs: int, config: DiscriminatorConfig) -> None:
        """Make a discriminator for each scale."""
        super().__init__()
        self.judges = nn.ModuleList(
            PatchDiscriminator(inputs, config.filters, config.layers) for _ in range(config.scales)
        )
        self.pool = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)

    def forward(self, *images: Tensor) -> list[list[Tensor]]:
        """Maps of every layer (scores last) of every scale (finest first) of images that belong together."""
        x = torch.cat(images, dim=1)
        judged = []
        for n, judge in enumerate(self.judges):
            if n:
                x = self.pool(x)
            judged.append(judge(x))
        return judged


def make_discriminator(config: DiscriminatorConfig, *, inputs: int, rng: torch.Generator) -> MultiScaleDiscriminator:
    """Discriminators with fresh weights; `inputs` counts the channels of all images that are judged together."""
    discriminator = MultiScaleDiscriminator(inputs, config)
    initialise(discriminator, rng)
    return discriminator
