"""Random geometry, the same for a radiograph and its projections, and random exposure of the radiograph alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the random changes; 0 switches one off.

    Attributes:
        rotation_deg, shear_deg: Uniform in +- this.
        shift: Uniform in +- this fraction of the image's sides.
        scale: Factor uniform in 1 +- this.
        flip_horizontal, flip_vertical: Probability of each.
        brightness, contrast: Factors uniform in 1 +- this; of the radiograph alone.
        collimation: Probability that one to four straight blades, each at any angle, cover a part of the radiograph;
            it is black there, and no image in the mask.
        tone: Spread of a random tone curve of the radiograph alone, as rooms differ: its exponent is exp(u), and
            the weight of an S-shaped curve beside a straight one is v, both uniform in +- this.
        tissue: Standard deviation of a smooth field that is added to the radiograph alone, as other soft tissue would
            be; drawn for each radiograph from 0 to this, in units of its range.
        sharpness: Weight of what is fine in the radiograph (against a blur of 3 x 3 pixels), which is added once more
            or taken away, as focus, detector and processing differ; uniform in +- this.
        fill: What is moved in from outside the picture: `black`, or its `edge`, which goes on; that is for a picture
            that is cut out of a radiograph. Black corners, which it has in training alone, outweigh all that it shows.

    Source of the defaults: Gu et al. 2023, doi 10.1016/j.media.2023.102970, section 4.2.7.
    """

    rotation_deg: float = 25.0
    shear_deg: float = 9.0
    shift: float = 0.3
    scale: float = 0.3
    flip_horizontal: float = 0.5
    flip_vertical: float = 0.5
    brightness: float = 0.5
    contrast: float = 0.5
    collimation: float = 0.0
    tone: float = 0.0
    tissue: float = 0.0
    sharpness: float = 0.0
    fill: Literal["black", "edge"] = "black"

    def __post_init__(self) -> None:
        """Check the values."""
        for field in fields(self)[:-1]:
            value = getattr(self, field.name)
            most = 89.0 if field.name == "shear_deg" else math.inf if field.name == "rotation_deg" else 1.0
            if not 0.0 <= value <= most or (field.name == "scale" and value == 1.0):
                raise ValueError(f"{field.name}: expected a value of 0 to {most:g}, got {value}")


MOST_BLADES = 4
_KNOTS = 4
"""Random values of a smooth field along the shorter side."""

REACH = (0.7, 0.95)
"""Range of the distance of a blade from the middle, as a part of the way to the image's farthest corner that side."""


@torch.no_grad()
def augment(batch: dict[str, Tensor], config: AugmentConfig, rng: torch.Generator) -> dict[str, Tensor]:
    """A changed copy of a batch.

    What is moved in from outside the picture is black (-1) in the radiograph, nothing (-1) in the projections, and
    counts as image in the mask: there is nothing to see, and nothing should be predicted; unless its edge goes on.

    Args:
        batch: `xray` (B, 1, H, W) and `drr` (B, C, H, W) in [-1, 1], `mask` (B, 1, H, W); other entries pass. Where
            these are but a part of a batch, `places` (B,) and `of` () say which: a sample is changed in the same way
            whoever computes it.
        config: Ranges.
        rng: A generator on the CPU, so that one seed gives one training on every device.
    """
    xray, drr, mask = batch["xray"], batch["drr"], batch["mask"]
    count, places = find_places(batch, len(xray))
    brightness, contrast = (
        1.0 + _uniform(count, spread, rng)[places] for spread in (config.brightness, config.contrast)
    )
    if config.collimation > 0:
        is_open = draw_openings(count, (xray.shape[-2], xray.shape[-1]), config.collimation, rng)[places]
        mask = mask * is_open.to(mask)
        xray = torch.where(is_open.to(xray.device), xray, -1.0)
    if config.tone > 0:
        exponents, weights = (_uniform(count, config.tone, rng)[places].to(xray.device) for _ in range(2))
        xray = bend_tones(xray, mask, exponents.exp(), weights)
    if config.tissue > 0:
        field = draw_smooth_fields(count, (xray.shape[-2], xray.shape[-1]), config.tissue, rng)[places].to(xray)
        xray = torch.where(mask > 0, (xray + 2.0 * field).clamp(-1.0, 1.0), xray)
    if config.sharpness > 0:
        xray = sharpen(xray, mask, _uniform(count, config.sharpness, rng)[places].to(xray.device))
    changed = exposed(xray, mask, brightness.to(xray.device), contrast.to(xray.device))
    matrices = affine_matrices(count, (xray.shape[-2], xray.shape[-1]), config, rng)[places].to(xray.device)
    stack = torch.cat([changed + 1.0, drr + 1.0, 1.0 - mask], dim=1)
    grid = torch.nn.functional.affine_grid(matrices, list(stack.shape), align_corners=False)
    padding = "border" if config.fill == "edge" else "zeros"
    moved = torch.nn.functional.grid_sample(stack, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return batch | {
        "xray": moved[:, :1] - 1.0,
        "drr": moved[:, 1:-1] - 1.0,
        "mask": (moved[:, -1:] < 1e-3).to(mask.dtype),
    }


def find_places(batch: dict[str, Tensor], count: int) -> tuple[int, Tensor]:
    """Number of samples of the whole batch, and which these are: all `count` unless `of` and `places` say so."""
    count = int(batch["of"]) if "of" in batch else count
    return count, batch["places"] if "places" in batch else torch.arange(count)


def _uniform(count: int, spread: float, rng: torch.Generator) -> Tensor:
    return (2.0 * torch.rand(count, generator=rng) - 1.0) * spread


def draw_smooth_fields(count: int, size: tuple[int, int], spread: float, rng: torch.Generator) -> Tensor:
    """Random fields without detail, (count, 1, rows, columns).

    Args:
        count: Number of images.
        size: Rows and columns of each.
        spread: Largest standard deviation; that of each image is uniform from 0 to this.
        rng: A generator on the CPU.
    """
    knots = [max(round(_KNOTS * length / min(size)), _KNOTS) for length in size]
    coarse = torch.randn(count, 1, *knots, generator=rng)
    sizes = spread * torch.rand(count, 1, 1, 1, generator=rng)
    return sizes * torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=True)


