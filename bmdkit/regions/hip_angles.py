"""Hip joint angles in the CT and in the radiograph, as far as a hip scan shows the axes that they are measured from.

Frames as recommended by the ISB: Wu et al. 2002, doi 10.1016/S0021-9290(01)00222-6. The pelvis frame is taken from the
anterior and posterior superior iliac spines, read off the label map. A hip scan shows no knee: the femur's long axis is
then its shaft, there is no zero for axial rotation, and only its change between CT and radiograph can be told. Where
the epicondyles are known, the femur has a frame of its own and its axial rotation is told too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.geometry import RigidTransform
from bmdkit.core.vectors import scale_to_one
from bmdkit.core.volume import LabelMap, bounding_box

_SPINE_SHARE = 0.002  # of a hip bone's voxels, that are averaged to a spine
_ABOVE_HIP_MM = 40.0
_SHAFT_BELOW_HEAD_MM = 80.0


@dataclass(frozen=True)
class HipAngles:
    """Angles of one hip, degrees; None where the scan does not show them.

    Attributes:
        flexion_deg: Flexion, positive with the thigh forward.
        abduction_deg: Abduction, positive with the thigh outward.
        rotation_deg: Axial rotation, inward positive; None without the knee.
        rotation_change_deg: Axial rotation since the CT, inward positive.
    """

    flexion_deg: float | None
    abduction_deg: float | None
    rotation_deg: float | None = None
    rotation_change_deg: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Plain numbers, None where missing."""
        return {name: None if value is None else round(value, 3) for name, value in asdict(self).items()}


def find_pelvis_frame(labels: LabelMap, joints_mm: Mapping[Side, np.ndarray]) -> np.ndarray | None:
    """Find the frame of the pelvis through its iliac spines.

    Args:
        labels: Label map with the pelvis.
        joints_mm: Centres (3,), LPS, mm, of the femoral heads by side.

    Returns:
        (3, 3), rows: anterior, superior and right axes (LPS); None where the scan lacks an iliac spine or a head.

    Source: Wu et al. 2002.
    """
    mask = labels.mask("pelvis")
    if not mask.any() or len(joints_mm) < 2:
        return None
    points = labels.grid.points(np.argwhere(mask))
    middle = (joints_mm["L"] + joints_mm["R"]) / 2
    across = (joints_mm["R"] - joints_mm["L"]) / np.linalg.norm(joints_mm["R"] - joints_mm["L"])
    high = points[points[:, 2] > middle[2] + _ABOVE_HIP_MM]
    if len(high) < 1000 or high[:, 2].max() < middle[2] + 1.5 * _ABOVE_HIP_MM:
        return None
    spines = {}
    for side, sign in (("L", -1), ("R", 1)):
        own = high[(high - middle) @ across * sign > 0]
        if len(own) < 500:
            return None
        count = max(int(_SPINE_SHARE * len(own)), 10)
        order = np.argsort(own[:, 1])
        spines[side] = own[order[:count]].mean(0), own[order[-count:]].mean(0)  # anterior, posterior
    right = spines["R"][0] - spines["L"][0]
    right = right / np.linalg.norm(right)
    ahead = (spines["R"][0] + spines["L"][0] - spines["R"][1] - spines["L"][1]) / 2
    ahead = ahead - (ahead @ right) * right
    ahead = ahead / np.linalg.norm(ahead)
    return np.stack([ahead, np.cross(right, ahead), right])


def find_shaft_axis(labels: LabelMap, side: Side, head_mm: np.ndarray) -> np.ndarray | None:
    """Find the long axis of a femoral shaft through the middles of its sections.

    Args:
        labels: Label map with the femur.
        side: The hip.
        head_mm: (3,), LPS, mm, centre of its head.

    Returns:
        (3,), unit vector (LPS) up the shaft; None where less than 30 mm of it is in the scan.
    """
    mask = labels.mask(f"femur_{side}")
    if not mask.any():
        return None
    box = bounding_box(mask)
    points = labels.grid.crop(box).points(np.argwhere(mask[box]))
    low = points[:, 2].min() + 5
    shaft = points[(points[:, 2] > low) & (points[:, 2] < head_mm[2] - _SHAFT_BELOW_HEAD_MM)]
    if not len(shaft) or np.ptp(shaft[:, 2]) < 30:
        return None
    levels = np.round((shaft[:, 2] - low) / 3).astype(int)
    centres = np.array([shaft[levels == k].mean(0) for k in np.unique(levels)])
    axis: np.ndarray = np.linalg.svd(centres - centres.mean(0))[2][0]
    return axis * np.sign(axis[2])


