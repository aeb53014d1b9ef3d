"""Self-attention inside windows, with a depthwise convolution in the feed-forward part: the block of HRFormer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bmdkit.models.blocks import DropPath, PositionBias
from bmdkit.models.norms import Norm, make_norm


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows of `window` x `window` places, with a relative position bias.

    The map is padded with zeros to whole windows; padding takes no part as a key.

    Args:
        channels: Channels of the map.
        heads: Heads of the attention; they divide the channels.
        window: Places along a side of a window.
    """

    def __init__(self, channels: int, heads: int, window: int = 7) -> None:
        """Make the layers."""
        super().__init__()
        if channels % heads:
            raise ValueError(f"heads: expected a divisor of {channels} channels, got {heads}")
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.position = PositionBias(window, window, heads)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, rows, columns, channels) to the same."""
        batch, rows, columns, channels = x.shape
        w = self.window
        down, right = -rows % w, -columns % w
        bias = self.position()[None]
        if down or right:
            x = nn.functional.pad(x, (0, 0, 0, right, 0, down))
            bias = bias + _padding_bias(rows, columns, down, right, w, x.device, bias.dtype).repeat(batch, 1, 1, 1)
        high, wide = (rows + down) // w, (columns + right) // w
        windows = x.view(batch, high, w, wide, w, channels).transpose(2, 3).reshape(-1, w * w, channels)
        q, k, v = self.qkv(windows).view(len(windows), w * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        mixed = self.out(mixed.transpose(1, 2).reshape(-1, w * w, channels))
        mixed = mixed.view(batch, high, wide, w, w, channels).transpose(2, 3)
        return mixed.reshape(batch, rows + down, columns + right, channels)[:, :rows, :columns]


def _padding_bias(
    rows: int, columns: int, down: int, right: int, w: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """(windows, 1, 1, w * w): a large negative number for keys that are padding."""
    real = torch.zeros(rows, columns, device=device, dtype=dtype)
    real = nn.functional.pad(real, (0, right, 0, down), value=-1e4)
    high, wide = (rows + down) // w, (columns + right) // w
    return real.view(high, w, wide, w).transpose(1, 2).reshape(high * wide, 1, 1, w * w)


class DepthwiseFeedForward(nn.Module):
    """1x1, GELU, depthwise 3x3, GELU, 1x1, a norm after each: lets neighbouring windows exchange what they know."""

    def __init__(self, channels: int, ratio: int = 4, norm: Norm = "group") -> None:
        """Make the layers; `ratio` times as many channels stand between the two 1x1 convolutions."""
        super().__init__()
        hidden = ratio * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            make_norm(hidden, norm),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            make_norm(hidden, norm),
            nn.GELU(),
            nn.Conv2d(hidden, channels, 1),
            make_norm(channels, norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        changed: Tensor = self.body(x)
        return changed


class WindowBlock(nn.Module):
    """Windowed attention and depthwise feed-forward, each normalised before and added to its input.

    Source: Yuan et al. 2021 (HRFormer), arXiv 2110.09408, figure 2.
    """

    def __init__(
        self, channels: int, heads: int, *, drop_path: float = 0.0, window: int = 7, norm: Norm = "group"
    ) -> None:
        """Make the layers."""
        super().__init__()
        self.norm_attention = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window)
        self.norm_forward = nn.LayerNorm(channels)
        self.forward_part = DepthwiseFeedForward(channels, norm=norm)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, rows, columns) to the same."""
        last = x.permute(0, 2, 3, 1)
        last = last + self.drop_path(self.attention(self.norm_attention(last)))
        normed = self.norm_forward(last).permute(0, 3, 1, 2)
        return last.permute(0, 3, 1, 2) + self.drop_path(self.forward_part(normed))
