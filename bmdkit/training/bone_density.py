"""From a projection of the proximal femur to bone mineral density: a threshold, a mean, a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from bmdkit.evaluation.agreement import pearson
from bmdkit.io.results import finite

Task = Literal["dxa", "qct"]
TASKS: dict[Task, str] = {"dxa": "g/cm2", "qct": "mg/cm3"}
"""What can be estimated, and its unit."""


_LOWEST_FRACTION, _HIGHEST_FRACTION = 0.001, 0.99
_MORE = 10  # thresholds of every half below the settings' lowest


@dataclass(frozen=True)
class BmdConfig:
    """How densities are read off a projection.

    Attributes:
        fallback_threshold_g_cm2: The threshold when there are too few patients to choose one; the authors' own.
        lowest, highest: Ends of the sweep, as fractions of the largest value in the training set; the sweep goes on
            beyond an end where the best threshold lies there.
        count: Number of thresholds from the lowest to the highest.
        threshold_on: Whether the threshold is chosen on true projections, as in the paper, or on predicted ones, whose
            edges are softer; of the tune patients where there are any, else of the training patients.
        fit_on: Whether the line is fitted to the projections predicted for the training patients or to the true ones.
    """

    fallback_threshold_g_cm2: float = 0.159
    lowest: float = 0.02
    highest: float = 0.30
    count: int = 57
    threshold_on: Literal["targets", "predictions"] = "targets"
    fit_on: Literal["predictions", "targets"] = "predictions"

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0.0 < self.lowest <= self.highest < 1.0 or self.count < 1:
            raise ValueError("lowest, highest, count: expected 0 < lowest <= highest < 1 and a positive count")


_OWN = "target_threshold_g_cm2"


@dataclass(frozen=True)
class BmdLine:
    """BMD = slope * (mean of the pixels of at least the threshold, g/cm2) + intercept.

    Attributes:
        task: dxa (g/cm2) or qct (mg/cm3).
        threshold_g_cm2: Pixels below it do not count.
        slope, intercept: Slope and intercept of the line, in the task's unit.
        images, patients: Numbers of images and patients that it was fitted to.
        pcc: Correlation with BMD, at this threshold, of the means that it was chosen on; None below three patients.
        sweep: Threshold, g/cm2, and correlation of every threshold that was tried.
        target_threshold_g_cm2: Threshold that is best for true projections, where the other was chosen on predicted
            ones; None: they are the same.
    """

    task: Task
    threshold_g_cm2: float
    slope: float
    intercept: float
    images: int
    patients: int
    pcc: float | None
    sweep: tuple[tuple[float, float | None], ...] = ()
    target_threshold_g_cm2: float | None = None

    @property
    def threshold_of_targets_g_cm2(self) -> float:
        """Where the silhouette of a true projection begins."""
        own = self.target_threshold_g_cm2
        return self.threshold_g_cm2 if own is None else own

    def bmd(self, mean_g_cm2: float | np.ndarray) -> float | np.ndarray:
        """BMD of a mean over the threshold."""
        return self.slope * mean_g_cm2 + self.intercept

    def to_dict(self) -> dict[str, Any]:
        """As run.json has it."""
        return {name: value for name, value in asdict(self).items() if name != _OWN or value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BmdLine:
        """Undo `to_dict`."""
        return cls(**{**values, "sweep": tuple((float(t), pcc) for t, pcc in values.get("sweep", ()))})


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


def sweep_thresholds(
    images: np.ndarray, bmd: np.ndarray, config: BmdConfig, *, largest_g_cm2: float
) -> tuple[tuple[float, float | None], ...]:
    """Correlate the mean of projections with BMD at many thresholds, as far as the best one is no end.

    The sweep begins with that of the settings. Where no threshold is better than its lowest, it goes on downwards, each
    time to half of it, to 1/1000 of the largest value at last; where none is better than the highest, upwards by the
    same width, to 99 %.

    Args:
        images: (n, rows, columns), g/cm2.
        bmd: (n,), all known.
        config: Settings of the sweep.
        largest_g_cm2: Value that the sweep's ends are fractions of.

    Returns:
        Threshold, g/cm2, and correlation (None where it is not defined) in ascending order.
    """
    fractions = np.linspace(config.lowest, config.highest, config.count)
    while True:
        thresholds = fractions * largest_g_cm2
        correlations = np.array([pearson(means, bmd) for means in means_above(images, thresholds).T])
        ends = _binding_ends(correlations) if config.lowest < config.highest else (False, False)
        wider = fractions
        if ends[0] and fractions[0] > _LOWEST_FRACTION:
            low = max(fractions[0] / 2, _LOWEST_FRACTION)
            wider = np.r_[np.linspace(low, fractions[0], _MORE, endpoint=False), wider]
        if ends[1] and fractions[-1] < _HIGHEST_FRACTION:
            high = min(fractions[-1] + config.highest - config.lowest, _HIGHEST_FRACTION)
            wider = np.r_[wider, np.linspace(fractions[-1], high, max(config.count, 2))[1:]]
        if wider is fractions:
            return tuple((float(at), finite(float(pcc))) for at, pcc in zip(thresholds, correlations, strict=True))
        fractions = wider


def _binding_ends(correlations: np.ndarray) -> tuple[bool, bool]:
    """Whether no threshold is better than the lowest, and none better than the highest."""
    if not np.isfinite(correlations).any():
        return False, False
    best = np.nanmax(correlations)
    return bool(correlations[0] == best), bool(correlations[-1] == best)


def _distance(value: float, low: float, high: float) -> float:
    """How far a value lies outside a range."""
    return max(low - value, value - high, 0.0)


@dataclass(frozen=True, eq=False)
class Projections:
    """Projections of the proximal femur, and BMD.

    Attributes:
        targets, predictions: (n, rows, columns), true and predicted, g/cm2.
        bmd: (n,), in the unit of a task; NaN where not known.
        patients: (n,), whose each is.
    """

    targets: np.ndarray
    predictions: np.ndarray
    bmd: np.ndarray
    patients: tuple[str, ...]

    def known(self) -> Projections:
        """Those whose BMD is known."""
        places = np.flatnonzero(np.isfinite(self.bmd))
        who = tuple(self.patients[n] for n in places)
        return Projections(self.targets[places], self.predictions[places], self.bmd[places], who)


def fit_line(
    task: Task,
    train: Projections,
    config: BmdConfig,
    *,
    largest_g_cm2: float,
    tune: Projections | None = None,
) -> BmdLine | None:
    """Choose the threshold and fit the line; patients that are held out take no part.

    Args:
        task: What `bmd` holds.
        train: Of the training patients.
        config: Settings of the sweep.
        largest_g_cm2: What the sweep's ends are fractions of.
        tune: Of the patients that the threshold is chosen on; None: of the training patients.

    Returns:
        None if fewer than two patients with different BMD are known.

    Source: Gu et al. 2023, doi 10.1016/j.media.2023.102970, section 3.2 and figure 4.
    """
    train = train.known()
    who = set(train.patients)
    if len(who) < 2 or np.ptp(train.bmd) == 0:
        return None
    chosen_on = train if tune is None or len(set(tune.known().patients)) < 3 else tune.known()
    own = None
    if config.threshold_on == "predictions":
        own, _, _ = _choose_threshold(chosen_on.targets, chosen_on, config, largest_g_cm2)
        threshold, pcc, sweep = _choose_threshold(chosen_on.predictions, chosen_on, config, largest_g_cm2)
    else:
        threshold, pcc, sweep = _choose_threshold(chosen_on.targets, chosen_on, config, largest_g_cm2)
    fitted = train.predictions if config.fit_on == "predictions" else train.targets
    means = means_above(fitted, [threshold])[:, 0]
    if np.ptp(means) == 0:
        return None
    slope, intercept = np.polyfit(means, train.bmd, 1)
    return BmdLine(task, threshold, float(slope), float(intercept), len(train.bmd), len(who), pcc, sweep, own)


def _choose_threshold(
    images: np.ndarray, of: Projections, config: BmdConfig, largest_g_cm2: float
) -> tuple[float, float | None, tuple[tuple[float, float | None], ...]]:
    """The threshold, g/cm2, that goes best with BMD, its correlation, and the sweep; the fallback below 3 patients."""
    if len(set(of.patients)) < 3:
        return config.fallback_threshold_g_cm2, None, ()
    sweep = sweep_thresholds(images, of.bmd, config, largest_g_cm2=largest_g_cm2)
    found = [(one, at) for at, one in sweep if one is not None]
    if not found:
        return config.fallback_threshold_g_cm2, None, sweep
    ends = config.lowest * largest_g_cm2, config.highest * largest_g_cm2
    pcc, threshold = max(found, key=lambda item: (item[0], -_distance(item[1], *ends)))
    return threshold, pcc, sweep
