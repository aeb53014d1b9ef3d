"""Pictures of what a network sees in a radiograph."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch
from PIL import Image, ImageDraw

from bmdkit.inference.colour_bar import draw_colour_bar, load_font, paint
from bmdkit.training.montage import DENSITY_MAP

LEAST_ROWS = 512
"""A picture is shown with at least so many rows, so that its title can be read."""

SCALE_MM = 50.0
"""Length of the scale below a picture, at the detector."""

_TEXT_PX, _LINE_ROWS, _MARGIN, _FOOT_ROWS, _END_PX = 13, 17, 8, 30, 5
_BAR_COLUMNS, _NUMBER_COLUMNS = 36, 40
_INK = (255, 255, 255)


def draw_overlay(xray: np.ndarray, drr_g_cm2: np.ndarray, scale_g_cm2: float) -> np.ndarray:
    """A radiograph (rows, columns), [0, 1], with a projection of the same size in colour, uint8 RGB."""
    share = np.clip(drr_g_cm2 / scale_g_cm2, 0, 1)
    colour = paint(share, DENSITY_MAP) / 255
    opaque = np.clip(share / 0.15, 0, 1)[..., None] * 0.7
    grey = np.clip(xray, 0, 1)[..., None]
    return np.rint(255 * (grey * (1 - opaque) + colour * opaque)).astype(np.uint8)


def resize_bilinear(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(rows, columns) as (other rows, other columns), interpolated."""
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return torch.nn.functional.interpolate(tensor, size=tuple(size), mode="bilinear")[0, 0].numpy()


def finish_overlay(
    picture: np.ndarray, lines: tuple[str, ...], *, peak: float | None, unit: str | None, pixel_mm: float | None
) -> np.ndarray:
    """An overlay below a title, its colour bar on the right, and 5 cm below it.

    Args:
        picture: (rows, columns, 3), uint8, of `draw_overlay`. One of few rows is enlarged by a whole factor first.
        lines: Title, one line each; what is wider than the picture widens all.
        peak: Value of the brightest colour; None of a picture without a projection, which gets no bar.
        unit: Unit of the projection.
        pixel_mm: Width of the picture's pixels at the detector; None where it is not known, which is then said.

    Returns:
        (more rows, more columns, 3), uint8.
    """
    factor = -(-LEAST_ROWS // len(picture))
    large = np.kron(picture, np.ones((factor, factor, 1), np.uint8))
    rows, columns = large.shape[:2]
    font = load_font(_TEXT_PX)
    top = _MARGIN + (len(lines) + 2) * _LINE_ROWS  # the unit of the bar stands in the last two
    bar = 0 if peak is None or unit is None else _BAR_COLUMNS + max(_NUMBER_COLUMNS, ceil(font.getlength(unit)))
    title = max(ceil(font.getlength(line)) for line in lines)
    sheet = Image.new("RGB", (max(title, columns + bar) + 2 * _MARGIN, top + rows + _FOOT_ROWS))
    draw, left = ImageDraw.Draw(sheet), (sheet.width - columns - bar) // 2
    for number, line in enumerate(lines):
        draw.text((_MARGIN, _MARGIN + number * _LINE_ROWS), line, fill=_INK, font=font)
    sheet.paste(Image.fromarray(large), (left, top))
    if bar and peak is not None and unit is not None:
        place, size = (left + columns + _MARGIN, top), (_BAR_COLUMNS // 2, rows)
        draw_colour_bar(sheet, place, size, peak, unit=unit, colour_map=DENSITY_MAP, ink=_INK, text_px=_TEXT_PX)
    _draw_scale(draw, (left, top + rows), None if pixel_mm is None else pixel_mm / factor)
    return np.asarray(sheet)


def _draw_scale(draw: ImageDraw.ImageDraw, corner: tuple[int, int], pixel_mm: float | None) -> None:
    """Draw a line of 5 cm below the corner of a picture, or say that its length is not known."""
    (left, low), font = corner, load_font(_TEXT_PX)
    middle = low + _FOOT_ROWS // 2
    if pixel_mm is None:
        draw.text((left, middle), "no scale: pixel spacing unknown", fill=_INK, font=font, anchor="lm")
        return
    right = left + round(SCALE_MM / pixel_mm)
    draw.line((left, middle, right, middle), fill=_INK, width=2)
    for end in (left, right):
        draw.line((end, middle - _END_PX, end, middle + _END_PX), fill=_INK, width=2)
    draw.text((right + _MARGIN, middle), f"{SCALE_MM / 10:g} cm at the detector", fill=_INK, font=font, anchor="lm")
