"""What one CT gives to all of its radiographs: calibration, density, labels, landmarks and the proximal femurs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bmdkit.calibration.line import Calibration, read_calibration
from bmdkit.calibration.modes import calibrate
from bmdkit.core.anatomy import SIDES, Side
from bmdkit.core.case import Case
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import Grid, LabelMap, Volume, bounding_box
from bmdkit.dataset.bone_labels import labels_of
from bmdkit.dataset.settings import BuildConfig
from bmdkit.errors import CaseError
from bmdkit.io.ct import CtScan
from bmdkit.io.markups import read_landmarks
from bmdkit.regions import Flag, areal_bmd, check_hip, check_scan, find_landmarks, proximal_femur, volumetric_bmd
from bmdkit.segmentation.ct_labels import Segmented

logger = logging.getLogger(__name__)

_MARGIN_MM = 25.0  # of density kept around the bones


@dataclass(frozen=True)
class Problem:
    """Why something is left out: a code of `bmdkit.errors` and what was measured."""

    code: str
    reason: str

    @classmethod
    def of(cls, error: CaseError) -> Problem:
        return cls(error.code, error.message)


@dataclass(frozen=True, eq=False)
class Hip:
    """One hip as the CT shows it.

    Attributes:
        side: The patient's own.
        landmarks: Given or found, or None.
        region: bool, the proximal femur on the labels' grid, or None.
        qct_bmd_mg_cm3, ct_abmd_g_cm2: Of the proximal femur, or None.
        problem: Why this hip has no BMD, or None.
        notes: What a user should know.
    """

    side: Side
    landmarks: Landmarks | None = None
    region: np.ndarray | None = None
    qct_bmd_mg_cm3: float | None = None
    ct_abmd_g_cm2: float | None = None
    problem: Problem | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class MeasuredCt:
    """One CT, measured.

    Attributes:
        scan: As it was read, HU.
        calibration: Its line.
        segmented: The structures, and how sure the network is of them if one made them.
        density: mg/cm3, float32, of the part of the CT around the bones.
        hips: The target hips by side.
        heads: Landmarks of every hip that has any, for the registration.
    """

    scan: CtScan
    calibration: Calibration
    segmented: Segmented
    density: Volume
    hips: Mapping[Side, Hip]
    heads: Mapping[Side, Landmarks]

    @property
    def labels(self) -> LabelMap:
        """The structures, on their own grid."""
        return self.segmented.labels

    def uncertainty(self, side: Side) -> float | None:
        """The larger one of pelvis and femur of a hip; None where no network made the labels."""
        return hip_uncertainty(self.segmented, side)


def seen_without_labels(scan: CtScan, error: CaseError) -> dict[Side, Problem]:
    """What speaks against a hip in a CT whose calibration or labels are unfit: metal, a field of view too short."""
    flags = check_scan(scan.volume)
    found = {side: tuple(flag for flag in flags if flag.side == side) for side in SIDES}
    also = f"and {error.code}: {error.message}"
    return {side: _problem(own, also) for side, own in found.items() if own}


def calibrate_case(case: Case, scan: CtScan, config: BuildConfig) -> Calibration:
    """The calibration line that the cohort gives, or the one found in the CT.

    Raises:
        CaseError: There is none.
    """
    return (
        calibrate(scan.volume, config.calibration) if case.calibration is None else read_calibration(case.calibration)
    )


def measure_ct(
    case: Case, scan: CtScan, calibration: Calibration, config: BuildConfig, device: str = "cpu"
) -> MeasuredCt:
    """Labels, landmarks, proximal femurs and their densities of one CT.

    Args:
        case: Whose it is.
        scan: HU.
        calibration: Its line.
        config: Of the build.
        device: Of the network, if one makes the labels.

    Raises:
        CaseError: Its labels are unfit; a single hip that is unfit is only marked.
    """
    segmented = labels_of(case, scan, config, device)
    labels = segmented.labels
    density = calibration.apply(scan.volume.crop(around_bones(labels, scan.volume.grid)))
    hips = {}
    for side in case.sides:
        problem = _too_uncertain(segmented, side)
        hips[side] = _measure_hip(case, side, scan, labels, density, problem)
    heads = {side: hip.landmarks for side, hip in hips.items() if hip.landmarks is not None}
    for side in SIDES:
        if side not in hips and labels.mask(f"femur_{side}").any():
            landmarks = _landmarks_of(case, side, labels)[0]
            if landmarks is not None:
                heads[side] = landmarks
    return MeasuredCt(scan, calibration, segmented, density, hips, heads)


def hip_uncertainty(segmented: Segmented, side: Side) -> float | None:
    """Mean variance of the less certain of pelvis and femur; None where no network made the labels."""
    known = [segmented.uncertainty[name] for name in ("pelvis", f"femur_{side}") if name in segmented.uncertainty]
    return max(known) if known else None


def _too_uncertain(segmented: Segmented, side: Side) -> Problem | None:
    found, most = hip_uncertainty(segmented, side), segmented.most_uncertainty
    if most is None or found is None or found <= most:
        return None
    return Problem("BMD-SEG-004", f"mean variance {found:.4g}, allowed {most:.4g}.")


def around_bones(labels: LabelMap, grid: Grid) -> tuple[slice, slice, slice]:
    """The box of a CT's voxels around all structures of a label map, with a margin.

    Raises:
        CaseError: The labels are empty, or lie outside the CT (BMD-LBL-002).
    """
    if not labels.array.any():
        raise CaseError("BMD-LBL-002", "the label map is empty.")
    corners = labels.grid.crop(bounding_box(labels.array > 0)).corners()
    index = grid.indices(corners)
    reach = _MARGIN_MM / grid.spacing_mm[::-1]
    first = np.clip(np.floor(index.min(axis=0) - reach), 0, grid.shape).astype(int)
    last = np.clip(np.ceil(index.max(axis=0) + reach) + 1, 0, grid.shape).astype(int)
    if (last - first < 2).any():
        raise CaseError("BMD-LBL-002", "the labels lie outside the CT.")
    return tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))


def _landmarks_of(case: Case, side: Side, labels: LabelMap) -> tuple[Landmarks | None, tuple[str, ...], Problem | None]:
    """Given or found; notes; and why there are none."""
    try:
        given = case.landmarks_of(side)
        if given is not None:
            return read_landmarks(given, side, case=case.patient_id), (), None
        found = find_landmarks(labels, side)
        words = (f"landmarks {side}: {flag.code}: {flag.message}" for flag in found.flags)
        return found.landmarks, (f"landmarks {side} found automatically", *words), None
    except CaseError as error:
        return None, (), Problem.of(error)


def _measure_hip(
    case: Case, side: Side, scan: CtScan, labels: LabelMap, density: Volume, doubt: Problem | None = None
) -> Hip:
    landmarks, notes, problem = _landmarks_of(case, side, labels)
    problem = doubt or problem
    if problem is None and not labels.mask(f"femur_{side}").any():
        problem = Problem("BMD-LBL-002", f"the labels have no voxel of femur_{side}.")
    flags = check_hip(scan.volume, labels, side, landmarks)
    if flags:  # says more than what failed because of it
        problem = _problem(flags)
    if problem is not None:
        return Hip(side, landmarks, problem=problem, notes=notes)
    try:
        region = proximal_femur(labels, landmarks)
        return Hip(
            side,
            landmarks,
            region,
            volumetric_bmd(density, region, labels.grid),
            areal_bmd(density, labels.mask(f"femur_{side}"), landmarks, grid=labels.grid).abmd_g_cm2,
            notes=notes,
        )
    except CaseError as error:
        return Hip(side, landmarks, problem=Problem.of(error), notes=notes)


def _problem(flags: tuple[Flag, ...], *also: str) -> Problem:
    """Under the code of the first flag; the others are named with theirs."""
    first, *others = flags
    return Problem(first.code, "; ".join((first.message, *(f"{f.code}: {f.message}" for f in others), *also)))
