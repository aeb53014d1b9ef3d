"""Building blocks that several networks share, and the rules for their norms and their first weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bmdkit.models.norms import Norm, make_norm


@torch.no_grad()
def initialise(network: nn.Module, rng: torch.Generator, std: float = 0.02) -> None:
    """Draw all convolution and linear weights from N(0, std); biases 0, norms 1 and 0, position biases N(0, std).

    Args:
        network: Network that is changed in place; it has to lie on the generator's device.
        rng: Source of all random draws, so that equal seeds give equal networks.
        std: Standard deviation of the weights.

    Source: Wang et al. 2018 (Pix2PixHD), doi 10.1109/CVPR.2018.00917.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.weight.normal_(0.0, std, generator=rng)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm) and module.weight is not None:
            module.weight.fill_(1.0)
            module.bias.zero_()
        elif isinstance(module, PositionBias):
            module.table.normal_(0.0, std, generator=rng)


def count_parameters(network: nn.Module) -> int:
    """Count the trainable values."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


class DropPath(nn.Module):
    """Leave out a whole residual branch of a sample with probability `rate` while training (stochastic depth)."""

    def __init__(self, rate: float) -> None:
        """Check the probability."""
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"rate: expected 0 <= rate < 1, got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the same; a sample is 0, or larger by what the others lack."""
        if not self.training or self.rate == 0.0:
            return x
        keep = torch.rand((len(x),) + (1,) * (x.ndim - 1), device=x.device) >= self.rate
        return x * keep / (1.0 - self.rate)


class PositionBias(nn.Module):
    """A learnt bias of attention that depends on the offset between two places of a rows x columns window alone."""

    index: Tensor

    def __init__(self, rows: int, columns: int, heads: int) -> None:
        """Make the table of offsets of a window of `rows` x `columns`, one for each head."""
        super().__init__()
        self.rows, self.columns = rows, columns
        self.table = nn.Parameter(torch.zeros(heads, (2 * rows - 1) * (2 * columns - 1)))
        at = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")).flatten(1)
        offset = at[:, :, None] - at[:, None, :]
        index = (offset[0] + rows - 1) * (2 * columns - 1) + offset[1] + columns - 1
        self.register_buffer("index", index.flatten(), persistent=False)

    def forward(self) -> Tensor:
        """(heads, rows * columns, rows * columns)."""
        places = self.rows * self.columns
        return self.table[:, self.index].view(-1, places, places)


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Zero-padded convolution without bias: a norm follows."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut; widens to four times `width`. Source: He et al. 2016, doi 10.1109/CVPR.2016.90."""

    def __init__(self, inputs: int, width: int, norm: Norm = "group") -> None:
        """Make the layers."""
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            convolution(inputs, width, 1),
            make_norm(width, norm),
            nn.ReLU(),
            convolution(width, width),
            make_norm(width, norm),
            nn.ReLU(),
            convolution(width, outputs, 1),
            make_norm(outputs, norm),
        )
        same = inputs == outputs
        widened = nn.Sequential() if same else nn.Sequential(convolution(inputs, outputs, 1), make_norm(outputs, norm))
        self.shortcut = nn.Identity() if same else widened

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, 4 width, H, W)."""
        return torch.relu(self.body(x) + self.shortcut(x))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut. Source: He et al. 2016, doi 10.1109/CVPR.2016.90."""

    def __init__(self, channels: int, drop_path: float = 0.0, norm: Norm = "group") -> None:
        """Make the layers."""
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, channels),
            make_norm(channels, norm),
            nn.ReLU(),
            convolution(channels, channels),
            make_norm(channels, norm),
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        return torch.relu(x + self.drop_path(self.body(x)))


class ReflectBlock(nn.Module):
    """Residual block of the Pix2PixHD generator: two reflect-padded 3x3 convolutions, no activation at the end."""

    def __init__(self, channels: int, norm: Norm = "group") -> None:
        """Make the layers."""
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            make_norm(channels, norm),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            make_norm(channels, norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        summed: Tensor = x + self.body(x)
        return summed


def upsampling(inputs: int, outputs: int, norm: Norm = "group") -> nn.Sequential:
    """Transposed 3x3 convolution to twice the size, norm, ReLU."""
    transposed = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(transposed, make_norm(outputs, norm), nn.ReLU())


class Decoder(nn.Module):
    """From the fused 1/4-resolution map to images in [-1, 1]: two upsamplings, a reflect-padded 7x7 convolution, tanh.

    With 256 input channels it has 0.37 million parameters.

    Args:
        inputs: Channels of the map; each upsampling halves them.
        outputs: Channels of the image.
        norm: Norm after each upsampling.

    Source: Wang et al. 2018 (Pix2PixHD GlobalGenerator), doi 10.1109/CVPR.2018.00917.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm = "group") -> None:
        """Make the layers."""
        super().__init__()
        self.up = nn.Sequential(upsampling(inputs, inputs // 2, norm), upsampling(inputs // 2, inputs // 4, norm))
        self.last = nn.Conv2d(inputs // 4, outputs, 7, padding=3, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H/4, W/4) to (B, outputs, H, W), in [-1, 1]."""
        # in bf16 tanh is 1 from 3.5 on: what was drawn dark once would have no gradient to come back by
        return torch.tanh(self.last(self.up(x)).float())


class Fuse(nn.Module):
    """Feature maps of all resolutions, brought to the finest, to one map of 256 channels.

    Concatenate, grouped 7x7 convolution to 512 (as many groups as both channel numbers allow: 2 for HRFormer-B's 1170),
    norm, ReLU, 1x1 convolution.
    """

    def __init__(self, inputs: int, outputs: int = 256, width: int = 512, norm: Norm = "group") -> None:
        """Make the layers for maps of `inputs` channels together."""
        super().__init__()
        self.body = nn.Sequential(
            convolution(inputs, width, 7, groups=math.gcd(inputs, width)),
            make_norm(width, norm),
            nn.ReLU(),
            nn.Conv2d(width, outputs, 1),
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps (B, C_n, H_n, W_n), the finest first, to (B, outputs, H_0, W_0)."""
        size = maps[0].shape[-2:]
        same = [maps[0]] + [nn.functional.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps[1:]]
        fused: Tensor = self.body(torch.cat(same, dim=1))
        return fused
