"""The whole registration on a small skeleton with known poses."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numba
import numpy as np
import pytest
from hip_skeleton import CAMERA, HEADS, skeleton

from bmdkit.core.pose import standard_view
from bmdkit.core.pose_json import parse_poses
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.evaluation.registration_error import pose_error
from bmdkit.registration.bodies import FINE, prepare_bodies
from bmdkit.registration.gradients import compute_gradients, join_cells, sum_cells
from bmdkit.registration.initialisation import find_start_from_points, make_default_start
from bmdkit.registration.overlays import draw_checkerboard, draw_difference, draw_edge_overlay, draw_trace_chart
from bmdkit.registration.pyramid import make_level
from bmdkit.registration.refinement import make_normal_equations
from bmdkit.registration.register_bodies import MIRROR_WARNING, register_bodies
from bmdkit.registration.scene import Scene, View

REACHED_MM = 3.0  # mean point error: one voxel of the skeleton
SAME_MM = 0.5  # a sixth of a voxel: sums in another order end the search at another place of the same optimum


def mean_error(body, found, true):
    return np.linalg.norm(found.apply(body.points_mm) - true.apply(body.points_mm), axis=1).mean()


def registration_error(body, result, shown):
    """Mean error, mm, of a registered bone: the principal point is found too, and where it is assumed is no error."""
    cameras = {"found_camera": result.camera, "true_camera": CAMERA}
    return pose_error(
        result.bodies[body.name].camera_from_ct, shown.poses[body.name], body.points_mm, **cameras
    ).mtre_mm


@pytest.fixture(scope="module")
def result(bodies, shown, config):
    return register_bodies(bodies, shown.radiograph, config=config, rng=np.random.default_rng(0))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_known_poses_are_recovered(bodies, shown, config, result, seed):
    found = result
    if seed:
        found = register_bodies(bodies, shown.radiograph, config=config, rng=np.random.default_rng(seed))
    for body in bodies:
        assert registration_error(body, found, shown) < REACHED_MM


@pytest.mark.gpu
def test_poses_of_a_gpu_are_those_of_the_cpu(bodies, shown, config, result, network_device):
    found = register_bodies(
        bodies, shown.radiograph, config=config, rng=np.random.default_rng(0), device=network_device
    )
    for body in bodies:
        there, here = (each.bodies[body.name].camera_from_ct for each in (found, result))
        assert mean_error(body, there, here) < SAME_MM


def test_similarity_never_falls_below_its_start(result):
    assert all(body.similarity >= body.similarity_at_start for body in result.bodies.values())


def test_same_seed_same_result(bodies, shown, config, result):
    again = register_bodies(bodies, shown.radiograph, config=config, rng=np.random.default_rng(0))
    first, second = (r.to_dict(seed=0) | {"seconds": 0} for r in (result, again))
    assert first == second


def register_in_threads(bodies, radiograph, config):
    found = register_bodies(bodies, radiograph, config=config, rng=np.random.default_rng(0))
    return numba.config.NUMBA_NUM_THREADS, {name: body.camera_from_ct.matrix for name, body in found.bodies.items()}


def test_the_number_of_threads_changes_nothing(bodies, shown, config, result, monkeypatch):
    own = numba.config.NUMBA_NUM_THREADS
    monkeypatch.setenv("NUMBA_NUM_THREADS", str(1 if own > 1 else 2))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        threads, again = pool.submit(register_in_threads, bodies, shown.radiograph, config).result()
    assert min(own, threads) == 1 < max(own, threads)
    for name, body in result.bodies.items():
        assert np.array_equal(again[name], body.camera_from_ct.matrix)


def test_a_bone_that_is_left_out_is_not_reported(bodies, shown, config):
    found = register_bodies(bodies[:2], shown.radiograph, config=config, rng=np.random.default_rng(0))
    assert set(found.bodies) == {"pelvis", "femur_L"}
    assert registration_error(bodies[0], found, shown) < REACHED_MM


def test_traces_never_rise(result):
    for trace in result.traces.values():
        assert list(trace) == sorted(trace, reverse=True)


def test_file_content_gives_the_poses_back(result):
    read = parse_poses(json.loads(json.dumps(result.to_dict())))
    for name, body in result.bodies.items():
        assert np.array_equal(read.bodies[name].camera_from_ct.matrix, body.camera_from_ct.matrix)
        assert read.bodies[name].verdict == body.verdict
    assert np.array_equal(read.first().matrix, result.bodies["pelvis"].camera_from_ct.matrix)


def test_start_from_points_recovers_a_pose(bodies, shown, config):
    true = shown.poses["pelvis"]
    points = {f"p{k}": p for k, p in enumerate(bodies[0].points_mm[::40])}
    pixels = {name: CAMERA.project(p, camera_from_world=true) for name, p in points.items()}
    guess = make_default_start(bodies, CAMERA, config)
    assert mean_error(bodies[0], find_start_from_points(points, pixels, CAMERA, guess), true) < 0.5
    with pytest.raises(ValueError, match="three"):
        find_start_from_points(points, {"p0": (0, 0)}, CAMERA, guess)


def test_slope_of_the_similarity_is_that_of_its_values(bodies, shown, config):
    scene = Scene(bodies, (View(make_level(shown.radiograph, CAMERA, 3.0, config)),), FINE, config)
    image = scene.render_all(shown.poses)[0].astype(np.float64)
    change = np.roll(image, 1, 1) - image
    slope, curve = make_normal_equations(scene.level.fixed, image.astype(np.float32), change[None].astype(np.float32))
    step = 1e-2
    ends = np.stack([image - step * change, image + step * change]).astype(np.float32)
    low, high = scene.level.fixed.scores(ends)
    assert slope[0] == pytest.approx(-(high - low) / (2 * step), rel=0.05)
    assert curve[0, 0] > 0


def test_normal_equations_are_those_of_whole_gradients(bodies, shown, config):
    """The same patches from gradients of the whole images; a derivative that is zero nearly everywhere among them."""
    scene = Scene(bodies, (View(make_level(shown.radiograph, CAMERA, 3.0, config)),), FINE, config)
    fixed, image = scene.level.fixed, scene.render_all(shown.poses)[0]
    derivatives = np.stack([np.roll(image, 1, 1) - image, np.roll(image, 1, 0) - image, np.zeros_like(image)])
    derivatives[1, :20] = derivatives[1, :, 30:] = 0
    slope, curve = make_normal_equations(fixed, image, derivatives)
    stack = np.concatenate([fixed.slopes[None], compute_gradients(np.concatenate([image[None], derivatives]))])
    sums = np.array(
        [[join_cells(sum_cells(a[None], b, fixed.valid * np.float32(1), fixed.cell))[0] for b in stack] for a in stack]
    )
    count = fixed.weights / fixed.weights.max() * (2 * fixed.cell) ** 2
    products = sums[..., 2] - sums[..., 0] * sums.swapaxes(0, 1)[..., 0] / np.maximum(count, 1)
    own, moving, both = products[0, 0], products[1, 1], products[0, 1]
    edged = (fixed.weights > 0) & (moving > 1e-6 * moving.max()) & (own > 1e-6 * own.max())
    weights, own, moving = np.where(edged, fixed.weights, 0) / 2, np.where(edged, own, 1), np.where(edged, moving, 1)
    ncc = both / np.sqrt(own * moving)
    expected = -(weights * (products[0, 2:] / np.sqrt(own * moving) - ncc / moving * products[1, 2:])).sum((1, 2, 3))
    along = products[1, 2:, None] * products[1, None, 2:] / moving
    share = weights * np.maximum(ncc, 0.05) / moving
    np.testing.assert_allclose(slope, expected, atol=1e-5 * np.abs(expected).max())
    expected = (share * (products[2:, 2:] - along)).sum((2, 3, 4))
    np.testing.assert_allclose(curve, expected, atol=1e-5 * np.abs(expected).max())
    assert slope[2] == 0


def test_pictures_have_the_radiograph_s_size(bodies, shown, result):
    overlay = draw_edge_overlay(shown.radiograph, bodies, result)
    assert overlay.shape == (*CAMERA.shape, 3)
    assert overlay.dtype == np.uint8
    assert (overlay.max(2) > overlay.min(2)).any()  # something is coloured
    for picture in (draw_checkerboard, draw_difference):
        image = picture(shown.radiograph, bodies, result)
        assert image.shape == CAMERA.shape
        assert image.min() < image.max()
    assert draw_trace_chart(result).std() > 1


@pytest.mark.parametrize("kind", ["blank", "saturated", "noise", "other", "mirrored", "lateral"])
def test_what_shows_no_frontal_hip_is_never_accepted(bodies, shown, config, kind):
    rng = np.random.default_rng(8)
    side_on = standard_view("lateral_left", (HEADS["L"] + HEADS["R"]) / 2, CAMERA)
    lateral = sum(body.project(side_on.matrix[None], CAMERA, FINE, "cpu")[0] for body in bodies)
    pixels = {
        "mirrored": shown.radiograph.pixels[:, ::-1],
        "lateral": np.clip(lateral / lateral.max() + rng.normal(0, 0.01, CAMERA.shape), 0, 1),
        "blank": np.full(CAMERA.shape, 0.5),
        "saturated": (shown.radiograph.pixels > 0.15).astype(float),  # bone and flesh alike
        "noise": rng.random(CAMERA.shape),
        "other": np.clip(np.add.outer(np.sin(np.arange(340) / 17), np.cos(np.arange(400) / 23)) / 4 + 0.5, 0, 1),
    }[kind]
    image = Radiograph(pixels.astype(np.float32), np.ones(CAMERA.shape, bool), 1.0, 1.0, CAMERA.sdd_mm)
    found = register_bodies(bodies, image, config=config, rng=rng)
    assert all(body.verdict != "accept" for body in found.bodies.values())
    assert (MIRROR_WARNING in found.warnings) or kind != "mirrored"


def test_another_patient_is_never_accepted(shown, config):
    density, labels = skeleton()
    shape = np.array([1.18, 0.9, 0.86])  # wider, flatter and lower than the patient of the radiograph
    wide = replace(density.grid, spacing_mm=density.grid.spacing_mm * shape, origin_mm=density.grid.origin_mm * shape)
    others = prepare_bodies(
        Volume(density.array, wide, density.quantity), LabelMap(labels.array, wide, labels.values), None, config
    )
    found = register_bodies(others, shown.radiograph, config=config, rng=np.random.default_rng(0))
    assert all(body.verdict != "accept" for body in found.bodies.values())


def test_unknown_distances_are_refused(bodies, config):
    image = Radiograph(np.zeros((40, 40), np.float32), np.ones((40, 40), bool))
    with pytest.raises(ValueError, match="SDD"):
        register_bodies(bodies, image, config=config, rng=np.random.default_rng(0))
