"""From a projection of the proximal femur to bone mineral density: a threshold, a mean, a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from bmdkit.evaluation.agreement import pearson

Task = Literal["dxa", "qct"]
TASKS: dict[Task, str] = {"dxa": "g/cm2", "qct": "mg/cm3"}
"""What can be estimated, and its unit."""


@dataclass(frozen=True)
class BmdConfig:
    """How densities are read off a projection.

    Attributes:
        fallback_threshold_g_cm2: The threshold when there are too few patients to choose one; the authors' own.
        lowest, highest: Ends of the sweep, as fractions of the largest value in the training set.
        count: Thresholds in the sweep.
        fit_on: Whether the line is fitted to the projections predicted for the training patients or to the true ones;
            the threshold is always chosen on the true ones.
    """

    fallback_threshold_g_cm2: float = 0.159
    lowest: float = 0.02
    highest: float = 0.30
    count: int = 57
    fit_on: Literal["predictions", "targets"] = "predictions"

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0.0 < self.lowest <= self.highest < 1.0 or self.count < 1:
            raise ValueError("lowest, highest, count: expected 0 < lowest <= highest < 1 and a positive count")


@dataclass(frozen=True)
class BmdLine:
    """BMD = slope * (mean of the pixels of at least the threshold, g/cm2) + intercept.

    Attributes:
        task: dxa (g/cm2) or qct (mg/cm3).
        threshold_g_cm2: Pixels below it do not count.
        slope, intercept: Slope and intercept of the line, in the task's unit.
        images, patients: Numbers of images and patients that it was fitted to.
        pcc: Correlation of the true projections' means with BMD at this threshold; None below three patients.
    """

    task: Task
    threshold_g_cm2: float
    slope: float
    intercept: float
    images: int
    patients: int
    pcc: float | None

    def bmd(self, mean_g_cm2: float | np.ndarray) -> float | np.ndarray:
        """BMD of a mean over the threshold."""
        return self.slope * mean_g_cm2 + self.intercept

    def to_dict(self) -> dict[str, Any]:
        """As run.json has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BmdLine:
        """Undo `to_dict`."""
        return cls(**values)


def means_above(images: np.ndarray, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
    """Mean of each image's pixels of at least each threshold; 0 where there are none.

    Args:
        images: (n, rows, columns).
        thresholds: (m,), in the images' unit.

    Returns:
        (n, m).
    """
    means = np.zeros((len(images), len(thresholds)))
    for n, image in enumerate(images):
        values = np.sort(np.asarray(image, np.float64), axis=None)
        sums = np.append(np.cumsum(values[::-1])[::-1], 0.0)
        first = np.searchsorted(values, thresholds, side="left")
        means[n] = sums[first] / np.maximum(values.size - first, 1)
    return means


def fit_line(
    task: Task,
    targets: np.ndarray,
    predictions: np.ndarray,
    bmd: Sequence[float],
    patients: Sequence[str],
    config: BmdConfig,
    *,
    largest_g_cm2: float,
) -> BmdLine | None:
    """Choose the threshold and fit the line, on training patients alone.

    Args:
        task: What `bmd` holds.
        targets: True projections of the training patients, (n, rows, columns), g/cm2.
        predictions: Predicted ones, (n, rows, columns), g/cm2.
        bmd: (n,), in the task's unit; NaN where not known.
        patients: (n,), whose each is.
        config: Settings of the sweep.
        largest_g_cm2: What the sweep's ends are fractions of.

    Returns:
        None if fewer than two patients with different BMD are known.

    Source: Gu et al. 2023, doi 10.1016/j.media.2023.102970, section 3.4 and figure 4.
    """
    values = np.asarray(bmd, float)
    known = np.isfinite(values)
    who = {patient for patient, k in zip(patients, known, strict=True) if k}
    values = values[known]
    if len(who) < 2 or np.ptp(values) == 0:
        return None
    threshold, pcc = config.fallback_threshold_g_cm2, None
    if len(who) >= 3:
        thresholds = np.linspace(config.lowest, config.highest, config.count) * largest_g_cm2
        correlations = [pearson(column, values) for column in means_above(targets[known], thresholds).T]
        if np.isfinite(correlations).any():
            best = int(np.nanargmax(correlations))
            threshold, pcc = float(thresholds[best]), float(correlations[best])
    fitted = predictions if config.fit_on == "predictions" else targets
    means = means_above(fitted[known], [threshold])[:, 0]
    if np.ptp(means) == 0:
        return None
    slope, intercept = np.polyfit(means, values, 1)
    return BmdLine(task, threshold, float(slope), float(intercept), int(known.sum()), len(who), pcc)
