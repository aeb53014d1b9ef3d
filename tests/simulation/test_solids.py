"""Rounded triangles against the closed forms of balls, rods and plates."""

from __future__ import annotations

import numpy as np
import pytest

from bmdkit.core.grid import Grid
from bmdkit.simulation import bones
from bmdkit.simulation.solids import REACH_MM, Solid, ball, refine, sheet, tube

ROUNDING_MM = 1e-9


def points_around(rng: np.random.Generator, count: int = 400) -> np.ndarray:
    return rng.uniform(-16, 16, (count, 3))


def test_ball_is_a_sphere() -> None:
    points = points_around(np.random.default_rng(0))
    expected = np.clip(9.0 - np.linalg.norm(points - (1, 2, 3), axis=1), -REACH_MM, REACH_MM)
    np.testing.assert_allclose(ball((1, 2, 3), 9.0).depth(points), expected, atol=ROUNDING_MM)


def test_rod_is_a_capsule() -> None:
    points = points_around(np.random.default_rng(1))
    along = np.clip(points[:, 2], -5, 5)
    distance = np.linalg.norm(points - np.c_[np.zeros((len(points), 2)), along], axis=1)
    expected = np.clip(4.0 - distance, -REACH_MM, REACH_MM)
    np.testing.assert_allclose(tube([(0, 0, -5), (0, 0, 5)], 4.0).depth(points), expected, atol=ROUNDING_MM)


def test_sheet_is_a_slab_of_its_half_thickness() -> None:
    net = np.stack(np.meshgrid([-10.0, 0, 10], [-10.0, 0, 10], [0.0], indexing="ij"), axis=-1)[:, :, 0]
    points = np.random.default_rng(2).uniform((-9, -9, -9), (9, 9, 9), (300, 3))
    expected = 2.0 - np.abs(points[:, 2])
    np.testing.assert_allclose(sheet(net, 2.0, blend_mm=1e-9).depth(points), expected, atol=1e-6)


def test_carving_takes_away_and_blending_never_removes() -> None:
    points = points_around(np.random.default_rng(3), 2000)
    first, second = ball((0, 0, 0), 8.0), ball((6, 0, 0), 5.0, blend_mm=3.0)
    sharp = np.maximum(first.depth(points), second.depth(points))
    assert ((first + second).depth(points) >= sharp - ROUNDING_MM).all()
    rest = (first + second.carving()).depth(points)
    assert (rest <= np.minimum(first.depth(points), -second.depth(points)) + ROUNDING_MM).all()


def test_mirrored_is_the_other_side() -> None:
    solid = tube([(3, 0, 0), (9, 4, 5)], (2.0, 4.0)) + ball((9, 4, 5), 6.0)
    points = points_around(np.random.default_rng(4))
    np.testing.assert_allclose(solid.mirrored().depth(points * (-1, 1, 1)), solid.depth(points), atol=ROUNDING_MM)


def test_depth_on_a_grid_is_the_depth_of_its_points() -> None:
    solid = ball((0, 0, 0), 10.0) + tube([(0, 0, 0), (0, 0, 18)], 4.0)
    grid = Grid((21, 18, 16), np.full(3, 2.0), np.array([-15.0, -17.0, -16.0]), np.eye(3))
    points = grid.points(np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1))
    found, exact = solid.depth_on(grid), solid.depth(points)
    np.testing.assert_allclose(found[exact <= 0], exact[exact <= 0], atol=1e-5)
    assert (found >= exact - 1e-5).all()
    true_depth = np.maximum(10.0 - np.linalg.norm(points, axis=-1), 4.0 - np.linalg.norm(points[..., :2], axis=-1))
    centre = np.linalg.norm(points, axis=-1) < 5
    assert (found[centre] <= true_depth[centre] + 1.0).all()


@pytest.mark.parametrize("make", [bones.make_femur, bones.make_hip_bone])
def test_inside_is_where_the_depth_is_above_zero(make) -> None:
    """Of a solid that only adds, where the search stops early, and of one that something carves."""
    solid = make(bones.FemurShape() if make is bones.make_femur else bones.HipBoneShape())
    points = bones.HEAD_CENTRE_MM + np.random.default_rng(0).uniform(-60, 60, (20, 1000, 3))
    inside = solid.inside(points)
    assert 0.02 < inside.mean() < 0.98
    np.testing.assert_array_equal(inside, solid.depth(points) > 0)


def test_a_rod_is_a_triangle_with_two_equal_corners() -> None:
    """A third corner that is hardly another changes the depth no more than it is moved."""
    rod = tube([(0, 0, 0), (10, 20, 30)], (8, 4))
    corners = rod.corners_mm.copy()
    corners[0, 2] += 1e-9
    points = np.random.default_rng(1).uniform(-20, 40, (2000, 3))
    triangle = Solid(corners, rod.radii_mm, rod.blend_mm, rod.carves)
    np.testing.assert_allclose(rod.depth(points), triangle.depth(points), atol=1e-8)


def test_a_grid_that_the_solid_misses_is_empty() -> None:
    grid = Grid((4, 4, 4), np.full(3, 2.0), np.array([500.0, 0, 0]), np.eye(3))
    assert (ball((0, 0, 0), 10.0).depth_on(grid) == -REACH_MM).all()


def test_refine_goes_through_its_knots() -> None:
    net = np.random.default_rng(5).normal(size=(4, 5, 3))
    np.testing.assert_allclose(refine(net, 7, 9)[::2, ::2], net, atol=1e-12)


def test_a_solid_checks_its_arrays() -> None:
    with pytest.raises(ValueError, match="radii_mm"):
        Solid(np.zeros((2, 3, 3)), np.zeros((1, 3)), np.zeros(2), np.zeros(2, bool))
