"""Pose files: every way to write poses down that is understood, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.core.pose_json import encode_pose, parse_poses, read_poses

POSE = RigidTransform.from_parts(
    Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix(), np.array([1, 2, 3])
)
MATRIX = POSE.matrix.tolist()


@pytest.mark.parametrize("data", [MATRIX, [MATRIX], {"camera_from_ct": MATRIX}, {"poses": [MATRIX]}, encode_pose(POSE)])
def test_one_pose_however_it_is_written(data):
    (pose,) = parse_poses(data).poses
    assert pose.matrix.tolist() == MATRIX


def test_several_poses():
    assert len(parse_poses([{"camera_from_ct": MATRIX}, MATRIX]).poses) == 2


def test_a_registration_gives_each_structure_the_pose_of_its_bone():
    body = {"camera_from_ct": MATRIX, "similarity": 0.7, "verdict": "review", "evidence": {"mirrored": 1.0}}
    said = parse_poses({"bodies": {"pelvis": body, "femur_L": {"camera_from_ct": MATRIX}}, "camera": None})
    assert set(said.of_structures()) == {"pelvis", "axial", "femur_L"}
    assert (said.bodies["pelvis"].similarity, said.bodies["pelvis"].verdict) == (0.7, "review")
    assert said.bodies["pelvis"].mirrored
    assert not said.bodies["femur_L"].mirrored
    assert said.bodies["femur_L"].verdict is None
    assert said.poses == ()
    assert said.first().matrix.tolist() == MATRIX


def test_a_file_brings_its_camera(tmp_path):
    camera = ProjectionGeometry(1000, 0.5, 0.5, 100, 80)
    file = tmp_path / "poses.json"
    file.write_text(json.dumps({"camera": camera.to_dict(), "poses": [MATRIX]}), encoding="utf-8")
    found = read_poses(file)
    assert found.camera is not None
    assert found.camera.to_dict() == camera.to_dict()


@pytest.mark.parametrize(
    "data",
    [None, [], "ap", {}, [[1, 2], [3, 4]], [1, 2], {"bodies": []}, {"bodies": {"pelvis": None}}, {"poses": [None]}],
)
def test_anything_else_is_refused(data):
    with pytest.raises(GeometryError):
        parse_poses(data)
