"""Patients from label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bmdkit.core.grid import Grid
from bmdkit.core.volume import Volume
from bmdkit.errors import PreflightError
from bmdkit.io.label_maps import write_labels
from bmdkit.io.volumes import write_volume
from bmdkit.simulation.label_anatomy import draw_from_shapes, read_shapes
from bmdkit.simulation.procedural_anatomy import Anatomy

HALF_A_VOXEL_MM = 1.25


@pytest.fixture
def unnamed(anatomy: Anatomy, tmp_path: Path) -> Path:
    """A map of pelvis 1, both femurs 2, sacrum and spine 3, without names."""
    array = np.zeros(anatomy.grid.shape, np.uint8)
    for name, value in (("pelvis", 1), ("femur_L", 2), ("femur_R", 2), ("axial", 3)):
        array[anatomy.depths[name] > 0] = value
    path = tmp_path / "map.nii.gz"
    write_volume(path, Volume(array, anatomy.grid, "probability"))
    return path


def assert_same_hips(found: Anatomy, anatomy: Anatomy) -> None:
    for side in ("L", "R"):
        assert np.linalg.norm(found.heads_mm[side] - anatomy.heads_mm[side]) < HALF_A_VOXEL_MM
        assert found.head_radii_mm[side] == pytest.approx(anatomy.head_radii_mm[side], abs=HALF_A_VOXEL_MM)
    for name in ("pelvis", "femur_L", "axial"):
        volumes = [(a.depths[name] > 0).sum() * a.grid.voxel_volume_mm3 for a in (found, anatomy)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.05)


def test_values_are_named_and_one_femur_label_is_split(anatomy: Anatomy, unnamed: Path) -> None:
    shapes = read_shapes(unnamed, ("pelvis=1", "femur=2", "axial=3"), grid_mm=2.5)
    found = draw_from_shapes(shapes, np.random.default_rng(0), warp_mm=0)
    assert_same_hips(found, anatomy)
    bone = found.depths["pelvis"] > 0
    assert (found.depths["body"][bone] > 0).all()


def test_a_named_map_needs_no_help(anatomy: Anatomy, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels.nii.gz", anatomy.labels())
    write_volume(tmp_path / "mask.nii.gz", Volume((anatomy.depths["body"] > 0).astype(np.uint8), anatomy.grid, "hu"))
    shapes = read_shapes(tmp_path / "labels.nii.gz", grid_mm=2.5)
    found = draw_from_shapes(shapes, np.random.default_rng(0), warp_mm=0)
    assert_same_hips(found, anatomy)
    assert (found.depths["body"] > 0).sum() == pytest.approx((anatomy.depths["body"] > 0).sum(), rel=0.02)


def test_patients_of_one_map_differ_and_depend_on_the_seed_alone(unnamed: Path) -> None:
    shapes = read_shapes(unnamed, ("pelvis=1", "femur=2", "axial=3"), grid_mm=4)
    first, same, other = (draw_from_shapes(shapes, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.depths["pelvis"], same.depths["pelvis"])
    assert np.abs(first.heads_mm["L"] - other.heads_mm["L"]).max() > 0.3


def test_the_lesser_trochanter_of_the_map_is_that_of_every_patient(anatomy: Anatomy, tmp_path: Path) -> None:
    """However far a patient is deformed, his landmarks are those of the map, not another part that stands out."""
    write_labels(tmp_path / "labels.nii.gz", anatomy.labels())
    shapes = read_shapes(tmp_path / "labels.nii.gz", grid_mm=2.5)
    for side in ("L", "R"):
        assert np.linalg.norm(shapes.lesser_mm[side] - anatomy.lesser_mm[side]) < 4.0
    for seed in range(4):
        found = draw_from_shapes(shapes, np.random.default_rng(seed), warp_mm=5)
        for side in ("L", "R"):
            below = found.heads_mm[side][2] - found.lesser_mm[side][2]
            assert below == pytest.approx(anatomy.heads_mm[side][2] - anatomy.lesser_mm[side][2], abs=14)
            assert (
                found.depths[f"femur_{side}"][tuple(np.rint(found.grid.indices(found.lesser_mm[side])).astype(int))]
                > -2.5
            )


def test_girth_varies_about_the_bones_of_the_map(anatomy: Anatomy, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels.nii.gz", anatomy.labels())
    shapes = read_shapes(tmp_path / "labels.nii.gz", grid_mm=3, room_mm=30)
    drawn = [draw_from_shapes(shapes, np.random.default_rng(s), 0, variation=1.0) for s in range(12)]
    volumes = [(one.depths["body"] > 0).mean() for one in drawn]
    assert np.std(volumes) > 0.04 * np.mean(volumes)
    for one in drawn:
        np.testing.assert_array_equal(one.depths["femur_L"], drawn[0].depths["femur_L"])
        bone = np.maximum(one.depths["pelvis"], one.depths["femur_L"]) > 0
        assert one.depths["body"][bone].min() > 0
        assert (one.depths["body"][:, [0, -1]] < 0).all()
        assert (one.depths["body"][:, :, [0, -1]] < 0).all()


def test_an_oblique_map_is_turned_to_lps(anatomy: Anatomy, tmp_path: Path) -> None:
    """The same voxels stored with flipped axes give the same patient."""
    labels = anatomy.labels()
    grid = labels.grid
    flipped = Grid(
        grid.shape, grid.spacing_mm, grid.points((0, grid.shape[1] - 1, grid.shape[2] - 1)), np.diag([-1, -1, 1])
    )
    write_volume(tmp_path / "map.nii.gz", Volume(labels.array[:, ::-1, ::-1], flipped, "probability"))
    names = ("pelvis=1", "femur_L=2", "femur_R=3", "axial=4")
    found = draw_from_shapes(read_shapes(tmp_path / "map.nii.gz", names, 2.5), np.random.default_rng(0), warp_mm=0)
    assert_same_hips(found, anatomy)


def test_what_cannot_be_used_is_refused_with_its_code(anatomy: Anatomy, unnamed: Path, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"BMD-SIM-002.*hip=1"):
        read_shapes(unnamed, ("hip=1",))
    with pytest.raises(PreflightError, match="BMD-SIM-002"):
        read_shapes(unnamed, ("pelvis=one",))
    with pytest.raises(PreflightError, match=r"BMD-SIM-003.*femur"):
        read_shapes(unnamed, ("pelvis=1", "femur=9"))
    (tmp_path / "broken.nii.gz").write_bytes(b"no volume")
    with pytest.raises(PreflightError, match="BMD-SIM-002"):
        read_shapes(tmp_path / "broken.nii.gz")
    cut = anatomy.labels()
    low = int((anatomy.lesser_mm["L"][2] - 10 - cut.grid.origin_mm[2]) / cut.grid.spacing_mm[2])
    part = cut.crop((slice(low, None), slice(None), slice(None)))
    write_labels(tmp_path / "short.nii.gz", part)
    with pytest.raises(PreflightError, match="BMD-SIM-003"):
        draw_from_shapes(read_shapes(tmp_path / "short.nii.gz", grid_mm=2.5), np.random.default_rng(0), warp_mm=0)


def test_a_public_annotation_is_known_by_its_values(shared: Path) -> None:
    path = shared / "data" / "pelvic-labels" / "Pelvic-Ref-002" / "label.mhd"
    found = draw_from_shapes(read_shapes(path, grid_mm=3), np.random.default_rng(0), warp_mm=0)
    assert "muscle" in found.depths
    assert found.heads_mm["L"][0] - found.heads_mm["R"][0] == pytest.approx(180, abs=20)
    for side in ("L", "R"):
        assert 20 < found.head_radii_mm[side] < 27
        assert found.landmarks[side].missing() == ()


def test_a_femur_that_is_turned_outward_keeps_its_lesser_trochanter(shared: Path) -> None:
    """This patient lay prone: behind, the neck stands out nearly as far; both hips' lesser trochanters lie low."""
    path = shared / "data" / "pelvic-labels" / "Pelvic-Ref-001" / "label.mhd"
    shapes = read_shapes(path, grid_mm=2.5)
    for seed in range(4):
        found = draw_from_shapes(shapes, np.random.default_rng(seed), warp_mm=5)
        for side in ("L", "R"):
            assert 55 < found.heads_mm[side][2] - found.lesser_mm[side][2] < 85
