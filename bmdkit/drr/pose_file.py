"""Poses as users write them down: one matrix, a list of them, or a registration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bmdkit.core.anatomy import STRUCTURES_OF_BODY
from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform


@dataclass(frozen=True, eq=False)
class PoseFile:
    """What a pose file says.

    Attributes:
        camera_from_ct: One or more poses; None when each structure has its own.
        of_structure: Structure -> pose, from a registration; empty otherwise.
        camera: The camera that the poses belong to, or None.
    """

    camera_from_ct: tuple[RigidTransform, ...] | None
    of_structure: Mapping[str, RigidTransform]
    camera: ProjectionGeometry | None = None


def pose_file(data: Any) -> PoseFile:
    """Understand the contents of a JSON file.

    Args:
        data: A 4x4 matrix camera_from_ct; a list of them, or of {"camera_from_ct": 4x4}; {"poses": such a list} or
            {"camera_from_ct": 4x4}, each with or without "camera"; or a registration, {"camera", "bodies"}.

    Raises:
        GeometryError: It is none of these, or a matrix is not that of a rigid motion.
    """
    camera = None
    if isinstance(data, Mapping):
        if data.get("camera") is not None:
            camera = ProjectionGeometry.from_dict(data["camera"])
        if "bodies" in data:
            return PoseFile(None, _of_structures(data["bodies"]), camera)
        data = data.get("poses", data.get("camera_from_ct"))
    if not isinstance(data, Sequence) or isinstance(data, str) or not data:
        raise GeometryError("pose: expected a 4x4 matrix, a list of them, or a registration")
    if not isinstance(data[0], Mapping) and np.ndim(data[0]) == 1:
        data = [data]
    return PoseFile(tuple(_transform(pose) for pose in data), {}, camera)


def _of_structures(bodies: Mapping) -> dict[str, RigidTransform]:
    if not isinstance(bodies, Mapping) or not bodies:
        raise GeometryError("bodies: expected a mapping from body to pose")
    return {
        structure: _transform(pose)
        for body, pose in bodies.items()
        for structure in STRUCTURES_OF_BODY.get(body, (body,))
    }


def _transform(pose: Any) -> RigidTransform:
    matrix = pose.get("camera_from_ct") if isinstance(pose, Mapping) else pose
    try:
        return RigidTransform(np.array(matrix, dtype=float))
    except (TypeError, ValueError) as error:
        raise GeometryError(f"pose: {error}") from error
