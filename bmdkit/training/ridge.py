"""BMD by ridge regression on what a decomposition network sees: a closed form, with nothing to train.

Source: Hoerl and Kennard 1970, doi 10.1080/00401706.1970.10488634.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bmdkit.models.generators import Generator
from bmdkit.models.regression_head import Reads
from bmdkit.training.bone_density import Task, means_above
from bmdkit.training.pair_batches import unscale_density

STRENGTHS = tuple(10.0 ** (n / 2) for n in range(-4, 13))
"""Penalties that are tried, in multiples of the number of images."""

FRACTIONS = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Thresholds of the projection's statistics, as parts of the scale of its images."""

LEAST_SPREAD = 1e-6
"""A feature whose standard deviation is smaller counts as constant."""


@dataclass(frozen=True)
class RidgeReadout:
    """BMD = intercept + sum of weight * (feature - mean) / sd.

    Attributes:
        task: dxa (g/cm2) or qct (mg/cm3).
        intercept: BMD of the mean features, in the task's unit.
        weights: One for each feature, in the task's unit.
        means, sds: Mean and standard deviation of each feature over the training images.
        strength: Penalty of the weights, in multiples of the number of images.
        reads: What the features are of, see `read_features`.
    """

    task: Task
    intercept: float
    weights: tuple[float, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]
    strength: float
    reads: Reads = "fused"

    def bmd(self, features: np.ndarray) -> np.ndarray:
        """BMD (n,) of features (n, k), in the task's unit."""
        scaled = (features - np.array(self.means)) / np.array(self.sds)
        found: np.ndarray = self.intercept + scaled @ np.array(self.weights)
        return found

    def to_dict(self) -> dict[str, Any]:
        """As run.json has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RidgeReadout:
        """Undo `to_dict`."""
        lists = {name: tuple(float(one) for one in values[name]) for name in ("weights", "means", "sds")}
        return cls(**{**values, **lists})


def fit_ridge(
    task: Task,
    features: np.ndarray,
    bmd: np.ndarray,
    tune_features: np.ndarray,
    tune_bmd: np.ndarray,
    *,
    reads: Reads = "fused",
) -> RidgeReadout:
    """Fit a ridge regression; the tune patients choose its strength by the smallest squared error.

    Args:
        task: What is read.
        features: (n, k), of the training images.
        bmd: (n,), in the task's unit, all known.
        tune_features: (m, k), of the tune patients' images.
        tune_bmd: (m,), all known.
        reads: What the features are of.
    """
    means, sds = features.mean(0), features.std(0)
    sds = np.where(sds < LEAST_SPREAD, np.inf, sds)  # a constant feature takes no part
    left, values, right = np.linalg.svd((features - means) / sds, full_matrices=False)
    target = left.T @ (bmd - bmd.mean())
    tuned = (tune_features - means) / sds
    found = []
    for strength in STRENGTHS:
        weights = right.T @ (values / (values**2 + strength * len(bmd)) * target)
        error = float(np.mean((bmd.mean() + tuned @ weights - tune_bmd) ** 2))
        found.append((error, strength, weights))
    _, strength, weights = min(found, key=lambda one: one[0])
    sds = np.where(np.isinf(sds), 1.0, sds)
    return RidgeReadout(task, float(bmd.mean()), tuple(weights), tuple(means), tuple(sds), strength, reads)


@torch.inference_mode()
def read_features(
    generator: Generator, xrays: Tensor, masks: Tensor, scale_g_cm2: float, *, reads: Reads = "fused"
) -> np.ndarray:
    """Describe each radiograph by what a decomposition network sees in it.

    Of the projection: for each threshold of `FRACTIONS` the mean over it and the part of the image over it. Of the
    fused map, or of the maps of all levels: mean and standard deviation of each channel, weighted with the projection.
    With all levels the features are the mean over the radiograph and the mirrored one, which is a hip as well.

    Args:
        generator: Network of dataset B, in evaluation mode.
        xrays: (N, 1, H, W), in [-1, 1].
        masks: (N, 1, H, W), 1 where a radiograph is image.
        scale_g_cm2: Areal density of the image value 1.
        reads: Whether the fused map alone is described, or all levels.

    Returns:
        (N, features).
    """
    device = next(generator.parameters()).device
    rows = []
    for xray, mask in zip(xrays.split(16), masks.split(16), strict=True):
        shown, inside = xray.to(device, torch.float32), mask.to(device) > 0
        found = _describe_batch(generator, shown, inside, scale_g_cm2, reads)
        if reads == "levels":
            found = (found + _describe_batch(generator, shown.flip(-1), inside.flip(-1), scale_g_cm2, reads)) / 2
        rows.append(found)
    return np.concatenate(rows)


def _describe_batch(generator: Generator, xray: Tensor, inside: Tensor, scale_g_cm2: float, reads: Reads) -> np.ndarray:
    """Features (B, k) of radiographs (B, 1, H, W) as they are."""
    maps, levels = generator.encoder.maps_and_levels(xray)
    image = unscale_density(generator.decoder(*maps).float(), scale_g_cm2)[:, :1]
    image = torch.where(inside, image, 0.0)
    pooled = [_pool_map(one.float(), image) for one in (maps[0], *(levels if reads == "levels" else ()))]
    return np.concatenate([_describe_image(image, scale_g_cm2), *pooled], axis=1)


def _describe_image(image: Tensor, scale_g_cm2: float) -> np.ndarray:
    """Statistics (N, 2 * thresholds) of projections (N, 1, H, W), g/cm2."""
    pixels = image[:, 0].cpu().numpy()
    thresholds = np.array(FRACTIONS) * scale_g_cm2
    areas = (pixels[:, None] >= thresholds[None, :, None, None]).mean((2, 3))
    return np.concatenate([means_above(pixels, thresholds), areas], axis=1)


def _pool_map(fused: Tensor, image: Tensor) -> np.ndarray:
    """Weighted mean and standard deviation (N, 2 C) of a map (N, C, h, w); the weight is the projection."""
    weight = torch.nn.functional.interpolate(image, fused.shape[-2:], mode="area")
    weight = weight / weight.sum((2, 3), keepdim=True).clamp(min=1e-6)
    mean = (weight * fused).sum((2, 3))
    square = (weight * (fused - mean[:, :, None, None]).square()).sum((2, 3))
    return torch.cat([mean, square.sqrt()], dim=1).cpu().numpy().astype(np.float64)
