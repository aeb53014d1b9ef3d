"""What is projected, what is skipped, and poses as files say them."""

import numpy as np
import pytest
from drr_phantoms import grid, oblique, sampled

from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.pose import standard_view
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.drr.channels import BRICK, Channels, prepare_channels
from bmdkit.drr.display import choose_window, fit_camera, make_contact_sheet, scale_to_grey
from bmdkit.drr.render import render


@pytest.mark.parametrize("seed", range(8))
def test_a_brick_is_occupied_when_a_voxel_in_its_reach_is_not_zero(seed):
    rng = np.random.default_rng(seed)
    values = (rng.random((1, *rng.integers(1, 40, 3))) > 0.998).astype(np.float32)
    values[0, 0, 0, 0] = 1
    where = Grid(values.shape[1:], (1, 1, 1), (0, 0, 0), np.eye(3))
    channels = Channels(values, where, ("a",))
    for brick in np.ndindex(*channels.occupied.shape[1:]):
        reach = tuple(slice(max(0, BRICK * n - 1), BRICK * n + BRICK + 1) for n in brick)
        assert channels.occupied[(0, *brick)] == values[0][reach].any()
    first, last = channels.box
    inside = values[0, first[2] : last[2] + 1, first[1] : last[1] + 1, first[0] : last[0] + 1]
    assert inside.sum() == values.sum()


def test_a_float32_volume_is_not_copied():
    values = np.ones((4, 5, 6), np.float32)
    channels = Channels.from_volume(Volume(values, Grid((4, 5, 6), (1, 1, 1), (0, 0, 0), np.eye(3)), "hu"))
    assert np.shares_memory(channels.arrays, values)


def test_structures_are_cut_and_grown():
    where = grid(20, 1.0, oblique())
    values = np.arange(8000, dtype=np.float32).reshape(20, 20, 20) + 1
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[6:9, 7:10, 8:12] = 3
    map_ = LabelMap(labels, where, {"pelvis": 1, "femur_L": 3})
    channels = prepare_channels(Volume(values, where, "density_mg_cm3"), map_, [["femur_L"]], margin_voxels=2)
    assert channels.names == ("femur_L",)
    assert channels.arrays.sum() == values[labels == 3].sum()
    np.testing.assert_allclose(channels.grid.points([2, 2, 2]), where.points([6, 7, 8]))
    grown = prepare_channels(Volume(values, where, "density_mg_cm3"), map_, [["femur_L"]], dilate_voxels=1)
    assert (grown.arrays != 0).sum() == 36 + 2 * (3 * 3 + 2 * 3 * 4)


def test_supersampling_is_the_mean_of_finer_pixels():
    volume = sampled(grid(24, 2.0), 4.0, lambda p: np.linalg.norm(p - (3, 2, 1), axis=-1) - 12)
    camera = ProjectionGeometry(900, 2, 3, 21, 17, (9.3, 8.1))
    pose = [RigidTransform.from_parts(oblique(), (0, 0, 800))]
    channels = prepare_channels(volume)
    fine = render(channels, pose, camera.resized(34, 42)).reshape(1, 1, 17, 2, 21, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(render(channels, pose, camera, supersample=2), fine, rtol=1e-6)
    part = render(channels, pose, camera, supersample=2, roi=(4, 6, 7, 9))
    np.testing.assert_array_equal(part, render(channels, pose, camera, supersample=2)[:, :, 4:11, 6:15])


def test_a_fitted_camera_sees_all_of_the_body():
    volume = sampled(grid(24, 2.0), 4.0, lambda p: np.linalg.norm(p - (3, 2, 1), axis=-1) - 12)
    channels = prepare_channels(volume)
    poses = [standard_view("ap", (40, 0, 0), ProjectionGeometry(900, 1, 1, 1, 1))]
    camera = fit_camera(channels, poses, sdd_mm=900, pixel_mm=1.5)
    image = render(channels, poses, camera)[0, 0]
    assert image.any()
    assert not any(edge.any() for edge in (image[0], image[-1], image[:, 0], image[:, -1]))
    assert fit_camera(channels, poses, sdd_mm=900, pixel_mm=1.5, rows=50).shape == (50, camera.columns)
    with pytest.raises(GeometryError, match="behind the source"):
        fit_camera(channels, [RigidTransform.identity()], sdd_mm=900, pixel_mm=1)


def test_grey_values():
    images = np.zeros((2, 1, 3, 4), np.float32)
    images[1] = 5
    low, high = choose_window(images)
    assert (low, high) == (0, 5)
    sheet = make_contact_sheet(scale_to_grey(images, low, high))
    assert sheet.shape == (6, 4)
    assert sheet[:3].max() == 0
    assert sheet[3:].min() == 255
    assert choose_window(np.zeros((2, 2))) == (0, 1)
