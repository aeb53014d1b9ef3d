"""Checks of a scan and of a hip: metal, field of view, landmarks off the bone."""

from __future__ import annotations

import numpy as np
import pytest
from solid_femur import VALUES, SolidFemur

from bmdkit.core.grid import Grid
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.regions import QualityConfig, check_hip, check_scan, find_landmarks

SPACING_MM = 2.5


@pytest.fixture(scope="module")
def scanned_hips() -> tuple[Volume, LabelMap]:
    """A body with two femurs and a pelvis around their heads, on a grid of 2.5 mm."""
    grid = Grid((110, 110, 150), [SPACING_MM] * 3, [-186.0, -136.0, -200.0], np.eye(3))
    points = grid.points(np.moveaxis(np.indices(grid.shape), 0, -1))
    x, y, z = np.moveaxis(points, -1, 0)
    labels = np.zeros(grid.shape, np.uint8)
    sides = {side: SolidFemur(side, shaft_bottom=-195.0) for side in "LR"}
    for side, femur in sides.items():
        labels[femur.inside(points)] = VALUES[f"femur_{side}"]
        shell = ((points - femur.head) ** 2).sum(axis=-1) < 34**2
        labels[shell & (labels == 0) & (z > -20)] = VALUES["pelvis"]
    ischium = (np.abs(np.abs(x) - 55) < 13) & (np.abs(y - 22) < 16) & (z > -70) & (z < 0)
    labels[ischium & (labels == 0)] = VALUES["pelvis"]
    labels[(np.abs(x) < 95) & (np.abs(y) < 12) & (np.abs(z) < 18) & (labels == 0)] = VALUES["pelvis"]
    hu = np.where((x / 180) ** 2 + (y / 120) ** 2 < 1, 40, -1000)
    hu = np.where(labels > 0, 500, hu).astype(np.int16)
    return Volume(hu, grid, "hu"), LabelMap(labels, grid, VALUES)


def above(volume, z_mm: float):
    first = round((z_mm - volume.grid.origin_mm[2]) / SPACING_MM)
    return volume.crop((slice(first, None), slice(None), slice(None)))


def codes(flags) -> list[str]:
    return [flag.code for flag in flags]


def test_a_whole_hip_has_no_flags(scanned_hips):
    ct, labels = scanned_hips
    assert check_scan(ct) == ()
    for side in ("L", "R"):
        assert check_hip(ct, labels, side, find_landmarks(labels, side).landmarks) == ()
        assert check_hip(ct, labels, side) == ()


@pytest.mark.parametrize(("side", "column"), [("L", 110), ("R", 38)])
def test_metal_is_flagged_on_its_side_only(scanned_hips, side, column):
    ct, labels = scanned_hips
    array = ct.array.copy()
    array[60:70, 50:56, column : column + 3] = 3071
    metal = Volume(array, ct.grid, "hu")
    volume_ml = 10 * 6 * 3 * SPACING_MM**3 / 1000
    for one in ("L", "R"):
        flags = check_hip(metal, labels, one)
        assert codes(flags) == (["BMD-HIP-001"] if one == side else [])
        if flags:
            assert flags[0].measured == pytest.approx(volume_ml)
            assert f"{volume_ml:.1f} ml" in flags[0].message
    scan_flags = check_scan(metal)
    assert codes(scan_flags) == ["BMD-HIP-001"]
    assert scan_flags[0].side == side


def test_a_speck_of_metal_is_allowed(scanned_hips):
    ct, labels = scanned_hips
    array = ct.array.copy()
    array[60, 50:52, 110] = 3071
    assert check_hip(Volume(array, ct.grid, "hu"), labels, "L") == ()
    tight = QualityConfig(metal_ml=0.01)
    assert codes(check_hip(Volume(array, ct.grid, "hu"), labels, "L", config=tight)) == ["BMD-HIP-001"]


def test_a_scan_that_ends_above_the_distal_cut_is_flagged(scanned_hips):
    ct, labels = scanned_hips
    marks = find_landmarks(labels, "L").landmarks
    short_ct, short_labels = above(ct, marks["shaft_2cm"][2] + 10), above(labels, marks["shaft_2cm"][2] + 10)
    flags = check_hip(short_ct, short_labels, "L", marks)
    assert codes(flags) == ["BMD-HIP-002"]
    assert flags[0].measured > flags[0].allowed
    assert codes(check_hip(short_ct, None, "L", marks)) == ["BMD-HIP-002"]


def test_without_labels_or_landmarks_a_scan_that_ends_in_the_necks_is_flagged(scanned_hips):
    ct, labels = scanned_hips
    short = above(ct, -40.0)
    flags = check_scan(short)
    assert codes(flags) == ["BMD-HIP-002", "BMD-HIP-002"]
    assert [flag.side for flag in flags] == ["L", "R"]
    assert codes(check_hip(short, above(labels, -40.0), "L")) == ["BMD-HIP-002"]


def test_a_scan_that_cuts_the_head_is_flagged(scanned_hips):
    ct, labels = scanned_hips
    stop = slice(0, round((5 - ct.grid.origin_mm[2]) / SPACING_MM))
    box = (stop, slice(None), slice(None))
    assert codes(check_hip(ct.crop(box), labels.crop(box), "R")) == ["BMD-HIP-003"]


def test_landmarks_of_the_other_side_are_flagged(scanned_hips):
    ct, labels = scanned_hips
    marks = find_landmarks(labels, "R").landmarks
    flags = check_hip(ct, labels, "L", Landmarks("L", marks.points_mm))
    assert codes(flags) == ["BMD-LMK-003"]


def test_the_real_scan_with_a_hip_screw(shared):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(shared / "data" / "totalseg-example" / "ct.nii.gz")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    array = np.asarray(image.dataobj).astype(np.int16).transpose(2, 1, 0)
    ct = Volume(array, Grid(array.shape, spacing, affine[:3, 3], affine[:3, :3] / spacing), "hu")
    flags = check_scan(ct)
    assert codes(flags) == ["BMD-HIP-001", "BMD-HIP-002", "BMD-HIP-002"]
    # the liver lies at negative x in this file's coordinates, the screw at positive: the patient's left
    assert flags[0].side == "L"
    assert flags[0].measured > 5.0
