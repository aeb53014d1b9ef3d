"""A radiograph at the pixel sizes of the search."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.radiograph import Radiograph
from bmdkit.registration.gradients import REACH
from bmdkit.registration.settings import RegistrationConfig
from bmdkit.registration.similarity import FixedImage

_ALIKE = 15
"""Side, in blocks of pixels, of the area that one value of the noise is the mean of."""


@dataclass(frozen=True, eq=False)
class Level:
    """One pixel size: the image to be matched, and the camera that sees it."""

    fixed: FixedImage
    geometry: ProjectionGeometry

    def find_box(self, region: np.ndarray) -> tuple[slice, slice]:
        """The rows and columns of whole cells about a region [row, column], bool, that its gradients depend on."""
        cell, box = self.fixed.cell, []
        for axis, size in enumerate(region.shape):
            line = np.flatnonzero(region.any(1 - axis))
            first, last = (int(line[0]) - REACH, int(line[-1]) + 1 + REACH) if len(line) else (0, size)
            box.append(slice(max(first, 0) // cell * cell, min(-(-last // cell) * cell, size)))
        return box[0], box[1]

    def cut_to(self, box: tuple[slice, slice]) -> Level:
        """The pixels of a box; its patches stay where they are."""
        fixed = self.fixed.cut_to(box)
        rows, columns = fixed.pixels.shape
        cut = self.geometry.cropped(row=box[0].start, column=box[1].start, rows=rows, columns=columns)
        return Level(fixed, cut)


@dataclass(frozen=True)
class Window:
    """A part of a radiograph, full-resolution pixels.

    Attributes:
        row, column: Its first pixel.
        rows, columns: Its size.
    """

    row: int
    column: int
    rows: int
    columns: int


def find_window(points_mm: np.ndarray, radii_mm: np.ndarray, camera: ProjectionGeometry) -> Window | None:
    """Find the part of a radiograph in which bodies can be seen.

    Args:
        points_mm: (n, 3), middles of the bodies in the camera's axes.
        radii_mm: (n, 2), how far from there they can reach along columns and rows, at their depth.
        camera: Camera of the radiograph.

    Returns:
        The part; None where bodies lie at the source or behind it, or nothing of them can be seen.
    """
    points = np.asarray(points_mm, float)
    if not (points[:, 2] > 1.0).all():
        return None
    spacing = np.array([camera.column_spacing_mm, camera.row_spacing_mm])
    reach = radii_mm * (camera.sdd_mm / points[:, 2])[:, None] / spacing
    middle = camera.project(points)
    first = np.clip(np.floor((middle - reach).min(0)), 0, None).astype(int)
    last = np.clip(np.ceil((middle + reach).max(0)) + 1, None, (camera.columns, camera.rows)).astype(int)
    columns, rows = (int(value) for value in last - first)
    if min(rows, columns) < 16:
        return None
    return Window(int(first[1]), int(first[0]), rows, columns)


def cut_window(
    radiograph: Radiograph, camera: ProjectionGeometry, window: Window
) -> tuple[Radiograph, ProjectionGeometry]:
    """Cut a part out of a radiograph, with its camera."""
    part = np.s_[window.row : window.row + window.rows, window.column : window.column + window.columns]
    cut = camera.cropped(row=window.row, column=window.column, rows=window.rows, columns=window.columns)
    return replace(radiograph, pixels=radiograph.pixels[part], mask=radiograph.mask[part], single_hip=None), cut


def bin_pixels(radiograph: Radiograph, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of factor x factor pixels over what is image, and where nearly all of them are."""
    rows, cols = (n // factor for n in radiograph.shape)
    window = slice(rows * factor), slice(cols * factor)
    mask = radiograph.mask[window].astype(np.float32)
    image = radiograph.pixels[window] * mask
    blocks = (rows, factor, cols, factor)
    share = mask.reshape(blocks).mean((1, 3))
    total = image.reshape(blocks).mean((1, 3))
    level = float(total.sum() / max(share.sum(), 1e-12))
    return np.where(share > 0, total / np.maximum(share, 1e-12), level).astype(np.float32), share > 0.9


def find_noise(radiograph: Radiograph, factor: int) -> np.ndarray:
    """Find the variance of the noise that is left in the means of `bin_pixels`.

    The pixels of a block, black and white like a chessboard's, make two means of the same place, each with noise of its
    own: half their difference is noise as large as that of the block's mean. Of single pixels, blocks of two by two
    tell. Blocks nearby are averaged. Details finer than a block count as noise; noise that neighbouring pixels share
    does not.

    Returns:
        (rows, columns), float32; 0 where there is no image.
    """
    size = max(factor, 2)
    rows, cols = (n // size for n in radiograph.shape)
    window = slice(rows * size), slice(cols * size)
    blocks = (rows, size, cols, size)
    pixels = radiograph.pixels[window].reshape(blocks)
    whole = radiograph.mask[window].reshape(blocks).all((1, 3))
    row, column = np.indices((size, size))
    black = ((row + column) % 2 == 0)[:, None, :]
    means = [np.where(side, pixels, 0).sum((1, 3)) / side.sum() for side in (black, ~black)]
    squares = np.where(whole, ((means[0] - means[1]) / 2) ** 2, 0.0)
    total, share = (ndimage.uniform_filter(part, _ALIKE, mode="constant") for part in (squares, whole.astype(float)))
    variance = np.where(whole, total / np.maximum(share, 1e-12), 0).astype(np.float32)
    if factor >= 2:
        return variance
    wide = np.zeros(radiograph.shape, np.float32)
    wide[window] = np.kron(size**2 * variance, np.ones((size, size), np.float32))
    return wide


def make_level(
    radiograph: Radiograph,
    geometry: ProjectionGeometry,
    pixel_mm: float,
    config: RegistrationConfig,
    *,
    patch_mm: float | None = None,
    window: Window | None = None,
    with_noise: bool = False,
) -> Level:
    """Average the radiograph, or a part of it, to pixels of about `pixel_mm`; finer ones are never made.

    Its noise is found only where it is asked for: a search does not need it.
    """
    if window is not None:
        radiograph, geometry = cut_window(radiograph, geometry, window)
    own = (geometry.column_spacing_mm + geometry.row_spacing_mm) / 2
    factor = max(round(pixel_mm / own), 1)
    factor = min(factor, max(min(radiograph.shape) // 8, 1))
    image, valid = bin_pixels(radiograph, factor)
    cell = max(round((patch_mm or config.patch_mm) / 2 / (own * factor)), 2)
    noise = find_noise(radiograph, factor) if with_noise else None
    fixed = FixedImage.of(image, valid, measure=config.similarity, cell=cell, noise=noise)
    return Level(fixed, geometry.binned(factor))
