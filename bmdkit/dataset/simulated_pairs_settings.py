"""What pairs to simulate."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from bmdkit.core.anatomy import Side
from bmdkit.dataset.pairs import PairConfig
from bmdkit.dataset.splits import FOLDS
from bmdkit.simulation.population import Population
from bmdkit.simulation.settings import PoseName, SimulateConfig, Stress


@dataclass(frozen=True)
class SimulatePairsConfig:
    """What pairs to simulate.

    Attributes:
        count: Number of pairs of each dataset. A patient gives one for each of its poses and sides; the last may give
            fewer.
        poses: Radiographs of each patient.
        sides: Target hips.
        prefix: Beginning of the patients' names.
        stress: Difficulties of the radiographs: a lead marker, crisp black borders (collimation), a collimator of
            any shape with penumbra and scatter (blades), a central ray off the middle.
        stress_probability: Chance with which a radiograph has each of these.
        site: Where the radiographs are taken, as in `SimulateConfig`: per-image, mixed, a number, or "N-M".
        population: Who the patients are.
        pixel_mm: Pixel size of the radiographs at the detector; 0.7 has as many pixels as a pair.
        grid_mm: Edge of the voxels of the anatomy, and so of the targets.
        uncalibrated: Whether the targets hold HU in place of density, as those of CTs without a phantom do, of a
            scanner of each patient's own. BMD stays what it is.
        mineral: Factor of bone mineral for every patient; drawn if None.
        anatomy: Label map in place of the built-in anatomy.
        anatomy_labels: Names of the values, NAME=VALUE[,VALUE...], for a map without names.
        warp_mm: Size of the random deformation of a label map.
        anatomies: Several anatomies at once, of which each patient draws one, as in `SimulateConfig`.
        variation: How far the built-in hip differs beyond healthy adults, as in `SimulateConfig`.
        layers: Whether each pair of dataset B keeps what its radiograph was made of, for `reexposure` of a training.
        folds: Number of folds.
        pairs: Settings of how pairs are cut.
    """

    count: int = 64
    poses: tuple[PoseName, ...] = ("standing", "supine", "abduction", "adduction")
    sides: tuple[Side, ...] = ("L", "R")
    prefix: str = "sim"
    stress: tuple[Stress, ...] = ()
    stress_probability: float = 1.0
    site: int | str = "per-image"
    population: Population = field(default_factory=Population)
    pixel_mm: float = 0.7
    grid_mm: float = 2.0
    uncalibrated: bool = False
    mineral: float | None = None
    anatomy: Path | None = None
    anatomy_labels: tuple[str, ...] = ()
    warp_mm: float = 3.0
    anatomies: tuple[str, ...] = ()
    variation: float = 0.0
    layers: bool = False
    folds: int = FOLDS
    pairs: PairConfig = field(default_factory=PairConfig)

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= self.count <= 10_000_000:
            raise ValueError(f"count: expected 1 to 10000000 pairs, got {self.count}")
        if self.folds < 1:
            raise ValueError(f"folds: expected a positive number, got {self.folds}")
        if "implant" in self.stress:
            raise ValueError("stress: implant is of the CT alone")
        if not re.fullmatch(r"[A-Za-z0-9_-]{0,50}", self.prefix):
            raise ValueError(f"prefix: expected letters, digits, _ and - only, got {self.prefix!r}")
        self.cohort()  # checks what both have

    def cohort(self) -> SimulateConfig:
        """The settings of the same patients as a cohort."""
        return SimulateConfig(
            patients=min(self.patients, 100_000),
            poses=self.poses,
            sides=self.sides,
            stress=self.stress,
            stress_probability=self.stress_probability,
            site=self.site,
            population=self.population,
            pixel_mm=self.pixel_mm,
            grid_mm=self.grid_mm,
            mineral=self.mineral,
            anatomy=self.anatomy,
            anatomy_labels=self.anatomy_labels,
            warp_mm=self.warp_mm,
            anatomies=self.anatomies,
            variation=self.variation,
        )

    @property
    def views(self) -> tuple[tuple[PoseName, Side], ...]:
        """Pose and side of each pair of one patient."""
        return tuple((pose, side) for pose in self.poses for side in self.sides)

    @property
    def patients(self) -> int:
        """How many it takes."""
        return -(-self.count // max(len(self.views), 1))

    def plan(self) -> dict[str, tuple[tuple[PoseName, Side], ...]]:
        """Patient -> its pairs."""
        digits = max(len(str(self.patients - 1)), 4)
        names = [f"{self.prefix}{number:0{digits}d}" for number in range(self.patients)]
        own = len(self.views)
        return {name: self.views[: min(own, self.count - n * own)] for n, name in enumerate(names)}
