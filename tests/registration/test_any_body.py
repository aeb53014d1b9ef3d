"""Bodies of any size, in one view or several: a made long bone under two calibrated cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bmdkit.core.calibrated_camera import CameraSpread
from bmdkit.core.geometry import RigidTransform
from bmdkit.evaluation.registration_error import pose_error
from bmdkit.registration.bodies import Body
from bmdkit.registration.joints import Joint, TurnPrior, make_hip_joint
from bmdkit.registration.multi_body import MultiBodyProblem
from bmdkit.registration.pose_parameters import UNIT, PoseParameters
from bmdkit.registration.register_bodies import register_views
from bmdkit.registration.settings import RegistrationConfig, SearchConfig, StartSpread
from bmdkit.registration.sizes import HIP_DEPTH_MM, find_cosines, find_scale, find_unit, scale_config
from bmdkit.registration.staging import Staging

CONFIG = RegistrationConfig(pelvis=SearchConfig(sigma=1.0, population=12, evaluations=240), restarts=1)
SPREAD = StartSpread(4.0, 2.0, 8.0)
PROJECTION_MM, TWO_VIEWS_MM = 1.0, 0.5
STEPS_DIFFER = 0.2  # difference quotients of other widths at the edges of bones


def begin(true, body, seed):
    sizes = [np.radians(SPREAD.rotation_deg)] * 3 + [SPREAD.in_plane_mm] * 2 + [SPREAD.depth_mm]
    values = np.random.default_rng(seed).standard_normal(6) * sizes
    return PoseParameters(true, body.centre_mm, np.ones(6)).pose(values)


def measure(found, true, body, camera):
    return pose_error(found, true, body.points_mm, found_camera=camera.geometry, true_camera=camera.geometry)


def test_lengths_follow_the_size():
    points = np.random.default_rng(0).normal(size=(500, 3))
    assert find_scale(3 * points) == pytest.approx(3 * find_scale(points))
    config = RegistrationConfig()
    assert scale_config(config, 1.0) is config
    small = scale_config(config, 0.25)
    assert small.patch_mm == pytest.approx(config.patch_mm / 4)
    assert small.fine_voxel_mm == pytest.approx(config.fine_voxel_mm / 4)
    assert small.prior.in_plane_mm == config.prior.in_plane_mm  # what is known does not depend on the size


def test_one_unit_moves_the_projection_alike():
    assert find_unit(1.0, 123.0) is UNIT
    small = find_unit(0.5, HIP_DEPTH_MM)
    np.testing.assert_allclose(small, UNIT * [1, 1, 1, 0.5, 0.5, 1])  # a ray's move is seen as magnification alone
    both = find_unit(0.5, HIP_DEPTH_MM, [0.0])
    assert both[5] == pytest.approx(small[3] * np.sqrt(2), rel=0.05)  # seen from the side in one of two views
    assert find_unit(0.5, HIP_DEPTH_MM, [1.0])[5] == pytest.approx(small[5])


def test_cosines_between_rays():
    side = RigidTransform.from_parts(np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]]), np.array([900.0, 0, 900]))
    assert find_cosines(np.array([0.0, 0, 900]), [side, RigidTransform.identity()]) == pytest.approx([0, 1], abs=1e-9)


@pytest.mark.parametrize("view", [0, 1])
def test_one_view_finds_the_projection(bone, scene, view):
    shown, true = scene
    result = register_views(
        [bone], [shown[view]], start=begin(true[view], bone, 1), start_spread=SPREAD, config=CONFIG,
        rng=np.random.default_rng(0),
    )[0]  # fmt: skip
    error = measure(result.bodies["radius"].camera_from_ct, true[view], bone, shown[view].camera)
    assert error.projection_mm < PROJECTION_MM
    assert np.array_equal(result.camera.principal_point_uv, shown[view].camera.geometry.principal_point_uv)


def test_two_views_find_the_pose(bone, scene):
    shown, true = scene
    results = register_views(
        [bone], shown, start=begin(true[0], bone, 3), start_spread=SPREAD, config=CONFIG, rng=np.random.default_rng(0)
    )
    for result, pose, each in zip(results, true, shown, strict=True):
        error = measure(result.bodies["radius"].camera_from_ct, pose, bone, each.camera)
        assert error.mtre_mm < TWO_VIEWS_MM
        assert result.to_dict()["views"] == ["cam1", "cam2"]


def test_a_camera_whose_place_is_uncertain_is_found(bone, scene):
    shown, true = scene
    moved = RigidTransform.about((0, 0, 900), np.eye(3), (1.5, -1.0, 0.0)) @ shown[1].camera.camera_from_world
    off = replace(shown[1].camera, camera_from_world=moved, sd=CameraSpread(rotation_deg=0.2, translation_mm=2.0))
    results = register_views(
        [bone], [shown[0], replace(shown[1], camera=off)], start=true[0], start_spread=SPREAD, config=CONFIG,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    error = measure(results[1].bodies["radius"].camera_from_ct, true[1], bone, shown[1].camera)
    assert error.in_plane_mm < 0.5  # 1.8 where the place is believed


def test_several_views_need_their_places(bone, scene):
    shown, true = scene
    lone = replace(shown[1], camera=replace(shown[1].camera, camera_from_world=None))
    with pytest.raises(ValueError, match=r"shown\[1\]"):
        register_views([bone], [shown[0], lone], start=true[0], rng=np.random.default_rng(0))


def test_slopes_by_all_variables_are_those_of_the_images(bone, scene):
    shown, true = scene
    loose = replace(shown[1].camera, sd=CameraSpread(rotation_deg=0.5, translation_mm=1.0))
    staging = Staging.of((bone,), [shown[0], replace(shown[1], camera=loose)], true[0], CONFIG, "cpu")
    coarse = staging.make_coarse()
    problem = MultiBodyProblem(coarse, {"radius": true[0]}, ("radius",), moves_rig=True)
    assert problem.size == 12
    slopes = problem.derivatives(np.zeros(12))
    for k in (3, 5, 9):
        step = np.zeros((2, 12))
        step[0, k], step[1, k] = 0.02, -0.02
        for view, images in enumerate(problem.images(step)):
            change, slope = ((images[0] - images[1]) / 0.04).ravel(), slopes[view][k].ravel()
            sizes = float(np.linalg.norm(change)), float(np.linalg.norm(slope))
            assert sizes[0] == pytest.approx(sizes[1], rel=STEPS_DIFFER)
            assert change @ slope >= (1 - STEPS_DIFFER) * sizes[0] * sizes[1]
    assert not slopes[0][9].any()  # the first view does not see the second camera move


def test_nothing_lies_behind_the_detector(bone, scene):
    shown, true = scene
    coarse = Staging.of((bone,), shown[:1], true[0], CONFIG, "cpu").make_coarse()
    beyond = np.stack([true[0].matrix] * 3)
    beyond[1, 2, 3] += 400
    beyond[2, 2, 3] -= 900
    assert coarse.is_within_reach(beyond).tolist() == [True, False, False]


def test_a_joint_is_declared():
    joint = Joint("a", "b", np.zeros(3), 2.0, TurnPrior.of(5.0))
    assert joint.prior.turns().shape == (27, 3, 3)
    assert make_hip_joint("L", np.zeros(3)).prior.turns().shape == (75, 3, 3)
    with pytest.raises(ValueError, match="child"):
        Joint("a", "a", np.zeros(3), 2.0, TurnPrior.of(5.0))
    with pytest.raises(ValueError, match="sd_mm"):
        Joint("a", "b", np.zeros(3), 0.0, TurnPrior.of(5.0))
    with pytest.raises(ValueError, match="mask"):
        Body.from_mask(*(lambda v: (v, np.zeros(v.grid.shape, bool)))(_density()), "empty")


def _density():
    from biplane_sample import draw_bone

    return draw_bone()[0]
