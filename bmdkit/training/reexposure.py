"""Radiographs of a batch taken again from what they were made of: another beam, processing, soft tissue and mineral.

Simulated pairs that keep their layers (`bmdkit simulate --set layers=true`) hold the areal densities of soft tissue and
mineral along each ray. From these a radiograph is exposed again at every step, as `simulation.exposure` and
`simulation.presentation` do. A network so sees each hip under another exposure each time, and with another density: the
mineral of the femur is multiplied by a smooth random field, and the projection that is to be found by the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bmdkit.simulation.exposure import attenuation
from bmdkit.simulation.exposure_site import COMPRESSION, GAMMA, HIGH_PERCENTILE, LOW_PERCENTILE, SCATTER_TO_PRIMARY, TOE
from bmdkit.training.augment import draw_smooth_fields, find_places

_ENERGIES_KEV = np.arange(25.0, 95.0, 10.0)
_KVP = (65.0, 95.0)
_ALUMINIUM_G_CM2 = (0.6, 1.4)
_LOG10_PHOTONS = (6.3, 7.6)  # of a pixel of a pair
_SCATTER_ROWS = 0.1  # width of its blur as a part of the image's height, 25 to 50 mm of 360
_COMPRESSION_ROWS = 0.125  # as above, 45 mm
_BODY_G_CM2 = 1.0  # what is less is air beside the body


@dataclass(frozen=True)
class ReexposureConfig:
    """How radiographs of dataset B are exposed again, from pairs that keep their layers.

    Attributes:
        share: Probability that a radiograph is.
        density: Standard deviation of the logarithm of the factor of mineral; half of its variance is alike over the
            whole image, half is a smooth field, the femur's and the other bones' apart.
        girth: Soft tissue is multiplied by 1 + u, u uniform in +- this.
        tissue: Standard deviation of a smooth field that is added to the soft tissue, g/cm2; drawn for each radiograph
            from 0 to this.
        mix: Probability that soft tissue is mixed with that of another patient of the batch, in any share.
    """

    share: float = 0.0
    density: float = 0.2
    girth: float = 0.15
    tissue: float = 0.8
    mix: float = 0.5

    def __post_init__(self) -> None:
        """Check the values."""
        for field in fields(self):
            value, most = getattr(self, field.name), 1.0 if field.name in ("share", "mix") else 5.0
            if not 0.0 <= value <= most:
                raise ValueError(f"{field.name}: expected a value of 0 to {most:g}, got {value}")


@dataclass(frozen=True, eq=False)
class SoftTissue:
    """The soft tissue of all pairs that are learnt from, to mix with.

    Attributes:
        layers: (N, 1, H, W), g/cm2.
        is_left: (N,), which are left hips.
    """

    layers: Tensor
    is_left: Tensor

    def take(self, indices: Tensor, is_left: Tensor) -> Tensor:
        """The soft tissue of some pairs, (B, 1, H, W), float32, mirrored where it is of the other side than asked."""
        soft = self.layers[indices.to(self.layers.device)].to(is_left.device, torch.float32)
        mirrored = (self.is_left[indices.to(self.is_left.device)].to(is_left.device) != is_left).view(-1, 1, 1, 1)
        return torch.where(mirrored, soft.flip(-1), soft)


@dataclass(frozen=True, eq=False)
class _Draws:
    """Random values of the samples of a batch, the same whoever computes a sample.

    Attributes:
        count: Samples of the whole batch.
        places: Which of them these are.
        rng: A generator on the CPU.
        device: Where the values are wanted.
    """

    count: int
    places: Tensor
    rng: torch.Generator
    device: torch.device

    def uniform(self, low: float, high: float) -> Tensor:
        """One value for each sample, (B, 1, 1, 1)."""
        return self._own(low + (high - low) * torch.rand(self.count, 1, 1, 1, generator=self.rng))

    def normal(self, size: tuple[int, int] = (1, 1)) -> Tensor:
        """Standard normal values, (B, 1, rows, columns)."""
        return self._own(torch.randn(self.count, 1, *size, generator=self.rng))

    def fields(self, size: tuple[int, int], spread: float) -> Tensor:
        """Smooth fields, see `draw_smooth_fields`."""
        return self._own(draw_smooth_fields(self.count, size, spread, self.rng))

    def integers(self, end: int) -> Tensor:
        """One index below `end` for each sample, (B,)."""
        return torch.randint(end, (self.count,), generator=self.rng)[self.places]

    def _own(self, values: Tensor) -> Tensor:
        return values[self.places].to(self.device)


@torch.no_grad()
def expose_again(
    batch: dict[str, Tensor], others: SoftTissue, config: ReexposureConfig, rng: torch.Generator
) -> dict[str, Tensor]:
    """A batch whose radiographs are taken again, and whose projections have the mineral that these have.

    Args:
        batch: `xray` (B, 1, H, W) and `drr` (B, 1, H, W) in [-1, 1], `mask`, `layers` (B, 3, H, W) in g/cm2 of
            `dataset.layout.LAYERS`, and `is_left` (B,); `places` and `of` as in `augment`.
        others: Soft tissue to mix with.
        config: Ranges.
        rng: A generator on the CPU.
    """
    xray, drr, layers = batch["xray"], batch["drr"], batch["layers"]
    size = (xray.shape[-2], xray.shape[-1])
    draws = _Draws(*find_places(batch, len(xray)), rng, xray.device)
    chosen = draws.uniform(0.0, 1.0) < config.share
    soft, rest, femur = layers[:, :1], layers[:, 1:2], layers[:, 2:]
    whole = draws.normal()
    factors = [
        torch.exp(config.density * (whole + draws.fields(size, 1.0)) / math.sqrt(2.0)) for _ in ("femur", "rest")
    ]
    partner = others.take(draws.integers(len(others.layers)), batch["is_left"])
    soft = _vary_soft(soft, partner, config, draws)
    shown = 2.0 * _present(_expose(soft, femur * factors[0] + rest * factors[1], draws), draws) - 1.0
    shown = torch.where(batch["mask"] > 0, shown, xray)
    mineral = (0.5 * (drr + 1.0) * factors[0]).clamp(0.0, 1.0)
    return batch | {
        "xray": torch.where(chosen, shown, xray),
        "drr": torch.where(chosen, 2.0 * mineral - 1.0, drr),
    }


def _vary_soft(soft: Tensor, partner: Tensor, config: ReexposureConfig, draws: _Draws) -> Tensor:
    """Other soft tissue: of more or less girth, of another patient in part, with smooth fields."""
    part = draws.uniform(0.0, 1.0) * (draws.uniform(0.0, 1.0) < config.mix)
    mixed = ((1.0 - part) * soft + part * partner) * draws.uniform(1.0 - config.girth, 1.0 + config.girth)
    field = draws.fields((soft.shape[-2], soft.shape[-1]), config.tissue)
    return torch.where(mixed > _BODY_G_CM2, (mixed + field).clamp_min(0.0), mixed)


@lru_cache(maxsize=1)
def _attenuations() -> tuple[Tensor, Tensor, Tensor]:
    """Mass attenuation coefficients of aluminium, water and bone mineral at `_ENERGIES_KEV`, cm2/g."""
    found = (attenuation(name, _ENERGIES_KEV) for name in ("aluminium", "water", "hydroxyapatite"))
    aluminium, water, mineral = (torch.from_numpy(values).float() for values in found)
    return aluminium, water, mineral


def _expose(soft: Tensor, bone: Tensor, draws: _Draws) -> Tensor:
    """The detector's signal, 1 where there is nothing; see `simulation.exposure`."""
    aluminium, water, mineral = (values.to(soft.device) for values in _attenuations())
    kvp, filtered = (draws.uniform(*limits).view(-1, 1) for limits in (_KVP, _ALUMINIUM_G_CM2))
    energies = torch.from_numpy(_ENERGIES_KEV).float().to(soft.device)
    shares = (kvp - energies).clamp_min(0.0) * torch.exp(-aluminium * filtered)
    shares = shares / shares.sum(1, keepdim=True)
    primary = torch.zeros_like(soft)
    for n in range(len(energies)):
        primary = primary + shares[:, n].view(-1, 1, 1, 1) * torch.exp(-water[n] * soft - mineral[n] * bone)
    signal = primary + draws.uniform(*SCATTER_TO_PRIMARY) * _blur(primary, _SCATTER_ROWS)
    photons = 10.0 ** draws.uniform(*_LOG10_PHOTONS)
    noise = draws.normal((signal.shape[-2], signal.shape[-1]))
    return (signal + noise * torch.sqrt(signal / photons)).clamp_min(1e-6)


