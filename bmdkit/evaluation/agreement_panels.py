"""Figures of several panels: methods beside each other, poses and trainings, limits of agreement of both tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bmdkit.evaluation.agreement import FEWEST_PATIENTS, bland_altman, icc_2_1, mean_absolute_error, pearson
from bmdkit.evaluation.figure_style import INK, MUTED, SERIES
from bmdkit.evaluation.figures import Shown, draw_bland_altman, name_outside, write_beneath
from bmdkit.evaluation.repeatability import case_outliers, consistency
from bmdkit.evaluation.significance import tabulate_conditions

_SIDE = 2.75  # inches of a panel


@dataclass(frozen=True, eq=False)
class Series:
    """What one method predicted of one quantity.

    Attributes:
        name: Name of the method, short.
        quantity, unit: What it predicts, such as DXA-BMD in g/cm².
        predicted, measured: (n,), in the unit.
        poses, patients, hips: (n,), of each image.
    """

    name: str
    quantity: str
    unit: str
    predicted: np.ndarray
    measured: np.ndarray
    poses: tuple[str, ...]
    patients: tuple[str, ...]
    hips: tuple[str, ...]

    @property
    def can_be_correlated(self) -> bool:
        """Whether there are so many patients that a correlation means something."""
        return len(set(self.patients)) >= FEWEST_PATIENTS and len(self.predicted) > 2

    def outside(self) -> tuple[str, ...]:
        """Patients all of whose images lie outside the limits of agreement, above or below."""
        return case_outliers(bland_altman(self.predicted, self.measured), self.patients)

    def of_pose(self, pose: str) -> np.ndarray:
        """(n,), bool: the images of one pose."""
        return np.asarray(self.poses) == pose


def scatter_and_errors(rows: Sequence[Sequence[Series]], *, shown: Shown, caption: str) -> Figure:
    """Predicted against measured values of several methods, and the absolute errors of all as boxes.

    Args:
        rows: For each quantity a row of panels, one for each method.
        shown: What the figure shows, written beneath.
        caption: Caption, written beneath.
    """
    figure, table = _panels(len(rows), max(map(len, rows)) + 1)
    for letter, line, methods in zip("abcdef", table, rows, strict=False):
        for axes, series in zip(line, methods, strict=False):
            _draw_scatter(axes, series)
            axes.set_title(f"{series.name.replace(chr(10), ' ')}\n{_agreement_text(series)}", fontsize=8)
        for axes in line[len(methods) : -1]:
            axes.set_visible(False)
        _draw_errors(line[-1], methods)
        line[0].annotate(
            f"({letter}) {methods[0].quantity}", (0, 1), xycoords="axes fraction", xytext=(-38, 30),
            textcoords="offset points", fontsize=9, fontweight="bold",
        )  # fmt: skip
    write_beneath(figure, shown, caption)
    return figure


def _agreement_text(series: Series) -> str:
    error = f"MAE {mean_absolute_error(series.predicted, series.measured):.3g}"
    if not series.can_be_correlated:
        return error
    icc = icc_2_1(np.c_[series.predicted, series.measured])
    return f"PCC {pearson(series.predicted, series.measured):.3f}  ICC {icc:.3f}  {error}"


def _draw_scatter(axes: Axes, series: Series, *, by_pose: bool = False) -> None:
    both = np.r_[series.predicted, series.measured]
    edge = 0.05 * (np.ptp(both) or 1.0)
    ends = both.min() - edge, both.max() + edge
    axes.plot(ends, ends, color=MUTED, lw=1, ls=(0, (4, 3)))
    if by_pose:
        for colour, pose in zip(SERIES, sorted(set(series.poses)), strict=False):
            mine = series.of_pose(pose)
            label = pose
            if series.can_be_correlated and mine.sum() > 2:
                label = f"{pose} {pearson(series.predicted[mine], series.measured[mine]):.3f}"
            axes.plot(
                series.measured[mine], series.predicted[mine], "o", ms=3, mew=0, alpha=0.7, color=colour, label=label
            )
        axes.legend(loc="upper left", fontsize=7, handletextpad=0.1, borderpad=0.1)
    else:
        axes.plot(series.measured, series.predicted, "o", ms=3, mew=0, alpha=0.6, color=SERIES[0])
        if np.ptp(series.measured) > 0:
            slope, intercept = np.polyfit(series.measured, series.predicted, 1)
            axes.plot(ends, slope * np.array(ends) + intercept, color=INK, lw=1)
    compared = bland_altman(series.predicted, series.measured)
    name_outside(axes, series.measured, series.predicted, compared, series.patients, size=6.5)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set_xlabel(f"measured, {series.unit}")
    axes.set_ylabel(f"predicted, {series.unit}")


def _draw_errors(axes: Axes, methods: Sequence[Series]) -> None:
    errors = [np.abs(series.predicted - series.measured) for series in methods]
    boxes = axes.boxplot(
        errors,
        widths=0.55,
        showmeans=True,
        patch_artist=True,
        medianprops={"color": INK},
        meanprops={"marker": "^", "mfc": INK, "mec": INK, "ms": 4},
        flierprops={"ms": 2.5},
    )
    for colour, patch in zip(SERIES, boxes["boxes"], strict=False):
        patch.set(facecolor=colour, alpha=0.45)
    names = [series.name.replace(" + ", "\n+ ") for series in methods]
    axes.set_xticks(range(1, len(methods) + 1), names, fontsize=7, rotation=20, ha="right", rotation_mode="anchor")
    axes.set_ylabel(f"absolute error, {methods[0].unit}")
    axes.set_title("median, mean (triangle), quartiles", fontsize=8, fontweight="normal")
    axes.grid(True, axis="y")


def pose_panels(rows: Sequence[tuple[str, Sequence[Series]]], *, shown: Shown, caption: str) -> Figure:
    """Predicted against measured values pose by pose, and how alike the predictions of every two poses are.

    Args:
        rows: For each training its name, and what it predicted of each quantity.
        shown: What the figure shows, written beneath.
        caption: Caption, written beneath.
    """
    figure, table = _panels(len(rows), 2 * max(len(found) for _, found in rows))
    for line, (training, found) in zip(table, rows, strict=True):
        for place, series in enumerate(found):
            _draw_scatter(line[2 * place], series, by_pose=True)
            line[2 * place].set_title(f"{series.quantity}\n{training}", fontsize=8)
            _draw_consistency(line[2 * place + 1], series)
        for axes in line[2 * len(found) :]:
            axes.set_visible(False)
    write_beneath(figure, shown, caption)
    return figure


def _draw_consistency(axes: Axes, series: Series) -> None:
    table, hips, poses = tabulate_conditions(series.predicted, series.hips, series.poses)
    patients = {hip.rsplit(" ", 1)[0] for hip in hips}
    axes.set_title("PCC of predictions\nbetween poses", fontsize=8, fontweight="normal")
    axes.grid(False)
    if min(table.shape) < 2 or len(patients) < FEWEST_PATIENTS:
        axes.text(0.5, 0.5, f"n < {FEWEST_PATIENTS}", ha="center", va="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    values = consistency(table)
    axes.imshow(values, vmin=min(0.0, float(np.nanmin(values))), vmax=1, cmap="viridis")
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7,
                  color="white" if value < 0.7 else INK)  # fmt: skip
    axes.set_xticks(range(len(poses)), poses, rotation=30, ha="right", fontsize=7)
    axes.set_yticks(range(len(poses)), poses, fontsize=7)


def bland_altman_panels(rows: Sequence[Sequence[Series]], *, shown: Shown, caption: str) -> Figure:
    """Limits of agreement of each method (a row) and quantity, patients all of whose points lie outside named."""
    figure, table = _panels(len(rows), max(map(len, rows)), side=3.7)
    for line, found in zip(table, rows, strict=True):
        for axes, one in zip(line, found, strict=False):
            draw_bland_altman(
                axes,
                one.predicted,
                one.measured,
                patients=one.patients,
                quantity=one.quantity,
                unit=one.unit,
                poses=one.poses,
            )
            axes.set_title(f"{one.name.replace(chr(10), ' ')}\n{axes.get_title(loc='left')}", fontsize=8)
            axes.set_xlabel(f"mean of predicted and measured, {one.unit}")
            axes.get_legend().remove()  # one above all panels, where it hides no points
        for axes in line[len(found) :]:
            axes.set_visible(False)
    handles, names = table[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=max(len(names), 1), handletextpad=0.2)
    write_beneath(figure, shown, caption)
    return figure


def _panels(rows: int, columns: int, *, side: float = _SIDE) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(side * columns, 0.95 * side * rows + 0.7), layout="constrained")
    table = figure.subplots(rows, columns, squeeze=False)
    for axes in table.flat:
        axes.grid(True)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
    return figure, table


def list_points(found: Sequence[Series], pairs: Sequence[Sequence[str]]) -> list[Mapping[str, object]]:
    """The numbers behind the panels: a row for each image of each method.

    Args:
        found: What the methods predicted.
        pairs: Names of the pairs of each.
    """
    return [
        {
            "method": series.name.replace("\n", " "),
            "quantity": series.quantity,
            "unit": series.unit,
            "pair_id": pair,
            "patient_id": patient,
            "pose": pose,
            "measured": float(y),
            "predicted": float(p),
            "absolute_error": abs(float(p) - float(y)),
        }
        for series, names in zip(found, pairs, strict=True)
        for pair, patient, pose, y, p in zip(
            names, series.patients, series.poses, series.measured, series.predicted, strict=True
        )
    ]
