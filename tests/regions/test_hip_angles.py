"""Hip joint angles: known turns come back, and what the scan does not show is missing."""

import numpy as np
import pytest
from hip_skeleton import HEADS, skeleton
from scipy.spatial.transform import Rotation

from bmdkit.regions.hip_angles import HipAngles, hip_angles, pelvis_frame, shaft_axis

UPRIGHT = np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]])  # anterior, superior and right in LPS
UP = np.array([0.0, 0, 1])


@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize(("flexion", "abduction", "inward"), [(30, 0, 0), (0, 20, 0), (0, 0, 15), (25, 10, -20)])
def test_known_turns_come_back(side, flexion, abduction, inward):
    mirror = 1 if side == "L" else -1
    turn = Rotation.from_euler("XYZ", (-flexion, -mirror * abduction, -mirror * inward), degrees=True).as_matrix()
    assert (turn @ -UP)[1] <= 1e-9  # the thigh's lower end forward (anterior is -y) when it flexes
    found = hip_angles(UPRIGHT, UP, side, turn)
    assert found.flexion_deg == pytest.approx(flexion, abs=1e-6)
    assert found.abduction_deg == pytest.approx(abduction, abs=1e-6)
    assert found.rotation_change_deg == pytest.approx(inward, abs=1e-6)
    assert found.rotation_deg is None


def test_axes_of_the_skeleton():
    _, labels = skeleton()
    frame = pelvis_frame(labels, HEADS)
    assert np.allclose(frame @ frame.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(frame) == pytest.approx(1)
    assert frame[2] @ [-1, 0, 0] > 0.95  # right is -x
    assert frame[0] @ [0, -1, 0] > 0.8  # anterior is -y
    assert shaft_axis(labels, "L", HEADS["L"]) @ UP == pytest.approx(1, abs=1e-3)


def test_what_the_scan_does_not_show_is_missing():
    _, labels = skeleton()
    low = labels.crop((slice(0, 50), slice(None), slice(None)))  # cut below the iliac spines
    assert pelvis_frame(low, HEADS) is None
    short = labels.crop((slice(36, 84), slice(None), slice(None)))  # no shaft
    assert shaft_axis(short, "L", HEADS["L"]) is None
    assert hip_angles(None, UP, "L", np.eye(3)) == HipAngles(None, None)