def _present(signal: Tensor, draws: _Draws) -> Tensor:
    """What a vendor shows of a signal, in [0, 1]; see `simulation.presentation`."""
    image = -torch.log(signal)
    wide = _blur(image, _COMPRESSION_ROWS)
    middle = wide.flatten(1).median(1).values.view(-1, 1, 1, 1)
    image = image - draws.uniform(*COMPRESSION).clamp_min(0.0) * torch.maximum(wide, middle)
    ordered = image.flatten(1).sort(1).values
    last = ordered.shape[1] - 1
    limits = LOW_PERCENTILE, HIGH_PERCENTILE
    places = ((last * draws.uniform(*one) / 100.0).round().long().view(-1, 1) for one in limits)
    low, high = (ordered.gather(1, place).view(-1, 1, 1, 1) for place in places)
    image = ((image - low) / (high - low).clamp_min(1e-6)).clamp(0.0, 1.0)
    toe = draws.uniform(*TOE)
    image = (1.0 - toe) * image + toe * image * image * (3.0 - 2.0 * image)
    shown: Tensor = image ** draws.uniform(*GAMMA)
    return shown


def _blur(image: Tensor, width: float) -> Tensor:
    """A blur so wide that it is made on a small image; `width` is its standard deviation as a part of the height."""
    rows, columns = image.shape[-2:]
    factor = max(int(width * rows / 3), 1)
    small = functional.avg_pool2d(image, factor, ceil_mode=True, count_include_pad=False)
    sigma = width * rows / factor
    reach = int(3 * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(small, (reach, reach, reach, reach), mode="replicate")
    blurred = functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return functional.interpolate(blurred, (rows, columns), mode="bilinear", align_corners=False)
