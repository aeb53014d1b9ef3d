"""Renders against closed forms, the exact oracle, and what must not change an image."""

import numpy as np
import pytest
from drr_phantoms import edge, grid, integral, oblique, rays, sampled

from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.pose import standard_view
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.drr.channels import Channels, prepare_channels
from bmdkit.drr.reference import render_exact
from bmdkit.drr.render import render

CAMERA = ProjectionGeometry(1000, 3.1, 2.9, 47, 41, (21.3, 22.8))
SMOOTH = 1e-3  # mean relative error on phantoms whose edge falls over 24 voxels; linear interpolation costs as much
FLOAT32 = 1e-6  # of the peak: sums of a few hundred float32 samples


def pose(turn=((1, 0, 0), (0, 1, 0), (0, 0, 1)), depth_mm=850.0, shift_mm=(0, 0, 0)) -> RigidTransform:
    return RigidTransform.from_parts(np.array(turn, float), np.array([0, 0, depth_mm]) + shift_mm)


def random_poses(count: int) -> list[RigidTransform]:
    from scipy.spatial.transform import Rotation

    return [pose(turn, shift_mm=(count, -3, 5)) for turn in Rotation.random(count, random_state=3).as_matrix()]


def speckled() -> Channels:
    """Two channels on an oblique anisotropic grid: dense at one end, a few voxels elsewhere."""
    rng = np.random.default_rng(0)
    values = rng.random((2, 20, 31, 26)).astype(np.float32)
    values[:, 5:] *= rng.random((2, 15, 31, 26)) > 0.98
    direction = oblique(40)
    centre = direction @ (np.array([1.5, 1.2, 1.0]) * [12.5, 15, 9.5])
    return Channels(values, Grid((20, 31, 26), (1.5, 1.2, 1.0), -centre, direction), ("a", "b"))


def relative_error(image, truth):
    return np.abs(image - truth).mean() / truth.mean()


SPHERE = np.array([6.0, -9.0, 4.0])


def sphere(points):
    return np.linalg.norm(points - SPHERE, axis=-1) - 28


def cylinder(points):
    axis = oblique()[:, 2]
    along = points @ axis
    across = np.linalg.norm(points - along[..., None] * axis, axis=-1)
    return np.maximum(across - 17, np.abs(along) - 26)


def cuboid(points):
    turned = np.abs(points @ oblique(35)) - (14, 21, 27)
    return turned.max(axis=-1)


def sphere_chord(source, directions):
    towards = SPHERE - source
    closest = towards @ towards - (directions @ towards) ** 2
    return 2 * np.sqrt(np.clip(28**2 - closest, 0, None))


@pytest.mark.parametrize("body", [sphere, cylinder, cuboid])
@pytest.mark.parametrize("turn", [np.eye(3), oblique(70)])
def test_soft_bodies_match_their_integrals(body, turn):
    soft = 18.0
    volume = sampled(grid(128, 0.75, oblique(10)), soft, body)
    image = render(prepare_channels(volume), [pose(turn)], CAMERA)[0, 0]
    truth = integral(*rays(CAMERA, pose(turn)), lambda p: edge(-body(p), soft), 780, 920, 300)
    assert relative_error(image, truth) <= SMOOTH


def test_sphere_is_its_chord():
    volume = sampled(grid(112, 0.7), 2.0, sphere)
    image = render(prepare_channels(volume), [pose(oblique())], CAMERA)[0, 0]
    chord = sphere_chord(*rays(CAMERA, pose(oblique())))
    inner = chord > 28  # away from the rim, where a soft edge is not a sharp one
    assert np.abs(image - chord)[inner].mean() / chord[inner].mean() <= SMOOTH
    assert image.sum() == pytest.approx(chord.sum(), rel=SMOOTH)


def test_boxes_match_siddon_along_the_axes_and_obliquely():
    """A block of equal voxels, crossed through faces far from its edges, is piecewise constant to both methods."""
    values = np.zeros((40, 40, 40), np.float32)
    values[6:34, 6:34, 6:34] = 2.5
    volume = Volume(values, grid(40, 2.0, aspect=(1, 1.1, 0.9)), "density_mg_cm3")
    camera = ProjectionGeometry(1000, 2.0, 2.0, 9, 7)
    for turn in (np.eye(3), oblique(4)):
        fast = render(prepare_channels(volume), [pose(turn)], camera)
        exact = render_exact(prepare_channels(volume), [pose(turn)], camera)
        np.testing.assert_allclose(fast, exact, rtol=1e-5)


