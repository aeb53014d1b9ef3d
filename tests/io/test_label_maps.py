"""Label maps: every structure under its own value, whoever named it; a name that is nearly right is never lost."""

import json

import numpy as np
import pytest
from dicom_samples import ORIGIN_MM, SPACING_MM, body_hu, write_ct

from bmdkit.core.anatomy import LABEL_VALUES
from bmdkit.core.grid import Grid
from bmdkit.core.volume import LabelMap, Volume
from bmdkit.errors import CaseError
from bmdkit.io.label_maps import read_labels, write_labels
from bmdkit.io.volumes import write_volume

LABELS = np.zeros((6, 7, 8), np.uint8)
LABELS[1, 2, 3], LABELS[2, 2, 2], LABELS[3, 4, 5], LABELS[4, 1, 1] = 1, 2, 3, 4
LABEL_GRID = Grid(LABELS.shape, SPACING_MM, ORIGIN_MM, np.eye(3))


def test_labels_round_trip_with_side_car(tmp_path):
    write_labels(tmp_path / "labels.nii.gz", LabelMap(LABELS, LABEL_GRID, LABEL_VALUES))
    assert json.loads((tmp_path / "labels.json").read_text()) == LABEL_VALUES
    back = read_labels(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(back.array, LABELS)
    assert dict(back.values) == LABEL_VALUES


def test_side_car_names_rename_the_values(tmp_path):
    write_volume(tmp_path / "m.nii.gz", Volume((LABELS * 10).astype(np.int16), LABEL_GRID, "hu"))
    for names in (
        {"pelvis": 10, "femur_L": 20, "femur_R": 30, "axial": 40},
        {"hip_left": 10, "femur_left": 20, "femur_right": 30, "sacrum": 40, "liver": 50},
        {"10": "pelvis", "20": "femur_L", "30": "femur_R", "40": "vertebrae_L5"},
        {"labels": {"background": 0, "pelvis": 10, "femur_L": 20, "femur_R": 30, "axial": 40}},
    ):
        (tmp_path / "m.json").write_text(json.dumps(names))
        np.testing.assert_array_equal(read_labels(tmp_path / "m.nii.gz").array, LABELS)


def test_totalsegmentator_ids_without_a_side_car(tmp_path):
    table = np.array([5, 77, 75, 76, 25], np.int16)  # spleen stands for what is no bone of ours
    write_volume(tmp_path / "m.nii.gz", Volume(table[LABELS], LABEL_GRID, "hu"))
    np.testing.assert_array_equal(read_labels(tmp_path / "m.nii.gz").array, LABELS)


def test_totalsegmentator_folder_of_masks(tmp_path):
    for name, value in (("hip_right", 1), ("femur_left", 2), ("femur_right", 3), ("vertebrae_L5", 4)):
        write_volume(tmp_path / f"{name}.nii.gz", Volume(value == LABELS, LABEL_GRID, "hu"))
    write_volume(tmp_path / "liver.nii.gz", Volume(LABELS == 0, LABEL_GRID, "hu"))
    np.testing.assert_array_equal(read_labels(tmp_path).array, LABELS)


def test_labels_that_cannot_be_named_or_read(tmp_path):
    path = tmp_path / "m.nii.gz"
    write_volume(path, Volume(LABELS, LABEL_GRID, "hu"))
    with pytest.raises(CaseError, match="BMD-MAP-002"):
        read_labels(path)
    for content, code in (
        ("{", "BMD-MAP-003"),
        ("[]", "BMD-MAP-003"),
        ('{"liver": 3}', "BMD-MAP-002"),
        ("{}", "BMD-MAP-003"),
    ):
        (tmp_path / "m.json").write_text(content)
        with pytest.raises(CaseError) as caught:
            read_labels(path)
        assert caught.value.code == code
    (tmp_path / "m.json").write_text(json.dumps(LABEL_VALUES))
    write_volume(path, Volume(LABELS.astype(np.float32) + 0.4, LABEL_GRID, "hu"))
    with pytest.raises(CaseError, match="BMD-MAP-001"):
        read_labels(path)
    path.write_bytes(b"no volume")
    with pytest.raises(CaseError, match="BMD-MAP-001"):
        read_labels(path)


NAMED = {
    "capital": {"pelvis": 1, "femur_L": 2, "femur_R": 3, "Axial": 4},
    "all capitals": {"PELVIS": 1, "FEMUR_L": 2, "FEMUR_R": 3, "AXIAL": 4},
    "one capital": {"pelvis": 1, "femur_L": 2, "Femur_R": 3, "axial": 4},
    "blanks and hyphens": {"Pelvis ": 1, "femur L": 2, "femur-r": 3, "axial skeleton": 4},
    "side first": {"hip bones": 1, "left femur": 2, "Right Femur": 3, "sacrum": 4},
    "camel": {"Pelvis": 1, "FemurL": 2, "FemurRight": 3, "Sacrum": 4},
    "whole numbers with a point": {"pelvis": 1, "femur_L": 2.0, "femur_R": 3, "axial": 4.0},
    "numbers as text": {"pelvis": "1", "femur_L": "2", "femur_R": "3", "axial": "4.0"},
    "values first": {"1": "Pelvis", "2": "FEMUR_LEFT", "3.0": "femur (right)", "4": "Vertebrae L5"},
}


@pytest.mark.parametrize("names", NAMED.values(), ids=NAMED)
def test_names_and_values_that_are_nearly_right_are_taken(tmp_path, names):
    write_volume(tmp_path / "m.nii.gz", Volume(LABELS, LABEL_GRID, "hu"))
    (tmp_path / "m.json").write_text(json.dumps(names))
    np.testing.assert_array_equal(read_labels(tmp_path / "m.nii.gz").array, LABELS)


GOOD = {"pelvis": 1, "femur_L": 2, "femur_R": 3, "axial": 4}
REFUSED = {
    "a letter is absent": ({"pelvis": 1, "femur_L": 2, "femr_R": 3, "axial": 4}, "BMD-MAP-002", "did you mean femur_R"),
    "two letters for one": ({"pelviss": 1, "femur_L": 2, "femur_R": 3}, "BMD-MAP-002", "did you mean pelvis"),
    "no side": ({"pelvis": 1, "femur": 2}, "BMD-MAP-002", "did you mean femur_L or femur_R"),
    "a part": ({"pelvis": 1, "femur_L": 2, "femur_R_shaft": 3}, "BMD-MAP-002", "did you mean femur_R"),
    "a value and a half": (GOOD | {"axial": 4.5}, "BMD-MAP-003", "whole number"),
    "true": (GOOD | {"axial": True}, "BMD-MAP-003", "whole number"),
    "a list": (GOOD | {"axial": [4, 5]}, "BMD-MAP-003", "whole number"),
    "nothing": (GOOD | {"axial": None}, "BMD-MAP-003", "whole number"),
    "below zero": (GOOD | {"axial": -4}, "BMD-MAP-003", "whole number"),
    "one value twice": (GOOD | {"axial": 1}, "BMD-MAP-003", "given to"),
    "one value twice, once as text": ({"1": "pelvis", "femur_L": 1}, "BMD-MAP-003", "given to"),
}


@pytest.mark.parametrize(("names", "code", "said"), REFUSED.values(), ids=REFUSED)
def test_names_and_values_that_cannot_be_understood_are_refused(tmp_path, names, code, said):
    write_volume(tmp_path / "m.nii.gz", Volume(LABELS, LABEL_GRID, "hu"))
    (tmp_path / "m.json").write_text(json.dumps(names))
    with pytest.raises(CaseError, match=said) as caught:
        read_labels(tmp_path / "m.nii.gz")
    assert caught.value.code == code


def test_a_key_that_is_there_twice_is_refused(tmp_path):
    write_volume(tmp_path / "m.nii.gz", Volume(LABELS, LABEL_GRID, "hu"))
    (tmp_path / "m.json").write_text('{"pelvis": 1, "femur_L": 2, "femur_L": 3}')
    with pytest.raises(CaseError, match="BMD-MAP-003"):
        read_labels(tmp_path / "m.nii.gz")


def test_a_tissue_whose_name_is_near_a_bone_that_is_named_is_left_out(tmp_path):
    write_volume(tmp_path / "m.nii.gz", Volume(np.where(LABELS == 0, 5, LABELS), LABEL_GRID, "hu"))
    (tmp_path / "m.json").write_text(json.dumps(GOOD | {"femur_L_cartilage": 5}))
    np.testing.assert_array_equal(read_labels(tmp_path / "m.nii.gz").array, LABELS)


def test_masks_of_a_folder_have_the_same_freedom(tmp_path):
    for name, value in (("Pelvis", 1), ("Femur left", 2), ("R_femur", 3), ("SACRUM", 4)):
        write_volume(tmp_path / f"{name}.nii.gz", Volume(value == LABELS, LABEL_GRID, "hu"))
    np.testing.assert_array_equal(read_labels(tmp_path).array, LABELS)
    (tmp_path / "R_femur.nii.gz").rename(tmp_path / "R_femr.nii.gz")
    with pytest.raises(CaseError, match="BMD-MAP-002"):
        read_labels(tmp_path)


def write_slicer_segments(path, layers, segments, *, space="left-posterior-superior"):
    """A .seg.nrrd as the Segment Editor of 3D Slicer writes it: several layers where segments overlap."""
    signs = (1, 1, 1) if space == "left-posterior-superior" else (-1, -1, 1)
    steps = " ".join(
        "(" + ",".join(str(sign * SPACING_MM[axis] * (axis == n)) for n, sign in enumerate(signs)) + ")"
        for axis in range(3)
    )
    origin = ",".join(str(sign * value) for sign, value in zip(signs, ORIGIN_MM, strict=True))
    many = len(layers) > 1
    sizes = " ".join(map(str, layers[0].shape[::-1]))
    head = [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {4 if many else 3}",
        f"space: {space}",
        f"sizes: {f'{len(layers)} ' if many else ''}{sizes}",
        f"space directions: {'none ' if many else ''}{steps}",
        f"kinds: {'list ' if many else ''}domain domain domain",
        "encoding: raw",
        f"space origin: ({origin})",
        *(f"Segment{n}_{key}:={text}" for n, tags in enumerate(segments) for key, text in tags.items()),
    ]
    data = np.stack(layers, axis=-1) if many else layers[0]
    path.write_bytes("\n".join(head).encode() + b"\n\n" + np.ascontiguousarray(data, np.uint8).tobytes())


SLICER = [
    {"Name": "pelvis", "LabelValue": "1", "Layer": "0"},
    {"Name": "Femur_L", "LabelValue": "2", "Layer": "0"},
    {"Name": "right femur", "LabelValue": "3", "Layer": "0"},
    {"Name": "sacrum", "LabelValue": "4", "Layer": "0"},
    {"Name": "bladder", "LabelValue": "5", "Layer": "0"},
]


@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior"])
def test_segments_of_slicer_in_one_layer(tmp_path, space):
    write_slicer_segments(tmp_path / "a.seg.nrrd", [np.where(LABELS == 0, 5, LABELS)], SLICER, space=space)
    found = read_labels(tmp_path / "a.seg.nrrd")
    assert found.grid.is_near(LABEL_GRID)
    np.testing.assert_array_equal(found.array, LABELS)


def test_segments_of_slicer_in_two_layers(tmp_path):
    """The femurs overlap the pelvis by a voxel, so they lie in a layer of their own, under values used before."""
    first = np.where(LABELS == 4, 2, LABELS == 1).astype(np.uint8)
    first[2, 2, 2] = 1
    second = np.where(LABELS == 2, 1, np.where(LABELS == 3, 2, 0))
    segments = [
        {"Name": "pelvis", "LabelValue": "1", "Layer": "0"},
        {"Name": "axial", "LabelValue": "2", "Layer": "0"},
        {"Name": "femur_L", "LabelValue": "1", "Layer": "1"},
        {"Name": "femur_R", "LabelValue": "2", "Layer": "1"},
    ]
    write_slicer_segments(tmp_path / "a.seg.nrrd", [first, second], segments)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.seg.nrrd").array, LABELS)


def test_segments_of_slicer_before_layers_were_named(tmp_path):
    layers = [(value == LABELS).astype(np.uint8) for value in (1, 2, 3, 4)]
    write_slicer_segments(tmp_path / "a.seg.nrrd", layers, [{"Name": tags["Name"]} for tags in SLICER[:4]])
    np.testing.assert_array_equal(read_labels(tmp_path / "a.seg.nrrd").array, LABELS)


def test_segments_of_slicer_by_their_terminology(tmp_path):
    start = "Segmentation.Status:inprogress|TerminologyEntry:General Anatomy~SCT^123037004^Anatomical Structure~"
    kinds = ("SCT^1^Pelvis~^^", "SCT^2^Femur~SCT^7^Left", "SCT^2^Femur~SCT^8^Right", "SCT^3^Sacrum~^^")
    segments = [
        {"Name": f"Segment_{n}", "LabelValue": str(n), "Layer": "0", "Tags": f"{start}{kind}~^^~^^|"}
        for n, kind in enumerate(kinds, start=1)
    ]
    write_slicer_segments(tmp_path / "a.seg.nrrd", [LABELS], segments)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.seg.nrrd").array, LABELS)


@pytest.mark.parametrize("name", ["Segment_1", "femr_R", "femur"])
def test_segments_of_slicer_that_cannot_be_named_are_refused(tmp_path, name):
    segments = [*SLICER[:2], SLICER[2] | {"Name": name}] if name != "Segment_1" else [SLICER[0] | {"Name": name}]
    write_slicer_segments(tmp_path / "a.seg.nrrd", [LABELS], segments)
    with pytest.raises(CaseError, match="BMD-MAP-002"):
        read_labels(tmp_path / "a.seg.nrrd")


def write_dicom_segments(path, folder, array, labels, *, meanings=None, fractional=False):
    """A DICOM SEG of a CT that `write_ct` wrote, by highdicom."""
    import highdicom
    import pydicom
    from pydicom.sr.codedict import codes

    source = [pydicom.dcmread(file) for file in sorted(folder.glob("*.dcm"))]
    for image in source:
        for name in ("StudyID", "AccessionNumber", "StudyDate", "StudyTime", "ReferringPhysicianName"):
            if name not in image:
                setattr(image, name, "")
    descriptions = []
    for number, label in enumerate(labels, start=1):
        kind, side = (meanings or {}).get(number, ("Bone", None))
        description = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=highdicom.sr.CodedConcept(str(number), "99TEST", kind),
            algorithm_type="MANUAL",
        )
        if side:
            item = highdicom.sr.CodedConcept(side, "99TEST", side)
            description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [item]
        descriptions.append(description)
    uid = highdicom.UID
    pixels = np.stack([array == n for n in range(1, len(labels) + 1)], -1).astype(np.float32) if fractional else array
    segmentation = highdicom.seg.Segmentation(
        source,
        pixels,
        "FRACTIONAL" if fractional else "BINARY",
        descriptions,
        series_instance_uid=uid(),
        series_number=2,
        sop_instance_uid=uid(),
        instance_number=1,
        manufacturer="bmdkit",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="1",
    )
    segmentation.save_as(path)