def find_femur_frame(side: Side, head_mm: np.ndarray, epicondyles_mm: Mapping[str, np.ndarray]) -> np.ndarray:
    """Find the frame of a femur whose knee is known: its long axis runs from the knee's middle to the head centre.

    Args:
        side: The hip.
        head_mm: (3,), LPS, mm, centre of its head.
        epicondyles_mm: "medial" and "lateral" -> (3,), LPS, mm.

    Returns:
        (3, 3), rows: anterior, superior and right axes (LPS).

    Source: Wu et al. 2002.
    """
    medial, lateral = (np.asarray(epicondyles_mm[name], float) for name in ("medial", "lateral"))
    up = scale_to_one(np.asarray(head_mm, float) - (medial + lateral) / 2)
    across = lateral - medial if side == "R" else medial - lateral
    right = scale_to_one(across - (across @ up) * up)
    return np.stack([np.cross(up, right), up, right])


def measure_hip_angles(
    pelvis: np.ndarray | None, femur: np.ndarray | None, side: Side, turn: np.ndarray | None = None
) -> HipAngles:
    """Measure the angles of one hip.

    Args:
        pelvis: (3, 3), from `find_pelvis_frame`.
        femur: (3,), from `find_shaft_axis`, or (3, 3), from `find_femur_frame`.
        side: The hip.
        turn: (3, 3), rotation of the femur against the pelvis since the CT, in CT axes; None: in the CT itself.

    Source: Grood and Suntay 1983, doi 10.1115/1.3138397: flexion about the pelvis' right axis, axial rotation about the
        femur's long axis, abduction across both.

    Example:
        >>> pelvis = np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]])  # upright: front is -y, right is -x
        >>> shaft = np.array([0.0, np.sin(0.1), np.cos(0.1)])  # leans back at the hip: the knee is in front
        >>> round(measure_hip_angles(pelvis, shaft, "L").flexion_deg, 2)
        5.73
    """
    outward = 1 if side == "R" else -1
    if pelvis is None or femur is None:
        return HipAngles(None, None)
    axis = femur if femur.ndim == 1 else femur[1]
    ahead, up, right = pelvis @ (axis if turn is None else turn @ axis)
    flexion = float(np.degrees(np.arctan2(-ahead, up)))
    abduction = float(np.degrees(np.arcsin(np.clip(-right * outward, -1, 1))))
    now = np.eye(3) if turn is None else turn
    rotation = None if femur.ndim == 1 else _rotation(pelvis, axis, femur[2], now, outward)
    if turn is None:
        return HipAngles(flexion, abduction, rotation)
    level = pelvis[2] - (pelvis[2] @ axis) * axis
    level = level / np.linalg.norm(level)  # points as far right in the CT as the long axis lets it
    change = _rotation(pelvis, axis, level, turn, outward) - _rotation(pelvis, axis, level, np.eye(3), outward)
    return HipAngles(flexion, abduction, rotation, change)


def find_femur_turn(pelvis: RigidTransform, femur: RigidTransform) -> np.ndarray:
    """Find the rotation of a femur against the pelvis since the CT.

    Args:
        pelvis: camera_from_ct of the pelvis.
        femur: camera_from_ct of the femur.

    Returns:
        (3, 3), in CT axes.
    """
    return pelvis.rotation.T @ femur.rotation


def _rotation(pelvis: np.ndarray, axis: np.ndarray, right: np.ndarray, turn: np.ndarray, outward: int) -> float:
    """Axial rotation, degrees, inward positive, of a turned femur with a long axis and an axis to the right of it."""
    z, y = turn @ right, turn @ axis
    floating = np.cross(y, pelvis[2])  # perpendicular to both, Grood and Suntay 1983
    floating = floating / np.linalg.norm(floating)
    x = np.cross(y, z)
    return outward * float(np.degrees(np.arctan2(x @ np.cross(y, floating), x @ floating)))
