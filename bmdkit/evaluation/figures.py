"""Figures of an evaluation; each states how many images and patients it shows, of which split and kind of data."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bmdkit.evaluation.agreement import FEWEST_PATIENTS, bland_altman, icc_2_1, mean_absolute_error, pearson
from bmdkit.evaluation.figure_style import ACCENT, CONTRAST, INK, MUTED, SERIES
from bmdkit.evaluation.repeatability import case_outliers


@dataclass(frozen=True)
class Shown:
    """What a figure shows, written beneath it.

    Attributes:
        images, patients: Number of images and of patients.
        split: Patients whose they are, in words: test patients of five folds, training patients ...
        kind: Whether the data are simulated or clinical.
    """

    images: int
    patients: int
    split: str
    kind: Literal["simulated", "clinical"]

    def __str__(self) -> str:
        """Say it in one line."""
        many = "" if self.patients == 1 else "s"
        return f"{self.images} images of {self.patients} patient{many}, {self.split}, {self.kind} data"


def scatter(
    predicted, measured, *, quantity: str, unit: str, shown: Shown, poses: Sequence[str] | None = None
) -> Figure:
    """Draw predicted against measured values with identity, fitted line and the numbers of agreement.

    Correlations of fewer than ten patients are not stated.

    Args:
        predicted: (n,), predicted values, in `unit`.
        measured: (n,), measured values, in `unit`.
        quantity: Quantity of both axes, such as DXA-BMD.
        unit: Its unit, such as g/cm².
        shown: What the figure shows, written beneath.
        poses: (n,), which colour the points.
    """
    p, y = np.asarray(predicted, float), np.asarray(measured, float)
    figure, axes = new_figure(shown)
    low, high = float(min(p.min(), y.min())), float(max(p.max(), y.max()))
    edge = 0.05 * (high - low or 1.0)
    ends = np.array([low - edge, high + edge])
    axes.plot(ends, ends, color=MUTED, lw=1, ls=(0, (4, 3)), label="identity")
    if p.size > 1 and np.ptp(y) > 0:
        slope, intercept = np.polyfit(y, p, 1)
        text = f"fit: {slope:.3f} x {'+' if intercept >= 0 else '−'} {abs(intercept):.3g}"
        axes.plot(ends, slope * ends + intercept, color=INK, lw=1.2, label=text)
    _points(axes, y, p, poses)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_aspect("equal")
    axes.set_xlabel(f"measured {quantity}, {unit}")
    axes.set_ylabel(f"predicted {quantity}, {unit}")
    enough = shown.patients >= FEWEST_PATIENTS
    correlations = f"PCC {pearson(p, y):.3f}   ICC {icc_2_1(np.c_[p, y]):.3f}   " if enough else ""
    axes.set_title(f"{correlations}MAE {mean_absolute_error(p, y):.3g} {unit}")
    axes.legend(loc="upper left")
    return figure


def bland_altman_plot(
    predicted,
    measured,
    *,
    patients: Sequence[str],
    quantity: str,
    unit: str,
    shown: Shown,
    poses: Sequence[str] | None = None,
) -> Figure:
    """Differences against means with bias and limits of agreement; patients all of whose points lie outside are named.

    Args:
        predicted: (n,), predicted values, in `unit`.
        measured: (n,), measured values, in `unit`.
        patients: (n,), whose each point is.
        quantity: Quantity of both axes, such as DXA-BMD.
        unit: Its unit, such as g/cm².
        shown: What the figure shows, written beneath.
        poses: (n,), which colour the points.
    """
    result = bland_altman(predicted, measured)
    figure, axes = new_figure(shown)
    _points(axes, result.mean, result.difference, poses)
    for level, name in ((result.bias, "bias"), (result.upper, "+1.96 SD"), (result.lower, "−1.96 SD")):
        middle = name == "bias"
        axes.axhline(level, color=INK if middle else CONTRAST, lw=1.2, ls="-" if middle else (0, (4, 3)))
        text = f"{name} {level:+.3g}".replace("-", "−")
        axes.annotate(text, (1, level), xycoords=("axes fraction", "data"), xytext=(-2, 3),
                      textcoords="offset points", ha="right", fontsize=8)  # fmt: skip
    for name in case_outliers(result, patients):
        mine = np.flatnonzero(np.asarray(patients) == name)
        at = mine[np.argmax(np.abs(result.difference[mine]))]
        axes.annotate(
            name, (result.mean[at], result.difference[at]), xytext=(5, 4), textcoords="offset points", fontsize=8
        )
    axes.margins(0.08)
    axes.set_xlabel(f"mean of predicted and measured {quantity}, {unit}")
    axes.set_ylabel(f"predicted minus measured, {unit}")
    axes.set_title(f"{quantity}: {int(result.outliers.sum())} of {result.outliers.size} images outside the limits")
    if poses is not None:
        axes.legend(loc="best")
    return figure


def threshold_curve(sweeps: Mapping[str, Sequence[tuple[float, float | None]]], *, unit: str, shown: Shown) -> Figure:
    """Draw PCC against the threshold above which PF-DRR pixels are averaged; the best of each task is marked.

    Args:
        sweeps: Threshold, in `unit`, and correlation (None where it is not defined), by task.
        unit: Unit of the thresholds.
        shown: What the figure shows, written beneath.
    """
    figure, axes = new_figure(shown)
    for colour, (task, sweep) in zip(SERIES, sweeps.items(), strict=False):
        t, pcc = np.array([(at, np.nan if one is None else one) for at, one in sweep], float).reshape(-1, 2).T
        if not np.isfinite(pcc).any():
            continue
        best = int(np.nanargmax(pcc))
        axes.plot(t, pcc, color=colour, lw=1.5, label=f"{task}: {pcc[best]:.3f} at {t[best]:.3g} {unit}")
        axes.plot(t[best], pcc[best], "o", color=colour, ms=6)
    axes.set_xlabel(f"threshold, {unit}")
    axes.set_ylabel("PCC with BMD")
    axes.set_title("Threshold of the mean")
    axes.legend(loc="best")
    return figure


def new_figure(shown: Shown, caption: str = "", *, size_inch: tuple[float, float] = (4.8, 4.4)) -> tuple[Figure, Axes]:
    """One pair of axes; what they show stands beneath them, and what there is to say of it."""
    figure = Figure(figsize=size_inch, layout="constrained")
    axes = figure.subplots()
    axes.grid(True)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    write_beneath(figure, shown, caption)
    return figure, axes


def write_beneath(figure: Figure, shown: Shown, caption: str = "") -> None:
    """State beneath a figure what it shows, and a caption in lines of its width."""
    lines = [str(shown)]
    if caption:
        width = int(17 * figure.get_size_inches()[0])  # characters of this size that stand side by side
        lines = [line for text in (str(shown), caption) for line in textwrap.wrap(text, width)]
    figure.supxlabel("\n".join(lines), fontsize=7.5, color=MUTED)


def _points(axes: Axes, x: np.ndarray, y: np.ndarray, poses: Sequence[str] | None) -> None:
    style: dict[str, Any] = {"ls": "none", "marker": "o", "ms": 4.5, "mew": 0, "alpha": 0.7}
    if poses is None:
        axes.plot(x, y, color=ACCENT, **style)
        return
    names = np.asarray([str(pose) for pose in poses])
    for number, name in enumerate(sorted(set(names))):
        mine = names == name
        axes.plot(x[mine], y[mine], color=SERIES[number % len(SERIES)], label=name, **style)