@pytest.fixture
def ct_labels(tmp_path):
    """A small CT, and labels on its voxels."""
    write_ct(tmp_path / "ct", body_hu())
    array = np.zeros(body_hu().shape, np.uint8)
    array[:6, :7, :8] = LABELS
    return tmp_path / "ct", array


def expect_dicom(found, array):
    """Every voxel where it was: empty slices need not be in the file."""
    for value in (1, 2, 3, 4):
        where = np.argwhere(found.array == value)
        expected = np.argwhere(array == value)
        assert len(where) == len(expected)
        np.testing.assert_allclose(
            found.grid.points(where), np.array(ORIGIN_MM) + expected[:, ::-1] * SPACING_MM, atol=1e-6
        )


@pytest.mark.parametrize("fractional", [False, True])
def test_dicom_segmentation_is_read_as_labels(tmp_path, ct_labels, fractional):
    folder, array = ct_labels
    labels = ("Pelvis", "femur left", "Femur_R", "axial")
    write_dicom_segments(tmp_path / "seg.dcm", folder, array, labels, fractional=fractional)
    expect_dicom(read_labels(tmp_path / "seg.dcm"), array)
    (tmp_path / "alone").mkdir()
    (tmp_path / "seg.dcm").rename(tmp_path / "alone" / "1.2.3")
    expect_dicom(read_labels(tmp_path / "alone"), array)
    expect_dicom(read_labels(tmp_path / "alone" / "1.2.3"), array)


