"""The proximal femur and its densities, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from solid_femur import VALUES, SolidFemur

from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.errors import CaseError
from bmdkit.regions import areal_bmd, find_landmarks, proximal_femur, volumetric_bmd
from bmdkit.regions.cut_planes import find_coronal_turn, find_junction_plane

AREA_TOLERANCE = 0.01  # of a projected box: one pixel row of 0.25 mm on 60 mm


def box_landmarks(side: str = "L") -> Landmarks:
    """Of a box femur: head above z = 40 and junction there, distal cut at z = -40; neck and shaft need no turn."""
    points = {
        "head_center": (0.0, 0.0, 60.0),
        "neck_center": (1e-3, 0.0, 20.0),
        "junction_superior": (-10.0, 0.0, 40.0),
        "junction_inferior": (10.0, 0.0, 40.0),
        "junction_anterior": (0.0, -10.0, 40.0),
        "junction_posterior": (0.0, 10.0, 40.0),
        "shaft_2cm": (0.0, 0.0, -40.0),
        "shaft_5cm": (0.0, 0.0, -70.0),
    }
    return Landmarks(side, points)


def box_femur(spacing: float = 1.0, width: int = 30, depth: int = 20, density: float = 400.0):
    """A box of width x depth, z from -100 to 80, of one density; its label map and density volume."""
    shape = (int(200 / spacing), int(60 / spacing), int(60 / spacing))
    grid = Grid(shape, [spacing] * 3, np.array([-30, -30, -110]) + spacing / 2, np.eye(3))
    z, y, x = np.moveaxis(grid.points(np.moveaxis(np.indices(shape), 0, -1)), -1, 0)[::-1]
    inside = (np.abs(x) < width / 2) & (np.abs(y) < depth / 2) & (z > -100) & (z < 80)
    labels = LabelMap(inside.astype(np.uint8) * VALUES["femur_L"], grid, VALUES)
    return labels, Volume(np.where(inside, density, 0).astype(np.float32), grid, "density_mg_cm3")


def test_region_lies_between_the_planes():
    labels, density = box_femur()
    region = proximal_femur(labels, box_landmarks())
    z = labels.grid.points(np.argwhere(region))[:, 2]
    assert (z.min(), z.max()) == (-39.5, 39.5)
    assert region.sum() == 30 * 20 * 80
    assert volumetric_bmd(density, region, labels.grid) == pytest.approx(400.0)


def test_only_the_largest_piece_is_kept():
    labels, _ = box_femur()
    array = labels.array.copy()
    array[60:70, 2:5, 2:5] = VALUES["femur_L"]
    region = proximal_femur(LabelMap(array, labels.grid, VALUES), box_landmarks())
    assert region.sum() == 30 * 20 * 80


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.5])
def test_areal_density_of_a_box_is_density_times_depth(spacing):
    labels, density = box_femur(spacing)
    found = areal_bmd(density, labels.mask("femur_L"), box_landmarks())
    assert found.abmd_g_cm2 == pytest.approx(400.0 * 20 * 1e-4, rel=AREA_TOLERANCE)
    assert found.area_cm2 == pytest.approx(30 * 80 / 100, rel=AREA_TOLERANCE)


def test_areal_density_counts_marrow_of_negative_density():
    labels, density = box_femur()
    array = density.array.copy()
    array[:, :, 20:40] = np.where(labels.array[:, :, 20:40] > 0, -50.0, 0)
    found = areal_bmd(Volume(array, density.grid, "density_mg_cm3"), labels.mask("femur_L"), box_landmarks())
    assert found.area_cm2 == pytest.approx(30 * 80 / 100, rel=AREA_TOLERANCE)
    assert found.abmd_g_cm2 == pytest.approx((400.0 * 10 - 50 * 20) / 30 * 20 * 1e-4, rel=2 * AREA_TOLERANCE)


def test_areal_density_does_not_depend_on_how_the_patient_lay():
    """The femur turned about z and y is turned back; mass is conserved, so only the outline's pixels differ."""
    femur = SolidFemur(anteversion_deg=0)
    straight = _solid_abmd(femur, np.eye(3))
    turned = _solid_abmd(femur, Rotation.from_euler("yz", [8, 20], degrees=True).as_matrix())
    assert turned.abmd_g_cm2 == pytest.approx(straight.abmd_g_cm2, rel=0.015)
    assert turned.area_cm2 == pytest.approx(straight.area_cm2, rel=0.015)


def _solid_abmd(femur: SolidFemur, turn: np.ndarray):
    labels = femur.labels()
    marks = find_landmarks(labels, "L").landmarks
    turned = Grid(labels.grid.shape, labels.grid.spacing_mm, turn @ labels.grid.origin_mm, turn @ labels.grid.direction)
    marks = Landmarks("L", {name: turn @ point for name, point in marks.points_mm.items()})
    density = Volume(np.full(turned.shape, 300.0, np.float32), turned, "density_mg_cm3")
    return areal_bmd(density, labels.mask("femur_L"), marks)