def draw_openings(count: int, size: tuple[int, int], chance: float, rng: torch.Generator) -> Tensor:
    """What collimators leave open, (count, 1, rows, columns), bool.

    Args:
        count: Number of images.
        size: Rows and columns of each.
        chance: Probability that there is a collimator.
        rng: A generator on the CPU.
    """
    has_blades = torch.rand(count, 1, generator=rng) < chance
    blades = torch.randint(1, MOST_BLADES + 1, (count, 1), generator=rng)
    angles = 2 * math.pi * torch.rand(count, MOST_BLADES, generator=rng)
    reach = REACH[0] + (REACH[1] - REACH[0]) * torch.rand(count, MOST_BLADES, generator=rng)
    is_there = has_blades & (torch.arange(MOST_BLADES) < blades)
    down, across = (torch.arange(float(length)) - (length - 1) / 2 for length in size)
    sin, cos = torch.sin(angles)[..., None, None], torch.cos(angles)[..., None, None]
    farthest = sin.abs() * size[0] / 2 + cos.abs() * size[1] / 2
    covered = sin * down[:, None] + cos * across > reach[..., None, None] * farthest
    return ~(covered & is_there[..., None, None]).any(dim=1, keepdim=True)


def exposed(xray: Tensor, mask: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Brightness scales the intensity in [0, 1], contrast its distance from the image's mean, both inside the mask."""
    shape = (-1, 1, 1, 1)
    intensity = 0.5 * (xray + 1.0) * brightness.view(shape)
    mean = (intensity * mask).sum((1, 2, 3), keepdim=True) / mask.sum((1, 2, 3), keepdim=True).clamp_min(1.0)
    changed = 2.0 * ((intensity - mean) * contrast.view(shape) + mean).clamp(0.0, 1.0) - 1.0
    return torch.where(mask > 0, changed, xray)


def bend_tones(xray: Tensor, mask: Tensor, exponents: Tensor, weights: Tensor) -> Tensor:
    """A tone curve of each radiograph, which rises everywhere and keeps black and white, inside the mask.

    Args:
        xray: (B, 1, H, W) in [-1, 1].
        mask: (B, 1, H, W), what is image.
        exponents: (B,), positive.
        weights: (B,) in [-1, 1], of an S-shaped curve beside a straight one; a negative one is steepest at the ends.
    """
    shape = (-1, 1, 1, 1)
    intensity = (0.5 * (xray + 1.0)).clamp(0.0, 1.0)
    curved = intensity + weights.view(shape) * intensity * (1.0 - intensity) * (2.0 * intensity - 1.0)
    return torch.where(mask > 0, 2.0 * curved ** exponents.view(shape) - 1.0, xray)


def sharpen(xray: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """What is fine in each radiograph added once more, inside the mask.

    Args:
        xray: (B, 1, H, W) in [-1, 1].
        mask: (B, 1, H, W), what is image.
        weights: (B,), of what is added; -1 leaves the radiograph blurred by a binomial filter of 3 x 3 pixels.
    """
    line = torch.tensor([0.25, 0.5, 0.25], device=xray.device, dtype=xray.dtype)
    padded = torch.nn.functional.pad(xray, (1, 1, 1, 1), mode="replicate")
    blurred = torch.nn.functional.conv2d(padded, torch.outer(line, line)[None, None])
    sharper = xray + weights.view(-1, 1, 1, 1).to(xray.dtype) * (xray - blurred)
    return torch.where(mask > 0, sharper.clamp(-1.0, 1.0), xray)


def affine_matrices(count: int, size: tuple[int, int], config: AugmentConfig, rng: torch.Generator) -> Tensor:
    """(count, 2, 3): from the places of the new image to those of the old, in units of half its sides."""
    rows, columns = size
    turn = torch.deg2rad(_uniform(count, config.rotation_deg, rng))
    shear = torch.tan(torch.deg2rad(_uniform(count, config.shear_deg, rng)))
    factor = 1.0 + _uniform(count, config.scale, rng)
    shift = torch.stack([2.0 * _uniform(count, config.shift, rng) for _ in range(2)], dim=-1)
    flips = [
        1.0 - 2.0 * (torch.rand(count, generator=rng) < chance).float()
        for chance in (config.flip_horizontal, config.flip_vertical)
    ]
    cos, sin, zero, one = torch.cos(turn), torch.sin(turn), torch.zeros(count), torch.ones(count)
    rotation = torch.stack([cos, -sin, sin, cos], dim=-1).view(-1, 2, 2)
    sheared = torch.stack([one, shear, zero, one], dim=-1).view(-1, 2, 2)
    flipped = torch.stack([flips[0], zero, zero, flips[1]], dim=-1).view(-1, 2, 2)
    pixels = rotation @ sheared @ flipped / factor[:, None, None]
    sides = torch.tensor([float(columns), float(rows)])
    normalised = pixels * sides[None, None, :] / sides[None, :, None]
    return torch.cat([normalised, -(normalised @ shift[:, :, None])], dim=-1)
