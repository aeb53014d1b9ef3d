"""What is known of the poses before the radiograph is seen."""

from __future__ import annotations

import numpy as np

from bmdkit.core.anatomy import Side
from bmdkit.registration.pose_parameters import UNIT, find_rotation_vectors
from bmdkit.registration.scene import Scene
from bmdkit.registration.settings import RegistrationConfig


def find_anchor_deviations(config: RegistrationConfig) -> np.ndarray:
    """Standard deviations of the first body's six values about the start, scaled units."""
    p = config.prior
    turn = np.radians([p.rotation_deg] * 3)
    return np.concatenate([turn, [p.in_plane_mm, p.in_plane_mm, p.depth_mm]]) / UNIT


def measure_posture(anchors: np.ndarray, femurs: np.ndarray, side: Side) -> np.ndarray:
    """Measure the turn of a femur against the pelvis since the CT, (n, 3), rad: extension, abduction, outward rotation.

    A rotation vector in CT axes, of camera_from_ct (n, 4, 4); its signs mean the same on both sides.
    """
    turns = np.swapaxes(anchors[:, :3, :3], 1, 2) @ femurs[:, :3, :3]
    mirror = 1 if side == "L" else -1
    return find_rotation_vectors(turns) * np.array([1, -mirror, mirror])


def measure_femur_residuals(scene: Scene, name: str, anchors: np.ndarray, femurs: np.ndarray) -> np.ndarray:
    """Residuals of one femur: its turn against the pelvis, and its head centre against the socket.

    Args:
        scene: Bodies and settings.
        name: Name of the femur.
        anchors: (n, 4, 4), camera_from_ct of the pelvis.
        femurs: (n, 4, 4), camera_from_ct of the femur.

    Returns:
        (n, 6), in standard deviations.
    """
    p = scene.config.prior
    limits = np.radians([p.flexion_deg, p.abduction_deg, p.axial_rotation_deg])
    gap = (femurs - anchors) @ np.append(scene.body(name).centre_mm, 1)
    return np.concatenate(
        [measure_posture(anchors, femurs, scene.body(name).side) / limits, gap[:, :3] / p.joint_play_mm], axis=1
    )
