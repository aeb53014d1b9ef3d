"""What speaks against measuring one hip: metal at it, or a scan that does not show all of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap, Volume, bounding_box
from bmdkit.regions.findings import Flag, QualityConfig
from bmdkit.regions.scan_check import find_metal, flag_metal

_SEARCH_MM = 60.0  # a landmark farther from the bone than this is as bad as any


def check_hip(
    ct: Volume,
    labels: LabelMap | None,
    side: Side,
    landmarks: Landmarks | None = None,
    config: QualityConfig | None = None,
) -> tuple[Flag, ...]:
    """Find what speaks against measuring one hip.

    Args:
        ct: CT in HU.
        labels: Label map of the bones; without it metal is judged by side and the field of view by the landmarks.
        side: The hip.
        landmarks: Landmarks of that hip, given or found.
        config: Limits.

    Returns:
        Flags, each of which leaves the hip out of the BMD values: metal at the hip (BMD-HIP-001), the scan ends above
        the distal cut (002) or below the top of the head (003), landmarks off the bone (BMD-LMK-003).
    """
    config = QualityConfig() if config is None else config
    femur = _Femur.of(labels, side)
    flags = _metal_at(ct, femur, side, config)
    wanted = float(landmarks["shaft_2cm"][2]) if landmarks is not None and "shaft_2cm" in landmarks else None
    if femur is not None:
        flags += _field_of_view(ct.grid, femur, side, wanted, config)
        if landmarks is not None and not flags:
            flags += _off_bone(femur, landmarks, config)
    elif wanted is not None and wanted < (bottom := _extent_z_mm(ct.grid)[0]):
        message = f"shaft_2cm lies {bottom - wanted:.1f} mm below the scan, allowed 0 mm"
        flags.append(Flag("BMD-HIP-002", message, bottom - wanted, 0.0, side))
    return tuple(flags)


def check_landmarks(labels: LabelMap, landmarks: Landmarks, config: QualityConfig | None = None) -> tuple[Flag, ...]:
    """Find whether landmarks lie away from the femur of their side.

    Args:
        labels: Bones; without a voxel of the femur there is nothing to tell.
        landmarks: Landmarks of one hip.
        config: Limits.

    Returns:
        One flag (BMD-LMK-003) or none.
    """
    femur = _Femur.of(labels, landmarks.side)
    return () if femur is None else tuple(_off_bone(femur, landmarks, QualityConfig() if config is None else config))


@dataclass(frozen=True, eq=False)
class _Femur:
    """The voxels of one femur.

    Attributes:
        mask: bool, cropped to the femur.
        grid: Grid of the mask.
        points_mm: (n, 3), LPS, centres of the voxels.
        step_mm: Height of a slice of the label map.
    """

    mask: np.ndarray
    grid: Grid
    points_mm: np.ndarray
    step_mm: float

    @classmethod
    def of(cls, labels: LabelMap | None, side: Side) -> _Femur | None:
        """The femur that a label map shows; None where it shows none."""
        mask = None if labels is None else labels.mask(f"femur_{side}")
        if labels is None or mask is None or not mask.any():
            return None
        box = bounding_box(mask)
        grid = labels.grid.crop(box)
        return cls(mask[box], grid, labels.grid.points(np.argwhere(mask)), _step_z_mm(grid))


def _step_z_mm(grid: Grid) -> float:
    return float(np.abs(grid.direction[2]) @ grid.spacing_mm)


def _metal_at(ct: Volume, femur: _Femur | None, side: Side, config: QualityConfig) -> list[Flag]:
    pieces = find_metal(ct, config)
    if pieces and femur is not None:
        points = femur.points_mm
        low, high = points.min(axis=0) - config.metal_reach_mm, points.max(axis=0) + config.metal_reach_mm
        near = [p for p in pieces if (np.array(p.low_mm) <= high).all() and (np.array(p.high_mm) >= low).all()]
    else:
        near = [piece for piece in pieces if piece.side == side]
    volume = sum(piece.volume_ml for piece in near)
    return [flag_metal(volume, config, f"at hip {side}", side)] if volume else []


def _field_of_view(
    scan: Grid, femur: _Femur, side: Side, wanted_z_mm: float | None, config: QualityConfig
) -> list[Flag]:
    """Flags if the head or the distal cut at `wanted_z_mm` lies beyond the femur that the scan shows."""
    low, high = _extent_z_mm(femur.grid)
    bottom, top = _extent_z_mm(scan)
    step = max(femur.step_mm, _step_z_mm(scan))
    flags = []
    section = _top_section_mm2(femur.mask, femur.grid)
    if top - high < step and section > config.head_cap_mm2:
        message = f"the femur ends at the scan's top with {section:.0f} mm2, allowed {config.head_cap_mm2:.0f} mm2"
        flags.append(Flag("BMD-HIP-003", message, section, config.head_cap_mm2, side))
    if wanted_z_mm is not None and low > wanted_z_mm + step:
        short = low - wanted_z_mm
        message = f"the femur ends {short:.1f} mm above the level of shaft_2cm, allowed {step:.1f} mm"
        flags.append(Flag("BMD-HIP-002", message, short, step, side))
    elif wanted_z_mm is None and high - low < config.least_femur_mm and low - bottom < 2 * step:
        message = f"{high - low:.0f} mm of the femur are in the scan, needed {config.least_femur_mm:.0f} mm"
        flags.append(Flag("BMD-HIP-002", message, high - low, config.least_femur_mm, side))
    return flags


def _off_bone(femur: _Femur, landmarks: Landmarks, config: QualityConfig) -> list[Flag]:
    """A flag if the landmarks lie away from the femur, by the largest distance of any of them from its voxels."""
    inside = femur.points_mm
    reach = config.landmark_reach_mm
    worst, name = 0.0, ""
    for key, point in landmarks.points_mm.items():
        close = inside[(np.abs(inside - point) <= _SEARCH_MM).all(axis=1)]
        distance = float(np.sqrt(((close - point) ** 2).sum(axis=1).min())) if len(close) else _SEARCH_MM
        if distance > worst:
            worst, name = distance, key
    if worst <= reach:
        return []
    message = f"{name} lies {worst:.0f} mm from femur_{landmarks.side}, allowed {reach:.0f} mm"
    return [Flag("BMD-LMK-003", message, worst, reach, landmarks.side)]


def _top_section_mm2(femur: np.ndarray, grid: Grid) -> float:
    """Area of the highest section of a femur that is cropped to its box."""
    axis = 2 - int(np.argmax(np.abs(grid.direction[2])))
    end = -1 if grid.direction[2, 2 - axis] > 0 else 0
    return float(np.take(femur, end, axis=axis).sum()) * grid.voxel_volume_mm3 / float(grid.spacing_mm[2 - axis])


def _extent_z_mm(grid: Grid) -> tuple[float, float]:
    """LPS z of a grid's lowest and highest voxel faces, mm."""
    z = grid.corners()[:, 2]
    half = float(np.abs(grid.direction[2]) @ grid.spacing_mm) / 2
    return float(z.min()) - half, float(z.max()) + half
