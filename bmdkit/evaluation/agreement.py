"""Agreement between predicted and measured values: correlation, ICC, errors, precision over poses, Bland-Altman."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

FEWEST_PATIENTS = 10
"""Patients below whom a study states no correlation, interval, probability or best method: they would mean nothing."""


def _pair(predicted, measured) -> tuple[np.ndarray, np.ndarray]:
    p, y = np.asarray(predicted, float), np.asarray(measured, float)
    if p.ndim != 1 or p.shape != y.shape:
        raise ValueError(f"predicted, measured: expected two equal lists of numbers, got shapes {p.shape}, {y.shape}")
    if not (np.isfinite(p).all() and np.isfinite(y).all()):
        raise ValueError("predicted, measured: expected finite values")
    return p, y


def pearson(predicted, measured) -> float:
    """Pearson correlation coefficient (PCC) of two (n,) arrays; NaN below two values or if one array is constant."""
    p, y = _pair(predicted, measured)
    if p.size < 2 or np.ptp(p) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.clip(np.corrcoef(p, y)[0, 1], -1.0, 1.0))


def icc_2_1(ratings) -> float:
    """ICC(2,1): two-way random effects, absolute agreement, one rating.

    Args:
        ratings: (n targets, k raters); for predictions, the two columns are predicted and measured.

    Returns:
        The coefficient, or NaN if all ratings are equal.

    Raises:
        ValueError: Fewer than two targets or raters, or a value that is not finite.

    Source: Shrout and Fleiss 1979, doi 10.1037/0033-2909.86.2.420, case 2.
    """
    table = np.asarray(ratings, float)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise ValueError(f"ratings: expected finite values of shape (n >= 2, k >= 2), got shape {table.shape}")
    n, k = table.shape
    mean = table.mean()
    targets = k * np.sum((table.mean(1) - mean) ** 2) / (n - 1)
    raters = n * np.sum((table.mean(0) - mean) ** 2) / (k - 1)
    rest = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + mean
    error = np.sum(rest**2) / ((n - 1) * (k - 1))
    total = targets + (k - 1) * error + k * (raters - error) / n
    return float((targets - error) / total) if total > 0 else float("nan")


def icc_fisher(predicted, measured) -> float:
    """Fisher's intraclass correlation: sum (p - m)(y - m) / (n s^2), m and s^2 pooled over both; NaN if all are equal.

    Source: Fisher 1925, Statistical Methods for Research Workers, section 38.
    """
    p, y = _pair(predicted, measured)
    if p.size == 0:
        return float("nan")
    mean = (p.mean() + y.mean()) / 2
    variance = (np.mean((p - mean) ** 2) + np.mean((y - mean) ** 2)) / 2
    return float(np.mean((p - mean) * (y - mean)) / variance) if variance > 0 else float("nan")


def mean_absolute_error(predicted, measured) -> float:
    """MAE of two (n,) arrays, in their unit."""
    p, y = _pair(predicted, measured)
    return float(np.mean(np.abs(p - y))) if p.size else float("nan")


def standard_error_of_estimate(predicted, measured) -> float:
    """SEE about identity, sqrt(sum (y - p)^2 / (n - 2)), in their unit; NaN for fewer than three values."""
    p, y = _pair(predicted, measured)
    return float(np.sqrt(np.sum((y - p) ** 2) / (p.size - 2))) if p.size > 2 else float("nan")


def rms_cv_pct(values, subjects: Sequence) -> float:
    """Root mean square over subjects of the coefficient of variation of their repeated values, percent.

    Args:
        values: (n,), such as the BMD of one hip from several radiographs.
        subjects: (n,), whose value each is; a subject with one value says nothing and is left out.

    Returns:
        The precision error, or NaN if nobody was measured twice, or if a subject's mean is not positive.

    Raises:
        ValueError: Lengths differ.

    Source: Glueer et al. 1995, doi 10.1007/BF01774016.
    """
    values, names = np.asarray(values, float), np.asarray([str(s) for s in subjects])
    if values.shape != names.shape:
        raise ValueError(f"values, subjects: expected equal lengths, got {values.shape}, {names.shape}")
    squares = []
    for name in np.unique(names):
        mine = values[names == name]
        if mine.size > 1:
            if mine.mean() <= 0:  # a network that sees no bone may say so of a hip: no precision, but no end either
                return float("nan")
            squares.append(mine.var(ddof=1) / mine.mean() ** 2)
    return 100.0 * float(np.sqrt(np.mean(squares))) if squares else float("nan")


@dataclass(frozen=True, eq=False)
class BlandAltman:
    """The differences of two methods against their means.

    Attributes:
        mean: (n,), the mean of the two values of each case.
        difference: (n,), first minus second.
        bias: Mean difference.
        sd: Its standard deviation (n - 1).
        lower, upper: Limits of agreement, bias -+ 1.96 sd.
        outliers: (n,), bool, the cases outside the limits.
    """

    mean: np.ndarray
    difference: np.ndarray
    bias: float
    sd: float
    lower: float
    upper: float
    outliers: np.ndarray


def bland_altman(first, second, *, width_sd: float = 1.96) -> BlandAltman:
    """Bias and limits of agreement of two (n,) arrays in one unit.

    Raises:
        ValueError: Fewer than two values.

    Source: Bland and Altman 1986, doi 10.1016/S0140-6736(86)90837-8.
    """
    a, b = _pair(first, second)
    if a.size < 2:
        raise ValueError(f"first, second: expected at least two values, got {a.size}")
    difference = a - b
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    lower, upper = bias - width_sd * sd, bias + width_sd * sd
    outliers = (difference < lower) | (difference > upper)
    return BlandAltman((a + b) / 2, difference, bias, sd, lower, upper, outliers)


@dataclass(frozen=True)
class Agreement:
    """Every number of one comparison, in the unit of the values.

    Attributes:
        n, patients: Values and distinct patients.
        pcc, icc, icc_fisher: Correlations; the first is NaN below three values.
        mae, see: Errors.
        rms_cv_pct: Spread over the poses of one hip, percent; NaN without repeats.
        pcc_interval: 95 % bootstrap interval of the PCC, patients resampled.
    """

    n: int
    patients: int
    pcc: float
    icc: float
    icc_fisher: float
    mae: float
    see: float
    rms_cv_pct: float
    pcc_interval: tuple[float, float]

    def without_correlations(self) -> Agreement:
        """The same without correlations and interval, as it is stated of too few patients."""
        nan = float("nan")
        return replace(self, pcc=nan, icc=nan, icc_fisher=nan, pcc_interval=(nan, nan))


def agreement(
    predicted,
    measured,
    *,
    patients: Sequence[str],
    hips: Sequence[str],
    rng: np.random.Generator,
    repeats: int = 1000,
) -> Agreement:
    """All metrics of predictions (n,) against measurements (n,).

    Args:
        predicted: (n,), predicted values.
        measured: (n,), measured values, in the same unit.
        patients: (n,), whose each value is; the bootstrap resamples them.
        hips: (n,), which hip each value is of; repeats of one hip give the precision.
        rng: Generator of the bootstrap.
        repeats: Number of bootstrap samples.
    """
    p, y = _pair(predicted, measured)
    nothing = float("nan"), float("nan")
    many = p.size > 2  # two values always lie on a line
    interval = bootstrap_interval(pearson, p, y, patients=patients, rng=rng, repeats=repeats) if many else nothing
    return Agreement(
        n=p.size,
        patients=len(set(patients)),
        pcc=pearson(p, y) if many else float("nan"),
        icc=icc_2_1(np.c_[p, y]) if p.size > 1 else float("nan"),
        icc_fisher=icc_fisher(p, y),
        mae=mean_absolute_error(p, y),
        see=standard_error_of_estimate(p, y),
        rms_cv_pct=rms_cv_pct(p, hips),
        pcc_interval=interval,
    )


def bootstrap_interval(
    statistic: Callable[..., float],
    *arrays,
    patients: Sequence[str],
    rng: np.random.Generator,
    repeats: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a statistic when patients, not images, are drawn again with replacement.

    Args:
        statistic: Called with the resampled arrays.
        arrays: Each (n,).
        patients: (n,), who each element belongs to.
        rng: Generator of the draws.
        repeats: Number of draws.
        level: Coverage.

    Returns:
        (low, high); NaN if fewer than two patients, or if the statistic was never finite.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; clusters resampled as a whole.
    """
    data = [np.asarray(a) for a in arrays]
    names = np.asarray([str(p) for p in patients])
    if any(a.shape[:1] != names.shape for a in data):
        raise ValueError(f"arrays, patients: expected equal lengths, got {[a.shape for a in data]}, {names.shape}")
    distinct = np.unique(names)
    if distinct.size < 2:
        return float("nan"), float("nan")
    rows = [np.flatnonzero(names == name) for name in distinct]
    found = []
    for _ in range(repeats):
        chosen = np.concatenate([rows[i] for i in rng.integers(distinct.size, size=distinct.size)])
        value = statistic(*(a[chosen] for a in data))
        if np.isfinite(value):
            found.append(value)
    if not found:
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
