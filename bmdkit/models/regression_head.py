"""From what an encoder has learnt to one number: the bone mineral density of the hip in the radiograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bmdkit.models.blocks import PositionBias, initialise
from bmdkit.models.encoder import Encoder, standardise
from bmdkit.models.generators import GeneratorConfig, make_encoder
from bmdkit.models.norms import Norm, make_norm

Reads = Literal["fused", "levels", "moved"]
"""What a ridge regression reads of a network: its fused map, or the maps of all levels, of moved radiographs too."""


@dataclass(frozen=True)
class HeadConfig:
    """What reads the fused map: a transformer and its size, or a regression in closed form.

    Attributes:
        widths, blocks: Channels and blocks of its two stages; CoAtNet-0's third and fourth.
        head_width: Channels of an attention head.
        kind: `transformer`; or `ridge`, which has no size.
        reads: What a ridge regression reads beside the projection: the network's `fused` map; its `levels`: all its
            maps, as the mean over the radiograph and the mirrored one; or these of the radiograph `moved`: as the mean
            over it as it is, moved up and moved down, and these mirrored.
    """

    widths: tuple[int, int] = (384, 768)
    blocks: tuple[int, int] = (5, 2)
    head_width: int = 32
    kind: Literal["transformer", "ridge"] = "transformer"
    reads: Reads = "moved"

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.head_width < 1 or any(w < 1 or w % self.head_width for w in self.widths):
            raise ValueError(f"widths: expected multiples of {self.head_width}, got {self.widths}")
        if min(self.blocks) < 1:
            raise ValueError(f"blocks: expected at least 1 a stage, got {self.blocks}")


class RelativeBlock(nn.Module):
    """Pre-norm transformer block with an input-independent relative position bias; may halve the map.

    Where it halves or widens: x = projection(pool(x)) + attention(pool(norm(x))), the pool being a 3x3 maximum with
    stride 2. Source: Dai et al. 2021 (CoAtNet), arXiv 2106.04803, appendix A.
    """

    def __init__(self, inputs: int, width: int, rows: int, columns: int, head_width: int, *, pool: bool) -> None:
        """Make the layers for maps that are `rows` x `columns` after the pool."""
        super().__init__()
        self.heads = width // head_width
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else None
        self.project = nn.Linear(inputs, width) if pool or inputs != width else None
        self.norm_attention = nn.LayerNorm(inputs)
        self.qkv = nn.Linear(inputs, 3 * width)
        self.position = PositionBias(rows, columns, self.heads)
        self.out = nn.Linear(width, width)
        self.norm_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, rows, columns, inputs) to (batch, rows or half, columns or half, width)."""
        normed = self._pooled(self.norm_attention(x))
        batch, rows, columns, _ = normed.shape
        q, k, v = self.qkv(normed).view(batch, rows * columns, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.position()[None].to(q.dtype))
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, rows, columns, -1))
        x = self._pooled(x)
        x = mixed + (x if self.project is None else self.project(x))
        return x + self.feed_forward(self.norm_forward(x))

    def _pooled(self, x: Tensor) -> Tensor:
        return x if self.pool is None else self.pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class RegressionHead(nn.Module):
    """Two stages of relative attention on the fused map, the average over all places, one number.

    Args:
        inputs: Channels of the fused map.
        rows: Rows of the map; it is halved twice.
        columns: Columns of the map; it is halved twice.
        config: Depth and width of the head.

    Source: Gu et al. 2023, doi 10.1016/j.media.2023.102970, section 3.3; depth and width are CoAtNet-0's.
    """

    def __init__(self, inputs: int, rows: int, columns: int, config: HeadConfig) -> None:
        """Make the layers."""
        super().__init__()
        layers: list[nn.Module] = []
        for width, count in zip(config.widths, config.blocks, strict=True):
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
            for n in range(count):
                block = RelativeBlock(inputs, width, rows, columns, config.head_width, pool=n == 0)
                layers.append(block)
                inputs = width
        self.blocks = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(inputs)
        self.last = nn.Linear(inputs, 1)

    def forward(self, fused: Tensor) -> Tensor:
        """(B, C, H / 4, W / 4) to (B,)."""
        x = self.blocks(fused.permute(0, 2, 3, 1))
        values: Tensor = self.last(self.norm(x.mean((1, 2))))[:, 0]
        return values


