"""Named points of one hip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bmdkit.core.anatomy import LANDMARKS, Side, require_side
from bmdkit.core.grid import frozen


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The landmarks of one proximal femur; a scan need not show all of them.

    Attributes:
        side: The patient's own side.
        points_mm: Name (of `anatomy.LANDMARKS`) -> (3,), LPS, mm.

    Example:
        >>> points = Landmarks("L", {"head_center": (80.0, -10.0, 940.0)})
        >>> points["head_center"][2].item(), len(points.missing())
        (940.0, 7)
    """

    side: Side
    points_mm: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        """Check the side, the names and the points, and make the points read-only."""
        require_side(self.side)
        unknown = set(self.points_mm) - set(LANDMARKS)
        if unknown:
            raise ValueError(f"points_mm: unknown landmarks {sorted(unknown)}; expected {LANDMARKS}")
        points = {name: frozen(np.array(self.points_mm[name], float)) for name in LANDMARKS if name in self.points_mm}
        for name, point in points.items():
            if point.shape != (3,) or not np.isfinite(point).all():
                raise ValueError(f"points_mm[{name!r}]: expected three finite numbers, got {point!r}")
        object.__setattr__(self, "points_mm", points)

    def __repr__(self) -> str:
        """Side and number of points in one line."""
        return f"Landmarks({self.side}, {len(self.points_mm)} of {len(LANDMARKS)} points)"

    def __getitem__(self, name: str) -> np.ndarray:
        """(3,), one landmark, LPS, mm."""
        return self.points_mm[name]

    def __contains__(self, name: str) -> bool:
        """Whether a landmark is there."""
        return name in self.points_mm

    def missing(self) -> tuple[str, ...]:
        """Names of the eight that are not there."""
        return tuple(name for name in LANDMARKS if name not in self.points_mm)

    def junction(self) -> np.ndarray:
        """(4, 3), the four points of the head-neck junction: superior, inferior, anterior, posterior."""
        return np.stack([self[f"junction_{where}"] for where in ("superior", "inferior", "anterior", "posterior")])
