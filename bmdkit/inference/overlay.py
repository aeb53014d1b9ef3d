"""Pictures of what a network sees in a radiograph."""

from __future__ import annotations

import numpy as np
import torch

from bmdkit.training.montage import DENSITY_MAP

LEAST_ROWS = 512
"""A picture is shown with at least so many rows, so that its title can be read."""

_LINE_ROWS, _MARGIN = 13, 3


def draw_overlay(xray: np.ndarray, drr_g_cm2: np.ndarray, scale_g_cm2: float) -> np.ndarray:
    """A radiograph (rows, columns), [0, 1], with a projection of the same size in colour, uint8 RGB."""
    from matplotlib import colormaps

    share = np.clip(drr_g_cm2 / scale_g_cm2, 0, 1)
    colour = colormaps[DENSITY_MAP](share)[..., :3]
    opaque = np.clip(share / 0.15, 0, 1)[..., None] * 0.7
    grey = np.clip(xray, 0, 1)[..., None]
    return np.rint(255 * (grey * (1 - opaque) + colour * opaque)).astype(np.uint8)


def resize_bilinear(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(rows, columns) as (other rows, other columns), interpolated."""
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return torch.nn.functional.interpolate(tensor, size=tuple(size), mode="bilinear")[0, 0].numpy()


def put_title(picture: np.ndarray, lines: tuple[str, ...]) -> np.ndarray:
    """A picture below a black strip that says something.

    Args:
        picture: (rows, columns, 3), uint8. One of few rows is enlarged by a whole factor first.
        lines: Text, one line each; what is wider than the picture widens the strip.

    Returns:
        (more rows, columns or more, 3), uint8.
    """
    from PIL import Image, ImageDraw

    factor = -(-LEAST_ROWS // len(picture))
    large = np.kron(picture, np.ones((factor, factor, 1), np.uint8))
    image = Image.new("RGB", (1, 1))
    wide = max(int(ImageDraw.Draw(image).textlength(line)) for line in lines) + 2 * _MARGIN
    strip = Image.new("RGB", (max(wide, large.shape[1]), _LINE_ROWS * len(lines) + _MARGIN))
    for place, line in enumerate(lines):
        ImageDraw.Draw(strip).text((_MARGIN, 1 + _LINE_ROWS * place), line, fill="white")
    beside = strip.width - large.shape[1]
    large = np.pad(large, ((0, 0), (beside // 2, beside - beside // 2), (0, 0)))
    return np.vstack([np.asarray(strip), large])