def test_dicom_segmentation_by_the_meaning_of_its_types(tmp_path, ct_labels):
    folder, array = ct_labels
    meanings = {1: ("Pelvis", None), 2: ("Femur", "Left"), 3: ("Femur", "Right"), 4: ("Sacrum", None)}
    write_dicom_segments(tmp_path / "seg.dcm", folder, array, ("S1", "S2", "S3", "S4"), meanings=meanings)
    expect_dicom(read_labels(tmp_path / "seg.dcm"), array)


@pytest.mark.parametrize("labels", ["abcd", ("pelvis", "femur", "femr_R", "x"), ("pelvis", "femur_L", "femurr", "x")])
def test_dicom_segmentation_that_cannot_be_named_is_refused(tmp_path, ct_labels, labels):
    folder, array = ct_labels
    write_dicom_segments(tmp_path / "seg.dcm", folder, array, labels)
    with pytest.raises(CaseError, match="BMD-MAP-002"):
        read_labels(tmp_path / "seg.dcm")


def test_dicom_that_is_no_segmentation_is_refused(ct_labels):
    folder, _ = ct_labels
    with pytest.raises(CaseError, match="BMD-MAP-001"):
        read_labels(folder / "a_0003.dcm")
    with pytest.raises(CaseError, match="BMD-MAP-001"):
        read_labels(folder)
    (folder / "a_0003.dcm").write_bytes(b"no dicom")
    with pytest.raises(CaseError, match="BMD-MAP-001"):
        read_labels(folder / "a_0003.dcm")
