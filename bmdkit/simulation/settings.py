"""What a simulation is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bmdkit.core.anatomy import Side
from bmdkit.simulation.exposure_site import check_site
from bmdkit.simulation.hip_variation import MOST_VARIATION
from bmdkit.simulation.population import Population

PoseName = Literal["standing", "supine", "abduction", "adduction"]
Given = Literal["labels", "landmarks"]
Stress = Literal["marker", "collimation", "blades", "offcentre", "pa", "implant"]


@dataclass(frozen=True)
class SimulateConfig:
    """What to simulate.

    Attributes:
        patients: Number of patients.
        poses: Radiographs of each patient.
        sides: Hips that become rows of the table.
        prefix: Beginning of the patients' names.
        give: Expert input that the cohort holds.
        stress: What makes it harder: a lead marker, crisp black borders (collimation), a collimator of any shape with
            penumbra and scatter (blades), a central ray off the middle, a source behind the patient (pa), a metal
            implant.
        stress_probability: Chance with which a radiograph has each of these; an implant is always there.
        site: Where the radiographs are taken. per-image: each has an exposure and a processing of its own; mixed: each
            patient has a site of his own; a number N: all at one site, the same for every seed; "N-M": each patient at
            one of these sites. A site has its distance, tube voltage, dose, scatter grid, detector and tone curve.
        population: Who the patients are.
        slice_mm: CT slice thickness.
        pixel_mm: Pixel of the radiographs, at the detector.
        prone: How the patients lie in the CT.
        full_size: CT slices of 512 x 512 instead of 256 x 256.
        grid_mm: Voxels of the anatomy.
        mineral: Factor of bone mineral for every patient; drawn if None.
        anatomy: A label map in place of the built-in anatomy.
        anatomy_labels: NAME=VALUE[,VALUE...] for a map without names.
        warp_mm: Random deformation of a label map.
        anatomies: Several anatomies at once, of which each patient draws one: label maps, and the word `procedural` for
            the built-in hip; one that is named twice is drawn twice as often. In place of `anatomy`.
        variation: How far the built-in hip differs beyond healthy adults of one population. 0: not; 1: angles, neck,
            trochanters, ilium, sacrum and girth as far as adults differ, with shallow and worn joints; at most 1.5. Of
            patients from a label map it is the girth alone.
    """

    patients: int = 4
    poses: tuple[PoseName, ...] = ("standing", "supine")
    sides: tuple[Side, ...] = ("L", "R")
    prefix: str = "sim"
    give: tuple[Given, ...] = ("labels", "landmarks")
    stress: tuple[Stress, ...] = ()
    stress_probability: float = 1.0
    site: int | str = "per-image"
    population: Population = field(default_factory=Population)
    slice_mm: float = 3.0
    pixel_mm: float = 0.5
    prone: bool = False
    full_size: bool = False
    grid_mm: float = 1.5
    mineral: float | None = None
    anatomy: Path | None = None
    anatomy_labels: tuple[str, ...] = ()
    warp_mm: float = 3.0
    anatomies: tuple[str, ...] = ()
    variation: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers and words."""
        for name in ("slice_mm", "pixel_mm", "grid_mm"):
            if not 0.05 <= getattr(self, name) <= 20:
                raise ValueError(f"{name}: expected 0.05 to 20 mm, got {getattr(self, name)}")
        if not 1 <= self.patients <= 100_000:
            raise ValueError(f"patients: expected 1 to 100000, got {self.patients}")
        for name in ("poses", "sides"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}: expected one or more, each once, got {values}")
        if not re.fullmatch(r"[A-Za-z0-9_-]{0,50}", self.prefix):
            raise ValueError(f"prefix: expected letters, digits, _ and - only, got {self.prefix!r}")
        if not 0 <= self.stress_probability <= 1:
            raise ValueError(f"stress_probability: expected 0 to 1, got {self.stress_probability}")
        check_site(self.site)
        if self.anatomies and self.anatomy is not None:
            raise ValueError("anatomies: expected none beside anatomy")
        if not 0 <= self.variation <= MOST_VARIATION:
            raise ValueError(f"variation: expected 0 to {MOST_VARIATION}, got {self.variation}")
        if self.mineral is not None and self.population.bmd_mean_g_cm2 is not None:
            raise ValueError("mineral: expected none beside population.bmd_mean_g_cm2, which decides it")
        if self.mineral is not None and not 0 <= self.mineral <= 5:
            raise ValueError(f"mineral: expected 0 to 5, got {self.mineral}")
