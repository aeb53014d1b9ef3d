"""Scaled variables: there and back, and each moves the projection by about as much."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.pose import standard_view
from bmdkit.registration.pose_parameters import PoseParameters, find_rotation_vectors, make_rotations

GEOMETRY = ProjectionGeometry(1000.0, 0.5, 0.5, 800, 700)
CENTRE = np.array([12.0, -40.0, 210.0])


@pytest.fixture
def parameters():
    off_centre = RigidTransform.from_parts(np.eye(3), (30.0, -20.0, 0.0))
    return PoseParameters(off_centre @ standard_view("ap", CENTRE, GEOMETRY), CENTRE)


def test_rotations_are_those_of_scipy():
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    assert np.allclose(make_rotations(vectors), Rotation.from_rotvec(vectors).as_matrix())
    assert np.allclose(make_rotations(np.zeros((1, 3))), np.eye(3))


@pytest.mark.parametrize("angle", [0.0, 1e-7, 0.3, 2.0, np.pi - 1e-7, np.pi])
def test_rotation_vector_gives_the_rotation_back(angle):
    axis = np.array([0.36, -0.48, 0.8])
    matrix = Rotation.from_rotvec(angle * axis).as_matrix()
    assert np.allclose(make_rotations(find_rotation_vectors(matrix))[0], matrix, atol=1e-6)


def test_pose_and_values_are_inverse(parameters):
    for values in np.random.default_rng(1).normal(size=(20, 6)):
        assert np.allclose(parameters.values(parameters.pose(values)), values, atol=1e-9)
    assert np.allclose(parameters.values(parameters.start), 0)


def test_depth_moves_along_the_viewing_ray(parameters):
    moved = parameters.pose([0, 0, 0, 0, 0, 1])
    before = GEOMETRY.project(CENTRE, camera_from_world=parameters.start)
    assert np.allclose(GEOMETRY.project(CENTRE, camera_from_world=moved), before)
    assert moved.apply(CENTRE)[2] - parameters.start.apply(CENTRE)[2] == pytest.approx(30.0)


def test_turns_leave_the_centre(parameters):
    assert np.allclose(parameters.pose([1, -2, 0.5, 0, 0, 0]).apply(CENTRE), parameters.start.apply(CENTRE))


def test_each_variable_moves_a_hip_by_about_as_much(parameters):
    points = CENTRE + np.random.default_rng(2).uniform(-110, 110, (500, 3)) * (1, 0.5, 1)
    before = GEOMETRY.project(points, camera_from_world=parameters.start)
    moves = [
        np.linalg.norm(GEOMETRY.project(points, camera_from_world=parameters.pose(e)) - before, axis=1).mean() / 2
        for e in np.eye(6)
    ]
    assert max(moves) / min(moves) < 4
