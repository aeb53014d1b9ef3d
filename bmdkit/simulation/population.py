"""Who the patients of a cohort are: sex, bone mineral density, inner structure of the bone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Sex = Literal["female", "male"]

_STREAM = 7003  # of random numbers, apart from those of the patients' bodies
_MALE_MORE_G_CM2 = 0.11
USUAL_HEAD_MM = 24.0
"""Radius of the femoral heads of the size that a population's BMD is told of, where BMD follows size."""
_REACH_SD = 2.8
_SD_WITHIN_REACH = 0.97747  # SD of a standard normal variable within 2.8 SD


@dataclass(frozen=True)
class Population:
    """Who the patients are.

    Attributes:
        bmd_mean_g_cm2: Mean areal BMD of the proximal femur; None: whatever a random factor of mineral gives.
        bmd_sd_g_cm2: Standard deviation of that BMD between patients.
        female_share: Share of women, who are smaller, wider in the pelvis and of less BMD; None: one group.
        pose_spread: Factor of the spread of pelvis and femurs about the mean of a pose.
        texture_spread: Spread (SD of the logarithm) of the strength of the spongy bone's texture between patients.
        cortex_spread: Spread (SD of the logarithm) of the thickness of the cortex between patients of one BMD.
        pattern_spread: Spread (SD of the logarithm) of how far the femur's spongy bone is denser along the compressive
            trabeculae and in the head than in the trochanter.
        size_exponent: Power of the bones' size that areal BMD grows with: 0, not at all; 1, as it does where density in
            three dimensions knows nothing of size, since a larger bone is thicker along the ray.

    Source of `size_exponent`: Carter et al. 1992, doi 10.1002/jbmr.5650070204.
    """

    bmd_mean_g_cm2: float | None = None
    bmd_sd_g_cm2: float = 0.15
    female_share: float | None = None
    pose_spread: float = 1.0
    texture_spread: float = 0.0
    cortex_spread: float = 0.0
    pattern_spread: float = 0.0
    size_exponent: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.bmd_mean_g_cm2 is not None and not 0.3 <= self.bmd_mean_g_cm2 <= 1.5:
            raise ValueError(f"bmd_mean_g_cm2: expected 0.3 to 1.5, got {self.bmd_mean_g_cm2}")
        if self.female_share is not None and not 0 <= self.female_share <= 1:
            raise ValueError(f"female_share: expected 0 to 1, got {self.female_share}")
        limits = {"bmd_sd_g_cm2": 0.4, "pose_spread": 3, "texture_spread": 1, "cortex_spread": 0.6}
        limits |= {"pattern_spread": 1, "size_exponent": 3}
        for name, most in limits.items():
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name}: expected 0 to {most}, got {getattr(self, name)}")
        if self.bmd_mean_g_cm2 is not None and self._between() > self.bmd_sd_g_cm2:
            raise ValueError(f"bmd_sd_g_cm2: expected at least {self._between():.3f}, the spread between the sexes")

    def _between(self) -> float:
        """SD of BMD that the difference between the sexes makes, g/cm2."""
        share = 1.0 if self.female_share is None else self.female_share
        return _MALE_MORE_G_CM2 * float(np.sqrt(share * (1 - share)))


@dataclass(frozen=True)
class Person:
    """What is drawn of one patient before his anatomy.

    Attributes:
        sex: Sex; None in a population of one group.
        bmd_g_cm2: Areal BMD that his hips are to have; None: whatever the factor of mineral gives.
        texture, cortex, pattern: Factors of the texture's strength, of the cortex's thickness, and of how unevenly the
            femur's spongy bone is spread over its regions.
        size_exponent: Power of the bones' size that `bmd_g_cm2` grows with.
    """

    sex: Sex | None = None
    bmd_g_cm2: float | None = None
    texture: float = 1.0
    cortex: float = 1.0
    pattern: float = 1.0
    size_exponent: float = 0.0

    def wanted_bmd(self, head_radius_mm: float) -> float | None:
        """Areal BMD of the hips of a body of this size, g/cm2; None where none is asked for."""
        if self.bmd_g_cm2 is None:
            return None
        return self.bmd_g_cm2 * (head_radius_mm / USUAL_HEAD_MM) ** self.size_exponent


USUAL_PERSON = Person()
"""Of whom nothing is asked."""


def draw_person(population: Population, seed: int, patient: int) -> Person:
    """Draw one patient, from random numbers of his own: his anatomy does not depend on the rest of the population.

    Mean and SD of BMD hold for the whole population: the difference between the sexes is part of the SD. What lies
    beyond 2.8 SD is drawn again.

    Args:
        population: Settings of the population.
        seed: Seed of the cohort.
        patient: Number of the patient.
    """
    rng = np.random.default_rng([_STREAM, seed, patient])
    share, is_female = population.female_share, rng.random()
    sex: Sex | None = None if share is None else ("female" if is_female < share else "male")
    texture = float(np.exp(population.texture_spread * rng.standard_normal()))
    cortex = float(np.exp(population.cortex_spread * rng.standard_normal()))
    bmd = None
    if population.bmd_mean_g_cm2 is not None:
        away = _MALE_MORE_G_CM2 * ({"female": (share or 0) - 1, "male": share or 0}[sex] if sex else 0.0)
        within = float(np.sqrt(population.bmd_sd_g_cm2**2 - population._between() ** 2))
        z = rng.standard_normal()
        while abs(z) > _REACH_SD:
            z = rng.standard_normal()
        bmd = population.bmd_mean_g_cm2 + away + within * z / _SD_WITHIN_REACH
    pattern = float(np.exp(population.pattern_spread * rng.standard_normal()))
    return Person(sex, bmd, texture, cortex, pattern, population.size_exponent)