def test_layers_match_siddon():
    """Values that change along the main axis only: Joseph's sum is the same Riemann sum as the exact one along it."""
    values = np.broadcast_to(np.random.default_rng(1).random(36).astype(np.float32), (30, 30, 36))
    volume = Volume(np.ascontiguousarray(values.transpose(0, 2, 1)), grid_of((30, 36, 30)), "density_mg_cm3")
    camera = ProjectionGeometry(1e6, 1.0, 1.0, 9, 7)
    view = standard_view("ap", (0, 0, 0), camera, object_to_detector_mm=200)
    fast, exact = (how(prepare_channels(volume), [view], camera) for how in (render, render_exact))
    np.testing.assert_allclose(fast, exact, rtol=1e-5)


def grid_of(shape) -> Grid:
    return Grid(shape, (1, 1, 1), -(np.array(shape[::-1]) - 1) / 2, np.eye(3))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("flip", [1, -1])
def test_axis_parallel_rays_are_exact(axis, flip):
    """Parallel rays through voxel centres are plain sums of the volume along an axis."""
    values = np.random.default_rng(2).random((7, 9, 11)).astype(np.float32)
    where = grid_of(values.shape)
    turn = np.roll(np.eye(3), axis + 1, axis=0) * flip  # camera z along LPS axis `axis`
    turn = np.roll(np.eye(3), -((axis + 1) % 3), axis=0) if flip == 1 else turn
    turn = turn if np.linalg.det(turn) > 0 else turn * np.array([[1], [-1], [1]])
    camera = ProjectionGeometry(500, 1, 1, 13, 13)
    image = render(Channels.from_volume(Volume(values, where, "hu")), [pose(turn)], camera, beam="parallel")[0, 0]
    main = int(np.abs(turn[2]).argmax())
    sums = values.sum(axis=2 - main, dtype=float)
    assert image.sum() == pytest.approx(values.sum(), rel=1e-5)
    np.testing.assert_allclose(np.sort(image[image > 0]), np.sort(sums.ravel()), rtol=1e-5)


def test_perspective_ray_along_an_axis():
    values = np.ones((5, 6, 8), np.float32)
    camera = ProjectionGeometry(800, 1, 1, 3, 3)
    volume = Channels.from_volume(Volume(values, Grid((5, 6, 8), (2, 3, 4), (0, 0, 0), np.eye(3)), "hu"))
    view = standard_view("ap", volume.grid.points([2, 2.5, 4]), camera)
    assert render(volume, [view], camera)[0, 0, 1, 1] == 6 * 3


def test_an_image_does_not_depend_on_the_batch():
    channels, views = speckled(), random_poses(9)
    for beam in ("perspective", "parallel"):
        together = render(channels, views, CAMERA, beam=beam)
        alone = np.concatenate([render(channels, [view], CAMERA, beam=beam) for view in views])
        np.testing.assert_array_equal(together, alone)
        np.testing.assert_array_equal(together, render(channels, views, CAMERA, beam=beam, threads=1))
        np.testing.assert_array_equal(
            together, render(channels, np.stack([v.matrix for v in views]), CAMERA, beam=beam)
        )


def test_a_channel_does_not_depend_on_the_others():
    channels, views = speckled(), random_poses(5)
    second = Channels(channels.arrays[1:], channels.grid, ("b",))
    np.testing.assert_array_equal(render(channels, views, CAMERA)[:, 1:], render(second, views, CAMERA))


def test_skipping_and_cropping_change_nothing():
    """The same voxels within a larger array of zeros, cropped again."""
    channels, views = speckled(), random_poses(5)
    wide = np.zeros((2, 36, 47, 42), np.float32)
    wide[:, 9:29, 8:39, 7:33] = channels.arrays
    origin = channels.grid.points(np.array([-9, -8, -7]))
    grown = Grid(wide.shape[1:], channels.grid.spacing_mm, origin, channels.grid.direction)
    images = render(channels, views, CAMERA)
    np.testing.assert_allclose(
        render(Channels(wide, grown, ("a", "b")), views, CAMERA), images, atol=2e-5 * images.max()
    )


