"""What a few hips of known BMD at a new place do for all others there: a line from what is told to what is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bmdkit.evaluation.conformal import LEVEL, conformal_half_width, mean_by_patient

SLOPE_SD = 0.3
"""How far slopes of new places are from 1, standard deviation; 0.2 to 0.5 did as well on two simulated cohorts."""

ERROR_SD_G_CM2 = 0.07
"""How far the mean of a patient's images is from the line, standard deviation, g/cm2."""

FEWEST_PATIENTS = 4


@dataclass(frozen=True)
class Recalibration:
    """DXA-BMD = intercept + slope * what is told.

    Attributes:
        intercept_g_cm2, slope: The line.
        patients, images: Number of those that it is of.
        mae_g_cm2: Mean over the patients of their mean absolute error, each by the line of all others.
        mae_of_mean_g_cm2: The same of the mean BMD of all others, in place of a line.
        half_width_g_cm2: Half width of the 90 % prediction interval from these errors; None of too few patients.
    """

    intercept_g_cm2: float
    slope: float
    patients: int
    images: int
    mae_g_cm2: float
    mae_of_mean_g_cm2: float
    half_width_g_cm2: float | None

    def apply(self, told_g_cm2):
        """BMD, g/cm2, of a number that was told, or of an array of them."""
        return self.intercept_g_cm2 + self.slope * told_g_cm2

    @property
    def is_of_use(self) -> bool:
        """Whether it rises, and is nearer to patients that did not give it than the mean of the others is.

        Of a few patients this is uncertain both ways.
        """
        return self.slope > 0 and self.mae_g_cm2 < (1 - 1e-9) * self.mae_of_mean_g_cm2


def fit_recalibration(told, measured, patients: Sequence[str]) -> Recalibration:
    """Fit a line from what is told to what was measured, and measure it on each patient by the line of the others.

    Every patient counts once, by the mean over the images. The slope is drawn towards 1: it is the most probable one
    where slopes of places vary by `SLOPE_SD` about 1 and patients about their line by `ERROR_SD_G_CM2`. So few
    patients shift what is told, and many turn it.

    Args:
        told: (n,) BMD that was told, g/cm2.
        measured: (n,) BMD that was measured, g/cm2.
        patients: (n,), whose each image is.

    Raises:
        ValueError: Lengths differ, or fewer than `FEWEST_PATIENTS` patients are given.

    Example:
        >>> line = fit_recalibration([0.6, 0.7, 0.8, 0.9], [0.7, 0.8, 0.9, 1.0], ["a", "b", "c", "d"])
        >>> round(line.apply(0.75), 3), line.is_of_use
        (0.85, True)

    Source: Steyerberg et al. 2004, recalibration with shrinkage towards the earlier model, doi 10.1002/sim.1844.
    """
    values, truth = np.asarray(told, float), np.asarray(measured, float)
    names, owners = np.unique(np.asarray([str(name) for name in patients]), return_inverse=True)
    if values.shape != truth.shape or values.shape != owners.shape:
        raise ValueError(
            f"told, measured, patients: expected equal lengths, got {values.shape}, {truth.shape}, {owners.shape}"
        )
    if len(names) < FEWEST_PATIENTS:
        raise ValueError(f"patients: expected {FEWEST_PATIENTS} or more, got {len(names)}")
    counts = np.bincount(owners)
    means, mean_truth = np.bincount(owners, values) / counts, np.bincount(owners, truth) / counts
    intercept, slope = _fit_line(means, mean_truth)
    errors, errors_of_mean = np.empty(len(values)), np.empty(len(values))
    for patient in range(len(names)):
        others, own = np.arange(len(names)) != patient, owners == patient
        from_others, slope_of_others = _fit_line(means[others], mean_truth[others])
        errors[own] = from_others + slope_of_others * values[own] - truth[own]
        errors_of_mean[own] = mean_truth[others].mean() - truth[own]
    half_width = conformal_half_width(errors, names[owners].tolist(), level=LEVEL)
    return Recalibration(
        intercept,
        slope,
        len(names),
        len(values),
        mean_by_patient(np.abs(errors), owners),
        mean_by_patient(np.abs(errors_of_mean), owners),
        half_width if math.isfinite(half_width) else None,
    )


def _fit_line(told: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """Intercept and most probable slope, of the means of patients."""
    apart = told - told.mean()
    turned = apart @ (measured - told) / (apart @ apart + (ERROR_SD_G_CM2 / SLOPE_SD) ** 2)
    slope = 1 + float(turned)
    return float(measured.mean() - slope * told.mean()), slope
