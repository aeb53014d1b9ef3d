"""What speaks against measuring a hip: metal in it, or a scan that does not show all of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.core.anatomy import SIDES, Side
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import Grid, LabelMap, Volume, bounding_box


@dataclass(frozen=True)
class Flag:
    """One finding.

    Attributes:
        code: Of `bmdkit.errors.CODES`.
        message: In words, with what was measured and what is allowed.
        measured, allowed: The same as numbers.
        side: The hip concerned, or None.
    """

    code: str
    message: str
    measured: float
    allowed: float
    side: Side | None = None


@dataclass(frozen=True)
class QualityConfig:
    """Limits of the checks.

    Attributes:
        metal_hu: Denser than any bone; CTs stored in 12 bits end at 3071 HU.
        metal_ml: Volume of metal in one piece that is an implant.
        metal_reach_mm: Metal this far from a bone of the hip belongs to it.
        head_margin_mm: The scan must show this much above the top of the femoral head.
        landmark_reach_mm: A landmark this far from the femur's voxels does not lie on it.
    """

    metal_hu: float = 2500.0
    metal_ml: float = 0.5
    metal_reach_mm: float = 15.0
    head_margin_mm: float = 0.0
    landmark_reach_mm: float = 12.0


@dataclass(frozen=True)
class MetalPiece:
    """A connected piece of metal.

    Attributes:
        volume_ml: Its volume.
        centre_mm: LPS.
        low_mm, high_mm: Corners of its box, LPS.
        side: By its place beside the middle of the body; None near the middle.
    """

    volume_ml: float
    centre_mm: tuple[float, float, float]
    low_mm: tuple[float, float, float]
    high_mm: tuple[float, float, float]
    side: Side | None


def find_metal(ct: Volume, config: QualityConfig | None = None) -> tuple[MetalPiece, ...]:
    """Pieces of metal in a CT that are large enough to be an implant, the largest first."""
    config = QualityConfig() if config is None else config
    ct.require("hu")
    metal = ct.array >= config.metal_hu
    if not metal.any():
        return ()
    box = bounding_box(metal)
    parts, count = ndimage.label(metal[box], structure=np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:] * ct.grid.voxel_volume_mm3 / 1000
    grid = ct.grid.crop(box)
    middle = _body_middle_mm(ct)
    pieces = []
    places = ndimage.find_objects(parts)
    for n in np.argsort(-sizes, kind="stable"):
        if sizes[n] < config.metal_ml:
            break
        points = grid.points(np.argwhere(parts[places[n]] == n + 1) + [s.start for s in places[n]])
        centre = points.mean(axis=0)
        away = centre[0] - middle
        side = None if abs(away) < 20 else "L" if away > 0 else "R"
        low, high = points.min(axis=0), points.max(axis=0)
        pieces.append(MetalPiece(float(sizes[n]), _tuple(centre), _tuple(low), _tuple(high), side))
    return tuple(pieces)


def check_scan(ct: Volume, config: QualityConfig | None = None) -> tuple[Flag, ...]:
    """Flags of a CT without labels: metal, with the patient's side that it lies on, one flag per side."""
    config = QualityConfig() if config is None else config
    flags = []
    pieces = find_metal(ct, config)
    for side in (*SIDES, None):
        volume = sum(piece.volume_ml for piece in pieces if piece.side == side)
        if volume:
            where = {"L": "on the left", "R": "on the right", None: "in the middle"}[side]
            flags.append(_metal_flag(volume, config, where, side))
    return tuple(flags)


def check_hip(
    ct: Volume,
    labels: LabelMap | None,
    side: Side,
    landmarks: Landmarks | None = None,
    config: QualityConfig | None = None,
) -> tuple[Flag, ...]:
    """Find what speaks against measuring one hip.

    Args:
        ct: HU.
        labels: Bones; without them metal is judged by side and the field of view by the landmarks alone.
        side: The hip.
        landmarks: Of that hip, given or found.
        config: Limits.

    Returns:
        Flags, each of which leaves the hip out of the BMD values: metal at the hip (BMD-HIP-001), the scan ends above
        the distal cut (002) or below the top of the head (003), landmarks off the bone (BMD-LMK-003).
    """
    config = QualityConfig() if config is None else config
    femur = labels.mask(f"femur_{side}") if labels is not None else np.zeros(0, bool)
    flags = list(_metal_at(ct, labels, femur, side, config))
    bottom, top = _extent_z_mm(ct.grid)
    if femur.any():
        box = bounding_box(femur)
        low, high = _extent_z_mm(labels.grid.crop(box))
        step = float(max(np.abs(labels.grid.direction[2]) @ labels.grid.spacing_mm, np.abs(ct.grid.direction[2]) @ ct.grid.spacing_mm))
        if top - high < step + config.head_margin_mm and _ends_wide(femur[box], labels.grid, upper=True):
            message = f"the femur reaches the upper end of the scan ({top - high:.1f} mm below it)"
            flags.append(Flag("BMD-HIP-003", message, top - high, step, side))
        wanted = None if landmarks is None or "shaft_2cm" not in landmarks else landmarks["shaft_2cm"][2]
        if wanted is None and landmarks is None and high - low < _LEAST_FEMUR_MM and low - bottom < 2 * step:
            message = f"{high - low:.0f} mm of the femur are in the scan, needed {_LEAST_FEMUR_MM:.0f} mm"
            flags.append(Flag("BMD-HIP-002", message, high - low, _LEAST_FEMUR_MM, side))
        if wanted is not None and low > wanted + step:
            message = f"the femur ends {low - wanted:.1f} mm above the level of shaft_2cm, allowed {step:.1f} mm"
            flags.append(Flag("BMD-HIP-002", message, low - wanted, step, side))
        if landmarks is not None and not flags:
            flags += _off_bone(labels, femur, landmarks, config)
    if landmarks is not None and not any(flag.code == "BMD-HIP-002" for flag in flags):
        for name in ("shaft_2cm",):
            if name in landmarks and landmarks[name][2] < bottom:
                below = bottom - landmarks[name][2]
                message = f"{name} lies {below:.1f} mm below the scan, allowed 0 mm"
                flags.append(Flag("BMD-HIP-002", message, below, 0.0, side))
    return tuple(flags)


