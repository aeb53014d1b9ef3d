"""Radiographs: handedness, poses, areal densities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bmdkit.core.geometry import RigidTransform
from bmdkit.simulation.presentation import present
from bmdkit.simulation.procedural_anatomy import Anatomy
from bmdkit.simulation.radiography import (
    areal_densities,
    draw_geometry,
    draw_poses,
    mineral_channels,
    soft_channels,
    soft_poses,
    take_radiograph,
)
from bmdkit.simulation.tissue import Tissue

PIXEL_MM = 3.0


@pytest.fixture(scope="module")
def bones(anatomy: Anatomy, tissue: Tissue):
    return mineral_channels(tissue)


def knee_direction(anatomy: Anatomy, poses: dict[str, RigidTransform], side: str) -> np.ndarray:
    marks = anatomy.landmarks[side]
    return poses[f"femur_{side}"].rotation @ (marks["shaft_5cm"] - marks["shaft_2cm"])


@pytest.mark.parametrize("from_behind", [False, True])
def test_patient_left_is_on_the_right_of_a_frontal_image(anatomy: Anatomy, tissue: Tissue, bones, from_behind) -> None:
    rng = np.random.default_rng(0)
    geometry = replace(draw_geometry(rng, PIXEL_MM), reversed_columns=from_behind)
    poses = draw_poses(anatomy, "standing", geometry, rng)
    _, images = areal_densities(soft_channels(anatomy, tissue, rng), bones, poses, geometry)
    columns = np.arange(geometry.columns)
    middle = {body: (image.sum(0) * columns).sum() / image.sum() for body, image in images.items()}
    assert middle["femur_L"] > geometry.columns / 2 + 20 > geometry.columns / 2 - 20 > middle["femur_R"]
    rows = np.arange(geometry.rows)
    height = {body: (image.sum(1) * rows).sum() / image.sum() for body, image in images.items()}
    assert height["femur_L"] > height["pelvis"]  # the head of the patient is at the top
    front, back = poses["pelvis"].apply(anatomy.hip_centre() + np.array([[0, -50, 0], [0, 50, 0]]))
    assert (front[2] > back[2]) == from_behind  # farther from the source


def test_mass_is_kept_by_the_projection(anatomy: Anatomy, tissue: Tissue, bones) -> None:
    """Seen from far away, the image sums to the mineral of the bone."""
    from bmdkit.core.geometry import ProjectionGeometry
    from bmdkit.core.pose import standard_view

    far = ProjectionGeometry(100_000.0, 2.0, 2.0, 300, 300)
    pose = standard_view("ap", bones["femur_L"].grid.centre(), far, object_to_detector_mm=200)
    poses = {"pelvis": pose, "femur_L": pose, "femur_R": pose}
    _, images = areal_densities(soft_channels(anatomy, tissue, np.random.default_rng(0)), bones, poses, far)
    grams = tissue.mineral["femur_L"].sum(dtype=float) * anatomy.grid.voxel_volume_mm3 * 1e-6
    assert images["femur_L"].sum(dtype=float) * 0.04 == pytest.approx(grams, rel=0.01)


@pytest.mark.parametrize("side", ["L", "R"])
def test_poses_move_the_leg_as_their_names_say(anatomy: Anatomy, side: str) -> None:
    outward = 1 if side == "L" else -1
    angles = {}
    for pose in ("standing", "abduction", "adduction"):
        found = []
        for seed in range(8):
            rng = np.random.default_rng(seed)
            way = knee_direction(anatomy, draw_poses(anatomy, pose, draw_geometry(rng, PIXEL_MM), rng), side)
            found.append(np.degrees(np.arctan2(outward * way[0], way[1])))
        angles[pose] = np.mean(found)
    assert angles["abduction"] - angles["standing"] == pytest.approx(20, abs=2)
    assert angles["adduction"] - angles["standing"] == pytest.approx(-12, abs=2)


def test_the_femur_turns_about_its_head_with_little_play(anatomy: Anatomy) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        poses = draw_poses(anatomy, "supine", draw_geometry(rng, PIXEL_MM), rng)
        for side in ("L", "R"):
            head = anatomy.heads_mm[side]
            apart = poses[f"femur_{side}"].apply(head) - poses["pelvis"].apply(head)
            assert np.linalg.norm(apart) < 4.0


def test_a_thigh_follows_its_femur_outward_only(anatomy: Anatomy) -> None:
    rng = np.random.default_rng(0)
    geometry = draw_geometry(rng, PIXEL_MM)
    apart, together = (draw_poses(anatomy, pose, geometry, rng) for pose in ("abduction", "adduction"))
    assert soft_poses(apart)["femur_L"] is apart["femur_L"]
    assert soft_poses(together)["femur_L"] is together["pelvis"]


def test_soft_tissue_is_shared_out_whole(anatomy: Anatomy, tissue: Tissue) -> None:
    """With all bodies under one pose the parts sum to the whole, whose depth is that of a body: 10 to 50 g/cm2."""
    rng = np.random.default_rng(0)
    geometry = draw_geometry(rng, PIXEL_MM)
    pose = draw_poses(anatomy, "standing", geometry, rng)["pelvis"]
    soft = soft_channels(anatomy, tissue, rng)
    assert set(soft) == {"pelvis", "femur_L", "femur_R"}
    water, _ = areal_densities(soft, {}, dict.fromkeys(soft, pose), geometry)
    row, column = geometry.rows // 2, geometry.columns // 2
    assert 10 < water[row, column] < 50
    profile = water[:, column + 25]
    assert np.abs(np.diff(profile[profile > 5])).max() < 3  # no seam between trunk and thigh


def test_bone_is_bright_and_the_marker_is_on_the_patients_right(anatomy: Anatomy, tissue: Tissue, bones) -> None:
    exposed = take_radiograph(anatomy, tissue, bones, "standing", PIXEL_MM, np.random.default_rng(1))
    plain = present(exposed.signal, PIXEL_MM, np.random.default_rng(2))
    assert plain.dtype == np.uint16
    assert plain.max() <= 4095
    head = exposed.geometry.project(anatomy.heads_mm["L"], camera_from_world=exposed.camera_from_ct["pelvis"])
    u, v = np.rint(head).astype(int)
    assert plain[v, u] > np.median(plain)
    marked = present(exposed.signal, PIXEL_MM, np.random.default_rng(2), marker=True)
    changed = np.argwhere(marked != plain)
    assert len(changed) > 10
    assert changed[:, 1].max() < plain.shape[1] / 2
    assert (marked[tuple(changed.T)] == 4095).all()


def test_collimation_blackens_the_borders(anatomy: Anatomy) -> None:
    signal = np.full((100, 120), 0.3, np.float32)
    signal[40:60, 40:60] = 0.1
    image = present(signal, PIXEL_MM, np.random.default_rng(0), collimation=True)
    assert (image[:3] == 0).all()
    assert (image[:, :3] == 0).all()


def test_off_centre_moves_the_principal_point_only(anatomy: Anatomy) -> None:
    centred = draw_geometry(np.random.default_rng(4), PIXEL_MM)
    shifted = draw_geometry(np.random.default_rng(4), PIXEL_MM, off_centre=True)
    assert centred.shape == shifted.shape
    np.testing.assert_allclose(centred.principal_point_uv, [(centred.columns - 1) / 2, (centred.rows - 1) / 2])
    assert np.abs(shifted.principal_point_uv - centred.principal_point_uv).max() > 0.5
