"""How far hips differ beyond healthy adults of one population: angles, proportions, dysplasia, osteoarthritis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bmdkit.core.anatomy import SIDES, Side
from bmdkit.simulation.bones import JOINT_GAP_MM, AxialShape, FemurShape, HipBoneShape

MOST_VARIATION = 1.5
MOST_MORE_GIRTH_MM = 30.0
_ARTHRITIS, _DYSPLASIA = 0.35, 0.25
"""Chance of each at a variation of 1, hip by hip."""


@dataclass(frozen=True)
class Frame:
    """What of a patient's variation is not of one bone.

    Attributes:
        width, girth: Factors of the pelvis' width and of the body's girth.
        warp_mm: Size of the smooth deformation of all bones, beyond the usual.
        fat_mm: Thickness of the fat below the skin; None: drawn with the soft tissue.
    """

    width: float = 1.0
    girth: float = 1.0
    warp_mm: float = 0.0
    fat_mm: float | None = None


@dataclass(frozen=True)
class BoneShapes:
    """The shapes of one patient's bones: femur and hip bone of each side, sacrum and spine."""

    femurs: Mapping[Side, FemurShape]
    hip_bones: Mapping[Side, HipBoneShape]
    axial: AxialShape

    @classmethod
    def of_usual(cls, femur: FemurShape) -> BoneShapes:
        """Without variation, both sides alike."""
        hip_bone = HipBoneShape(head_radius_mm=femur.head_radius_mm)
        return cls(dict.fromkeys(SIDES, femur), dict.fromkeys(SIDES, hip_bone), AxialShape())


def _spread(rng: np.random.Generator, sd: float, low: float, high: float) -> float:
    """A factor about 1, its logarithm normal, within limits."""
    return float(np.clip(np.exp(rng.normal(0, sd)), low, high))


def _turn(rng: np.random.Generator, sd: float, most: float) -> float:
    """A number about 0, within limits."""
    return float(np.clip(rng.normal(0, sd), -most, most))


def draw_frame(rng: np.random.Generator, amount: float) -> Frame:
    """Draw width, girth and fat of a patient.

    Args:
        rng: Random generator of the variation alone.
        amount: 0 leaves what is usual, 1 is as far as adults differ.
    """
    return Frame(
        width=_spread(rng, 0.035 * amount, 0.9, 1.1),
        girth=_spread(rng, 0.14 * amount, 0.88, 1.45),
        warp_mm=2.0 * amount,
        fat_mm=float(rng.uniform(9, 24)) * _spread(rng, 0.4 * amount, 0.5, 2.2),
    )


def draw_more_girth(rng: np.random.Generator, amount: float) -> float:
    """Draw how much thicker a patient's soft tissue is all around than that of the map he is drawn from, mm.

    Args:
        rng: Random generator of the patient.
        amount: As in `draw_frame`.
    """
    return float(np.clip(rng.normal(3 * amount, 10 * amount), -12, MOST_MORE_GIRTH_MM))


def draw_bone_shapes(rng: np.random.Generator, usual: FemurShape, amount: float) -> BoneShapes:
    """Draw the shapes of one patient's bones.

    Args:
        rng: Random generator of the variation alone.
        usual: Femur that the patient would have without it.
        amount: 0 leaves what is usual, 1 is as far as hips of adults differ, the diseased included.
    """
    radius = usual.head_radius_mm * _spread(rng, 0.05 * amount, 0.85, 1.18)
    length = usual.neck_length_mm * _spread(rng, 0.08 * amount, 0.8, 1.25)
    femur = replace(
        usual,
        head_radius_mm=radius,
        neck_shaft_deg=float(np.clip(usual.neck_shaft_deg + rng.normal(0, 6 * amount), 108, 148)),
        anteversion_deg=float(np.clip(usual.anteversion_deg + rng.normal(0, 8 * amount), -8, 38)),
        neck_length_mm=float(np.clip(length, 2.0 * radius, 2.7 * radius)),
        shaft_radius_mm=usual.shaft_radius_mm * _spread(rng, 0.07 * amount, 0.85, 1.2),
        neck_width=_spread(rng, 0.07 * amount, 0.84, 1.14),
        greater_mm=(_turn(rng, 2 * amount, 5), _turn(rng, 2 * amount, 5), _turn(rng, 4 * amount, 9)),
        lesser=_spread(rng, 0.2 * amount, 0.7, 1.5),
        bow_mm=(_turn(rng, 7 * amount, 18), _turn(rng, 7 * amount, 18)),
    )
    hip_bone = HipBoneShape(
        opening_deg=(_turn(rng, 4 * amount, 10), _turn(rng, 4 * amount, 10)),
        wing_flare=_spread(rng, 0.1 * amount, 0.75, 1.3),
        wing_height=_spread(rng, 0.08 * amount, 0.8, 1.25),
        wing_thickness=_spread(rng, 0.15 * amount, 0.7, 1.4),
        wing_turn_deg=_turn(rng, 7 * amount, 15),
    )
    both = {side: _draw_disease(rng, femur, hip_bone, amount) for side in SIDES}
    axial = AxialShape(_turn(rng, 7 * amount, 15), _spread(rng, 0.06 * amount, 0.86, 1.14), _turn(rng, 6 * amount, 15))
    return BoneShapes({side: pair[0] for side, pair in both.items()}, {s: pair[1] for s, pair in both.items()}, axial)


def _draw_disease(
    rng: np.random.Generator, femur: FemurShape, hip_bone: HipBoneShape, amount: float
) -> tuple[FemurShape, HipBoneShape]:
    """One hip, shallow or worn or neither: the socket covers less, or the gap is narrow and spurs grow at the rim."""
    uncovered = rng.normal(0, 3.0 * amount)
    gap = JOINT_GAP_MM * float(np.clip(1 + rng.normal(0, 0.12 * amount), 0.7, 1.4))
    outward, forward = hip_bone.opening_deg
    if rng.random() < _DYSPLASIA * amount:
        uncovered += rng.uniform(4, 15)
        outward += rng.uniform(2, 9)
        femur = replace(
            femur,
            neck_shaft_deg=min(femur.neck_shaft_deg + rng.uniform(0, 8), 148.0),
            anteversion_deg=min(femur.anteversion_deg + rng.uniform(0, 12), 40.0),
        )
    if rng.random() < _ARTHRITIS * amount:
        severity = rng.uniform(0.2, 1.0)
        gap *= 1 - 0.65 * severity
        uncovered -= 6 * severity
        spurs = tuple(
            (float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(3.0, 3.5 + 4.5 * severity)))
            for _ in range(int(rng.integers(1, 5)))
        )
        femur = replace(femur, spurs=spurs)
    shaped = replace(
        hip_bone,
        head_radius_mm=femur.head_radius_mm,
        joint_gap_mm=gap,
        uncovered_deg=float(np.clip(uncovered, -9, 18)),
        opening_deg=(float(outward), float(forward)),
    )
    return femur, shaped
