"""The geometry of a pair: one window for radiograph and projection."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.dataset.pairs import PairConfig, make_pair_window

SIZES = [(720, 860), (720, 861), (2500, 2048), (300, 200), (1000, 3000)]


@pytest.mark.parametrize(("rows", "columns"), SIZES)
@pytest.mark.parametrize("side", ["L", "R"])
def test_the_window_lies_in_the_hip_s_half_and_fits_one_of_its_edges(rows, columns, side):
    window = make_pair_window(rows, columns, side, PairConfig())
    half = columns // 2
    start = columns - half if side == "L" else 0
    width, height = 256 / window.scale, 512 / window.scale
    assert start - 1e-9 <= window.first_column
    assert window.first_column + width <= start + half + 1e-9
    assert window.first_row >= -1e-9
    assert window.first_row + height <= rows + 1e-9
    assert np.isclose(width, half) or np.isclose(height, rows)  # it covers, and no more
    assert np.isclose(window.first_column - start, start + half - window.first_column - width)  # centred
    assert np.isclose(window.first_row, rows - window.first_row - height)


def test_patient_left_is_on_the_right_of_the_image():
    image = np.zeros((720, 860), np.float32)
    image[:, 430:] = 1
    assert make_pair_window(720, 860, "L", PairConfig()).carry(image).min() == pytest.approx(1)
    assert make_pair_window(720, 860, "R", PairConfig()).carry(image).max() == 0


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_a_point_projects_to_the_same_place_through_both_paths(rows, columns):
    geometry = ProjectionGeometry(1200.0, 0.4, 0.5, columns, rows, np.array([columns / 2 + 3.3, rows / 2 - 7.7]))
    window = make_pair_window(rows, columns, "L", PairConfig())
    points = np.random.default_rng(0).uniform([-200, -200, 700], [200, 200, 1100], (50, 3))
    direct = window.camera(geometry).project(points)
    corner = np.array([window.first_column, window.first_row])
    by_image = (geometry.project(points) + 0.5 - corner) * window.scale - 0.5
    np.testing.assert_allclose(direct, by_image, atol=1e-9)


def test_a_linear_image_is_carried_to_where_its_camera_says():
    """The centre of mass of each pair pixel is its centre: a ramp stays the same ramp."""
    rows, columns = 720, 860
    v, u = np.mgrid[:rows, :columns].astype(np.float32)
    window = make_pair_window(rows, columns, "R", PairConfig())
    expected_u = (np.arange(256) + 0.5) / window.scale + window.first_column - 0.5
    expected_v = (np.arange(512) + 0.5) / window.scale + window.first_row - 0.5
    float32 = 1e-3
    np.testing.assert_allclose(window.carry(u)[100], expected_u, atol=0.5 / window.scale)  # within a source pixel
    np.testing.assert_allclose(window.carry(u).mean(), expected_u.mean(), atol=float32)
    np.testing.assert_allclose(window.carry(v).mean(), expected_v.mean(), atol=float32)


def test_carrying_keeps_the_mean_over_the_window_and_a_constant():
    image = np.random.default_rng(1).random((1024, 1024)).astype(np.float32)
    window = make_pair_window(1024, 1024, "R", PairConfig())  # scale 1/2, a whole number of pixels
    carried = window.carry(image)
    blocks = image[:, :512].reshape(512, 2, 256, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(carried, blocks, atol=1e-6)
    np.testing.assert_allclose(window.carry(np.full((1024, 1024), 0.7)), 0.7, atol=1e-6)


def test_masked_pixels_do_not_bleed_into_their_neighbours():
    image = np.full((512, 512), 0.5, np.float32)
    mask = np.ones((512, 512), bool)
    image[100:151, 100:151], mask[100:151, 100:151] = 1.0, False  # a marker; its edges cut pair pixels
    average, covered = make_pair_window(512, 512, "R", PairConfig(rows=256, columns=128)).carry_inside(image, mask)
    assert average[covered > 0] == pytest.approx(0.5)
    assert not average[covered == 0].any()
    assert set(np.unique(covered)) == {0.0, 0.5, 0.75, 1.0}


def test_unusable_sizes_are_refused():
    with pytest.raises(ValueError, match="two"):
        make_pair_window(10, 1, "L", PairConfig())
    with pytest.raises(ValueError, match="rows, columns"):
        PairConfig(rows=0)
    with pytest.raises(ValueError, match="least_inside"):
        PairConfig(least_inside=2.0)


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_window_goes_outward_as_far_as_it_is_told(side: str) -> None:
    """A half of 300 columns, a window of 250: 50 columns are left over."""
    start = {}
    for outward in (0.0, 0.5, 1.0):
        window = make_pair_window(500, 600, side, PairConfig(rows=100, columns=50, outward=outward))
        assert window.columns / window.scale == pytest.approx(250)
        start[outward] = window.first_column
    inner, outer = (300, 350) if side == "L" else (50, 0)
    assert [start[at] for at in (0.0, 0.5, 1.0)] == pytest.approx([inner, (inner + outer) / 2, outer])
