"""What is known of the poses before the radiograph is seen."""

from __future__ import annotations

import numpy as np

from bmdkit.registration.pose_parameters import find_rotation_vectors
from bmdkit.registration.scene import Scene

REACH_SD = 3.0
"""Standard deviations of what is known of a start within which it is looked for."""


def find_anchor_deviations(scene: Scene) -> np.ndarray:
    """Standard deviations of the first body's six values about the start, scaled units."""
    p = scene.config.prior
    turn = np.radians([p.rotation_deg] * 3)
    return np.concatenate([turn, [p.in_plane_mm, p.in_plane_mm, p.depth_mm]]) / scene.unit


def measure_joint_residuals(scene: Scene, name: str, parents: np.ndarray, children: np.ndarray) -> np.ndarray:
    """Residuals of one body in its joint: its turn against the parent since the CT, and the play of the joint.

    A body without a joint may lie anywhere about the first one, as that may about the start.

    Args:
        scene: Bodies and settings.
        name: Name of the body.
        parents: (n, 4, 4), camera_from_ct of the body that holds it.
        children: (n, 4, 4), camera_from_ct of the body.

    Returns:
        (n, 6), in standard deviations.
    """
    p, body = scene.config.prior, scene.body(name)
    limits, play = (p.rotation_deg,) * 3, p.in_plane_mm
    if body.joint is not None:
        own, sd_mm = body.joint.prior.sd_deg, body.joint.sd_mm
        limits = (p.flexion_deg, p.abduction_deg, p.axial_rotation_deg) if own is None else own
        play = p.joint_play_mm if sd_mm is None else sd_mm
    turns = np.swapaxes(parents[:, :3, :3], 1, 2) @ children[:, :3, :3]
    gap = (children - parents) @ np.append(body.centre_mm, 1)
    return np.concatenate([find_rotation_vectors(turns) / np.radians(limits), gap[:, :3] / play], axis=1)


def find_parent(scene: Scene, name: str) -> str:
    """Find the name of the body that holds another: that of its joint if it is here, else the first."""
    joint = scene.body(name).joint
    there = joint is not None and any(body.name == joint.parent for body in scene.bodies)
    return joint.parent if joint is not None and there else scene.bodies[0].name
