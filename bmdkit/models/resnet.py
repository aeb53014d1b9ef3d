"""The residual encoder: the front of Pix2PixHD's global generator, up to where its map is at a quarter resolution."""

from __future__ import annotations

from torch import Tensor, nn

from bmdkit.models.blocks import ReflectBlock, group_norm, upsampling


class ResNetEncoder(nn.Module):
    """7x7 convolution, strided convolutions, residual blocks, and upsampling back to 1/4 of the resolution.

    With the shared decoder behind it this is the GlobalGenerator, norms aside.

    Args:
        inputs: Channels of the image.
        filters: Channels of the first layer, doubled by every downsampling (ngf; 64 in the paper).
        downsamplings: At least 2; 4 in Pix2PixHD.
        blocks: Residual blocks at the coarsest level (9 in the paper).

    Source: Wang et al. 2018, doi 10.1109/CVPR.2018.00917.
    """

    def __init__(self, inputs: int, filters: int = 64, downsamplings: int = 4, blocks: int = 9) -> None:
        super().__init__()
        if downsamplings < 2:
            raise ValueError(f"downsamplings: expected at least 2, got {downsamplings}")
        self.channels = 4 * filters
        self.stride = 2**downsamplings
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, filters, 7, padding=3, padding_mode="reflect"),
            group_norm(filters),
            nn.ReLU(),
        ]
        width = filters
        for _ in range(downsamplings):
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), group_norm(2 * width), nn.ReLU()]
            width *= 2
        layers += [ReflectBlock(width) for _ in range(blocks)]
        for _ in range(downsamplings - 2):
            layers.append(upsampling(width, width // 2))
            width //= 2
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)
