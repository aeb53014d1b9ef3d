"""Figures that show single cases beside numbers: radiographs, projections and masks in a grid, with plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bmdkit.evaluation.figure_style import INK, MUTED, SERIES
from bmdkit.evaluation.figures import Shown, draw_sweeps, write_beneath

Kind = Literal["radiograph", "projection", "mask", "component", "attention"]
_MAPS: dict[Kind, str] = {
    "radiograph": "gray",
    "projection": "magma",
    "mask": "gray",
    "component": "viridis",
    "attention": "inferno",
}


@dataclass(frozen=True, eq=False)
class Cell:
    """One image of a grid.

    Attributes:
        image: (rows, columns).
        kind: What it shows, which chooses its colours.
        title: Title above, or nothing.
        under: Radiograph beneath an attention, of the same size, or None.
    """

    image: np.ndarray
    kind: Kind
    title: str = ""
    under: np.ndarray | None = None


Grid = Sequence[Sequence[Cell | None]]
"""Rows of cells; None leaves a place empty."""


def crop_to_region(projection: np.ndarray, margin: float = 0.15) -> tuple[slice, slice]:
    """Find the rows and columns around what a projection shows.

    Args:
        projection: (rows, columns), above 0 where something projects.
        margin: Share of its height and width that is left around it.

    Raises:
        ValueError: It shows nothing.
    """
    found = []
    for places, size in zip(np.nonzero(projection > 0), projection.shape, strict=True):
        if not places.size:
            raise ValueError("projection: expected a pixel above 0")
        more = round(margin * (np.ptp(places) + 1))
        found.append(slice(max(0, int(places.min()) - more), min(size, int(places.max()) + more + 1)))
    return found[0], found[1]


def draw_grid(figure: Figure | SubFigure, grid: Grid, names: Sequence[str]) -> None:
    """Draw images in rows, each row with its name; projections have one scale, and so have components."""
    heights = [_find_height(line) for line in grid]
    table = figure.subplots(len(grid), max(map(len, grid)), squeeze=False, gridspec_kw={"height_ratios": heights})
    largest = {
        kind: max(
            (float(np.max(c.image)) for line in grid for c in line if c is not None and c.kind == kind), default=1.0
        )
        for kind in _MAPS
    }
    for line, cells, name in zip(table, grid, names, strict=True):
        for axes, cell in zip(line, [*cells, *[None] * (len(line) - len(cells))], strict=True):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if cell is None:
                continue
            _draw_cell(axes, cell, largest[cell.kind])
            if cell.title:
                axes.set_title(cell.title, fontsize=7, fontweight="normal", loc="center")
        line[0].set_ylabel(name, fontsize=8)


def _find_height(line: Sequence[Cell | None]) -> float:
    """Height of a row of cells of width 1."""
    return max((cell.image.shape[0] / cell.image.shape[1] for cell in line if cell is not None), default=1.0)


def _draw_cell(axes: Axes, cell: Cell, largest: float) -> None:
    if cell.kind == "attention":
        share = np.clip(cell.image / (float(cell.image.max()) or 1.0), 0, 1)
        if cell.under is not None:
            axes.imshow(cell.under, cmap="gray", vmin=0, vmax=1)
        axes.imshow(share, cmap=_MAPS["attention"], vmin=0, vmax=1, alpha=0.8 * np.sqrt(share))
    elif cell.kind == "component":
        low, high = (float(v) for v in np.percentile(cell.image, (1, 99)))
        axes.imshow(cell.image, cmap=_MAPS["component"], vmin=low, vmax=high if high > low else low + 1)
    else:
        high = largest or 1.0 if cell.kind == "projection" else 1.0
        axes.imshow(cell.image, cmap=_MAPS[cell.kind], vmin=0, vmax=high)


def grid_figure(grid: Grid, names: Sequence[str], *, title: str, shown: Shown, caption: str) -> Figure:
    """Images in rows, as a figure of its own."""
    across = max(map(len, grid))
    wide = 1.05
    titled = sum(any(cell is not None and cell.title for cell in line) for line in grid)
    high = sum(wide * min(_find_height(line), 2.0) + 0.05 for line in grid) + 0.3 * titled
    figure = Figure(figsize=(max(0.6 + across * wide, 5.6), 1.0 + high), layout="constrained")
    draw_grid(figure, grid, names)
    figure.suptitle(title, fontsize=9.5, fontweight="bold", x=0.01, ha="left")
    write_beneath(figure, shown, caption)
    return figure


@dataclass(frozen=True, eq=False)
class Intensities:
    """Mean intensities of the proximal femur against BMD.

    Attributes:
        means: For each kind of image (n,) means, by its name.
        bmd: For each quantity (n,) measured values, by its name with the unit; NaN where not known.
        pcc: Correlation of each kind of image with each quantity, in the same order; None where it means nothing.
        chosen: Numbers of the images that are shown as examples.
    """

    means: Mapping[str, np.ndarray]
    bmd: Mapping[str, np.ndarray]
    pcc: Mapping[tuple[str, str], float | None]
    chosen: Sequence[int]


def intensity_figure(found: Intensities, grid: Grid, names: Sequence[str], *, shown: Shown, caption: str) -> Figure:
    """What the mean intensity of the proximal femur says of BMD, and five examples of it.

    Args:
        found: Intensities and BMD.
        grid: Regions of interest of the chosen images.
        names: Names of the grid's rows.
        shown: What the figure shows, written beneath.
        caption: Caption, written beneath.
    """
    figure = Figure(figsize=(12.2, 5.4), layout="constrained")
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(3, 2.1)), object)
    table = left.subplots(len(found.bmd), len(found.means), squeeze=False)
    for line, (quantity, bmd) in zip(table, found.bmd.items(), strict=True):
        for axes, (kind, mean) in zip(line, found.means.items(), strict=True):
            axes.grid(True)
            axes.plot(mean, bmd, "o", ms=3, mew=0, alpha=0.5, color=SERIES[0])
            for place, number in enumerate(found.chosen, start=1):
                if np.isfinite(bmd[number]):
                    axes.plot(mean[number], bmd[number], "o", ms=6, mfc="none", mec=SERIES[5])
                    axes.annotate(f"#{place}", (mean[number], bmd[number]), xytext=(4, 3), textcoords="offset points",
                                  fontsize=7, color=SERIES[5])  # fmt: skip
            pcc = found.pcc[kind, quantity]
            axes.set_title(kind.partition(",")[0] + ("" if pcc is None else f"\nPCC {pcc:.3f}"), fontsize=8)
            axes.set_xlabel(f"mean, {kind.partition(', ')[2]}", fontsize=7.5)
        line[0].set_ylabel(quantity, fontsize=8)
    draw_grid(right, grid, names)
    write_beneath(figure, shown, caption)
    return figure


def threshold_figure(
    sweeps: Mapping[str, Sequence[tuple[float, float | None]]],
    grid: Grid,
    names: Sequence[str],
    *,
    unit: str,
    shown: Shown,
    caption: str,
) -> Figure:
    """The sweep of the threshold, and a case binarised at some thresholds; arguments as of `draw_sweeps` and a grid."""
    figure = Figure(figsize=(9.4, 4.4), layout="constrained")
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(1, 1.25)), object)
    axes = left.subplots()
    axes.grid(True)
    draw_sweeps(axes, sweeps, unit=unit)
    draw_grid(right, grid, names)
    write_beneath(figure, shown, caption)
    return figure


@dataclass(frozen=True)
class Progress:
    """How good the projections of one method were after each epoch.

    Attributes:
        epochs: (n,).
        psnr_db, dice: (n,), of patients that were not learnt from.
    """

    epochs: Sequence[float]
    psnr_db: Sequence[float]
    dice: Sequence[float]


def ablation_figure(
    bars: Mapping[str, tuple[float, float]],
    curves: Mapping[str, Progress],
    grid: Grid,
    names: Sequence[str],
    *,
    shown: Shown,
    caption: str,
) -> Figure:
    """Hierarchical learning: PSNR and Dice as bars, by epoch, and one case over the epochs.

    Args:
        bars: PSNR, dB, and Dice of each method at the end.
        curves: The same by epoch, of methods that were watched; those with hierarchical learning end in "+ HL".
        grid: One case over the epochs; may be empty.
        names: Names of the grid's rows.
        shown: What the figure shows, written beneath.
        caption: Caption, written beneath.
    """
    wide = 11.5
    below = 0.0
    if grid:
        below = sum(min(wide / max(map(len, grid)) * _find_height(line), 1.9) + 0.35 for line in grid)
    figure = Figure(figsize=(wide, 4.0 + below), layout="constrained")
    parts: list[Any] = [figure]
    if grid:
        parts = list(np.asarray(figure.subfigures(2, 1, height_ratios=(3.6, below)), object))
    table = np.atleast_1d(parts[0].subplots(1, 4 if curves else 2))
    for axes, place, name in zip(table[:2], (0, 1), ("PSNR, dB", "Dice"), strict=True):
        values = [one[place] for one in bars.values()]
        axes.bar(
            range(len(bars)), values, color=[SERIES[2] if n.endswith("HL") else SERIES[4] for n in bars], width=0.7
        )
        for x, value in enumerate(values):
            axes.text(x, value, f"{value:.3g}", ha="center", va="bottom", fontsize=7)
        axes.set_xticks(range(len(bars)), list(bars), rotation=35, ha="right", fontsize=7)
        axes.set_title(f"(a) {name}" if place == 0 else name)
    for axes, attribute, name in zip(table[2:], ("psnr_db", "dice"), ("PSNR, dB", "Dice"), strict=False):
        backbones = list(dict.fromkeys(label.removesuffix(" + HL") for label in curves))
        for label, curve in curves.items():
            style: dict[str, Any] = {"ls": "-" if label.endswith("HL") else (0, (4, 2)), "lw": 1.3}
            colour = SERIES[backbones.index(label.removesuffix(" + HL")) % len(SERIES)]
            axes.plot(curve.epochs, getattr(curve, attribute), color=colour, label=label, **style)
        axes.grid(True)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("epoch")
        axes.set_title(f"(b) {name} by epoch" if attribute == "psnr_db" else f"{name} by epoch")
    if curves:
        table[2].legend(fontsize=6.5, loc="best")
    if grid:
        draw_grid(parts[1], grid, names)
        parts[1].suptitle("(c) one case", fontsize=9.5, fontweight="bold", x=0.01, ha="left")
    write_beneath(figure, shown, caption)
    return figure


def size_figure(
    panels: Mapping[str, Mapping[str, Sequence[tuple[str, float, float]]]],
    *,
    original_kb: float,
    shown: Shown,
    caption: str,
) -> Figure:
    """Correlation against the size of compressed radiographs.

    Args:
        panels: For each quantity and method the level, the mean size in kB and the PCC.
        original_kb: Mean size of the radiographs as they are.
        shown: What the figure shows, written beneath.
        caption: Caption, written beneath.
    """
    figure = Figure(figsize=(4.6 * len(panels), 4.3), layout="constrained")
    for axes, (quantity, methods) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        axes.grid(True)
        for colour, (name, points) in zip(SERIES, methods.items(), strict=False):
            for words, other, marker in (("JPEG", "bit", "o-"), ("fewer bits", "JPEG", "s:")):
                ordered = sorted((point for point in points if other not in point[0]), key=lambda point: point[1])
                style: dict[str, Any] = {"ms": 4, "lw": 1.2, "color": colour, "label": f"{name}, {words}"}
                axes.plot([p[1] for p in ordered], [p[2] for p in ordered], marker, **style)
        axes.axvline(original_kb, color=MUTED, lw=1, ls=(0, (4, 3)))
        axes.set_xscale("log")
        axes.margins(0.12, 0.4)  # the names of the levels stand above and below all lines
        for level, size, _ in next(iter(methods.values())):
            if level == "as it is":
                continue  # the dashed line says so
            is_bits = "bit" in level
            axes.text(size, 0.02 if is_bits else 0.98, level, transform=axes.get_xaxis_transform(), rotation=90,
                      fontsize=6.5, ha="center", va="bottom" if is_bits else "top", color=INK)  # fmt: skip
        axes.set_xlabel("mean size of a radiograph, kB")
        axes.set_ylabel(f"PCC of {quantity}")
        axes.set_title(quantity)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=2, fontsize=7)
    write_beneath(figure, shown, caption)
    return figure
