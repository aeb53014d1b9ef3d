"""The generator: a radiograph in, projections of the bones out, whatever the backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bmdkit.models.blocks import Decoder, initialise
from bmdkit.models.daformer import DAFormerEncoder, mix_plan_of
from bmdkit.models.encoder import Encoder
from bmdkit.models.multiresolution import STRIDE, MultiResolutionEncoder, plan_of
from bmdkit.models.norms import Norm
from bmdkit.models.resnet import ResNetEncoder
from bmdkit.models.unet import UNetDecoder, UNetEncoder

Backbone = Literal[
    "resnet", "unet", "hrformer_t", "hrformer_s", "hrformer_b", "hrnet_w18", "hrnet_w48", "daformer_b0", "daformer"
]

IN_CHANNELS_FIRST = ("daformer", "daformer_b0")
"""Backbones whose maps lie in memory channel by channel. Those of the others lie pixel by pixel, with which a processor
is up to 1.4 times as fast; DAFormer takes longer with it."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Architecture of a generator.

    Attributes:
        backbone: Name of the encoder.
        filters: First channels of the ResNet (its fused map has four times as many) and of the U-Net (twice as many);
            the others have their own.
        downsamplings: Downsamplings of the ResNet.
        blocks: Residual blocks of the ResNet.
        recompute: Whether to save memory in training by computing activations twice; not the ResNet and the U-Net.
        norm: Norm after convolutions. `group` is the paper's rule. `batch` learns amplitudes better in small networks;
            with it, set `standardise`, since it is at the mercy of the exposure otherwise.
        standardise: Whether each radiograph is brought to mean 0 and standard deviation 1 over its image first.
    """

    backbone: Backbone = "resnet"
    filters: int = 64
    downsamplings: int = 4
    blocks: int = 9
    recompute: bool = False
    norm: Norm = "group"
    standardise: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.filters < 4 or self.filters % 4:
            raise ValueError(f"filters: expected a positive multiple of 4, got {self.filters}")
        if self.downsamplings < 2:
            raise ValueError(f"downsamplings: expected at least 2, got {self.downsamplings}")
        if self.blocks < 1:
            raise ValueError(f"blocks: expected at least 1, got {self.blocks}")

    @property
    def stride(self) -> int:
        """Both sides of a radiograph are multiples of it."""
        return 2**self.downsamplings if self.backbone == "resnet" else STRIDE


class Generator(nn.Module):
    """Encoder to a fused map at 1/4 resolution, and decoder to images of at least -1.

    Args:
        encoder: Network from a radiograph to its maps.
        outputs: Channels of the image: one per projected structure.
        norm: Norm of the decoder.
    """

    def __init__(self, encoder: Encoder, outputs: int, norm: Norm = "group") -> None:
        """Make the decoder that belongs to the encoder."""
        super().__init__()
        self.encoder = encoder
        if isinstance(encoder, UNetEncoder):
            self.decoder: Decoder | UNetDecoder = UNetDecoder(encoder.channels, encoder.channels // 2, outputs, norm)
        else:
            self.decoder = Decoder(encoder.channels, outputs, norm)

    @property
    def channels(self) -> int:
        """Channels of the fused map; 256 in all full-size networks of the paper."""
        return self.encoder.channels

    def encode(self, xray: Tensor) -> Tensor:
        """(B, 1, H, W) in [-1, 1] to the fused map (B, channels, H/4, W/4).

        Raises:
            ValueError: A side is no multiple of the encoder's stride.
        """
        fused: Tensor = self.encoder(xray)
        return fused

    def forward(self, xray: Tensor) -> Tensor:
        """(B, 1, H, W) in [-1, 1] to (B, C, H, W), -1 where nothing is."""
        image: Tensor = self.decoder(*self.encoder.maps(xray))
        return image


def make_encoder(config: GeneratorConfig, *, inputs: int) -> Encoder:
    """Make the encoder of an architecture."""
    norm, standardised = config.norm, config.standardise
    match config.backbone:
        case "resnet":
            return ResNetEncoder(
                inputs, config.filters, config.downsamplings, config.blocks, norm=norm, standardised=standardised
            )
        case "unet":
            return UNetEncoder(inputs, config.filters, norm=norm, standardised=standardised)
        case "daformer_b0" | "daformer" as name:
            mixed = mix_plan_of(name)
            return DAFormerEncoder(inputs, mixed, recompute=config.recompute, norm=norm, standardised=standardised)
        case name:
            plan = plan_of(name)
            return MultiResolutionEncoder(
                inputs, plan, recompute=config.recompute, norm=norm, standardised=standardised
            )


def make_generator(config: GeneratorConfig, *, outputs: int, rng: torch.Generator, inputs: int = 1) -> Generator:
    """A generator with fresh weights.

    Args:
        config: Architecture of the generator.
        outputs: Channels of its image: 2 for dataset A (pelvis, femur), 1 for dataset B.
        rng: Source of the first weights.
        inputs: Channels of the radiograph.
    """
    generator = Generator(make_encoder(config, inputs=inputs), outputs, config.norm)
    initialise(generator, rng)
    generator.encoder.initialise(rng)
    if isinstance(generator.decoder, UNetDecoder):
        generator.decoder.initialise(rng)
    if config.backbone not in IN_CHANNELS_FIRST:
        generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return generator
