"""A picture of what a network has learnt: radiograph, target, prediction and difference, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmdkit.core.units import PROJECTION_UNITS
from bmdkit.io.results import open_whole_file

DENSITY_MAP, DIFFERENCE_MAP = "magma", "RdBu_r"


@dataclass(frozen=True, eq=False)
class MontageRow:
    """One pair.

    Attributes:
        label: Beside the row.
        xray: (rows, columns), [0, 1].
        target, predicted: (C, rows, columns), in one unit.
        mask: (rows, columns), where the radiograph is image.
    """

    label: str
    xray: np.ndarray
    target: np.ndarray
    predicted: np.ndarray
    mask: np.ndarray


def write_montage(path: Path, rows: Sequence[MontageRow], *, channels: Sequence[str], title: str, unit: str) -> None:
    """Draw the rows as a PNG.

    Args:
        path: File to write.
        rows: Rows of the picture, at least one.
        channels: What each projection shows.
        title: Above.
        unit: Unit of the projections.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = rows[0].xray.shape
    cell_high = 2.3
    cell_wide = cell_high * width / height
    across = 1 + 3 * len(channels)
    left, top, bottom, right = 0.85, 0.75, 0.75, 0.15
    figure = Figure(
        figsize=(left + across * (cell_wide + 0.06) + right, top + len(rows) * (cell_high + 0.06) + bottom),
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    wide, high = figure.get_size_inches()
    axes = figure.subplots(len(rows), across, squeeze=False)
    figure.subplots_adjust(
        left=left / wide,
        right=1 - right / wide,
        top=1 - top / high,
        bottom=bottom / high,
        wspace=0.06 / cell_wide,
        hspace=0.06 / cell_high,
    )
    density = max(float(np.quantile(row.target, 0.9995)) for row in rows) or 1.0
    difference = max(0.05, float(np.quantile([np.abs(row.predicted - row.target).max() for row in rows], 0.5)))
    pictures = {}
    for row, line in zip(rows, axes, strict=True):
        line[0].imshow(row.xray, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
        line[0].set_ylabel(row.label, fontsize=8, rotation=0, ha="right", va="center", labelpad=6)
        for n in range(len(channels)):
            seen = np.where(row.mask, row.predicted[n] - row.target[n], np.nan)
            images = ((row.target[n], False), (row.predicted[n], False), (seen, True))
            for k, (image, signed) in enumerate(images):
                limits = (-difference, difference) if signed else (0, density)
                pictures[signed] = line[1 + 3 * n + k].imshow(
                    image,
                    cmap=DIFFERENCE_MAP if signed else DENSITY_MAP,
                    vmin=limits[0],
                    vmax=limits[1],
                    interpolation="antialiased",
                )
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_visible(False)
    axes[0, 0].set_title("radiograph", fontsize=9)
    for n in range(len(channels)):
        for k, name in enumerate(("target", "prediction", "difference")):
            axes[0, 1 + 3 * n + k].set_title(name, fontsize=9)
        middle = axes[0, 2 + 3 * n].get_position()
        figure.text(
            (middle.x0 + middle.x1) / 2, 1 - 0.42 / high, channels[n], ha="center", fontsize=10, fontweight="bold"
        )
    figure.text(0.5, 1 - 0.2 / high, title, ha="center", fontsize=11)
    shown = unit.replace("cm2", "cm²")
    bar_wide = min(0.32, 2.0 / wide)
    for x, signed, name in (
        (0.28, False, f"{'areal density' if unit == PROJECTION_UNITS['density'] else 'projection'}, {shown}"),
        (0.72, True, f"prediction - target, {shown}"),
    ):
        at = figure.add_axes((x - bar_wide / 2, 0.48 / high, bar_wide, 0.1 / high))
        bar = figure.colorbar(pictures[signed], cax=at, orientation="horizontal")
        bar.set_label(name, fontsize=8, labelpad=2)
        bar.ax.tick_params(labelsize=7, length=2, pad=1)
        bar.outline.set_visible(False)
    with open_whole_file(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png", metadata={"Software": None})
