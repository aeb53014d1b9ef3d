"""The generator: a radiograph in, projections of the bones out, whatever the backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bmdkit.models.blocks import Decoder, initialise
from bmdkit.models.daformer import DAFormerEncoder, mix_plan_of
from bmdkit.models.multiresolution import MultiResolutionEncoder, plan_of
from bmdkit.models.resnet import ResNetEncoder

Backbone = Literal[
    "resnet", "hrformer_t", "hrformer_s", "hrformer_b", "hrnet_w18", "hrnet_w48", "daformer_b0", "daformer"
]


@dataclass(frozen=True)
class GeneratorConfig:
    """Architecture of a generator.

    Attributes:
        backbone: Which encoder.
        filters: First channels of the ResNet (its fused map has four times as many); the others have their own.
        downsamplings: Of the ResNet.
        blocks: Residual blocks of the ResNet.
        recompute: Save memory in training by computing activations twice; not the ResNet.
    """

    backbone: Backbone = "resnet"
    filters: int = 64
    downsamplings: int = 4
    blocks: int = 9
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.filters < 4 or self.filters % 4:
            raise ValueError(f"filters: expected a positive multiple of 4, got {self.filters}")
        if self.downsamplings < 2:
            raise ValueError(f"downsamplings: expected at least 2, got {self.downsamplings}")
        if self.blocks < 1:
            raise ValueError(f"blocks: expected at least 1, got {self.blocks}")

    @property
    def stride(self) -> int:
        """Sides of the radiographs are multiples of this."""
        if self.backbone == "resnet":
            return 2**self.downsamplings
        return DAFormerEncoder.stride if self.backbone.startswith("daformer") else MultiResolutionEncoder.stride


class Generator(nn.Module):
    """Encoder to a fused map at 1/4 resolution, and decoder to images in [-1, 1].

    Args:
        encoder: A module with `channels` (of its map) and `stride` (the image's sides are multiples of it).
        outputs: Channels of the image: one per projected structure.
    """

    def __init__(self, encoder: nn.Module, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(encoder.channels, outputs)

    @property
    def channels(self) -> int:
        """Channels of the fused map; 256 in all full-size networks."""
        return self.encoder.channels

    def encode(self, xray: Tensor) -> Tensor:
        """(B, 1, H, W) in [-1, 1] to the fused map (B, channels, H/4, W/4).

        Raises:
            ValueError: A side is no multiple of the encoder's stride.
        """
        rows, columns = xray.shape[-2:]
        if rows % self.encoder.stride or columns % self.encoder.stride:
            raise ValueError(f"xray: expected sides in multiples of {self.encoder.stride}, got {rows} x {columns}")
        return self.encoder(xray)

    def forward(self, xray: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, C, H, W), both in [-1, 1]."""
        return self.decoder(self.encode(xray))


def make_encoder(config: GeneratorConfig, *, inputs: int) -> nn.Module:
    """The encoder of an architecture; it has `channels` and `stride`."""
    if config.backbone == "resnet":
        return ResNetEncoder(inputs, config.filters, config.downsamplings, config.blocks)
    if config.backbone in ("daformer_b0", "daformer"):
        return DAFormerEncoder(inputs, mix_plan_of(config.backbone), recompute=config.recompute)
    return MultiResolutionEncoder(inputs, plan_of(config.backbone), recompute=config.recompute)


def make_generator(config: GeneratorConfig, *, outputs: int, rng: torch.Generator, inputs: int = 1) -> Generator:
    """A generator with fresh weights.

    Args:
        config: Its architecture.
        outputs: Channels of its image: 2 for dataset A (pelvis, femur), 1 for dataset B.
        rng: Source of the first weights.
        inputs: Channels of the radiograph.
    """
    generator = Generator(make_encoder(config, inputs=inputs), outputs)
    initialise(generator, rng)
    return generator
