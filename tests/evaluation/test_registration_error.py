"""Registration error by closed form, and over a folder with known truth."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.evaluation.registration_error import pose_error, registration_errors, target_points
from bmdkit.evaluation.summary import summarise
from bmdkit.io.nifti import write_nifti
from bmdkit.io.results import write_csv, write_json

CAMERA = ProjectionGeometry(1000.0, 0.5, 0.5, 800, 600)
TRUE = RigidTransform.from_parts(np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]]), np.array([0, 0, 800.0]))
POINTS = np.random.default_rng(0).uniform(-40, 40, (200, 3))
TRUTH_CAMERA = {"sdd": 1000.0, "pixel": 0.5, "rows": 600, "cols": 800, "ppx": 399.5, "ppy": 299.5}


def moved(translation=(0, 0, 0), degrees=0.0, axis=(0, 0, 1)):
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array(axis)).as_matrix()
    return RigidTransform.about(TRUE.translation_mm, turn, translation) @ TRUE


def error(found, camera=CAMERA):
    return pose_error(found, TRUE, POINTS, found_camera=camera, true_camera=CAMERA)


def test_the_true_pose_has_no_error():
    found = error(TRUE)
    assert (found.mtre_mm, found.in_plane_mm, found.depth_mm, found.projection_mm) == pytest.approx((0, 0, 0, 0))
    assert found.rotation_deg == pytest.approx(0, abs=1e-5)  # arccos near 1


def test_a_shift_along_the_detector_is_in_plane_and_magnified():
    found = error(moved((3.0, 4.0, 0.0)))
    assert (found.mtre_mm, found.in_plane_mm) == pytest.approx((5, 5))
    assert found.depth_mm == pytest.approx(0, abs=1e-9)
    depth = TRUE.apply(POINTS)[:, 2]
    assert found.projection_mm == pytest.approx(np.mean(5 * 1000 / depth))


def test_a_shift_along_the_ray_is_depth_and_hardly_seen():
    found = error(moved((0, 0, 8.0)))
    assert (found.mtre_mm, found.depth_mm) == pytest.approx((8, 8))
    assert found.in_plane_mm == pytest.approx(0, abs=1e-9)
    assert found.projection_mm < 0.6


def test_a_turn_about_the_middle_moves_points_by_their_chord():
    found = error(moved(degrees=10))
    reach = np.linalg.norm((TRUE.apply(POINTS) - TRUE.translation_mm)[:, :2], axis=1)
    assert found.rotation_deg == pytest.approx(10)
    assert found.mtre_mm == pytest.approx(np.mean(2 * reach * np.sin(np.radians(5))))


def test_another_principal_point_is_a_shift_of_the_frame_and_no_error():
    # moving the principal point by d pixels looks the same as a shear of the camera frame by d * pixel / sdd * z
    other = ProjectionGeometry(1000.0, 0.5, 0.5, 800, 600, np.add(CAMERA.principal_point_uv, (10, -6)))
    flat = np.c_[POINTS[:, :1], np.zeros((200, 1)), POINTS[:, 2:]]  # all at one depth: a shift does it
    shift = -np.array([10, -6]) * 0.5 * 800 / 1000
    found = RigidTransform.from_parts(np.eye(3), np.array([*shift, 0])) @ TRUE
    assert np.allclose(
        other.project(flat, camera_from_world=found), CAMERA.project(flat, camera_from_world=TRUE), atol=1e-9
    )
    result = pose_error(found, TRUE, flat, found_camera=other, true_camera=CAMERA)
    assert (result.mtre_mm, result.projection_mm) == pytest.approx((0, 0), abs=1e-9)


def test_targets_lie_in_their_bone_and_near_a_hip(tmp_path):
    grid = Grid((20, 20, 60), [5.0, 5, 5], [-150.0, -50, -50], np.eye(3))
    labels = np.zeros(grid.shape, np.uint8)
    labels[:, :, :30], labels[:, :, 30:] = 1, 2
    write_nifti(tmp_path / "labels.nii.gz", labels, grid)
    centre = np.array([[-80.0, 0, 0]])
    points = target_points(tmp_path / "labels.nii.gz", {"pelvis": 1, "femur_L": 2, "femur_R": 3}, centre)
    assert set(points) == {"pelvis", "femur_L"}  # nothing of femur_R is there
    assert points["pelvis"].shape == (400, 3)
    assert (points["pelvis"][:, 0] < 0).all()
    assert (np.linalg.norm(points["femur_L"] - centre, axis=1) < 110).all()


@pytest.fixture
def simulated(tmp_path):
    """Truth and a build of one patient whose pelvis was found 2 mm off and whose femur was lost."""
    grid = Grid((20, 20, 20), [4.0, 4, 4], [-40.0, -40, -40], np.eye(3))
    labels = np.zeros(grid.shape, np.uint8)
    labels[:10], labels[10:] = 1, 2
    truth, built = tmp_path / "truth", tmp_path / "built"
    write_nifti(truth / "p1" / "labels.nii.gz", labels, grid)
    poses = {name: TRUE.matrix.tolist() for name in ("pelvis", "femur_L")}
    hip = {"qct_bmd_mg_cm3": 200.0, "areal_bmd_g_cm2": 0.8}
    known = {"radiographs": {"supine": {"camera": TRUTH_CAMERA, "ct_to_camera": poses}}}
    known |= {"labels": {"pelvis": 1, "femur_L": 2, "femur_R": 3, "axial": 4}, "head_centre_lps": {"L": [0, 0, 0]}}
    known |= {"calibration": {"hu_at_zero": 5.0, "hu_per_mg_cm3": 1.25}, "proximal_femur": {"L": hip}}
    write_json(truth / "p1" / "truth.json", known)
    bodies = {"pelvis": moved((2.0, 0, 0)), "femur_L": moved((0, 0, 20.0))}
    bodies = {name: {"camera_from_ct": pose.matrix.tolist(), "verdict": "accept"} for name, pose in bodies.items()}
    write_json(built / "cases/p1/registration_p1_supine.json", {"camera": CAMERA.to_dict(), "bodies": bodies})
    line = {"slope_mg_cm3_per_hu": 0.8, "intercept_mg_cm3": -3.0}  # true: -4
    write_json(built / "cases/p1/calibration.json", line)
    row = {"patient_id": "p1", "side": "L", "dataset": "B", "status": "ok", "qct_bmd_mg_cm3": 202, "ct_abmd_g_cm2": 0.8}
    rows = [row | {"pf_drr_mean_g_cm2": mean, "dxa_bmd_g_cm2": 0.9} for mean in (0.7, 0.72)]
    write_csv(built / "manifest.csv", rows, list(rows[0]))
    return built, truth


def test_errors_of_a_build(simulated):
    found = {error.body: error for error in registration_errors(*simulated)}
    assert set(found) == {"pelvis", "femur_L"}
    assert found["pelvis"].error.mtre_mm == pytest.approx(2)
    assert found["femur_L"].error.depth_mm == pytest.approx(20)
    assert found["pelvis"].radiograph == "p1_supine"


def test_the_summary_says_what_was_reached(simulated):
    found = {(f.group, f.quantity): f for f in summarise(*simulated)}
    assert found["Cohort", "pairs ok"].value == 2
    assert found["Calibration", "largest density error at 0 to 200 mg/cm3, median"].value == pytest.approx(1)
    assert found["Measurement", "QCT-BMD error, median"].value == pytest.approx(1)
    assert found["Registration", "pelvis: mTRE below 10 mm"].value == 100
    assert found["Registration", "femur_L: mTRE below 10 mm"].value == 0
    lost = found["Registration", "bodies with mTRE of 10 mm or more that were accepted"]
    assert (lost.value, lost.n) == (1, 1)
    spread = 100 * np.std([0.7, 0.72], ddof=1) / 0.71
    assert found["BMD", "RMS-CV of PF-DRR mean over radiographs"].value == pytest.approx(spread)
    assert np.isnan(found["BMD", "PCC of PF-DRR mean with DXA-BMD"].value)  # one value of DXA


def test_a_summary_without_truth_or_cases(tmp_path):
    assert {f.group for f in summarise(tmp_path)} == {"Cohort", "BMD"}
    (tmp_path / "truth" / "p1").mkdir(parents=True)
    (tmp_path / "truth" / "p1" / "truth.json").write_text(json.dumps({"proximal_femur": {}}))
    assert all(f.n == 0 for f in summarise(tmp_path, tmp_path / "truth"))
