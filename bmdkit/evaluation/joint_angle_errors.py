"""Whether a prediction is worse where the hip is bent: angles of the hip in each radiograph, and error against it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.geometry import RigidTransform
from bmdkit.core.pose_json import parse_poses
from bmdkit.dataset.case_meta import read_meta
from bmdkit.dataset.layout import case_folder, find_registrations, pair_folder, pair_meta_file
from bmdkit.dataset.samples import Pair
from bmdkit.evaluation.agreement import pearson
from bmdkit.evaluation.clustered_slope import fit_clustered_slope
from bmdkit.regions.hip_angles import find_femur_turn, measure_hip_angles

logger = logging.getLogger(__name__)

Source = Literal["isb", "change"]
ANGLES = ("flexion", "abduction")

_CT_AXES = np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]])  # rows: anterior, superior, right, in LPS
_UP = np.array([0.0, 0, 1])
_SAME_POSE = 1e-9
_WIDTH_SD = 1.96


@dataclass(frozen=True)
class JointAngles:
    """Angles of one hip in one radiograph.

    Attributes:
        flexion_deg: Thigh forward positive.
        abduction_deg: Thigh outward positive.
        source: `isb`: the femur's shaft in the frame of the pelvis, as registered or as simulated. `change`: how far
            the femur has turned against the pelvis since the CT, about the CT's axes.
        rotation_change_deg: Axial rotation since the CT, inward positive; None where it is not known.
    """

    flexion_deg: float
    abduction_deg: float
    source: Source
    rotation_change_deg: float | None = None

    def angle(self, name: str) -> float:
        """Flexion or abduction, degrees."""
        return self.flexion_deg if name == "flexion" else self.abduction_deg


def read_joint_angles(root: Path, pairs: Iterable[Pair]) -> dict[str, JointAngles]:
    """Read the joint angles of pairs, by their names, all from the source that knows more of them.

    The first source is taken where both know as many.

    A build's registration files (`cases/<patient>/registration_<xray>.json`), and the `meta.json` there of simulated
    patients, hold the angles of Wu et al. 2002, where the CT shows the iliac spines. Elsewhere the poses of pelvis and
    femur in the meta.json of a pair of dataset A still tell how far the joint has moved since the CT. Neither knows the
    femur's axial rotation, as the scan does not reach the knee, but both how far it has turned since the CT.

    Args:
        root: The dataset.
        pairs: Pairs of dataset B; those of which nothing is known are left out.

    Source: Wu et al. 2002, doi 10.1016/S0021-9290(01)00222-6.
    """
    found: dict[Source, dict[str, JointAngles]] = {"isb": {}, "change": {}}
    for pair in pairs:
        for angles in (_registered(root, pair), _moved(root, pair)):
            if angles is not None:
                found[angles.source][pair.pair_id] = angles
    return max(found.values(), key=len)


@dataclass(frozen=True)
class AngleFit:
    """Error against one joint angle.

    Attributes:
        n: Number of images.
        slope_per_deg, intercept: Least squares, in the unit of the error.
        r: Correlation.
        p: Probability of a slope as steep if there were none, with the patient as the unit (see `fit_clustered_slope`);
            NaN below three images, of one patient, or where no angle differs.
        error_limits, angle_limits: Mean -+ 1.96 SD.
        outside_pct_usual, outside_pct_unusual: Images whose error lies outside its limits, of those whose angle lies
            within its limits and of those whose does not; NaN where there are none.
    """

    n: int
    slope_per_deg: float
    intercept: float
    r: float
    p: float
    error_limits: tuple[float, float]
    angle_limits: tuple[float, float]
    outside_pct_usual: float
    outside_pct_unusual: float


def fit_angle(angles_deg, errors, patients: Sequence[str]) -> AngleFit:
    """How the error depends on an angle.

    Args:
        angles_deg: (n,).
        errors: (n,), predicted less measured, in any unit.
        patients: (n,), whose each image is.

    Raises:
        ValueError: Arrays of other shapes, fewer than two values, or one that is not finite.

    Source: Gu et al. 2023, doi 10.1016/j.media.2023.102970, figure 10, for the rates outside the limits.
    """
    x, y = np.asarray(angles_deg, float), np.asarray(errors, float)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(
            f"angles_deg, errors: expected two or more finite values each, got shapes {x.shape}, {y.shape}"
        )
    nan = float("nan")
    line = fit_clustered_slope(x, y, patients)
    r = pearson(x, y) if len(x) > 2 else nan
    error_limits, angle_limits = _limits(y), _limits(x)
    outside, unusual = _outside(y, error_limits), _outside(x, angle_limits)
    rates = (100 * float(outside[w].mean()) if w.any() else nan for w in (~unusual, unusual))
    return AngleFit(len(x), line.slope, line.intercept, r, line.p, error_limits, angle_limits, *rates)


def _limits(values: np.ndarray) -> tuple[float, float]:
    mean, half = float(values.mean()), _WIDTH_SD * float(values.std(ddof=1))
    return mean - half, mean + half


def _outside(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (values < limits[0]) | (values > limits[1])


def _registered(root: Path, pair: Pair) -> JointAngles | None:
    """The angles of the registration whose femur lies where this pair's does."""
    own = _poses(pair.xray.parent).get(f"femur_{pair.side}")
    if own is None:
        return None
    for data in _registrations(case_folder(root, pair.patient_id)):
        try:
            pose = parse_poses(data).bodies[f"femur_{pair.side}"].camera_from_ct
            angles = data["angles"][pair.side]["radiograph"]
            values = angles["flexion_deg"], angles["abduction_deg"]
        except (KeyError, TypeError, ValueError):
            continue
        if np.abs(pose.matrix - own.matrix).max() < _SAME_POSE and None not in values:
            return JointAngles(float(values[0]), float(values[1]), "isb", angles.get("rotation_change_deg"))
    return _simulated(root, pair)


