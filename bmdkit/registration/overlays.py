"""Pictures of a registration as arrays: bone edges on the radiograph, checkerboard, difference."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from skimage import exposure

from bmdkit.core.anatomy import choose_colour
from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.radiograph import Radiograph
from bmdkit.registration.bodies import FINE, Body
from bmdkit.registration.pyramid import bin_pixels
from bmdkit.registration.result import RegistrationResult

_LARGEST = 1000  # rows or columns of a picture at most
_DRR_PIXEL_MM = 1.0
_DOTS_PER_INCH = 100


def draw_edge_overlay(radiograph: Radiograph, bodies: Sequence[Body], result: RegistrationResult) -> np.ndarray:
    """The radiograph with the edges of every body's DRR in its own colour, (rows, columns, 3), uint8."""
    grey, _, camera = _background(radiograph, result.camera)
    picture = np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=2)
    for number, body in enumerate(bodies):
        if body.name in result.bodies:
            picture[find_edges(_view(body, result, camera))] = choose_colour(body.name, number)
    return picture


def draw_checkerboard(
    radiograph: Radiograph, bodies: Sequence[Body], result: RegistrationResult, *, tile_mm: float = 25.0
) -> np.ndarray:
    """Radiograph and DRR in alternate tiles, both equalised, (rows, columns), uint8."""
    grey, mask, camera = _background(radiograph, result.camera)
    drr = _drr(bodies, result, camera)
    tile = max(round(tile_mm / camera.row_spacing_mm), 4)
    row, column = np.indices(grey.shape) // tile
    mixed = np.where((row + column) % 2 == 0, _equalise(grey, mask), _equalise(drr, drr > 0.02 * drr.max(initial=0)))
    return (mixed * 255).astype(np.uint8)


def draw_difference(radiograph: Radiograph, bodies: Sequence[Body], result: RegistrationResult) -> np.ndarray:
    """Detail of the radiograph minus that of the DRR (grey where they agree), (rows, columns), uint8.

    Detail is what remains after subtracting a 10 mm blur; the DRR is scaled by least squares where bone projects.
    """
    grey, mask, camera = _background(radiograph, result.camera)
    drr = _drr(bodies, result, camera)
    wide = 10.0 / np.array([camera.row_spacing_mm, camera.column_spacing_mm])
    image, bone = (a - ndimage.gaussian_filter(a, wide) for a in (grey, drr))
    inside = mask & (drr > 0.02 * drr.max(initial=0))
    scale = (image[inside] @ bone[inside]) / max(float(bone[inside] @ bone[inside]), 1e-12) if inside.any() else 0.0
    left = np.where(mask, image - scale * bone, 0)
    reach = max(float(np.percentile(np.abs(image[inside]), 99)), 1e-6) if inside.any() else 1.0
    return (np.clip(0.5 + 0.5 * left / reach, 0, 1) * 255).astype(np.uint8)


def draw_trace_chart(result: RegistrationResult, *, rows: int = 360, columns: int = 900) -> np.ndarray:
    """Best similarity, less the prior, after every generation of every stage; (rows, columns, 3), uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns / _DOTS_PER_INCH, rows / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="generation", ylabel="similarity less prior")
    begin = 0
    for stage, trace in result.traces.items():
        axes.plot(np.arange(begin, begin + len(trace)), np.negative(trace), marker=".", label=stage)
        begin += len(trace)
    axes.grid(alpha=0.3)
    if result.traces:
        axes.legend(fontsize="x-small", ncols=2, loc="lower right")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def find_edges(drr: np.ndarray) -> np.ndarray:
    """Outline and strong inner edges of a bone's DRR (rows, columns), bool, a pixel thick."""
    if not drr.max(initial=0) > 0:
        return np.zeros(drr.shape, bool)
    bone = drr > 0.02 * drr.max()
    outline = bone & ~ndimage.binary_erosion(bone, border_value=1)
    smooth = ndimage.gaussian_filter(np.sqrt(np.maximum(drr, 0)), 1.5)
    rows, columns = ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)
    steep = np.hypot(rows, columns)
    across_rows = np.abs(rows) > np.abs(columns)
    highest = np.where(
        across_rows,
        (steep >= np.roll(steep, 1, 0)) & (steep > np.roll(steep, -1, 0)),
        (steep >= np.roll(steep, 1, 1)) & (steep > np.roll(steep, -1, 1)),
    )
    inner = ndimage.binary_erosion(bone, iterations=7)
    limit = np.percentile(steep[bone], 85)
    return outline | (highest & inner & (steep > limit))


def _background(
    radiograph: Radiograph, camera: ProjectionGeometry
) -> tuple[np.ndarray, np.ndarray, ProjectionGeometry]:
    factor = max(-(-max(radiograph.shape) // _LARGEST), 1)
    image, mask = bin_pixels(radiograph, factor)
    return np.where(mask, image, image * 0.4), mask, camera.binned(factor)


def _view(body: Body, result: RegistrationResult, camera: ProjectionGeometry) -> np.ndarray:
    """The DRR of one body on the pixels of the picture, rendered no finer than its edges need."""
    own = (camera.row_spacing_mm + camera.column_spacing_mm) / 2
    scale = max(_DRR_PIXEL_MM / own, 1.0)
    small = camera.resized(max(round(camera.rows / scale), 1), max(round(camera.columns / scale), 1))
    image = body.project(result.bodies[body.name].camera_from_ct.matrix[None], small, FINE, "cpu")[0]
    if small.shape == camera.shape:
        return image
    factors = np.array(small.shape) / camera.shape
    return ndimage.affine_transform(
        image, factors, offset=0.5 * factors - 0.5, output_shape=camera.shape, order=1, mode="nearest"
    )


def _drr(bodies: Sequence[Body], result: RegistrationResult, camera: ProjectionGeometry) -> np.ndarray:
    views = (_view(body, result, camera) for body in bodies if body.name in result.bodies)
    return functools.reduce(operator.add, views, np.zeros(camera.shape, np.float32))


def _equalise(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Histogram equalised within the mask, 0 outside; [0, 1]."""
    if not mask.any():
        return np.zeros(image.shape)
    return np.where(mask, exposure.equalize_hist(image, mask=mask), 0.0)
