"""Pictures for the eye, drawn while the CT is at hand: the rods on their slice, labels and region on three planes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from bmdkit.calibration.line import Calibration, Rod
from bmdkit.core.anatomy import COLOURS, REGION_COLOUR, STRUCTURES
from bmdkit.core.grid import Grid
from bmdkit.core.plane_sections import ORIENTATIONS, PlaneSection
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.ct_stage import Hip, MeasuredCt
from bmdkit.io.images import write_png

_RODS_PIXEL_MM, _HIP_PIXEL_MM = 0.6, 0.5
_RODS_WINDOW_HU, _BONE_WINDOW_HU = (-200.0, 400.0), (-250.0, 900.0)
_RING_MM = 12.0
_REACH_MM = (100.0, 85.0, 100.0)  # of the hip's pictures from the middle of the region, along L, P, S
_LANDMARK_REACH_MM = 6.0
_FILL = 0.22
_GAP = 8  # pixels
_WHITE, _LETTER = (255, 255, 255), (255, 224, 138)


def draw_calibration(folder: Path, hu: Volume, calibration: Calibration) -> None:
    """Write calibration.png, if the line was fitted to rods with a place."""
    if any(rod.center_lps_mm is not None for rod in calibration.rods):
        write_png(folder / "calibration.png", draw_rods(hu, calibration.rods))


def draw_hips(folder: Path, ct: MeasuredCt) -> None:
    """Write labels_<side>.png of every target hip that has a femur."""
    for side, hip in ct.hips.items():
        if hip.region is not None or ct.labels.mask(f"femur_{side}").any():
            write_png(folder / f"labels_{side}.png", draw_planes(ct.scan.volume, ct.labels, hip))


def draw_rods(hu: Volume, rods: Sequence[Rod]) -> np.ndarray:
    """The axial slice through the middle of the rods, each ringed and named by its density, mg/cm3.

    Args:
        hu: The CT.
        rods: Those with a place are drawn; at least one has to have it.

    Returns:
        (rows, columns, 3), uint8; patient left on the right, front above.
    """
    from PIL import Image, ImageDraw, ImageFont

    rods = [rod for rod in rods if rod.center_lps_mm is not None]
    if not rods:
        raise ValueError("rods: expected at least one with a place")
    centres = np.array([rod.center_lps_mm for rod in rods], float)
    low, high = _extent(hu.grid)
    plane = PlaneSection.through("axial", np.median(centres, axis=0), low, high, _RODS_PIXEL_MM)
    picture = Image.fromarray(_grey(hu, plane, _RODS_WINDOW_HU))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=17)
    uv = plane.pixels(centres)
    radius = _RING_MM / _RODS_PIXEL_MM
    towards = -1 if uv[:, 1].mean() > plane.rows / 2 else 1  # names on the side of the picture's middle
    for (u, v), rod in zip(uv, rods, strict=True):
        draw.ellipse((u - radius, v - radius, u + radius, v + radius), outline=REGION_COLOUR, width=2)
        draw.text((u, v + towards * (radius + 14)), f"{rod.density_mg_cm3:g}", fill=_WHITE, font=font, anchor="mm")
    return np.asarray(picture)


def draw_planes(hu: Volume, labels: LabelMap, hip: Hip) -> np.ndarray:
    """Axial, coronal and sagittal plane through the middle of one hip's region, side by side.

    The coronal plane goes half-way to the head's centre, so that it shows the neck. Structures are outlined in their
    colours, the region is filled; landmarks near a plane are crosses.

    Args:
        hu: The CT.
        labels: On their own grid.
        hip: Hip with its region (the middle of its femur is taken if it has none) and landmarks.

    Returns:
        (rows, columns, 3), uint8.
    """
    mask = labels.mask(f"femur_{hip.side}") if hip.region is None else hip.region
    middle = _middle(mask, labels.grid)
    low, high = _extent(hu.grid)
    low, high = np.maximum(low, middle - _REACH_MM), np.minimum(high, middle + _REACH_MM)
    panels = []
    for orientation in ORIENTATIONS:
        point = middle
        if orientation == "coronal" and hip.landmarks is not None and "head_center" in hip.landmarks:
            point = (middle + hip.landmarks["head_center"]) / 2
        plane = PlaneSection.through(orientation, point, low, high, _HIP_PIXEL_MM)
        image = _grey(hu, plane, _BONE_WINDOW_HU)
        cut = plane.cut(labels.array, labels.grid, order=0)
        for name in STRUCTURES:
            image[_outline(cut == labels.values.get(name, 255))] = COLOURS[name]
        if hip.region is not None:
            region = plane.cut(hip.region.view(np.uint8), labels.grid, order=0) > 0
            image[region] = (1 - _FILL) * image[region] + _FILL * np.array(REGION_COLOUR)
            image[_outline(region)] = REGION_COLOUR
        points = np.array(list(hip.landmarks.points_mm.values())) if hip.landmarks is not None else np.empty((0, 3))
        near = points[plane.distance_mm(points) < _LANDMARK_REACH_MM]
        panels.append(_annotated(image, plane, plane.pixels(near)))
    rows = max(len(panel) for panel in panels)
    columns = sum(panel.shape[1] for panel in panels) + _GAP * (len(panels) - 1)
    sheet = np.zeros((rows, columns, 3), np.uint8)
    column = 0
    for panel in panels:
        row = (rows - len(panel)) // 2
        sheet[row : row + len(panel), column : column + panel.shape[1]] = panel
        column += panel.shape[1] + _GAP
    return sheet


def _annotated(image: np.ndarray, plane: PlaneSection, crosses_uv: np.ndarray) -> np.ndarray:
    """With crosses, the letters of the edges and a bar of 50 mm."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(image)
    draw, font, small = ImageDraw.Draw(picture), ImageFont.load_default(size=18), ImageFont.load_default(size=13)
    for u, v in crosses_uv:
        draw.line((u - 6, v, u + 6, v), fill=_WHITE, width=2)
        draw.line((u, v - 6, u, v + 6), fill=_WHITE, width=2)
    right, bottom = plane.columns - 1, plane.rows - 1
    places = ((6, bottom / 2, "lm"), (right - 6, bottom / 2, "rm"), (right / 2, 5, "ma"), (right / 2, bottom - 5, "md"))
    for letter, (u, v, anchor) in zip(plane.letters, places, strict=True):
        draw.text((u, v), letter, fill=_LETTER, font=font, anchor=anchor)
    length = 50 / plane.pixel_mm
    if length < 0.6 * right:
        draw.line((14, bottom - 12, 14 + length, bottom - 12), fill=_WHITE, width=3)
        draw.text((14 + length / 2, bottom - 17), "50 mm", fill=_WHITE, font=small, anchor="md")
    return np.asarray(picture)


def _grey(hu: Volume, plane: PlaneSection, window_hu: tuple[float, float]) -> np.ndarray:
    low, high = window_hu
    cut = plane.cut(hu.require("hu").array, hu.grid, fill=low)
    grey = np.rint(255 * np.clip((cut - low) / (high - low), 0, 1)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _outline(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(2, 2), border_value=1)


def _extent(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    corners = grid.corners()
    return corners.min(axis=0), corners.max(axis=0)


def _middle(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """(3,), LPS of a mask's centre of mass, mm."""
    along = [mask.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.int64) for axis in range(3)]
    return grid.points(np.array([np.average(np.arange(n), weights=w) for n, w in zip(mask.shape, along, strict=True)]))
