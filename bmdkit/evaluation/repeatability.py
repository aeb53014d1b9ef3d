"""How alike the predictions of one hip are: consistency of poses, outliers, precision and least significant change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bmdkit.evaluation.agreement import BlandAltman, pearson

LSC_FACTOR = 2.77
"""1.96 sqrt(2): a change of one hip beyond so many standard deviations of one measurement is real with 95 %."""


@dataclass(frozen=True)
class Precision:
    """Precision of repeated measurements of the same hips.

    Attributes:
        hips: Number of hips that were measured more than once.
        degrees: Degrees of freedom: measurements less hips.
        rms_sd: Root mean square standard deviation, in the unit of the values.
        rms_sd_interval: Its 95 % interval.
        rms_cv_pct: Root mean square coefficient of variation, percent; NaN if a mean is not positive.
        mean_cv_pct, sd_cv_pct: Mean and standard deviation of the coefficients of variation, percent.
        lsc, lsc_interval: Least significant change, 2.77 times `rms_sd`, with its 95 % interval.
    """

    hips: int
    degrees: int
    rms_sd: float
    rms_sd_interval: tuple[float, float]
    rms_cv_pct: float
    mean_cv_pct: float
    sd_cv_pct: float
    lsc: float
    lsc_interval: tuple[float, float]


def measure_precision(values, hips: Sequence[str]) -> Precision | None:
    """Measure the precision of repeated measurements, such as the BMD of one hip from several radiographs.

    Args:
        values: (n,).
        hips: (n,), which hip each value is of; one with a single value says nothing and is left out.

    Returns:
        None if no hip was measured twice.

    Raises:
        ValueError: Lengths differ.

    Example:
        >>> found = measure_precision([1.00, 1.02, 0.80, 0.84], ["a", "a", "b", "b"])
        >>> round(found.rms_sd, 4), round(found.lsc, 4)
        (0.0224, 0.0619)

    Source: Glueer et al. 1995, doi 10.1007/BF01774016, for precision and its confidence; Shepherd et al. 2006, ISCD,
        doi 10.1016/j.jocd.2006.05.005, for the least significant change.
    """
    data, names = np.asarray(values, float), np.asarray([str(hip) for hip in hips])
    if data.shape != names.shape:
        raise ValueError(f"values, hips: expected equal lengths, got {data.shape}, {names.shape}")
    groups = [data[names == name] for name in np.unique(names)]
    groups = [group for group in groups if group.size > 1]
    if not groups:
        return None
    degrees = sum(group.size - 1 for group in groups)
    rms_sd = float(np.sqrt(sum((group.size - 1) * group.var(ddof=1) for group in groups) / degrees))
    ends = [float(rms_sd * np.sqrt(degrees / stats.chi2.ppf(q, degrees))) for q in (0.975, 0.025)]
    means = np.array([group.mean() for group in groups])
    cv = np.array([group.std(ddof=1) for group in groups]) / means if (means > 0).all() else np.array([np.nan])
    return Precision(
        hips=len(groups),
        degrees=degrees,
        rms_sd=rms_sd,
        rms_sd_interval=(ends[0], ends[1]),
        rms_cv_pct=100 * float(np.sqrt(np.mean(cv**2))),
        mean_cv_pct=100 * float(cv.mean()),
        sd_cv_pct=100 * float(cv.std(ddof=1)) if cv.size > 1 else float("nan"),
        lsc=LSC_FACTOR * rms_sd,
        lsc_interval=(LSC_FACTOR * ends[0], LSC_FACTOR * ends[1]),
    )


def consistency(table) -> np.ndarray:
    """Correlate (Pearson) every two conditions of a table (n subjects, k conditions): (k, k)."""
    values = np.asarray(table, float)
    return np.array([[pearson(a, b) for b in values.T] for a in values.T])


def case_outliers(comparison: BlandAltman, subjects: Sequence[str]) -> tuple[str, ...]:
    """Subjects all of whose values lie above the upper limit of agreement, or all below the lower one; sorted."""
    names = np.asarray([str(s) for s in subjects])
    if names.shape != comparison.difference.shape:
        raise ValueError(f"subjects: expected {comparison.difference.size}, got {names.size}")
    found = []
    for name in np.unique(names):
        mine = comparison.difference[names == name]
        if (mine > comparison.upper).all() or (mine < comparison.lower).all():
            found.append(str(name))
    return tuple(found)
