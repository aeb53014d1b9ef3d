"""Sizes that follow from a body and its view: the settings are lengths for hips, and are cut to other bodies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bmdkit.core.geometry import RigidTransform
from bmdkit.registration.pose_parameters import UNIT
from bmdkit.registration.settings import RegistrationConfig

HIP_RADIUS_MM = 90.0
"""Root mean square distance of a pelvis's points (within 110 mm of the hips) from their middle."""

HIP_DEPTH_MM = 850.0
"""Distance of hips from the source, at which `UNIT` moves their projection as it says."""

HIP_MAGNIFICATION = 1000.0 / 850.0


def find_scale(points_mm: np.ndarray) -> float:
    """Size of a body as a part of a pelvis's, from its points (n, 3), mm."""
    spread = points_mm - points_mm.mean(0)
    return float(np.sqrt((spread**2).sum(1).mean())) / HIP_RADIUS_MM


def scale_config(
    config: RegistrationConfig, scale: float, magnification: float = HIP_MAGNIFICATION
) -> RegistrationConfig:
    """Cut all lengths of the settings that belong to a body's size, for one of `scale` that is so much magnified.

    What is known beforehand (priors, distances) stays.
    """
    if scale == 1.0:
        return config
    at_detector = scale * magnification / HIP_MAGNIFICATION
    seen = ("patch_mm", "coarse_pixel_mm", "fine_pixel_mm", "camera_pixel_mm", "fine_patch_mm", "mask_margin_mm")
    own = ("coarse_voxel_mm", "fine_voxel_mm", "dilate_mm")
    lengths = {name: getattr(config, name) * at_detector for name in seen}
    lengths |= {name: getattr(config, name) * scale for name in own}
    prior = replace(config.prior, camera_weight=min(config.prior.camera_weight / scale**2, config.prior.polish_weight))
    return replace(config, **lengths, prior=prior)


def find_unit(scale: float, depth_mm: float, cosines: Sequence[float] = ()) -> np.ndarray:
    """Find the unit of the six pose values that moves the projection of a body as `UNIT` does that of hips.

    Args:
        scale: Size of the body, see `find_scale`.
        depth_mm: Its distance from the source.
        cosines: Of the angles between the first view's ray to the body and that of each further view: there a move
            along the first ray is seen from the side.

    Returns:
        (6,), rad and mm.
    """
    if scale == 1.0 and not cosines:
        return UNIT
    in_plane = UNIT[3] * scale
    along = UNIT[5] * depth_mm / HIP_DEPTH_MM
    seen = sum(1.0 - cosine**2 for cosine in cosines) / (1 + len(cosines))  # mean square of what is seen from the side
    depth = 1 / np.hypot(1 / along, np.sqrt(seen) / in_plane)
    return np.concatenate([UNIT[:3], [in_plane, in_plane, depth]])


def find_cosines(point_mm: np.ndarray, rig: Sequence[RigidTransform]) -> list[float]:
    """Find the cosines between the first camera's ray through a point and those of further cameras.

    Args:
        point_mm: (3,), in the axes of the first camera.
        rig: camera_from_first of every further camera.
    """
    first = point_mm / np.linalg.norm(point_mm)
    found = []
    for camera in rig:
        ray = point_mm - camera.inverse().translation_mm
        found.append(float(first @ ray / np.linalg.norm(ray)))
    return found
