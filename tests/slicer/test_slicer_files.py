"""Segmentations and transforms for 3D Slicer: what is written is what 3D Slicer, ITK and slicerio read."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from drawn_bones import bones
from scipy.spatial.transform import Rotation

from bmdkit.core.anatomy import COLOURS, REGION_COLOUR
from bmdkit.core.geometry import RigidTransform
from bmdkit.core.grid import Grid
from bmdkit.core.interchange import LPS_FROM_RAS
from bmdkit.core.volume import LabelMap
from bmdkit.io.label_maps import read_labels
from bmdkit.io.volumes import read_layers
from bmdkit.slicer.segmentation_nrrd import write_slicer_segmentation
from bmdkit.slicer.transform_files import read_transform, write_transform

MOVE = RigidTransform.from_parts(
    Rotation.from_euler("xyz", (10, -20, 70), degrees=True).as_matrix(), (5.5, -80, 900.25)
)
POINTS_MM = np.array([[0.0, 0, 0], [120, -30, 45], [-7, 250, 1000]])


@pytest.fixture
def labels() -> LabelMap:
    """Bones on an oblique grid, in two of three orders of axes unlike that of the patient."""
    drawn = bones()
    turn = Rotation.from_euler("z", 9, degrees=True).as_matrix()
    return LabelMap(drawn.array, Grid(drawn.grid.shape, (0.7, 0.8, 1.9), (-31.3, 12.25, 400.1), turn), drawn.values)


@pytest.fixture
def regions(labels) -> dict[str, np.ndarray]:
    """A half of each femur."""
    upper = np.indices(labels.array.shape)[0] > labels.array.shape[0] // 2
    return {side: labels.mask(f"femur_{side}") & upper for side in "LR"}


def test_what_is_written_is_read_back(tmp_path, labels, regions):
    write_slicer_segmentation(tmp_path / "a.seg.nrrd", labels, regions=regions)
    found = read_labels(tmp_path / "a.seg.nrrd")
    assert found.grid.is_near(labels.grid, 1e-9)
    np.testing.assert_array_equal(found.array, labels.array)
    layers, _, _ = read_layers(tmp_path / "a.seg.nrrd")
    np.testing.assert_array_equal(layers[1], regions["L"] + 2 * regions["R"])


def test_segments_say_what_they_are(tmp_path, labels, regions):
    write_slicer_segmentation(tmp_path / "a.seg.nrrd", labels, regions={"R": regions["R"]})
    _, _, words = read_layers(tmp_path / "a.seg.nrrd")
    assert [words[f"Segment{n}_ID"] for n in range(5)] == [*labels.values, "proximal_femur_R"]
    assert "~SCT^71341001^Femur~SCT^7771000^Left~" in words["Segment1_Tags"]
    assert "~SCT^310651003^Proximal femur~SCT^24028007^Right~" in words["Segment4_Tags"]
    colours = [tuple(round(float(v) * 255) for v in words[f"Segment{n}_Color"].split()) for n in range(5)]
    assert colours == [*(COLOURS[name] for name in labels.values), REGION_COLOUR]


def test_all_segments_of_a_layer_have_the_extent_of_the_image(tmp_path, labels):
    """3D Slicer cuts a layer to the extent of its first segment."""
    write_slicer_segmentation(tmp_path / "a.seg.nrrd", labels)
    _, _, words = read_layers(tmp_path / "a.seg.nrrd")
    slices, rows, columns = labels.array.shape
    extents = {words[key] for key in words if key.endswith("_Extent")}
    assert extents == {f"0 {columns - 1} 0 {rows - 1} 0 {slices - 1}"}


def test_the_same_labels_are_the_same_bytes(tmp_path, labels, regions):
    for name in ("a", "b"):
        write_slicer_segmentation(tmp_path / f"{name}.seg.nrrd", labels, regions=regions)
    assert (tmp_path / "a.seg.nrrd").read_bytes() == (tmp_path / "b.seg.nrrd").read_bytes()


def test_a_map_without_structures_is_refused(tmp_path, labels):
    with pytest.raises(ValueError, match="at least one structure"):
        write_slicer_segmentation(tmp_path / "a.seg.nrrd", LabelMap(labels.array * 0, labels.grid, labels.values))
    assert not list(tmp_path.iterdir())


def test_slicerio_reads_names_places_and_terminology(tmp_path, labels, regions):
    slicerio = pytest.importorskip("slicerio", reason="slicerio is not installed (pip install slicerio)")
    write_slicer_segmentation(tmp_path / "a.seg.nrrd", labels, regions=regions)
    found = slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))
    np.testing.assert_allclose(found["ijkToLPS"], labels.grid.lps_from_ijk)
    assert found["containedRepresentationNames"] == ["Binary labelmap", "Closed surface"]
    by_name = {segment["name"]: segment for segment in found["segments"]}
    assert by_name["femur_R"]["terminology"]["type"] == ["SCT", "71341001", "Femur"]
    assert by_name["femur_R"]["terminology"]["typeModifier"] == ["SCT", "24028007", "Right"]
    for name, mask in [*((n, labels.mask(n)) for n in labels.values), ("proximal_femur_L", regions["L"])]:
        segment = by_name[name]
        layer = found["voxels"][segment["layer"]].transpose(2, 1, 0)
        np.testing.assert_array_equal(layer == segment["labelValue"], mask)


def test_slicerio_writes_what_we_read(tmp_path, labels):
    """The other way: 3D Slicer's own writer in Python, after an edit of ours."""
    slicerio = pytest.importorskip("slicerio", reason="slicerio is not installed (pip install slicerio)")
    write_slicer_segmentation(tmp_path / "a.seg.nrrd", labels)
    slicerio.write_segmentation(str(tmp_path / "b.seg.nrrd"), slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd")))
    np.testing.assert_array_equal(read_labels(tmp_path / "b.seg.nrrd").array, labels.array)


def test_itk_maps_from_the_parent(tmp_path):
    """A file of ITK takes points of the parent to what is moved; 3D Slicer moves by its inverse."""
    write_transform(tmp_path / "a.tfm", MOVE)
    from_parent = SimpleITK.ReadTransform(str(tmp_path / "a.tfm"))
    for point in POINTS_MM:
        np.testing.assert_allclose(from_parent.TransformPoint(tuple(MOVE.apply(point))), point, atol=1e-9)


def test_slicers_own_matrix_moves_as_we_do(tmp_path):
    """What 3D Slicer computes of a file: RAS instead of LPS, then the inverse for the transform to the parent."""
    write_transform(tmp_path / "a.tfm", MOVE)
    lines = dict(line.split(": ") for line in (tmp_path / "a.tfm").read_text().splitlines() if ": " in line)
    numbers = np.array(lines["Parameters"].split(), float)
    from_parent = np.eye(4)
    from_parent[:3, :3], from_parent[:3, 3] = numbers[:9].reshape(3, 3), numbers[9:]
    to_parent_ras = np.linalg.inv(LPS_FROM_RAS @ from_parent @ LPS_FROM_RAS)
    for point in POINTS_MM:
        moved = to_parent_ras @ LPS_FROM_RAS @ [*point, 1]
        np.testing.assert_allclose((LPS_FROM_RAS @ moved)[:3], MOVE.apply(point), atol=1e-9)


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_transforms_of_others_are_read(tmp_path, suffix):
    """As 3D Slicer saves them: affine, about a centre that is not the origin."""
    affine = SimpleITK.AffineTransform(3)
    affine.SetCenter((10, 20, 30))
    affine.SetMatrix(MOVE.rotation.T.ravel().tolist())
    affine.SetTranslation((1, 2, 3))
    SimpleITK.WriteTransform(affine, str(tmp_path / f"a{suffix}"))
    moved = read_transform(tmp_path / f"a{suffix}")
    for point in POINTS_MM:
        np.testing.assert_allclose(moved.apply(affine.TransformPoint(tuple(point))), point, atol=1e-9)


def test_what_is_no_rigid_transform_is_refused(tmp_path):
    (tmp_path / "a.tfm").write_text("nothing of the kind")
    with pytest.raises(ValueError, match=r"a\.tfm: not readable"):
        read_transform(tmp_path / "a.tfm")
    SimpleITK.WriteTransform(SimpleITK.ScaleTransform(3, (2.0, 1.0, 1.0)), str(tmp_path / "b.tfm"))
    with pytest.raises(ValueError, match="proper rotation"):
        read_transform(tmp_path / "b.tfm")
    SimpleITK.WriteTransform(SimpleITK.Euler2DTransform(), str(tmp_path / "c.tfm"))
    with pytest.raises(ValueError, match="rigid transform of space"):
        read_transform(tmp_path / "c.tfm")
