"""A colour bar with round numbers, for pictures that are put together pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

_TICK, _TO_TEXT = 5, 9  # pixels


def paint(share: np.ndarray, colour_map: str) -> np.ndarray:
    """(..., 3), uint8: the colours of a map for values in [0, 1]; what lies outside takes the colour of the end."""
    return matplotlib.colormaps[colour_map](np.clip(share, 0, 1), bytes=True)[..., :3]


def draw_colour_bar(
    sheet: Image.Image,
    place: tuple[int, int],
    size: tuple[int, int],
    peak: float,
    *,
    unit: str,
    colour_map: str,
    ink: Colour,
    text_px: int = 18,
) -> None:
    """Draw an upright bar from 0 below to `peak` above, its unit over it, and the numbers on its right.

    Args:
        sheet: Picture to draw on.
        place: Column and row of the bar's upper left corner. The unit takes 1.7 times the height of the text above it.
        size: Columns and rows of the bar; the numbers take about three times the height of the text beside it.
        peak: Value of the brightest colour, above 0.
        unit: Unit of the values.
        colour_map: Name of a colour map of matplotlib.
        ink: Colour of lines and text.
        text_px: Height of the text.
    """
    (left, top), (columns, rows) = place, size
    bar = np.repeat(paint(np.linspace(1, 0, rows), colour_map)[:, None], columns, axis=1)
    sheet.paste(Image.fromarray(bar), place)
    draw, font = ImageDraw.Draw(sheet), load_font(text_px)
    draw.text((left, round(top - 1.7 * text_px)), unit, fill=ink, font=font)
    for tick in find_ticks(peak):
        level = top + (rows - 1) * (1 - tick / peak)
        draw.line((left + columns, level, left + columns + _TICK, level), fill=ink, width=2)
        draw.text((left + columns + _TO_TEXT, level), f"{tick:.6g}", fill=ink, font=font, anchor="lm")


def find_ticks(peak: float) -> list[float]:
    """Round numbers from 0 to at most `peak`, five to nine of them."""
    power = 10.0 ** np.floor(np.log10(peak))
    step = next(s * power for s in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0) if peak / (s * power) <= 8)
    return [round(n * step, 9) for n in range(int(peak / step + 1e-9) + 1)]


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The charts' own font, which comes with matplotlib."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
