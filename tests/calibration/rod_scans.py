"""Simulated CTs of a body with a calibration phantom under it, in any pose and on any grid; the line is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume


@dataclass(frozen=True)
class RodScan:
    """What to simulate; lengths in mm, HU = zero_hu + slope_hu * density (+ water)."""

    order: Sequence[float | None] = (200.0, 100.0, 0.0, 50.0, 150.0)
    water_hu: Sequence[float] | None = None
    slope_hu: float = 1.25
    zero_hu: float = 5.0
    slab_hu: float | None = None
    spacing_mm: float = 42.0
    diameter_mm: float = 19.0
    slab_thickness_mm: float = 30.0
    turn_deg: float = 0.0
    sagitta_mm: float = 0.0
    tilt_mm_per_slice: float = 0.0
    shift_mm: tuple[float, float] = (0.0, 0.0)
    pixel_mm: float = 1.0
    slice_mm: float = 3.0
    slices: int = 30
    field_mm: float = 440.0
    noise_hu: float = 12.0
    prone: bool = False
    body: bool = True
    missing: tuple[int, int] | None = None
    streaks: tuple[int, int] | None = None
    seed: int = 0

    def volume(self) -> Volume:
        """HU, int16; the body above (smaller y) and the phantom below, unless prone."""
        rng = np.random.default_rng(self.seed)
        n = round(self.field_mm / self.pixel_mm)
        y, x = (np.mgrid[:n, :n] - (n - 1) / 2) * self.pixel_mm
        anatomy = _body(x, y) if self.body else np.full((n, n), -1000.0)
        stack = np.empty((self.slices, n, n), np.float32)
        for k in range(self.slices):
            image = anatomy.copy()
            if self.missing is None or not self.missing[0] <= k < self.missing[1]:
                self._add_phantom(image, x - self.tilt_mm_per_slice * k, y)
            stack[k] = ndimage.gaussian_filter(image, 0.5 / self.pixel_mm)
        stack += ndimage.gaussian_filter(rng.normal(size=stack.shape), (0, 0.6, 0.6)) * self.noise_hu / 0.47
        if self.streaks is not None:
            first, stop = self.streaks
            angle = np.arctan2(y - 40, x - 10)
            stack[first:stop] += 250 * np.sin(9 * angle + np.arange(first, stop)[:, None, None])
        array = np.clip(np.rint(stack), -1024, 3071).astype(np.int16)
        direction = np.diag([-1.0, -1.0, 1.0]) if self.prone else np.eye(3)
        middle = (np.array([n, n, self.slices]) - 1) / 2
        spacing = np.array([self.pixel_mm, self.pixel_mm, self.slice_mm])
        return Volume(array, Grid(array.shape, spacing, -direction @ (middle * spacing), direction), "hu")

    def _add_phantom(self, image: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        centre = np.array([0.0, 135.0]) + self.shift_mm
        turn = np.deg2rad(self.turn_deg)
        along = (x - centre[0]) * np.cos(turn) + (y - centre[1]) * np.sin(turn)
        across = -(x - centre[0]) * np.sin(turn) + (y - centre[1]) * np.cos(turn)
        half = self.spacing_mm * (len(self.order) - 1) / 2
        across = across - self.sagitta_mm * (1 - (along / max(half, 1)) ** 2)
        inside = (np.abs(along) < half + 30) & (np.abs(across) < self.slab_thickness_mm / 2)
        image[inside] = self.zero_hu if self.slab_hu is None else self.slab_hu
        for k, density in enumerate(self.order):
            if density is None:
                continue
            at = k * self.spacing_mm - half
            bow = self.sagitta_mm * (1 - (at / max(half, 1)) ** 2)
            px = centre[0] + at * np.cos(turn) - bow * np.sin(turn)
            py = centre[1] + at * np.sin(turn) + bow * np.cos(turn)
            rod = (x - px) ** 2 + (y - py) ** 2 < (self.diameter_mm / 2) ** 2
            water = 0.0 if self.water_hu is None else self.water_hu[k]
            image[rod] = self.zero_hu + self.slope_hu * density + water


def _body(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    image = np.full(x.shape, -1000.0)
    image[(x / 180) ** 2 + (y / 105) ** 2 < 1] = -95
    image[(x / 160) ** 2 + (y / 85) ** 2 < 1] = 55
    for side in (-1, 1):
        image[(x - side * 95) ** 2 + y**2 < 24**2] = 900
        image[(x - side * 95) ** 2 + y**2 < 21**2] = 250
        image[((x - side * 70) / 12) ** 2 + ((y - 55) / 20) ** 2 < 1] = 700
    image[(x / 15) ** 2 + ((y - 60) / 10) ** 2 < 1] = 400
    image[(x / 45) ** 2 + ((y + 20) / 30) ** 2 < 1] = 10
    return image


def density_errors(calibration, scan: RodScan, densities: Sequence[float] = (0, 100, 200, 800)) -> np.ndarray:
    """mg/cm3 by which a calibration is wrong at known densities."""
    known = np.asarray(densities, float)
    hu = scan.zero_hu + scan.slope_hu * known
    return calibration.slope_mg_cm3_per_hu * hu + calibration.intercept_mg_cm3 - known
