"""Hips that differ widely: still hips, with true landmarks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from bmdkit.core.anatomy import SIDES
from bmdkit.simulation import bones
from bmdkit.simulation.hip_variation import draw_bone_shapes, draw_frame
from bmdkit.simulation.procedural_anatomy import Anatomy, draw_anatomy
from bmdkit.simulation.settings import SimulateConfig
from bmdkit.simulation.simulated_cohort import find_anatomies

USUAL = bones.FemurShape()


@pytest.fixture(scope="module")
def varied() -> list[Anatomy]:
    return [draw_anatomy(np.random.default_rng([9, n]), 4.0, variation=1.0) for n in range(2)]


def test_without_variation_the_shapes_are_the_usual_ones() -> None:
    shapes = draw_bone_shapes(np.random.default_rng(0), USUAL, 0.0)
    frame = draw_frame(np.random.default_rng(0), 0.0)
    assert shapes.axial == bones.AxialShape()
    assert (frame.width, frame.girth, frame.warp_mm) == (1.0, 1.0, 0.0)
    for side in SIDES:
        assert shapes.femurs[side] == USUAL
        assert shapes.hip_bones[side] == bones.HipBoneShape()


def test_what_varies_varies_as_far_as_adults_do() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_bone_shapes(rng, USUAL, 1.0) for _ in range(400)]
    angles = np.array([shapes.femurs["L"].neck_shaft_deg for shapes in drawn])
    assert angles.min() >= 108
    assert angles.max() <= 148
    assert 5 < angles.std() < 8
    gaps = np.array([[shapes.hip_bones[side].joint_gap_mm for side in SIDES] for shapes in drawn])
    assert 0.2 < np.mean(gaps < 0.85 * bones.JOINT_GAP_MM) < 0.6
    assert gaps.min() > 0.7
    cover = np.array([shapes.hip_bones["L"].uncovered_deg for shapes in drawn])
    assert np.mean(cover > 6) > 0.1
    assert any(shapes.femurs["L"].spurs for shapes in drawn)
    both = [(shapes.femurs["L"].spurs, shapes.femurs["R"].spurs) for shapes in drawn]
    assert any(left and not right for left, right in both)  # disease of one side alone


def test_landmarks_are_where_the_shape_has_them(varied: list[Anatomy]) -> None:
    for anatomy in varied:
        step = float(anatomy.grid.spacing_mm[0])
        for side in SIDES:
            marks, femur = anatomy.landmarks[side], anatomy.depths[f"femur_{side}"]
            assert not marks.missing()

            def depth_at(point, femur=femur, grid=anatomy.grid) -> float:
                return float(femur[tuple(np.rint(grid.indices(point)).astype(int))])

            for name in ("superior", "inferior", "anterior", "posterior"):
                assert abs(depth_at(marks[f"junction_{name}"])) < 1.3 * step
            for name in ("head_center", "neck_center", "shaft_2cm", "shaft_5cm"):
                assert depth_at(marks[name]) > 3
            assert marks["shaft_2cm"][2] - marks["shaft_5cm"][2] == pytest.approx(30, abs=0.01)
            assert anatomy.lesser_mm[side][2] - marks["shaft_2cm"][2] == pytest.approx(20, abs=0.01)


def test_bones_keep_apart_and_under_the_skin(varied: list[Anatomy]) -> None:
    for anatomy in varied:
        labels = anatomy.labels()
        assert labels.present() == ("pelvis", "femur_L", "femur_R", "axial")
        assert (anatomy.depths["body"][labels.mask()] > 0).all()
        femurs = np.maximum(anatomy.depths["femur_L"], anatomy.depths["femur_R"])
        assert not ((anatomy.depths["pelvis"] > 0) & (femurs > -0.5)).any()


@pytest.mark.parametrize(
    ("change", "sign"),
    [({"lesser": 1.4}, 1), ({"neck_width": 0.85}, -1), ({"spurs": ((0.0, 7.0),)}, 1)],
)
def test_a_change_of_the_femur_changes_its_size(change: dict, sign: int) -> None:
    """By the share of points of a box that lie inside."""
    points = np.random.default_rng(0).uniform((70, -30, -80), (160, 40, 30), (40_000, 3))
    inside = [np.mean(bones.make_femur(replace(USUAL, **c)).depth(points) > 0) for c in ({}, change)]
    assert sign * (inside[1] - inside[0]) > 0


def test_a_shallow_socket_covers_less() -> None:
    """Points of the roof, at the radius of the socket's wall, are bone in the usual hip and not in a shallow one."""
    angles = np.radians(np.linspace(20, 70, 40))  # from straight up outward
    wall = 24.0 + bones.JOINT_GAP_MM + 2.8
    roof = bones.HEAD_CENTRE_MM + wall * np.stack([np.sin(angles), 0 * angles, np.cos(angles)], axis=1)
    covered = [
        np.mean(bones.make_hip_bone(replace(bones.HipBoneShape(), uncovered_deg=turn)).depth(roof) > 0)
        for turn in (-8.0, 0.0, 15.0)
    ]
    assert covered[0] >= covered[1] > covered[2]


def test_each_patient_draws_one_of_several_anatomies(monkeypatch) -> None:
    from bmdkit.simulation import label_anatomy

    monkeypatch.setattr(label_anatomy, "read_shapes", lambda path, *_: path.name)
    monkeypatch.setattr(label_anatomy, "draw_from_shapes", lambda shapes, rng, **_: shapes)
    find_anatomies.cache_clear()
    draw = find_anatomies(SimulateConfig(anatomies=("a.nrrd", "b.nrrd", "b.nrrd")))
    drawn = [draw(np.random.default_rng(n)) for n in range(300)]
    assert 60 < drawn.count("a.nrrd") < 140  # a third of 300, 5 SD
    assert drawn.count("b.nrrd") == 300 - drawn.count("a.nrrd")
    find_anatomies.cache_clear()
    only = find_anatomies(SimulateConfig(anatomies=("procedural",), variation=0.5))
    assert isinstance(only, partial)
    assert only.keywords["variation"] == 0.5


@pytest.mark.parametrize("values", [{"variation": 2.0}, {"anatomies": ("procedural",), "anatomy": "map.nii"}])
def test_settings_that_make_no_sense_are_named(values: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        SimulateConfig(**values)
