"""What a CT shows of the hips before anything is segmented: metal, and whether the femurs' shafts are in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bmdkit.core.anatomy import SIDES, Side
from bmdkit.core.volume import Volume, bounding_box, keep_largest_component
from bmdkit.regions.findings import Flag, QualityConfig

_BONE_HU = 250.0
_SKIN_HU = -300.0
_STEP_MM = 5.0  # between the slices that are looked at
_MIDLINE_MM = 30.0  # bone this near the middle is pelvis or spine
_SHAFT_MM2 = (250.0, 1500.0)  # area of a filled section of the shaft
_SHAFT_FILL = 0.55  # share of its enclosing circle that a round section fills
_OTHER_BONE_MM2 = 120.0
_LEAST_LEVELS = 3


@dataclass(frozen=True)
class MetalPiece:
    """A connected piece of metal.

    Attributes:
        volume_ml: Volume of the piece.
        centre_mm: Centre, LPS.
        low_mm, high_mm: Corners of its box, LPS.
        side: Side, by its place beside the middle of the body; None near the middle.
    """

    volume_ml: float
    centre_mm: tuple[float, float, float]
    low_mm: tuple[float, float, float]
    high_mm: tuple[float, float, float]
    side: Side | None


def check_scan(ct: Volume, config: QualityConfig | None = None) -> tuple[Flag, ...]:
    """Flags of a CT without labels.

    Returns:
        BMD-HIP-001 for metal, one per side; BMD-HIP-002 for each side on which no level shows the femur's shaft alone,
        so that the scan ends above the distal cut.
    """
    config = QualityConfig() if config is None else config
    flags = []
    pieces = find_metal(ct, config)
    for side in (*SIDES, None):
        volume = sum(piece.volume_ml for piece in pieces if piece.side == side)
        if volume:
            where = {"L": "on the left", "R": "on the right", None: "in the middle"}[side]
            flags.append(flag_metal(volume, config, where, side))
    for side, levels in count_shaft_levels(ct).items():
        if levels < _LEAST_LEVELS:
            message = (
                f"the scan ends above the distal cut: {levels} levels show the shaft of femur_{side} alone, "
                f"needed {_LEAST_LEVELS}"
            )
            flags.append(Flag("BMD-HIP-002", message, float(levels), float(_LEAST_LEVELS), side))
    return tuple(flags)


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
        side: Side | None = None if abs(away) < _MIDLINE_MM else "L" if away > 0 else "R"
        low, high = points.min(axis=0), points.max(axis=0)
        pieces.append(MetalPiece(float(sizes[n]), _rounded(centre), _rounded(low), _rounded(high), side))
    return tuple(pieces)


def flag_metal(volume_ml: float, config: QualityConfig, where: str, side: Side | None) -> Flag:
    """The flag of metal at a hip, BMD-HIP-001."""
    message = f"{volume_ml:.1f} ml of metal {where} (HU >= {config.metal_hu:.0f}), allowed {config.metal_ml:g} ml"
    return Flag("BMD-HIP-001", message, volume_ml, config.metal_ml, side)


def count_shaft_levels(ct: Volume) -> dict[Side, int]:
    """How many of a CT's levels, every 5 mm, show on either side one round bone and no other: the femur's shaft."""
    axis = 2 - int(np.argmax(np.abs(ct.grid.direction[2])))
    across = [n for n in (0, 1, 2) if n != axis]
    sizes = ct.grid.spacing_mm[::-1]
    step = max(1, round(_STEP_MM / sizes[axis]))
    pixel = sizes[across[0]] * sizes[across[1]]
    middle = _body_middle_mm(ct)
    levels: dict[Side, int] = dict.fromkeys(SIDES, 0)
    for k in range(0, ct.grid.shape[axis], step):
        image = ndimage.gaussian_filter(np.take(ct.array, k, axis=axis).astype(np.float32), 0.7 / sizes[across])
        body = keep_largest_component(
            ndimage.binary_opening(image > _SKIN_HU, iterations=max(1, round(3 / sizes[across[0]])))
        )
        bone = ndimage.binary_fill_holes((image > _BONE_HU) & ndimage.binary_fill_holes(body))
        parts, count = ndimage.label(bone)
        seen: dict[Side, list[bool]] = {side: [] for side in SIDES}
        for n, place in enumerate(ndimage.find_objects(parts, max_label=count), start=1):
            inside = np.argwhere(parts[place] == n)
            area = len(inside) * pixel
            if area < _OTHER_BONE_MM2:
                continue
            index = np.insert((inside + [s.start for s in place]).astype(float), axis, k, axis=1)
            points = ct.grid.points(index)
            x = points[:, 0] - middle
            round_enough = area >= _SHAFT_FILL * np.pi * _reach(points) ** 2
            shaft = round_enough and _SHAFT_MM2[0] <= area <= _SHAFT_MM2[1] and abs(x.mean()) > _MIDLINE_MM
            central = abs(x.mean()) <= _MIDLINE_MM  # counts for both sides
            for side in SIDES:
                if central or (x.mean() > 0) == (side == "L"):
                    seen[side].append(bool(shaft))
        for side in SIDES:
            levels[side] += int(len(seen[side]) == 1 and seen[side][0])
    return levels


def _reach(points: np.ndarray) -> float:
    """The largest distance of points (n, 3) from their middle."""
    return float(np.linalg.norm(points - points.mean(axis=0), axis=1).max())


def _body_middle_mm(ct: Volume) -> float:
    """LPS x of the middle of the body, mm."""
    step = tuple(slice(None, None, max(1, round(4 / size))) for size in ct.grid.spacing_mm[::-1])
    body = ndimage.binary_opening(ct.array[step] > _SKIN_HU, iterations=2)
    if not body.any():
        return float(ct.grid.centre()[0])
    body = keep_largest_component(body)
    strides = [s.step for s in step]
    middle = [float(np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis))).mean()) for axis in range(3)]
    return float(ct.grid.points(np.array(middle) * strides)[0])


def _rounded(point: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(v), 2) for v in point)
    return x, y, z
