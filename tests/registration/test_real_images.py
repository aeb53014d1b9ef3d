"""Real images, where the shared data are: a radiograph of another patient is rejected; two views find wrist bones."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from biplane_sample import write_biplane

from bmdkit.calibration.modes import calibrate
from bmdkit.evaluation.registration_error import pose_error
from bmdkit.io.ct import read_ct
from bmdkit.io.label_maps import read_labels
from bmdkit.io.xray import read_radiograph
from bmdkit.io.xray_settings import XrayConfig
from bmdkit.registration.bodies import prepare_bodies
from bmdkit.registration.initialisation import make_default_start
from bmdkit.registration.pose_parameters import UNIT, PoseParameters
from bmdkit.registration.register_bodies import register_bodies, register_views
from bmdkit.registration.settings import RegistrationConfig, StartSpread
from bmdkit.registration.staging import Shown
from bmdkit.simulation.settings import SimulateConfig
from bmdkit.simulation.simulated_cohort import simulate_cohort

STARTS = 20
SPREAD = StartSpread(3.0, 2.0, 8.0)
MADE_MM, REAL_MM = 0.5, 1.0  # the truth of the real images is uncertain by 0.2 mm, its bones by 0.3 mm


@pytest.fixture
def biplane(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield importlib.import_module("registration_biplane")
    sys.modules.pop("registration_biplane", None)


def register_both(found, bone, frame):
    """Error of the pose by all cameras together, in the first one."""
    body, shots = found.bodies[bone], found.frames[frame]
    true = found.truth[bone, frame, shots[0].camera_name]
    rng = np.random.default_rng(4)
    sizes = [np.radians(SPREAD.rotation_deg)] * 3 + [SPREAD.in_plane_mm] * 2 + [SPREAD.depth_mm]
    start = PoseParameters(true, body.centre_mm, np.ones(6)).pose(rng.standard_normal(6) * sizes)
    shown = [Shown(shot.radiograph, shot.camera, None, shot.camera_name) for shot in shots]
    result = register_views([body], shown, start=start, start_spread=SPREAD, rng=rng)[0]
    camera = shots[0].camera.geometry
    pose = result.bodies[bone].camera_from_ct
    return pose_error(pose, true, body.points_mm, found_camera=camera, true_camera=camera)


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "tree"])
def test_a_made_biplane_set_is_read_as_it_was_made(tmp_path, biplane, flat):
    write_biplane(tmp_path, flat=flat)
    found = biplane.read_biplane(tmp_path)
    assert list(found.bodies) == ["radius"]
    shots = found.frames["frame_0007"]
    assert [shot.camera_name for shot in shots] == ["cam1", "cam2"]
    for shot in shots:
        true = found.truth["radius", "frame_0007", shot.camera_name]
        drawn = found.bodies["radius"].project(true.matrix[None], shot.camera.geometry, 1, "cpu")[0] > 0
        assert shot.radiograph.pixels[drawn].mean() > shot.radiograph.pixels[~drawn].mean() + 0.1
    if flat:
        assert register_both(found, "radius", "frame_0007").mtre_mm < MADE_MM


def test_a_folder_without_a_calibration_is_refused(tmp_path, biplane):
    with pytest.raises(ValueError, match="calibrations"):
        biplane.read_biplane(tmp_path)


@pytest.mark.slow
def test_two_views_find_the_bones_of_a_wrist(shared, biplane):
    found = biplane.read_biplane(shared / "data" / "real-wrist")
    errors = [register_both(found, bone, "frame_0099").mtre_mm for bone in found.bodies]
    assert np.median(errors) < REAL_MM


def judge_real_hip(shared, bodies, config) -> list[str]:
    """Verdicts on bones that are not the real radiograph's, from all starts."""
    image = read_radiograph(
        shared / "data" / "real-radiograph" / "hip-cr.dcm", config=XrayConfig(default_sdd_mm=1000.0, lossy="warn")
    )
    start = make_default_start(bodies, image.geometry(), config)
    parameters = PoseParameters(start, bodies[0].centre_mm)
    verdicts = []
    for seed in range(STARTS):
        rng = np.random.default_rng(seed)
        away = parameters.pose(rng.uniform(-1, 1, 6) * [*np.radians([10, 10, 10]), 20, 20, 50] / UNIT)
        verdicts += [
            body.verdict for body in register_bodies(bodies, image, start=away, config=config, rng=rng).bodies.values()
        ]
    return verdicts


@pytest.mark.slow
def test_the_radiograph_of_another_patient_is_rejected(shared, bodies, config):
    assert set(judge_real_hip(shared, bodies, config)) == {"reject"}


@pytest.mark.slow
def test_simulated_hips_are_rejected_in_it(shared, tmp_path):
    simulate_cohort(tmp_path, SimulateConfig(patients=1, poses=("standing",)), seed=3)
    hu = read_ct(tmp_path / "ct" / "sim000").volume
    labels = read_labels(tmp_path / "labels" / "sim000.nii.gz")
    hips = prepare_bodies(calibrate(hu).apply(hu), labels, None, RegistrationConfig())
    assert set(judge_real_hip(shared, hips, RegistrationConfig())) == {"reject"}


@pytest.mark.slow
@pytest.mark.parametrize("bone", ["radius", "ulna", "metacarpal_3"])
def test_crops_of_real_bones_are_rejected_in_it(shared, biplane, bone):
    body = biplane.read_biplane(shared / "data" / "real-wrist").bodies[bone]
    assert set(judge_real_hip(shared, (body,), RegistrationConfig())) == {"reject"}
