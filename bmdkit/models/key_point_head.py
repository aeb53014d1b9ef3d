"""Key points from an encoder's map: one heat map each, read off as its centre of mass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bmdkit.models.blocks import convolution, initialise
from bmdkit.models.generators import GeneratorConfig, make_encoder
from bmdkit.models.norms import make_norm
from bmdkit.models.regression_head import Regressor

CELL = 4
"""Pixels of the image to a side of a cell of the maps."""


class HeatMapHead(nn.Module):
    """A fused map (B, channels, h, w) to the scores (B, points, h, w) of where each point is."""

    def __init__(self, channels: int, points: int, width: int = 64) -> None:
        """Make the layers."""
        super().__init__()
        self.layers = nn.Sequential(
            convolution(channels, width), make_norm(width), nn.ReLU(), nn.Conv2d(width, points, 1)
        )

    def forward(self, fused: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, points, h, w)."""
        scores: Tensor = self.layers(fused)
        return scores


def make_key_point_network(architecture: GeneratorConfig, points: int, *, rng: torch.Generator) -> Regressor:
    """An encoder and a head with fresh weights: (B, 1, H, W) to scores (B, points, H/4, W/4)."""
    encoder = make_encoder(architecture, inputs=1)
    network = Regressor(encoder, HeatMapHead(encoder.channels, points))
    initialise(network, rng)
    encoder.initialise(rng)
    return network


def centres_of_mass(share: Tensor) -> Tensor:
    """(B, points, h, w), each map summing to 1, to (B, points, 2): column and row, in cells, their centres integer."""
    columns = torch.arange(share.shape[-1], dtype=share.dtype, device=share.device)
    rows = torch.arange(share.shape[-2], dtype=share.dtype, device=share.device)
    return torch.stack([(share.sum(-2) * columns).sum(-1), (share.sum(-1) * rows).sum(-1)], dim=-1)


def softmax_maps(scores: Tensor) -> Tensor:
    """Softmax over all places of each map."""
    return torch.softmax(scores.float().flatten(2), dim=-1).view_as(scores)


def heat_map_loss(scores: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    """How far maps are from those wanted, and their centres from the centres wanted; 0 for a point that is not seen.

    The cross-entropy less its least value (that of `target` itself), and the distance of the centres in cells.

    Args:
        scores: (B, points, h, w).
        target: (B, points, h, w), each map of a point that is seen summing to 1.
        seen: (B, points), bool.

    Source: the centres Nibali et al. 2018, arXiv 1801.07372.
    """
    logs = torch.log_softmax(scores.float().flatten(2), dim=-1)
    wanted = target.flatten(2)
    divergence = (wanted * (wanted.clamp(min=1e-12).log() - logs)).sum(-1)
    apart = (centres_of_mass(softmax_maps(scores)) - centres_of_mass(target)).norm(dim=-1)
    return ((divergence + apart) * seen).mean()
