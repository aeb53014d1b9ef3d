"""Angles of the hip: a femur that was turned by a known angle shows that angle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import RigidTransform
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import Grid, LabelMap
from bmdkit.regions.joint_angles import BoneFrame, femur_frame, hip_angles, pelvis_frame

UPRIGHT = np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0]], float)  # x front, y up, z right, in LPS


def turned(flexion: float, abduction: float, external: float, side: str) -> np.ndarray:
    """Rotation in LPS of a femur: external rotation, then abduction, then flexion, degrees, about the body's axes."""
    lateral = 1 if side == "L" else -1
    # about -x (right): the knee, below the hip, moves to the front; about -y (front): it moves to the patient's left
    about_left = Rotation.from_euler("x", -flexion, degrees=True)
    about_back = Rotation.from_euler("y", -lateral * abduction, degrees=True)
    about_up = Rotation.from_euler("z", lateral * external, degrees=True)
    return (about_left * about_back * about_up).as_matrix()


@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize("angles", [(0, 0, 0), (25, 0, 0), (0, 18, 0), (0, 0, 30), (20, -10, 15), (-12, 20, -25)])
def test_angles_of_a_turned_femur(side, angles):
    flexion, abduction, external = angles
    # what the turn does to the knee, 400 mm below the hip
    knee = turned(*angles, side) @ [0, 0, -400.0]
    assert np.sign(round(-knee[1], 6)) == np.sign(flexion) or abduction
    femur = BoneFrame(turned(*angles, side) @ UPRIGHT)
    found = hip_angles(BoneFrame(UPRIGHT), femur, side)
    assert found.flexion_deg == pytest.approx(flexion, abs=1e-6)
    assert found.abduction_deg == pytest.approx(abduction, abs=1e-6)
    assert found.external_rotation_deg == pytest.approx(external, abs=1e-6)


def test_abduction_moves_the_knee_away_from_the_midline():
    assert (turned(0, 20, 0, "L") @ [0, 0, -400.0])[0] > 0
    assert (turned(0, 20, 0, "R") @ [0, 0, -400.0])[0] < 0


def test_poses_in_the_radiograph_replace_those_of_the_ct():
    view = RigidTransform.from_parts(Rotation.from_euler("xyz", [80, 10, 20], degrees=True).as_matrix(), [5, 6, 900.0])
    femur = view @ RigidTransform.about(np.array([90.0, 0, 0]), turned(10, 15, 0, "L"))
    found = hip_angles(BoneFrame(UPRIGHT), BoneFrame(UPRIGHT), "L", camera_from_pelvis=view, camera_from_femur=femur)
    assert (found.flexion_deg, found.abduction_deg) == pytest.approx((10, 15), abs=1e-6)
    with pytest.raises(ValueError, match="both poses"):
        hip_angles(BoneFrame(UPRIGHT), BoneFrame(UPRIGHT), "L", camera_from_pelvis=view)


def marks(side: str, turn: np.ndarray) -> Landmarks:
    points = {"head_center": [0, 0, 0.0], "shaft_2cm": [30, 0, -85.0], "shaft_5cm": [30, 0, -115.0]}
    return Landmarks(side, {name: turn @ np.array(point) for name, point in points.items()})


def test_without_the_knee_there_is_no_rotation_and_it_says_so():
    femur = femur_frame(marks("L", turned(10, 5, 20, "L")))
    found = hip_angles(BoneFrame(UPRIGHT), femur, "L")
    assert (found.flexion_deg, found.abduction_deg) == pytest.approx((10, 5), abs=1e-6)
    assert found.external_rotation_deg is None
    assert any("no knee" in note for note in found.notes)


@pytest.mark.parametrize("side", ["L", "R"])
def test_with_the_knee_the_frame_is_the_femurs_own(side):
    turn = turned(8, 12, 17, side)
    outward = 40.0 if side == "L" else -40.0
    knee = {"medial": turn @ [-outward, 0, -400.0], "lateral": turn @ [outward, 0, -400.0]}
    found = hip_angles(BoneFrame(UPRIGHT), femur_frame(marks(side, turn), knee), side)
    angles = (found.flexion_deg, found.abduction_deg, found.external_rotation_deg)
    assert angles == pytest.approx((8, 12, 17), abs=1e-6)


def pelvis(tilt_deg: float, top_mm: float = 120.0) -> tuple[LabelMap, dict[str, np.ndarray]]:
    """Four balls for the iliac spines, turned about the line through the heads."""
    grid = Grid((80, 80, 110), [2.5] * 3, [-136.0, -100.0, top_mm - 200], np.eye(3))
    turn = Rotation.from_euler("x", tilt_deg, degrees=True).as_matrix()
    points = grid.points(np.moveaxis(np.indices(grid.shape), 0, -1))
    mask = np.zeros(grid.shape, np.uint8)
    for x in (-1, 1):
        for place in ([x * 115, -50, 80], [x * 40, 60, 80]):
            mask |= (((points - turn @ place) ** 2).sum(axis=-1) < 8**2).astype(np.uint8)
    return LabelMap(mask, grid, {"pelvis": 1}), {"L": np.array([90.0, 0, 0]), "R": np.array([-90.0, 0, 0])}


@pytest.mark.parametrize("tilt", [0, 12])
def test_the_frame_of_the_pelvis_follows_its_iliac_spines(tilt):
    labels, heads = pelvis(tilt)
    frame = pelvis_frame(labels, heads)
    expected = Rotation.from_euler("x", tilt, degrees=True).as_matrix() @ UPRIGHT
    assert np.degrees(np.arccos(np.clip((frame.axes * expected).sum(axis=0), -1, 1))).max() < 3
    assert frame.notes == ()


def test_a_pelvis_without_its_spines_takes_the_scanners_tilt_and_says_so():
    labels, heads = pelvis(0, top_mm=85.0)
    frame = pelvis_frame(labels, heads)
    assert frame.axes == pytest.approx(UPRIGHT)
    assert any("iliac spines" in note for note in frame.notes)
