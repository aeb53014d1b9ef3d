"""Pictures of one case: labels and region on three planes, the images of its pairs. Data URIs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bmdkit.core.anatomy import STRUCTURES
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.planes import Plane
from bmdkit.core.volume import Grid, LabelMap, Volume
from bmdkit.report.style import BODY_COLOURS, REGION_COLOUR, drawing, png_uri

_WINDOW_MG_CM3 = (-200.0, 500.0)
"""Density shown as black and as white in CT pictures; without calibration it is HU."""

_PIXEL_MM = 1.0


def extent_mm(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Corners (low, high) of the box around a grid, LPS, mm."""
    corners = grid.corners()
    return corners.min(axis=0), corners.max(axis=0)


def three_planes(
    density: Volume, labels: LabelMap, region: Volume | None, landmarks: Landmarks | None, side: str
) -> str:
    """Axial, coronal and sagittal cut through one hip with its labels, its measured region and its landmarks.

    Args:
        density: mg/cm3, on the CT's grid.
        labels: On their own grid.
        region: The proximal femur, non-zero inside; None if it could not be cut.
        landmarks: Those within 6 mm of a cut are shown on it.
        side: The hip.
    """
    femur = f"femur_{side}"
    mask, grid = (region.array, region.grid) if region is not None else (labels.mask(femur), labels.grid)
    inside = np.argwhere(np.asarray(mask) > 0)
    if not len(inside):
        raise ValueError(f"side {side}: neither a region nor a femur to show")
    middle = grid.points(inside.mean(axis=0))
    low, high = extent_mm(density.grid)
    reach = np.array([115.0, 95.0, 110.0])
    low, high = np.maximum(low, middle - reach), np.minimum(high, middle + reach)
    planes = [Plane.through(name, middle, low, high, _PIXEL_MM / 2) for name in ("axial", "coronal", "sagittal")]
    with drawing():
        figure, panels = _canvas(planes, height_px=400)
        for axes, plane in zip(panels, planes, strict=True):
            _show(axes, plane, plane.cut(density.array, density.grid, fill=_WINDOW_MG_CM3[0]))
            cut = plane.cut(labels.array, labels.grid, order=0)
            for name in STRUCTURES:
                if name in labels.values:
                    _outline(axes, cut == labels.values[name], BODY_COLOURS[name])
            if region is not None:
                _outline(axes, plane.cut(region.array, region.grid, order=0) > 0, REGION_COLOUR, fill=0.28)
            if landmarks is not None:
                points = np.array(list(landmarks.points_mm.values())).reshape(-1, 3)
                u, v = plane.pixels(points[plane.distance_mm(points) < 6]).T
                axes.plot(u, v, "+", ms=8, color="white", mew=1.5, clip_on=True)
            axes.set_xlim(-0.5, plane.columns - 0.5)
            axes.set_ylim(plane.rows - 0.5, -0.5)
        return png_uri(figure, dpi=100)


def pair_images(xray: np.ndarray, pages: Sequence[tuple[str, np.ndarray]], *, title: str) -> str:
    """A pair's radiograph beside its DRR pages, each with a colour bar in g/cm2.

    Args:
        xray: (rows, columns), [0, 1].
        pages: (name, (rows, columns) in g/cm2) of each DRR page.
        title: Over the radiograph.
    """
    rows, columns = xray.shape
    height, width = 3.9, 3.9 * columns / rows
    bar, gap, top = 0.1, 0.55, 0.28
    total = width + len(pages) * (gap + width + bar) + 0.35
    with drawing():
        figure = Figure(figsize=(total, height + top))

        def axes_at(left: float, across: float) -> Axes:
            return figure.add_axes((left / total, 0, across / total, height / (height + top)))

        axes = axes_at(0, width)
        axes.imshow(xray, cmap="gray", vmin=0, vmax=1)
        axes.set_title(title)
        axes.axis("off")
        left = width + 0.12
        for name, page in pages:
            axes = axes_at(left, width)
            peak = max(float(page.max()), 1e-3)
            picture = axes.imshow(page, cmap="inferno", vmin=0, vmax=peak)
            axes.set_title(name)
            axes.axis("off")
            colours = figure.colorbar(picture, cax=axes_at(left + width + 0.04, bar))
            colours.outline.set_visible(False)
            colours.ax.tick_params(labelsize=7.5, length=2)
            colours.ax.set_title("g/cm²", fontsize=7.5, fontweight="normal", loc="left", pad=3)
            left += width + bar + gap
        return png_uri(figure, dpi=90)


def _canvas(planes: Sequence[Plane], *, height_px: int) -> tuple[Figure, list[Axes]]:
    """Panels side by side at one scale, as high as the highest plane."""
    high = max(plane.rows * plane.pixel_mm for plane in planes)
    inch_per_mm = height_px / 100 / high
    widths = [plane.columns * plane.pixel_mm * inch_per_mm for plane in planes]
    gap = 0.06
    total = sum(widths) + gap * (len(planes) - 1)
    figure = Figure(figsize=(total, height_px / 100), facecolor="black")
    panels, left = [], 0.0
    for plane, width in zip(planes, widths, strict=True):
        tall = plane.rows * plane.pixel_mm / high
        panels.append(figure.add_axes((left / total, (1 - tall) / 2, width / total, tall)))
        left += width + gap
    return figure, panels


def _show(axes: Axes, plane: Plane, image: np.ndarray) -> None:
    """A grey picture with the letters of its edges and a bar of 50 mm."""
    axes.imshow(image, cmap="gray", vmin=_WINDOW_MG_CM3[0], vmax=_WINDOW_MG_CM3[1], aspect="equal")
    axes.axis("off")
    style = {"color": "#ffe08a", "fontsize": 9, "fontweight": "bold", "transform": axes.transAxes}
    places = ((0.015, 0.5, "left", "center"), (0.985, 0.5, "right", "center"), (0.5, 0.985, "center", "top"))
    places = (*places, (0.5, 0.015, "center", "bottom"))
    for letter, (x, y, across, up) in zip(plane.letters, places, strict=True):
        axes.text(x, y, letter, ha=across, va=up, **style)
    length = 50 / plane.pixel_mm
    start, level = 0.04 * plane.columns, 0.95 * plane.rows
    axes.plot([start, start + length], [level, level], color="white", lw=2, solid_capstyle="butt")
    axes.text(
        start + length / 2, level - 0.015 * plane.rows, "50 mm", color="white", fontsize=7.5, ha="center", va="bottom"
    )


def _outline(axes: Axes, mask: np.ndarray, colour: str, *, fill: float = 0.0) -> None:
    if mask.any() and not mask.all():
        if fill:
            layer = np.zeros((*mask.shape, 4), np.float32)
            layer[mask] = (*(int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)), fill)
            axes.imshow(layer, aspect="equal", interpolation="nearest")
        axes.contour(mask.astype(np.uint8), levels=[0.5], colors=[colour], linewidths=1.4)
