"""A magnification marker: measured in the image, and what it tells of depth and source distance."""

from dataclasses import replace

import numpy as np
import pytest
from hip_skeleton import CAMERA

from bmdkit.config import ConfigError, build
from bmdkit.core.geometry import ProjectionGeometry
from bmdkit.core.radiograph import Radiograph
from bmdkit.registration.camera import check_depth, estimate_camera
from bmdkit.registration.marker import Marker, find_marker
from bmdkit.registration.register_bodies import register_bodies
from bmdkit.registration.settings import CameraConfig, MarkerConfig, RegistrationConfig

DETECTOR = ProjectionGeometry(1150.0, 0.5, 0.5, 600, 500)
BALL = MarkerConfig(diameter_mm=25.0)


def with_ball(
    image: np.ndarray, camera: ProjectionGeometry, at_mm: tuple[float, float, float], diameter_mm: float = 25.0
) -> np.ndarray:
    """A steel ball laid over a picture: the exact chord of every ray, saturating."""
    row, column = np.indices(camera.shape)
    rays = camera.unproject(np.stack([column, row], axis=-1), 1.0)
    rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    centre = np.array(at_mm)
    missed = centre @ centre - (rays @ centre) ** 2
    chord = 2 * np.sqrt(np.maximum((diameter_mm / 2) ** 2 - missed, 0))
    return np.clip(image + 0.3 * chord, 0, 1)


def tissue(camera: ProjectionGeometry, rng: np.random.Generator) -> np.ndarray:
    """Smooth, with a bright round bone that is too large to be the marker, and noise."""
    row, column = np.indices(camera.shape)
    soft = 0.4 - 0.3 * ((column / camera.columns - 0.5) ** 2 + (row / camera.rows - 0.5) ** 2)
    head = 0.3 * (np.hypot(row - 250, column - 180) * camera.column_spacing_mm < 28)
    return soft + head + rng.normal(0, 0.01, camera.shape)


def radiograph(pixels: np.ndarray, camera: ProjectionGeometry, sources: dict | None = None) -> Radiograph:
    spacing = camera.column_spacing_mm, camera.row_spacing_mm
    return Radiograph(pixels, np.ones(camera.shape, bool), *spacing, camera.sdd_mm, sources or {})


@pytest.mark.parametrize(("at_mm", "diameter_mm"), [((5, 8, 1000), 25), ((95, -70, 960), 25), ((-90, 60, 1050), 30)])
def test_magnification_of_a_ball_is_measured(at_mm, diameter_mm):
    image = with_ball(tissue(DETECTOR, np.random.default_rng(1)), DETECTOR, at_mm, diameter_mm)
    found = find_marker(radiograph(image, DETECTOR), DETECTOR, replace(BALL, diameter_mm=float(diameter_mm)))
    assert np.linalg.norm(found.center_uv - DETECTOR.project(np.array(at_mm, float))) < 1.5
    assert found.magnification == pytest.approx(DETECTOR.sdd_mm / at_mm[2], rel=0.006)
    assert found.magnification_sd < 0.01


def test_place_given_chooses_among_two():
    image = tissue(DETECTOR, np.random.default_rng(2))
    for at in ((90, 60, 980), (-90, 60, 1060)):
        image = with_ball(image, DETECTOR, at)
    for at in ((90, 60, 980), (-90, 60, 1060)):
        column, row = DETECTOR.project(np.array(at, float)) + 8
        found = find_marker(radiograph(image, DETECTOR), DETECTOR, replace(BALL, column=column, row=row))
        assert found.magnification == pytest.approx(DETECTOR.sdd_mm / at[2], rel=0.006)


def test_no_marker_is_found_where_there_is_none():
    image = radiograph(np.clip(tissue(DETECTOR, np.random.default_rng(3)), 0, 1), DETECTOR)
    assert find_marker(image, DETECTOR, BALL) is None
    config = replace(RegistrationConfig(), marker=BALL)
    assert any("not found" in warning for warning in estimate_camera(image, DETECTOR, config).warnings)


