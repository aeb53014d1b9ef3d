"""Cuts through a volume in patient axes."""

import numpy as np
import pytest

from bmdkit.core.grid import Grid
from bmdkit.core.plane_sections import ORIENTATIONS, PlaneSection

GRID = Grid((20, 30, 40), [2.0, 3.0, 4.0], [-10.0, 5.0, 7.0], np.eye(3))
LINEAR = np.array([0.5, -1.0, 2.0])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_cut_of_a_linear_field_is_the_field(orientation):
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]  # an oblique grid
    grid = Grid((30, 30, 30), [2.0, 2.0, 2.0], -turn @ [29.0, 29, 29], turn)
    field = grid.points(np.moveaxis(np.indices(grid.shape), 0, -1)) @ LINEAR
    plane = PlaneSection.through(orientation, (1, 2, 3), (-10, -10, -10), (10, 10, 10), 1.0)
    assert np.allclose(plane.cut(field, grid), plane.points() @ LINEAR, atol=1e-3)


def test_screen_axes_are_those_of_a_radiologist():
    for orientation, right, down, letters in (
        ("axial", (1, 0, 0), (0, 1, 0), "RLAP"),
        ("coronal", (1, 0, 0), (0, 0, -1), "RLSI"),
        ("sagittal", (0, 1, 0), (0, 0, -1), "APSI"),
    ):
        plane = PlaneSection.through(orientation, (0, 0, 0), (-5, -6, -7), (5, 6, 7), 1.0)
        assert plane.right.tolist() == list(right)
        assert plane.down.tolist() == list(down)
        assert plane.letters == letters


def test_pixels_and_points_are_inverse():
    plane = PlaneSection.through("coronal", (3, 4, 5), (-20, -20, -20), (20, 20, 20), 0.5)
    points = plane.points()
    assert plane.pixels(points[7, 11]) == pytest.approx([11, 7])
    assert plane.distance_mm(points).max() == pytest.approx(0)
    assert plane.distance_mm([3.0, 9.0, 5.0]) == pytest.approx(5)


def test_beside_the_volume_there_is_the_fill_value():
    plane = PlaneSection.through("axial", (0, 0, 500), (-5, -5, 0), (5, 5, 600), 1.0)
    assert (plane.cut(np.ones(GRID.shape), GRID, fill=-7) == -7).all()
