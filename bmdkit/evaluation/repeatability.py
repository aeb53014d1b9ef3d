"""Whether the patient's pose changes what is predicted: repeated-measures ANOVA, Tukey's HSD, consistency, outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bmdkit.evaluation.agreement import BlandAltman, pearson


@dataclass(frozen=True)
class AnovaResult:
    """A one-way repeated-measures analysis of variance.

    Attributes:
        f: Mean square of the conditions over that of the residual.
        df_conditions, df_error: Degrees of freedom.
        p: Of a larger F if no condition matters, sphericity assumed.
        epsilon: Greenhouse-Geisser's, 1 under sphericity.
        p_corrected: With both degrees of freedom multiplied by it.
    """

    f: float
    df_conditions: int
    df_error: int
    p: float
    epsilon: float
    p_corrected: float


def repeated_measures_anova(table) -> AnovaResult:
    """Whether the means of conditions differ, each subject seen under every condition.

    Args:
        table: (n subjects, k conditions), such as the BMD of hips from radiographs in several poses.

    Raises:
        ValueError: Fewer than two subjects or conditions, or a value that is not finite.

    Source: Girden 1992, ANOVA: repeated measures; Greenhouse and Geisser 1959, doi 10.1007/BF02289823.
    """
    values = np.asarray(table, float)
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        raise ValueError(f"table: expected finite values of shape (n >= 2, k >= 2), got shape {values.shape}")
    n, k = values.shape
    mean = values.mean()
    between = n * np.sum((values.mean(0) - mean) ** 2) / (k - 1)
    rest = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + mean
    df_error = (n - 1) * (k - 1)
    error = np.sum(rest**2) / df_error
    f = float(between / error) if error > 0 else float("nan")
    covariance = np.cov(rest, rowvar=False)
    spread = float(np.sum(covariance**2))
    epsilon = float(np.clip(np.trace(covariance) ** 2 / ((k - 1) * spread), 1 / (k - 1), 1)) if spread > 0 else 1.0
    p = float(stats.f.sf(f, k - 1, df_error))
    return AnovaResult(f, k - 1, df_error, p, epsilon, float(stats.f.sf(f, epsilon * (k - 1), epsilon * df_error)))


@dataclass(frozen=True)
class Difference:
    """The means of two groups compared.

    Attributes:
        first, second: Names.
        difference: First mean minus second.
        p: Tukey's, over all comparisons at once.
        lower, upper: Its 95 % interval.
    """

    first: str
    second: str
    difference: float
    p: float
    lower: float
    upper: float


def tukey_hsd(groups: dict[str, Sequence[float]]) -> list[Difference]:
    """Every two of several groups, honestly significant differences; unequal sizes by Tukey and Kramer.

    Raises:
        ValueError: Fewer than two groups, or a group of fewer than two values.
    """
    if len(groups) < 2 or min(map(len, groups.values())) < 2:
        raise ValueError(f"groups: expected two or more of two or more values, got {list(map(len, groups.values()))}")
    names = list(groups)
    result = stats.tukey_hsd(*groups.values())
    interval = result.confidence_interval(0.95)
    return [
        Difference(
            names[i],
            names[j],
            float(result.statistic[i, j]),
            float(result.pvalue[i, j]),
            float(interval.low[i, j]),
            float(interval.high[i, j]),
        )
        for i in range(len(names))
        for j in range(i + 1, len(names))
    ]


def by_condition(
    values: Sequence[float], subjects: Sequence[str], conditions: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Values of subjects that were seen under every condition, as a table.

    A subject seen twice under a condition counts with its mean.

    Args:
        values, subjects, conditions: (n,), of each observation.

    Returns:
        (subjects, conditions) values; the subjects; the conditions; both sorted.
    """
    data = np.asarray(values, float)
    who, what = np.asarray([str(s) for s in subjects]), np.asarray([str(c) for c in conditions])
    if not data.shape == who.shape == what.shape:
        raise ValueError(f"values, subjects, conditions: got lengths {len(data)}, {len(who)}, {len(what)}")
    names = tuple(sorted(set(what)))
    rows, kept = [], []
    for subject in sorted(set(who)):
        seen = [data[(who == subject) & (what == name)] for name in names]
        if all(part.size for part in seen):
            rows.append([part.mean() for part in seen])
            kept.append(subject)
    return np.array(rows).reshape(len(rows), len(names)), tuple(kept), names


def consistency(table) -> np.ndarray:
    """(k, k), Pearson correlation of every two conditions of a table (n subjects, k conditions)."""
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