def test_a_region_of_interest_is_a_crop():
    channels, views = speckled(), random_poses(4)
    whole = render(channels, views, CAMERA)
    np.testing.assert_array_equal(render(channels, views, CAMERA, roi=(5, 3, 17, 22)), whole[:, :, 5:22, 3:25])
    outside = render(channels, views, CAMERA, roi=(-4, 40, 10, 20))
    np.testing.assert_array_equal(outside[:, :, 4:, :7], whole[:, :, :6, 40:])
    moved = render(channels, views, CAMERA.cropped(row=5, column=3, rows=17, columns=22))
    np.testing.assert_allclose(moved, whole[:, :, 5:22, 3:25], atol=2e-5 * whole.max())


def test_every_view_may_have_its_own_camera():
    channels, views = speckled(), random_poses(3)
    cameras = [ProjectionGeometry(900 + 50 * n, 2.0 + n, 2.5, 33, 30, (14.0 + n, 16)) for n in range(3)]
    together = render(channels, views, cameras)
    for image, view, camera in zip(together, views, cameras, strict=True):
        np.testing.assert_array_equal(image, render(channels, [view], camera)[0])


def test_channels_sum_to_the_whole():
    rng = np.random.default_rng(5)
    where = grid(40, 2.0, oblique(15))
    whole = Volume(rng.random(where.shape).astype(np.float32), where, "density_mg_cm3")
    labels = LabelMap(rng.integers(1, 4, where.shape), where, {"pelvis": 1, "femur_L": 2, "femur_R": 3})
    groups = [["pelvis"], ["femur_L"], ["femur_R"]]
    views = random_poses(3)
    parts = render(prepare_channels(whole, labels, groups), views, CAMERA)
    total = render(prepare_channels(whole, labels), views, CAMERA)[:, 0]
    assert parts.shape == (3, 3, *CAMERA.shape)
    assert np.abs(parts.sum(axis=1, dtype=float) - total).max() <= FLOAT32 * total.max()


def test_labels_on_a_finer_grid():
    """The density is interpolated at the labels' voxels."""
    where = grid(24, 2.0)
    density = sampled(where, 8.0, sphere_at_origin)
    fine = where.with_spacing(1.0)
    labels = LabelMap(np.ones(fine.shape, np.uint8), fine, {"pelvis": 1})
    channels = prepare_channels(density, labels, [["pelvis"]])
    assert channels.grid.spacing_mm == pytest.approx(1.0)
    fast = render(channels, [pose(oblique())], CAMERA)
    assert relative_error(fast, render(prepare_channels(density), [pose(oblique())], CAMERA)) <= 10 * SMOOTH


def sphere_at_origin(points):
    return np.linalg.norm(points, axis=-1) - 15


def test_thin_volumes():
    """One voxel along an axis: it fades over one voxel on either side, and its mass is kept."""
    volume = Channels.from_volume(Volume(np.ones((1, 30, 30), np.float32), grid_of((1, 30, 30)), "hu"))
    camera = ProjectionGeometry(500, 0.25, 0.25, 160, 40)
    image = render(volume, [standard_view("ap", (0, 0, 0), camera)], camera, beam="parallel")[0, 0]
    assert image.sum() * 0.25**2 == pytest.approx(900, rel=1e-3)


