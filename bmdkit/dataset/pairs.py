"""The geometry of a training pair: the target hip's half of the radiograph, resized and cropped.

One window, in pixels of the radiograph, describes split, resize and crop together. The same window carries the
radiograph and the projection of the CT, both by area averaging, so that nothing can shift between them.
Source: Gu et al. 2023, doi 10.1016/j.media.2023.102970, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import sparse

from bmdkit.core.anatomy import Side
from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.intervals import measure_overlaps
from bmdkit.core.radiograph import Radiograph


@dataclass(frozen=True)
class PairConfig:
    """How pairs are cut and when they are left out.

    Attributes:
        rows, columns: Size of a pair's images.
        keep_rejected: Whether a pair whose registration is rejected is written as well.
        least_inside: The least fraction of the target bone's projection that must lie within the pair's window.
        mask_coverage: The fraction of a pair's pixel that must be image for its mask to say so.
        outward: Where a pair that is narrower than the hip's half lies in it: 0 at the midline, 0.5 in the middle, 1 at
            the outer edge, which the proximal femur needs. Predictions cut as the pairs did that a run has learnt from.
    """

    rows: int = 512
    columns: int = 256
    keep_rejected: bool = False
    least_inside: float = 0.5
    mask_coverage: float = 0.5
    outward: float = 0.5

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.rows, self.columns) < 1:
            raise ValueError(f"rows, columns: expected positive numbers, got {self.rows}, {self.columns}")
        for name in ("least_inside", "mask_coverage", "outward"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a fraction, got {getattr(self, name)}")


@dataclass(frozen=True)
class PairWindow:
    """The rectangle of the radiograph that a pair shows.

    Attributes:
        first_column, first_row: Its upper left corner in pixel edges: 0 is the outer edge of the first pixel.
        scale: Pair pixels per radiograph pixel.
        columns, rows: Size of the pair.
    """

    first_column: float
    first_row: float
    scale: float
    columns: int
    rows: int

    def camera(self, geometry: ProjectionGeometry) -> ProjectionGeometry:
        """The camera that sees the pair directly."""
        corner = np.array([self.first_column, self.first_row])
        return replace(
            geometry,
            column_spacing_mm=geometry.column_spacing_mm / self.scale,
            row_spacing_mm=geometry.row_spacing_mm / self.scale,
            columns=self.columns,
            rows=self.rows,
            principal_point_uv=(geometry.principal_point_uv + 0.5 - corner) * self.scale - 0.5,
        )

    def carry(self, image: np.ndarray) -> np.ndarray:
        """Average an image (rows, columns) over the area of every pair pixel, float32; nothing lies outside: 0."""
        down = _cell_shares(image.shape[0], self.first_row, self.rows, self.scale)
        across = _cell_shares(image.shape[1], self.first_column, self.columns, self.scale)
        return np.ascontiguousarray(down @ image.astype(np.float64) @ across.T, np.float32)

    def carry_inside(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average only the pixels of `mask`: the averages (0 where there are none) and each pair pixel's coverage."""
        covered = self.carry(mask)
        total = self.carry(np.where(mask, image, 0))
        average = np.divide(total, covered, out=np.zeros_like(total), where=covered > 0)
        return average, covered

    def to_dict(self) -> dict[str, float]:
        """Return plain data, as the meta.json of a pair holds it."""
        return {
            "first_column": self.first_column,
            "first_row": self.first_row,
            "scale": self.scale,
            "columns": self.columns,
            "rows": self.rows,
        }


def make_pair_window(rows: int, columns: int, side: Side, config: PairConfig) -> PairWindow:
    """The window of one hip in an AP radiograph: patient left is on the image's right.

    The image is split at its vertical midline (the middle column of an odd width belongs to neither half), the half
    is scaled so that it covers the pair's size, and its centre is kept, or what lies further out (`outward`).

    Args:
        rows: Number of rows of the radiograph.
        columns: Number of columns of the radiograph; at least two.
        side: Target hip, the patient's own.
        config: Size of the pair.
    """
    half = columns // 2
    if half < 1:
        raise ValueError(f"columns: expected at least two, got {columns}")
    start = columns - half if side == "L" else 0
    scale = max(config.columns / half, config.rows / rows)
    outward = config.outward if side == "L" else 1 - config.outward
    return PairWindow(
        first_column=start + (half - config.columns / scale) * outward,
        first_row=(rows - config.rows / scale) / 2,
        scale=scale,
        columns=config.columns,
        rows=config.rows,
    )


@lru_cache(maxsize=8)
def _cell_shares(size: int, first: float, count: int, scale: float) -> sparse.csr_array:
    """(count, size): the share of each unit pixel in each of the cells of width 1 / scale that begin at `first`."""
    edges = first + np.arange(count + 1) / scale
    pixels = np.arange(size)
    return sparse.csr_array(measure_overlaps(edges[:-1], edges[1:], pixels, pixels + 1) * scale)


def make_hip_window(radiograph: Radiograph, side: Side, config: PairConfig) -> PairWindow:
    """Make the window of one hip: its half of the radiograph, or the part that shows the only hip.

    Args:
        radiograph: The image as it was read.
        side: The target hip, the patient's own.
        config: The size of the pair.
    """
    shown = radiograph.single_hip
    if shown is None:
        return make_pair_window(*radiograph.shape, side, config)
    rows = np.flatnonzero(radiograph.mask.any(axis=1))
    first_row, last_row = (float(rows[0]), float(rows[-1] + 1)) if rows.size else (0.0, float(radiograph.shape[0]))
    width, height = shown.last_column - shown.first_column, last_row - first_row
    scale = max(config.columns / width, config.rows / height)
    return PairWindow(
        first_column=shown.first_column + (width - config.columns / scale) / 2,
        first_row=first_row + (height - config.rows / scale) / 2,
        scale=scale,
        columns=config.columns,
        rows=config.rows,
    )


def cut_hip(radiograph: Radiograph, side: Side, config: PairConfig) -> tuple[PairWindow, np.ndarray, np.ndarray]:
    """Cut one hip out of a radiograph.

    Args:
        radiograph: The image as it was read.
        side: The target hip, the patient's own.
        config: The size of the pair.

    Returns:
        The window; the image in it, (rows, columns), [0, 1]; and the share of each pixel that is image.
    """
    window = make_hip_window(radiograph, side, config)
    image, coverage = window.carry_inside(radiograph.pixels, radiograph.mask)
    return window, np.clip(image, 0, 1), coverage