class Regressor(nn.Module):
    """An encoder and a head; the encoder can be held as it is."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        """Put the two together; nothing is frozen."""
        super().__init__()
        self.encoder, self.head = encoder, head
        self.frozen = False

    def freeze_encoder(self, frozen: bool) -> None:
        """Hold the encoder's weights (and its drop-path), or let them be trained."""
        self.frozen = frozen
        self.encoder.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Regressor:
        """Switch to training mode or back; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.train(mode and not self.frozen)
        return self

    def forward(self, xray: Tensor) -> Tensor:
        """(B, 1, H, W) to what the head gives: (B,), or maps."""
        found: Tensor = self.head(self.encoder(xray))
        return found


class ConvolutionRegressor(nn.Module):
    """A plain convolutional network from an image to one number: pairs of 3x3 convolutions and 2x2 maxima, VGG's shape.

    The baseline that knows no decomposition. Source: Hsieh et al. 2021, doi 10.1038/s41467-021-25779-x; trained from
    scratch here, with group norms and an average over places before the last layer.

    Args:
        inputs: Channels of the image.
        filters: Channels of the first level, doubled at each of the following up to eight times as many.
        levels: Halvings of the image.
        norm: Norm after each convolution.
        standardised: Whether each image is brought to mean 0 and standard deviation 1 first.
    """

    def __init__(
        self,
        inputs: int = 1,
        filters: int = 64,
        levels: int = 5,
        *,
        norm: Norm = "group",
        standardised: bool = False,
    ) -> None:
        """Make the layers."""
        super().__init__()
        self.standardised = standardised
        layers: list[nn.Module] = []
        for n in range(levels):
            width = filters * min(2**n, 8)
            for _ in range(2 if n < 2 else 3):
                layers += [nn.Conv2d(inputs, width, 3, padding=1), make_norm(width, norm), nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.last = nn.Linear(inputs, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B,)."""
        image = standardise(image) if self.standardised else image
        values: Tensor = self.last(self.features(image).mean((2, 3)))[:, 0]
        return values


def make_regressor(
    architecture: GeneratorConfig, config: HeadConfig, *, image_size: tuple[int, int], rng: torch.Generator
) -> Regressor:
    """A regressor with fresh weights, for images of (rows, columns)."""
    encoder = make_encoder(architecture, inputs=1)
    rows, columns = image_size
    regressor = Regressor(encoder, RegressionHead(encoder.channels, rows // 4, columns // 4, config))
    initialise(regressor, rng)
    encoder.initialise(rng)
    return regressor


def make_baseline(
    *, filters: int, rng: torch.Generator, norm: Norm = "group", standardised: bool = False
) -> ConvolutionRegressor:
    """Make the convolutional regressor with fresh weights, scaled for ReLU so that five levels pass a signal on."""
    network = ConvolutionRegressor(filters=filters, norm=norm, standardised=standardised)
    initialise(network, rng)
    for module in network.features:
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            with torch.no_grad():
                module.weight.normal_(0.0, (2.0 / fan_out) ** 0.5, generator=rng)
    return network


Weighting = Literal["common", "rare", "none"]


def sample_weights(bmd: Tensor, weighting: Weighting) -> Tensor:
    """Weight of every training sample by how far its BMD lies from the mean.

    Args:
        bmd: (N,), of the whole training set.
        weighting: `common`: 1.5 at the mean down to 0.5 at the farthest, as published; `rare`: the reverse; `none`: 1.

    Source: Gu et al. 2023, doi 10.1016/j.media.2023.102970, equations 9 and 10.
    """
    distance = (bmd - bmd.mean()).abs()
    spread = distance.max() - distance.min()
    if weighting == "none" or spread == 0:
        return torch.ones_like(bmd)
    relative = (distance - distance.min()) / spread
    return 1.5 - relative if weighting == "common" else 0.5 + relative


def weighted_l1(predicted: Tensor, bmd: Tensor, weight: Tensor) -> Tensor:
    """Mean of weight * |predicted - bmd|, all (B,)."""
    return (weight * (predicted.float() - bmd).abs()).mean()
