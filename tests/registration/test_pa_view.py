"""PA radiographs, displayed as usual: the source is behind the patient, the patient's left on the image's right."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hip_skeleton import CAMERA, HEADS, Shown, expose

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.pose import standard_view
from bmdkit.core.pose_json import parse_poses
from bmdkit.evaluation.registration_error import pose_error
from bmdkit.registration import view_search as module
from bmdkit.registration.bodies import FINE
from bmdkit.registration.register_bodies import PA_WARNING, RegistrationResult, register_bodies
from bmdkit.registration.settings import RegistrationConfig

PA_CAMERA = replace(CAMERA, principal_point_uv=(190.0, 168.0), reversed_columns=True)
REACHED_MM = 3.0  # mean point error: one voxel of the skeleton


def accept_only_above(config: RegistrationConfig, similarity: float) -> RegistrationConfig:
    """The same settings, with another least similarity of an accepted pose."""
    return replace(config, verdict=replace(config.verdict, accept_similarity=similarity))


@pytest.fixture(scope="module")
def shown_from_behind(bodies) -> Shown:
    """A PA radiograph whose shadows are those of a plain camera behind the patient, its columns turned round."""
    return expose(bodies, np.random.default_rng(5), camera=PA_CAMERA, view="pa")


@pytest.fixture(scope="module")
def found(bodies, shown_from_behind, config) -> RegistrationResult:
    strict = accept_only_above(config, 1.0)  # so few shapes fit an AP view nearly as well
    return register_bodies(bodies, shown_from_behind.radiograph, config=strict, rng=np.random.default_rng(0))


def test_the_source_behind_the_patient_is_found(bodies, shown_from_behind, found):
    assert found.camera.reversed_columns
    assert PA_WARNING in found.warnings
    for body in bodies:
        result, true = found.bodies[body.name], shown_from_behind.poses[body.name]
        cameras = {"found_camera": found.camera, "true_camera": PA_CAMERA}
        assert pose_error(result.camera_from_ct, true, body.points_mm, **cameras).mtre_mm < REACHED_MM
        assert result.camera_from_ct.rotation[2, 1] < -0.9  # away from the source is to the patient's front


def test_what_the_file_says_projects_onto_the_radiograph_as_displayed(bodies, shown_from_behind, found):
    read = parse_poses(json.loads(json.dumps(found.to_dict())))
    behind = replace(PA_CAMERA, reversed_columns=False, principal_point_uv=(CAMERA.columns - 1 - 190.0, 168.0))
    for body in bodies:
        camera_from_ct = read.bodies[body.name].camera_from_ct
        drawn = body.project(camera_from_ct.matrix[None], read.require_camera(), FINE, "cpu")[0] > 0
        pose = shown_from_behind.poses[body.name]
        true = body.project(pose.matrix[None], behind, FINE, "cpu")[0][:, ::-1] > 0
        assert (drawn & true).sum() > 0.95 * (drawn | true).sum()
        if body.name != "pelvis":
            head = read.require_camera().project(HEADS[body.name[-1]], camera_from_world=camera_from_ct)
            assert (head[0] > CAMERA.columns / 2) == (body.name == "femur_L")


def count_searches(monkeypatch) -> list[ProjectionGeometry]:
    """The cameras of all coarse searches from now on."""
    cameras: list[ProjectionGeometry] = []
    search = module.search_coarsely

    def counted(scene, *rest):
        cameras.append(scene.level.geometry)
        return search(scene, *rest)

    monkeypatch.setattr(module, "search_coarsely", counted)
    return cameras


def test_an_accepted_ap_view_costs_no_other(monkeypatch, bodies, shown, config):
    cameras = count_searches(monkeypatch)
    verdict = replace(config.verdict, accept_over_2mm=1.0, accept_over_10mm=1.0, accept_spread_mm=100.0)
    lenient = replace(config, verdict=verdict, restarts=0)
    found = register_bodies(bodies, shown.radiograph, config=lenient, rng=np.random.default_rng(0))
    assert found.verdict == "accept"
    assert [camera.reversed_columns for camera in cameras] == [False]


def test_a_given_start_costs_no_other(monkeypatch, bodies, shown, config):
    cameras = count_searches(monkeypatch)
    start = standard_view("ap", (HEADS["L"] + HEADS["R"]) / 2, CAMERA)
    strict = replace(accept_only_above(config, 1.0), restarts=0)
    register_bodies(bodies, shown.radiograph, start=start, config=strict, rng=np.random.default_rng(0))
    assert [camera.reversed_columns for camera in cameras] == [False]


def test_an_ap_radiograph_that_is_not_accepted_stays_one(monkeypatch, bodies, shown, config):
    cameras = count_searches(monkeypatch)
    both = replace(accept_only_above(config, 1.0), restarts=0)
    found, alone = (
        register_bodies(bodies, shown.radiograph, config=wanted, rng=np.random.default_rng(0))
        for wanted in (both, replace(both, check_mirror=False))
    )
    assert [camera.reversed_columns for camera in cameras] == [False, True, False]
    assert not found.camera.reversed_columns
    assert PA_WARNING not in found.warnings
    for name, body in alone.bodies.items():
        assert np.array_equal(body.camera_from_ct.matrix, found.bodies[name].camera_from_ct.matrix)
