"""DAFormer: a Mix Transformer's four levels, gathered by dilated convolutions into one map.

Sources: Xie et al. 2021 (SegFormer, the Mix Transformer), arXiv 2105.15203; Hoyer et al. 2022 (DAFormer),
doi 10.1109/CVPR52688.2022.00969.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from bmdkit.models.blocks import DropPath, convolution
from bmdkit.models.encoder import Encoder
from bmdkit.models.norms import Norm, make_norm, run_twice

MixName = Literal["daformer_b0", "daformer"]
STRIDE = 32
"""Both sides of a radiograph are multiples of it."""


@dataclass(frozen=True)
class MixPlan:
    """Size of a Mix Transformer: channels, blocks, heads of the levels, and by how much keys are thinned out a side."""

    channels: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    heads: tuple[int, int, int, int] = (1, 2, 5, 8)
    reductions: tuple[int, int, int, int] = (8, 4, 2, 1)
    drop_path: float = 0.1


def mix_plan_of(name: MixName) -> MixPlan:
    """The published sizes: MiT-B0, and MiT-B5, which DAFormer takes."""
    match name:
        case "daformer_b0":
            return MixPlan((32, 64, 160, 256), (2, 2, 2, 2))
        case "daformer":
            return MixPlan((64, 128, 320, 512), (3, 6, 40, 3))
    raise ValueError(f"name: no Mix Transformer is called {name!r}")


class DAFormerEncoder(Encoder):
    """Radiograph to the fused map (256 channels) at 1/4 resolution.

    Args:
        inputs: Channels of the image.
        plan: Size of the transformer.
        recompute: Whether to trade time for memory, see `MultiResolutionEncoder`.
        norm: Norm of the part that fuses the levels; the transformer has its own.
        standardised: See `Encoder`.
    """

    def __init__(
        self,
        inputs: int,
        plan: MixPlan,
        *,
        recompute: bool = False,
        norm: Norm = "group",
        standardised: bool = False,
    ) -> None:
        """Make the layers."""
        super().__init__(256, STRIDE, standardised=standardised)
        self.trunk = MixTransformer(inputs, plan, recompute)
        self.fuse = DilatedFuse(plan.channels, self.channels, norm=norm)

    def features(self, xray: Tensor) -> tuple[Tensor, ...]:
        """The fused map alone."""
        return (self.fuse(self.trunk(xray)),)


class MixTransformer(nn.Module):
    """Four levels at 1/4, 1/8, 1/16 and 1/32 of overlapping patches and blocks; gives the maps of all."""

    def __init__(self, inputs: int, plan: MixPlan, recompute: bool = False) -> None:
        """Make the layers."""
        super().__init__()
        self.recompute = recompute
        total, done = sum(plan.blocks), 0
        self.patches, self.levels, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = inputs
        for n, channels in enumerate(plan.channels):
            self.patches.append(OverlapPatches(before, channels, 7 if n == 0 else 3, 4 if n == 0 else 2))
            rates = [plan.drop_path * (done + k) / (total - 1) for k in range(plan.blocks[n])]
            blocks = (MixBlock(channels, plan.heads[n], plan.reductions[n], rate) for rate in rates)
            self.levels.append(nn.ModuleList(blocks))
            self.norms.append(nn.LayerNorm(channels, eps=1e-6))
            before, done = channels, done + plan.blocks[n]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, H, W) to the maps at 1/4, 1/8, 1/16 and 1/32."""
        maps = []
        for patches, blocks, norm in zip(self.patches, self.levels, self.norms, strict=True):
            x = patches(x)
            for block in cast(nn.ModuleList, blocks):
                x = run_twice(block, x) if self.recompute and self.training else block(x)
            x = norm(x).permute(0, 3, 1, 2).contiguous()
            maps.append(x)
        return maps


class OverlapPatches(nn.Module):
    """A strided convolution and a norm; channels go last."""

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int) -> None:
        """Make the layers."""
        super().__init__()
        self.projection = nn.Conv2d(inputs, channels, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, H / stride, W / stride, channels)."""
        patches: Tensor = self.norm(self.projection(x).permute(0, 2, 3, 1))
        return patches


class MixBlock(nn.Module):
    """Attention to keys on a coarser grid, and a feed-forward part with a depthwise convolution inside."""

    def __init__(self, channels: int, heads: int, reduction: int, drop_path: float) -> None:
        """Make the layers."""
        super().__init__()
        self.norm_attention = nn.LayerNorm(channels, eps=1e-6)
        self.attention = ReducedAttention(channels, heads, reduction)
        self.norm_forward = nn.LayerNorm(channels, eps=1e-6)
        self.widen = nn.Linear(channels, 4 * channels)
        self.depthwise = nn.Conv2d(4 * channels, 4 * channels, 3, padding=1, groups=4 * channels)
        self.narrow = nn.Linear(4 * channels, channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, rows, columns, channels) to the same."""
        x = x + self.drop_path(self.attention(self.norm_attention(x)))
        hidden = self.widen(self.norm_forward(x)).permute(0, 3, 1, 2)
        hidden = nn.functional.gelu(self.depthwise(hidden)).permute(0, 2, 3, 1)
        return x + self.drop_path(self.narrow(hidden))


class ReducedAttention(nn.Module):
    """Multi-head self-attention whose keys and values are thinned out `reduction`-fold along each side."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        """Make the layers."""
        super().__init__()
        if channels % heads:
            raise ValueError(f"heads: expected a divisor of {channels} channels, got {heads}")
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.reduce = nn.Conv2d(channels, channels, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(channels) if reduction > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, rows, columns, channels) to the same."""
        batch, rows, columns, channels = x.shape
        keys = x
        if self.reduce is not None and self.norm is not None:
            keys = self.norm(self.reduce(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        q = self.query(x).view(batch, rows * columns, self.heads, -1).transpose(1, 2)
        k, v = self.key_value(keys).view(batch, -1, 2, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, rows, columns, channels))


class DilatedFuse(nn.Module):
    """Each level to `width` channels at the finest resolution, then four dilations side by side, then one map.

    A 1x1 convolution and three depthwise separable 3x3 ones with dilations 6, 12 and 18.
    """

    def __init__(self, channels: tuple[int, ...], outputs: int, width: int = 256, norm: Norm = "group") -> None:
        """Make the layers."""
        super().__init__()
        self.embed = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        inputs = width * len(channels)
        self.branches = nn.ModuleList([_activated(convolution(inputs, outputs, 1), outputs, norm)])
        for dilation in (6, 12, 18):
            depthwise = nn.Conv2d(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False)
            separable = nn.Sequential(
                _activated(depthwise, inputs, norm), _activated(convolution(inputs, outputs, 1), outputs, norm)
            )
            self.branches.append(separable)
        self.last = _activated(convolution(4 * outputs, outputs), outputs, norm)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps of all levels, the finest first, to (B, outputs, H/4, W/4)."""
        size = maps[0].shape[-2:]
        embedded = [embed(m) for embed, m in zip(self.embed, maps, strict=True)]
        same = [nn.functional.interpolate(m, size, mode="bilinear", align_corners=False) for m in embedded]
        x = torch.cat(same, dim=1)
        return self.last(torch.cat([branch(x) for branch in self.branches], dim=1))


def _activated(layer: nn.Conv2d, channels: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(layer, make_norm(channels, norm), nn.ReLU())