def test_height_and_magnification_give_the_source_distance():
    marker = Marker(np.zeros(2), 28.75, 1.15, 0.002)
    sdd, sd = marker.sdd_mm(replace(BALL, to_detector_mm=150.0))
    assert sdd == pytest.approx(1150)
    assert sd == pytest.approx(np.hypot(1.15 / 0.15 * 3, 150 / 0.15**2 * 0.002))
    assert marker.sdd_mm(BALL) is None


def test_an_assumed_distance_is_joined_with_the_marker_s_and_called_uncertain():
    image = with_ball(tissue(DETECTOR, np.random.default_rng(4)), DETECTOR, (95, 60, 950))
    config = replace(RegistrationConfig(), marker=replace(BALL, to_detector_mm=200.0))
    wrong = replace(DETECTOR, sdd_mm=1050.0)
    estimate = estimate_camera(radiograph(image, wrong, {"sdd_mm": "assumed"}), wrong, config)
    assert abs(estimate.camera.sdd_mm - 1150) < abs(wrong.sdd_mm - 1150) / 2
    assert estimate.sources["sdd_mm"].startswith("assumed and magnification marker, uncertain by")
    assert estimate.sources["magnification"] == "marker of 25 mm"
    assert len(estimate.intrinsics_sd) == 3
    u, v = np.rint(estimate.marker.center_uv).astype(int)
    assert not estimate.radiograph.mask[v, u]
    assert estimate_camera(radiograph(image, wrong, {"sdd_mm": "dicom"}), wrong, config).warnings  # only compared


def test_nothing_changes_without_a_marker():
    image = radiograph(np.zeros(DETECTOR.shape), DETECTOR, {"sdd_mm": "dicom"})
    estimate = estimate_camera(image, DETECTOR, RegistrationConfig())
    assert estimate.radiograph is image
    assert estimate.camera is DETECTOR
    assert len(estimate.intrinsics_sd) == 2  # of the principal point, not of a distance that the file gives
    assert estimate_camera(image, DETECTOR, replace(RegistrationConfig(), camera=CameraConfig(0.0))).intrinsics_sd == ()
    assert dict(estimate.sources) == {"sdd_mm": "dicom"}


def test_registration_takes_depth_from_the_marker_and_says_where_its_numbers_come_from(bodies, shown, config):
    depth = float(shown.poses["pelvis"].apply(bodies[0].centre_mm)[2])
    pixels = with_ball(shown.radiograph.pixels, CAMERA, (-140, 130, depth), 30.0)
    image = radiograph(pixels, CAMERA, {"sdd_mm": "assumed"})
    settings = replace(config, marker=MarkerConfig(diameter_mm=30.0, to_detector_mm=CAMERA.sdd_mm - depth))
    found = register_bodies(bodies, image, config=settings, rng=np.random.default_rng(0))
    data = found.to_dict()["camera"]
    assert data["marker"]["magnification"] == pytest.approx(CAMERA.sdd_mm / depth, rel=0.01)
    assert "uncertain by" in data["sources"]["sdd_mm"]
    assert data["sources"]["sdd_mm"].endswith("refined by registration")
    seen, true = (
        pose.apply(bodies[0].points_mm) for pose in (found.bodies["pelvis"].camera_from_ct, shown.poses["pelvis"])
    )
    off = (found.camera.project(seen) - CAMERA.project(true)) * CAMERA.column_spacing_mm
    assert np.linalg.norm(off, axis=1).mean() < 2.0
    far = estimate_camera(image, CAMERA, settings)
    assert check_depth(far, CAMERA, depth) is None
    assert "by the bones" in check_depth(far, CAMERA, depth - 150)


def test_settings_of_a_marker_are_checked():
    for values in ({"diameter_mm": -1}, {"diameter_mm": 25, "column": 3}):
        with pytest.raises(ConfigError):
            build(MarkerConfig, values)
