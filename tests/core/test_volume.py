"""Grids, volumes and label maps: where voxels lie, and what may be done with them."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume, bounding_box

OBLIQUE = Rotation.from_euler("xyz", (10, -20, 30), degrees=True).as_matrix()


@pytest.fixture
def grid():
    return Grid((7, 9, 11), (0.8, 1.1, 2.5), (-40.0, 12.0, 300.0), OBLIQUE)


def test_indices_and_points_undo_each_other(grid):
    index = np.array([[0, 0, 0], [6, 8, 10], [1.5, 2.25, 3.75]])
    np.testing.assert_allclose(grid.indices(grid.points(index)), index, atol=1e-12)
    np.testing.assert_allclose(grid.points([0, 0, 1]) - grid.points([0, 0, 0]), OBLIQUE[:, 0] * 0.8)
    np.testing.assert_allclose(grid.points([1, 0, 0]) - grid.points([0, 0, 0]), OBLIQUE[:, 2] * 2.5)


def test_cropping_moves_the_origin(grid):
    box = (slice(2, 5), slice(1, 9), slice(3, None))
    np.testing.assert_allclose(grid.crop(box).points([0, 0, 0]), grid.points([2, 1, 3]))
    assert grid.crop(box).shape == (3, 8, 8)


def test_other_spacing_covers_the_same_extent(grid):
    fine = grid.with_spacing(0.5)
    np.testing.assert_allclose(fine.spacing_mm * fine.shape[::-1], grid.spacing_mm * grid.shape[::-1])
    np.testing.assert_allclose(fine.points(np.array(fine.shape) / 2 - 0.5), grid.points(np.array(grid.shape) / 2 - 0.5))


def test_resampling_a_linear_field_is_exact_inside(grid):
    points = grid.points(np.stack(np.indices(grid.shape), -1))
    field = Volume((points @ [0.3, -0.2, 0.1]).astype(np.float32), grid, "hu")
    target = grid.crop((slice(1, 6), slice(1, 8), slice(1, 10))).with_spacing((0.4, 0.6, 1.1))
    expected = target.points(np.stack(np.indices(target.shape), -1)) @ [0.3, -0.2, 0.1]
    np.testing.assert_allclose(field.resample(target).array, expected, atol=1e-3)


def test_labels_keep_their_values_when_resampled(grid):
    labels = LabelMap(np.arange(7)[:, None, None] * np.ones(grid.shape, np.uint8), grid, {"pelvis": 1, "femur_L": 2})
    fine = labels.resample(grid.with_spacing((0.8, 1.1, 1.25)))
    assert set(np.unique(fine.array)) <= set(range(7))
    assert labels.mask("pelvis", "femur_L").sum() == 2 * 9 * 11
    assert not labels.mask("axial").any()
    assert labels.present() == ("pelvis", "femur_L")


def test_a_label_fills_its_voxel_to_the_edge(grid):
    """A finer CT of the same extent has voxel centres beyond the outermost ones of the labels."""
    labels = LabelMap(np.ones(grid.shape, np.uint8), grid, {"pelvis": 1})
    assert labels.resample(grid.with_spacing(grid.spacing_mm / 3)).array.all()
    wider = Grid(np.array(grid.shape) + 2, grid.spacing_mm, grid.points(np.full(3, -1.0)), grid.direction)
    around = labels.resample(wider).array
    assert around[1:-1, 1:-1, 1:-1].all()
    assert around.sum() == labels.array.sum()


def test_a_quantity_cannot_be_taken_for_another(grid):
    with pytest.raises(ValueError, match="expected density_mg_cm3, got hu"):
        Volume(np.zeros(grid.shape), grid, "hu").require("density_mg_cm3")


def test_nouns_are_read_only(grid):
    volume = Volume(np.zeros(grid.shape), grid, "hu")
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("spacing_mm", {"spacing_mm": (0, 1, 1)}),
        ("direction", {"direction": np.ones((3, 3))}),
        ("shape", {"shape": (0, 2, 2)}),
        ("origin_mm", {"origin_mm": (np.nan, 0, 0)}),
    ],
)
def test_a_grid_names_what_is_wrong(name, change):
    good = {"shape": (2, 2, 2), "spacing_mm": (1, 1, 1), "origin_mm": (0, 0, 0), "direction": np.eye(3)}
    with pytest.raises(ValueError, match=name):
        Grid(**(good | change))


def test_bounding_box_with_margin():
    mask = np.zeros((10, 10, 10), bool)
    mask[3:5, 0, 9] = True
    assert bounding_box(mask, 1) == (slice(2, 6), slice(0, 2), slice(8, 10))
    with pytest.raises(ValueError, match="at least one voxel"):
        bounding_box(np.zeros((2, 2, 2), bool))
