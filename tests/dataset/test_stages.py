"""The stages composed for a caller: a registration is one call, and gives what the composed steps give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hip_skeleton import CAMERA, CONFIG, HEADS, expose, skeleton

from bmdkit.calibration.line import Calibration
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.dataset.stages import PointPairs, locate_hip, measure_density, prepare_bones, register, register_bones
from bmdkit.errors import CaseError
from bmdkit.evaluation.registration_error import pose_error
from bmdkit.segmentation.labels import prepare_labels

LINE = Calibration(0.8, -5.0, None, None, (), "file")


@pytest.fixture(scope="module")
def bones():
    density, labels = skeleton()
    return prepare_bones(density, prepare_labels(labels), config=CONFIG)


@pytest.fixture(scope="module")
def shown(bones):
    return expose(bones, np.random.default_rng(3))


def test_a_registration_is_one_call(bones, shown):
    density, labels = skeleton()
    result = register(density, shown.radiograph, labels=labels, config=CONFIG, seed=1)
    for body in bones:
        cameras = {"found_camera": result.camera, "true_camera": CAMERA}
        error = pose_error(result.bodies[body.name].camera_from_ct, shown.poses[body.name], body.points_mm, **cameras)
        assert error.mtre_mm < 3.0  # a voxel of the skeleton
    steps = register_bones(bones, shown.radiograph, config=CONFIG, seed=1)
    assert steps.to_dict() | {"seconds": 0} == result.to_dict() | {"seconds": 0}


def test_a_ct_in_hu_is_calibrated_first(bones):
    density, labels = skeleton()
    hu = Volume((density.array - LINE.intercept_mg_cm3) / LINE.slope_mg_cm3_per_hu, density.grid, "hu")
    again = prepare_bones(hu, prepare_labels(labels), LINE, config=CONFIG)
    for body, other in zip(bones, again, strict=True):
        assert np.allclose(body.pyramid[1].arrays, other.pyramid[1].arrays, atol=0.01)
    with pytest.raises(ValueError, match="density already"):
        prepare_bones(density, labels, LINE, config=CONFIG)


def test_wanted_femurs_and_given_landmarks_are_taken():
    density, labels = skeleton()
    given = {"L": Landmarks("L", {"head_center": HEADS["L"] + 1.0})}
    bodies = prepare_bones(density, labels, landmarks=given, sides=("L",), config=CONFIG)
    assert [body.name for body in bodies] == ["pelvis", "femur_L"]
    assert np.array_equal(bodies[1].centre_mm, HEADS["L"] + 1.0)
    assert set(bodies[0].joints_mm) == {"L", "R"}


def test_a_femur_without_a_head_is_named_in_the_warnings(shown):
    density, labels = skeleton()
    array = labels.array.copy()
    head = np.linalg.norm(labels.grid.points(np.moveaxis(np.indices(array.shape), 0, -1)) - HEADS["L"], axis=-1) < 60
    array[(array == labels.values["femur_L"]) & head] = 0
    quick = replace(CONFIG, restarts=0, check_mirror=False)
    found = register(density, shown.radiograph, labels=LabelMap(array, labels.grid, labels.values), config=quick)
    assert set(found.bodies) == {"pelvis", "femur_R"}
    assert any("femur_L" in warning for warning in found.warnings)


def test_three_pairs_of_points_are_needed():
    points = {name: np.zeros(3) for name in "abc"}
    with pytest.raises(ValueError, match="three"):
        PointPairs(points, {"a": np.zeros(2), "b": np.zeros(2), "x": np.zeros(2)})


def test_density_is_measured_around_the_bones_only():
    density, labels = skeleton()
    hu = Volume(density.array, density.grid, "hu")
    wide = LabelMap(np.where(labels.array == labels.values["femur_L"], labels.array, 0), labels.grid, labels.values)
    part = measure_density(hu, LINE, wide)
    assert part.quantity == "density_mg_cm3"
    assert part.array.size < 0.6 * density.array.size
    with pytest.raises(CaseError, match="BMD-LBL-002"):
        measure_density(hu, LINE, LabelMap(np.zeros_like(labels.array), labels.grid, labels.values))


def test_a_hip_without_landmarks_says_why():
    density, labels = skeleton()
    hu = Volume(density.array, density.grid, "hu")
    hip = locate_hip(hu, LabelMap(labels.array * 0, labels.grid, labels.values), "L")
    assert hip.landmarks is None
    assert hip.error is not None
    assert hip.error.code == "BMD-LMK-001"
    given = Landmarks("L", {"head_center": HEADS["L"]})
    assert locate_hip(hu, labels, "L", given).landmarks is given
