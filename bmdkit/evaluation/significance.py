"""Whether conditions differ that were all measured on the same patients: methods, trainings or poses.

A patient's images are alike, so that the patient is the block: each contributes one value to each condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import optimize, stats

LEVEL = 0.05
"""Level of all tests; intervals are of 95 %."""

POWER = 0.80
"""Power at which the detectable difference is stated."""

SPHERICITY_LEVEL = 0.10
"""Level of Mauchly's test below which pairs are compared by paired tests; above 0.05, since its power is low."""

Procedure = Literal["tukey", "paired_holm"]


@dataclass(frozen=True)
class AnovaResult:
    """A one-way repeated-measures analysis of variance.

    Attributes:
        f: Mean square of the conditions over that of the residual.
        df_conditions, df_error: Degrees of freedom.
        p: Probability of a larger F if no condition matters, sphericity assumed.
        epsilon: Greenhouse-Geisser's estimate, 1 under sphericity.
        epsilon_used: That of Huynh and Feldt, which corrects the former for being too low with few patients, where
            Mauchly's test does not reject sphericity; else the former.
        p_corrected: p with both degrees of freedom multiplied by `epsilon_used`.
        mean_square_error: Mean square of the residual, in the square of the unit.
    """

    f: float
    df_conditions: int
    df_error: int
    p: float
    epsilon: float
    epsilon_used: float
    p_corrected: float
    mean_square_error: float


@dataclass(frozen=True)
class Difference:
    """The means of two conditions compared.

    Attributes:
        first, second: Names of the conditions.
        difference: First mean minus second.
        p: Probability over all comparisons at once.
        lower, upper: Ends of its simultaneous 95 % interval.
    """

    first: str
    second: str
    difference: float
    p: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Comparison:
    """Conditions compared with the patient as the block.

    Attributes:
        conditions: Names.
        patients: Number of patients seen under every condition.
        means: Mean of each condition over the patients.
        anova: Whether any condition differs; `p_corrected` is the one to report.
        sphericity_p: Mauchly's; 1 for two conditions, NaN where there are too few patients to test it.
        procedure: How pairs were compared: `tukey` on the within-patient residual where sphericity holds, else paired
            t tests with Holm's correction.
        differences: Every two conditions.
        detectable_difference: Difference of two conditions that the analysis finds with a power of 80 %, in the unit.
    """

    conditions: tuple[str, ...]
    patients: int
    means: tuple[float, ...]
    anova: AnovaResult
    sphericity_p: float
    procedure: Procedure
    differences: tuple[Difference, ...]
    detectable_difference: float


def compare_conditions(table, names: Sequence[str]) -> Comparison:
    """Compare conditions that were measured on the same patients.

    Args:
        table: (n patients, k conditions); see `tabulate_conditions`.
        names: (k,), of the conditions.

    Raises:
        ValueError: Fewer than two patients or conditions, a value that is not finite, or other than k names.

    Example:
        >>> table = [[1.0, 1.1], [2.0, 2.2], [3.0, 3.0], [4.0, 4.3]]
        >>> round(compare_conditions(table, ["a", "b"]).anova.p, 3)
        0.103
    """
    values = _check_table(table)
    if len(names) != values.shape[1]:
        raise ValueError(f"names: expected {values.shape[1]}, got {len(names)}")
    anova = repeated_measures_anova(values)
    sphericity_p = check_sphericity(values)
    procedure: Procedure = "tukey" if sphericity_p >= SPHERICITY_LEVEL else "paired_holm"
    differences = compare_by_tukey(values, names) if procedure == "tukey" else compare_pairs(values, names)
    means = tuple(float(mean) for mean in values.mean(0))
    detectable = detectable_difference(anova, len(values))
    return Comparison(tuple(names), len(values), means, anova, sphericity_p, procedure, differences, detectable)


