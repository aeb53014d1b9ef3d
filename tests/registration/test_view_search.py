"""Femurs that the coarse level took for something else are found at a finer one, where a view is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import RigidTransform
from bmdkit.registration import view_search
from bmdkit.registration.coarse_search import Attempt
from bmdkit.registration.search_stages import refine_bodies
from bmdkit.registration.staging import Shown, Staging
from bmdkit.registration.view_search import Search

TURNED_DEG = 30.0
"""Turn of a femur about its head, sideways, from which a refinement does not come back."""

NEAR_MM = 3.0  # a voxel of the skeleton


@pytest.fixture
def search(bodies, shown, config, monkeypatch):
    """Runs a search whose coarse level ends with both femurs turned away; gives poses and stages."""
    pelvis = shown.poses["pelvis"]
    turn = Rotation.from_euler("y", TURNED_DEG, degrees=True).as_matrix()
    wrong = {body.name: pelvis @ RigidTransform.about(body.centre_mm, turn) for body in bodies[1:]}
    poses = {"pelvis": pelvis} | wrong

    def run(start, score):
        def end_wrongly(scene, *_):
            _, refinement = refine_bodies(scene, poses, iterations=1)
            return [Attempt(poses, replace(refinement, score=score), score)], 0

        monkeypatch.setattr(view_search, "search_coarsely", end_wrongly)
        staging, stages = Staging.of(tuple(bodies), [Shown(shown.radiograph)], start, config, "cpu"), []
        found = Search(start, None, np.random.default_rng(0)).run(staging, lambda stage, *_: stages.append(stage))
        return found.best.poses, stages

    return run


def largest_error(bodies, shown, poses):
    pairs = ((body.points_mm, poses[body.name], shown.poses[body.name]) for body in bodies[1:])
    return max(np.linalg.norm(found.apply(points) - true.apply(points), axis=1).mean() for points, found, true in pairs)


def test_femurs_that_were_confused_in_a_given_view_are_found(bodies, shown, search):
    poses, stages = search(shown.poses["pelvis"], 0.3)
    assert any(stage.endswith("at a finer level") for stage in stages)
    assert largest_error(bodies, shown, poses) < NEAR_MM


@pytest.mark.parametrize(("is_given", "score"), [(True, 0.9), (False, 0.3)])
def test_a_good_match_and_the_standard_view_are_left_as_they_are(bodies, shown, search, is_given, score):
    poses, stages = search(shown.poses["pelvis"] if is_given else None, score)
    assert not stages
    assert largest_error(bodies, shown, poses) > NEAR_MM