_LEAST_FEMUR_MM = 95.0  # from the top of the head to the level of shaft_2cm in a small adult


def _metal_at(
    ct: Volume, labels: LabelMap | None, femur: np.ndarray, side: Side, config: QualityConfig
) -> list[Flag]:
    pieces = find_metal(ct, config)
    if femur.any():
        points = labels.grid.points(np.argwhere(femur))
        low, high = points.min(axis=0) - config.metal_reach_mm, points.max(axis=0) + config.metal_reach_mm
        near = [p for p in pieces if (np.array(p.low_mm) <= high).all() and (np.array(p.high_mm) >= low).all()]
    else:
        near = [piece for piece in pieces if piece.side == side]
    volume = sum(piece.volume_ml for piece in near)
    return [_metal_flag(volume, config, f"at hip {side}", side)] if volume else []


def _metal_flag(volume: float, config: QualityConfig, where: str, side: Side | None) -> Flag:
    message = f"{volume:.1f} ml of metal {where} (HU >= {config.metal_hu:.0f}), allowed {config.metal_ml:g} ml"
    return Flag("BMD-HIP-001", message, volume, config.metal_ml, side)


def _off_bone(labels: LabelMap, femur: np.ndarray, landmarks: Landmarks, config: QualityConfig) -> list[Flag]:
    """A flag if the landmarks lie away from the femur, by the largest distance of any of them from its voxels."""
    points = np.stack(list(landmarks.points_mm.values()))
    reach = config.landmark_reach_mm
    inside = labels.grid.points(np.argwhere(femur))
    worst = 0.0
    for point in points:
        close = inside[(np.abs(inside - point) <= 60).all(axis=1)]
        distance = float(np.sqrt(((close - point) ** 2).sum(axis=1).min())) if len(close) else 60.0
        worst = max(worst, distance)
    if worst <= reach:
        return []
    message = f"a landmark lies {worst:.0f} mm from femur_{landmarks.side}, allowed {reach:.0f} mm"
    return [Flag("BMD-LMK-003", message, worst, reach, landmarks.side)]


def _ends_wide(femur: np.ndarray, grid: Grid, *, upper: bool) -> bool:
    """Whether a femur (cropped to its box) is cut through at one end: its last level is far larger than a cap's."""
    axis = 2 - int(np.argmax(np.abs(grid.direction[2])))
    ascending = grid.direction[2, 2 - axis] > 0
    end = -1 if upper == ascending else 0
    pixel = grid.voxel_volume_mm3 / grid.spacing_mm[2 - axis]
    return float(np.take(femur, end, axis=axis).sum()) * pixel > _CAP_MM2


_CAP_MM2 = 250.0  # a head's highest slice at 5 mm is smaller


def _extent_z_mm(grid: Grid) -> tuple[float, float]:
    """LPS z of a grid's lowest and highest voxel faces, mm."""
    z = grid.corners()[:, 2]
    half = float(np.abs(grid.direction[2]) @ grid.spacing_mm) / 2
    return float(z.min()) - half, float(z.max()) + half


def _body_middle_mm(ct: Volume) -> float:
    """LPS x of the middle of the body, mm."""
    step = tuple(slice(None, None, max(1, round(4 / size))) for size in ct.grid.spacing_mm[::-1])
    body = ndimage.binary_opening(ct.array[step] > -300, iterations=2)
    if not body.any():
        return float(ct.grid.centre()[0])
    parts, count = ndimage.label(body)
    body = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]) if count > 1 else body
    strides = [s.step or 1 for s in step]
    middle = [float(np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis))).mean()) for axis in range(3)]
    return float(ct.grid.points(np.array(middle) * strides)[0])


def _tuple(point: np.ndarray) -> tuple[float, float, float]:
    return tuple(round(float(v), 2) for v in point)