def repeated_measures_anova(table) -> AnovaResult:
    """Test whether the means of conditions differ, each patient seen under every condition.

    Args:
        table: (n patients, k conditions).

    Raises:
        ValueError: Fewer than two patients or conditions, or a value that is not finite.

    Source: Girden 1992, ANOVA: repeated measures; Greenhouse and Geisser 1959, doi 10.1007/BF02289823;
        Huynh and Feldt 1976, doi 10.3102/10769986001001069.
    """
    values = _check_table(table)
    n, k = values.shape
    mean = values.mean()
    between = n * np.sum((values.mean(0) - mean) ** 2) / (k - 1)
    rest = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + mean
    df_error = (n - 1) * (k - 1)
    error = float(np.sum(rest**2) / df_error)
    f = float(between / error) if error > 0 else float("nan")
    covariance = np.cov(rest, rowvar=False)
    spread = float(np.sum(covariance**2))
    epsilon = float(np.clip(np.trace(covariance) ** 2 / ((k - 1) * spread), 1 / (k - 1), 1)) if spread > 0 else 1.0
    p = float(stats.f.sf(f, k - 1, df_error))
    used = _correct_epsilon(epsilon, n, k) if check_sphericity(values) >= SPHERICITY_LEVEL else epsilon
    corrected = float(stats.f.sf(f, used * (k - 1), used * df_error))
    return AnovaResult(f, k - 1, df_error, p, epsilon, used, corrected, error)


def _correct_epsilon(epsilon: float, n: int, k: int) -> float:
    """Huynh and Feldt's epsilon of Greenhouse and Geisser's, for n patients and k conditions."""
    below = (k - 1) * (n - 1 - (k - 1) * epsilon)
    return 1.0 if below <= 0 else float(np.clip((n * (k - 1) * epsilon - 2) / below, epsilon, 1))


def check_sphericity(table) -> float:
    """Mauchly's test: the probability of variances of differences as unlike as these if all are equal.

    Args:
        table: (n patients, k conditions).

    Returns:
        p; 1 for two conditions, which have one difference; NaN for fewer patients than conditions.

    Source: Mauchly 1940, doi 10.1214/aoms/1177731915; Box 1949, doi 10.1093/biomet/36.3-4.317, for the distribution.
    """
    values = _check_table(table)
    n, k = values.shape
    if k == 2:
        return 1.0
    if n <= k:
        return float("nan")
    contrasts = np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1]
    covariance = contrasts.T @ np.cov(values, rowvar=False) @ contrasts
    d, df = k - 1, n - 1
    if np.trace(covariance) <= 0:
        return float("nan")
    w = float(np.linalg.det(covariance) / (np.trace(covariance) / d) ** d)
    if w <= 0:
        return 0.0
    factor = 1 - (2 * d**2 + d + 2) / (6 * d * df)
    statistic, degrees = -df * factor * np.log(w), d * (d + 1) / 2 - 1
    second = (d + 2) * (d - 1) * (d - 2) * (2 * d**3 + 6 * d**2 + 3 * k + 2) / (288 * (df * d * factor) ** 2)
    first = stats.chi2.sf(statistic, degrees)
    return float(np.clip(first + second * (stats.chi2.sf(statistic, degrees + 4) - first), 0, 1))


def compare_by_tukey(table, names: Sequence[str]) -> tuple[Difference, ...]:
    """Tukey's honestly significant differences of conditions, on the residual within patients; assumes sphericity.

    Args:
        table: (n patients, k conditions).
        names: (k,), of the conditions.

    Source: Tukey 1949, doi 10.2307/3001913; Maxwell 1980, doi 10.3102/10769986005003269, for repeated measures.
    """
    values = _check_table(table)
    n, k = values.shape
    anova = repeated_measures_anova(values)
    half_width = float(np.sqrt(anova.mean_square_error / n))
    reach = half_width * float(stats.studentized_range.ppf(1 - LEVEL, k, anova.df_error))
    found = []
    for i, j in combinations(range(k), 2):
        difference = float(values[:, i].mean() - values[:, j].mean())
        q = abs(difference) / half_width if half_width > 0 else np.nan
        p = float(stats.studentized_range.sf(q, k, anova.df_error))
        found.append(Difference(names[i], names[j], difference, p, difference - reach, difference + reach))
    return tuple(found)


