"""Whether what an encoder makes of a radiograph looks like what it made of the training patients' ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bmdkit.evaluation.plausibility import Quality

MOST_COMPONENTS = 8
PARTS = 5
REJECT = 2.0
"""Beyond so many times the largest distance of a training image that the rest did not know, it is rejected."""


@dataclass(frozen=True, eq=False)
class RepresentationPlausibility:
    """The space in which the features of training images lie, and how far out of it one of them was at most.

    Attributes:
        mean: (d,), mean of the features.
        axes: (k, d), orthonormal, the directions in which they differ most.
        sd: (k,), standard deviation along each.
        rest_sd: Root mean square of what is left beyond those directions.
        largest: Largest distance of an image of patients that were left out in turn.
        images: Number of images.
    """

    mean: np.ndarray
    axes: np.ndarray
    sd: np.ndarray
    rest_sd: float
    largest: float
    images: int

    @classmethod
    def of(cls, features, patients: Sequence[str]) -> RepresentationPlausibility:
        """Learn it from the features (n, d) of training images, patients left out in five parts for `largest`.

        Raises:
            ValueError: Fewer than three patients, or features that are not finite.
        """
        values, names = np.asarray(features, float), np.asarray([str(name) for name in patients])
        distinct = np.unique(names)
        if len(distinct) < 3 or values.shape[:1] != names.shape or not np.isfinite(values).all():
            raise ValueError(f"features: expected finite ones of three patients or more, got {len(distinct)}")
        part = np.searchsorted(distinct, names) % min(PARTS, len(distinct))
        largest = 0.0
        for place in np.unique(part):
            known = cls._fit(values[part != place], len(np.unique(names[part != place])))
            largest = max(largest, *(known._distance(one) for one in values[part == place]))
        fitted = cls._fit(values, len(distinct))
        return cls(fitted.mean, fitted.axes, fitted.sd, fitted.rest_sd, max(largest, 1e-12), len(values))

    @classmethod
    def _fit(cls, values: np.ndarray, patients: int) -> RepresentationPlausibility:
        mean = values.mean(0)
        _, singular, right = np.linalg.svd(values - mean, full_matrices=False)
        count = max(1, min(MOST_COMPONENTS, patients // 3, int((singular > 1e-9 * max(singular[0], 1e-300)).sum())))
        axes, sd = right[:count], singular[:count] / np.sqrt(len(values))
        rest = float(np.sqrt(np.sum(singular[count:] ** 2) / len(values)))
        scale = float(np.sqrt(np.mean(values**2))) or 1.0
        return cls(mean, axes, np.maximum(sd, 1e-9 * scale), max(rest, 1e-6 * scale), 1.0, len(values))

    def _distance(self, features: np.ndarray) -> float:
        """Root mean square of the standardised places along the axes and of what is left beyond them."""
        centred = np.asarray(features, float) - self.mean
        along = self.axes @ centred
        beyond = float(np.linalg.norm(centred - self.axes.T @ along)) / self.rest_sd
        return float(np.sqrt(np.mean(np.append(along / self.sd, beyond) ** 2)))

    def strangeness(self, features) -> float:
        """Distance of an image (d,), 1 for the farthest one of patients that were left out."""
        return self._distance(np.asarray(features, float)) / self.largest

    def check(self, features) -> tuple[Quality, tuple[str, ...]]:
        """Compare an image (d,) with the training images.

        Returns:
            accept: no farther than one of them was; review: up to twice as far; reject: farther. And what was found.
        """
        found = self.strangeness(features)
        if found <= 1:
            return "accept", ()
        quality: Quality = "review" if found <= REJECT else "reject"
        return quality, (f"the network sees an image {found:.3g} times as strange as any of its training",)

    def to_dict(self) -> dict[str, Any]:
        """As plausibility.json of a regression has it."""
        return {
            "mean": self.mean.tolist(),
            "axes": self.axes.tolist(),
            "sd": self.sd.tolist(),
            "rest_sd": self.rest_sd,
            "largest": self.largest,
            "images": self.images,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RepresentationPlausibility:
        """Undo `to_dict`."""
        mean, axes, sd = (np.array(data[name], float) for name in ("mean", "axes", "sd"))
        if axes.shape != (len(sd), len(mean)):
            raise ValueError(f"axes: expected shape ({len(sd)}, {len(mean)}), got {axes.shape}")
        return cls(mean, axes, sd, float(data["rest_sd"]), float(data["largest"]), int(data["images"]))
