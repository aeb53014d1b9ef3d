"""Colours of verdicts and bones on the pages, and pictures as data URIs."""

from __future__ import annotations

import base64

from matplotlib.figure import Figure

from bmdkit.core.anatomy import REGION_COLOUR
from bmdkit.evaluation.figure_style import svg_bytes

VERDICT_COLOURS = {"accept": "#1a7f4b", "review": "#9a5b00", "reject": "#b3261e", "": "#6b7686"}

VERDICT_MARKERS = {"accept": "o", "review": "^", "reject": "X", "": "s"}
"""Shape of a point; colour alone tells nobody who sees none."""
VERDICT_HATCHES = {"accept": "", "review": "///", "reject": "xxx", "": "..."}
"""The same of a bar."""


def hexadecimal(colour: tuple[int, int, int]) -> str:
    """An RGB colour as pages write it."""
    return "#" + "".join(f"{part:02x}" for part in colour)


REGION = hexadecimal(REGION_COLOUR)


def svg_uri(figure: Figure) -> str:
    """A figure as a data URI, vectors."""
    return uri("image/svg+xml", svg_bytes(figure))


def uri(kind: str, data: bytes) -> str:
    """Bytes of a media type as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
