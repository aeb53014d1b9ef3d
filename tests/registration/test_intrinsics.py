"""The camera's variables: what moves with the principal point, and what it leaves to be seen."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.registration.intrinsics import PRINCIPAL_POINT_UNIT_MM, adjust_camera, follow_principal_point

CAMERA = ProjectionGeometry(1000.0, 0.5, 0.5, 800, 600)
LENS = np.array([1.2, -0.7])


def seen(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Of points that follow the principal point, mm at the detector."""
    turn = follow_principal_point(CAMERA, intrinsics[None])[0]
    return adjust_camera(CAMERA, intrinsics).project(points @ turn[:3, :3].T + turn[:3, 3]) * CAMERA.column_spacing_mm


def test_what_lies_on_the_central_ray_keeps_its_place_however_far_away():
    points = np.array([[0.0, 0.0, z] for z in (500.0, 800.0, 950.0)])
    assert seen(points, LENS) == pytest.approx(seen(points, np.zeros(2)), abs=1e-9)


def test_elsewhere_only_the_keystone_is_left():
    points = np.array([[130.0, 0.0, 850.0], [0.0, -110.0, 850.0], [100.0, 80.0, 900.0]])
    plain = CAMERA.sdd_mm * points[:, :2] / points[:, 2:]
    moved = seen(points, LENS) - seen(points, np.zeros(2))
    shift = PRINCIPAL_POINT_UNIT_MM * LENS
    keystone = -plain * (plain @ shift)[:, None] / CAMERA.sdd_mm**2
    assert moved == pytest.approx(keystone, abs=0.03)  # of first order
    assert np.abs(moved).max() > 0.1


def test_bodies_turn_about_the_source_and_keep_their_distance():
    turns = follow_principal_point(CAMERA, np.array([[0.0, 0.0], [2.0, 3.0]]))
    assert turns[0] == pytest.approx(np.eye(4))
    assert turns[1, :3, :3] @ turns[1, :3, :3].T == pytest.approx(np.eye(3))
    assert turns[1, :3, 3] == pytest.approx(0)
