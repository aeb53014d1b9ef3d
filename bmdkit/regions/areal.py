"""The areal density of the proximal femur (CT-aBMD), as a bone densitometer would see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from bmdkit.core.arguments import require_type
from bmdkit.core.grid import Grid, frozen
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.units import MG_CM3_MM_TO_G_CM2
from bmdkit.core.volume import LabelMap, Volume, bounding_box, keep_largest_component
from bmdkit.errors import CaseError
from bmdkit.regions.cut_planes import find_coronal_turn, require_landmarks

_POINTS_PER_PIXEL = 4 / 3  # along an edge: voxel boxes are sampled finer than the pixels, so that none is skipped


@dataclass(frozen=True, eq=False)
class ArealMeasurement:
    """The areal density of one proximal femur, and the picture it was measured on.

    Attributes:
        abmd_g_cm2: Mean areal density over the region.
        area_cm2: Area of the region.
        image: (rows, columns) float32, of the whole femur, g/cm2; superior above, patient left to the right.
        region: (rows, columns) bool, the pixels of the measurement.
        pixel_mm: Edge of a pixel.
    """

    abmd_g_cm2: float
    area_cm2: float
    image: np.ndarray
    region: np.ndarray
    pixel_mm: float

    def __post_init__(self) -> None:
        """Make the images read-only."""
        object.__setattr__(self, "image", frozen(self.image))
        object.__setattr__(self, "region", frozen(self.region))


def areal_bmd(
    density: Volume,
    femur: LabelMap | np.ndarray,
    landmarks: Landmarks,
    *,
    grid: Grid | None = None,
    pixel_mm: float = 0.25,
) -> ArealMeasurement:
    """Project one femur from front to back and average its areal density over the proximal femur (CT-aBMD).

    The femur is turned until the neck lies in the coronal plane and the shaft is upright; every voxel is projected as a
    box. The region is where the femur projects, distal of the least-squares line through the four projected junction
    points and above the row of shaft_2cm; fat marrow of negative density counts as bone.

    Args:
        density: Calibrated density; linearly interpolated at the femur's voxels if it lies on another grid.
        femur: Label map that shows the whole femur of the landmarks' side, or its mask (bool) on `grid`.
        landmarks: All eight landmarks of one hip.
        grid: Grid of the mask; the density's own if not given. A label map has its own.
        pixel_mm: Edge of a pixel of the projection.

    Raises:
        CaseError: BMD-PF-001, a landmark is missing; BMD-PF-002, nothing projects between the cuts.

    Source: Uemura et al. 2022, the two-dimensional region.

    Example:
        >>> from bmdkit import read_labels
        >>> labels = read_labels("cohort/labels/sim000.nii.gz")
        >>> from bmdkit import calibrate, read_ct, read_landmarks
        >>> ct = read_ct("cohort/ct/sim000").volume
        >>> landmarks = read_landmarks("cohort/landmarks/sim000_L.mrk.json", "L")
        >>> density = calibrate(ct).apply(ct)
        >>> measured = areal_bmd(density, labels.mask("femur_L"), landmarks, grid=labels.grid)
        >>> 0.2 < measured.abmd_g_cm2 < 2
        True
    """
    require_type("density", density, Volume)
    require_type("landmarks", landmarks, Landmarks)
    density.require("density_mg_cm3")
    require_landmarks(landmarks)
    if isinstance(femur, LabelMap):
        if grid is not None:
            raise ValueError("grid: expected none, as a label map has its own")
        grid, femur = femur.grid, femur.mask(f"femur_{landmarks.side}")
    require_type("femur", femur, np.ndarray)
    grid = density.grid if grid is None else grid
    if femur.shape != grid.shape:
        raise ValueError(f"femur: expected shape {grid.shape} as its grid, got {femur.shape}")
    view = _View(femur, grid, landmarks, pixel_mm)
    values = density.resample(grid.crop(view.box)).array[tuple(view.inside.T)].astype(np.float64)
    image, hit = _project_boxes(view.middles, values * view.weight, view.steps, *view.shape)
    region = view.cut(hit)
    abmd = float(image[region].mean())
    return ArealMeasurement(abmd, float(region.sum() * pixel_mm**2 / 100), image.astype(np.float32), region, pixel_mm)


def weigh_areal(femur: np.ndarray, grid: Grid, landmarks: Landmarks, *, pixel_mm: float = 0.25) -> np.ndarray:
    """What each voxel's density counts in the areal density of `areal_bmd`, which is the sum of the products.

    Args:
        femur: Mask of the whole femur, bool.
        grid: Its grid.
        landmarks: All eight landmarks of the hip.
        pixel_mm: Edge of a pixel of the projection.

    Returns:
        (g/cm2) / (mg/cm3), float64, of the femur's voxels in the order of `femur[femur]`.

    Raises:
        CaseError: BMD-PF-001, a landmark is missing; BMD-PF-002, nothing projects between the cuts.
    """
    require_landmarks(landmarks)
    view = _View(femur, grid, landmarks, pixel_mm)
    region = view.cut(_project_boxes(view.middles, np.zeros(len(view.middles)), view.steps, *view.shape)[1])
    counts = np.zeros(len(view.is_near))
    counts[view.is_near] = _count_inside(view.middles, view.steps, region)
    return counts * view.weight / region.sum()


class _View:
    """The voxels of a femur in the picture that they are projected to.

    Attributes:
        box: Where in the grid the femur lies.
        is_near: Which voxels of the femur are not so far down the shaft that they are of no use, bool.
        inside: (n, 3), array indices of these in the box.
        middles: (n, 2), column and row of their middles, pixels.
        steps: (m, 2), columns and rows from there to points that fill a voxel evenly.
        weight: What the density of a voxel adds to the pixel of one of its points.
        shape: Rows and columns of the picture.
    """

    def __init__(self, femur: np.ndarray, grid: Grid, landmarks: Landmarks, pixel_mm: float) -> None:
        """Turn the femur.

        Raises:
            CaseError: BMD-PF-002, there is nothing above the lower cut.
        """
        if not femur.any():
            raise CaseError("BMD-PF-002", f"femur_{landmarks.side} has no voxel.")
        flat = find_coronal_turn(landmarks)[[0, 2]] * [
            [1.0],
            [-1.0],
        ]  # (2, 3): columns to the patient's left, rows downwards
        self._line, self._across = _junction_line(landmarks, flat)
        self._lowest_row = (flat @ landmarks["shaft_2cm"])[1]
        self._side, self._pixel_mm = landmarks.side, pixel_mm
        self.box = bounding_box(femur)
        inside = np.argwhere(femur[self.box])
        middles = grid.crop(self.box).points(inside) @ flat.T
        reach = float(np.abs(flat @ (grid.direction * grid.spacing_mm / 2)).sum(axis=1).max()) + pixel_mm
        self.is_near = middles[:, 1] < self._lowest_row + 10 + reach
        self.inside, middles = inside[self.is_near], middles[self.is_near]
        if not len(middles):
            raise CaseError("BMD-PF-002", f"femur_{landmarks.side} has no voxel above the level of shaft_2cm.")
        self._corner = middles.min(axis=0) - reach - pixel_mm
        columns, rows = np.ceil((middles.max(axis=0) + reach + pixel_mm - self._corner) / pixel_mm).astype(int)
        self.shape = int(rows), int(columns)
        self.middles = (middles - self._corner) / pixel_mm
        steps = _offsets(grid, pixel_mm) @ flat.T
        self.steps = steps / pixel_mm
        self.weight = grid.voxel_volume_mm3 / len(steps) / pixel_mm**2 * MG_CM3_MM_TO_G_CM2

    def cut(self, hit: np.ndarray) -> np.ndarray:
        """The pixels of the proximal femur among those where the femur projects, bool.

        Raises:
            CaseError: BMD-PF-002, there are none.
        """
        rows, columns = self.shape
        centre_rows = self._corner[1] + (np.arange(rows) + 0.5) * self._pixel_mm
        centre_columns = self._corner[0] + (np.arange(columns) + 0.5) * self._pixel_mm
        line, across = self._line, self._across
        beyond = (centre_columns[None, :] - line[0]) * across[0] + (centre_rows[:, None] - line[1]) * across[1] > 0
        region = hit & beyond & (centre_rows < self._lowest_row)[:, None]
        if not region.any():
            raise CaseError("BMD-PF-002", f"femur_{self._side} does not project between the junction and shaft_2cm.")
        return keep_largest_component(region)


def _junction_line(landmarks: Landmarks, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A point of the projected junction line, and the unit vector across it, away from the head."""
    four = landmarks.junction() @ flat.T
    middle = four.mean(axis=0)
    across = np.linalg.svd(four - middle)[2][1]
    return middle, across if across @ (middle - flat @ landmarks["head_center"]) > 0 else -across


