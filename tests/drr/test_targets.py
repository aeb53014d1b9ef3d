"""Target projections: areal density, and where they end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.pose import standard_view
from bmdkit.core.volume import Volume
from bmdkit.dataset.pairs import PairConfig, make_pair_window
from bmdkit.drr.channels import Channels
from bmdkit.drr.reference import find_hits, render_exact
from bmdkit.drr.render import render
from bmdkit.drr.targets import cut_region, measure_projected_mean, project_region

GEOMETRY = ProjectionGeometry(1000.0, 0.5, 0.5, 300, 200)
GRID = Grid((40, 40, 40), (2.0, 2.0, 2.0), (-39.0, -39.0, -39.0), np.eye(3))


def block(density=500.0):
    """A block of 40 x 30 x 20 mm (LPS) about the origin, in a volume that is dense everywhere."""
    mask = np.zeros(GRID.shape, bool)
    mask[15:25, 12:27, 10:30] = True
    return cut_region(Volume(np.full(GRID.shape, density, np.float32), GRID, "density_mg_cm3"), mask, GRID, "block")


def test_a_block_s_areal_density_is_its_density_times_its_depth():
    pose = standard_view("ap", np.array([0.0, -1.0, 0.0]), GEOMETRY, object_to_detector_mm=200.0)
    image = project_region(block(), pose, GEOMETRY)
    centre = image[100, 150]
    assert centre == pytest.approx(500 * 30 * 1e-4, rel=2e-3)  # mg/cm3 mm to g/cm2; the central ray is straight
    magnification = 1000 / 800
    flat = 40 * magnification / 0.5 * 20 * magnification / 0.5
    near = 40 * 1000 / 785 / 0.5 * 20 * 1000 / 785 / 0.5  # the front face is nearer to the source
    assert flat <= (image > 0).sum() <= near * 1.02
    # the shadow is that of the front face; the mass in it is that of the block, seen at its middle
    assert measure_projected_mean(image) == pytest.approx(centre * (785 / 800) ** 2, rel=0.02)


def test_the_outline_does_not_grow_with_interpolation():
    """Interpolation reaches half a voxel further: 2 mm voxels would widen 40 x 20 mm to 42 x 22 mm."""
    pose = standard_view("ap", np.zeros(3), GEOMETRY, object_to_detector_mm=200.0)
    rows = np.flatnonzero(project_region(block(), pose, GEOMETRY).any(axis=1))
    front = 1000 / (800 - 16) / 0.5
    assert len(rows) <= 20 * front + 1


def test_nothing_projects_outside_the_image_or_from_behind_the_source():
    pose = standard_view("ap", np.array([500.0, 0.0, 0.0]), GEOMETRY, object_to_detector_mm=200.0)
    image = project_region(block(), pose, GEOMETRY)
    assert not image.any()
    with pytest.raises(GeometryError):
        measure_projected_mean(image)
    behind = standard_view("ap", np.zeros(3), GEOMETRY, object_to_detector_mm=1010.0)
    with pytest.raises(GeometryError):
        project_region(block(), behind, GEOMETRY)


def test_carrying_keeps_the_mineral():
    """Areal density times area is mass: the pair holds all of it."""
    tall = ProjectionGeometry(1000.0, 0.5, 0.5, 300, 400)
    pose = standard_view("ap", np.array([-30.0, 0.0, 0.0]), tall, object_to_detector_mm=200.0)
    image = project_region(block(), pose, tall)
    window = make_pair_window(*tall.shape, "L", PairConfig())
    pair, camera = window.carry(image), window.camera(tall)
    mass = image.sum(dtype=float) * tall.row_spacing_mm * tall.column_spacing_mm
    assert pair.sum(dtype=float) * camera.row_spacing_mm * camera.column_spacing_mm == pytest.approx(mass, rel=1e-5)


@pytest.mark.parametrize("name", ["values", "exact", "target"])
def test_a_pa_view_displayed_as_usual_is_the_plain_one_turned_round(name):
    turn = RigidTransform.from_parts(Rotation.from_rotvec((0.1, -0.2, 0.15)).as_matrix(), (4.0, -3.0, 2.0))
    plain = replace(GEOMETRY, principal_point_uv=np.array([120.0, 110.0]))
    reversed_columns = replace(plain, reversed_columns=True, principal_point_uv=np.array([299 - 120.0, 110.0]))
    pose = standard_view("pa", np.zeros(3), plain, object_to_detector_mm=200.0) @ turn
    region = block()
    show = {
        "values": lambda camera: render(region.density, [pose], camera)[0, 0],
        "exact": lambda camera: render_exact(region.outline, [pose], camera)[0, 0],
        "target": lambda camera: project_region(region, pose, camera),
    }[name]
    seen, turned = show(plain), show(reversed_columns)
    assert seen.max() > 0
    np.testing.assert_allclose(turned, seen[:, ::-1], atol=1e-4 * seen.max())
    assert np.abs(seen - seen[:, ::-1]).max() > 0.1 * seen.max()


def test_a_hit_is_where_the_exact_path_is_longer_than_nothing() -> None:
    rng = np.random.default_rng(4)
    mask = ndimage.gaussian_filter(rng.standard_normal((14, 17, 12)), 2) > 0.05
    grid = Grid(mask.shape, (2.0, 3.0, 2.5), (-15.0, -20.0, -18.0), np.eye(3))
    outline = Channels(mask[None].astype(np.float32), grid, ("outline",))
    camera = ProjectionGeometry(1000.0, 0.9, 0.9, 70, 60)
    pose = standard_view("ap", grid.centre(), camera, object_to_detector_mm=150)
    exact = render_exact(outline, [pose], camera)[0, 0]
    hits = find_hits(outline, pose, camera)
    np.testing.assert_array_equal(hits, exact > 0)
    assert 0.1 < hits.mean() < 0.9