def compare_pairs(table, names: Sequence[str]) -> tuple[Difference, ...]:
    """Paired t tests of every two conditions with Holm's correction; their intervals are Bonferroni's.

    Args:
        table: (n patients, k conditions).
        names: (k,), of the conditions.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65-70.
    """
    values = _check_table(table)
    n, k = values.shape
    pairs = list(combinations(range(k), 2))
    apart = np.array([values[:, i] - values[:, j] for i, j in pairs])
    error = apart.std(axis=1, ddof=1) / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(apart.mean(1) / error), n - 1)
    corrected = correct_by_holm(p)
    reach = error * stats.t.ppf(1 - LEVEL / 2 / len(pairs), n - 1)
    return tuple(
        Difference(names[i], names[j], float(d), float(one), float(d - r), float(d + r))
        for (i, j), d, one, r in zip(pairs, apart.mean(1), corrected, reach, strict=True)
    )


def correct_by_holm(p) -> np.ndarray:
    """Probabilities (m,) of several tests, corrected for their number so that the chance of any false one is kept."""
    values = np.asarray(p, float)
    order = np.argsort(values)
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(raised, 1.0)
    return corrected


def detectable_difference(anova: AnovaResult, patients: int, *, power: float = POWER) -> float:
    """Find the difference of two conditions, the others midway, that the corrected F test finds with a given power.

    Args:
        anova: The analysis, for its residual and degrees of freedom.
        patients: Number of patients.
        power: Probability of finding it.

    Returns:
        The difference in the unit of the values; NaN where the residual is nothing.

    Source: Cohen 1988, Statistical Power Analysis, chapter 8.
    """
    if not (anova.mean_square_error > 0 and np.isfinite(anova.mean_square_error)):
        return float("nan")
    degrees = anova.epsilon_used * anova.df_conditions, anova.epsilon_used * anova.df_error
    critical = stats.f.ppf(1 - LEVEL, *degrees)

    def lack(noncentrality: float) -> float:
        return float(stats.ncf.sf(critical, *degrees, noncentrality)) - power

    noncentrality = optimize.brentq(lack, 1e-6, 1e3) / anova.epsilon_used
    return float(np.sqrt(2 * noncentrality * anova.mean_square_error / patients))


def tabulate_conditions(
    values: Sequence[float] | np.ndarray, blocks: Sequence[str], conditions: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Arrange values of blocks that were seen under every condition as a table.

    A block seen several times under a condition counts with its mean.

    Args:
        values: (n,), values of the observations.
        blocks: (n,), whose each is: patients, or hips where a spread between images of one hip is meant.
        conditions: (n,), under which condition each was made.

    Returns:
        (blocks, conditions) values; the blocks; the conditions; both sorted.
    """
    data = np.asarray(values, float)
    who, what = np.asarray([str(s) for s in blocks]), np.asarray([str(c) for c in conditions])
    if not data.shape == who.shape == what.shape:
        raise ValueError(f"values, blocks, conditions: got lengths {len(data)}, {len(who)}, {len(what)}")
    names = tuple(sorted(set(what)))
    rows, kept = [], []
    for block in sorted(set(who)):
        seen = [data[(who == block) & (what == name)] for name in names]
        if all(part.size for part in seen):
            rows.append([part.mean() for part in seen])
            kept.append(block)
    return np.array(rows).reshape(len(rows), len(names)), tuple(kept), names


def _check_table(table) -> np.ndarray:
    values = np.asarray(table, float)
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        raise ValueError(f"table: expected finite values of shape (n >= 2, k >= 2), got shape {values.shape}")
    return values
