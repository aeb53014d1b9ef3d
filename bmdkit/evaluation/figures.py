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

from bmdkit.evaluation.agreement import BlandAltman, bland_altman
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


def draw_bland_altman(
    axes: Axes,
    predicted,
    measured,
    *,
    patients: Sequence[str],
    quantity: str,
    unit: str,
    poses: Sequence[str] | None = None,
) -> None:
    """Differences against means with bias and limits of agreement; patients all of whose points lie outside are named.

    Args:
        axes: Axes to draw into.
        predicted: (n,), predicted values, in `unit`.
        measured: (n,), measured values, in `unit`.
        patients: (n,), whose each point is.
        quantity: Quantity of both axes, such as DXA-BMD.
        unit: Its unit, such as g/cm².
        poses: (n,), which colour the points.
    """
    result = bland_altman(predicted, measured)
    _points(axes, result.mean, result.difference, poses)
    for level, name in ((result.bias, "bias"), (result.upper, "+1.96 SD"), (result.lower, "−1.96 SD")):
        middle = name == "bias"
        axes.axhline(level, color=INK if middle else CONTRAST, lw=1.2, ls="-" if middle else (0, (4, 3)))
        text = f"{name} {level:+.3g}".replace("-", "−")
        axes.annotate(text, (1, level), xycoords=("axes fraction", "data"), xytext=(-2, 3),
                      textcoords="offset points", ha="right", fontsize=8)  # fmt: skip
    name_outside(axes, result.mean, result.difference, result, patients)
    axes.margins(0.08)
    axes.set_xlabel(f"mean of predicted and measured {quantity}, {unit}")
    axes.set_ylabel(f"predicted minus measured, {unit}")
    axes.set_title(f"{quantity}: {int(result.outliers.sum())} of {result.outliers.size} images outside the limits")
    if poses is not None:
        axes.legend(loc="best")


def name_outside(
    axes: Axes, x: np.ndarray, y: np.ndarray, compared: BlandAltman, patients: Sequence[str], *, size: float = 8
) -> None:
    """Write the names of patients beside their points whose every image lies outside the limits, above or below.

    Args:
        axes: Axes that show the points.
        x: (n,), where the points are.
        y: (n,).
        compared: Limits of agreement of the predicted and measured values of these points.
        patients: (n,), whose each point is; of several the farthest is named.
        size: Size of the letters, points.
    """
    for name in case_outliers(compared, patients):
        mine = np.flatnonzero(np.asarray(patients) == name)
        at = mine[np.argmax(np.abs(compared.difference[mine]))]
        name_point(axes, x, y, at, name, size=size)


def name_point(axes: Axes, x: np.ndarray, y: np.ndarray, at: int, name: str, *, size: float = 8) -> None:
    """Write a name beside a point, towards the middle of all, so that it stays within the axes.

    Args:
        axes: Axes that show the points.
        x: (n,), where the points are.
        y: (n,).
        at: Place of the point among them.
        name: Its name.
        size: Size of the letters, points.
    """
    is_left = x[at] <= (np.nanmin(x) + np.nanmax(x)) / 2
    side: dict[str, Any] = {"ha": "left", "xytext": (5, 0)} if is_left else {"ha": "right", "xytext": (-5, 0)}
    axes.annotate(name, (x[at], y[at]), textcoords="offset points", va="center", fontsize=size, **side)


def draw_sweeps(axes: Axes, sweeps: Mapping[str, Sequence[tuple[float, float | None]]], *, unit: str) -> None:
    """Draw PCC against the threshold above which PF-DRR pixels are averaged; the best of each task is marked.

    Args:
        axes: Axes to draw into.
        sweeps: Threshold, in `unit`, and correlation (None where it is not defined), by task.
        unit: Unit of the thresholds.
    """
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
