"""The residual encoder: the front of Pix2PixHD's global generator, up to where its map is at a quarter resolution."""

from __future__ import annotations

from torch import Tensor, nn

from bmdkit.models.blocks import ReflectBlock, upsampling
from bmdkit.models.encoder import Encoder
from bmdkit.models.norms import Norm, make_norm


class ResNetEncoder(Encoder):
    """7x7 convolution, strided convolutions, residual blocks, and upsampling back to 1/4 of the resolution.

    With the shared decoder behind it this is the GlobalGenerator, norms aside.

    Args:
        inputs: Channels of the image.
        filters: Channels of the first layer, doubled by every downsampling (ngf; 64 in the code of Gu et al. 2023,
            the paper does not state it).
        downsamplings: Halvings of the resolution, at least 2; 4 in Pix2PixHD.
        blocks: Residual blocks at the coarsest level (9 in the code of Gu et al. 2023).
        norm: Norm after each convolution.
        standardised: See `Encoder`.

    Source: Wang et al. 2018, doi 10.1109/CVPR.2018.00917.
    """

    def __init__(
        self,
        inputs: int,
        filters: int = 64,
        downsamplings: int = 4,
        blocks: int = 9,
        *,
        norm: Norm = "group",
        standardised: bool = False,
    ) -> None:
        """Make the layers."""
        super().__init__(4 * filters, 2**downsamplings, standardised=standardised)
        if downsamplings < 2:
            raise ValueError(f"downsamplings: expected at least 2, got {downsamplings}")
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, filters, 7, padding=3, padding_mode="reflect"),
            make_norm(filters, norm),
            nn.ReLU(),
        ]
        width = filters
        for _ in range(downsamplings):
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), make_norm(2 * width, norm), nn.ReLU()]
            width *= 2
        layers += [ReflectBlock(width, norm) for _ in range(blocks)]
        for _ in range(downsamplings - 2):
            layers.append(upsampling(width, width // 2, norm))
            width //= 2
        self.body = nn.Sequential(*layers)

    def features(self, xray: Tensor) -> tuple[Tensor, ...]:
        """The fused map alone."""
        return (self.body(xray),)
