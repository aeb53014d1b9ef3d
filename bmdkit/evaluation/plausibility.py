"""Whether a predicted projection looks like those of the training patients: its area, place, extent and density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Quality = Literal["accept", "review", "reject"]

WIDTH_SD = 4.0
FLOORS = {"area": 0.02, "row": 0.04, "column": 0.06, "height": 0.02, "width": 0.03, "density": 0.1}
"""The least allowed deviation, for training sets too small or too alike: parts of the image, and of density."""


@dataclass(frozen=True)
class Plausibility:
    """What the silhouettes of a training set are like.

    Attributes:
        threshold_g_cm2: Where a silhouette begins.
        mean, sd: Mean and standard deviation of each feature: area, row and column (of the centre), height and width
            (standard deviations about it) as parts of the image, and mean density; columns counted
            from the patient's midline outward.
        images: Number of images.
    """

    threshold_g_cm2: float
    mean: Mapping[str, float]
    sd: Mapping[str, float]
    images: int

    @classmethod
    def of(cls, drrs: np.ndarray, sides: Sequence[str], threshold_g_cm2: float) -> Plausibility:
        """Of true projections of the proximal femur (n, rows, columns), g/cm2; empty ones are left out.

        Raises:
            ValueError: All are empty.
        """
        found = [silhouette(drr, side, threshold_g_cm2) for drr, side in zip(drrs, sides, strict=True)]
        table = np.array([list(one.values()) for one in found if one is not None])
        if not len(table):
            raise ValueError(f"drrs: expected pixels of at least {threshold_g_cm2:g} g/cm2, got none")
        means, sds = table.mean(0).tolist(), table.std(0).tolist()
        return cls(
            threshold_g_cm2, dict(zip(FLOORS, means, strict=True)), dict(zip(FLOORS, sds, strict=True)), len(table)
        )

    def check(self, drr: np.ndarray, side: str) -> tuple[Quality, tuple[str, ...]]:
        """Compare a projection (rows, columns), g/cm2, with the training set.

        Returns:
            accept: nothing is unusual; review: one feature is; reject: several are, or there is no silhouette. And what
            was measured against what is allowed, in words.
        """
        found = silhouette(drr, side, self.threshold_g_cm2)
        if found is None:
            return "reject", (f"no pixel of {self.threshold_g_cm2:.3g} or more",)
        reasons = []
        for name, departure in self._departures(found).items():
            if departure > 1:
                low, high = (self.mean[name] + sign * self._reach(name) for sign in (-1, 1))
                reasons.append(f"{name} {found[name]:.3g}, expected {max(low, 0):.3g} to {high:.3g}")
        return ("accept", "review", "reject")[min(len(reasons), 2)], tuple(reasons)

    def strangeness(self, drr: np.ndarray, side: str) -> float:
        """How unusual a projection is, for ranking: the sum of its departures, each 1 where it is only just allowed.

        Infinite where there is no silhouette.
        """
        found = silhouette(drr, side, self.threshold_g_cm2)
        return float("inf") if found is None else sum(self._departures(found).values())

    def _departures(self, found: Mapping[str, float]) -> dict[str, float]:
        return {name: abs(value - self.mean[name]) / self._reach(name) for name, value in found.items()}

    def _reach(self, name: str) -> float:
        return max(WIDTH_SD * self.sd[name], FLOORS[name])

    def to_dict(self) -> dict[str, Any]:
        """As plausibility.json has it."""
        return {
            "threshold_g_cm2": self.threshold_g_cm2,
            "mean": dict(self.mean),
            "sd": dict(self.sd),
            "images": self.images,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plausibility:
        """Undo `to_dict`."""
        mean, sd = ({name: float(data[key][name]) for name in FLOORS} for key in ("mean", "sd"))
        return cls(float(data["threshold_g_cm2"]), mean, sd, int(data["images"]))


def silhouette(drr: np.ndarray, side: str, threshold_g_cm2: float) -> dict[str, float] | None:
    """The features of one projection (rows, columns), g/cm2; None if it is empty."""
    inside = np.asarray(drr) >= threshold_g_cm2
    if not inside.any():
        return None
    rows, columns = np.nonzero(inside)
    down, across = (rows + 0.5) / inside.shape[0], (columns + 0.5) / inside.shape[1]
    outward = across if side == "L" else 1 - across  # the patient's left is on the image's right
    return {
        "area": float(inside.mean()),
        "row": float(down.mean()),
        "column": float(outward.mean()),
        "height": float(down.std()),
        "width": float(outward.std()),
        "density": float(np.asarray(drr, np.float64)[inside].mean()),
    }
