"""Sites: rooms with a protocol, a grid, a detector and a processing of their own, alike within and unlike between."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bmdkit.simulation.exposure import ExposureSettings
from bmdkit.simulation.presentation import Processing

SiteWord = Literal["per-image", "mixed"]
"""No site, each radiograph its own exposure; or each patient a site of his own."""

SCATTER_TO_PRIMARY, COMPRESSION, GAMMA, TOE = (0.1, 0.5), (-0.15, 0.55), (0.8, 1.5), (0.0, 0.6)
"""Ranges over which rooms differ; a compression below 0 is none: one room in five leaves the dynamic range as it is."""
LOW_PERCENTILE, HIGH_PERCENTILE = (0.2, 4.0), (99.3, 99.95)
"""Ranges of the percentiles that windows begin and end at."""

_ROOMS, _PATIENTS = 7001, 7002  # streams of random numbers apart from those of the patients' bodies
_RANGE = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class Site:
    """How a room takes and shows radiographs of the hip.

    Attributes:
        sdd_mm: Distance from source to detector.
        exposure: Tube, scatter grid and detector.
        processing: What the vendor makes of the signal.
    """

    sdd_mm: float
    exposure: ExposureSettings
    processing: Processing

    def vary_exposure(self, rng: np.random.Generator) -> ExposureSettings:
        """The exposure of one radiograph: the automatic control and the scatter of this patient differ a little."""
        usual = self.exposure
        return replace(
            usual,
            photons=float(usual.photons * np.exp(rng.normal(0, 0.1))),
            scatter_to_primary=float(usual.scatter_to_primary * np.exp(rng.normal(0, 0.06))),
        )


def draw_site(rng: np.random.Generator) -> Site:
    """Draw a room: everything that hospitals do differently, over the range that they do."""
    return Site(
        sdd_mm=float(rng.choice([1000.0, 1050.0, 1100.0, 1150.0, 1200.0])),
        exposure=ExposureSettings(
            kvp=float(rng.choice([65, 70, 75, 80, 85, 90])),
            filter_mm_al=float(rng.uniform(2.5, 5.0)),
            scatter_to_primary=float(rng.uniform(*SCATTER_TO_PRIMARY)),
            scatter_mm=float(rng.uniform(25.0, 50.0)),
            blur_mm=float(rng.uniform(0.1, 0.5)),
            photons=float(10 ** rng.uniform(5.0, 6.1)),
        ),
        processing=Processing(
            compression=float(max(rng.uniform(*COMPRESSION), 0.0)),
            gamma=float(rng.uniform(*GAMMA)),
            toe=float(rng.uniform(*TOE)),
            sharpening=float(rng.uniform(0.0, 0.8)),
            low_percentile=float(rng.uniform(*LOW_PERCENTILE)),
            high_percentile=float(rng.uniform(*HIGH_PERCENTILE)),
            behind_blades=float(rng.uniform(0.05, 0.8)),
        ),
    )


def find_site(choice: int | str, seed: int, patient: int) -> Site | None:
    """Find the site where a patient is examined; None where every radiograph has an exposure of its own.

    Args:
        choice: "per-image"; "mixed", each patient a site of his own; a number N, one site, the same for every seed; or
            a text "N-M", each patient one of these sites.
        seed: Seed of the cohort.
        patient: Number of the patient.

    Raises:
        ValueError: The choice is none of these.
    """
    check_site(choice)
    if choice == "per-image":
        return None
    rng = np.random.default_rng([_PATIENTS, seed, patient])
    if choice == "mixed":
        return draw_site(rng)
    found = _RANGE.fullmatch(str(choice))
    number = int(rng.integers(int(found[1]), int(found[2]) + 1)) if found else int(choice)
    return draw_site(np.random.default_rng([_ROOMS, number]))


def check_site(choice: int | str) -> None:
    """Check a choice of sites.

    Raises:
        ValueError: It is none.
    """
    if isinstance(choice, str):
        found = _RANGE.fullmatch(choice)
        good = choice in ("per-image", "mixed") or choice.isdigit() or (found and int(found[1]) <= int(found[2]))
    else:
        good = choice >= 0
    if not good:
        raise ValueError(f"site: expected per-image, mixed, a whole number or N-M, got {choice!r}")
