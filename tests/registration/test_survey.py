"""A survey of all radiographs at once: places in space, and what is compared near small bodies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bmdkit.core.geometry import RigidTransform
from bmdkit.evaluation.registration_error import pose_error
from bmdkit.registration import coarse_search
from bmdkit.registration.multi_body import MultiBodyProblem
from bmdkit.registration.pose_parameters import PoseParameters
from bmdkit.registration.priors import find_anchor_deviations
from bmdkit.registration.register_bodies import register_views
from bmdkit.registration.settings import RegistrationConfig, StartSpread
from bmdkit.registration.staging import Staging
from bmdkit.registration.survey import ALIKE, find_apart_mm, find_turn_step, make_turns, survey_places
from bmdkit.registration.uncertainty import find_rays

WIDE = StartSpread(8.0, 6.0, 25.0)
AWAY = np.array([0.9, -1.1, 0.8, 1.5, -1.2, 2.2])
"""Standard deviations of a wide start: seven to nine degrees, 9 and 7 mm, 55 mm in depth."""

TWO_VIEWS_MM = 0.5
PLACE_MM = 4.0  # a body's middle is found to a few coarse pixels


@pytest.fixture(scope="module")
def seen(scene):
    """Radiographs, and the true camera_from_ct of the first."""
    shown, true = scene
    return shown, true[0]


def begin(true, body, away):
    sizes = [np.radians(WIDE.rotation_deg)] * 3 + [WIDE.in_plane_mm] * 2 + [WIDE.depth_mm]
    return PoseParameters(true, body.centre_mm, np.ones(6)).pose(away * np.array(sizes))


def stage(bone, shown, start):
    return Staging.of((bone,), shown, start, RegistrationConfig(), "cpu", WIDE)


def test_turns_fill_a_ball_of_what_is_uncertain():
    for sd in (3.0, 8.0, 12.0):
        turns = np.degrees(make_turns(sd))
        assert (turns == 0).all(1).any()
        assert np.linalg.norm(turns, axis=1).max() <= 2.5 * sd + 1e-9
        assert len(np.unique(np.round(turns, 6), axis=0)) == len(turns)
        np.testing.assert_allclose(np.sort(turns, axis=0), np.sort(-turns, axis=0), atol=1e-9)
    assert len(make_turns(3.0)) < len(make_turns(8.0)) < len(make_turns(12.0))


def test_two_views_name_the_place_far_off_in_depth(bone, seen):
    shown, true = seen
    start = begin(true, bone, AWAY)
    scene = stage(bone, shown, start).make_coarse()
    found, rendered = survey_places(scene, start, 4)
    away = [np.linalg.norm(pose.apply(bone.centre_mm) - true.apply(bone.centre_mm)) for pose in found]
    assert away[0] < PLACE_MM
    assert np.linalg.norm(start.apply(bone.centre_mm) - true.apply(bone.centre_mm)) > 50
    assert rendered < 400


@pytest.mark.parametrize("away_mm", [0.0, 300.0])
def test_a_narrow_reach_or_a_start_outside_the_image_leaves_a_place(bone, seen, away_mm):
    shown, true = seen
    moved = RigidTransform.from_parts(np.eye(3), np.array([away_mm, 0.0, 0.0])) @ true
    sure = StartSpread(3.0, 0.3, 4.0)
    scene = Staging.of((bone,), shown[:1], moved, RegistrationConfig(), "cpu", sure).make_coarse()
    found, _ = survey_places(scene, moved, 4)
    assert found
    assert np.abs(found[0].apply(bone.centre_mm) - moved.apply(bone.centre_mm))[:2].max() <= 1.0


def test_few_turns_are_kept_at_one_place(bone, seen):
    shown, true = seen
    scene = stage(bone, shown, true).make_coarse()
    found, _ = survey_places(scene, true, 100)
    middles = np.array([pose.apply(bone.centre_mm) for pose in found])
    near = np.linalg.norm(middles[:, None] - middles[None], axis=-1) < 0.5 * find_apart_mm(scene)
    assert near.sum(1).max() <= ALIKE


@pytest.mark.parametrize("signs", [(1, 1, 1, 1, 1, 1), (-1, 1, -1, -1, 1, -1), (1, -1, -1, 1, -1, -1)])
def test_a_start_far_off_in_depth_is_made_good(bone, seen, signs):
    shown, true = seen
    start = begin(true, bone, AWAY * signs)
    result = register_views([bone], shown, start=start, start_spread=WIDE, rng=np.random.default_rng(0))[0]
    camera = shown[0].camera.geometry
    pose = result.bodies["radius"].camera_from_ct
    assert pose_error(pose, true, bone.points_mm, found_camera=camera, true_camera=camera).mtre_mm < TWO_VIEWS_MM


def name_wrong_places(scene, view, count):
    """As many places as are asked for, side by side and far from the bone; the true one is the last of all."""
    parameters = scene.parameters(view)
    values = np.zeros((count, 6))
    values[:, 3] = 4.0 + 0.5 * np.arange(count)
    return [*(RigidTransform(matrix) for matrix in parameters.matrices(values[:-1])), view], count


@pytest.mark.parametrize("views", [1, 2])
def test_more_places_of_several_views_are_refined_in_doubt(bone, seen, monkeypatch, views):
    shown, true = seen
    monkeypatch.setattr(coarse_search, "survey_places", name_wrong_places)
    scene = stage(bone, shown[:views], true).make_coarse()
    told = []
    attempts, _ = coarse_search.search_coarsely(
        scene, true, np.random.default_rng(0), lambda name, number, cost: told.append(number), WIDE
    )
    away = np.linalg.norm(attempts[0].poses["radius"].apply(bone.centre_mm) - true.apply(bone.centre_mm))
    assert len(told) == (2 if views == 1 else 7)
    assert (away < PLACE_MM) == (views == 2)


def test_the_best_end_in_several_views_is_turned_each_way(bone, seen):
    shown, true = seen
    scene = stage(bone, shown, true).make_coarse()
    turned = coarse_search._turn_about(scene, {"radius": true, "other": true @ RigidTransform.identity()})
    step = np.radians(find_turn_step(WIDE.rotation_deg))
    for poses in turned:
        np.testing.assert_allclose(poses["radius"].apply(bone.centre_mm), true.apply(bone.centre_mm), atol=1e-9)
        assert (poses["radius"] @ true.inverse()).angle_rad() == pytest.approx(step)
        np.testing.assert_allclose(poses["other"].matrix, poses["radius"].matrix, atol=1e-9)
    assert len(turned) == 14


def test_cut_radiographs_compare_the_same_pixels(bone, seen):
    shown, true = seen
    scene = stage(bone, shown, true).make_coarse()
    off = begin(true, bone, np.full(6, 0.3))
    images = scene.render_all({"radius": off})
    whole = scene.comparison.within(scene.near(images))
    cut, parts = scene.cut_about(images)
    assert cut.level.fixed.pixels.size < 0.5 * scene.level.fixed.pixels.size
    expected = float(whole.scores(tuple(image[None] for image in images))[0])
    assert float(cut.comparison.scores(tuple(part[None] for part in parts))[0]) == pytest.approx(expected, abs=1e-6)
    drawn = cut.render_all({"radius": off})
    for part, image in zip(parts, drawn, strict=True):
        np.testing.assert_allclose(part, image, atol=1e-4)
    assert cut.comparison.support == whole.support


def test_a_start_is_believed_wherever_a_refinement_begins(bone, seen):
    shown, true = seen
    scene = stage(bone, shown, true).make_coarse()
    off = begin(true, bone, AWAY)
    problem = MultiBodyProblem(scene, {"radius": off}, ("radius",))
    residual = problem.prior(np.zeros((1, 6)))[0] / np.sqrt(2 * scene.config.prior.polish_weight)
    np.testing.assert_allclose(residual, scene.parameters(true).values(off) / find_anchor_deviations(scene))
    free = MultiBodyProblem(replace(scene, expected=None), {"radius": off}, ("radius",))
    assert not free.prior(np.zeros((1, 6))).any()


def test_each_camera_has_its_own_rays(bone, seen):
    shown, true = seen
    scene = stage(bone, shown, true).make_coarse()
    points = true.apply(bone.points_mm[:5])
    first, second = find_rays(scene, points)
    np.testing.assert_allclose(first, points / np.linalg.norm(points, axis=1, keepdims=True))
    place = RigidTransform(scene.views[1].camera_from_first.matrix)
    seen_from = place.apply(points)
    np.testing.assert_allclose(second @ place.rotation.T, seen_from / np.linalg.norm(seen_from, axis=1, keepdims=True))


def test_the_evidence_tells_depth_from_what_is_seen(bone, seen):
    shown, true = seen
    start = begin(true, bone, np.full(6, 0.2))
    one = register_views([bone], shown[:1], start=start, start_spread=WIDE, rng=np.random.default_rng(0))[0]
    evidence = one.bodies["radius"].evidence
    assert 0 < evidence.across_mm < 0.3 * evidence.curvature_mm
    assert evidence.spread_across_mm <= evidence.spread_mm
    assert 0 < evidence.lead <= 1
