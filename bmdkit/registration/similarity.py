"""How alike a radiograph and a batch of DRRs are; what depends on the radiograph alone is computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import ndimage

from bmdkit.registration.gradients import DERIVE, REACH, SMOOTH, compute_gradients, join_cells, sum_cells

Measure = Literal["patch_gc", "gc", "ncc", "gradient_information"]

FITTED_MEASURE: Measure = "patch_gc"
"""Measure on which every threshold of a similarity was fitted: those of the search, and those of the verdicts."""

_FLAT = 1e-6  # of the largest variance: a patch below it holds no edge


@dataclass(frozen=True, eq=False)
class FixedImage:
    """A radiograph at one pixel size, ready to be compared.

    Attributes:
        pixels: [row, column], float32.
        valid: [row, column], bool: pixels whose gradient depends on image alone.
        measure: Measure that `scores` computes.
        cell: Side of a cell, pixels; a patch is 2 x 2 cells.
        noise: [row, column], float32, variance of the pixels' noise; None where it is not known.
        weights: (patch rows, patch columns), weight of each patch; sums to 1.
    """

    pixels: np.ndarray
    valid: np.ndarray
    measure: Measure
    cell: int
    noise: np.ndarray | None = None
    weights: np.ndarray = field(init=False)
    slopes: np.ndarray = field(init=False, repr=False)
    _weight: np.ndarray = field(init=False, repr=False)
    _sums: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Compute what depends on this image alone."""
        slopes = compute_gradients(self.pixels[None])[0]
        weight = self.valid.astype(np.float32)
        count = join_cells(sum_cells(np.ones((1, 1, *weight.shape), np.float32), slopes[:1], weight, self.cell))[0, 0]
        own = join_cells(sum_cells(slopes[None], slopes, weight, self.cell))[0]
        variance = own[..., 1] - own[..., 0] ** 2 / np.maximum(count[..., 0], 1)
        enough = count[..., 0] >= 0.4 * (2 * self.cell) ** 2
        weights = np.where(enough, count[..., 0], 0.0)
        object.__setattr__(self, "slopes", slopes)
        object.__setattr__(self, "_weight", weight)
        object.__setattr__(self, "_sums", (count[..., 0], own[..., 0], np.maximum(variance, 0)))
        object.__setattr__(self, "weights", weights / max(weights.sum(), 1e-12))

    @classmethod
    def of(
        cls,
        pixels: np.ndarray,
        mask: np.ndarray,
        *,
        measure: Measure = "patch_gc",
        cell: int = 4,
        noise: np.ndarray | None = None,
    ) -> FixedImage:
        """From an image and the mask of its image pixels; the mask is eroded by the reach of the gradient filter."""
        inner = ndimage.binary_erosion(mask, np.ones((3, 3), bool), iterations=REACH, border_value=0)
        return cls(np.asarray(pixels, np.float32), inner, measure, cell, noise)

    def within(self, region: np.ndarray) -> FixedImage:
        """The same image compared only where `region` [row, column] is True."""
        return replace(self, valid=self.valid & region)

    def cut_to(self, box: tuple[slice, slice]) -> FixedImage:
        """The pixels of a box of whole cells."""
        return self._taken(lambda image: image[box])

    def flipped(self) -> FixedImage:
        """The same image mirrored left to right."""
        return self._taken(lambda image: image[:, ::-1].copy())

    def _taken(self, take: Callable[[np.ndarray], np.ndarray]) -> FixedImage:
        noise = None if self.noise is None else take(self.noise)
        return replace(self, pixels=take(self.pixels), valid=take(self.valid), noise=noise)

    @cached_property
    def attainable(self) -> float:
        """Patch similarity in [0, 1] of a DRR that shows all but the noise; 1 where the noise is not known.

        In a patch it is the root of the share of the gradients' variance that is not noise.
        """
        if self.noise is None:
            return 1.0
        of_pixels = sum_cells(self.noise[None, None], self.slopes[:1], self._weight, self.cell)
        of_slopes = (SMOOTH**2).sum() * (DERIVE**2).sum() * join_cells(of_pixels)[0, 0, ..., 0]
        variance = self._sums[2]
        share = of_slopes / np.where(variance > 0, variance, np.inf)
        return float((np.sqrt(np.clip(1 - share, 0, 1)).mean(0) * self.weights).sum())

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Similarity in [-1, 1] of DRRs (n, rows, columns) to this image, (n,), float64; larger is better."""
        match self.measure:
            case "patch_gc":
                return self._patch_scores(images)
            case "gc":
                return self._correlation(compute_gradients(images), self.slopes)
            case "ncc":
                return self._correlation(np.asarray(images, np.float32)[:, None], self.pixels[None])
            case "gradient_information":
                return self._gradient_information(compute_gradients(images))

    def _patch_scores(self, images: np.ndarray) -> np.ndarray:
        sums = join_cells(sum_cells(compute_gradients(images), self.slopes, self._weight, self.cell))
        return np.einsum("ngrc,rc->n", self.patch_correlations(sums), self.weights) / 2

    def patch_correlations(self, sums: np.ndarray) -> np.ndarray:
        """NCC of each patch and direction, from patch sums (n, 2, patch rows, patch columns, 3); 0 where flat."""
        count, total, variance = self._sums
        count = np.maximum(count, 1)
        moving = sums[..., 1] - sums[..., 0] ** 2 / count
        product = sums[..., 2] - sums[..., 0] * total / count
        limit = _FLAT * max(float(moving.max(initial=0)), 1e-30)
        edged = (moving > limit) & (variance > _FLAT * max(float(variance.max(initial=0)), 1e-30))
        return np.where(edged, product / np.sqrt(np.where(edged, moving * variance, 1)), 0.0)

    def _correlation(self, moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
        inside = self.valid
        if not inside.any():
            return np.zeros(len(moving))
        m = moving[..., inside].astype(np.float64)
        f = fixed[..., inside].astype(np.float64)
        m -= m.mean(-1, keepdims=True)
        f -= f.mean(-1, keepdims=True)
        norm = np.linalg.norm(m, axis=-1) * np.linalg.norm(f, axis=-1)
        return (np.einsum("ngp,gp->ng", m, f) / np.where(norm > 0, norm, np.inf)).mean(-1)

    def _gradient_information(self, moving: np.ndarray) -> np.ndarray:
        """The angle between gradients, weighted by the smaller. Source: Pluim et al. 2000, doi 10.1109/42.876307."""
        if not self.valid.any():
            return np.zeros(len(moving))
        m = moving[..., self.valid].astype(np.float64)
        f = self.slopes[..., self.valid].astype(np.float64)
        m /= np.maximum(np.sqrt((m**2).sum(1).mean(-1)), 1e-12)[:, None, None]
        f /= max(np.sqrt((f**2).sum(0).mean()), 1e-12)
        size_m, size_f = np.linalg.norm(m, axis=1), np.linalg.norm(f, axis=0)
        cosine = (m * f).sum(1) / np.maximum(size_m * size_f, 1e-12)
        return (cosine * np.abs(cosine) * np.minimum(size_m, size_f)).mean(-1)
