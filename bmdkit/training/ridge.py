"""BMD by ridge regression on what a decomposition network sees: a closed form, with nothing to train.

Source: Hoerl and Kennard 1970, doi 10.1080/00401706.1970.10488634.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bmdkit.dataset.samples import DENSEST
from bmdkit.dataset.splits import assign_folds
from bmdkit.models.generators import Generator
from bmdkit.models.regression_head import Reads
from bmdkit.training.bone_density import Task, means_above
from bmdkit.training.pair_batches import unscale_density

STRENGTHS = tuple(10.0 ** (n / 2) for n in range(-4, 13))
"""Penalties that are tried, in multiples of the number of images."""

FRACTIONS = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Thresholds of the projection's statistics, as parts of the scale of its images."""

LEAST_SPREAD = 1e-6
"""A feature whose standard deviation is smaller counts as constant."""

FEWEST_TUNE = 10
"""Tune patients that choose a strength by themselves."""

MOVED = 32
"""Part of its height by which a radiograph is moved."""

FOLDS = 10
"""Parts of the patients, each held out in turn, where the tune patients are fewer."""


@dataclass(frozen=True, eq=False)
class Readable:
    """Images of which BMD is known, as a regression reads them.

    Attributes:
        features: (n, k), see `read_features`.
        bmd: (n,), in the task's unit.
        patients: Identifier of each image's patient.
    """

    features: np.ndarray
    bmd: np.ndarray
    patients: Sequence[str]

    def take(self, chosen: np.ndarray) -> Readable:
        """Some of the images, (n,) bool."""
        patients = [patient for patient, is_chosen in zip(self.patients, chosen, strict=True) if is_chosen]
        return Readable(self.features[chosen], self.bmd[chosen], patients)

    def join(self, other: Readable) -> Readable:
        """These images and others."""
        features, bmd = np.concatenate([self.features, other.features]), np.concatenate([self.bmd, other.bmd])
        return Readable(features, bmd, [*self.patients, *other.patients])


