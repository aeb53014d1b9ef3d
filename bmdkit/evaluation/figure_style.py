"""The look of every figure, and how it becomes the same bytes each time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bmdkit.io.results import write_bytes

INK, MUTED, ACCENT, CONTRAST = "#1d2733", "#5b6675", "#24527a", "#c2187a"

SERIES = ("#24527a", "#c76a1b", "#1a7f4b", "#8a3fa0", "#6b7686", "#b3261e")
"""Colours of several methods or poses in one figure, in this order."""

_SETTINGS: dict[Any, Any] = {
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
    "svg.hashsalt": "bmdkit",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw and save figures within this: the package's look, whatever the user's own settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def svg_bytes(figure: Figure) -> bytes:
    """A figure as SVG without a date."""
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def save(figure: Figure, path: Path, *, dpi: int = 200) -> tuple[Path, Path]:
    """Write a figure as `path`.png and `path`.pdf, without dates.

    Args:
        figure: Figure to be written, within `drawing`.
        path: Without a suffix.
        dpi: Resolution of the PNG, pixels per inch.

    Returns:
        The two files.
    """
    png, pdf = path.with_name(path.name + ".png"), path.with_name(path.name + ".pdf")
    buffer = io.BytesIO()
    figure.set_dpi(dpi)
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    write_bytes(png, buffer.getvalue())
    buffer = io.BytesIO()
    FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    write_bytes(pdf, buffer.getvalue())
    return png, pdf
