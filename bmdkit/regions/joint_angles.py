"""Angles of the hip joint from the frames of pelvis and femur."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.core.geometry import RigidTransform
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap, bounding_box, frozen

_ABOVE_HEAD_MM = 35.0  # the iliac spines lie higher than this above the head centre
_EDGE_MM = 6.0  # spines this near the scan's top may be cut off


@dataclass(frozen=True, eq=False)
class BoneFrame:
    """The axes of one bone in LPS: x to the front, y upwards, z to the patient's right (Wu et al. 2002).

    Attributes:
        axes: (3, 3), columns x, y, z.
        notes: What the scan did not show, and what stood in for it.
        has_rotation: Whether x and z are the bone's own; without the knee a femur has only its y.
    """

    axes: np.ndarray
    notes: tuple[str, ...] = ()
    has_rotation: bool = True

    def __post_init__(self) -> None:
        axes = frozen(np.array(self.axes, float))
        if axes.shape != (3, 3) or not np.allclose(axes.T @ axes, np.eye(3), atol=1e-6) or np.linalg.det(axes) < 0:
            raise ValueError(f"axes: expected a proper rotation, got {self.axes!r}")
        object.__setattr__(self, "axes", axes)


@dataclass(frozen=True)
class HipAngles:
    """Of the femur against the pelvis, degrees.

    Attributes:
        flexion_deg: Positive with the knee to the front.
        abduction_deg: Positive with the knee away from the midline.
        external_rotation_deg: None if the scan does not show the knee.
        notes: What the scan did not show.
    """

    flexion_deg: float
    abduction_deg: float
    external_rotation_deg: float | None
    notes: tuple[str, ...] = ()


def pelvis_frame(labels: LabelMap, head_centres_mm: Mapping[Side, np.ndarray]) -> BoneFrame:
    """The frame of the pelvis: z through both anterior superior iliac spines, x towards them from the posterior ones.

    Where the scan ends below the spines, z runs through the head centres and y is the scanner's.

    Args:
        labels: With the pelvis.
        head_centres_mm: Side -> (3,), LPS.

    Source: Wu et al. 2002, doi 10.1016/S0021-9290(01)00222-6.
    """
    heads = np.array([head_centres_mm[side] for side in ("R", "L")])
    spines = _iliac_spines(labels, heads)
    if spines is None:
        to_right = _unit(heads[0] - heads[1])
        up = _unit(np.array([0.0, 0, 1]) - to_right[2] * to_right)
        note = "iliac spines not in the scan: pelvic tilt taken from the scanner"
        return BoneFrame(np.stack([np.cross(up, to_right), up, to_right], axis=1), (note,))
    anterior, posterior = spines
    to_right = _unit(anterior[0] - anterior[1])
    forward = anterior.mean(axis=0) - posterior.mean(axis=0)
    forward = _unit(forward - (forward @ to_right) * to_right)
    return BoneFrame(np.stack([forward, np.cross(to_right, forward), to_right], axis=1))


def femur_frame(landmarks: Landmarks, epicondyles_mm: Mapping[str, np.ndarray] | None = None) -> BoneFrame:
    """The frame of a femur: y from the knee's middle to the head centre.

    Args:
        landmarks: Of the proximal femur.
        epicondyles_mm: "medial" and "lateral", LPS. Without them y is the axis of the shaft, and there is no rotation.

    Source: Wu et al. 2002.
    """
    if epicondyles_mm is None:
        up = _unit(landmarks["shaft_2cm"] - landmarks["shaft_5cm"])
        to_right = _unit(np.array([-1.0, 0, 0]) + up[0] * up)
        note = "no knee in the scan: the shaft's axis stands for the femur's, and there is no rotation angle"
        return BoneFrame(np.stack([np.cross(up, to_right), up, to_right], axis=1), (note,), has_rotation=False)
    medial, lateral = (np.asarray(epicondyles_mm[name], float) for name in ("medial", "lateral"))
    up = _unit(landmarks["head_center"] - (medial + lateral) / 2)
    across = lateral - medial if landmarks.side == "R" else medial - lateral
    to_right = _unit(across - (across @ up) * up)
    return BoneFrame(np.stack([np.cross(up, to_right), up, to_right], axis=1))


def hip_angles(
    pelvis: BoneFrame,
    femur: BoneFrame,
    side: Side,
    *,
    camera_from_pelvis: RigidTransform | None = None,
    camera_from_femur: RigidTransform | None = None,
) -> HipAngles:
    """Flexion, abduction and external rotation of one hip.

    Args:
        pelvis, femur: Frames in the CT.
        side: The hip.
        camera_from_pelvis, camera_from_femur: Where the bones are in a radiograph; the CT's own pose if not given.

    Source: Grood and Suntay 1983; Wu et al. 2002: about the pelvis' z, about the femur's y, and across both.
    """
    if (camera_from_pelvis is None) != (camera_from_femur is None):
        raise ValueError("camera_from_femur: expected both poses or neither")
    hip, thigh = pelvis.axes, femur.axes
    if camera_from_pelvis is not None and camera_from_femur is not None:
        hip, thigh = camera_from_pelvis.rotation @ hip, camera_from_femur.rotation @ thigh
    lateral = 1.0 if side == "R" else -1.0
    x, y, z = hip.T @ thigh[:, 1]
    flexion = np.degrees(np.arctan2(-x, y))
    abduction = np.degrees(np.arcsin(np.clip(-lateral * z, -1, 1)))
    rotation = None
    if femur.has_rotation:
        across = _unit(np.cross(thigh[:, 1], hip[:, 2]))
        right = np.cross(across, thigh[:, 1])
        rotation = float(lateral * np.degrees(np.arctan2(thigh[:, 0] @ right, thigh[:, 0] @ across)))
    return HipAngles(float(flexion), float(abduction), rotation, (*pelvis.notes, *femur.notes))


def _iliac_spines(labels: LabelMap, heads: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """((2, 3), (2, 3)): anterior and posterior superior iliac spine of the right and of the left, or None."""
    mask = labels.mask("pelvis")
    if not mask.any():
        return None
    box = bounding_box(mask)
    points = labels.grid.crop(box).points(np.argwhere(mask[box]))
    top = labels.grid.corners()[:, 2].max()
    middle = heads[:, 0].mean()
    anterior, posterior = [], []
    for on_side in (points[:, 0] < middle, points[:, 0] >= middle):
        high = points[on_side & (points[:, 2] > heads[:, 2].mean() + _ABOVE_HEAD_MM)]
        if len(high) == 0:
            return None
        front, back = high[np.argmin(high[:, 1])], high[np.argmax(high[:, 1])]
        if max(front[2], back[2]) > top - _EDGE_MM:
            return None
        anterior.append(front)
        posterior.append(back)
    return np.array(anterior), np.array(posterior)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
