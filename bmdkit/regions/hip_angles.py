"""Hip joint angles in the CT and in the radiograph, as far as a hip scan shows the axes that they are measured from.

Frames as recommended by the ISB: Wu et al. 2002, doi 10.1016/S0021-9290(01)00222-6. The pelvis frame is taken from the
anterior and posterior superior iliac spines, read off the label map. The knee is not in the scan: the femur's long axis
is its shaft, and there is no zero for axial rotation, so only its change between CT and radiograph can be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.geometry import RigidTransform
from bmdkit.core.volume import LabelMap, bounding_box

_SPINE_SHARE = 0.002  # of a hip bone's voxels, that are averaged to a spine
_ABOVE_HIP_MM = 40.0
_SHAFT_BELOW_HEAD_MM = 80.0


@dataclass(frozen=True)
class HipAngles:
    """Posture of one hip, degrees; None where the scan does not show it.

    Attributes:
        flexion_deg: Thigh forward positive, of the femoral shaft.
        abduction_deg: Thigh outward positive.
        rotation_deg: Inward positive; always None in the CT, whose scan shows no knee.
        rotation_change_deg: Against the CT.
    """

    flexion_deg: float | None
    abduction_deg: float | None
    rotation_deg: float | None = None
    rotation_change_deg: float | None = None

    def to_dict(self) -> dict:
        """Plain numbers, None where missing."""
        return {k: None if v is None else round(v, 3) for k, v in self.__dict__.items()}


def pelvis_frame(labels: LabelMap, joints_mm: Mapping[Side, np.ndarray]) -> np.ndarray | None:
    """Rows: anterior, superior and right axes (LPS) of the pelvis; None where the iliac spines are not in the scan."""
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


def shaft_axis(labels: LabelMap, side: Side, head_mm: np.ndarray) -> np.ndarray | None:
    """Unit vector (LPS) up the femoral shaft; None where less than 30 mm of it is in the scan."""
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
    axis = np.linalg.svd(centres - centres.mean(0))[2][0]
    return axis * np.sign(axis[2])


def hip_angles(frame: np.ndarray | None, axis: np.ndarray | None, side: Side, turn: np.ndarray | None) -> HipAngles:
    """Angles of one hip.

    Args:
        frame: From `pelvis_frame`.
        axis: From `shaft_axis`.
        side: Which hip.
        turn: (3, 3), rotation of the femur against the pelvis since the CT, in CT axes; None: in the CT itself.
    """
    outward = 1 if side == "R" else -1
    if frame is None or axis is None:
        return HipAngles(None, None)
    ahead, up, right = frame @ (axis if turn is None else turn @ axis)
    flexion = float(np.degrees(np.arctan2(-ahead, up)))
    abduction = float(np.degrees(np.arcsin(np.clip(-right * outward, -1, 1))))
    if turn is None:
        return HipAngles(flexion, abduction)
    return HipAngles(
        flexion, abduction, None, _rotation(frame, axis, turn, outward) - _rotation(frame, axis, np.eye(3), outward)
    )


def _rotation(frame: np.ndarray, axis: np.ndarray, turn: np.ndarray, outward: int) -> float:
    """Axial rotation, degrees, inward positive, from a zero that points as far right in the CT as the shaft lets it."""
    z = frame[2] - (frame[2] @ axis) * axis
    z, y = turn @ (z / np.linalg.norm(z)), turn @ axis
    floating = np.cross(y, frame[2])  # perpendicular to both, Grood and Suntay 1983
    floating = floating / np.linalg.norm(floating)
    x = np.cross(y, z)
    return outward * float(np.degrees(np.arctan2(x @ np.cross(y, floating), x @ floating)))


def posture_turn(pelvis: RigidTransform, femur: RigidTransform) -> np.ndarray:
    """Rotation (3, 3) of the femur against the pelvis since the CT, in CT axes, from their camera_from_ct."""
    return pelvis.rotation.T @ femur.rotation
