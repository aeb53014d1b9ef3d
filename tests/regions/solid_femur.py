"""A femur of balls and cylinders whose landmarks are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap

VALUES = {"pelvis": 1, "femur_L": 2, "femur_R": 3, "axial": 4}


@dataclass(frozen=True)
class SolidFemur:
    """Lengths in mm; the head of a left femur is at (90, 0, 0), its shaft lateral of it."""

    side: str = "L"
    head_radius: float = 24.0
    neck_radius: float = 15.0
    neck_shaft_deg: float = 130.0
    anteversion_deg: float = 15.0
    neck_length: float = 52.0
    shaft_radius: float = 15.0
    shaft_bottom: float = -190.0
    lesser_z: float = -65.0

    @property
    def mirror(self) -> np.ndarray:
        return np.array([1.0 if self.side == "L" else -1.0, 1.0, 1.0])

    @property
    def head(self) -> np.ndarray:
        return np.array([90.0, 0.0, 0.0]) * self.mirror

    @property
    def neck_direction(self) -> np.ndarray:
        """From the head centre to the shaft: lateral, downwards, and backwards by the anteversion."""
        down = np.deg2rad(self.neck_shaft_deg - 90)
        turn = np.deg2rad(self.anteversion_deg)
        left = [np.cos(down) * np.cos(turn), np.cos(down) * np.sin(turn), -np.sin(down)]
        return np.array(left) * self.mirror

    @property
    def shaft_top(self) -> np.ndarray:
        return self.head + self.neck_length * self.neck_direction

    @property
    def lesser(self) -> np.ndarray:
        """The tip of the lesser trochanter, to medial and posterior of the shaft."""
        return (
            np.array([self.shaft_top[0], self.shaft_top[1], self.lesser_z])
            + 21 * np.array([-0.6, 0.8, 0]) * self.mirror
        )

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Whether points (..., 3), LPS, mm, are in the bone."""
        away = points - self.head
        along = away @ self.neck_direction
        bone = (away**2).sum(axis=-1) < self.head_radius**2
        across = np.sqrt(np.maximum((away**2).sum(axis=-1) - along**2, 0))
        bone |= (across < self.neck_radius) & (along > 0) & (along < self.neck_length)
        top = self.shaft_top
        from_axis = np.hypot(points[..., 0] - top[0], points[..., 1] - top[1])
        bone |= (from_axis < self.shaft_radius) & (points[..., 2] < top[2] + 12) & (points[..., 2] > self.shaft_bottom)
        bone |= ((points - top - np.array([6, 4, 6]) * self.mirror) ** 2).sum(axis=-1) < 20**2
        bump = self.lesser - 7 * np.array([-0.6, 0.8, 0]) * self.mirror
        return bone | (((points - bump) ** 2).sum(axis=-1) < 7**2)

    def labels(
        self, spacing_mm: tuple[float, float, float] = (1.5, 1.5, 1.5), direction: np.ndarray | None = None
    ) -> LabelMap:
        """On a grid that leaves some air around the bone."""
        spacing = np.array(spacing_mm)
        direction = np.eye(3) if direction is None else direction
        low = np.array([45.0 if self.side == "L" else -175.0, -45.0, self.shaft_bottom - 10])
        high = low + np.array([130.0, 95.0, 45.0 - low[2]])
        corners = np.array([[low[n] if direction[n, k] > 0 else high[n] for n in range(3)] for k in range(3)])
        origin = np.array([corners[int(np.argmax(np.abs(direction[n])))][n] for n in range(3)])
        size = np.abs(direction.T @ (high - low))
        shape = tuple((size / spacing).astype(int)[::-1] + 1)
        grid = Grid(shape, spacing, origin, direction)
        index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
        mask = self.inside(grid.points(index))
        return LabelMap(mask.astype(np.uint8) * VALUES[f"femur_{self.side}"], grid, VALUES)
