"""The scene of a registration, read as 3D Slicer reads it: node by node, transform by transform, in RAS."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
import SimpleITK
from hip_skeleton import CAMERA, skeleton
from scipy.spatial.transform import Rotation

from bmdkit.core.geometry import ProjectionGeometry, RigidTransform
from bmdkit.core.interchange import LPS_FROM_RAS, from_simpleitk
from bmdkit.core.landmarks import Landmarks
from bmdkit.core.pose import standard_view
from bmdkit.core.radiograph import Radiograph
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.io.label_maps import read_labels
from bmdkit.io.markups import read_points
from bmdkit.slicer.registration_scene import (
    SceneBody,
    SceneView,
    make_scene_bodies,
    place_detector,
    write_registration_scene,
)
from bmdkit.slicer.transform_files import read_transform

sys.path.append(str(Path(__file__).resolve().parent.parent / "regions"))

from solid_femur import SolidFemur

HEAD_MM = np.array([85.0, 10.0, 20.0])
PELVIS = standard_view("ap", np.zeros(3), CAMERA, object_to_detector_mm=140)
FEMUR = PELVIS @ RigidTransform.about(HEAD_MM, Rotation.from_euler("x", 12, degrees=True).as_matrix(), (0.4, 0, 0.2))
NAME = "hip AP (1)"


@dataclass
class OpenedScene:
    """A scene with what each node refers to."""

    folder: Path
    nodes: dict[str, ElementTree.Element]

    def find(self, tag: str, name: str) -> ElementTree.Element:
        return next(node for node in self.nodes.values() if node.tag == tag and node.get("name") == name)

    def file_of(self, node: ElementTree.Element) -> Path:
        return self.folder / unquote(self.nodes[node.get("storageNodeRef")].get("fileName"))

    def move(self, node: ElementTree.Element, point_mm: np.ndarray) -> np.ndarray:
        """Where a point of a node lies in the scene, LPS."""
        while (parent := node.get("transformNodeRef")) is not None:
            node = self.nodes[parent]
            point_mm = read_transform(self.file_of(node)).apply(point_mm)
        return point_mm


@pytest.fixture(scope="module")
def hips() -> tuple[Volume, tuple[SceneBody, ...]]:
    density, labels = skeleton()
    half = np.where(labels.mask("femur_L"), labels.array, 0)
    upper = (half > 0) & (np.indices(half.shape)[0] > 30)
    landmarks = Landmarks("L", {"head_center": HEAD_MM})
    bones = np.where(labels.mask("pelvis", "axial"), labels.array, 0)
    return Volume(density.array, density.grid, "hu"), (
        SceneBody("pelvis", LabelMap(bones, labels.grid, labels.values)),
        SceneBody("femur_L", LabelMap(half, labels.grid, labels.values), landmarks, upper),
    )


def radiograph(camera: ProjectionGeometry = CAMERA) -> Radiograph:
    """Dark, with one bright pixel."""
    pixels = np.zeros(camera.shape, np.float32)
    pixels[70, 310] = 1.0
    return Radiograph(pixels, np.ones(camera.shape, bool))


def view(camera: ProjectionGeometry = CAMERA, name: str = NAME) -> SceneView:
    return SceneView(name, radiograph(camera), camera, {"pelvis": PELVIS, "femur_L": FEMUR})


def open_scene(path: Path) -> OpenedScene:
    root = ElementTree.parse(path).getroot()
    assert root.tag == "MRML"
    nodes = {node.get("id"): node for node in root}
    assert len(nodes) == len(root)
    return OpenedScene(path.parent, nodes)


@pytest.fixture
def scene(tmp_path, hips) -> OpenedScene:
    ct, bodies = hips
    return open_scene(write_registration_scene(tmp_path / "scene", ct, bodies, [view()]))


def test_every_reference_is_there_and_every_file_is_used(scene):
    built_in = {"vtkMRMLColorTableNodeGrey"}
    for node in scene.nodes.values():
        referred = [part.partition(":")[2] for part in node.get("references", "").split(";") if part]
        assert set(referred) <= scene.nodes.keys() | built_in
    stored = {unquote(node.get("fileName")) for node in scene.nodes.values() if node.get("fileName")}
    assert stored | {"scene.mrml"} == {path.name for path in scene.folder.iterdir()}


def test_the_first_body_stays_in_the_ct_and_the_other_moves_as_registered(scene):
    pelvis, femur = (scene.find("Segmentation", name) for name in ("pelvis", "femur_L"))
    np.testing.assert_allclose(scene.move(pelvis, HEAD_MM), HEAD_MM, atol=1e-9)
    knee = HEAD_MM - [0, 0, 300]
    expected = PELVIS.inverse().apply(FEMUR.apply(knee))
    np.testing.assert_allclose(scene.move(femur, knee), expected, atol=1e-9)
    assert np.linalg.norm(expected - knee) > 50
    assert scene.find("Volume", "CT").get("transformNodeRef") is None


@pytest.mark.parametrize("reversed_columns", [False, True])
def test_a_bone_lies_between_the_source_and_its_pixel(tmp_path, hips, reversed_columns):
    """Source, landmark and the pixel that shows it are on one line of the scene: nothing is mirrored or upside down."""
    ct, bodies = hips
    camera = replace(CAMERA, reversed_columns=reversed_columns, principal_point_uv=np.array([180.0, 200.0]))
    scene = open_scene(write_registration_scene(tmp_path, ct, bodies, [view(camera)]))
    points = scene.find("MarkupsFiducial", "landmarks L")
    head = scene.move(points, read_points(scene.file_of(points))["head_center"])
    eye = scene.find("MarkupsFiducial", f"source {NAME}")
    source = scene.move(eye, read_points(scene.file_of(eye))[f"source {NAME}"])
    image = scene.find("Volume", NAME)
    pixels, grid = from_simpleitk(SimpleITK.ReadImage(scene.file_of(image)))
    u, v = camera.project(HEAD_MM, camera_from_world=FEMUR)
    pixel = scene.move(image, grid.points([0, v, u]))
    towards_head, towards_pixel = head - source, pixel - source
    cosine = towards_head @ towards_pixel / np.linalg.norm(towards_head) / np.linalg.norm(towards_pixel)
    assert cosine == pytest.approx(1, abs=1e-9)  # 1 mm at the detector is 5e-7
    assert np.linalg.norm(towards_head) < np.linalg.norm(towards_pixel)
    np.testing.assert_array_equal(pixels[0], radiograph(camera).pixels)


def test_the_detector_is_one_right_handed_slice():
    for reversed_columns in (False, True):
        grid = place_detector(replace(CAMERA, reversed_columns=reversed_columns))
        assert np.linalg.det(grid.direction) == pytest.approx(1)
        assert grid.shape == (1, *CAMERA.shape)


def test_the_red_view_shows_the_radiograph_as_displayed(scene):
    plane = scene.find("Slice", "Red")
    ras_from_view = np.array(plane.get("sliceToRAS").split(), float).reshape(4, 4)
    image = scene.find("Volume", NAME)
    _, grid = from_simpleitk(SimpleITK.ReadImage(scene.file_of(image)))
    first, right, down = (scene.move(image, grid.points([0, v, u])) for v, u in ((0, 0), (0, 399), (339, 0)))
    lps_from_view = LPS_FROM_RAS @ ras_from_view
    x, y = (direction @ lps_from_view[:3, :2] for direction in (right - first, down - first))
    np.testing.assert_allclose(x, (399 * CAMERA.column_spacing_mm, 0), atol=1e-5)
    np.testing.assert_allclose(y, (0, -339 * CAMERA.row_spacing_mm), atol=1e-5)
    assert plane.get("sliceVisibility") == "true"
    assert scene.find("SliceComposite", "Red composite").get("backgroundVolumeID") == image.get("id")
    camera = scene.find("Camera", "From the X-ray source")
    eye = np.array(camera.get("position").split(), float)
    np.testing.assert_allclose(LPS_FROM_RAS[:3, :3] @ eye, PELVIS.inverse().translation_mm, atol=1e-5)


def test_bones_are_whole_and_the_region_lies_on_its_femur(scene, hips):
    _, (pelvis, femur) = hips
    for name, body in (("pelvis", pelvis), ("femur_L", femur)):
        written = read_labels(scene.file_of(scene.find("Segmentation", name)))
        again = written.resample(body.labels.grid)
        np.testing.assert_array_equal(again.array, body.labels.array)


def test_bodies_of_a_hip_carry_its_landmarks_and_region(caplog):
    femur = SolidFemur()
    labels = femur.labels()
    (body,) = make_scene_bodies(labels, ["femur_L"])
    assert body.landmarks is not None
    assert np.linalg.norm(body.landmarks["head_center"] - femur.head) < 2
    assert body.region is not None
    assert 0.2 < body.region.sum() / labels.mask("femur_L").sum() < 0.9
    short = np.where(labels.grid.points(np.moveaxis(np.indices(labels.array.shape), 0, -1))[..., 2] > -20, 1, 0)
    (cut,) = make_scene_bodies(LabelMap(labels.array * short, labels.grid, labels.values), ["femur_L"])
    assert (cut.landmarks, cut.region) == (None, None)
    assert "hip L is shown without its proximal femur" in caplog.text


def test_further_views_have_their_own_place(tmp_path, hips):
    """A second camera, turned by a quarter: its source lies where the first body's pose puts it."""
    ct, bodies = hips
    side = standard_view("lateral_left", np.zeros(3), CAMERA, object_to_detector_mm=200)
    second = SceneView("side", radiograph(), CAMERA, {"pelvis": side, "femur_L": side})
    scene = open_scene(write_registration_scene(tmp_path, ct, bodies, [view(), second]))
    eye = scene.find("MarkupsFiducial", "source side")
    np.testing.assert_allclose(scene.move(eye, np.zeros(3)), side.inverse().translation_mm, atol=1e-9)
    assert len([node for node in scene.nodes.values() if node.tag == "Slice"]) == 1


def test_a_body_without_a_pose_in_every_view_is_left_out(tmp_path, hips):
    ct, bodies = hips
    seen = replace(view(), poses={"femur_L": FEMUR})
    scene = open_scene(write_registration_scene(tmp_path, ct, bodies, [view(), seen]))
    assert [node.get("name") for node in scene.nodes.values() if node.tag == "Segmentation"] == ["femur_L"]
    with pytest.raises(ValueError, match="at least one"):
        write_registration_scene(tmp_path / "none", ct, bodies, [replace(view(), poses={})])
