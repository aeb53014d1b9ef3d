"""Whether a radiograph looks to a network like those that it has learnt from: the distance of its features.

Source: Lee et al. 2018 (Mahalanobis distance of a network's features), arXiv 1807.03888; Tipping and Bishop 1999
(probabilistic principal components), doi 10.1111/1467-9868.00196.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bmdkit.evaluation.plausibility import Quality

MOST_DIRECTIONS = 32
"""Principal directions that are kept; what lies across them counts with one common variance."""

IMAGES_PER_DIRECTION = 4
"""Training images that each direction needs."""

ACCEPTED_SHARE = 0.98
"""Share of the images that the limit is read from which are accepted."""

REJECT_FACTOR = 1.5
"""A distance so many times the limit is rejected."""

LEAST_SPREAD = 1e-6
DIGITS = 10


@dataclass(frozen=True, eq=False)
class Familiarity:
    """The features of training images: where they lie, how they spread, and how far away is far.

    Attributes:
        mean, sd: (k,), mean and standard deviation of each feature.
        directions: (k, r), principal directions of the standardised features.
        variances: (r,), variance along each.
        rest: Mean variance across them.
        limit: Distance up to which an image is accepted.
        images: Number of the training images.
    """

    mean: np.ndarray
    sd: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    rest: float
    limit: float
    images: int

    @classmethod
    def of(cls, features: np.ndarray, others: np.ndarray) -> Familiarity:
        """Of training images.

        Args:
            features: (n, k) of the training images.
            others: (m, k) of images that the limit is read from: best of patients that nothing was learnt from, since
                the limit of the training images is too narrow for others.
        """
        mean, sd = features.mean(0), np.maximum(features.std(0), LEAST_SPREAD)
        scaled = (features - mean) / sd
        values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        count = max(min(MOST_DIRECTIONS, len(values) - 1, len(scaled) // IMAGES_PER_DIRECTION), 1)
        variances = np.maximum(values[::-1][:count], LEAST_SPREAD)
        rest = max(float(values[: len(values) - count].mean()), LEAST_SPREAD)
        found = cls(mean, sd, vectors[:, ::-1][:, :count], variances, rest, 1.0, len(features))
        limit = float(np.quantile([found.distance(row) for row in others], ACCEPTED_SHARE))
        return cls(mean, sd, found.directions, variances, rest, limit, len(features))

    def distance(self, features: np.ndarray) -> float:
        """Distance of one image's features (k,): about 1 for an image like those of the training."""
        scaled = (np.asarray(features, float) - self.mean) / self.sd
        along = scaled @ self.directions
        across = max(float(scaled @ scaled - along @ along), 0.0)
        return float(np.sqrt((np.sum(along**2 / self.variances) + across / self.rest) / len(scaled)))

    def strangeness(self, features: np.ndarray) -> float:
        """The distance in parts of the limit, for ranking: above 1 the image is unfamiliar."""
        return self.distance(features) / self.limit

    def check(self, features: np.ndarray) -> tuple[Quality, tuple[str, ...]]:
        """Compare an image with the training images.

        Returns:
            accept, review or reject; and what was measured against what is allowed, in words.
        """
        return rate_against(self.limit, self.distance(features), "unlike the training images: distance")

    def to_dict(self) -> dict[str, Any]:
        """As plausibility.json has it."""
        arrays = ("mean", "sd", "directions", "variances")
        rounded = {name: np.round(getattr(self, name), DIGITS).tolist() for name in arrays}
        return {**rounded, "rest": self.rest, "limit": self.limit, "images": self.images}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Familiarity:
        """Undo `to_dict`."""
        mean, sd, directions, variances = (
            np.array(data[name], float) for name in ("mean", "sd", "directions", "variances")
        )
        return cls(mean, sd, directions, variances, float(data["rest"]), float(data["limit"]), int(data["images"]))


def rate_against(limit: float, value: float, what: str) -> tuple[Quality, tuple[str, ...]]:
    """Compare what is measured of an image with its limit.

    Args:
        limit: Value up to which an image is accepted; one that is `REJECT_FACTOR` times as large is rejected.
        value: Value of the image.
        what: What is wrong where it is larger, and what the value is.

    Returns:
        accept, review or reject; and what was measured against what is allowed, in words.
    """
    if value <= limit:
        return "accept", ()
    reason = f"{what} {value:.3g}, expected up to {limit:.3g}"
    return ("reject" if value > REJECT_FACTOR * limit else "review"), (reason,)
