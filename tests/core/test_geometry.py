"""Rigid transforms and projection: invariants that every other stage leans on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.core.pose import standard_view

angle = st.floats(-3.0, 3.0)
length = st.floats(-200.0, 200.0)
vectors = st.tuples(length, length, length)
transforms = st.builds(
    lambda turn, shift: RigidTransform.from_parts(Rotation.from_rotvec(turn).as_matrix(), shift),
    st.tuples(angle, angle, angle),
    vectors,
)
geometries = st.builds(
    ProjectionGeometry,
    sdd_mm=st.floats(600, 2000),
    column_spacing_mm=st.floats(0.1, 4),
    row_spacing_mm=st.floats(0.1, 4),
    columns=st.integers(4, 3000),
    rows=st.integers(4, 3000),
    principal_point_uv=st.tuples(st.floats(-100, 3000), st.floats(-100, 3000)),
)
PIXEL_TOLERANCE = 1e-6  # float64 over lengths of a metre


@given(geometries, st.tuples(st.floats(-500, 3500), st.floats(-500, 3500)), st.floats(1, 1500))
def test_project_undoes_unproject(geometry, uv, depth):
    point = geometry.unproject(np.array(uv), depth)
    assert point[2] == pytest.approx(depth)
    np.testing.assert_allclose(geometry.project(point), uv, atol=PIXEL_TOLERANCE)


@given(geometries, vectors)
def test_intrinsics_agree_with_project(geometry, point):
    point = np.add(point, (0, 0, 700))
    homogeneous = geometry.intrinsics @ point
    np.testing.assert_allclose(geometry.project(point), homogeneous[:2] / homogeneous[2], atol=1e-5)


@given(transforms, transforms, vectors)
def test_composition_and_inverse(first, second, point):
    np.testing.assert_allclose((second @ first).apply(point), second.apply(first.apply(point)), atol=1e-9)
    np.testing.assert_allclose((first.inverse() @ first).matrix, np.eye(4), atol=1e-9)


@given(vectors, st.tuples(angle, angle, angle))
def test_rotation_about_a_centre_leaves_it_in_place(centre, turn):
    turn = Rotation.from_rotvec(turn).as_matrix()
    np.testing.assert_allclose(RigidTransform.about(centre, turn).apply(centre), centre, atol=1e-9)


@settings(max_examples=40)
@given(geometries, st.integers(1, 6), vectors)
def test_binned_geometry_sees_the_same_point_at_the_block_centre(geometry, factor, point):
    if min(geometry.shape) < factor:
        return
    point = np.add(point, (0, 0, 700))
    fine, coarse = geometry.project(point), geometry.binned(factor).project(point)
    np.testing.assert_allclose(coarse, (fine + 0.5) / factor - 0.5, atol=PIXEL_TOLERANCE)


def test_resized_geometry_keeps_the_detector():
    geometry = ProjectionGeometry(1000, 0.5, 0.4, 860, 720)
    small = geometry.resized(180, 215)
    assert small.columns * small.column_spacing_mm == pytest.approx(430)
    assert small.rows * small.row_spacing_mm == pytest.approx(288)
    np.testing.assert_allclose(
        small.project([30.0, -20.0, 900.0]), (geometry.project([30.0, -20.0, 900.0]) + 0.5) / 4 - 0.5
    )


def test_cropped_geometry_shifts_pixels():
    geometry = ProjectionGeometry(1000, 0.5, 0.5, 860, 720)
    window = geometry.cropped(row=10, column=-20, rows=50, columns=60)
    np.testing.assert_allclose(window.project([1.0, 2.0, 900.0]), geometry.project([1.0, 2.0, 900.0]) - (-20, 10))


def test_dictionary_round_trip():
    geometry = ProjectionGeometry(1100, 0.5, 0.4, 860, 720, (400.25, 300.5))
    again = ProjectionGeometry.from_dict(geometry.to_dict() | {"sources": {}})
    assert again.to_dict() == geometry.to_dict()


@pytest.mark.parametrize(
    ("view", "left_of", "right_of"),
    [
        ("ap", "right", "left"),
        ("pa", "left", "right"),
        ("lateral_left", "anterior", "posterior"),
        ("lateral_right", "posterior", "anterior"),
    ],
)
def test_handedness_of_the_standard_views(view, left_of, right_of):
    """On an AP image the patient's left lies on the image's right, and the head is up in every view."""
    points = {"left": (50, 0, 0), "right": (-50, 0, 0), "anterior": (0, -50, 0), "posterior": (0, 50, 0)}
    geometry = ProjectionGeometry(1000, 1, 1, 400, 400)
    camera_from_ct = standard_view(view, (0, 0, 0), geometry)
    columns = {name: geometry.project(point, camera_from_world=camera_from_ct)[0] for name, point in points.items()}
    assert columns[left_of] < columns[right_of]
    head, foot = geometry.project([(0, 0, 80), (0, 0, -80)], camera_from_world=camera_from_ct)
    assert head[1] < foot[1]


@pytest.mark.parametrize(
    "matrix",
    [
        np.full((4, 4), np.nan),
        np.eye(3),
        np.diag([1, 1, -1, 1]),
        np.diag([2, 1, 1, 1]),
        np.eye(4) + np.eye(4)[[3, 0, 1, 2]],
    ],
)
def test_a_transform_that_is_not_rigid_is_refused(matrix):
    with pytest.raises(GeometryError, match="matrix"):
        RigidTransform(matrix)


@pytest.mark.parametrize("name", ["sdd_mm", "column_spacing_mm", "row_spacing_mm", "columns", "rows"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_geometry_names_what_is_wrong(name, value):
    good = {"sdd_mm": 1000, "column_spacing_mm": 1, "row_spacing_mm": 1, "columns": 10, "rows": 10}
    with pytest.raises(GeometryError, match=name):
        ProjectionGeometry(**(good | {name: value}))


def test_points_behind_the_source_are_refused():
    with pytest.raises(GeometryError, match="in front of the source"):
        ProjectionGeometry(1000, 1, 1, 10, 10).project([0.0, 0.0, -5.0])


def test_reversed_columns_are_those_of_the_image_turned_round():
    plain = ProjectionGeometry(1000.0, 0.5, 0.7, 300, 200, np.array([140.0, 90.0]))
    turned = replace(plain, reversed_columns=True, principal_point_uv=(299 - 140.0, 90.0))
    points = np.random.default_rng(0).uniform((-60, -50, 700), (60, 50, 950), (40, 3))
    seen = plain.project(points)
    np.testing.assert_allclose(turned.project(points), seen * (-1, 1) + (299, 0))
    np.testing.assert_allclose(turned.unproject(turned.project(points), points[:, 2]), points)
    homogeneous = points @ turned.intrinsics.T
    np.testing.assert_allclose(homogeneous[:, :2] / homogeneous[:, 2:], turned.project(points))
    again = ProjectionGeometry.from_dict(turned.to_dict())
    assert again.reversed_columns
    assert "reversed_columns" not in plain.to_dict()
    window = turned.cropped(row=3, column=10, rows=50, columns=60)
    np.testing.assert_allclose(window.project(points), turned.project(points) - (10, 3))
