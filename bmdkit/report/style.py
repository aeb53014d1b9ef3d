"""Colours and figure settings that every page and chart of the report shares."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bmdkit.core.anatomy import REGION_COLOUR


def hexadecimal(colour: tuple[int, int, int]) -> str:
    """An RGB colour as pages write it."""
    return "#" + "".join(f"{part:02x}" for part in colour)


REGION = hexadecimal(REGION_COLOUR)

VERDICT_COLOURS = {"accept": "#1a7f4b", "review": "#b26a00", "reject": "#b3261e", "": "#6b7686"}

INK, MUTED, ACCENT, ROD = "#1d2733", "#5b6675", "#24527a", "#c2187a"

_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#9aa5b4",
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "grid.color": "#e6eaef",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "image.interpolation": "bilinear",
    "svg.hashsalt": "bmdkit",
    "svg.fonttype": "path",
}


@contextmanager
def drawing() -> Iterator[None]:
    """The report's look, and bytes that depend on the data alone."""
    with matplotlib.rc_context(_SETTINGS):
        yield


def svg_uri(figure: Figure) -> str:
    """A figure as a data URI, vectors."""
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    return uri("image/svg+xml", buffer.getvalue())


def uri(kind: str, data: bytes) -> str:
    """Bytes of a media type as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
