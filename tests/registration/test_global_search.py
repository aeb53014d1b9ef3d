"""The global search of a radiograph: the pose is found wherever in the image the bones are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hip_skeleton import CAMERA

from bmdkit.evaluation.registration_error import pose_error
from bmdkit.registration.bodies import COARSE
from bmdkit.registration.global_search import search_globally
from bmdkit.registration.pose_parameters import PoseParameters
from bmdkit.registration.pyramid import make_level
from bmdkit.registration.register_bodies import register_bodies
from bmdkit.registration.scene import Scene, View

AWAY = np.array([0.8, -0.6, 0.5, 6.0, -5.0, 0.3])
"""Scaled: a few degrees, 60 and 50 mm."""


def test_the_best_place_is_near_the_truth_from_far_away(bodies, shown, config):
    scene = Scene(bodies, (View(make_level(shown.radiograph, CAMERA, config.coarse_pixel_mm, config)),), COARSE, config)
    true = shown.poses["pelvis"]
    view = PoseParameters(true, bodies[0].centre_mm).pose(AWAY)
    found, rendered = search_globally(scene, view, 3)
    assert len(found) == 3
    assert rendered > 100
    away = [np.linalg.norm(pose.apply(bodies[0].points_mm) - true.apply(bodies[0].points_mm), axis=1) for pose in found]
    assert away[0].mean() < 0.25 * np.linalg.norm(10 * AWAY[3:5])


def test_a_hopeless_start_is_made_good(bodies, shown, config):
    lost = PoseParameters(shown.poses["pelvis"], bodies[0].centre_mm).pose(np.array([0, 0, 12.0, 14.0, 12.0, 0]))
    once = replace(config, restarts=0)
    alone = register_bodies(bodies, shown.radiograph, start=lost, config=once, rng=np.random.default_rng(0))
    found = register_bodies(bodies, shown.radiograph, start=lost, config=config, rng=np.random.default_rng(0))
    assert alone.bodies["pelvis"].similarity < 0.5
    pose, true = found.bodies["pelvis"].camera_from_ct, shown.poses["pelvis"]
    cameras = {"found_camera": found.camera, "true_camera": CAMERA}  # the principal point is found too
    assert pose_error(pose, true, bodies[0].points_mm, **cameras).mtre_mm < 3.0  # a voxel of the skeleton
