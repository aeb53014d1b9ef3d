"""Collimators: blades at any angle, round and polygonal openings, their penumbra, and the scatter that fades behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

FieldKind = Literal["blades", "turned", "round", "polygon"]
"""Single blades along the image's sides, each turned a little; a rectangle at any angle; a circle; 5 to 8 sides."""

_KINDS: tuple[FieldKind, ...] = ("blades", "turned", "round", "polygon")
_SHARES = (0.55, 0.15, 0.15, 0.15)
_PENUMBRA_MM = (0.4, 1.5)
_LEAK = (0.03, 0.12)
_FADING_MM = (15.0, 60.0)
_TRANSMISSION = (2e-4, 2e-3)
_SCATTER_MM = 25.0


@dataclass(frozen=True, eq=False)
class CollimatedField:
    """What a collimator leaves open.

    Attributes:
        transmission: (rows, columns), float32, share of the beam that passes, 0 to 1.
        depth_mm: (rows, columns), float32, distance behind the nearest blade's edge; 0 within the field.
    """

    transmission: np.ndarray
    depth_mm: np.ndarray

    @property
    def is_open(self) -> np.ndarray:
        """(rows, columns), bool, where more than half of the beam passes."""
        return np.asarray(self.transmission > 0.5)


def draw_field(
    shape: tuple[int, int], pixel_mm: float, rng: np.random.Generator, kind: FieldKind | None = None
) -> CollimatedField:
    """Draw a field that leaves the middle of an image open.

    Args:
        shape: (rows, columns) of the image.
        pixel_mm: Pixel spacing at the detector.
        rng: Source of all draws.
        kind: Kind of the collimator; drawn if None.
    """
    kind = _KINDS[int(rng.choice(len(_KINDS), p=_SHARES))] if kind is None else kind
    size_mm = np.array(shape) * pixel_mm
    v, u = (
        (np.arange(count, dtype=np.float32) - (count - 1) / 2) * np.float32(pixel_mm) for count in shape
    )  # mm from the middle
    rows, columns = v[:, None], u[None, :]
    if kind == "round":
        centre = rng.uniform(-0.04, 0.04, 2) * size_mm
        radius = rng.uniform(0.42, 0.6) * max(size_mm)
        inside = [radius - np.hypot(rows - centre[0], columns - centre[1])]
    else:
        inside = [offset - rows * normal[0] - columns * normal[1] for normal, offset in _draw_edges(kind, size_mm, rng)]
    transmission = np.ones(shape, np.float32)
    depth = np.zeros(shape, np.float32)
    for distance in inside:
        transmission *= 1 / (1 + np.exp(np.clip(-distance / rng.uniform(*_PENUMBRA_MM), -60, 60)))
        depth = np.maximum(depth, -distance)
    return CollimatedField(transmission.astype(np.float32), depth.astype(np.float32))


def _draw_edges(
    kind: FieldKind, size_mm: np.ndarray, rng: np.random.Generator
) -> list[tuple[tuple[float, float], float]]:
    """Outward normal (row, column) and distance from the middle, mm, of every straight edge."""
    half = size_mm / 2
    if kind == "blades":
        angles = np.radians(90.0 * rng.permutation(4)[: rng.integers(1, 5)])
        turns = np.radians(rng.normal(0, 2.0, len(angles)))
        distances = [(1 - 2 * rng.uniform(0.04, 0.13)) * _extent(angle, half) for angle in angles]
        angles = angles + turns
    elif kind == "turned":
        first = rng.uniform(0, np.pi / 2)
        angles = first + np.pi / 2 * np.arange(4)
        distances = [rng.uniform(0.6, 0.8) * _extent(angle, half) for angle in angles]
    else:
        count = int(rng.integers(5, 9))
        angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * (np.arange(count) + rng.uniform(-0.1, 0.1, count)) / count
        distances = [rng.uniform(0.72, 0.85) * float(np.mean(half))] * count
    return [((float(np.sin(a)), float(np.cos(a))), float(d)) for a, d in zip(angles, distances, strict=True)]


def _extent(angle: float, half: np.ndarray) -> float:
    """How far a rectangle of these half sides reaches in a direction."""
    return float(abs(np.sin(angle)) * half[0] + abs(np.cos(angle)) * half[1])


def collimate(signal: np.ndarray, field: CollimatedField, pixel_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Detector signal behind a collimator: what passes, and behind the blades scatter that fades with the distance.

    Args:
        signal: (rows, columns), dose at the detector without collimator.
        field: What the collimator leaves open.
        pixel_mm: Pixel spacing at the detector.
        rng: Source of the strength of the scatter and of its noise.
    """
    open_beam = signal * field.transmission
    scatter = _blur(open_beam, _SCATTER_MM / pixel_mm)
    fading = np.exp(-field.depth_mm / np.float32(rng.uniform(*_FADING_MM)))
    leak = np.float32(rng.uniform(*_LEAK)) * scatter * fading + np.float32(rng.uniform(*_TRANSMISSION))
    leak *= 1 + 0.02 * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.asarray(open_beam + leak * (1 - field.transmission), np.float32)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """A wide Gaussian blur, computed on a quarter of the rows and columns."""
    small = ndimage.gaussian_filter(ndimage.zoom(image, 0.25, order=1, grid_mode=True, mode="nearest"), sigma / 4)
    scale = np.array(image.shape) / small.shape
    return np.asarray(ndimage.zoom(small, scale, order=1, grid_mode=True, mode="nearest"))
