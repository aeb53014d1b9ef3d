"""Hip joint angles: known turns come back, and what the scan does not show is missing."""

import numpy as np
import pytest
from hip_skeleton import HEADS, skeleton
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap
from bmdkit.regions.hip_angles import (
    HipAngles,
    find_femur_frame,
    find_femur_turn,
    find_pelvis_frame,
    find_shaft_axis,
    measure_hip_angles,
)

UPRIGHT = np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]])  # anterior, superior and right in LPS
UP = np.array([0.0, 0, 1])


@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize(("flexion", "abduction", "inward"), [(30, 0, 0), (0, 20, 0), (0, 0, 15), (25, 10, -20)])
def test_known_turns_come_back(side, flexion, abduction, inward):
    mirror = 1 if side == "L" else -1
    turn = Rotation.from_euler("XYZ", (-flexion, -mirror * abduction, -mirror * inward), degrees=True).as_matrix()
    assert (turn @ -UP)[1] <= 1e-9  # the thigh's lower end forward (anterior is -y) when it flexes
    found = measure_hip_angles(UPRIGHT, UP, side, turn)
    assert found.flexion_deg == pytest.approx(flexion, abs=1e-6)
    assert found.abduction_deg == pytest.approx(abduction, abs=1e-6)
    assert found.rotation_change_deg == pytest.approx(inward, abs=1e-6)
    assert found.rotation_deg is None


def test_axes_of_the_skeleton():
    _, labels = skeleton()
    frame = find_pelvis_frame(labels, HEADS)
    assert np.allclose(frame @ frame.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(frame) == pytest.approx(1)
    assert frame[2] @ [-1, 0, 0] > 0.95  # right is -x
    assert frame[0] @ [0, -1, 0] > 0.8  # anterior is -y
    assert find_shaft_axis(labels, "L", HEADS["L"]) @ UP == pytest.approx(1, abs=1e-3)


def test_what_the_scan_does_not_show_is_missing():
    _, labels = skeleton()
    low = labels.crop((slice(0, 50), slice(None), slice(None)))  # cut below the iliac spines
    assert find_pelvis_frame(low, HEADS) is None
    short = labels.crop((slice(36, 84), slice(None), slice(None)))  # no shaft
    assert find_shaft_axis(short, "L", HEADS["L"]) is None
    assert measure_hip_angles(None, UP, "L", np.eye(3)) == HipAngles(None, None)


def turned(side: str, flexion: float, abduction: float, inward: float) -> np.ndarray:
    """Rotation of a femur in LPS: about the body's axes, in this order from the right."""
    mirror = 1 if side == "L" else -1
    return Rotation.from_euler("XYZ", (-flexion, -mirror * abduction, -mirror * inward), degrees=True).as_matrix()


def knee(side: str, turn: np.ndarray) -> dict[str, np.ndarray]:
    """Epicondyles of a femur whose head lies at the origin."""
    outward = 40.0 if side == "L" else -40.0
    return {"medial": turn @ [-outward, 0, -400.0], "lateral": turn @ [outward, 0, -400.0]}


@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize("angles", [(0, 0, 0), (25, 0, 0), (0, 18, 0), (0, 0, -30), (20, -10, -15), (8, 12, 17)])
def test_with_the_knee_axial_rotation_is_told(side, angles):
    turn = turned(side, *angles)
    femur = find_femur_frame(side, np.zeros(3), knee(side, turn))
    assert np.allclose(femur, UPRIGHT @ turn.T, atol=1e-9)
    found = measure_hip_angles(UPRIGHT, femur, side)
    assert (found.flexion_deg, found.abduction_deg, found.rotation_deg) == pytest.approx(angles, abs=1e-6)
    assert found.rotation_change_deg is None


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_radiograph_s_poses_turn_the_femur_that_the_ct_shows(side):
    upright = find_femur_frame(side, np.zeros(3), knee(side, np.eye(3)))
    view = RigidTransform.from_parts(
        Rotation.from_euler("xyz", [80, 10, 20], degrees=True).as_matrix(), np.array([5, 6, 900.0])
    )
    femur = view @ RigidTransform.about(np.array([90.0, 0, 0]), turned(side, 10, 15, -12))
    found = measure_hip_angles(UPRIGHT, upright, side, find_femur_turn(view, femur))
    assert (found.flexion_deg, found.abduction_deg, found.rotation_deg) == pytest.approx((10, 15, -12), abs=1e-6)
    assert found.rotation_change_deg == pytest.approx(-12, abs=1e-6)
    assert set(found.to_dict()) == {"flexion_deg", "abduction_deg", "rotation_deg", "rotation_change_deg"}


def spines(tilt_deg: float) -> LabelMap:
    """Four balls for the iliac spines on a hip bone of a slab, turned about the line through the heads."""
    grid = Grid((80, 80, 110), [2.5] * 3, [-136.0, -100.0, -80.0], np.eye(3))
    turn = Rotation.from_euler("x", tilt_deg, degrees=True).as_matrix()
    points = grid.points(np.moveaxis(np.indices(grid.shape), 0, -1))
    mask = np.zeros(grid.shape, np.uint8)
    for x in (-1, 1):
        for place in ([x * 115, -50, 80], [x * 40, 60, 80]):
            mask |= (((points - turn @ place) ** 2).sum(axis=-1) < 11**2).astype(np.uint8)
    return LabelMap(mask, grid, {"pelvis": 1})


@pytest.mark.parametrize("tilt", [0, 12])
def test_the_frame_of_the_pelvis_follows_its_iliac_spines(tilt):
    frame = find_pelvis_frame(spines(tilt), {"L": np.array([90.0, 0, 0]), "R": np.array([-90.0, 0, 0])})
    assert frame is not None
    expected = UPRIGHT @ Rotation.from_euler("x", tilt, degrees=True).as_matrix().T
    # a spine is read as the mean of a cap of its ball, which turns by a little with the tilt
    assert np.degrees(np.arccos(np.clip((frame * expected).sum(axis=1), -1, 1))).max() < 3