def _simulated(root: Path, pair: Pair) -> JointAngles | None:
    """The true angles that simulated pairs keep in the meta.json of their patient."""
    meta = read_meta(root, pair.patient_id)
    for radiograph in (meta.radiographs if meta is not None else None) or ():
        angles = radiograph.get("angles", {}).get(pair.side, {}) if radiograph.get("pose") == pair.pose else {}
        flexion_deg, abduction_deg = angles.get("flexion_deg"), angles.get("abduction_deg")
        if flexion_deg is not None and abduction_deg is not None:
            change_deg = angles.get("rotation_change_deg")
            return JointAngles(float(flexion_deg), float(abduction_deg), "isb", change_deg)
    return None


def _moved(root: Path, pair: Pair) -> JointAngles | None:
    """How far the femur has turned against the pelvis since the CT, by the poses of the pair of dataset A."""
    poses = _poses(root / pair_folder("A", pair.pair_id))
    side: Side = "R" if pair.side == "R" else "L"
    pelvis, femur = poses.get("pelvis"), poses.get(f"femur_{side}")
    if pelvis is None or femur is None:
        return None
    found = measure_hip_angles(_CT_AXES, _UP, side, find_femur_turn(pelvis, femur))
    if found.flexion_deg is None or found.abduction_deg is None:
        return None
    return JointAngles(found.flexion_deg, found.abduction_deg, "change", found.rotation_change_deg)


def _poses(folder: Path) -> dict[str, RigidTransform]:
    """camera_from_ct by body, of a pair's meta.json; empty where it has none."""
    try:
        poses = json.loads(pair_meta_file(folder).read_text(encoding="utf-8"))["camera_from_ct"]
        return {name: parse_poses(pose).first() for name, pose in poses.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _registrations(folder: Path) -> Iterator[dict[str, Any]]:
    for path in find_registrations(folder).values():
        try:
            yield json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read: %s", path.name, error)
