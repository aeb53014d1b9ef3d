"""Registration error of a built dataset against the known poses of a simulated cohort."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmdkit.core.anatomy import BODIES
from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.pose_json import read_poses
from bmdkit.dataset.layout import case_folder, find_registrations
from bmdkit.io.volumes import read_array

REACH_MM = 110.0
"""Targets are the points of a bone this near to a hip's head centre: where the measurement is made."""

TARGETS = 400
"""Points per bone."""


@dataclass(frozen=True)
class PoseError:
    """How far one body is from where it was.

    Attributes:
        mtre_mm: Mean target registration error, at the bone.
        in_plane_mm, depth_mm: Parts of the mean displacement across and along the central ray, at the bone.
        projection_mm: Mean distance of projected targets, at the detector.
        rotation_deg: Angle between the two orientations.
    """

    mtre_mm: float
    in_plane_mm: float
    depth_mm: float
    projection_mm: float
    rotation_deg: float


@dataclass(frozen=True)
class BodyError:
    """The error of one body in one radiograph, and what the registration said of it."""

    patient_id: str
    radiograph: str
    body: str
    verdict: str
    error: PoseError


def pose_error(
    found: RigidTransform,
    true: RigidTransform,
    points_mm: np.ndarray,
    *,
    found_camera: ProjectionGeometry,
    true_camera: ProjectionGeometry,
) -> PoseError:
    """Error of one pose over target points.

    Each pose is projected with its own camera, and a principal point that was assumed elsewhere is a shift of the
    frame, not an error: it is taken out before poses are compared.

    Args:
        found: camera_from_ct, as registered.
        true: camera_from_ct of the truth.
        points_mm: (n, 3), LPS of the CT, mm.
        found_camera: Camera that the registration worked with.
        true_camera: Camera that made the radiograph.

    Source: van de Kraats et al. 2005, doi 10.1109/TMI.2005.857651 (mTRE, projection distance).
    """
    estimate, truth = found.apply(points_mm), true.apply(points_mm)
    shift = (found_camera.principal_point_uv - true_camera.principal_point_uv) * true_camera.pixel_step_mm
    estimate[:, :2] += shift * estimate[:, 2:] / found_camera.sdd_mm
    delta = estimate - truth
    on_detector = [
        camera.sdd_mm * p[:, :2] / p[:, 2:] for camera, p in ((found_camera, estimate), (true_camera, truth))
    ]
    return PoseError(
        mtre_mm=float(np.linalg.norm(delta, axis=1).mean()),
        in_plane_mm=float(np.linalg.norm(delta[:, :2].mean(0))),
        depth_mm=float(abs(delta[:, 2].mean())),
        projection_mm=float(np.linalg.norm(on_detector[0] - on_detector[1], axis=1).mean()),
        rotation_deg=float(np.degrees((found @ true.inverse()).angle_rad())),
    )


def true_camera(camera: Mapping) -> ProjectionGeometry:
    """The camera of a truth file: {sdd, pixel, rows, cols, ppx, ppy}, and of a PA view {reversed_columns}."""
    return ProjectionGeometry(
        camera["sdd"],
        camera["pixel"],
        camera["pixel"],
        camera["cols"],
        camera["rows"],
        np.array([camera["ppx"], camera["ppy"]]),
        camera.get("reversed_columns", False),
    )


def target_points(labels: Path, values: Mapping[str, int], centres_mm: np.ndarray) -> dict[str, np.ndarray]:
    """Evenly drawn points of each body near the hips.

    Args:
        labels: The true label map.
        values: Structure name -> its value there.
        centres_mm: (hips, 3), head centres, LPS, mm.

    Returns:
        Body name -> (at most TARGETS, 3), LPS, mm; a body without voxels there is left out.
    """
    array, grid, _ = read_array(labels)
    points = {}
    for body in BODIES:
        bone = grid.points(np.argwhere(array == values[body]))
        near = np.linalg.norm(bone[:, None] - centres_mm, axis=2).min(axis=1) < REACH_MM if len(bone) else []
        bone = bone[near]
        if len(bone):
            points[body] = bone[np.linspace(0, len(bone) - 1, min(TARGETS, len(bone))).astype(int)]
    return points


def registration_errors(built: Path, truth: Path) -> Iterator[BodyError]:
    """The error of every registered body whose pose is known, in order of patient, radiograph and body.

    Args:
        built: A folder that `bmdkit build-dataset` wrote.
        truth: The folder truth/ of the simulated cohort: <patient>/truth.json and labels.nii.gz.
    """
    for folder in sorted(p for p in truth.iterdir() if (p / "truth.json").exists()):
        known = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        files = find_registrations(case_folder(built, folder.name))
        if not files:
            continue
        centres = np.array([known["head_centre_lps"][side] for side in sorted(known["head_centre_lps"])])
        points = target_points(folder / "labels.nii.gz", known["labels"], centres)
        for name, file in files.items():
            view = _radiograph_of(name, known["radiographs"])
            if view is None:
                continue
            result = read_poses(file)
            for body in BODIES:
                if body in result.bodies and body in points:
                    yield BodyError(
                        folder.name,
                        name,
                        body,
                        result.bodies[body].verdict or "",
                        pose_error(
                            result.bodies[body].camera_from_ct,
                            RigidTransform(np.array(view["ct_to_camera"][body])),
                            points[body],
                            found_camera=result.require_camera(),
                            true_camera=true_camera(view["camera"]),
                        ),
                    )


def _radiograph_of(name: str, radiographs: Mapping[str, Mapping]) -> Mapping | None:
    """The entry of truth.json that a radiograph's file name ends with or holds; the longest such word wins."""
    fitting = [pose for pose in radiographs if pose in name]
    return radiographs[max(fitting, key=lambda pose: (name.endswith(pose), len(pose)))] if fitting else None
