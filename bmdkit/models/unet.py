"""The U-Net as a backbone: a stem at half resolution, four levels below it, and skips on the way up.

Source: Ronneberger et al. 2015 (U-Net), doi 10.1007/978-3-319-24574-4_28; first weights He et al. 2015,
doi 10.1109/ICCV.2015.123.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from bmdkit.models.blocks import convolution
from bmdkit.models.encoder import Encoder
from bmdkit.models.norms import Norm, make_norm

WIDTHS = (1, 2, 4, 6, 8)
"""Channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution, in multiples of the filters."""

LAST_FACTOR = 0.1
"""First weights of the last layer are smaller by this, so that all images begin alike."""


class UNetEncoder(Encoder):
    """Radiograph to the map at 1/4 resolution: down to 1/32, and up again over skips.

    Args:
        inputs: Channels of the radiograph.
        filters: Channels of the stem; 16 gives 16, 32, 64, 96, 128.
        norm: Norm after each convolution.
        standardised: See `Encoder`.
    """

    def __init__(self, inputs: int, filters: int = 16, *, norm: Norm = "batch", standardised: bool = False) -> None:
        """Make the layers."""
        super().__init__(WIDTHS[1] * filters, 2 ** len(WIDTHS), standardised=standardised)
        widths = [factor * filters for factor in WIDTHS]
        self.stem = normed(inputs, widths[0], norm, stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(normed(a, b, norm, stride=2), normed(b, b, norm)) for a, b in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            Up(below, skip, norm) for below, skip in zip(widths[:1:-1], widths[-2:0:-1], strict=True)
        )

    def features(self, xray: Tensor) -> tuple[Tensor, ...]:
        """The map at 1/4 of the resolution, and that of the stem at 1/2."""
        return self.features_and_levels(xray)[0]

    def features_and_levels(self, xray: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The same, and the maps of all levels on the way down and up again."""
        maps = [self.stem(xray)]
        for down in self.down:
            maps.append(down(maps[-1]))
        ups = [maps[-1]]
        for up, skip in zip(self.up, maps[-2:0:-1], strict=True):
            ups.append(up(ups[-1], skip))
        return (ups[-1], maps[0]), (*maps, *ups[1:-1])

    def initialise(self, rng: torch.Generator) -> None:
        """Draw the weights by He's rule."""
        draw_he(self, rng)


class Up(nn.Module):
    """Nearest enlargement, the skip beside it, two convolutions."""

    def __init__(self, below: int, skip: int, norm: Norm) -> None:
        """Make the layers for maps of `below` and `skip` channels; the result has as many as the skip."""
        super().__init__()
        self.body = nn.Sequential(normed(below + skip, skip, norm), normed(skip, skip, norm))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, below, H, W) and (B, skip, 2 H, 2 W) to (B, skip, 2 H, 2 W)."""
        merged: Tensor = self.body(torch.cat([nn.functional.interpolate(x, scale_factor=2.0), skip], dim=1))
        return merged


class UNetDecoder(nn.Module):
    """From the maps at 1/4 and 1/2 to images that are nowhere negative: 2 softplus - 1, so that -1 is nothing.

    Args:
        inputs: Channels of the map at 1/4.
        skip: Channels of the map at 1/2.
        outputs: Channels of the image.
        norm: Norm after each convolution.
    """

    def __init__(self, inputs: int, skip: int, outputs: int, norm: Norm = "batch") -> None:
        """Make the layers."""
        super().__init__()
        self.up = Up(inputs, skip, norm)
        self.last = nn.Conv2d(skip, outputs, 3, padding=1)

    def forward(self, fused: Tensor, half: Tensor) -> Tensor:
        """(B, inputs, H/4, W/4) and (B, skip, H/2, W/2) to (B, outputs, H, W), at least -1."""
        scores = self.last(self.up(fused, half)).float()
        scores = nn.functional.interpolate(scores, scale_factor=2.0, mode="bilinear", align_corners=False)
        return 2.0 * nn.functional.softplus(scores) - 1.0

    def initialise(self, rng: torch.Generator) -> None:
        """Draw the weights by He's rule, those of the last layer a tenth as large."""
        draw_he(self, rng)
        with torch.no_grad():
            self.last.weight.mul_(LAST_FACTOR)


def normed(inputs: int, outputs: int, norm: Norm, *, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, norm, ReLU."""
    return nn.Sequential(convolution(inputs, outputs, stride=stride), make_norm(outputs, norm), nn.ReLU())


def draw_he(network: nn.Module, rng: torch.Generator) -> None:
    """Draw the kernels of all convolutions so that ReLU passes a signal on; biases are 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
