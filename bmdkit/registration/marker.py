"""A ball or coin of known diameter in the radiograph, and the magnification at its depth that follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.radiograph import Radiograph
from bmdkit.registration.settings import MarkerConfig

LEAST, MOST = 1.0, 1.45
"""Magnifications that are looked for: from a marker on the detector to one 350 mm above it at 1150 mm."""

_CONTRAST = 0.15  # of the image's range, that it has to stand out by
_ROUND = 0.75  # share of its rim that has to lie on the circle
_OFF = 0.04  # of the radius, that a point of the rim may lie off it
_RIM_PIXELS = 0.25  # standard deviation of the diameter that is always granted
_ANGLES = 180


@dataclass(frozen=True, eq=False)
class Marker:
    """What the marker shows.

    Attributes:
        center_uv: (2,), centre, pixels.
        diameter_mm: Diameter of its image, at the detector.
        magnification: Magnification at the marker's depth: source distance of the detector by that of the marker.
        magnification_sd: Its standard deviation.
    """

    center_uv: np.ndarray
    diameter_mm: float
    magnification: float
    magnification_sd: float

    def to_dict(self) -> dict[str, Any]:
        """As in a registration file."""
        return {
            "center_uv": [round(float(v), 2) for v in self.center_uv],
            "diameter_mm": round(self.diameter_mm, 3),
            "magnification": round(self.magnification, 5),
            "magnification_sd": round(self.magnification_sd, 5),
        }

    def sdd_mm(self, config: MarkerConfig) -> tuple[float, float] | None:
        """Source to detector and its standard deviation, mm; None unless the marker's height is known.

        With height h and magnification m it is h m / (m - 1).
        """
        h, m = config.to_detector_mm, self.magnification
        if h is None or m - 1 < 3 * self.magnification_sd:
            return None
        by_height = m / (m - 1) * config.to_detector_sd_mm
        return h * m / (m - 1), float(np.hypot(by_height, h / (m - 1) ** 2 * self.magnification_sd))

    def covered(self, camera: ProjectionGeometry) -> np.ndarray:
        """Where it hides the patient, (rows, columns), bool."""
        row, column = np.indices(camera.shape)
        across = (column - self.center_uv[0]) * camera.column_spacing_mm
        down = (row - self.center_uv[1]) * camera.row_spacing_mm
        return np.hypot(across, down) <= 0.55 * self.diameter_mm


@dataclass(frozen=True)
class DepthPrior:
    """What is known of the hips' depth: they lie about as deep as the marker.

    Attributes:
        magnification: Magnification at the marker's depth.
        sd_mm: Standard deviation of the hips' depth about the marker's.
    """

    magnification: float
    sd_mm: float

    @classmethod
    def of(cls, marker: Marker, config: MarkerConfig, sdd_mm: float) -> DepthPrior:
        """From what a marker shows, under a source distance."""
        measured = sdd_mm / marker.magnification**2 * marker.magnification_sd
        return cls(marker.magnification, float(np.hypot(config.hip_sd_mm, measured)))

    def residual(self, depth_mm: np.ndarray | float, sdd_mm: np.ndarray | float) -> np.ndarray:
        """How far the hips are from there, in standard deviations."""
        return (np.asarray(depth_mm) - np.asarray(sdd_mm) / self.magnification) / self.sd_mm


def find_marker(radiograph: Radiograph, camera: ProjectionGeometry, config: MarkerConfig) -> Marker | None:
    """Find the roundest bright disc of a size that the marker may have; None if there is none.

    Gradients vote for centres, radius by radius; the best are measured on rays to their rim. A ball seen off the
    central ray is a little longer than wide, which is allowed for.

    Args:
        radiograph: Radiograph, brighter = denser; what is masked out is searched too.
        camera: Camera of its pixels.
        config: Diameter of the marker; and its place, if the user gave it.
    """
    if config.diameter_mm is None:
        return None
    spacing = np.array([camera.column_spacing_mm, camera.row_spacing_mm])
    best, best_contrast = None, 0.0
    given = None if config.column is None or config.row is None else np.array([config.column, config.row]) * spacing
    for center_mm, radius_mm in _candidates(radiograph, spacing, config.diameter_mm, given):
        measured = _measure(radiograph.pixels, spacing, center_mm, radius_mm)
        if measured is None or measured[3] <= best_contrast:
            continue
        center_mm, radius_mm, sd_mm, contrast = measured
        away = np.linalg.norm(center_mm - camera.principal_point_uv * spacing)
        longer = 1.0 if config.shape == "disc" else (1 + np.hypot(away, camera.sdd_mm) / camera.sdd_mm) / 2
        magnification = 2 * radius_mm / longer / config.diameter_mm
        if LEAST - 0.02 <= magnification <= MOST:
            sd = float(2 * sd_mm / config.diameter_mm)
            best = Marker(center_mm / spacing, float(2 * radius_mm), float(magnification), sd)
            best_contrast = contrast
    return best


def _candidates(
    radiograph: Radiograph, spacing: np.ndarray, diameter_mm: float, given: np.ndarray | None, count: int = 8
) -> list[tuple[np.ndarray, float]]:
    """Centres (x, y) and radii, mm from the first pixel's centre, in order of their votes.

    Each gradient votes on its bright side only, which the Hough transform of scikit-image, of edges, cannot.
    """
    factor = np.maximum(np.rint(diameter_mm / 25 / spacing), 1).astype(int)  # across, down
    rows, columns = np.array(radiograph.shape) // factor[::-1]
    blocks = (rows, factor[1], columns, factor[0])
    image = radiograph.pixels[: rows * factor[1], : columns * factor[0]].reshape(blocks).mean((1, 3))
    image = ndimage.gaussian_filter(image, 1.0)
    slope = np.stack([ndimage.sobel(image, 1), ndimage.sobel(image, 0)]) / (spacing * factor)[:, None, None]
    steep = np.hypot(*slope)
    row, column = np.nonzero(steep > max(np.percentile(steep, 85), 1e-6))
    inward = slope[:, row, column] / steep[row, column]
    at = np.stack([column, row]) * (spacing * factor)[:, None] + (spacing * (factor - 1) / 2)[:, None]
    pixel = float((spacing * factor).mean())
    votes = []
    for radius in np.arange(LEAST, MOST, 1.0 * pixel / diameter_mm) * diameter_mm / 2:
        x, y = at + radius * inward
        u, v = (
            np.rint(p / step - 0.5 * (1 - 1 / f))
            for p, step, f in ((x, spacing[0] * factor[0], factor[0]), (y, spacing[1] * factor[1], factor[1]))
        )
        inside = (u >= 0) & (u < columns) & (v >= 0) & (v < rows)
        if given is not None:
            inside &= np.hypot(x - given[0], y - given[1]) < diameter_mm
        flat = np.bincount((v[inside] * columns + u[inside]).astype(int), minlength=rows * columns)
        score = ndimage.gaussian_filter(flat.reshape(rows, columns).astype(float), 1.0) / radius
        for peak in np.argsort(score, axis=None)[:-4:-1]:
            place = np.array([peak % columns, peak // columns]) * spacing * factor + spacing * (factor - 1) / 2
            votes.append((float(score.flat[peak]), place, float(radius)))
    votes.sort(key=lambda v: -v[0])
    taken: list[tuple[np.ndarray, float]] = []
    for _, place, radius in votes:
        if len(taken) < count and all(np.linalg.norm(place - other) > 3 * pixel for other, _ in taken):
            taken.append((place, radius))
    return taken


def _measure(
    pixels: np.ndarray, spacing: np.ndarray, center_mm: np.ndarray, radius_mm: float
) -> tuple[np.ndarray, float, float, float] | None:
    """Centre, radius, its standard deviation (mm) and contrast of a disc; None if its rim is not round and bright."""
    image = ndimage.gaussian_filter(pixels, 0.7)
    angle = np.arange(_ANGLES) * 2 * np.pi / _ANGLES
    ray = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for window in (0.35, 0.15):
        step = spacing.min() / 2
        reach = np.arange((1 - window) * radius_mm, (1 + window) * radius_mm, step)
        points = (center_mm + reach[:, None, None] * ray) / spacing
        profile = ndimage.map_coordinates(image, points[..., ::-1].transpose(2, 0, 1), order=1, mode="nearest")
        fall = -np.gradient(profile, axis=0)
        top = np.clip(fall.argmax(0), 1, len(reach) - 2)
        every = np.arange(_ANGLES)
        before, here, after = fall[top - 1, every], fall[top, every], fall[top + 1, every]
        bend = before - 2 * here + after
        shift = np.where(bend < -1e-9, 0.5 * (before - after) / np.where(bend < -1e-9, bend, -1), 0)
        rim = center_mm + (reach[top] + np.clip(shift, -1, 1) * step)[:, None] * ray
        keep = fall[top, every] > 1e-4
        for limit in (0.2, 0.1, _OFF, _OFF):
            if keep.sum() < _ANGLES // 3:
                return None
            p = rim[keep]
            solution = np.linalg.lstsq(np.c_[2 * p, np.ones(len(p))], (p**2).sum(1), rcond=None)[0]
            center_mm = solution[:2]
            radius_mm = float(np.sqrt(max(solution[2] + center_mm @ center_mm, 1e-9)))
            off = np.linalg.norm(rim - center_mm, axis=1) - radius_mm
            keep = np.abs(off) < limit * radius_mm
    if keep.mean() < _ROUND:
        return None
    rings = (center_mm + np.array([0.8, 1.15])[:, None, None] * radius_mm * ray) / spacing
    inner, outer = ndimage.map_coordinates(image, rings[..., ::-1].transpose(2, 0, 1), order=1, mode="nearest")
    contrast = float(np.percentile(inner - outer, 15))
    if contrast < _CONTRAST:
        return None
    noise = float(off[keep].std()) * np.sqrt(4 / keep.sum())  # neighbouring rays see the same pixels
    return center_mm, radius_mm, float(np.hypot(noise, _RIM_PIXELS / 2 * spacing.mean())), contrast
