"""What one CT gives to all of its radiographs: calibration, density, labels, landmarks and the proximal femurs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bmdkit.calibration.line import Calibration
from bmdkit.core.anatomy import SIDES, Side
from bmdkit.core.case import Case
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.bone_labels import make_labels
from bmdkit.dataset.manifest import LeftOut
from bmdkit.dataset.settings import BuildConfig
from bmdkit.dataset.stages import LocatedHip, crop_to_bones, locate_hip, measure_density
from bmdkit.errors import CaseError
from bmdkit.io.ct import CtScan
from bmdkit.io.markups import read_landmarks
from bmdkit.regions import Flag, areal_bmd, check_hip, check_scan, find_landmarks, proximal_femur, volumetric_bmd
from bmdkit.segmentation.ct_labels import Segmented

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Hip:
    """One hip as the CT shows it.

    Attributes:
        side: Side of the patient.
        landmarks: Landmarks, given or found, or None.
        region: Mask of the proximal femur on the labels' grid, bool, or None.
        qct_bmd_mg_cm3, ct_abmd_g_cm2: BMD of the proximal femur, or None.
        problem: Reason why this hip has no BMD, or None.
        notes: Sentences that a user should know.
    """

    side: Side
    landmarks: Landmarks | None = None
    region: np.ndarray | None = None
    qct_bmd_mg_cm3: float | None = None
    ct_abmd_g_cm2: float | None = None
    problem: LeftOut | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class MeasuredCt:
    """One CT, measured.

    Attributes:
        scan: CT as it was read, HU.
        calibration: Calibration line.
        segmented: Structures, and how sure the network is of them if one made them.
        density: Density of the part of the CT around the bones, mg/cm3, float32; without calibration its HU.
        projected: Values that the targets show, of the same part: the density, or HU.
        hips: Target hips by side.
        heads: Landmarks of every hip that has any, for the registration.
    """

    scan: CtScan
    calibration: Calibration
    segmented: Segmented
    density: Volume
    projected: Volume
    hips: Mapping[Side, Hip]
    heads: Mapping[Side, Landmarks]

    @property
    def labels(self) -> LabelMap:
        """The structures, on their own grid."""
        return self.segmented.labels

    def uncertainty(self, side: Side) -> float | None:
        """The larger one of pelvis and femur of a hip; None where no network made the labels."""
        return find_hip_uncertainty(self.segmented, side)


def check_without_labels(scan: CtScan, error: CaseError) -> dict[Side, LeftOut]:
    """Find what speaks against a hip in a CT whose calibration or labels are unfit: metal, a short field of view."""
    flags = check_scan(scan.volume)
    found = {side: tuple(flag for flag in flags if flag.side == side) for side in SIDES}
    also = f"and {error.code}: {error.message}"
    return {side: _join_flags(own, also) for side, own in found.items() if own}


def measure_ct(
    case: Case, scan: CtScan, calibration: Calibration, config: BuildConfig, device: str = "cpu"
) -> MeasuredCt:
    """Find the labels, landmarks and proximal femurs of one CT, and measure their densities.

    Args:
        case: Case that the CT belongs to.
        scan: CT, HU.
        calibration: Calibration line.
        config: Settings of the build.
        device: Device of the network, if one makes the labels.

    Raises:
        CaseError: Its labels are unfit; a single hip that is unfit is only marked.
    """
    segmented = make_labels(case, scan, config, device)
    labels = segmented.labels
    density = measure_density(scan.volume, calibration, labels)
    projected = density if config.target_quantity == "density" else crop_to_bones(scan.volume, labels)
    measured = None if calibration.source == "none" else density
    hips = {}
    for side in case.sides:
        problem = _too_uncertain(segmented, side)
        hips[side] = _measure_hip(case, side, scan, labels, measured, problem)
    heads = {side: hip.landmarks for side, hip in hips.items() if hip.landmarks is not None}
    for side in SIDES:
        if side not in hips and labels.mask(f"femur_{side}").any():
            landmarks = _head_landmarks(case, side, labels)
            if landmarks is not None:
                heads[side] = landmarks
    return MeasuredCt(scan, calibration, segmented, density, projected, hips, heads)


def find_hip_uncertainty(segmented: Segmented, side: Side) -> float | None:
    """Mean variance of the less certain of pelvis and femur; None where no network made the labels."""
    known = [segmented.uncertainty[name] for name in ("pelvis", f"femur_{side}") if name in segmented.uncertainty]
    return max(known) if known else None


def _too_uncertain(segmented: Segmented, side: Side) -> LeftOut | None:
    found, most = find_hip_uncertainty(segmented, side), segmented.limit.most
    if most is None or found is None or found <= most:
        return None
    return LeftOut("BMD-SEG-004", f"mean variance {found:.4g}, allowed {most:.4g}.")


def _given_landmarks(case: Case, side: Side) -> Landmarks | None:
    """The landmarks that the cohort gives for a hip.

    Raises:
        CaseError: Their file is unfit.
    """
    given = case.landmarks_of(side)
    return None if given is None else read_landmarks(given, side, case=case.patient_id)


def _head_landmarks(case: Case, side: Side, labels: LabelMap) -> Landmarks | None:
    """Landmarks of a hip that is no target, given or found, for the registration."""
    try:
        return _given_landmarks(case, side) or find_landmarks(labels, side).landmarks
    except CaseError:
        return None


def _measure_hip(
    case: Case, side: Side, scan: CtScan, labels: LabelMap, density: Volume | None, doubt: LeftOut | None = None
) -> Hip:
    """One hip; without a density (no calibration) it has its region and no BMD."""
    try:
        located = locate_hip(scan.volume, labels, side, _given_landmarks(case, side))
    except CaseError as error:  # of the file
        located = LocatedHip(side, None, None, error, check_hip(scan.volume, labels, side))
    landmarks = located.landmarks
    notes: tuple[str, ...] = ()
    if located.detected is not None:
        words = (f"landmarks {side}: {flag.code}: {flag.message}" for flag in located.detected.flags)
        notes = (f"landmarks {side} found automatically", *words)
    problem = doubt or (LeftOut.from_error(located.error) if located.error else None)
    if problem is None and not labels.mask(f"femur_{side}").any():
        problem = LeftOut("BMD-LBL-002", f"the labels have no voxel of femur_{side}.")
    if located.flags:  # says more than what failed because of it
        problem = _join_flags(located.flags)
    if problem is not None or landmarks is None:
        return Hip(side, landmarks, problem=problem, notes=notes)
    try:
        region = proximal_femur(labels, landmarks)
        if density is None:
            return Hip(side, landmarks, region, notes=notes)
        return Hip(
            side,
            landmarks,
            region,
            volumetric_bmd(density, region, labels.grid),
            areal_bmd(density, labels, landmarks).abmd_g_cm2,
            notes=notes,
        )
    except CaseError as error:
        return Hip(side, landmarks, problem=LeftOut.from_error(error), notes=notes)


def _join_flags(flags: tuple[Flag, ...], *also: str) -> LeftOut:
    """Join flags under the code of the first; the others are named with theirs."""
    first, *others = flags
    return LeftOut(first.code, "; ".join((first.message, *(f"{f.code}: {f.message}" for f in others), *also)))
