"""Random fields that are fixed in space: whatever voxels they are seen on, they are the same."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.core.grid import Grid
from bmdkit.simulation.noise import draw_smooth_noise

FINE = Grid((48, 40, 36), np.full(3, 1.5), np.array([-31.0, 12.0, -100.0]), np.eye(3))
LENGTHS = [1.6, 7.0, (70.0, 17.0, 17.0)]


def draw(grid: Grid, length_mm: float | tuple[float, ...], seed: int = 1) -> np.ndarray:
    return draw_smooth_noise(grid, length_mm, np.random.default_rng(seed))


@pytest.mark.parametrize("length_mm", LENGTHS)
def test_a_coarse_voxel_is_the_mean_of_its_fine_ones(length_mm: float | tuple[float, ...]) -> None:
    coarse = Grid((24, 20, 18), np.full(3, 3.0), FINE.origin_mm + 0.75, np.eye(3))
    means = draw(FINE, length_mm).reshape(24, 2, 20, 2, 18, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(draw(coarse, length_mm), means, atol=1e-5)


@pytest.mark.parametrize("length_mm", LENGTHS)
def test_a_part_of_a_grid_shows_its_part_of_the_field(length_mm: float | tuple[float, ...]) -> None:
    box = (slice(3, 40), slice(11, 30), slice(0, 9))
    np.testing.assert_allclose(draw(FINE.crop(box), length_mm), draw(FINE, length_mm)[box], atol=1e-4)


def test_it_has_unit_variance_at_a_point_and_the_length_that_is_asked_for() -> None:
    grid = Grid((90, 90, 90), np.full(3, 0.4), np.zeros(3), np.eye(3))
    field = draw(grid, 1.5)  # a kernel of 1 mm
    assert field.mean() == pytest.approx(0, abs=0.03)
    assert field.std() == pytest.approx(1, abs=0.04)
    assert abs(float((field**3).mean())) < 0.1
    for axis in range(3):  # two Gaussian kernels 2 mm apart: exp(-2**2 / 4)
        ahead, behind = np.moveaxis(field, axis, 0)[5:], np.moveaxis(field, axis, 0)[:-5]
        assert (ahead * behind).mean() == pytest.approx(np.exp(-1.0), abs=0.05)


def test_generators_differ_and_are_left_alike_whatever_the_grid() -> None:
    assert np.corrcoef(draw(FINE, 3.0, 1).ravel(), draw(FINE, 3.0, 2).ravel())[0, 1] == pytest.approx(0, abs=0.05)
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    draw_smooth_noise(FINE, 3.0, one)
    draw_smooth_noise(FINE.crop((slice(2), slice(3), slice(4))), 20.0, other)
    assert one.random() == other.random()


def test_a_turned_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="axes along LPS"):
        draw(Grid((3, 3, 3), np.ones(3), np.zeros(3), np.diag([-1.0, -1.0, 1.0])), 3.0)
