"""The images of a training pair as one picture, and small copies of pictures; data URIs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from bmdkit.core.anatomy import REGION_COLOUR
from bmdkit.inference.colour_bar import draw_colour_bar, load_font, paint
from bmdkit.report.page_style import uri

_TOP, _GAP, _BAR, _AFTER = 40, 12, 18, 76  # pixels; pages show the picture at half its size
_THUMB = 190  # pixels at most
_INK = (29, 39, 51)
_COLOUR_MAP = "inferno"


def pair_images(xray: np.ndarray, groups: Sequence[Sequence[tuple[str, np.ndarray]]], *, title: str) -> str:
    """A pair's radiograph beside its DRR pages, g/cm2; the pages of one dataset share a scale and its colour bar.

    Args:
        xray: (rows, columns), [0, 1]; its contrast is stretched.
        groups: Per dataset, (name, (rows, columns) in g/cm2) of each DRR page.
        title: Over the radiograph, on which pages whose name starts with B are outlined.
    """
    rows, columns = xray.shape
    panels = 1 + sum(map(len, groups))
    size = ((columns + _GAP) * panels + (_BAR + _AFTER) * len(groups), rows + _TOP + 12)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), load_font(22)

    def panel(left: int, name: str, rgb: np.ndarray) -> int:
        draw.text((left, 6), name, fill=_INK, font=font)
        sheet.paste(Image.fromarray(rgb), (left, _TOP))
        return left + columns + _GAP

    radiograph = np.repeat(_stretch(xray)[..., None], 3, axis=2)
    for name, page in (page for group in groups for page in group):
        if name.startswith("B"):
            shadow = page > 0
            radiograph[shadow & ~ndimage.binary_erosion(shadow, border_value=1)] = REGION_COLOUR
    left = panel(0, title, radiograph)
    for group in groups:
        peak = max(float(max(page.max() for _, page in group)), 1e-3)
        for name, page in group:
            left = panel(left, name, paint(page / peak, _COLOUR_MAP))
        place = (left - _GAP // 2, _TOP)
        draw_colour_bar(sheet, place, (_BAR, rows), peak, unit="g/cm²", colour_map=_COLOUR_MAP, ink=_INK)
        left += _BAR + _AFTER
    return _encode(sheet)


def radiograph_image(xray: np.ndarray) -> str:
    """A pair's radiograph alone, its contrast stretched; (rows, columns), [0, 1]."""
    return _encode(Image.fromarray(_stretch(xray)))


def projection_image(pages: np.ndarray) -> str:
    """The sum of the DRR pages of a pair in grey, where its radiograph has the bone; (pages, rows, columns), g/cm2."""
    total = pages.sum(axis=0)
    return _encode(Image.fromarray(np.rint(255 * total / max(float(total.max()), 1e-3)).astype(np.uint8)))


def _stretch(xray: np.ndarray) -> np.ndarray:
    """uint8, the same shape: 0 and 255 at the first and the last hundredth of the values."""
    low, high = np.percentile(xray, (1, 99))
    return np.rint(255 * np.clip((xray - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)


def _encode(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return uri("image/png", buffer.getvalue())


def thumbnail(file: Path) -> str:
    """A small copy of a picture."""
    with Image.open(file) as picture:
        small = picture.convert("RGB")
        small.thumbnail((_THUMB, _THUMB))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=82)
    return uri("image/jpeg", buffer.getvalue())