def _offsets(grid: Grid, pixel_mm: float) -> np.ndarray:
    """(n, 3), LPS offsets, mm, of points that fill one voxel evenly."""
    counts = np.ceil(grid.spacing_mm / pixel_mm * _POINTS_PER_PIXEL).astype(int)
    axes = [((np.arange(n) + 0.5) / n - 0.5) * size for n, size in zip(counts, grid.spacing_mm, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) @ grid.direction.T


@njit(cache=True)
def _project_boxes(
    middles: np.ndarray, masses: np.ndarray, steps: np.ndarray, rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sum the masses of voxels, spread evenly over their boxes, into pixels; and where any of them falls."""
    image = np.zeros((rows, columns))
    hit = np.zeros((rows, columns), np.bool_)
    for n in range(middles.shape[0]):
        row = column = -1  # no pixel yet
        total = 0.0  # of the pixel that is being added to, as neighbouring points share one
        for s in range(steps.shape[0]):
            here = int(np.floor(middles[n, 1] + steps[s, 1])), int(np.floor(middles[n, 0] + steps[s, 0]))
            if here != (row, column):
                if row >= 0:
                    image[row, column] = total
                row, column = here
                total = image[row, column]
                hit[row, column] = True
            total += masses[n]
        image[row, column] = total
    return image, hit


@njit(cache=True)
def _count_inside(middles: np.ndarray, steps: np.ndarray, region: np.ndarray) -> np.ndarray:
    """How many points of each voxel fall into a region."""
    counts = np.zeros(middles.shape[0])
    for n in range(middles.shape[0]):
        for s in range(steps.shape[0]):
            if region[int(np.floor(middles[n, 1] + steps[s, 1])), int(np.floor(middles[n, 0] + steps[s, 0]))]:
                counts[n] += 1
    return counts
