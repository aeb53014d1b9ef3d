"""The views of benchmarks/view_cohort.py: turned about the middle of the hips, and a fifth of a bone outside."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.pose import standard_view

CAMERA = ProjectionGeometry(1000.0, 0.5, 0.5, 860, 720)
FOCUS_MM = np.array([10.0, -5.0, 40.0])


@pytest.fixture
def views(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield importlib.import_module("view_cohort")
    sys.modules.pop("view_cohort", None)


@pytest.fixture
def patient(views):
    rng = np.random.default_rng(0)
    away = np.array([100.0, 0.0, -60.0])
    middles = {"pelvis": FOCUS_MM, "femur_L": FOCUS_MM + away, "femur_R": FOCUS_MM + away * (-1, 1, 1)}
    points = {name: middle + rng.uniform(-30, 30, (1000, 3)) for name, middle in middles.items()}
    pose = standard_view("ap", FOCUS_MM + 3.0, CAMERA)
    return views.Patient({}, {}, points, FOCUS_MM, dict.fromkeys(points, pose), CAMERA)


def test_a_turned_view_has_the_hips_on_its_central_ray_and_keeps_the_long_axis(views, patient):
    poses = views.turn_poses(patient, 90.0, CAMERA, 150.0)
    np.testing.assert_allclose(poses["pelvis"].apply(FOCUS_MM), [0, 0, 850], atol=1e-9)
    np.testing.assert_allclose(poses["pelvis"].rotation @ [0, 0, 1.0], [0, -1, 0], atol=1e-9)
    np.testing.assert_allclose(np.abs(poses["pelvis"].rotation @ [1.0, 0, 0]), [0, 0, 1], atol=1e-9)


@pytest.mark.parametrize("body", ["pelvis", "femur_L", "femur_R"])
def test_a_fifth_of_a_bone_lies_outside(views, patient, body):
    poses = views.move_outside(patient, body, CAMERA)
    column, row = CAMERA.project(poses[body].apply(patient.points_mm[body])).T
    inside = (column >= 0) & (column <= CAMERA.columns - 1) & (row >= 0) & (row <= CAMERA.rows - 1)
    assert inside.mean() == pytest.approx(1 - views.OUTSIDE, abs=0.005)
