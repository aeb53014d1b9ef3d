"""Charts of the report: calibration line, histograms, scatter plots. Each returns a data URI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bmdkit.evaluation.agreement import pearson
from bmdkit.evaluation.figure_style import ACCENT, CONTRAST, INK, MUTED, drawing
from bmdkit.evaluation.figures import name_point
from bmdkit.report.page_style import VERDICT_COLOURS, VERDICT_HATCHES, VERDICT_MARKERS, svg_uri
from bmdkit.segmentation.failures import FailureCurve

FEWEST_FOR_A_LINE = 10
"""Points below which none is called far from the line of all."""
MOST_NAMED = 6
"""Points of a chart that are named."""
_LIMIT_SD = 1.96


def calibration_line(calibration: Mapping) -> str:
    """Density over HU: the rods, the fitted line, and the rods' distance from it below.

    Args:
        calibration: Contents of calibration.json; without rods the line alone is drawn.
    """
    slope, intercept = calibration["slope_mg_cm3_per_hu"], calibration["intercept_mg_cm3"]
    rods = calibration.get("rods") or []
    hu = np.array([rod["hu"] for rod in rods], float)
    density = np.array([rod["density_mg_cm3"] for rod in rods], float)
    low, high = (hu.min(), hu.max()) if hu.size else (-50.0, 300.0)
    edge = 0.08 * max(high - low, 1.0)
    span = np.array([low - edge, high + edge])
    with drawing():
        figure = Figure(figsize=(4.6, 3.9), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)) if hu.size else (figure.subplots(), None)
        top.plot(span, slope * span + intercept, color=ACCENT, lw=1.6, label="fitted line")
        if hu.size:
            top.plot(hu, density, "o", ms=6, mfc="white", mec=CONTRAST, mew=1.8, label="rods")
        top.set_ylabel("density, mg/cm³")
        sign = "+" if intercept >= 0 else "−"
        top.set_title(f"density = {slope:.4f} · HU {sign} {abs(intercept):.2f}")
        top.legend(loc="upper left")
        top.grid(True)
        if bottom is not None:
            distance = slope * hu + intercept - density
            bottom.axhline(0, color=ACCENT, lw=1.2)
            bottom.vlines(hu, 0, distance, color=CONTRAST, lw=1.4)
            bottom.plot(hu, distance, "o", ms=4.5, mfc="white", mec=CONTRAST, mew=1.5)
            reach = max(1.0, 1.25 * np.abs(distance).max())
            bottom.set_ylim(-reach, reach)
            bottom.set_ylabel("residual")
            bottom.grid(True)
        (bottom or top).set_xlabel("HU")
        return svg_uri(figure)


def histogram(
    values: Sequence[float], *, title: str, unit: str, by: Sequence[str] | None = None, wide: bool = False
) -> str:
    """How values are distributed, with their median; stacked by verdict if that is given.

    Args:
        values: (n,), NaN left out.
        title: What they are.
        unit: Unit of the values.
        by: (n,), accept, review or reject.
        wide: Whether three charts rather than four stand in a row.
    """
    data = np.asarray(values, float)
    keep = np.isfinite(data)
    groups = np.asarray(by if by is not None else [""] * data.size)[keep]
    data = data[keep]
    bins: list[float] | int = np.histogram_bin_edges(data, bins=_bins(data)).tolist() if data.size else 5
    with drawing():
        figure = Figure(figsize=(4.0, 2.5) if wide else (3.0, 2.3), layout="constrained")
        axes = figure.subplots()
        names = [name for name in VERDICT_COLOURS if name in groups]
        colours = [VERDICT_COLOURS[n] for n in names] if by is not None else [ACCENT]
        if data.size:
            parts = [data[groups == name] for name in names]
            labels = [name or "none" for name in names] if by is not None else [""]
            hatches = [VERDICT_HATCHES[name] for name in names] if by is not None else [""]
            axes.hist(parts, bins=bins, stacked=True, color=colours, label=labels, edgecolor="white", linewidth=0.6)
            for bars, hatch in zip(axes.containers, hatches, strict=True):
                for bar in bars:
                    bar.set_hatch(hatch)
            axes.axvline(np.median(data), color=INK, lw=1, ls=(0, (4, 3)))
        subject = f"n = {data.size}" + (f", median {_brief(np.median(data))}" if data.size else "")
        axes.set_title(title)
        axes.set_xlabel(f"{unit}    ({subject})" if unit else f"({subject})")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(True, axis="y")
        if by is not None and len(names) > 1:
            axes.legend()
        return svg_uri(figure)


def find_far(x: Sequence[float], y: Sequence[float]) -> list[int]:
    """Find the points that lie far from the least-squares line of all: beyond 1.96 SD, at most `MOST_NAMED`.

    Args:
        x: (n,); points with a NaN are left out.
        y: (n,).

    Returns:
        Their places in the lists, the farthest first; none where there are fewer than `FEWEST_FOR_A_LINE` points.
    """
    a, b = np.asarray(x, float), np.asarray(y, float)
    known = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
    if known.size < FEWEST_FOR_A_LINE or not np.ptp(a[known]):
        return []
    slope, intercept = np.polyfit(a[known], b[known], 1)
    away = np.abs(b[known] - (slope * a[known] + intercept))
    order = np.argsort(-away, kind="stable")[:MOST_NAMED]
    return [
        int(known[place]) for place in order if away[place] > _LIMIT_SD * np.sqrt((away**2).sum() / (known.size - 2))
    ]


def scatter(
    x: Sequence[float],
    y: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str,
    by: Sequence[str],
    names: Mapping[int, str] | None = None,
) -> str:
    """Two quantities of every pair with their least-squares line and PCC.

    Args:
        x: (n,); pairs with a NaN are left out.
        y: (n,).
        title: Title in words.
        x_label: Quantity and unit of x.
        y_label: Quantity and unit of y.
        by: (n,), verdict of each pair, which gives it colour and shape.
        names: Place in the lists -> name that is written beside the point.
    """
    a, b, groups = np.asarray(x, float), np.asarray(y, float), np.asarray(by)
    all_a, all_b = a, b
    keep = np.isfinite(a) & np.isfinite(b)
    a, b, groups = a[keep], b[keep], groups[keep]
    with drawing():
        figure = Figure(figsize=(4.0, 2.9), layout="constrained")
        axes = figure.subplots()
        for name, colour in VERDICT_COLOURS.items():
            mine = groups == name
            if mine.any():
                marker, label = VERDICT_MARKERS[name], name or "no verdict"
                axes.plot(a[mine], b[mine], marker, ms=5, color=colour, alpha=0.75, mew=0, label=label)
        correlation = pearson(a, b)
        if np.isfinite(correlation):
            slope, intercept = np.polyfit(a, b, 1)
            ends = np.array([a.min(), a.max()])
            axes.plot(ends, slope * ends + intercept, color=MUTED, lw=1.2)
            axes.set_title(f"{title}: PCC {correlation:.3f}, n = {a.size}")
        else:
            axes.set_title(f"{title}: n = {a.size}")
        for place, name in (names or {}).items():
            name_point(axes, all_a, all_b, place, name, size=7.5)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.margins(0.08)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.grid(True)
        if len(set(groups)) > 1:
            axes.legend(loc="lower right", handletextpad=0.1, borderaxespad=0.2)
        return svg_uri(figure)


def roc(measured: FailureCurve) -> str:
    """How many failures a threshold finds against how many successes it costs, and the threshold that was chosen.

    Args:
        measured: What was measured for a network.
    """
    with drawing():
        figure = Figure(figsize=(4.0, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)))
        refused = 1 - np.array(measured.specificities)
        axes.plot(refused, measured.sensitivities, color=ACCENT, lw=1.6)
        chosen = 1 - measured.specificity, measured.sensitivity
        axes.plot(*chosen, "o", ms=6, mfc="white", mec=CONTRAST, mew=1.8, label=f"above {measured.threshold:.2g}")
        axes.set_title(f"Labels with a Dice below {measured.failed_below_dice:g}: AUROC {measured.auroc:.3f}")
        axes.set_xlabel("good labels that are refused")
        axes.set_ylabel(f"failures found ({measured.failed} of {measured.structures})")
        axes.grid(True)
        axes.legend(loc="lower right")
        return svg_uri(figure)


def _bins(data: np.ndarray) -> int:
    """As many as the values bear; an odd number puts a lone value into the middle one."""
    return min(24, max(6, int(2 * np.sqrt(data.size)))) if np.ptp(data) > 0 else 11


def _brief(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