class TestBadInput:
    def test_bone_behind_the_source(self):
        views = [pose(), pose(depth_mm=-850.0)]
        with pytest.raises(GeometryError, match=r"front of the source, not so at \[1\]"):
            render(speckled(), views, CAMERA)
        blank = render(speckled(), views, CAMERA, behind="blank")
        assert blank[0].any()
        assert not blank[1].any()
        np.testing.assert_array_equal(blank[0], render(speckled(), views[:1], CAMERA)[0])

    def test_matrices(self):
        bad = np.stack([np.eye(4), np.full((4, 4), np.nan)])
        with pytest.raises(GeometryError, match=r"finite.*\[1\]"):
            render(speckled(), bad, CAMERA)
        with pytest.raises(GeometryError, match="proper rotations"):
            render(speckled(), np.diag([1.0, 1, -1, 1])[None], CAMERA)
        with pytest.raises(GeometryError, match="P >= 1"):
            render(speckled(), np.zeros((0, 4, 4)), CAMERA)

    def test_spacing(self):
        with pytest.raises(GeometryError, match="row_spacing_mm"):
            ProjectionGeometry(1000, 1, 0, 10, 10)
        with pytest.raises(ValueError, match="spacing_mm"):
            Grid((2, 2, 2), (1, 0, 1), (0, 0, 0), np.eye(3))

    def test_an_empty_mask(self):
        where = grid(8, 1.0)
        labels = LabelMap(np.zeros(where.shape, np.uint8), where, {"pelvis": 1})
        density = Volume(np.ones(where.shape, np.float32), where, "density_mg_cm3")
        with pytest.raises(ValueError, match="pelvis, got none"):
            prepare_channels(density, labels, [["pelvis"]])
        with pytest.raises(ValueError, match="not zero, got none"):
            render(Channels(np.zeros((1, 8, 8, 8)), where, ("a",)), [pose()], CAMERA)

    def test_values_that_are_not_finite(self):
        values = np.ones((1, 8, 8, 8), np.float32)
        values[0, 1, 2, 3] = np.inf
        with pytest.raises(ValueError, match="finite"):
            Channels(values, grid(8, 1.0), ("a",))

    def test_images_larger_than_memory(self):
        camera = ProjectionGeometry(1000, 1, 1, 400_000, 400_000)
        with pytest.raises(MemoryError, match="GB"):
            render(speckled(), random_poses(20), camera)

    def test_volumes_larger_than_memory(self):
        huge = np.broadcast_to(np.float64(1.0), (60_000, 60_000, 60_000))
        with pytest.raises(MemoryError, match="GB"):
            prepare_channels(Volume(huge, grid_of(huge.shape), "density_mg_cm3"))

    def test_arguments(self):
        with pytest.raises(ValueError, match="beam"):
            render(speckled(), [pose()], CAMERA, beam="fan")
        with pytest.raises(ValueError, match="roi"):
            render(speckled(), [pose()], CAMERA, roi=(0, 0, 0, 5))
        with pytest.raises(ValueError, match="geometry"):
            render(speckled(), [pose()], [CAMERA, CAMERA])
        with pytest.raises(ValueError, match="device"):
            render(speckled(), [pose()], CAMERA, device="tpu")


def body_in_air() -> tuple[Volume, LabelMap]:
    """A cube of bone in fat and air, mg/cm3, and the label map of the bone."""
    where = grid(24, 2.0)
    density = np.full(where.shape, -900, np.float32)
    density[4:20, 4:20, 4:20] = -60
    density[8:16, 8:16, 8:16] = 800
    labels = np.zeros(where.shape, np.uint8)
    labels[8:16, 8:16, 8:16] = 1
    return Volume(density, where, "density_mg_cm3"), LabelMap(labels, where, {"pelvis": 1})


def test_air_and_fat_count_as_nothing_in_a_whole_volume():
    density, labels = body_in_air()
    whole = render(density, "ap", CAMERA)
    assert whole.min() == 0
    assert whole.max() == pytest.approx(8 * 2.0 * 800, rel=0.02)  # 16 mm of bone, a little more along a slanted ray
    np.testing.assert_allclose(whole, render(density, "ap", CAMERA, labels=labels), atol=FLOAT32 * whole.max())


def test_hounsfield_units_are_refused_and_the_way_out_is_named():
    density, _ = body_in_air()
    with pytest.raises(ValueError, match=r"expected density_mg_cm3 or attenuation_per_mm, got hu.*calibrate"):
        render(Volume(density.array, density.grid, "hu"), "ap", CAMERA)


def test_a_named_view_is_the_standard_view_of_the_middle():
    density, labels = body_in_air()
    pose_of_view = standard_view("lateral_left", density.grid.centre(), CAMERA)
    expected = render(prepare_channels(density, labels), [pose_of_view], CAMERA)
    np.testing.assert_array_equal(render(density, "lateral_left", CAMERA, labels=labels), expected)


def test_channels_that_are_cut_already_take_no_labels():
    density, labels = body_in_air()
    with pytest.raises(ValueError, match="cut already"):
        render(prepare_channels(density, labels), "ap", CAMERA, labels=labels)
    with pytest.raises(ValueError, match="structures"):
        render(density, "ap", CAMERA, structures=[["pelvis"]])