def test_projected_mass_is_the_mass_of_the_femur():
    labels, density = box_femur()
    found = areal_bmd(density, labels.mask("femur_L"), box_landmarks())
    above = labels.mask("femur_L") & (
        labels.grid.points(np.moveaxis(np.indices(labels.grid.shape), 0, -1))[..., 2] > -40
    )
    mass_g = density.array[above].sum(dtype=float) * 1e-6
    # the image reaches a little below the distal row
    assert found.image.sum(dtype=float) * (found.pixel_mm / 10) ** 2 == pytest.approx(mass_g, rel=0.15)


def test_the_picture_shows_the_patients_left_on_the_right_and_the_head_above():
    femur = SolidFemur("L")
    labels = femur.labels()
    density = Volume(np.full(labels.grid.shape, 300.0, np.float32), labels.grid, "density_mg_cm3")
    found = areal_bmd(density, labels.mask("femur_L"), find_landmarks(labels, "L").landmarks)
    rows, columns = np.nonzero(found.region)
    upper, lower = rows < np.percentile(rows, 20), rows > np.percentile(rows, 80)
    assert columns[upper].mean() != columns[lower].mean()
    head_half = found.image[: found.image.shape[0] // 4]
    shaft = found.image[-found.image.shape[0] // 4 :]
    assert np.average(np.arange(head_half.shape[1]), weights=head_half.sum(axis=0)) < np.average(
        np.arange(shaft.shape[1]), weights=shaft.sum(axis=0)
    )


def test_turn_brings_the_neck_into_the_coronal_plane_and_the_shaft_upright():
    rng = np.random.default_rng(5)
    for side in ("L", "R"):
        femur = SolidFemur(side)
        turn = Rotation.from_rotvec(rng.normal(0, 0.1, 3)).as_matrix()
        neck = femur.head + 30 * femur.neck_direction
        points = {
            "head_center": femur.head,
            "neck_center": neck,
            "shaft_2cm": np.array([femur.shaft_top[0], 3.0, -85.0]),
            "shaft_5cm": np.array([femur.shaft_top[0] + 2, 6.0, -115.0]),
        }
        marks = Landmarks(side, {name: turn @ point for name, point in points.items()})
        flat = find_coronal_turn(marks)
        assert np.allclose(flat @ flat.T, np.eye(3))
        shaft = flat @ (marks["shaft_2cm"] - marks["shaft_5cm"])
        assert shaft[0] == pytest.approx(0, abs=1e-9)
        assert shaft[2] > 0


def test_junction_plane_keeps_the_necks_side():
    marks = SolidFemur()
    found = find_landmarks(marks.labels(), "L").landmarks
    plane = find_junction_plane(found)
    assert plane.height_mm(found["neck_center"]) > 0 > plane.height_mm(found["head_center"])
    assert plane.normal @ marks.neck_direction == pytest.approx(1.0, abs=0.02)


def test_density_on_another_grid_is_interpolated_at_the_mask():
    """A linear ramp is reproduced exactly by linear interpolation, whatever the grids."""
    fine = Grid((40, 40, 40), [1.0] * 3, [0, 0, 0], np.eye(3))
    coarse = Grid((17, 15, 13), [3.7, 3.1, 2.9], [-2, -3, -4], np.eye(3))
    points = coarse.points(np.moveaxis(np.indices(coarse.shape), 0, -1))
    ramp = Volume((points @ [1.0, 2.0, -0.5] + 100).astype(np.float32), coarse, "density_mg_cm3")
    mask = np.zeros(fine.shape, bool)
    mask[5:30, 10:20, 3:33] = True
    expected = (fine.points(np.argwhere(mask)) @ [1.0, 2.0, -0.5] + 100).mean()
    assert volumetric_bmd(ramp, mask, fine) == pytest.approx(expected, rel=1e-5)


def test_a_region_that_leaves_the_ct_is_refused():
    labels, density = box_femur()
    short = density.crop((slice(100, None), slice(None), slice(None)))
    with pytest.raises(CaseError, match="BMD-PF-003"):
        volumetric_bmd(short, proximal_femur(labels, box_landmarks()), labels.grid)


def test_missing_landmarks_and_femurs_are_named():
    labels, density = box_femur()
    partial = Landmarks("L", {k: v for k, v in box_landmarks().points_mm.items() if k != "shaft_5cm"})
    with pytest.raises(CaseError, match="shaft_5cm"):
        proximal_femur(labels, partial)
    with pytest.raises(CaseError, match="BMD-PF-002"):
        proximal_femur(labels, box_landmarks("R"))
    below = {k: v + np.array([0, 0, 500]) for k, v in box_landmarks().points_mm.items()}
    with pytest.raises(CaseError, match="BMD-PF-002"):
        areal_bmd(density, labels.mask("femur_L"), Landmarks("L", below))


def test_hounsfield_units_are_not_densities():
    labels, density = box_femur()
    with pytest.raises(ValueError, match="expected density_mg_cm3"):
        volumetric_bmd(Volume(density.array, density.grid, "hu"), labels.mask("femur_L"), labels.grid)
