"""Cameras in files: what they say is what is projected, and what contradicts itself is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from bmdkit.core.geometry import GeometryError, ProjectionGeometry, RigidTransform
from bmdkit.errors import CaseError
from bmdkit.io.camera_files import VIRTUAL_SDD_MM, parse_camera, parse_mayacam, read_cameras
from bmdkit.io.positioner import find_positioner_pose
from bmdkit.io.xray import read_radiograph

K = [[5000.0, 0, 420.5], [0, 4900.0, 310.25], [0, 0, 1]]
TURN = RigidTransform.from_parts(
    np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]), np.array([10.0, -20.0, 900.0])
).matrix.tolist()
TEXT = """image size
800,600

camera matrix
5000,0,420.5
0,4900,310.25
0,0,1

rotation
0,0,1
0,1,0
-1,0,0

translation
10
-20
900
"""


def test_calibration_text_gives_its_projection():
    camera = parse_mayacam(TEXT).fit(600, 800)
    point = np.array([3.0, 7.0, -50.0])
    seen = np.array(K) @ (np.array(TURN) @ [*point, 1])[:3]
    projected = camera.geometry.project(point, camera_from_world=camera.camera_from_world)
    np.testing.assert_allclose(projected, seen[:2] / seen[2], atol=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("rotation", "turn"),
        TEXT.replace("0,1,0\n-1", "0,2,0\n-1"),
        TEXT.replace("5000,0,", "5000,30,"),
        TEXT.replace("\n900", ""),
        "",
    ],
    ids=["section unknown", "no rotation", "skew", "short", "empty"],
)
def test_a_bad_calibration_text_is_refused(tmp_path, text):
    file = tmp_path / "cam01.txt"
    file.write_text(text)
    with pytest.raises(CaseError, match="BMD-XR-027"):
        read_cameras(file)


def test_a_camera_of_another_image_is_refused():
    with pytest.raises(GeometryError, match="800 x 600"):
        parse_mayacam(TEXT).fit(601, 800)


@pytest.mark.parametrize(
    ("data", "sdd_mm", "column_mm"),
    [
        ({"K": K}, VIRTUAL_SDD_MM, VIRTUAL_SDD_MM / 5000),
        ({"K": K, "sdd_mm": 1000}, 1000, 0.2),
        ({"K": K, "column_spacing_mm": 0.2, "row_spacing_mm": 1 / 4.9}, 1000, 0.2),
        ({"sdd_mm": 1100, "column_spacing_mm": 0.3, "row_spacing_mm": 0.4}, 1100, 0.3),
    ],
)
def test_scales_of_a_camera(data, sdd_mm, column_mm):
    geometry = parse_camera(data).fit(600, 800).geometry
    assert geometry.sdd_mm == pytest.approx(sdd_mm)
    assert geometry.column_spacing_mm == pytest.approx(column_mm)
    np.testing.assert_allclose(geometry.principal_point_uv, (420.5, 310.25) if "K" in data else (399.5, 299.5))


@pytest.mark.parametrize(
    "data",
    [
        {"K": K, "column_spacing_mm": 0.2, "row_spacing_mm": 0.2},
        {"K": K, "sdd_mm": 1200, "column_spacing_mm": 0.2, "row_spacing_mm": 1 / 4.9},
        {"sdd_mm": 1000},
    ],
)
def test_numbers_that_contradict_each_other_are_refused(data):
    with pytest.raises(GeometryError, match="camera"):
        parse_camera(data).fit(600, 800)


@pytest.mark.parametrize(
    "data", [{"sid_mm": 1000}, {"K": K, "sd": {"depth": 1}}, {"K": K, "camera_from_world": [1]}, 5]
)
def test_unknown_words_are_refused(tmp_path, data):
    file = tmp_path / "cameras.json"
    file.write_text(json.dumps({"ap": data}))
    with pytest.raises(CaseError, match=r"BMD-XR-027.*ap"):
        read_cameras(file)


def test_a_camera_written_is_the_camera_read(tmp_path):
    entry = parse_camera({"K": K, "sdd_mm": 1000, "camera_from_world": TURN, "sd": {"rotation_deg": 0.5}})
    camera = entry.fit(600, 800)
    file = tmp_path / "cameras.json"
    file.write_text(json.dumps({"ap": camera.to_dict()}))
    again = read_cameras(file)["ap"].fit(600, 800)
    np.testing.assert_allclose(again.geometry.intrinsics, camera.geometry.intrinsics)
    assert np.array_equal(again.camera_from_world.matrix, np.array(TURN))
    assert again.sd.rotation_deg == 0.5


def test_a_side_car_gives_a_whole_camera(tmp_path):
    pixels = (np.random.default_rng(0).random((60, 80)) * 60000).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    (tmp_path / "x.json").write_text(json.dumps({"K": K, "brighter_is_denser": True, "sdd_mm": 1000}))
    found = read_radiograph(tmp_path / "x.png")
    np.testing.assert_allclose(found.geometry().intrinsics, K)
    assert found.column_spacing_mm == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("angles", "beam"),
    [
        ((0, 0), (0, -1, 0)),  # detector in front
        ((90, 0), (1, 0, 0)),  # at the patient's left
        ((-90, 0), (-1, 0, 0)),
        ((0, 30), (0, -np.cos(np.pi / 6), 0.5)),  # towards the head
        ((45, 0), (np.sqrt(0.5), -np.sqrt(0.5), 0)),
    ],
)
def test_a_positioner_points_where_its_angles_say(angles, beam):
    pose = find_positioner_pose(*angles, 700.0)
    np.testing.assert_allclose(pose.rotation[2], beam, atol=1e-12)
    camera = ProjectionGeometry(1000, 0.5, 0.5, 401, 301)
    np.testing.assert_allclose(camera.project([0, 0, 0], camera_from_world=pose), camera.principal_point_uv)
    assert pose.rotation[1] @ (0, 0, -1) > 0.8  # rows run towards the feet


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_deflate"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_compressed_tiff_holds_the_same_pixels(tmp_path, compression, kind):
    pixels = (np.random.default_rng(1).random((90, 110)) * np.iinfo(kind).max).astype(kind)
    side_car = json.dumps({"sdd_mm": 1000, "pixel_mm": 0.5, "brighter_is_denser": True})
    for name, packed in (("packed", compression), ("plain", None)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.tif", compression=packed)
        (tmp_path / f"{name}.json").write_text(side_car)
    found, plain = (read_radiograph(tmp_path / f"{name}.tif") for name in ("packed", "plain"))
    assert np.array_equal(found.pixels, plain.pixels)
    assert any("8 bits" in warning for warning in found.warnings) == (kind == np.uint8)