@dataclass(frozen=True)
class RidgeReadout:
    """BMD = intercept + sum of weight * (feature - mean) / sd.

    Attributes:
        task: dxa (g/cm2) or qct (mg/cm3).
        intercept: BMD of the mean features, in the task's unit.
        weights: One for each feature, in the task's unit.
        means, sds: Mean and standard deviation of each feature over the training images.
        strength: Penalty of the weights, in multiples of the number of images.
        reads: What the features are of, see `read_features`.
        lows, highs: Least and largest value of each feature: what lies beyond is taken as these. Empty: no limits.
    """

    task: Task
    intercept: float
    weights: tuple[float, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]
    strength: float
    reads: Reads = "fused"
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()

    def bmd(self, features: np.ndarray) -> np.ndarray:
        """BMD (n,) of features (n, k), in the task's unit."""
        if self.lows:
            features = np.clip(features, self.lows, self.highs)
        scaled = (features - np.array(self.means)) / np.array(self.sds)
        found: np.ndarray = self.intercept + scaled @ np.array(self.weights)
        return found

    def to_dict(self) -> dict[str, Any]:
        """As run.json has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RidgeReadout:
        """Undo `to_dict`."""
        names = ("weights", "means", "sds", "lows", "highs")
        lists = {name: tuple(float(one) for one in values.get(name, ())) for name in names}
        return cls(**{**values, **lists})


def fit_ridge(task: Task, train: Readable, tune: Readable, *, reads: Reads = "fused") -> RidgeReadout:
    """Fit a ridge regression; held-out patients choose its strength by their squared errors.

    At least `FEWEST_TUNE` tune patients choose by themselves: the strongest whose loss against the best, patient by
    patient, is within its standard error. A constant alone goes without penalty. What fewer choose is chance, and often
    far too weak. Then the training patients choose with them, a tenth of all held out at a time: the strongest within
    one standard error of the best, fitted to all. What goes without penalty is then a line in the mean of the
    projection, so that a large penalty leaves what a decomposition tells by itself.

    Features are limited to what was learnt from, since a straight line has no meaning far beyond it: a network that
    draws one radiograph badly would make any number of it. What follows BMD itself, the means of the projection, may
    go on, since BMD beyond what was learnt from has to be told: all of them, or with a line that of the line.

    Args:
        task: What is read.
        train: Training images.
        tune: Images of the tune patients.
        reads: What the features are of.

    Source: the rule of one standard error, Breiman et al. 1984, Classification and Regression Trees, section 3.4.3.
    """
    if can_choose(tune.patients):
        plain = _Penalised(train, None)
        tried = [plain.readout(task, strength, reads) for strength in STRENGTHS]
        squares = np.array([(one.bmd(tune.features) - tune.bmd) ** 2 for one in tried])
        return tried[_choose_strength(_average_by_patient(squares, tune.patients), paired=True)]
    known, place = train.join(tune), len(STRENGTHS) - 1
    if len(set(known.patients)) > 1:
        place = _choose_strength(_measure_errors(known), paired=False)
    return _Penalised(known, find_line_feature(known)).readout(task, STRENGTHS[place], reads)


def can_choose(tune_patients: Sequence[str]) -> bool:
    """Whether the tune patients choose a strength by themselves; if not, they are learnt from too."""
    return len(set(tune_patients)) >= FEWEST_TUNE


def _choose_strength(errors: np.ndarray, *, paired: bool) -> int:
    """Place of the strongest whose mean error exceeds the least by no more than one standard error.

    Args:
        errors: (strengths, patients), see `_average_by_patient`.
        paired: Whether the standard error is that of the excess, patient by patient, or that of the least error.
    """
    means = errors.mean(axis=1)
    best = errors[np.argmin(means)]
    doubtful = errors - best if paired else best
    allowed = means.min() + doubtful.std(axis=-1, ddof=1) / np.sqrt(len(best))
    return int(np.flatnonzero(means <= allowed)[-1])


def find_line_feature(known: Readable) -> int:
    """Which mean of the projection, one for each threshold of `FRACTIONS`, goes most nearly with BMD on a line."""
    means = known.features[:, : len(FRACTIONS)]
    apart, bmd = means - means.mean(0), known.bmd - known.bmd.mean()
    size = np.sqrt((apart**2).sum(0) * (bmd**2).sum())
    return int(np.argmax(np.abs(bmd @ apart) / np.maximum(size, LEAST_SPREAD)))


class _Penalised:
    """Ridge regressions of any strength on the same images.

    Args:
        known: Images to learn from.
        line: Feature on which BMD has a line without penalty; None: a constant alone.
    """

    def __init__(self, known: Readable, line: int | None) -> None:
        """Take out what is not penalised, and decompose the rest once for all strengths."""
        self._known, self._line = known, line
        free = [np.ones(len(known.bmd)), *([] if line is None else [known.features[:, line]])]
        base = np.column_stack(free)
        solved = np.linalg.lstsq(base, np.column_stack([known.features, known.bmd]), rcond=None)[0]
        self._of_features, self._of_bmd = solved[:, :-1], solved[:, -1]
        apart = known.features - base @ self._of_features
        sds = apart.std(0)
        self._sds = np.where(sds < LEAST_SPREAD, np.inf, sds)  # a constant feature takes no part
        left, self._values, self._right = np.linalg.svd(apart / self._sds, full_matrices=False)
        self._target = left.T @ (known.bmd - base @ self._of_bmd)

    def readout(self, task: Task, strength: float, reads: Reads) -> RidgeReadout:
        """The regression of one strength."""
        features, values = self._known.features, self._values
        penalised = self._right.T @ (values / (values**2 + strength * len(features)) * self._target)
        slopes = penalised / self._sds
        constant, *slope_of_line = self._of_bmd - self._of_features @ slopes
        limits = np.array([features.min(0), features.max(0)])
        limits[:, slice(len(FRACTIONS)) if self._line is None else [self._line]] = [[0.0], [DENSEST]]
        lows, highs = (tuple(map(float, row)) for row in limits)
        if self._line is not None:
            slopes[self._line] += slope_of_line[0]
        means, sds = features.mean(0), features.std(0)
        sds = np.where(sds < LEAST_SPREAD, 1.0, sds)
        intercept = float(constant + means @ slopes)
        return RidgeReadout(
            task, intercept, tuple(slopes * sds), tuple(means), tuple(sds), strength, reads, lows, highs
        )


def _measure_errors(known: Readable) -> np.ndarray:
    """(strengths, patients) mean squared errors; a tenth of the patients at a time is told by what the others show."""
    patients = sorted(set(known.patients))
    folds = assign_folds(patients, seed=0, folds=min(FOLDS, len(patients)))
    numbers = np.array([folds[patient] for patient in known.patients])
    squares = np.zeros((len(STRENGTHS), len(numbers)))
    for fold in sorted(set(folds.values())):
        learnt, held = known.take(numbers != fold), known.take(numbers == fold)
        regressions = _Penalised(learnt, find_line_feature(learnt))
        for place, strength in enumerate(STRENGTHS):
            found = regressions.readout("dxa", strength, "fused").bmd(held.features)
            squares[place, numbers == fold] = (found - held.bmd) ** 2
    return _average_by_patient(squares, known.patients)


def _average_by_patient(values: np.ndarray, owners: Sequence[str]) -> np.ndarray:
    """Means (k, patients) of values (k, n) over the images of each patient, sorted."""
    _, numbers = np.unique(np.array(owners), return_inverse=True)
    return np.array([np.bincount(numbers, row) for row in values]) / np.bincount(numbers)


@torch.inference_mode()
def read_features(
    generator: Generator, xrays: Tensor, masks: Tensor, scale_g_cm2: float, *, reads: Reads = "fused"
) -> np.ndarray:
    """Describe each radiograph by what a decomposition network sees in it.

    Of the projection: for each threshold of `FRACTIONS` the mean over it and the part of the image over it. Of the
    fused map, or of the maps of all levels: mean and standard deviation of each channel, weighted with the projection.
    With all levels the features are the mean over the radiograph and the mirrored one, which is a hip as well; of a
    moved one each also moved up and down by one part in `MOVED` of its height: what a network tells changes with where
    its pixels lie.

    Args:
        generator: Network of dataset B, in evaluation mode.
        xrays: (N, 1, H, W), in [-1, 1].
        masks: (N, 1, H, W), 1 where a radiograph is image.
        scale_g_cm2: Areal density of the image value 1.
        reads: Whether the fused map alone is described, or all levels, or these of moved radiographs too.

    Returns:
        (N, features).
    """
    device = next(generator.parameters()).device
    rows = []
    for xray, mask in zip(xrays.split(16), masks.split(16), strict=True):
        shown, inside = xray.to(device, torch.float32), mask.to(device) > 0
        views = _list_views(shown, inside, reads)
        told = [_describe_batch(generator, image, mask, scale_g_cm2, reads) for image, mask in views]
        rows.append(np.mean(told, axis=0))
    return np.concatenate(rows)


def _list_views(xray: Tensor, inside: Tensor, reads: Reads) -> list[tuple[Tensor, Tensor]]:
    """Radiographs and masks (B, 1, H, W) whose features count alike; what is moved repeats its border."""
    views = [(xray, inside)]
    if reads == "moved":
        step, rows = max(round(xray.shape[-2] / MOVED), 1), torch.arange(xray.shape[-2], device=xray.device)
        places = [(rows + shift).clamp(0, len(rows) - 1) for shift in (-step, step)]
        views += [(xray[..., place, :], inside[..., place, :]) for place in places]
    return views if reads == "fused" else views + [(image.flip(-1), mask.flip(-1)) for image, mask in views]


def _describe_batch(generator: Generator, xray: Tensor, inside: Tensor, scale_g_cm2: float, reads: Reads) -> np.ndarray:
    """Features (B, k) of radiographs (B, 1, H, W) as they are."""
    maps, levels = generator.encoder.maps_and_levels(xray)
    image = unscale_density(generator.decoder(*maps).float(), scale_g_cm2)[:, :1]
    image = torch.where(inside, image, 0.0)
    pooled = [_pool_map(one.float(), image) for one in (maps[0], *(() if reads == "fused" else levels))]
    return np.concatenate([_describe_image(image, scale_g_cm2), *pooled], axis=1)


def _describe_image(image: Tensor, scale_g_cm2: float) -> np.ndarray:
    """Statistics (N, 2 * thresholds) of projections (N, 1, H, W), g/cm2."""
    pixels = image[:, 0].cpu().numpy()
    thresholds = np.array(FRACTIONS) * scale_g_cm2
    areas = (pixels[:, None] >= thresholds[None, :, None, None]).mean((2, 3))
    return np.concatenate([means_above(pixels, thresholds), areas], axis=1)


def _pool_map(fused: Tensor, image: Tensor) -> np.ndarray:
    """Weighted mean and standard deviation (N, 2 C) of a map (N, C, h, w); the weight is the projection."""
    weight = torch.nn.functional.interpolate(image, fused.shape[-2:], mode="area")
    weight = weight / weight.sum((2, 3), keepdim=True).clamp(min=1e-6)
    mean = (weight * fused).sum((2, 3))
    square = (weight * (fused - mean[:, :, None, None]).square()).sum((2, 3))
    return torch.cat([mean, square.sqrt()], dim=1).cpu().numpy().astype(np.float64)
