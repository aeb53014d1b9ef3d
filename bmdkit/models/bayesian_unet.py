"""The Bayesian U-Net: a U-Net whose dropout stays on, so that its answers scatter where it is not sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LEVELS = 4
MULTIPLE = 2**LEVELS
"""Both sides of an image have to be a multiple of this."""


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of a Bayesian U-Net.

    Attributes:
        filters: Channels of the first level, doubled at each of the four below (32 gives 32-64-128-256-512).
        dropout: Share of the values that each dropout sets to zero, in steps of 1/256.
    """

    filters: int = 32
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.filters < 1:
            raise ValueError(f"filters: expected at least 1, got {self.filters}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout: expected 0 <= dropout < 1, got {self.dropout}")


class Block(nn.Sequential):
    """Two reflect-padded 3x3 convolutions, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Make the layers."""
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect"),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, padding_mode="reflect"),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class BayesianUNet(nn.Module):
    """Five levels of blocks with dropout after every block, in training and in evaluation mode alike.

    Pooling is 2x2, the way up a transposed 3x3 convolution of stride 2, the last layer a 3x3 convolution.

    Args:
        classes: Channels of the output.
        config: Width and dropout.
        inputs: Channels of the input.

    Source: Hiasa et al. 2020, doi 10.1109/TMI.2019.2940555; the U-Net Ronneberger et al. 2015; dropout as Bayesian
        approximation Gal and Ghahramani 2016.
    """

    def __init__(self, classes: int, config: UNetConfig | None = None, *, inputs: int = 1) -> None:
        """Make the layers."""
        super().__init__()
        self.config = config or UNetConfig()
        widths = [self.config.filters * 2**level for level in range(LEVELS + 1)]
        self.down = nn.ModuleList(Block(a, b) for a, b in zip([inputs, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(wide, narrow, 3, stride=2, padding=1, output_padding=1)
            for narrow, wide in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.merge = nn.ModuleList(Block(2 * width, width) for width in widths[-2::-1])
        self.last = nn.Conv2d(widths[0], classes, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor, rngs: Sequence[torch.Generator] | None = None) -> Tensor:
        """Scores of the classes, one draw of the dropout.

        Args:
            x: (B, inputs, H, W); H and W multiples of 16, at least 32.
            rngs: One generator per image, on its device: what is dropped in an image then depends on its generator
                alone. Without them torch's own generator draws.

        Returns:
            (B, classes, H, W), before the softmax.
        """
        return self.above(self.first(x), rngs)

    def first(self, x: Tensor) -> Tensor:
        """The first block, before any dropout: the same for every draw."""
        require_sides(x)
        return self.down[0](x)

    def above(self, x: Tensor, rngs: Sequence[torch.Generator] | None = None) -> Tensor:
        """All that follows `first`."""
        kept = [self._dropped(x, rngs)]
        for block in self.down[1:]:
            kept.append(self._dropped(block(nn.functional.max_pool2d(kept[-1], 2)), rngs))
        x = kept.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = self._dropped(merge(torch.cat([kept.pop(), up(x)], dim=1)), rngs)
        return self.last(x)

    def _dropped(self, x: Tensor, rngs: Sequence[torch.Generator] | None) -> Tensor:
        rate = self.config.dropout
        if rate == 0.0:
            return x
        if rngs is None:
            return nn.functional.dropout(x, rate, training=True)
        least = dropped_below(rate)
        keep = torch.stack([draw_bytes(x[0].numel(), rng).view(x.shape[1:]) for rng in rngs]) >= least
        return x * keep / (1.0 - least / 256)


def require_sides(x: Tensor) -> None:
    """Check the sides of images.

    Raises:
        ValueError: They are no multiples of 16, or less than 32.
    """
    if x.shape[-1] % MULTIPLE or x.shape[-2] % MULTIPLE or min(x.shape[-2:]) < 2 * MULTIPLE:
        raise ValueError(f"x: expected sides that are multiples of {MULTIPLE} and at least 32, got {x.shape}")


def dropped_below(rate: float) -> int:
    """The least byte that is kept, where bytes are drawn to drop this share of the values."""
    return round(256 * rate)


def draw_bytes(count: int, rng: torch.Generator) -> Tensor:
    """(count,) random bytes, one for each value of an image in the order (channel, row, column), on the rng's device.

    Eight come from one draw, so that dropout costs little beside the convolutions.
    """
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=rng.device)
    return words.random_(-(2**63), None, generator=rng).view(torch.uint8)[:count]
