"""Prediction intervals by split-conformal prediction, in which patients, not images, are exchangeable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bmdkit.evaluation.agreement import FEWEST_PATIENTS, bootstrap_interval

LEVEL = 0.90
"""Nominal coverage."""

SPLITS = 40
"""Random halves of the patients over which coverage is measured."""


@dataclass(frozen=True)
class Coverage:
    """Prediction intervals of a method, and how often they hold.

    Attributes:
        level: Nominal coverage.
        half_width: Half width of the interval about a prediction, in its unit, from the errors of all patients.
        coverage: Share of a patient's images within intervals made from other patients, mean over random halves.
        coverage_interval: 95 % interval of that share, patients resampled.
        splits: Number of random halves.
    """

    level: float
    half_width: float
    coverage: float
    coverage_interval: tuple[float, float]
    splits: int


def conformal_half_width(errors, patients: Sequence[str], *, level: float = LEVEL) -> float:
    """Find how far an image of a new patient will be off at most, with a given probability.

    Every patient has the same weight, spread over its images, and the new one counts as one that is infinitely far
    off, which makes the probability hold for any number of patients and whatever the errors are like.

    Args:
        errors: (n,), predicted less measured.
        patients: (n,), whose each is.
        level: The probability.

    Returns:
        The half width; infinite where there are too few patients for the level.

    Raises:
        ValueError: Lengths differ, or no error is there.

    Example:
        >>> conformal_half_width([0.1, -0.2, 0.3, 0.4], ["a", "b", "c", "d"], level=0.6)
        0.3

    Source: Lee, Barber and Willett 2023, Distribution-free inference with hierarchical data, arXiv 2306.06342.
    """
    size, names = np.abs(np.asarray(errors, float)), np.asarray([str(name) for name in patients])
    if size.shape != names.shape or not size.size:
        raise ValueError(f"errors, patients: expected equal lengths of one or more, got {size.shape}, {names.shape}")
    _, place, count = np.unique(names, return_inverse=True, return_counts=True)
    weight = 1 / ((len(count) + 1) * count[place])
    order = np.argsort(size, kind="stable")
    reached = np.cumsum(weight[order]) >= level - 1e-12
    return float(size[order][reached][0]) if reached.any() else float("inf")


def measure_coverage(
    errors, patients: Sequence[str], *, rng: np.random.Generator, level: float = LEVEL, splits: int = SPLITS
) -> Coverage | None:
    """Make intervals from one half of the patients and count how often they hold in the other.

    Args:
        errors: (n,), predicted less measured.
        patients: (n,), whose each is.
        rng: Generator of the halves and of the bootstrap.
        level: Nominal coverage.
        splits: Number of random halves.

    Returns:
        None where a half has fewer than ten patients.
    """
    share = measure_held_share(errors, patients, rng=rng, level=level, splits=splits)
    if share is None:
        return None
    names = np.asarray([str(name) for name in patients])
    seen = np.isfinite(share)
    low, high = bootstrap_interval(mean_by_patient, share[seen], names[seen], patients=names[seen].tolist(), rng=rng)
    half_width = conformal_half_width(errors, patients, level=level)
    return Coverage(level, half_width, mean_by_patient(share[seen], names[seen]), (low, high), splits)


def measure_held_share(
    errors, patients: Sequence[str], *, rng: np.random.Generator, level: float = LEVEL, splits: int = SPLITS
) -> np.ndarray | None:
    """Find of each image how often an interval made from one half of the patients holds it, of those without its own.

    Args:
        errors: (n,), predicted less measured.
        patients: (n,), whose each is.
        rng: Generator of the halves.
        level: Nominal coverage.
        splits: Number of random halves.

    Returns:
        (n,), NaN where a patient was in every half; None where a half has fewer than ten patients.
    """
    data, names = np.asarray(errors, float), np.asarray([str(name) for name in patients])
    distinct = np.unique(names)
    if distinct.size < 2 * FEWEST_PATIENTS:
        return None
    held, times = np.zeros(len(data)), np.zeros(len(data))
    for _ in range(splits):
        known = np.isin(names, rng.permutation(distinct)[: distinct.size // 2])
        half_width = conformal_half_width(data[known], names[known].tolist(), level=level)
        held[~known] += np.abs(data[~known]) <= half_width
        times[~known] += 1
    share: np.ndarray = np.divide(held, times, out=np.full(len(data), np.nan), where=times > 0)
    return share


def mean_by_patient(values, patients) -> float:
    """Mean over patients of the mean over a patient's values."""
    data, names = np.asarray(values, float), np.asarray(patients)
    _, place, count = np.unique(names, return_inverse=True, return_counts=True)
    return float(np.mean(np.bincount(place, data) / count))
