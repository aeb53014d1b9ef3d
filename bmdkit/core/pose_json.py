"""Poses in JSON: what a registration's file, or a user, writes down about where bones are in front of the camera."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bmdkit.core.anatomy import STRUCTURES_OF_BODY
from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.core.grid import frozen

_POSE = "camera_from_ct"


@dataclass(frozen=True, eq=False)
class PoseSpread:
    """How sure a pose is.

    Attributes:
        centre_mm: (3,), LPS, point of the bone about which it turns.
        covariance: (6, 6), of turns about the camera's axes (rad) and moves along x, y and the viewing ray (mm).
    """

    centre_mm: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        """Check the shapes."""
        for name, shape in (("centre_mm", (3,)), ("covariance", (6, 6))):
            value = np.array(getattr(self, name), float)
            if value.shape != shape or not np.isfinite(value).all():
                raise GeometryError(f"{name}: expected finite numbers of shape {shape}, got {value!r}")
            object.__setattr__(self, name, frozen(value))

    def to_dict(self) -> dict[str, Any]:
        """As in a registration's file."""
        rounded = [[float(f"{value:.6g}") for value in row] for row in self.covariance]
        return {"centre_mm": [round(float(value), 4) for value in self.centre_mm], "covariance": rounded}


@dataclass(frozen=True, eq=False)
class RecordedBody:
    """One bone of a registration's file.

    Attributes:
        camera_from_ct: Its pose.
        similarity: Similarity that was reached; None where the file gives none.
        verdict: accept, review or reject; None where the file gives none.
        mirrored: Whether the mirrored radiograph fits better.
        spread: How sure the pose is; None where the file does not say it.
    """

    camera_from_ct: RigidTransform
    similarity: float | None = None
    verdict: str | None = None
    mirrored: bool = False
    spread: PoseSpread | None = None


@dataclass(frozen=True, eq=False)
class RecordedPoses:
    """What a pose file says.

    Attributes:
        poses: One or more poses that belong to no bone; empty for a registration.
        bodies: Bones of a registration by name; empty otherwise.
        camera: Camera that the poses belong to, or None.
    """

    poses: tuple[RigidTransform, ...] = ()
    bodies: Mapping[str, RecordedBody] = field(default_factory=dict)
    camera: ProjectionGeometry | None = None

    def first(self) -> RigidTransform:
        """The pose of the first bone, or the first pose.

        Raises:
            GeometryError: The file holds none.
        """
        every = [*(body.camera_from_ct for body in self.bodies.values()), *self.poses]
        if not every:
            raise GeometryError("pose: expected at least one, got none")
        return every[0]

    def require_camera(self) -> ProjectionGeometry:
        """The camera that the poses belong to.

        Raises:
            GeometryError: The file gives none.
        """
        if self.camera is None:
            raise GeometryError("camera: expected the camera of the poses, got none")
        return self.camera

    def of_structures(self) -> dict[str, RigidTransform]:
        """The pose of every structure that moves with a bone of the registration."""
        return {
            structure: body.camera_from_ct
            for name, body in self.bodies.items()
            for structure in STRUCTURES_OF_BODY.get(name, (name,))
        }


def encode_pose(pose: RigidTransform) -> dict[str, list[list[float]]]:
    """Write a pose as the entry that `parse_poses` reads.

    Example:
        >>> parse_poses(encode_pose(RigidTransform.identity())).poses[0].translation_mm
        array([0., 0., 0.])
    """
    return {_POSE: pose.matrix.tolist()}


def read_poses(path: Path) -> RecordedPoses:
    """Read a pose file.

    Args:
        path: JSON file, see `parse_poses`.

    Raises:
        ValueError: It is not JSON, or holds no poses (a GeometryError).
    """
    return parse_poses(json.loads(Path(path).read_text(encoding="utf-8")))


def parse_poses(data: Any) -> RecordedPoses:
    """Understand the content of a pose file.

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
            return RecordedPoses((), _parse_bodies(data["bodies"]), camera)
        data = data.get("poses", data.get(_POSE))
    if not isinstance(data, Sequence) or isinstance(data, str) or not data:
        raise GeometryError("pose: expected a 4x4 matrix, a list of them, or a registration")
    if not isinstance(data[0], Mapping) and np.ndim(data[0]) == 1:
        data = [data]
    return RecordedPoses(tuple(_parse_pose(pose) for pose in data), {}, camera)


def _parse_bodies(bodies: Any) -> dict[str, RecordedBody]:
    if not isinstance(bodies, Mapping) or not bodies:
        raise GeometryError("bodies: expected a mapping from body to pose")
    return {
        name: RecordedBody(
            _parse_pose(body), body.get("similarity"), body.get("verdict"), _is_mirrored(body), _parse_spread(body)
        )
        if isinstance(body, Mapping)
        else RecordedBody(_parse_pose(body))
        for name, body in bodies.items()
    }


def _is_mirrored(body: Mapping[str, Any]) -> bool:
    return bool((body.get("evidence") or {}).get("mirrored"))


def _parse_spread(body: Mapping[str, Any]) -> PoseSpread | None:
    if body.get("covariance") is None or body.get("centre_mm") is None:
        return None
    return PoseSpread(body["centre_mm"], body["covariance"])


def _parse_pose(pose: Any) -> RigidTransform:
    matrix = pose.get(_POSE) if isinstance(pose, Mapping) else pose
    try:
        return RigidTransform(np.array(matrix, dtype=float))
    except (TypeError, ValueError) as error:
        raise GeometryError(f"pose: {error}") from error
