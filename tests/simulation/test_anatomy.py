"""What has to be true of any hip."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bmdkit.core.anatomy import SIDES, STRUCTURES
from bmdkit.regions.head import find_head
from bmdkit.simulation.procedural_anatomy import Anatomy, draw_anatomy
from bmdkit.simulation.true_landmarks import find_true_head, interpolate_depth, place_landmarks

COARSE_MM = 5.0


def on_sphere(centre: np.ndarray, radius: float, count: int = 500) -> np.ndarray:
    way = np.random.default_rng(0).normal(size=(count, 3))
    return centre + radius * way / np.linalg.norm(way, axis=1, keepdims=True)


@pytest.mark.parametrize("side", SIDES)
def test_the_head_is_a_sphere_in_a_socket_with_a_gap(anatomy: Anatomy, side: str) -> None:
    head, radius = anatomy.heads_mm[side], anatomy.head_radii_mm[side]
    femur = interpolate_depth(anatomy.depths[f"femur_{side}"], anatomy.grid)
    pelvis = interpolate_depth(anatomy.depths["pelvis"], anatomy.grid)
    inner = on_sphere(head, radius)
    inner = inner[(inner[:, 0] - head[0]) * (1 if side == "L" else -1) < -0.4 * radius]  # away from the neck
    assert np.abs(femur(inner)).max() < 0.25  # interpolated on coarse voxels
    assert pelvis(on_sphere(head, radius + 1.0)).max() < 0
    roof = np.add(head, [(0, 0, radius + 6.5)])
    assert pelvis(roof) > 0
    covered = (pelvis(on_sphere(head, radius + 6.0)) > 0).mean()
    assert 0.3 < covered < 0.75


@pytest.mark.parametrize("side", SIDES)
def test_proportions_are_those_of_an_adult(anatomy: Anatomy, side: str) -> None:
    marks, lesser = anatomy.landmarks[side], anatomy.lesser_mm[side]
    assert marks.missing() == ()
    neck = marks["head_center"] - marks["neck_center"]
    shaft = marks["shaft_5cm"] - marks["shaft_2cm"]
    angle = np.degrees(np.arccos(neck @ shaft / np.linalg.norm(neck) / np.linalg.norm(shaft)))
    assert 112 < angle < 145
    assert 18 < anatomy.head_radii_mm[side] < 30
    assert 45 < marks["head_center"][2] - lesser[2] < 90
    outward = 1 if side == "L" else -1
    assert (marks["neck_center"] - marks["head_center"])[0] * outward > 5
    assert (lesser - marks["shaft_2cm"])[0] * outward < -5  # medial
    assert (lesser - marks["shaft_2cm"])[1] > 5  # posterior
    assert marks["shaft_2cm"][2] == pytest.approx(lesser[2] - 20)
    assert lesser[2] - anatomy.grid.origin_mm[2] > 60  # the CT shows the shaft


@pytest.mark.parametrize("side", SIDES)
def test_junction_points_lie_on_the_surface_in_their_directions(anatomy: Anatomy, side: str) -> None:
    marks = anatomy.landmarks[side]
    depth = interpolate_depth(anatomy.depths[f"femur_{side}"], anatomy.grid)
    assert np.abs(depth(marks.junction())).max() < 0.4
    assert marks["junction_superior"][2] > marks["junction_inferior"][2] + 20
    assert marks["junction_anterior"][1] < marks["junction_posterior"][1] - 20


def test_left_is_left_and_not_the_mirror_image_of_right(anatomy: Anatomy) -> None:
    assert anatomy.heads_mm["L"][0] > anatomy.heads_mm["R"][0] + 140
    centres = {s: ndimage.center_of_mass(anatomy.depths[f"femur_{s}"] > 0)[2] for s in SIDES}
    assert centres["L"] > centres["R"]
    left, right = (anatomy.landmarks[s]["neck_center"] - anatomy.heads_mm[s] for s in SIDES)
    assert np.linalg.norm(left * (-1, 1, 1) - right) > 0.2


def test_every_hip_bone_has_an_obturator_foramen(anatomy: Anatomy) -> None:
    shadow = (anatomy.depths["pelvis"] > 0).any(axis=1)  # from front to back
    holes = ndimage.binary_fill_holes(shadow) & ~shadow
    parts, count = ndimage.label(holes)
    spacing = anatomy.grid.spacing_mm
    sizes = ndimage.sum(holes, parts, range(1, count + 1)) * spacing[0] * spacing[2]
    places = anatomy.grid.points([(k, 0, i) for k, i in ndimage.center_of_mass(holes, parts, range(1, count + 1))])
    middle = anatomy.hip_centre()
    for outward in (1, -1):
        mine = (sizes > 200) & ((places[:, 0] - middle[0]) * outward > 15) & (places[:, 2] < middle[2])
        assert mine.sum() == 1


def test_structures_do_not_overlap_and_lie_in_the_body(anatomy: Anatomy) -> None:
    inside = np.array([anatomy.depths[name] > 0 for name in STRUCTURES])
    assert inside.sum(axis=0).max() == 1
    assert (anatomy.depths["body"][inside.any(axis=0)] > 0).all()
    labels = anatomy.labels()
    assert labels.present() == STRUCTURES


def test_a_patient_depends_on_the_generator_alone() -> None:
    first, same, other = (draw_anatomy(np.random.default_rng(s), COARSE_MM) for s in ([7, 1], [7, 1], [7, 2]))
    for name, depth in first.depths.items():
        np.testing.assert_array_equal(depth, same.depths[name])
    assert first.grid == same.grid
    assert np.abs(first.heads_mm["L"] - other.heads_mm["L"]).max() > 0.5


@pytest.mark.parametrize("side", SIDES)
def test_the_head_is_found_in_the_label_map_as_well(anatomy: Anatomy, side: str) -> None:
    """What a registration turns the femur about."""
    head = find_head(anatomy.labels(), side)
    assert np.linalg.norm(head.centre_mm - anatomy.heads_mm[side]) < 0.5 * anatomy.grid.spacing_mm[0]


@pytest.mark.parametrize("side", SIDES)
def test_head_and_landmarks_are_found_in_voxels(anatomy: Anatomy, side: str) -> None:
    """The way of label maps agrees with the analytic shape."""
    depth = anatomy.depths[f"femur_{side}"]
    head = find_true_head(depth, anatomy.grid, side)
    centre, radius = head.centre_mm, head.radius_mm
    assert np.linalg.norm(centre - anatomy.heads_mm[side]) < 0.2  # a tenth of a voxel or less
    assert radius == pytest.approx(anatomy.head_radii_mm[side], abs=0.4)
    at = interpolate_depth(depth, anatomy.grid)
    lowest_mm = float(anatomy.grid.origin_mm[2])
    marks, lesser = place_landmarks(lambda points: at(points) > 0, side, centre, radius, lowest_mm)
    assert np.linalg.norm(lesser - anatomy.lesser_mm[side]) < 4.0
    for name, point in anatomy.landmarks[side].points_mm.items():
        assert np.linalg.norm(marks[name] - point) < 4.0, name


@pytest.mark.parametrize("side", SIDES)
def test_a_neck_that_stands_out_more_is_not_taken_for_the_lesser_trochanter(anatomy: Anatomy, side: str) -> None:
    """In a hip that is turned outward the back of the neck reaches farther behind than the lesser trochanter."""
    centre, radius = anatomy.heads_mm[side], anatomy.head_radii_mm[side]
    at = interpolate_depth(anatomy.depths[f"femur_{side}"], anatomy.grid)
    neck = np.array([anatomy.lesser_mm[side][0], anatomy.lesser_mm[side][1] - 6, centre[2] - 22])

    def is_inside(points):
        return (at(points) > 0) | (np.linalg.norm(points - neck, axis=-1) < 22)

    _, lesser = place_landmarks(is_inside, side, centre, radius, float(anatomy.grid.origin_mm[2]))
    assert np.linalg.norm(lesser - anatomy.lesser_mm[side]) < 4.0
